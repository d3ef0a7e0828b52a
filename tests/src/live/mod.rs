//! `flow-live run`: starts Flow and the generator, and compares their numbers.

mod cases;
mod causes;
pub mod check;
mod counters;
mod cumulative;
mod datagrams;
mod degraded;
mod difference;
mod expected;
mod faults;
mod flow;
mod generator;
mod held;
mod interfaces;
mod listeners;
mod lives;
mod outputs;
mod overload;
mod packets;
pub(crate) mod peer;
mod programs;
mod qdisc;
mod recording;
mod remotes;
mod renames;
mod replay;
mod report;
mod session;
mod stacked;
pub mod stream;
mod streams;
mod terminal;
mod tools;
mod topologies;
mod unread;
pub(crate) mod waiting;
mod watched;
pub mod wire;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use report::Report;

/// Command line of `flow-live run`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The program under test
    #[arg(long)]
    pub flow: PathBuf,
    /// The backend for app bytes
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,
    /// Divide amounts of bytes and counts by this; more than 1 also means a slow machine
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub scale: u64,
    /// One start of Flow for each test, or one for all tests that only move bytes
    #[arg(long, value_enum, default_value_t = Sessions::Each)]
    pub sessions: Sessions,
    /// Leave out tests whose results are the same elsewhere: with another backend, or on another
    /// kernel
    #[arg(long, value_enum, default_value_t = Scope::Program)]
    pub scope: Scope,
    /// Run the tests of the full-screen view instead, which need tmux
    #[arg(long)]
    pub terminal: bool,
    /// Print the names of the tests and exit
    #[arg(long)]
    pub list: bool,
    /// Keep the output of Flow and the generator in this directory
    #[arg(long)]
    pub keep: Option<PathBuf>,
    /// Run the tests whose names contain one of these
    pub filters: Vec<String>,
}

/// A backend for app bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    Auto,
    Fexit,
    Kprobe,
    Tracepoint,
}

impl Backend {
    /// Its name on Flow's command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fexit => "fexit",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }
}

/// How many tests share one run of Flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sessions {
    Each,
    Shared,
}

/// What may change the outcome of a test, and so where it runs. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scope {
    /// The backend and the kernel
    Backend,
    /// The kernel, but not the backend
    Kernel,
    /// Only Flow itself
    Program,
}

/// The context of every test.
#[derive(Debug)]
struct World {
    options: Options,
    /// This program, which is also the generator.
    generator: PathBuf,
    /// For files; removed at the end without `--keep`.
    scratch: PathBuf,
}

impl World {
    /// How long to wait for something that takes a moment on a real machine.
    fn patience(&self) -> Duration {
        Duration::from_secs(if self.is_slow() { 300 } else { 120 })
    }

    /// The same context with another backend.
    fn with_backend(&self, backend: Backend) -> Self {
        Self {
            options: Options {
                backend,
                ..self.options.clone()
            },
            generator: self.generator.clone(),
            scratch: self.scratch.clone(),
        }
    }

    fn is_slow(&self) -> bool {
        self.options.scale > 1
    }

    /// An amount scaled for this machine, at least 1.
    fn scaled(&self, amount: u64) -> u64 {
        (amount / self.options.scale).max(1)
    }

    /// A time scaled for this machine.
    fn stretched(&self, time: Duration) -> Duration {
        if self.is_slow() { 5 * time } else { time }
    }
}

/// Runs the selected tests; returns whether all passed.
pub fn run(options: &Options) -> Result<bool> {
    let wanted = |name: &str| {
        options.filters.is_empty() || options.filters.iter().any(|part| name.contains(part))
    };
    let (all_cases, all_programs) = match options.terminal {
        true => (&[][..], terminal::TESTS),
        false => (cases::CASES, programs::TESTS),
    };
    let all_kinds = match options.terminal || options.scope < Scope::Kernel {
        true => &[][..],
        false => topologies::KINDS,
    };
    let kinds: Vec<_> = all_kinds.iter().filter(|kind| wanted(kind.name)).collect();
    let cases: Vec<_> = all_cases.iter().filter(|case| wanted(case.name)).collect();
    let programs: Vec<_> = all_programs
        .iter()
        .filter(|test| test.scope <= options.scope)
        .filter(|test| wanted(test.name))
        .collect();
    if options.list {
        let names = cases.iter().map(|case| case.name);
        return report::list(
            names
                .chain(programs.iter().map(|test| test.name))
                .chain(kinds.iter().map(|kind| kind.name)),
        )
        .map(|()| true);
    }
    ensure!(nix::unistd::geteuid().is_root(), "the live tests need root");
    ensure!(
        options.flow.is_file(),
        "{} is not a file; build Flow first",
        options.flow.display()
    );
    peer::remove_stale();

    let temporary = tempfile::Builder::new().prefix("flow-live-").tempdir()?;
    let scratch = match &options.keep {
        Some(directory) => {
            fs::create_dir_all(directory)
                .with_context(|| format!("making {}", directory.display()))?;
            directory.clone()
        }
        None => temporary.path().to_owned(),
    };
    let world = World {
        options: options.clone(),
        generator: std::env::current_exe().context("finding this program")?,
        scratch,
    };

    let all = all_cases.len() + all_programs.len() + all_kinds.len();
    let skipped = all - cases.len() - programs.len() - kinds.len();
    let shared = options.sessions == Sessions::Shared && cases.len() > 1;
    let tests = cases.len() + programs.len() + kinds.len() + usize::from(shared);
    let mut report = Report::start(tests, skipped)?;
    if shared {
        session::shared(&world, &cases, &mut report)?;
    } else {
        for case in &cases {
            report.run(case.name, || session::single(&world, case))?;
        }
    }
    for test in &programs {
        report.run(test.name, || (test.run)(&world))?;
    }
    for kind in &kinds {
        report.run(kind.name, || topologies::link(&world, kind))?;
    }
    report.finish()
}
