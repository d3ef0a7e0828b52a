//! What was meant by a word that is no command.

use clap::{
    Command,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::values::is_interface;
use crate::query::near::nearest;

/// Adds to an error what may have been meant.
pub(super) fn suggest(error: clap::Error, command: &Command) -> clap::Error {
    suggest_among(error, command, &is_interface)
}

fn suggest_among(
    mut error: clap::Error,
    command: &Command,
    is_interface: &dyn Fn(&str) -> bool,
) -> clap::Error {
    let word = match error.kind() {
        ErrorKind::InvalidSubcommand => error.get(ContextKind::InvalidSubcommand),
        ErrorKind::UnknownArgument => error.get(ContextKind::InvalidArg),
        _ => return error,
    };
    let Some(ContextValue::String(word)) = word else {
        return error;
    };
    let word = word.clone();
    if is_interface(&word) {
        let program = match error.kind() {
            ErrorKind::InvalidSubcommand => "flow ",
            _ => "",
        };
        let tip = format!("did you mean `{program}--interface {word}`?");
        let tip = ContextValue::StyledStrs(vec![StyledStr::from(tip)]);
        error.insert(ContextKind::Suggested, tip);
    } else if error.kind() == ErrorKind::InvalidSubcommand
        && error.get(ContextKind::SuggestedSubcommand).is_none()
    {
        // Clap takes letters that changed places for a different word.
        let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        if let Some(name) = nearest(&word, &names) {
            let names = ContextValue::Strings(vec![name.to_owned()]);
            error.insert(ContextKind::SuggestedSubcommand, names);
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::{super::command, *};

    fn message(line: &[&str]) -> String {
        let mut command = command();
        let error = command.try_get_matches_from_mut(line).unwrap_err();
        suggest_among(error, &command, &|name| name == "eth0").to_string()
    }

    #[test]
    fn a_wrong_word_gets_the_right_one() {
        for (line, meant) in [
            (&["flow", "tpo"][..], "'top'"),
            (&["flow", "event"], "'events'"),
            (&["flow", "snaphsot"], "'snapshot'"),
            (&["flow", "eth0"], "`flow --interface eth0`"),
            (&["flow", "top", "eth0"], "`--interface eth0`"),
        ] {
            let message = message(line);
            assert!(message.contains(meant), "{line:?}: {message}");
        }
        let message = message(&["flow", "nginx"]);
        assert!(!message.contains("tip:"), "{message}");
    }
}
