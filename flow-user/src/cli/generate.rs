//! Completions for shells, and pages of the manual: both derive from the command line.

use clap_complete::Shell;
use clap_mangen::Man;

use super::{UnknownTopic, command};

/// The script that completes Flow's command line in a shell.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "flow", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The page of the manual for a command, or for Flow, as roff.
///
/// # Errors
/// There is no such command.
pub fn man(of: Option<&str>) -> Result<String, UnknownTopic> {
    let mut command = command();
    command.build();
    let page = match of {
        None => &command,
        Some(name) => {
            let found = command.find_subcommand(name);
            found.ok_or_else(|| UnknownTopic::new(name, &command, &[]))?
        }
    };
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = Man::new(page.clone()).render(&mut text);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_completes_commands_and_options() {
        for shell in Shell::value_variants() {
            let script = completions(*shell);
            for word in ["events", "snapshot", "interface", "max-sockets"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn the_manual_has_a_page_for_each_command() {
        let page = man(None).unwrap();
        assert!(
            page.contains(".TH flow 1") && page.contains(".SH TUNING"),
            "{page}"
        );
        let page = man(Some("events")).unwrap();
        assert!(page.contains("flow") && page.contains("only"), "{page}");
        assert!(!page.contains("history"), "{page}");
        let error = man(Some("evnts")).unwrap_err().to_string();
        assert!(error.contains("did you mean `events`?"), "{error}");
    }
}
