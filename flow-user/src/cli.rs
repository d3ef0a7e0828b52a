//! What people type.

use std::{ffi::OsString, io::IsTerminal as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::{
    ArgMatches, Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    error::ErrorKind, parser::ValueSource,
};

use crate::{
    app::{self, Output},
    config::{
        INTERVAL, Overrides,
        time::{duration, milliseconds, seconds},
    },
    query::{selection::EventTypes, view::By},
    source::kernel::{
        backends::Backend,
        sizes::{self, Sizes},
    },
    tui::{Theme, terminal::Messages, views::ViewId},
};

/// Per-process network monitor for Linux: who is talking on this machine, to the byte.
#[derive(Debug, Parser)]
#[command(name = "flow", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(flatten)]
    pub screen: Screen,
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXIT_CODES: &str = "Without a command: the full-screen view; ? there shows its keys. `flow config` shows what can be configured.\n\n\
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
    /// Time between two looks at the counters, such as 500ms or 2s; a number alone is milliseconds [default: 1s]
    #[arg(short, long, global = true, value_parser = milliseconds)]
    pub interval: Option<Duration>,
    /// How to count the bytes of processes; auto takes the best that works here
    #[arg(long, global = true, default_value = "auto", value_name = "auto|fexit|kprobe|tracepoint", value_parser = backend)]
    pub backend: BackendChoice,
    /// Sockets, and flows of them, that can be counted at once; each takes 360 bytes of kernel memory
    #[arg(long, global = true, value_name = "N", default_value_t = Sizes::default().sockets, value_parser = clap::value_parser!(u32).range(i64::from(*sizes::SOCKETS.start())..=i64::from(*sizes::SOCKETS.end())))]
    pub max_sockets: u32,
    /// Processes that can be counted once the table of flows is full; each takes 130 bytes
    #[arg(long, global = true, value_name = "N", default_value_t = Sizes::default().processes, value_parser = clap::value_parser!(u32).range(i64::from(*sizes::PROCESSES.start())..=i64::from(*sizes::PROCESSES.end())))]
    pub max_processes: u32,
    /// Size of the buffer in which the kernel tells what happens: a power of two, such as 4M
    #[arg(long, global = true, value_name = "SIZE", default_value = "4M", value_parser = ring_size)]
    pub ring_size: u32,
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

/// Options of the full-screen view. What is not typed is as the configuration says, see `flow config`.
#[derive(Args, Clone, Debug)]
pub struct Screen {
    /// View to begin with: processes, flows, remotes, listeners, interfaces, users, cgroups, names, events
    #[arg(long, value_name = "VIEW")]
    pub view: Option<ViewId>,
    /// Colours: dark, light, contrast, colour-blind, mono; without colour mono
    #[arg(long, value_name = "THEME")]
    pub theme: Option<Theme>,
    /// How long closed flows and exited processes stay [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub history_ttl: Option<Duration>,
}

/// A backend, or the best there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendChoice(pub Option<Backend>);

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
    /// The configuration of the full-screen view (TOML): what it is, and where each part of it comes from
    Config,
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
    app::ignore_file_size_signal();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let mut command = Cli::command();
    if !color_wanted(ColorChoice::Auto, std::io::stderr().is_terminal()) {
        command = command.color(ColorChoice::Never);
    }
    let cli = command
        .try_get_matches_from_mut(arguments)
        .and_then(|matches| {
            check_screen_options(&mut command, &matches)?;
            Cli::from_arg_matches(&matches)
        });
    let cli = match cli {
        Ok(cli) => cli,
        Err(error) => {
            return said(&error);
        }
    };
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("FLOW_LOG", "warn"))
        .format_timestamp(None)
        .target(env_logger::Target::Pipe(Box::new(Messages)))
        .init();
    app::run(&cli)
}

/// Prints what clap has to say. Help and version go to standard output and are no error.
fn said(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        // Where that cannot be written, the exit code reports it.
        let _ = error.print();
        return ExitCode::from(2);
    }
    app::print(|| error.print())
}

/// Options of the full-screen view say nothing to a command.
fn check_screen_options(
    command: &mut clap::Command,
    matches: &ArgMatches,
) -> Result<(), clap::Error> {
    // What would be in effect with them can be asked for.
    let Some(given) = matches.subcommand_name().filter(|it| *it != "config") else {
        return Ok(());
    };
    let typed = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    match ["view", "theme", "history_ttl"].into_iter().find(typed) {
        None => Ok(()),
        Some(id) => {
            let option = id.replace('_', "-");
            let text = format!("--{option} is for the full-screen view, not for `flow {given}`");
            Err(command.error(ErrorKind::ArgumentConflict, text))
        }
    }
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

impl Cli {
    /// What was typed of what can be configured.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            view: self.screen.view,
            theme: self.screen.theme,
            interval: self.global.interval,
            history_ttl: self.screen.history_ttl,
        }
    }
}

impl Global {
    /// The time between two looks, whatever the configuration of the full-screen view says.
    pub fn interval(&self) -> Duration {
        self.interval.unwrap_or(INTERVAL)
    }

    /// How large the kernel side's maps are to be.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            sockets: self.max_sockets,
            processes: self.max_processes,
            ring: self.ring_size,
        }
    }

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

/// Reads a size of the ring buffer: `64K`, `8M`, `1G`.
fn ring_size(text: &str) -> Result<u32, String> {
    // A ring buffer is a whole number of pages, some of which are larger than the least size.
    let least = sizes::page_bytes().max(*sizes::RING.start());
    let expected = || {
        format!(
            "expected a power of two from {}K to {}G, such as 8M",
            least >> 10,
            sizes::RING.end() >> 30
        )
    };
    let (number, shift) = match text.char_indices().next_back() {
        Some((end, 'K' | 'k')) => (&text[..end], 10),
        Some((end, 'M' | 'm')) => (&text[..end], 20),
        Some((end, 'G' | 'g')) => (&text[..end], 30),
        _ => (text, 0),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    let bytes = number
        .checked_mul(1 << shift)
        .and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or_else(expected)?;
    let fits = bytes.is_power_of_two() && (least..=*sizes::RING.end()).contains(&bytes);
    fits.then_some(bytes).ok_or_else(expected)
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
    fn options_of_the_screen_are_not_for_commands() {
        let check = |line: &[&str]| {
            let mut command = Cli::command();
            let matches = command.try_get_matches_from_mut(line).unwrap();
            check_screen_options(&mut command, &matches).map_err(|error| error.to_string())
        };
        assert_eq!(check(&["flow", "--view", "flows", "-i", "500"]), Ok(()));
        assert_eq!(check(&["flow", "-i", "500", "top"]), Ok(()));
        assert_eq!(check(&["flow", "--theme", "light", "config"]), Ok(()));
        let error = check(&["flow", "--history-ttl", "5s", "top"]).unwrap_err();
        assert!(error.contains("--history-ttl is for"), "{error}");
    }

    #[test]
    fn the_ring_is_a_power_of_two_within_its_bounds() {
        assert_eq!(ring_size("8M"), Ok(8 << 20));
        assert_eq!(ring_size("65536"), Ok(64 << 10));
        assert_eq!(ring_size("1g"), Ok(1 << 30));
        for bad in [
            "",
            "M",
            "8MB",
            "-8M",
            "3M",
            "1K",
            "2G",
            "8.5M",
            "99999999999999999999G",
        ] {
            assert!(
                ring_size(bad).unwrap_err().contains("power of two"),
                "{bad}"
            );
        }
    }

    #[test]
    fn sizes_of_maps_have_bounds_and_defaults() {
        let sizes = |arguments: &[&str]| {
            let line = ["flow", "events"].iter().chain(arguments);
            Cli::try_parse_from(line).map(|cli| cli.global.sizes())
        };
        assert_eq!(sizes(&[]).unwrap(), Sizes::default());
        let small = sizes(&[
            "--max-sockets",
            "16",
            "--max-processes",
            "20",
            "--ring-size",
            "64K",
        ]);
        let expected = Sizes {
            sockets: 16,
            processes: 20,
            ring: 64 << 10,
        };
        assert_eq!(small.unwrap(), expected);
        for bad in [
            ["--max-sockets", "0"],
            ["--max-sockets", "9999999"],
            ["--max-processes", "1"],
        ] {
            assert!(sizes(&bad).is_err(), "{bad:?}");
        }
    }
}
