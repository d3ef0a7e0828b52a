//! `flow-live bench`: measures what Flow costs, and compares each figure with its budget.
//!
//! To add a part, write a function `fn(&Bench) -> Result<Section>` and add it to [`PARTS`].
//! Progress is printed on standard error, the report in Markdown on standard output at the end.

mod ablation;
mod beside;
mod figures;
mod footprint;
mod frames;
mod hooks;
pub mod load;
mod machine;
mod moments;
mod moved;
mod paced;
mod process;
mod scale;
mod screen;
mod sink;
mod soak;
mod storm;
mod tool;

use std::{
    path::PathBuf,
    process::Command,
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
    /// The backend for app bytes
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,
    /// Fewer and shorter rounds: under seven minutes instead of under twenty
    #[arg(long)]
    pub quick: bool,
    /// Path of nethogs, to measure it as well
    #[arg(long)]
    pub nethogs: Option<PathBuf>,
    /// Path of bandwhich, to measure it as well
    #[arg(long)]
    pub bandwhich: Option<PathBuf>,
    /// Path of rustnet, to measure it as well
    #[arg(long)]
    pub rustnet: Option<PathBuf>,
    /// Path of iftop, to measure it as well
    #[arg(long)]
    pub iftop: Option<PathBuf>,
    /// Parts to run; by default all but `soak`, which takes 25 minutes
    pub parts: Vec<String>,
}

/// A part of the benchmark.
#[derive(Debug)]
struct Part {
    name: &'static str,
    title: &'static str,
    run: fn(&Bench) -> Result<Section>,
    /// Only where it is named: it takes too long.
    on_request: bool,
}

const fn part(name: &'static str, title: &'static str, run: fn(&Bench) -> Result<Section>) -> Part {
    Part {
        name,
        title,
        run,
        on_request: false,
    }
}

const fn on_request(part: Part) -> Part {
    Part {
        on_request: true,
        ..part
    }
}

const SOAK: &str = "soak";

#[rustfmt::skip]
const PARTS: &[Part] = &[
    part("hooks",      "Nanoseconds in the kernel",                 hooks::measure),
    part("ablation",   "Throughput, family by family",              ablation::measure),
    part("footprint",  "CPU and memory of the flow process",        footprint::measure),
    part("screen",     "The full-screen view",                      screen::measure),
    part("scale",      "Cost by size",                              scale::measure),
    part("moments",    "Start and stop",                            moments::measure),
    part("storm",      "Short connections, as many as go",          storm::measure),
    part("beside",     "Beside other tools, on the same traffic",   beside::measure),
    on_request(part(SOAK, "Memory over many minutes",             soak::measure)),
];

/// Time limit of the whole benchmark. What is not measured by then is reported as missing.
const FULL: Duration = Duration::from_secs(1160);
const QUICK: Duration = Duration::from_secs(400);

/// Set by SIGINT, SIGTERM and SIGHUP: every wait then ends with an error, so that everything is
/// cleaned up.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// The context of every part.
#[derive(Debug)]
struct Bench {
    options: Options,
    /// This program, which also generates the traffic.
    generator: PathBuf,
    scratch: PathBuf,
    deadline: Instant,
}

/// Runs the selected parts and prints the report. Returns whether each could be measured: a missed
/// budget is a result, not a failure.
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
    let mut limit = if options.quick { QUICK } else { FULL };
    let wanted = |part: &&Part| match options.parts.as_slice() {
        [] => !part.on_request,
        names => names.iter().any(|name| name == part.name),
    };
    if options.parts.iter().any(|name| name == SOAK) {
        limit += soak::time(options.quick);
    }
    let bench = Bench {
        options: options.clone(),
        generator: std::env::current_exe().context("finding this program")?,
        scratch: temporary.path().to_owned(),
        deadline: Instant::now() + limit,
    };
    let machine = machine::describe(&bench)?;
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
    /// A number for the full run, and one for the quick run.
    fn count(&self, full: usize, quick: usize) -> usize {
        if self.options.quick { quick } else { full }
    }

    fn seconds(&self, full: f64, quick: f64) -> Duration {
        Duration::from_secs_f64(if self.options.quick { quick } else { full })
    }

    /// Fails once the benchmark must end.
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

    /// A peer with a name that is unique in this process. It counts no packets, which would take
    /// time of each.
    fn peer(&self) -> Result<Peer> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        self.check()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let peer = Peer::new(number, Duration::from_secs(10))?;
        peer.stop_counting()?;
        Ok(peer)
    }

    /// A command of Flow with the backend under test.
    fn flow_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.options.flow);
        command.args(arguments);
        command.args(["--backend", self.options.backend.name()]);
        command
    }

    /// Starts a command of Flow.
    fn flow(&self, arguments: &[&str], output: Output) -> Result<Process> {
        Process::start_command(self, "flow", self.flow_command(arguments), None, output)
    }

    /// Starts `flow events --json` and waits until it is attached.
    fn flow_attached(&self, output: Output) -> Result<Process> {
        self.flow_attached_with(output, |_| {})
    }

    /// The same after `change` has changed the command.
    fn flow_attached_with(
        &self,
        output: Output,
        change: impl FnOnce(&mut Command),
    ) -> Result<Process> {
        let mut command = self.flow_command(&["events", "--json"]);
        change(&mut command);
        let mut flow = Process::start_command(self, "flow", command, None, output)?;
        flow.first_output(self)?;
        Ok(flow)
    }

    /// Starts a load, in the peer's namespace or here.
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
