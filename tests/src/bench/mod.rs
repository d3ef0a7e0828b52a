//! `flow-live bench`: what Flow costs, each figure with its budget.
//!
//! To add a part, write a function `fn(&Bench) -> Result<Section>` and name it in [`PARTS`]. Progress goes to standard
//! error; the report, Markdown that is readable as it is, to standard output at the end.

mod beside;
mod bulk;
mod figures;
mod footprint;
mod frames;
mod hooks;
pub mod load;
mod machine;
mod moments;
mod moved;
mod process;
mod screen;
mod storm;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::live::{Backend, peer, peer::Peer};
use figures::{Section, Verdict};
use process::{Output, Process};

/// Command line of `flow-live bench`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The program to measure
    #[arg(long)]
    pub flow: PathBuf,
    /// What Flow is told to count app bytes with
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,
    /// Fewer and shorter rounds: under four minutes instead of under fourteen
    #[arg(long)]
    pub quick: bool,
    /// nethogs, to measure beside Flow
    #[arg(long)]
    pub nethogs: Option<PathBuf>,
    /// bandwhich, to measure beside Flow
    #[arg(long)]
    pub bandwhich: Option<PathBuf>,
    /// Parts to run, all by default
    pub parts: Vec<String>,
}

/// Something that is measured.
#[derive(Debug)]
struct Part {
    name: &'static str,
    title: &'static str,
    run: fn(&Bench) -> Result<Section>,
}

const fn part(name: &'static str, title: &'static str, run: fn(&Bench) -> Result<Section>) -> Part {
    Part { name, title, run }
}

#[rustfmt::skip]
const PARTS: &[Part] = &[
    part("hooks",      "Nanoseconds in the kernel",                 hooks::measure),
    part("throughput", "Throughput with Flow and without",          bulk::measure),
    part("footprint",  "CPU and memory of the flow process",        footprint::measure),
    part("screen",     "The full-screen view",                      screen::measure),
    part("moments",    "Start and stop",                            moments::measure),
    part("storm",      "Short connections, as many as go",          storm::measure),
    part("beside",     "Beside other tools, on the same traffic",   beside::measure),
];

/// How long everything may take. What is not measured then is reported as missing.
const FULL: Duration = Duration::from_secs(830);
const QUICK: Duration = Duration::from_secs(230);

/// Set by SIGINT, SIGTERM and SIGHUP: every wait ends with an error, so that what was made is removed.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// What every part needs to know.
#[derive(Debug)]
struct Bench {
    options: Options,
    /// This program, which makes the traffic too.
    generator: PathBuf,
    scratch: PathBuf,
    deadline: Instant,
}

/// Runs the parts that were asked for and prints the report; whether each could be measured. A missed budget is a result, no failure.
pub fn run(options: &Options) -> Result<bool> {
    ensure!(nix::unistd::geteuid().is_root(), "the benchmark needs root");
    ensure!(
        options.flow.is_file(),
        "{} is not a file; build Flow first",
        options.flow.display()
    );
    for name in &options.parts {
        let known: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        ensure!(
            known.contains(&name.as_str()),
            "no part {name:?}; there are: {}",
            known.join(", ")
        );
    }
    catch_signals()?;
    peer::remove_stale();
    let temporary = tempfile::Builder::new().prefix("flow-bench-").tempdir()?;
    let bench = Bench {
        options: options.clone(),
        generator: std::env::current_exe().context("finding this program")?,
        scratch: temporary.path().to_owned(),
        deadline: Instant::now() + if options.quick { QUICK } else { FULL },
    };
    let machine = machine::describe(&bench)?;
    let wanted = |part: &&Part| {
        options.parts.is_empty() || options.parts.iter().any(|name| name == part.name)
    };
    let mut complete = true;
    let mut sections = Vec::new();
    for part in PARTS.iter().filter(wanted) {
        eprintln!("=== {}", part.title);
        let started = Instant::now();
        let section = (part.run)(&bench).unwrap_or_else(|error| {
            complete = false;
            eprintln!("{}: {error:#}", part.name);
            Section::missing(format!("{error:#}"))
        });
        eprintln!("    {:.0} s", started.elapsed().as_secs_f64());
        sections.push((part.title, section));
    }
    figures::print(&machine, &sections)?;
    Ok(complete)
}

impl Bench {
    /// A number of something, for the full run and the quick one.
    fn count(&self, full: usize, quick: usize) -> usize {
        if self.options.quick { quick } else { full }
    }

    fn seconds(&self, full: f64, quick: f64) -> Duration {
        Duration::from_secs_f64(if self.options.quick { quick } else { full })
    }

    /// An error once the benchmark is to end.
    fn check(&self) -> Result<()> {
        if STOPPED.load(Ordering::Relaxed) {
            bail!("stopped by a signal");
        }
        if Instant::now() > self.deadline {
            bail!("the benchmark's time is over");
        }
        Ok(())
    }

    fn pause(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// A peer with a name that no other of this process has.
    fn peer(&self) -> Result<Peer> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        self.check()?;
        Peer::new(
            NUMBER.fetch_add(1, Ordering::Relaxed),
            Duration::from_secs(10),
        )
    }

    /// Starts a command of Flow's, with the backend under test.
    fn flow(&self, arguments: &[&str], output: Output) -> Result<Process> {
        let mut all = arguments.to_vec();
        all.extend(["--backend", self.options.backend.name()]);
        Process::start(self, "flow", &self.options.flow, &all, None, output)
    }

    /// Starts `flow events --json` and waits until it is attached.
    fn flow_attached(&self, output: Output) -> Result<Process> {
        let mut flow = self.flow(&["events", "--json"], output)?;
        flow.first_output(self)?;
        Ok(flow)
    }

    /// Starts a kind of load, in the peer's namespace or here.
    fn load(&self, arguments: &[&str], peer: Option<&Peer>) -> Result<Process> {
        let mut all = vec!["load"];
        all.extend(arguments);
        Process::start(self, "load", &self.generator, &all, peer, Output::Lines)
    }
}

fn catch_signals() -> Result<()> {
    extern "C" fn stop(_: libc::c_int) {
        STOPPED.store(true, Ordering::Relaxed);
    }
    for number in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { signal(number, SigHandler::Handler(stop)) }.context("catching signals")?;
    }
    Ok(())
}
