//! Takes over the terminal, and restores it in every case. Pages are returned as bytes and not
//! written here, so that a terminal that accepts no output (a stopped one, a slow line) blocks
//! nothing.

mod background;
mod clipboard;
mod lock;
mod quiet;

use std::{
    cell::RefCell,
    io::{self, IsTerminal as _, Write},
    panic,
    rc::Rc,
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossterm::{
    cursor::Show,
    event::{
        DisableBracketedPaste, EnableBracketedPaste, KeyCode, KeyEventKind, KeyModifiers,
        MouseButton, MouseEventKind,
    },
    execute, queue,
    style::Print,
    terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen},
};
use ratatui::{TerminalOptions, Viewport, backend::CrosstermBackend, layout::Rect};

use self::lock::ScreenLock;
pub use self::{
    background::{Answer, Asked, LateAnswer},
    quiet::{Quiet, is_in_foreground},
};
use super::{
    draw::draw,
    key::{Code, Input, Key, Mouse, MouseAction},
    state::State,
    symbols,
};
use crate::sink::text::Symbols;

/// The size taken for a terminal that does not know its own.
const SIZE: (u16, u16) = (80, 24);
/// The most bytes of messages that are kept while the screen is in use.
const MESSAGES: usize = 64 << 10;

/// Mouse reports of buttons and the wheel, without moves, which crossterm would enable too.
const MOUSE_ON: &str = "\x1b[?1000h\x1b[?1006h";
const MOUSE_OFF: &str = "\x1b[?1006l\x1b[?1000l";

/// Synchronized output (DEC 2026): the terminal shows what is between these at once, so that nobody
/// sees half of a page. One that does not know them ignores them.
pub const PAGE_BEGINS: &str = "\x1b[?2026h";
pub const PAGE_ENDS: &str = "\x1b[?2026l";

/// How long the release of the terminal waits for a page in progress.
pub const LAST_PAGE: Duration = Duration::from_millis(100);

/// Whether the terminal is in use, so that it is restored once.
static LOCK: ScreenLock = ScreenLock::new();
/// Whether mouse reports are enabled.
static MOUSE: AtomicBool = AtomicBool::new(true);
/// Messages for after the release.
static PENDING: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Why there is no screen.
#[derive(Debug, thiserror::Error)]
pub enum NoScreen {
    #[error("{0} is not a terminal; use `flow top`, which needs none, or see `flow --help`")]
    NoTerminal(&'static str),
    #[error("a `dumb` terminal has no screen to draw on; use `flow top`, which needs none")]
    Dumb,
    #[error("cannot set up the terminal: {0}; use `flow top`, which needs none")]
    Refused(io::Error),
}

/// The terminal while it is taken over; dropping this restores it.
pub struct Screen {
    /// Its content, as far as that is known.
    shown: Option<(Rect, Drawn)>,
    page: Page,
    symbols: Symbols,
    /// Sequences to send with the next page.
    request: Vec<u8>,
}

type Drawn = ratatui::Terminal<CrosstermBackend<Page>>;

/// What is drawn and not yet written.
#[derive(Clone, Debug, Default)]
struct Page(Rc<RefCell<Vec<u8>>>);

impl Screen {
    /// Takes over a terminal that shows these symbols, and the mouse if wanted.
    ///
    /// # Errors
    /// It cannot be.
    pub fn take(mouse: bool, symbols: Symbols) -> Result<Self, NoScreen> {
        give_back_in_a_panic();
        MOUSE.store(mouse, Ordering::Release);
        enter().map_err(NoScreen::Refused)?;
        Ok(Self {
            shown: None,
            page: Page::default(),
            symbols,
            request: Vec::new(),
        })
    }

    /// The bytes that make the screen show the state, for [`write`].
    ///
    /// # Errors
    /// They cannot be made.
    pub fn draw(&mut self, state: &State) -> io::Result<Vec<u8>> {
        let (columns, rows) = state.size;
        let area = Rect::new(0, 0, columns, rows);
        let mut shown = match self.shown.take() {
            Some((place, shown)) if place == area => shown,
            _ => self.blank(area)?,
        };
        shown.draw(|frame| {
            draw(state, frame);
            symbols::translate(self.symbols, frame.buffer_mut());
        })?;
        self.shown = Some((area, shown));
        let page = std::mem::take(&mut *self.page.0.borrow_mut());
        let mut bytes = at_once(page);
        bytes.append(&mut self.request);
        Ok(bytes)
    }

    /// Asks the terminal with the next page to set its clipboard; it may refuse.
    pub fn copy(&mut self, text: &str) {
        // One that was not sent yet would be replaced anyway.
        self.request = clipboard::copy(text, clipboard::in_tmux()).into_bytes();
    }

    /// An empty screen. It is made anew because ratatui's `clear` asks the terminal for its cursor,
    /// and waits for the answer.
    fn blank(&mut self, area: Rect) -> io::Result<Drawn> {
        queue!(self.page, Clear(ClearType::All))?;
        let viewport = Viewport::Fixed(area);
        let backend = CrosstermBackend::new(self.page.clone());
        ratatui::Terminal::with_options(backend, TerminalOptions { viewport })
    }

    /// The next drawing draws every cell.
    pub fn clear(&mut self) {
        self.shown = None;
    }

    /// Restores the terminal for a while; [`Self::resume`] takes it over again.
    pub fn pause(&self) {
        leave();
    }

    /// Takes the terminal over again.
    ///
    /// # Errors
    /// It cannot be.
    pub fn resume(&mut self) -> io::Result<()> {
        self.clear();
        enter()
    }
}

/// A page that the terminal shows as a whole.
fn at_once(page: Vec<u8>) -> Vec<u8> {
    if page.is_empty() {
        return page;
    }
    [PAGE_BEGINS.as_bytes(), &page, PAGE_ENDS.as_bytes()].concat()
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether there is a terminal to draw on.
///
/// # Errors
/// Why there is none.
pub fn check() -> Result<(), NoScreen> {
    let term = std::env::var_os("TERM");
    let is_dumb = term.is_some_and(|term| term == "dumb");
    check_with(
        io::stdin().is_terminal(),
        io::stdout().is_terminal(),
        is_dumb,
    )
}

fn check_with(reads: bool, writes: bool, is_dumb: bool) -> Result<(), NoScreen> {
    match (writes, reads, is_dumb) {
        (false, _, _) => Err(NoScreen::NoTerminal("standard output")),
        (true, false, _) => Err(NoScreen::NoTerminal("standard input")),
        (true, true, true) => Err(NoScreen::Dumb),
        (true, true, false) => Ok(()),
    }
}

/// Columns and rows of the terminal.
pub fn size() -> (u16, u16) {
    match terminal::window_size() {
        Ok(size) if size.columns > 0 && size.rows > 0 => (size.columns, size.rows),
        // A serial line, say.
        _ => SIZE,
    }
}

/// Converts an event of the terminal; `None` if it means nothing here.
pub fn input(event: crossterm::event::Event) -> Option<Input> {
    use crossterm::event::Event;
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => {
            let shift = key.modifiers.contains(KeyModifiers::SHIFT);
            let code = code(key.code, shift)?;
            Some(Input::Key(Key {
                code,
                ctrl: key.modifiers.contains(KeyModifiers::CONTROL),
                alt: key.modifiers.contains(KeyModifiers::ALT),
            }))
        }
        Event::Mouse(mouse) => {
            let action = match mouse.kind {
                MouseEventKind::Down(MouseButton::Left) => MouseAction::Click,
                MouseEventKind::ScrollUp => MouseAction::WheelUp,
                MouseEventKind::ScrollDown => MouseAction::WheelDown,
                _ => return None,
            };
            Some(Input::Mouse(Mouse {
                action,
                column: mouse.column,
                row: mouse.row,
            }))
        }
        Event::Paste(text) => Some(Input::Paste(text)),
        _ => None,
    }
}

fn code(code: KeyCode, shift: bool) -> Option<Code> {
    Some(match code {
        KeyCode::Up if shift => Code::ShiftUp,
        KeyCode::Down if shift => Code::ShiftDown,
        KeyCode::Char(character) => Code::Char(character),
        KeyCode::F(number) => Code::F(number),
        KeyCode::Enter => Code::Enter,
        KeyCode::Esc => Code::Esc,
        KeyCode::Tab => Code::Tab,
        KeyCode::BackTab => Code::BackTab,
        KeyCode::Backspace => Code::Backspace,
        KeyCode::Delete => Code::Delete,
        KeyCode::Up => Code::Up,
        KeyCode::Down => Code::Down,
        KeyCode::Left => Code::Left,
        KeyCode::Right => Code::Right,
        KeyCode::PageUp => Code::PageUp,
        KeyCode::PageDown => Code::PageDown,
        KeyCode::Home => Code::Home,
        KeyCode::End => Code::End,
        _ => return None,
    })
}

/// Standard error, or a buffer while the screen is in use, where a message would land in the middle
/// of the page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Messages;

impl Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !LOCK.is_taken() {
            return io::stderr().write(bytes);
        }
        let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        // The first messages are the most useful.
        if pending.len() + bytes.len() <= MESSAGES {
            pending.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn enter() -> io::Result<()> {
    let mouse = if MOUSE.load(Ordering::Acquire) {
        MOUSE_ON
    } else {
        ""
    };
    let entered = LOCK.take(|| {
        // Crossterm takes raw mode for given as long as it has not left it; whoever stopped Flow
        // may have.
        terminal::disable_raw_mode()?;
        terminal::enable_raw_mode()?;
        execute!(
            io::stdout(),
            EnterAlternateScreen,
            Print(mouse),
            EnableBracketedPaste
        )
    });
    entered.inspect_err(|_| leave())
}

/// Writes a page with `write`, on any thread. A page after the release of the terminal is dropped.
pub fn write<E>(write: impl FnOnce() -> Result<bool, E>) -> Result<bool, E> {
    LOCK.write(write).unwrap_or(Ok(true))
}

/// Restores the terminal, if it is taken, and writes the pending messages.
fn leave() {
    if !LOCK.release(LAST_PAGE) {
        return;
    }
    // There is no place to report a failure. The last page may have been written in part.
    let _ = execute!(
        io::stdout(),
        Print(PAGE_ENDS),
        DisableBracketedPaste,
        Print(MOUSE_OFF),
        LeaveAlternateScreen,
        Show
    );
    let _ = terminal::disable_raw_mode();
    let pending = std::mem::take(&mut *PENDING.lock().unwrap_or_else(PoisonError::into_inner));
    let _ = io::stderr().write_all(&pending);
}

/// A panic's message needs a restored terminal.
fn give_back_in_a_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            leave();
            before(info);
        }));
    });
}

#[cfg(test)]
mod tests {
    use crossterm::event::{Event, KeyEvent, MouseEvent};

    use super::*;

    #[test]
    fn keys_and_the_mouse_are_understood() {
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(input(Event::Key(key)), Some(Input::Key(Key::ctrl('c'))));
        let mut up = key;
        up.kind = KeyEventKind::Release;
        assert_eq!(input(Event::Key(up)), None);
        let mouse = |kind| MouseEvent {
            kind,
            column: 3,
            row: 4,
            modifiers: KeyModifiers::NONE,
        };
        assert_eq!(
            input(Event::Mouse(mouse(MouseEventKind::ScrollDown))),
            Some(Input::Mouse(Mouse {
                action: MouseAction::WheelDown,
                column: 3,
                row: 4
            }))
        );
        assert_eq!(input(Event::Mouse(mouse(MouseEventKind::Moved))), None);
        assert_eq!(input(Event::FocusLost), None);
    }

    #[test]
    fn a_page_is_shown_at_once_and_none_costs_nothing() {
        assert_eq!(at_once(b"x".into()), b"\x1b[?2026hx\x1b[?2026l");
        assert!(at_once(Vec::new()).is_empty());
    }

    #[test]
    fn without_a_terminal_there_is_another_way() {
        assert!(check_with(true, true, false).is_ok());
        for (reads, writes, is_dumb) in [
            (false, true, false),
            (true, false, false),
            (true, true, true),
        ] {
            let error = check_with(reads, writes, is_dumb).unwrap_err().to_string();
            assert!(error.contains("flow top"), "{error}");
        }
    }
}
