//! The last line: the prompt, a message about the last key, or hints of keys.

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
};

use crate::{
    query::human,
    sink::text::{escape, width},
    tui::{
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
    let (hints, position) = match state.popups.last() {
        Some(popup) => (popup.hints(state), popup.position()),
        None => (hints(state), position(state)),
    };
    let position = match &state.note {
        // A message may take the whole line.
        Some(note) if width(&escape(note)) > usize::from(area.width / 2) => String::new(),
        _ => position,
    };
    let needed = u16::try_from(width(&position) + 2).unwrap_or(0);
    let (left, right) = split(area, area.width.saturating_sub(needed));
    let mut line = Line::new(left, state.theme);
    line.skip(1);
    if let Some(note) = &state.note {
        line.put(note, Role::Accent);
    } else {
        for (key, hint) in hints {
            if line.room() < width(&key) + width(hint) + 3 {
                break;
            }
            line.put_keys(&[(&key, hint)]);
        }
    }
    line.draw(buffer);
    let mut line = Line::new(right, state.theme);
    line.skip(1);
    line.put(&position, Role::Dim);
    line.draw(buffer);
    None
}

/// The keys that are of most use in the table, each with a word.
fn hints(state: &State) -> Vec<(String, &'static str)> {
    let bindings = state.keys.bindings().iter();
    let hinted = bindings.filter(|binding| !binding.hint.is_empty());
    hinted
        .filter_map(|binding| Some((binding.keys.first()?.to_string(), binding.hint)))
        .collect()
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
