//! The command line: commands, options and their help.

use std::{ffi::OsString, io::IsTerminal as _, path::PathBuf, sync::LazyLock, time::Duration};

use clap::{
    ArgMatches, Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    error::ErrorKind, parser::ValueSource,
};

use crate::{
    config::{
        INTERVAL, Overrides,
        time::{duration, milliseconds, seconds},
    },
    query::{selection::EventTypes, view::By},
    sink::text,
    source::{
        Spec,
        kernel::{
            self,
            backends::Backend,
            sizes::{self, Sizes},
        },
    },
    tui::{Theme, views::ViewId},
};

/// Per-process network monitor for Linux: which processes use the network, exact to the byte.
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

const EXIT_CODES: &str = "\
    Without a command, flow opens the full-screen view; ? shows its keys. `flow config` lists its \
    settings.\n\n\
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not permitted, 129 ended with \
    SIGHUP, 130 with Ctrl-C, 143 with SIGTERM.";

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Show only what matches, such as 'process curl and not port 443' (docs/filter.md)
    #[arg(long, global = true, value_name = "EXPR")]
    pub filter: Option<String>,
    /// Show only traffic of this interface; repeatable
    #[arg(long, global = true, value_name = "IF")]
    pub interface: Vec<String>,
    /// Sampling interval, such as 500ms or 2s; a bare number is milliseconds [default: 1s]
    #[arg(short, long, global = true, value_parser = milliseconds)]
    pub interval: Option<Duration>,
    /// How to count the bytes of processes; auto uses the best that works here
    #[arg(long, global = true, default_value = "auto", value_name = "auto|fexit|kprobe|tracepoint", value_parser = backend)]
    pub backend: BackendChoice,
    /// Maximum number of sockets, and of their flows; each takes 410 bytes of kernel memory
    #[arg(long, global = true, value_name = "N", default_value_t = Sizes::default().sockets, value_parser = clap::value_parser!(u32).range(i64::from(*sizes::SOCKETS.start())..=i64::from(*sizes::SOCKETS.end())))]
    pub max_sockets: u32,
    /// Maximum number of processes counted once the table of flows is full; each takes 140 bytes
    #[arg(long, global = true, value_name = "N", default_value_t = Sizes::default().processes, value_parser = clap::value_parser!(u32).range(i64::from(*sizes::PROCESSES.start())..=i64::from(*sizes::PROCESSES.end())))]
    pub max_processes: u32,
    /// Size of the kernel's ring buffer for events: a power of two, such as 4M
    #[arg(long, global = true, value_name = "SIZE", default_value = "4M", value_parser = ring_size)]
    pub ring_size: u32,
    /// Write JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Show user ids instead of names
    #[arg(long, global = true)]
    pub no_resolve: bool,
    /// Write what is counted to a new file, in a format of Flow's own
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Show what was recorded instead of this machine
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "FILE",
        conflicts_with = "record"
    )]
    pub replay: Option<PathBuf>,
    /// When to use colour; auto obeys NO_COLOR
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    pub color: ColorChoice,
}

/// Options of the full-screen view. The configuration sets the defaults, see `flow config`.
#[derive(Args, Clone, Debug)]
pub struct Screen {
    #[arg(long, value_name = "VIEW", help = VIEWS.as_str())]
    pub view: Option<ViewId>,
    /// Theme: dark, light, contrast, colour-blind, mono; always mono without colour
    #[arg(long, value_name = "THEME")]
    pub theme: Option<Theme>,
    /// How long closed flows and exited processes stay visible [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub history_ttl: Option<Duration>,
}

static VIEWS: LazyLock<String> = LazyLock::new(|| {
    let names = ViewId::ALL.map(ViewId::name).join(", ");
    format!("First view: {names}")
});
static GROUPINGS: LazyLock<String> = LazyLock::new(|| By::ALL.map(By::name).join("|"));

/// A backend, or the best there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendChoice(pub Option<Backend>);

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Show who uses the network now, as a refreshed table
    Top(Top),
    /// Print one line for each event
    Events(Events),
    /// Count for a while and write a report (JSON)
    Snapshot(Snapshot),
    /// Show what works on this host, what does not, and why
    Doctor,
    /// Show the configuration of the full-screen view (TOML), and where each setting comes from
    Config,
}

#[derive(Args, Clone, Debug)]
pub struct Top {
    /// Print one table and exit; the same as -c 1
    #[arg(long)]
    pub once: bool,
    /// Maximum number of rows [default: as many as fit in a terminal, else 40]
    #[arg(short = 'n', long, value_name = "ROWS")]
    pub rows: Option<usize>,
    /// Seconds between two tables [default: --interval]
    #[arg(short = 'd', long, value_name = "SECONDS", value_parser = seconds)]
    pub delay: Option<Duration>,
    /// Exit after this many tables
    #[arg(short = 'c', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// What each row shows
    #[arg(
        long,
        default_value = "process",
        value_name = GROUPINGS.as_str()
    )]
    pub by: By,
    /// Column to sort by; COLUMN:reverse reverses the order
    #[arg(long, value_name = "COLUMN")]
    pub sort: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub struct Events {
    /// Exit after this time, such as 30s
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Print only these event types, separated by commas: flow.open, flow.update, flow.close, or flow
    /// for these three; process.exec, process.exit, or process; ledger, lost, status
    #[arg(long, value_name = "TYPES")]
    pub only: Option<EventTypes>,
}

#[derive(Args, Clone, Debug)]
pub struct Snapshot {
    /// How long to count, such as 30s
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// File to write, complete or not at all; - is standard output
    #[arg(long, short, default_value = "-", value_name = "FILE")]
    pub output: PathBuf,
}

/// Reads a command line.
///
/// # Errors
/// It is wrong, or asks for help or the version.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    if !color_wanted(ColorChoice::Auto, std::io::stderr().is_terminal()) {
        command = command.color(ColorChoice::Never);
    }
    let matches = command.try_get_matches_from_mut(arguments)?;
    check_screen_options(&mut command, &matches)?;
    Cli::from_arg_matches(&matches)
}

/// How standard output is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub json: bool,
    pub color: bool,
    pub is_terminal: bool,
}

impl Output {
    /// Columns of the terminal; `None` for a pipe or file, where nothing is cut.
    pub fn width(self) -> Option<usize> {
        self.size().map(|(columns, _)| columns)
    }

    /// Columns and rows of the terminal.
    pub fn size(self) -> Option<(usize, usize)> {
        // Asked of a pipe, crossterm would run tput.
        if !self.is_terminal {
            return None;
        }
        let (columns, rows) = crossterm::terminal::size().ok()?;
        // A terminal that does not know its size says zero.
        (columns > 0 && rows > 0).then_some((columns.into(), rows.into()))
    }

    /// Where text goes.
    pub fn screen(self) -> text::Screen {
        text::Screen {
            width: self.width(),
            color: self.color,
        }
    }
}

/// Rejects options of the full-screen view for other commands.
fn check_screen_options(
    command: &mut clap::Command,
    matches: &ArgMatches,
) -> Result<(), clap::Error> {
    // `flow config` shows what would be in effect with them.
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
    /// The configurable options that were given.
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
    /// The sampling interval, whatever the configuration of the full-screen view says.
    pub fn interval(&self) -> Duration {
        self.interval.unwrap_or(INTERVAL)
    }

    /// Where the events come from.
    pub fn source(&self) -> Spec {
        match &self.replay {
            Some(file) => Spec::Recording(file.clone()),
            None => Spec::Kernel(kernel::Options {
                backend: self.backend.0,
                interfaces: (!self.interface.is_empty()).then(|| self.interface.clone()),
                sizes: self.sizes(),
            }),
        }
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

    /// The arguments of the commands in the code blocks of a page, without comments, pipes and files.
    fn commands(page: &str) -> Vec<Vec<String>> {
        let blocks = page.split("```").skip(1).step_by(2);
        let lines = blocks.flat_map(str::lines).filter_map(|line| {
            let prompt = ["$ sudo ", "$ ", ""];
            let command = prompt.iter().find_map(|it| line.strip_prefix(it))?;
            let is_flow = command == "flow" || command.starts_with("flow ");
            // A title of the program has two blanks.
            (is_flow && !command.starts_with("flow  ")).then_some(command)
        });
        let arguments = |command: &str| {
            let mut words = Vec::new();
            for (number, part) in command.split('\'').enumerate() {
                if number % 2 == 1 {
                    words.push(part.to_owned());
                    continue;
                }
                let part = part.split("  ").next().unwrap_or_default();
                let shown = part.split(['|', '>', '#']).next().unwrap_or_default();
                words.extend(shown.split_whitespace().map(str::to_owned));
                if shown != part {
                    break;
                }
            }
            words
        };
        lines.map(arguments).collect()
    }

    #[test]
    fn the_commands_of_the_pages_are_right() {
        for page in [
            include_str!("../../README.md"),
            include_str!("../../docs/config.md"),
            include_str!("../../docs/filter.md"),
            include_str!("../../docs/tui.md"),
        ] {
            for command in commands(page) {
                let mut parser = Cli::command();
                let matches = parser.try_get_matches_from_mut(&command);
                let checked = matches.and_then(|it| check_screen_options(&mut parser, &it));
                assert!(checked.is_ok(), "{command:?}: {checked:?}");
            }
        }
        let page =
            "```\n$ sudo flow top --filter 'port 22 or port 80' | cat\nflow config  # all\n```";
        let expected = [
            vec!["flow", "top", "--filter", "port 22 or port 80"],
            vec!["flow", "config"],
        ];
        assert_eq!(commands(page), expected);
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
