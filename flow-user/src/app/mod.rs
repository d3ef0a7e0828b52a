//! Wiring: what each command does.

mod beside;
mod config;
mod consumer;
mod engine;
mod events;
mod failure;
mod memory;
mod output;
mod reader;
mod run;
mod snapshot;
pub mod streams;
mod top;
mod tui;
mod writer;

use std::{io, process::ExitCode, sync::Arc, time::Duration};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::{self, SigHandler, Signal},
};
use tokio::signal::unix::{self, SignalKind, signal as listen};

use self::{engine::Plan, failure::Failure};
use crate::{
    cli::{self, Cli, Command, Output},
    enrich::users::UserResolver,
    query::filter::Filter,
    sink::text::escape,
    source::kernel::probe,
    tui::terminal::Messages,
};

/// How long a filter of the command line may wait for the directory of users.
const DIRECTORY_PATIENCE: Duration = Duration::from_secs(10);

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    ignore_file_size_signal();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return print_usage(&error),
    };
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("FLOW_LOG", "warn"))
        .format_timestamp(None)
        .target(env_logger::Target::Pipe(Box::new(Messages)))
        .init();
    run(&cli)
}

/// Prints help or version to standard output, or an error of usage to standard error.
fn print_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        // If that cannot be written, the exit code still reports the error.
        let _ = error.print();
        return ExitCode::from(2);
    }
    print(|| error.print())
}

/// Does what the command line says.
fn run(cli: &Cli) -> ExitCode {
    match try_run(cli) {
        Ok(end) => end.into(),
        Err(failure) => {
            output::print_message(&escaped(&failure));
            failure.exit_code()
        }
    }
}

/// Prints with `print`, which writes to standard output, and returns the exit code.
fn print(print: impl FnOnce() -> io::Result<()>) -> ExitCode {
    match output::print(print) {
        Ok(_) => End::Done.into(),
        Err(error) => {
            let failure = Failure::Output(error);
            output::print_message(&failure.to_string());
            failure.exit_code()
        }
    }
}

/// Makes a write beyond the file size limit (`ulimit -f`) fail, where a signal would end the
/// program. So Flow can report why, and leaves nothing behind.
fn ignore_file_size_signal() {
    // SAFETY: no handler is installed.
    let _ = unsafe { signal::signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// The message, safe for a terminal: it may contain names of interfaces and files.
fn escaped(failure: &Failure) -> String {
    let message = failure.to_string();
    let lines: Vec<_> = message.lines().map(escape).collect();
    lines.join("\n")
}

/// How a command ended, if it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Done,
    Interrupted,
    Terminated,
    HungUp,
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        Self::from(end.code())
    }
}

impl End {
    /// As a shell shows it: 128 and the signal's number.
    fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::HungUp => 129,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

fn try_run(cli: &Cli) -> Result<End, Failure> {
    let output = cli.global.output();
    let text = match &cli.command {
        Some(Command::Help(options)) => Some(cli::help(options.topic.as_deref())?),
        Some(Command::Completions(options)) => Some(cli::completions(options.shell)),
        Some(Command::Man(options)) => Some(cli::man(options.command.as_deref())?),
        _ => None,
    };
    if let Some(text) = text {
        output::write_text(&text)?;
        return Ok(End::Done);
    }
    if let Some(Command::Doctor) = &cli.command {
        return doctor(cli, output);
    }
    let users = Arc::new(UserResolver::default());
    let filter = filter(cli, &users)?;
    if let Some(Command::Config) = &cli.command {
        return config::run(config::load(cli.overrides()));
    }
    let plan = Plan {
        options: cli.global.clone(),
        filter,
    };
    raise_limits();
    return_memory();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    runtime.block_on(async {
        match &cli.command {
            None => tui::run(plan, config::load(cli.overrides()), arguments(cli), users).await,
            Some(Command::Top(options)) => top::run(plan, options).await,
            Some(Command::Events(options)) => events::run(plan, options).await,
            Some(Command::Snapshot(options)) => snapshot::run(plan, options).await,
            Some(
                Command::Doctor
                | Command::Config
                | Command::Completions(_)
                | Command::Man(_)
                | Command::Help(_),
            ) => Ok(End::Done),
        }
    })
}

fn doctor(cli: &Cli, output: Output) -> Result<End, Failure> {
    let report = probe::probe(cli.global.backend.0);
    let text = if output.json {
        crate::sink::text::doctor_json(&report).map_err(Failure::Json)?
    } else {
        crate::sink::text::render_doctor(&report, output.screen())
    };
    output::write_text(&text)?;
    Ok(End::Done)
}

/// The filter of the command line, restricted to its interfaces.
fn filter(cli: &Cli, users: &UserResolver) -> Result<Filter, Failure> {
    let uid_of = |name: &str| users.uid_within(name, DIRECTORY_PATIENCE);
    let asked = cli.global.filter.as_deref().unwrap_or_default();
    let filter = Filter::parse(asked, &uid_of)?;
    Ok(filter.on_interfaces(cli.global.interface.iter().cloned()))
}

fn arguments(cli: &Cli) -> tui::Arguments {
    tui::Arguments {
        interfaces: cli.global.interface.clone(),
        color: cli.global.output().color,
    }
}

/// Makes the allocator return large buffers to the kernel when they are freed.
///
/// By default glibc raises its mmap threshold once such a buffer is freed, so memory that a burst
/// needed once would never be returned. With a single arena, one thread reuses what another freed.
fn return_memory() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE: libc::c_int = 256 << 10;
        // SAFETY: sets parameters of the allocator, before there is another thread.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// Raises the limits of open files, as each program on each interface takes a descriptor, and of
/// locked memory, which maps take before Linux 5.11. If that fails, so does whatever needs them,
/// with its own message.
fn raise_limits() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let unlimited = nix::sys::resource::RLIM_INFINITY;
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, unlimited, unlimited);
}

/// The signals that end a command.
struct EndSignals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
}

impl EndSignals {
    fn listen() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: listen(SignalKind::interrupt()).map_err(Failure::Runtime)?,
            terminate: listen(SignalKind::terminate()).map_err(Failure::Runtime)?,
            hang_up: listen(SignalKind::hangup()).map_err(Failure::Runtime)?,
        })
    }

    async fn wait(&mut self) -> End {
        tokio::select! {
            _ = self.interrupt.recv() => End::Interrupted,
            _ = self.terminate.recv() => End::Terminated,
            _ = self.hang_up.recv() => End::HungUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_signals_are_those_of_a_shell() {
        for (end, signal) in [
            (End::HungUp, Signal::SIGHUP),
            (End::Interrupted, Signal::SIGINT),
            (End::Terminated, Signal::SIGTERM),
        ] {
            assert_eq!(i32::from(end.code()), 128 + signal as i32);
        }
    }

    #[test]
    fn a_message_with_a_hostile_name_is_harmless() {
        let failure = Failure::Start(crate::source::kernel::StartError::NoInterface {
            name: "x\x1b[2J".into(),
            present: "lo\u{202e}".into(),
        });
        let harmful = |c: char| crate::sink::text::is_hostile(c);
        let message = escaped(&failure);
        assert!(!message.contains(harmful), "{message:?}");
    }
}
