//! The last line: what is being typed, a word about the last key, or the keys there are.

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
};

use super::text::{Line, split};
use crate::{
    query::human,
    sink::text::{escape, width},
    tui::{
        detail::Detail,
        key::Key,
        keymap::{Action, Binding},
        layout,
        prompt::{Prompt, Purpose},
        state::{Popup, State},
        theme::Role,
    },
};

/// Draws it; says where the cursor of the terminal is, if something is typed.
pub(super) fn draw(state: &State, area: Rect, buffer: &mut Buffer) -> Option<Position> {
    if let Some(prompt) = &state.prompt {
        return Some(typed(state, prompt, area, buffer));
    }
    let place = match &state.note {
        // What is told may take the whole line.
        Some(note) if width(&escape(note)) > usize::from(area.width / 2) => String::new(),
        _ => place(state),
    };
    let needed = u16::try_from(width(&place) + 2).unwrap_or(0);
    let (left, right) = split(area, area.width.saturating_sub(needed));
    let mut line = Line::new(left);
    line.skip(1);
    if let Some(note) = &state.note {
        line.put(state, note, Role::Accent);
    } else if let Some(Popup::Choice(choice)) = state.popups.last() {
        let keys = [
            ("Enter", choice.verb),
            ("Esc", "leaves it"),
            ("↑ ↓", "choose"),
        ];
        line.put_keys(state, &keys);
    } else {
        for (key, hint) in hints(state) {
            let key = key.to_string();
            if line.room() < width(&key) + width(hint) + 3 {
                break;
            }
            line.put_keys(state, &[(&key, hint)]);
        }
    }
    line.draw(buffer);
    let mut line = Line::new(right);
    line.skip(1);
    line.put(state, &place, Role::Dim);
    line.draw(buffer);
    None
}

/// The keys that are of most use here, each with a word.
fn hints(state: &State) -> Vec<(Key, &'static str)> {
    let bindings = state.keys.bindings();
    let key = |binding: &Binding| binding.keys.first().copied();
    let of = |hints: &[(Action, &'static str)]| {
        let hint = |(action, hint): &(Action, &'static str)| {
            let binding = bindings.iter().find(|binding| binding.action == *action);
            (binding.and_then(key), *hint)
        };
        hints.iter().map(hint).collect()
    };
    let hints: Vec<_> = match state.popups.last() {
        None => bindings
            .iter()
            .filter(|binding| !binding.hint.is_empty())
            .map(|binding| (key(binding), binding.hint))
            .collect(),
        Some(Popup::Detail(_)) => of(&IN_DETAIL),
        Some(Popup::Help(_)) => of(&IN_HELP),
        // These tell their keys themselves.
        Some(Popup::Columns(_) | Popup::Choice(_)) => Vec::new(),
    };
    let bound = hints.into_iter();
    bound.filter_map(|(key, hint)| Some((key?, hint))).collect()
}

const IN_DETAIL: [(Action, &str); 10] = [
    (Action::Back, "back"),
    (Action::NextView, "panel"),
    (Action::Open, "open"),
    (Action::Span, "span"),
    (Action::Pause, "pause"),
    (Action::Help, "help"),
    (Action::Kill, "kill"),
    (Action::Close, "close"),
    (Action::Copy, "copy"),
    (Action::Units, "units"),
];

const IN_HELP: [(Action, &str); 3] = [
    (Action::Back, "back"),
    (Action::PageDown, "next page"),
    (Action::PageUp, "previous page"),
];

/// Which rows are seen: `12-40 of 214`, and where the chosen one is if it is not among them.
fn place(state: &State) -> String {
    match state.popups.last() {
        None => {}
        Some(Popup::Detail(detail)) => return place_in(detail),
        Some(Popup::Help(_) | Popup::Columns(_) | Popup::Choice(_)) => return String::new(),
    }
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
        text.insert_str(0, "follows  ");
    }
    if here.chosen.is_some() {
        if here.line < here.offset {
            text.insert_str(0, "chosen row ↑  ");
        } else if here.line >= end {
            text.insert_str(0, "chosen row ↓  ");
        }
    }
    text
}

/// Which row of a detail's panel the cursor is on.
fn place_in(detail: &Detail) -> String {
    match detail.panels.get(detail.focus) {
        Some(rows) if rows.chosen.is_some() => {
            format!("{} of {}", rows.line + 1, rows.entries.len())
        }
        Some(rows) if !rows.entries.is_empty() => human::count(rows.entries.len(), "row", "rows"),
        _ => String::new(),
    }
}

fn typed(state: &State, prompt: &Prompt, area: Rect, buffer: &mut Buffer) -> Position {
    let label = match prompt.purpose {
        Purpose::Filter { .. } => " filter / ",
        Purpose::Search => " go to ",
    };
    // What is wrong stands beside the text, and the text keeps half of the line.
    let wrong = match (&prompt.error, &state.note) {
        (Some((column, message)), _) => format!("column {column}: {message}"),
        (None, Some(note)) => note.clone(),
        (None, None) => String::new(),
    };
    let wrong_width = width(&escape(&wrong)).min(usize::from(area.width / 2));
    let needed = u16::try_from(wrong_width + 2).unwrap_or(0);
    let (left, right) = split(area, area.width.saturating_sub(needed));
    let mut line = Line::new(left);
    line.put(state, label, Role::Accent);
    let room = line.room().saturating_sub(1);
    let (text, skipped) = around_cursor(prompt, room);
    let start = area.x + u16::try_from(width(label)).unwrap_or(0);
    let at = |characters: &str| {
        let columns = width(&escape(characters)).saturating_sub(skipped);
        start.saturating_add(u16::try_from(columns).unwrap_or(u16::MAX))
    };
    line.put(state, &text, Role::Plain);
    line.draw(buffer);
    if let Some((column, _)) = prompt.error {
        mark_error(state, prompt, column, &at, left, buffer);
    }
    let mut line = Line::new(right);
    line.skip(1);
    let role = if prompt.error.is_some() {
        Role::Alarm
    } else {
        Role::Dim
    };
    line.put(state, &wrong, role);
    line.draw(buffer);
    let cursor = at(prompt.before_cursor()).min(area.right().saturating_sub(1));
    Position::new(cursor, area.y)
}

/// The part of the text that has room, with the cursor in it, and the columns before it.
fn around_cursor(prompt: &Prompt, room: usize) -> (String, usize) {
    let shown = escape(&prompt.text).into_owned();
    let before = width(&escape(prompt.before_cursor()));
    let from = before.saturating_sub(room);
    let mut skipped = 0;
    let mut text = String::new();
    let mut used = 0;
    for character in shown.chars() {
        let columns = width(character.encode_utf8(&mut [0; 4]));
        if skipped < from {
            skipped += columns;
        } else if used + columns <= room {
            used += columns;
            text.push(character);
        } else {
            break;
        }
    }
    (text, skipped)
}

/// The character at which the filter stops making sense.
fn mark_error(
    state: &State,
    prompt: &Prompt,
    column: usize,
    at: &dyn Fn(&str) -> u16,
    area: Rect,
    buffer: &mut Buffer,
) {
    let good: String = prompt.text.chars().take(column.saturating_sub(1)).collect();
    let x = at(&good);
    if let Some(cell) = buffer.cell_mut((x, area.y)).filter(|_| x < area.right()) {
        cell.set_style(state.theme.style(Role::Mark));
    }
}
