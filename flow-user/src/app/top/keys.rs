//! Keys while a table is shown in a terminal: `q` ends it.

use std::{
    future::pending,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use nix::unistd::read;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{Interest, unix::AsyncFd};

use crate::tui::terminal::{Quiet, is_in_foreground};

/// The keyboard, as far as there is one. Dropping this restores the terminal.
pub struct Keys(Option<Keyboard>);

struct Keyboard {
    input: AsyncFd<OwnedFd>,
    _quiet: Quiet,
}

impl Keys {
    /// Reads keys, if wanted and if standard input is a terminal. Must be called within the runtime.
    pub fn of(wanted: bool) -> Self {
        Self(wanted.then(Keyboard::take).flatten())
    }

    /// Waits until the user quits; for ever without a keyboard. Cancel safe.
    pub async fn quit(&self) {
        match &self.0 {
            Some(keyboard) if keyboard.quit().await.is_ok() => {}
            _ => pending().await,
        }
    }
}

impl Keyboard {
    fn take() -> Option<Self> {
        let quiet = Quiet::take()?;
        // Another descriptor, so that nothing else closes it.
        let input = io::stdin().as_fd().try_clone_to_owned().ok()?;
        // SAFETY: `OwnedFd` keeps one descriptor open for as long as it lives, and nothing replaces
        // it.
        let input = unsafe { AsyncFd::register_with_interest(input, Interest::READABLE) }.ok()?;
        Some(Self {
            input,
            _quiet: quiet,
        })
    }

    async fn quit(&self) -> io::Result<()> {
        loop {
            let mut ready = self.input.readable().await?;
            // The terminal is gone. That stays ready whatever is cleared: to wait for more would be
            // a loop that nothing interrupts.
            if ready.ready().is_read_closed() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut keys = [0; 64];
            // A reader in the background would be stopped.
            while is_in_foreground() && self.has_input() {
                let length = read(self.input.get_ref(), &mut keys)?;
                if length == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if quits(&keys[..length]) {
                    return Ok(());
                }
            }
            ready.clear_ready();
        }
    }

    fn has_input(&self) -> bool {
        let mut input = [PollFd::new(self.input.get_ref(), PollFlags::IN)];
        let result = poll(&mut input, Some(&Timespec::default()));
        result.is_ok() && input[0].revents().contains(PollFlags::IN)
    }
}

/// Whether what was typed asks for the end. A key such as an arrow arrives as a sequence, of which
/// letters mean nothing.
fn quits(keys: &[u8]) -> bool {
    !keys.starts_with(b"\x1b") && keys.iter().any(|key| matches!(key, b'q' | b'Q'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_ends_it_and_sequences_do_not() {
        assert!(quits(b"q") && quits(b"jjQ"));
        assert!(!quits(b"") && !quits(b"x") && !quits(b"\x1bOq"));
    }
}
