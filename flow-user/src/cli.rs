//! What people type.

use std::{ffi::OsString, io::IsTerminal as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::{
    app::{self, Output},
    query::{selection::EventTypes, view::By},
    source::kernel::probe::AppBackend,
};

/// Per-process network monitor for Linux: who is talking on this machine, to the byte.
#[derive(Debug, Parser)]
#[command(name = "flow", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXIT_CODES: &str = "Without a command: flow top.\n\n\
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not permitted, 130 ended with Ctrl-C, 143 with SIGTERM.";

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Show only what matches, such as 'process curl and not port 443' (docs/filter.md)
    #[arg(long, global = true, value_name = "EXPR")]
    pub filter: Option<String>,
    /// Show only traffic of this interface; may be repeated
    #[arg(long, global = true, value_name = "IF")]
    pub interface: Vec<String>,
    /// Time between two looks at the counters, such as 500ms or 2s
    #[arg(long, global = true, default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// How to count the bytes of processes; auto takes the best that works here
    #[arg(long, global = true, default_value = "auto", value_name = "auto|fexit|kprobe|tracepoint", value_parser = backend)]
    pub backend: BackendChoice,
    /// Write JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Show numbers instead of names of users
    #[arg(long, global = true)]
    pub no_resolve: bool,
    /// When to use colour; auto obeys NO_COLOR
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    pub color: ColorChoice,
}

/// A backend, or the best there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendChoice(pub Option<AppBackend>);

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Who uses the network now: a table, refreshed
    Top(Top),
    /// One line for each thing that happens
    Events(Events),
    /// Count for a while and write a report (JSON)
    Snapshot(Snapshot),
    /// What works on this machine, and why not more
    Doctor,
}

#[derive(Args, Clone, Debug)]
pub struct Top {
    /// Print one table and end; the same as -c 1
    #[arg(long)]
    pub once: bool,
    /// The most rows to show; in a terminal as many as fit, else 40
    #[arg(short = 'n', long, value_name = "ROWS")]
    pub rows: Option<usize>,
    /// Seconds between two tables; the default is --interval
    #[arg(short = 'd', long, value_name = "SECONDS", value_parser = seconds)]
    pub delay: Option<Duration>,
    /// End after so many tables
    #[arg(short = 'c', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// What a row stands for
    #[arg(
        long,
        default_value = "process",
        value_name = "process|flow|remote|listener|interface|user|cgroup"
    )]
    pub by: By,
    /// Column to sort by; COLUMN:reverse for the other way round
    #[arg(long, value_name = "COLUMN")]
    pub sort: Option<String>,
}

impl Default for Top {
    fn default() -> Self {
        Self {
            once: false,
            rows: None,
            delay: None,
            count: None,
            by: By::Process,
            sort: None,
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct Events {
    /// End after this time, such as 30s
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Only events of these types, divided by commas: flow, flow.open, process.exit, ledger, ...
    #[arg(long, value_name = "TYPES")]
    pub only: Option<EventTypes>,
}

#[derive(Args, Clone, Debug)]
pub struct Snapshot {
    /// How long to count, such as 30s
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// File to write, whole or not at all; - is standard output
    #[arg(long, short, default_value = "-", value_name = "FILE")]
    pub output: PathBuf,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let mut command = Cli::command();
    if !color_wanted(ColorChoice::Auto, std::io::stderr().is_terminal()) {
        command = command.color(ColorChoice::Never);
    }
    let cli = command
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match cli {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no error. A closed pipe is none either.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("FLOW_LOG", "warn"))
        .format_timestamp(None)
        .init();
    app::run(&cli)
}

/// Whether to colour an output, by the option, the environment and what it is.
pub fn color_wanted(choice: ColorChoice, is_terminal: bool) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value: OsString| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => is_terminal && !is_set("NO_COLOR") && !dumb,
    }
}

impl Global {
    /// How standard output is to be written.
    pub fn output(&self) -> Output {
        let is_terminal = std::io::stdout().is_terminal();
        Output {
            json: self.json,
            color: color_wanted(self.color, is_terminal),
            is_terminal,
        }
    }
}

/// Reads a time with its unit: `250ms`, `10s`, `1.5m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("expected a number and ms, s, m or h, such as 30s".into()),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a number and ms, s, m or h, such as 30s".to_owned())?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())
}

/// The least and the longest time between two looks.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_secs(3600);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if INTERVALS.contains(&interval) {
        Ok(interval)
    } else {
        Err("expected a time from 50ms to 1h".into())
    }
}

/// As [`interval`]; a number without a unit is seconds, as other tops take it.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(_) => interval(&format!("{text}s")),
        Err(_) => interval(text),
    }
}

fn backend(text: &str) -> Result<BackendChoice, String> {
    if text == "auto" {
        return Ok(BackendChoice(None));
    }
    text.parse()
        .map(|backend| BackendChoice(Some(backend)))
        .map_err(|_| "choose auto, fexit, kprobe or tracepoint".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        for bad in ["", "5", "s", "5 s", "-1s", "1e300h", "5d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(interval("1ms").is_err());
        assert_eq!(seconds("2"), Ok(Duration::from_secs(2)));
    }
}
