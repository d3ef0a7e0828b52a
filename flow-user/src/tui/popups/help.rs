//! The help: every key, from the table of keys, and the meaning of signs.

use ratatui::buffer::Buffer;
use strum::IntoEnumIterator as _;

use super::popup_layout::{FRAME, Pieces, Place, centred, draw_lines};
use crate::{
    event::Instant,
    sink::text::{width, wrap},
    tui::{
        effect::Effect,
        key::{Code, Key, Mouse},
        keymap::{Action, Topic},
        state::{Popup, Reply, State},
        theme::Role,
    },
};

/// Columns of the whole where there is room, and of the keys.
const COLUMNS: u16 = 68;
const KEYS: usize = 16;

/// The help, with its scroll position.
#[derive(Debug, Default)]
pub(in crate::tui) struct Help {
    /// The line at the top.
    top: usize,
}

impl Popup for Help {
    fn key(&mut self, state: &mut State, key: Key) -> Reply {
        let page = usize::from(place(state).list.height).max(1);
        match state.keys.action(key) {
            Some(Action::Up) => self.top = self.top.saturating_sub(1),
            Some(Action::Down) => self.top = self.top.saturating_add(1),
            Some(Action::PageUp) => self.top = self.top.saturating_sub(page),
            Some(Action::PageDown) => self.top = self.top.saturating_add(page),
            Some(Action::First) => self.top = 0,
            Some(Action::Last) => self.top = usize::MAX,
            Some(Action::Back | Action::Quit | Action::Help) => return Reply::Close,
            Some(Action::Pause) => state.pause(),
            Some(Action::Units) => state.turn_units(),
            Some(Action::Theme) => state.theme = state.theme.next(),
            Some(Action::Redraw) => return Reply::Do(Effect::Clear),
            _ if key == Key::plain(Code::Enter) => return Reply::Close,
            _ => {}
        }
        Reply::Stay
    }

    fn click(&mut self, state: &mut State, mouse: Mouse, _: Instant) -> Reply {
        match place(state).has(mouse) {
            true => Reply::Stay,
            false => Reply::Close,
        }
    }

    fn scroll(&mut self, _: &State, lines: isize) {
        self.top = self.top.saturating_add_signed(lines);
    }

    /// No further than to the last page.
    fn clamp_scroll(&mut self, state: &State) {
        let page = usize::from(place(state).list.height);
        self.top = self.top.min(lines(state).len().saturating_sub(page));
    }

    fn draw(&self, state: &State, buffer: &mut Buffer) {
        let place = place(state);
        place.draw_frame(state.theme, "Keys", buffer);
        draw_lines(state.theme, &lines(state), self.top, place.list, buffer);
    }

    fn hints(&self, state: &State) -> Vec<(String, &'static str)> {
        state.hints(&[
            (Action::Back, "back"),
            (Action::PageDown, "next page"),
            (Action::PageUp, "previous page"),
        ])
    }
}

fn place(state: &State) -> Place {
    centred(state, COLUMNS, lines(state).len())
}

/// Its lines, in pieces; none is wider than the box.
fn lines(state: &State) -> Vec<Pieces> {
    let room = usize::from(COLUMNS.min(state.size.0.saturating_sub(FRAME.0)));
    let mut lines: Vec<Pieces> = Vec::new();
    for topic in Topic::iter() {
        if !lines.is_empty() {
            lines.push(Vec::new());
        }
        lines.push(vec![(topic.to_string(), Role::Header)]);
        let bindings = state.keys.bindings().iter();
        for binding in bindings.filter(|binding| binding.topic == topic) {
            let keys: Vec<String> = binding.keys.iter().map(ToString::to_string).collect();
            lines.extend(key(&keys.join("  "), binding.help, room));
        }
    }
    let signs = [
        "▼ received  ▲ sent  → opened here  ← opened by the remote",
        "▸ has rows under it  ▾ shows them",
        "∙ ended, kept for --history-ttl",
        "! reached the alert threshold (both rates together)",
        "frames by cause: █ socket ▓ forwarded ▒ kernel ░ packet socket ∙ not IP - offload ! unexplained",
    ];
    let mouse = [
        "click a row, a header, a tab; double click opens; the wheel scrolls",
        "in a dialog a click selects, a double click answers",
        "a click outside a dialog closes it",
    ];
    let title = |text: &str| vec![(text.to_owned(), Role::Header)];
    lines.extend([Vec::new(), title("Mouse")]);
    lines.extend(mouse.iter().flat_map(|text| says(text, room)));
    lines.extend([Vec::new(), title("Signs")]);
    lines.extend(signs.iter().flat_map(|text| says(text, room)));
    lines
}

/// Keys with their description, which starts on its own line where the keys leave no room.
fn key(keys: &str, help: &str, room: usize) -> Vec<Pieces> {
    let before = |text: &str| (format!(" {text:KEYS$} "), Role::Strong);
    let mut help = wrap(help, least(room, KEYS + 2)).into_iter();
    let mut lines: Vec<Pieces> = Vec::new();
    if width(keys) <= KEYS {
        let first = help.next().unwrap_or_default();
        lines.push(vec![before(keys), (first, Role::Plain)]);
    } else {
        let all = wrap(keys, least(room, 2)).into_iter();
        lines.extend(all.map(|line| vec![before(&line)]));
    }
    lines.extend(help.map(|line| vec![before(""), (line, Role::Plain)]));
    lines
}

fn says(text: &str, room: usize) -> impl Iterator<Item = Pieces> {
    let lines = wrap(text, least(room, 1)).into_iter();
    lines.map(|line| vec![(format!(" {line}"), Role::Plain)])
}

/// The rest of the room; at least enough for a character.
fn least(room: usize, taken: usize) -> usize {
    room.saturating_sub(taken).max(2)
}
