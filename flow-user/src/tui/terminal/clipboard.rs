//! The clipboard of the terminal: OSC 52, which travels with the output, through ssh too.

use std::env;

use crossterm::{Command as _, clipboard::CopyToClipboard};

/// Whether the terminal is tmux. What starts Flow as root may drop tmux's variable, but keeps the
/// name of the terminal.
pub(super) fn in_tmux() -> bool {
    let named = |term: String| term.starts_with("tmux");
    env::var_os("TMUX").is_some() || env::var("TERM").is_ok_and(named)
}

/// The sequence that sets the clipboard.
///
/// tmux uses it for its own clipboard where `set-clipboard` is `on`, and passes it on, wrapped,
/// where `allow-passthrough` is. What is not allowed has no effect, so tmux gets both.
pub(super) fn copy(text: &str, in_tmux: bool) -> String {
    let mut plain = String::new();
    // Writing to memory does not fail.
    let _ = CopyToClipboard::to_clipboard_from(text).write_ansi(&mut plain);
    if in_tmux {
        let wrapped = plain.replace('\x1b', "\x1b\x1b");
        plain.push_str(&format!("\x1bPtmux;{wrapped}\x1b\\"));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_encoded_and_cannot_leave_the_sequence() {
        assert_eq!(copy("curl x", false), "\x1b]52;c;Y3VybCB4\x1b\\");
        let hostile = copy("\x1b\\\x07\x1b]0;x", false);
        assert_eq!(hostile.matches('\x1b').count(), 2, "{hostile:?}");
        assert!(!hostile.contains('\x07'));
    }

    #[test]
    fn tmux_gets_it_for_itself_and_to_pass_on() {
        assert_eq!(
            copy("x", true),
            "\x1b]52;c;eA==\x1b\\\x1bPtmux;\x1b\x1b]52;c;eA==\x1b\x1b\\\x1b\\"
        );
    }
}
