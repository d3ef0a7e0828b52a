//! The last line: the prompt, a message about the last key, or hints of keys.

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
};

use crate::{
    query::human,
    sink::text::{escape, width},
    tui::{
        key::{Key, Mouse},
        keymap::Action,
        layout,
        line::{Line, split},
        state::State,
        theme::Role,
    },
};

/// Draws it; returns the cursor of the terminal if there is a prompt.
pub(super) fn draw(state: &State, area: Rect, buffer: &mut Buffer) -> Option<Position> {
    if let Some(prompt) = &state.prompt {
        return Some(prompt.draw(state.theme, state.note.as_deref(), area, buffer));
    }
    let (left, right, position) = sides(state, area);
    let mut line = Line::new(left, state.theme);
    line.skip(1);
    if let Some(note) = &state.note {
        line.put(note, Role::Accent);
    } else {
        for Hint { x, key, word, .. } in hints(state, left) {
            line.go_to(x);
            line.put_keys(&[(&key, word)]);
        }
    }
    line.draw(buffer);
    let mut line = Line::new(right, state.theme);
    line.skip(1);
    line.put(&position, Role::Dim);
    line.draw(buffer);
    None
}

/// The key of the hint that a click is on.
pub(in crate::tui) fn key_at(state: &State, mouse: Mouse) -> Option<Key> {
    let area = layout::parts(state).foot;
    let is_there = area.contains((mouse.column, mouse.row).into());
    // A click beside a box closes it, and one click never gives its answer.
    let is_boxed = state.popups.last().is_some_and(|it| !it.hides_table());
    if !is_there || is_boxed || state.prompt.is_some() || state.note.is_some() {
        return None;
    }
    let (left, ..) = sides(state, area);
    let hints = hints(state, left);
    let hit = hints.iter().find(|hint| {
        let end = usize::from(hint.x) + width(&hint.key) + 1 + width(hint.word);
        hint.x <= mouse.column && usize::from(mouse.column) < end
    })?;
    hit.key.parse().ok()
}

/// The part for a message or hints, and the one for the position, with its text.
fn sides(state: &State, area: Rect) -> (Rect, Rect, String) {
    let position = match state.popups.last() {
        Some(popup) => popup.position(),
        None => position(state),
    };
    let position = match &state.note {
        // A message may take the whole line.
        Some(note) if width(&escape(note)) > usize::from(area.width / 2) => String::new(),
        _ => position,
    };
    let needed = u16::try_from(width(&position) + 2).unwrap_or(0);
    let (left, right) = split(area, area.width.saturating_sub(needed));
    (left, right, position)
}

/// A key with its word, and its place.
struct Hint {
    x: u16,
    key: String,
    word: &'static str,
}

/// Words of keys that always have room: without them a user cannot find the others, nor the way
/// out.
const KEPT: [&str; 3] = ["back", "help", "quit"];

/// The hints that have room. The kept ones come last.
fn hints(state: &State, area: Rect) -> Vec<Hint> {
    let hints = match state.popups.last() {
        Some(popup) => popup.hints(state),
        None => of_table(state),
    };
    let (kept, others): (Vec<_>, Vec<_>) =
        hints.into_iter().partition(|(_, word)| KEPT.contains(word));
    let columns = |(key, word): &(String, &str)| width(key) + 1 + width(word) + 2;
    let mut room =
        usize::from(area.width).saturating_sub(1 + kept.iter().map(columns).sum::<usize>());
    let mut shown: Vec<(String, &'static str)> = Vec::new();
    for hint in others {
        let needed = columns(&hint);
        if needed > room {
            break;
        }
        room -= needed;
        shown.push(hint);
    }
    let mut x = 1;
    let place = |hint: (String, &'static str)| {
        let at = x;
        x += u16::try_from(columns(&hint)).unwrap_or(u16::MAX);
        let (key, word) = hint;
        Hint { x: at, key, word }
    };
    shown.into_iter().chain(kept).map(place).collect()
}

/// The keys that are of most use in the table, each with a word.
fn of_table(state: &State) -> Vec<(String, &'static str)> {
    let bindings = state.keys.bindings().iter();
    let has_groupings = state.view.def().groupings.len() > 1;
    let hinted = bindings.filter(|binding| {
        let is_of_use = binding.action != Action::Group || has_groupings;
        !binding.hint.is_empty() && is_of_use
    });
    let hinted =
        hinted.filter_map(|binding| Some((binding.keys.first()?.to_string(), binding.hint)));
    // A selected event stays in view, whatever comes.
    let newest = state.to_newest().filter(|_| state.chosen().is_some());
    let newest = newest.map(|key| state.hints(&[(key, "newest")]));
    newest.into_iter().flatten().chain(hinted).collect()
}

/// The range of visible rows: `12-40 of 214`, and the direction of the selected one if it is not
/// among them.
fn position(state: &State) -> String {
    let rows = state.rows.len();
    let here = state.here();
    let height = usize::from(layout::parts(state).body.height);
    let end = (here.offset + height).min(rows);
    let mut text = match rows {
        0 => "no rows".to_owned(),
        _ if here.offset == 0 && end == rows => human::count(rows, "row", "rows"),
        _ => format!("{}-{end} of {rows}", here.offset + 1),
    };
    if state.follow {
        text.insert_str(0, "following  ");
    }
    if here.chosen.is_some() {
        if here.line < here.offset {
            text.insert_str(0, "selected row ↑  ");
        } else if here.line >= end {
            text.insert_str(0, "selected row ↓  ");
        }
    }
    text
}
