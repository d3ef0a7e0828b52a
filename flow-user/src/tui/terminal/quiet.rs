//! A terminal that delivers what is typed at once and does not show it, for as long as Flow reads a
//! key or an answer. Ctrl-C and output work as usual.

use std::io::{self, IsTerminal as _};

use nix::{
    sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr},
    unistd::{getpgrp, tcgetpgrp},
};

/// Standard input in this mode; dropping this restores it.
pub struct Quiet {
    before: Termios,
}

impl Quiet {
    /// `None` if standard input is not a terminal, or another job has it.
    pub fn take() -> Option<Self> {
        let input = io::stdin();
        // Whoever changes the terminal from the background is stopped.
        if !input.is_terminal() || !is_in_foreground() {
            return None;
        }
        let before = tcgetattr(&input).ok()?;
        let mut quiet = before.clone();
        quiet
            .local_flags
            .remove(LocalFlags::ICANON | LocalFlags::ECHO);
        quiet.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        quiet.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(&input, SetArg::TCSANOW, &quiet).ok()?;
        Some(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if is_in_foreground() {
            // There is no place to report a failure.
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
        }
    }
}

/// Whether this job has the terminal of standard input.
pub fn is_in_foreground() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp())
}
