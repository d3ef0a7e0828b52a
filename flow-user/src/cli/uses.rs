//! Which command uses which options: its help offers no others, and others are an error.
//!
//! Every option may stand before or after the command.

use clap::{Arg, ArgMatches, Command, error::ErrorKind, parser::ValueSource};

/// Options of commands that count.
const COUNTING: &[&str] = &[
    "filter",
    "interface",
    "no_resolve",
    "interval",
    "udp_idle",
    "backend",
    "max_sockets",
    "max_processes",
    "ring_size",
    "record",
    "replay",
];
const BACKEND: &[&str] = &["backend"];
/// Options of text outputs.
const TEXT: &[&str] = &["json", "symbols"];
const JSON: &[&str] = &["json"];
/// The screen and `flow top` ask TCP by themselves.
const TCP: &[&str] = &["tcp_info"];
/// Options of the full-screen view.
const SCREEN: &[&str] = &["view", "theme", "history_ttl", "symbols"];
/// Options that the configuration has too.
const CONFIGURED: &[&str] = &["filter", "interval", "udp_idle"];

/// The options of each command; without a name of the full-screen view.
static USES: [(Option<&str>, &[&[&str]]); 9] = [
    (None, &[COUNTING, SCREEN]),
    (Some("top"), &[COUNTING, TEXT]),
    (Some("events"), &[COUNTING, TCP, TEXT]),
    (Some("snapshot"), &[COUNTING, TCP, JSON]),
    (Some("doctor"), &[BACKEND, TEXT]),
    (Some("config"), &[SCREEN, CONFIGURED]),
    (Some("completions"), &[]),
    (Some("man"), &[]),
    (Some("help"), &[]),
];

/// An option that no command refuses, because it says nothing about the content.
const COLOR: &str = "color";

fn is_used(command: Option<&str>, id: &str) -> bool {
    let mut uses = USES.iter();
    let options = uses.find(|(name, _)| *name == command);
    id == COLOR || options.is_some_and(|(_, options)| options.iter().any(|of| of.contains(&id)))
}

/// Hides what a command does not use from its help.
pub(super) fn hide_unused(mut command: Command) -> Command {
    let everywhere = command.get_arguments().filter(|it| it.is_global_set());
    let everywhere: Vec<_> = everywhere.cloned().collect();
    let names = command.get_subcommands().map(Command::get_name);
    let names: Vec<String> = names.map(str::to_owned).collect();
    for name in names {
        // A command's own copy replaces the one that clap would hand down.
        let copies = everywhere.iter().map(|argument| {
            let used = is_used(Some(&name), argument.get_id().as_str());
            argument.clone().hide(argument.is_hide_set() || !used)
        });
        let copies: Vec<_> = copies.collect();
        command = command.mut_subcommand(&name, |it| it.args(copies));
    }
    for argument in everywhere {
        let id = argument.get_id().clone();
        if !is_used(None, id.as_str()) {
            command = command.mut_arg(id, |it| it.hide(true));
        }
    }
    command
}

/// Rejects options that the command does not use.
pub(super) fn check(command: &mut Command, matches: &ArgMatches) -> Result<(), clap::Error> {
    let given = matches.subcommand_name();
    let typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let unused = |argument: &&Arg| {
        let id = argument.get_id().as_str();
        argument.is_global_set() && !is_used(given, id) && typed(id)
    };
    let Some(argument) = command.get_arguments().find(unused) else {
        return Ok(());
    };
    let id = argument.get_id().as_str();
    let option = argument.get_long().unwrap_or(id).to_owned();
    let (here, help) = match given {
        Some(name) => (format!("`flow {name}`"), format!("`flow {name} --help`")),
        None => (
            "the full-screen view".to_owned(),
            "`flow --help`".to_owned(),
        ),
    };
    let text = format!("--{option} does not apply to {here}; {help} lists what does");
    Err(command.error(ErrorKind::ArgumentConflict, text))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{super::Cli, *};

    #[test]
    fn the_table_names_commands_and_options_that_exist() {
        let command = Cli::command();
        let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        let listed: Vec<&str> = USES.iter().filter_map(|it| it.0).collect();
        assert_eq!(names, listed);
        let ids: Vec<&str> = command
            .get_arguments()
            .map(|it| it.get_id().as_str())
            .collect();
        for (_, options) in &USES {
            for id in options.iter().copied().flatten() {
                assert!(ids.contains(id), "{id}");
            }
        }
        for id in ids {
            let used = USES.iter().any(|(name, _)| is_used(*name, id));
            assert!(used, "{id} is used by nobody");
        }
    }
}
