//! What does the help say? Every key, from the table of keys.

use super::{keymap::Topic, state::State, theme::Role};
use crate::sink::text::{width, wrap};

/// Columns of the whole where there is room, and of the keys.
pub(super) const COLUMNS: u16 = 68;
const KEYS: usize = 16;
/// Columns of the frame.
const FRAME: u16 = 4;

/// Its lines, in pieces; none is wider than the box.
pub(super) fn lines(state: &State) -> Vec<Vec<(String, Role)>> {
    let room = usize::from(COLUMNS.min(state.size.0.saturating_sub(FRAME)));
    let mut lines: Vec<Vec<(String, Role)>> = Vec::new();
    for topic in Topic::ALL {
        if !lines.is_empty() {
            lines.push(Vec::new());
        }
        lines.push(vec![(topic.title().to_owned(), Role::Header)]);
        let bindings = state.keys.bindings().iter();
        for binding in bindings.filter(|binding| binding.topic == topic) {
            let keys: Vec<String> = binding.keys.iter().map(ToString::to_string).collect();
            lines.extend(key(&keys.join("  "), binding.help, room));
        }
    }
    let signs = [
        "▼ received  ▲ sent  → opened here  ← opened by the remote",
        "▸ has rows under it  ▾ shows them",
        "∙ is over, and stays a while",
        "! its rates together reach the alert threshold",
        "whose frames: █ socket ▓ forwarded ▒ kernel ░ packet socket ∙ not IP - offload ! unexplained",
    ];
    let mouse = [
        "click a row, a header, a tab; double click opens; the wheel scrolls",
        "in a question a click chooses, a double click answers",
        "a click beside a box closes it",
    ];
    let title = |text: &str| vec![(text.to_owned(), Role::Header)];
    lines.extend([Vec::new(), title("Mouse")]);
    lines.extend(mouse.iter().flat_map(|text| says(text, room)));
    lines.extend([Vec::new(), title("Signs")]);
    lines.extend(signs.iter().flat_map(|text| says(text, room)));
    lines
}

/// Keys and what they do, which has lines of its own where the keys leave no room.
fn key(keys: &str, help: &str, room: usize) -> Vec<Vec<(String, Role)>> {
    let before = |text: &str| (format!(" {text:KEYS$} "), Role::Strong);
    let mut help = wrap(help, least(room, KEYS + 2)).into_iter();
    let mut lines: Vec<Vec<(String, Role)>> = Vec::new();
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

fn says(text: &str, room: usize) -> impl Iterator<Item = Vec<(String, Role)>> {
    let lines = wrap(text, least(room, 1)).into_iter();
    lines.map(|line| vec![(format!(" {line}"), Role::Plain)])
}

/// What is left of the room; enough for a character in any case.
fn least(room: usize, taken: usize) -> usize {
    room.saturating_sub(taken).max(2)
}
