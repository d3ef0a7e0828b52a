//! Asks the terminal for the colour of its background (OSC 11), for the theme `auto`.
//!
//! A second question follows that nearly every terminal answers, so that one that does not know the
//! first costs no wait. Whatever arrives is hostile: it is bounded, and only a colour is read from
//! it.

use std::{
    env,
    ffi::OsStr,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use crossterm::event::{Event, KeyCode, KeyModifiers};
use nix::unistd::read;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::quiet::Quiet;

/// The colour of the background; then the terminal's attributes (DA1).
const QUESTION: &[u8] = b"\x1b]11;?\x1b\\\x1b[c";
/// Where the answers begin.
const COLOUR: &[u8] = b"\x1b]11;";
const ATTRIBUTES: &[u8] = b"\x1b[?";
/// How long after the question an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(200);
/// The most bytes of both answers, with keys that were typed meanwhile.
const MOST: usize = 256;

/// A question that was asked.
pub struct Asked {
    since: Instant,
    quiet: Quiet,
}

/// What is known after the wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether the background is light, if the terminal says so.
    pub is_light: Option<bool>,
    /// Whether the terminal still owes the answer.
    pub is_late: bool,
}

impl Asked {
    /// Asks, where an answer is likely. The terminal shows nothing that is typed until
    /// [`Self::answer`].
    pub fn ask() -> Option<Self> {
        let term = env::var_os("TERM");
        if !io::stdout().is_terminal() || !knows_sequences(term.as_deref()) {
            return None;
        }
        let quiet = Quiet::take()?;
        let mut output = io::stdout().lock();
        output.write_all(QUESTION).ok()?;
        output.flush().ok()?;
        Some(Self {
            since: Instant::now(),
            quiet,
        })
    }

    /// Waits for the answer, no longer than a moment after the question.
    pub fn answer(self) -> Answer {
        let Self { since, quiet } = self;
        let mut received = Vec::new();
        while received.len() < MOST && !is_complete(&received) {
            let left = PATIENCE.saturating_sub(since.elapsed());
            match next_byte(left) {
                Some(byte) => received.push(byte),
                None => break,
            }
        }
        drop(quiet);
        Answer {
            is_light: is_light(&received),
            is_late: !is_complete(&received),
        }
    }
}

/// Whether a terminal of this name ignores what it does not know; the consoles of machines may
/// print it.
fn knows_sequences(term: Option<&OsStr>) -> bool {
    let name = term.and_then(OsStr::to_str).unwrap_or_default();
    let simple = ["dumb", "linux", "ansi", "vt", "cons", "unknown"];
    !name.is_empty() && !simple.iter().any(|prefix| name.starts_with(prefix))
}

/// A byte of standard input, one at a time: those after the answer are keys.
fn next_byte(patience: Duration) -> Option<u8> {
    let input = io::stdin();
    let mut polled = [PollFd::new(&input, PollFlags::IN)];
    let patience = Timespec::try_from(patience).ok()?;
    poll(&mut polled, Some(&patience)).ok()?;
    if !polled[0].revents().contains(PollFlags::IN) {
        return None;
    }
    let mut byte = [0];
    match read(&input, &mut byte) {
        Ok(1) => Some(byte[0]),
        _ => None,
    }
}

/// Whether the last answer is there.
fn is_complete(received: &[u8]) -> bool {
    after(received, ATTRIBUTES).is_some_and(|rest| rest.contains(&b'c'))
}

/// Whether the answer names a light colour: `rgb:` and three hexadecimal numbers of one to four
/// digits.
fn is_light(received: &[u8]) -> Option<bool> {
    let rest = after(received, COLOUR)?;
    let end = rest.iter().position(|byte| matches!(byte, 0x07 | 0x1b))?;
    let text = str::from_utf8(&rest[..end]).ok()?;
    let numbers = text
        .strip_prefix("rgb:")
        .or_else(|| text.strip_prefix("rgba:"))?;
    let mut parts = numbers.split('/');
    let mut part = || {
        let digits = parts.next()?;
        let is_number =
            (1..=4).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_hexdigit());
        let number = u32::from_str_radix(digits, 16).ok().filter(|_| is_number)?;
        let most = 16_u32.pow(u32::try_from(digits.len()).ok()?) - 1;
        Some(f64::from(number) / f64::from(most))
    };
    let (red, green, blue) = (part()?, part()?, part()?);
    // The brightness that is seen (ITU-R BT.601).
    Some(0.299 * red + 0.587 * green + 0.114 * blue > 0.5)
}

/// What follows the first place of a pattern.
fn after<'a>(bytes: &'a [u8], pattern: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(pattern.len()).position(|it| it == pattern)?;
    bytes.get(at + pattern.len()..)
}

/// Drops an answer that comes later, which would be taken for keys: `r` and `g` mean something.
#[derive(Debug, Default)]
pub struct LateAnswer {
    /// Whether one may come.
    expected: bool,
    /// Events of it that may still follow.
    left: usize,
}

impl LateAnswer {
    pub fn new(expected: bool) -> Self {
        Self { expected, left: 0 }
    }

    /// Whether an event belongs to the answer: from `ESC ]` up to its end.
    pub fn takes(&mut self, event: &Event) -> bool {
        let Event::Key(key) = event else {
            return false;
        };
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if self.left == 0 {
            let begins = self.expected && alt && key.code == KeyCode::Char(']');
            self.left = if begins { MOST } else { 0 };
            return begins;
        }
        let ends =
            (alt && key.code == KeyCode::Char('\\')) || (control && key.code == KeyCode::Char('g'));
        self.left = if ends { 0 } else { self.left - 1 };
        self.expected &= !ends;
        true
    }
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyEvent;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_colour_is_read_in_all_its_forms() {
        for (answer, light) in [
            (
                &b"\x1b]11;rgb:0000/2b2b/3636\x1b\\\x1b[?62;c"[..],
                Some(false),
            ),
            (b"\x1b]11;rgb:fdfd/f6f6/e3e3\x07", Some(true)),
            (b"\x1b]11;rgb:f/f/f\x07", Some(true)),
            (b"q\x1b]11;rgba:00/00/00/ff\x07", Some(false)),
            (b"\x1b]11;rgb:ffff/ffff", None),
            (b"\x1b]11;rgb:ffff/ffff\x07", None),
            (b"\x1b]11;rgb:+fff/ffff/ffff\x07", None),
            (b"\x1b]11;rgb:fffff/ffff/ffff\x07", None),
            (b"\x1b]11;red\x07", None),
            (b"\x1b]11;\xff\x07", None),
            (b"\x1b[?6c", None),
            (b"", None),
        ] {
            assert_eq!(is_light(answer), light, "{answer:?}");
        }
    }

    #[test]
    fn the_second_answer_ends_the_wait() {
        assert!(is_complete(b"\x1b[?62;22c"));
        assert!(is_complete(b"\x1b]11;rgb:0/0/0\x07\x1b[?6c"));
        assert!(!is_complete(b"\x1b]11;rgb:c/c/c\x07"));
        assert!(!is_complete(b"\x1b[?62"));
    }

    #[test]
    fn simple_terminals_are_not_asked() {
        let knows = |term: &str| knows_sequences(Some(OsStr::new(term)));
        assert!(knows("xterm-256color") && knows("tmux-256color") && knows("foot"));
        assert!(!knows("linux") && !knows("vt220") && !knows("dumb") && !knows(""));
        assert!(!knows_sequences(None));
    }

    #[test]
    fn a_late_answer_is_no_key() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(KeyCode::Char(code), modifiers));
        let plain = |code| key(code, KeyModifiers::NONE);
        let mut late = LateAnswer::new(true);
        assert!(!late.takes(&plain('r')));
        assert!(late.takes(&key(']', KeyModifiers::ALT)));
        for code in "11;rgb:0/0/0".chars() {
            assert!(late.takes(&plain(code)));
        }
        assert!(late.takes(&key('\\', KeyModifiers::ALT)));
        assert!(!late.takes(&plain('r')));
        assert!(!late.takes(&key(']', KeyModifiers::ALT)));
        // One that never ends is given up.
        let mut late = LateAnswer::new(true);
        assert!(late.takes(&key(']', KeyModifiers::ALT)));
        let taken = (0..2 * MOST).filter(|_| late.takes(&plain('x'))).count();
        assert_eq!(taken, MOST);
        assert!(!LateAnswer::new(false).takes(&key(']', KeyModifiers::ALT)));
    }

    proptest! {
        #[test]
        fn no_answer_breaks_it(answer in prop::collection::vec(any::<u8>(), 0..300)) {
            is_light(&[COLOUR, &answer].concat());
            is_complete(&[ATTRIBUTES, &answer].concat());
        }
    }
}
