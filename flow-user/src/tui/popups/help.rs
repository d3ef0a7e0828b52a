//! The help: every key, from the table of keys, and the meaning of signs.

use ratatui::buffer::Buffer;
use strum::IntoEnumIterator as _;

use super::popup_layout::{FRAME, Pieces, Place, centred, draw_lines};
use crate::{
    event::Instant,
    query::groups::By,
    sink::text::{width, wrap},
    tui::{
        draw::{bar, overview},
        effect::Effect,
        key::{Code, Key, Mouse},
        keymap::{Action, Topic},
        state::{Popup, Reply, State},
        theme::Role,
        views::ViewId,
    },
};

/// Columns of the text where there is room, of the keys, and between two columns of text.
const COLUMNS: u16 = 70;
const KEYS: usize = 18;
const GAP: u16 = 3;
/// Columns left free beside the box where it has two columns.
const MARGINS: u16 = 4;
/// Columns of a screen with room for two columns of text.
const WIDE: u16 = 120;

/// A sign, and in which views it is.
type Sign = (&'static str, fn(ViewId) -> bool);

/// The signs other than the patterns of bars.
const SIGNS: [Sign; 7] = [
    ("▼ received  ▲ sent", |_| true),
    (
        "→ opened here  ← opened by the remote  ↔ unknown who opened it",
        |view| {
            matches!(
                view,
                ViewId::Group(By::Process | By::Flow | By::Listener) | ViewId::Events
            )
        },
    ),
    ("@ the local address, where there is no remote", |view| {
        view == ViewId::Events
    }),
    (
        "▸ has rows under it  ▾ shows them",
        |view| matches!(view, ViewId::Group(by) if by != By::Interface),
    ),
    (
        "▾ at a header: sorted by it, from the largest  ▴ from the smallest",
        |_| true,
    ),
    ("∙ grey: ended, kept for --history-ttl", |view| {
        view != ViewId::Events
    }),
    ("! above the alert threshold (both rates together)", |_| {
        true
    }),
];

/// The help, with its scroll position.
#[derive(Debug, Default)]
pub(in crate::tui) struct Help {
    /// The line at the top.
    top: usize,
}

impl Popup for Help {
    fn key(&mut self, state: &mut State, key: Key) -> Reply {
        let page = usize::from(place(state).list.height).max(1);
        state.note = None;
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
            _ => state.refuse_here(key),
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
        let lines = lines(state);
        let page = usize::from(place.list.height).max(1);
        let pages = lines.len().div_ceil(page);
        let title = match pages {
            0 | 1 => "Help".to_owned(),
            // The last page is full.
            _ if self.top + page >= lines.len() => format!("Help {pages}/{pages}"),
            _ => format!("Help {}/{pages}", self.top / page + 1),
        };
        place.draw_frame(state.theme, &title, buffer);
        draw_lines(state.theme, &lines, self.top, place.list, buffer);
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
    let (columns, count) = columns(state);
    let whole = columns * count + GAP * (count - 1);
    centred(state, whole, lines(state).len())
}

/// The width of a column of text, and how many there are.
fn columns(state: &State) -> (u16, u16) {
    let room = state.size.0.saturating_sub(FRAME.0);
    match state.size.0 {
        // Beside the box there is room for a click that closes it.
        WIDE.. => (((room - GAP - MARGINS) / 2).min(COLUMNS), 2),
        _ => (room.min(COLUMNS), 1),
    }
}

/// Its lines, in pieces; none is wider than the box.
fn lines(state: &State) -> Vec<Pieces> {
    let (columns, count) = columns(state);
    let mut sections = sections(state, columns.into());
    if count == 1 {
        return joined(sections);
    }
    // Both columns are about as long.
    let lengths: Vec<usize> = sections.iter().map(|it| it.len() + 1).collect();
    let whole: usize = lengths.iter().sum();
    let longer = |first: usize| {
        let left: usize = lengths[..first].iter().sum();
        left.max(whole - left)
    };
    let first = (0..=sections.len()).min_by_key(|first| longer(*first));
    let right = joined(sections.split_off(first.unwrap_or(0)));
    let left = joined(sections);
    let column = usize::from(columns + GAP);
    let line = |at: usize| {
        let mut pieces = left.get(at).cloned().unwrap_or_default();
        let used: usize = pieces.iter().map(|(text, _)| width(text)).sum();
        pieces.push((" ".repeat(column.saturating_sub(used)), Role::Plain));
        pieces.extend(right.get(at).cloned().unwrap_or_default());
        pieces
    };
    (0..left.len().max(right.len())).map(line).collect()
}

/// Sections with blank lines between them.
fn joined(sections: Vec<Vec<Pieces>>) -> Vec<Pieces> {
    let mut lines = Vec::new();
    for section in sections {
        if !lines.is_empty() {
            lines.push(Vec::new());
        }
        lines.extend(section);
    }
    lines
}

/// The parts of the help, each with its title.
fn sections(state: &State, room: usize) -> Vec<Vec<Pieces>> {
    let titled = |title: &str, lines: Vec<Pieces>| {
        let title = vec![(title.to_owned(), Role::Header)];
        std::iter::once(title).chain(lines).collect()
    };
    let said = |texts: &[String]| -> Vec<Pieces> {
        texts.iter().flat_map(|text| says(text, room)).collect()
    };
    let signs = |here: bool| {
        let signs = SIGNS.iter().filter(|(_, is_in)| is_in(state.view) == here);
        let mut texts: Vec<String> = signs.map(|(text, _)| (*text).to_owned()).collect();
        if (state.view == ViewId::Group(By::Interface)) == here {
            texts.insert(0, patterns());
        }
        said(&texts)
    };
    let view = state.view.def().title;
    let mut sections: Vec<Vec<Pieces>> = vec![titled(&format!("Signs in {view}"), signs(true))];
    let unseen = overview::unseen(state);
    if !unseen.is_empty() {
        sections.push(titled(
            "Not seen here (flow doctor says why)",
            said(&unseen),
        ));
    }
    for topic in Topic::iter() {
        let bindings = state.keys.bindings().iter();
        let bindings = bindings.filter(|binding| binding.topic == topic);
        let keys = bindings.flat_map(|binding| {
            let keys: Vec<String> = binding.keys.iter().map(ToString::to_string).collect();
            key(&keys.join(" "), binding.help, room)
        });
        sections.push(titled(&topic.to_string(), keys.collect()));
    }
    let mouse = [
        "click a row, a header, a tab, a key in the last line; double click opens; the wheel scrolls",
        "in a dialog a click selects, a double click answers",
        "a click outside a dialog closes it",
    ];
    sections.push(titled("Mouse", said(&mouse.map(str::to_owned))));
    let others = signs(false);
    if !others.is_empty() {
        sections.push(titled("Signs in other views", others));
    }
    sections
}

/// The patterns of bars.
fn patterns() -> String {
    const CAUSES: [&str; 7] = [
        "socket",
        "forwarded",
        "kernel",
        "packet socket",
        "not IP",
        "offload",
        "unexplained",
    ];
    let named = (0..).zip(CAUSES);
    let named = named.map(|(at, name)| format!("{} {name}", bar::pattern(at)));
    let named: Vec<String> = named.collect();
    format!("frames by cause: {}", named.join("  "))
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
