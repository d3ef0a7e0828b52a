//! The command line: commands, options and their help.

mod examples;
mod generate;
mod locale;
mod suggest;
mod uses;
mod values;

use std::{ffi::OsString, io::IsTerminal as _, path::PathBuf, sync::LazyLock, time::Duration};

use clap::{Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use self::{
    generate::{completions, man},
    values::Choice,
};
use crate::{
    config::{
        INTERVAL, Overrides,
        near::unknown,
        time::{duration, milliseconds, seconds},
    },
    model::UDP_IDLE,
    query::{filter, selection::EventTypes, view::By},
    sink::text::{self, Symbols},
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
#[command(
    name = "flow",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = examples::FLOW
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(flatten)]
    pub screen: Screen,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The groups of options in the help.
const SHOW: &str = "Show";
const OUTPUT: &str = "Output";
const TUNING: &str = "Tuning";

/// Options of several commands; `uses.rs` says which.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Show only what matches, such as 'process curl and not port 443'; see `flow help filter`
    #[arg(long, global = true, value_name = "EXPR", help_heading = SHOW)]
    pub filter: Option<String>,
    /// Show only traffic of this interface; repeatable
    #[arg(short, long, global = true, value_name = "IF", help_heading = SHOW, value_parser = values::interface)]
    pub interface: Vec<String>,
    /// Show user ids instead of names
    #[arg(long, global = true, help_heading = SHOW)]
    pub no_resolve: bool,
    /// Read TCP's own view of each connection at every interval: windows, queues, what limits it
    #[arg(long, global = true, help_heading = SHOW)]
    pub tcp_info: bool,
    /// Write JSON
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub json: bool,
    /// When to use colour; auto obeys NO_COLOR
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN", help_heading = OUTPUT)]
    pub color: ColorChoice,
    /// Symbols that the terminal has: auto, unicode, blocks, ascii; auto is by locale and TERM
    #[arg(long, global = true, value_name = "SET", help_heading = OUTPUT, value_parser = values::symbols)]
    pub symbols: Option<Choice<Symbols>>,
    /// Sampling interval, such as 500ms or 2s; a bare number is milliseconds [default: 1s]
    #[arg(long, global = true, value_name = "TIME", help_heading = TUNING, value_parser = milliseconds)]
    pub interval: Option<Duration>,
    /// How long a datagram flow may move nothing before it is over, such as 2m [default: 60s]
    #[arg(long, global = true, value_name = "TIME", help_heading = TUNING, value_parser = duration)]
    pub udp_idle: Option<Duration>,
    /// How to count the bytes of processes; auto uses the best that works here
    #[arg(long, global = true, default_value = "auto", value_name = "auto|fexit|kprobe|tracepoint", hide_default_value = true, help_heading = TUNING, value_parser = values::backend)]
    pub backend: Choice<Backend>,
    /// Maximum number of sockets, and of their flows; each takes 410 bytes of kernel memory
    #[arg(long, global = true, value_name = "N", default_value_t = Sizes::default().sockets, help_heading = TUNING, value_parser = clap::value_parser!(u32).range(i64::from(*sizes::SOCKETS.start())..=i64::from(*sizes::SOCKETS.end())))]
    pub max_sockets: u32,
    /// Maximum number of processes counted once the table of flows is full; each takes 140 bytes
    #[arg(long, global = true, value_name = "N", default_value_t = Sizes::default().processes, help_heading = TUNING, value_parser = clap::value_parser!(u32).range(i64::from(*sizes::PROCESSES.start())..=i64::from(*sizes::PROCESSES.end())))]
    pub max_processes: u32,
    /// Size of the kernel's ring buffer for events: a power of two, such as 4M
    #[arg(long, global = true, value_name = "SIZE", default_value = "4M", help_heading = TUNING, value_parser = values::ring_size)]
    pub ring_size: u32,
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
}

/// Options of the full-screen view. The configuration sets the defaults, see `flow config`.
#[derive(Args, Clone, Debug)]
pub struct Screen {
    #[arg(long, global = true, value_name = "VIEW", help = VIEWS.as_str(), help_heading = SHOW, value_parser = values::view)]
    pub view: Option<ViewId>,
    /// How long closed flows and exited processes stay visible [default: 60s]
    #[arg(long, global = true, value_name = "TIME", help_heading = SHOW, value_parser = duration)]
    pub history_ttl: Option<Duration>,
    /// Theme: auto, dark, light, contrast, colour-blind, mono; always mono without colour
    #[arg(long, global = true, value_name = "THEME", help_heading = OUTPUT, value_parser = values::theme)]
    pub theme: Option<Choice<Theme>>,
}

static VIEWS: LazyLock<String> = LazyLock::new(|| {
    let names = ViewId::ALL.map(ViewId::name).join(", ");
    format!("First view: {names}")
});
static GROUPINGS: LazyLock<String> = LazyLock::new(|| {
    let names = By::ALL.map(By::name).join(", ");
    format!("What each row shows: {names}")
});

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Show who uses the network now, as a refreshed table
    #[command(after_help = examples::TOP)]
    Top(Top),
    /// Print one line for each event
    #[command(after_help = examples::EVENTS)]
    Events(Events),
    /// Count for a while and write a report (JSON)
    #[command(after_help = examples::SNAPSHOT)]
    Snapshot(Snapshot),
    /// Show what works on this host, what does not, and why
    Doctor,
    /// Show the configuration of the full-screen view (TOML), and where each setting comes from
    #[command(after_help = examples::CONFIG)]
    Config,
    /// Write the completions for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(Completions),
    /// Write the page of the manual for Flow or a command
    #[command(after_help = examples::MAN)]
    Man(Page),
    /// Show the help of a command, or the filter language
    Help(Help),
}

#[derive(Args, Clone, Debug)]
pub struct Top {
    #[arg(long, default_value = "process", value_name = "GROUPING", help = GROUPINGS.as_str(), help_heading = SHOW, value_parser = values::grouping)]
    pub by: By,
    /// Column to sort by, as its header or in JSON; COLUMN:reverse reverses the order
    #[arg(long, value_name = "COLUMN", help_heading = SHOW)]
    pub sort: Option<String>,
    /// Maximum number of rows [default: as many as fit in a terminal, else 40]
    #[arg(short = 'n', long, value_name = "ROWS", help_heading = SHOW)]
    pub rows: Option<usize>,
    /// Print one table and exit; the same as -c 1
    #[arg(long, help_heading = OUTPUT)]
    pub once: bool,
    /// Seconds between two tables [default: --interval]
    #[arg(short = 'd', long, value_name = "SECONDS", help_heading = OUTPUT, value_parser = seconds)]
    pub delay: Option<Duration>,
    /// Exit after this many tables
    #[arg(short = 'c', long, value_name = "COUNT", help_heading = OUTPUT, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

#[derive(Args, Clone, Debug)]
pub struct Events {
    /// Print only these event types, separated by commas: flow.open, flow.update, flow.close, or flow
    /// for these three; process.exec, process.exit, or process; ledger, lost, status
    #[arg(long, value_name = "TYPES", help_heading = SHOW)]
    pub only: Option<EventTypes>,
    /// Exit after this time, such as 30s
    #[arg(long, value_name = "TIME", help_heading = OUTPUT, value_parser = duration)]
    pub duration: Option<Duration>,
}

#[derive(Args, Clone, Debug)]
pub struct Snapshot {
    /// How long to count, such as 30s
    #[arg(long, default_value = "10s", value_name = "TIME", help_heading = OUTPUT, value_parser = duration)]
    pub duration: Duration,
    /// File to write, complete or not at all; - is standard output
    #[arg(long, short, default_value = "-", value_name = "FILE", help_heading = OUTPUT)]
    pub output: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub struct Completions {
    pub shell: clap_complete::Shell,
}

#[derive(Args, Clone, Debug)]
pub struct Page {
    /// The command; without one, Flow
    pub command: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub struct Help {
    /// A command, or `filter`
    pub topic: Option<String>,
}

/// The command line as clap knows it.
fn command() -> clap::Command {
    uses::hide_unused(Cli::command())
}

/// Reads a command line.
///
/// # Errors
/// It is wrong, or asks for help or the version.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = command();
    if !color_wanted(ColorChoice::Auto, std::io::stderr().is_terminal()) {
        command = command.color(ColorChoice::Never);
    }
    let matches = command
        .try_get_matches_from_mut(arguments)
        .map_err(|error| suggest::suggest(error, &command))?;
    uses::check(&mut command, &matches)?;
    Cli::from_arg_matches(&matches)
}

/// The help on a topic: a command, or the filter language; without one that of Flow.
///
/// # Errors
/// There is no such topic.
pub fn help(topic: Option<&str>) -> Result<String, UnknownTopic> {
    let mut command = command();
    command.build();
    let help = |of: &mut clap::Command| of.render_long_help().to_string();
    match topic {
        None => Ok(help(&mut command)),
        Some(FILTER) => Ok(filter::help()),
        Some(name) => match command.find_subcommand_mut(name) {
            Some(of) => Ok(help(of)),
            None => Err(UnknownTopic::new(name, &command, &[FILTER])),
        },
    }
}

/// The topic that is no command.
const FILTER: &str = "filter";

/// A topic there is no help on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownTopic(String);

impl UnknownTopic {
    fn new(name: &str, command: &clap::Command, others: &[&'static str]) -> Self {
        let commands = command.get_subcommands().map(clap::Command::get_name);
        let topics: Vec<&str> = commands.chain(others.iter().copied()).collect();
        Self(unknown("topic", name, &topics))
    }
}

/// How standard output is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub json: bool,
    pub color: bool,
    pub symbols: Symbols,
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
            symbols: self.symbols,
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

/// The symbols for a terminal: those that were chosen, or what suits it.
pub fn symbols_for_terminal(chosen: Option<Symbols>) -> Symbols {
    let term = std::env::var_os("TERM");
    chosen.unwrap_or_else(|| Symbols::suitable(locale::is_utf8(), term.as_deref()))
}

impl Cli {
    /// The configurable options that were given.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            view: self.screen.view,
            theme: self.screen.theme.map(|it| it.0),
            symbols: self.global.symbols.map(|it| it.0),
            interval: self.global.interval,
            history_ttl: self.screen.history_ttl,
            udp_idle: self.global.udp_idle,
            filter: self.global.filter.clone(),
        }
    }
}

impl Global {
    /// The sampling interval, whatever the configuration of the full-screen view says.
    pub fn interval(&self) -> Duration {
        self.interval.unwrap_or(INTERVAL)
    }

    /// When an idle datagram flow is over, whatever the configuration of the full-screen view says.
    pub fn udp_idle(&self) -> Duration {
        self.udp_idle.unwrap_or(UDP_IDLE)
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
            symbols: match is_terminal {
                true => symbols_for_terminal(self.symbols.and_then(|it| it.0)),
                false => Symbols::Unicode,
            },
            is_terminal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    fn read(line: &[&str]) -> Result<Cli, String> {
        let line = line.iter().map(OsString::from);
        parse(line).map_err(|error| error.to_string())
    }

    #[test]
    fn options_stand_on_both_sides_of_a_command() {
        let interval = |line: &[&str]| read(line).unwrap().global.interval;
        let half = Some(Duration::from_millis(500));
        assert_eq!(interval(&["flow", "--interval", "500", "top"]), half);
        assert_eq!(interval(&["flow", "top", "--interval", "500"]), half);
        let theme = |line: &[&str]| read(line).unwrap().screen.theme;
        let light = Some(Choice(Some(Theme::Light)));
        assert_eq!(theme(&["flow", "--theme", "light", "config"]), light);
        assert_eq!(theme(&["flow", "config", "--theme", "light"]), light);
        assert_eq!(theme(&["flow", "--theme", "auto"]), Some(Choice(None)));
        let interfaces = read(&["flow", "-i", "lo", "top", "-i", "eth0"]);
        assert!(!interfaces.unwrap().global.interface.is_empty());
    }

    #[test]
    fn an_option_that_has_no_effect_is_an_error() {
        for (line, option) in [
            (&["flow", "--history-ttl", "5s", "top"][..], "--history-ttl"),
            (&["flow", "events", "--view", "flows"], "--view"),
            (&["flow", "doctor", "--filter", "tcp"], "--filter"),
            (&["flow", "config", "--max-sockets", "20"], "--max-sockets"),
            (&["flow", "--json"], "--json"),
        ] {
            let error = read(line).unwrap_err();
            assert!(
                error.contains(&format!("{option} does not apply to")),
                "{error}"
            );
        }
        assert!(read(&["flow", "config", "--color", "never"]).is_ok());
    }

    #[test]
    fn a_time_for_the_interface_names_the_interval() {
        let error = read(&["flow", "-i", "2s"]).unwrap_err();
        assert!(error.contains("--interval 2s"), "{error}");
    }

    #[test]
    fn help_offers_what_a_command_uses_in_groups() {
        let doctor = help(Some("doctor")).unwrap();
        assert!(doctor.contains("--backend") && doctor.contains("--json"));
        for option in ["--filter", "--interface", "--max-sockets", "--theme"] {
            assert!(!doctor.contains(option), "{option}: {doctor}");
        }
        let top = help(Some("top")).unwrap();
        let place = |text: &str| top.find(text).unwrap_or_else(|| panic!("{text}: {top}"));
        let groups = ["Show:", "--filter", "Output:", "--json", "Tuning:"];
        assert!(groups.map(place).is_sorted(), "{top}");
        assert!(top.contains("Examples:") && !top.contains("--theme"));
        assert!(help(None).unwrap().contains("--theme"));
        assert!(help(Some("filter")).unwrap().contains("port"));
        let error = help(Some("evnets")).unwrap_err().to_string();
        assert!(error.contains("did you mean `events`?"), "{error}");
    }

    #[test]
    fn the_examples_are_right() {
        let texts = [
            examples::FLOW,
            examples::TOP,
            examples::EVENTS,
            examples::SNAPSHOT,
            examples::CONFIG,
            examples::COMPLETIONS,
            examples::MAN,
        ];
        for text in texts {
            let page: String = text
                .lines()
                .map(|line| line.trim_start().replace("sudo ", "") + "\n")
                .collect();
            let commands = commands(&format!("```\n{page}```"));
            assert!(commands.len() > 1, "{text}");
            for command in commands {
                let command: Vec<&str> = command.iter().map(String::as_str).collect();
                assert!(read(&command).is_ok(), "{:?}", read(&command));
            }
        }
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
                let command: Vec<&str> = command.iter().map(String::as_str).collect();
                assert!(read(&command).is_ok(), "{:?}", read(&command));
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
