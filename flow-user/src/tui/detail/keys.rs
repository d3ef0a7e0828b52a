//! Keys and the mouse in a detail. Its panels have a cursor each, and one of them has the focus.

use super::{
    Detail,
    detail_layout::{self, PanelPlace},
    panel::Content,
};
use crate::{
    event::Instant,
    sink::text::width,
    tui::{
        acting::{self, Focus},
        effect::Effect,
        key::{Key, Mouse},
        keymap::Action,
        layout,
        popups::help::Help,
        state::{Reply, State},
    },
};

/// The most lines of a text.
const LONGEST: usize = 10_000;

/// Performs the action of a key in the detail on top.
pub(super) fn act(detail: &mut Detail, state: &mut State, key: Key) -> Reply {
    state.note = None;
    let Some(action) = state.keys.action(key) else {
        state.refuse_here(key);
        return Reply::Stay;
    };
    match action {
        Action::View(view) => return Reply::Show(view),
        Action::Up => step(detail, state, -1),
        Action::Down => step(detail, state, 1),
        Action::PageUp => step(detail, state, -page(detail, state)),
        Action::PageDown => step(detail, state, page(detail, state)),
        Action::First => step(detail, state, isize::MIN),
        Action::Last => step(detail, state, isize::MAX),
        Action::NextView | Action::Unfold => turn_focus(detail, true),
        Action::PreviousView | Action::Fold => turn_focus(detail, false),
        Action::Open => return open_row(detail, state),
        Action::Span => state.span = state.span.next(),
        Action::Back | Action::Quit => return Reply::Close,
        Action::Help => return Reply::Open(Box::new(Help::default())),
        Action::Pause => {
            state.pause();
            if !state.is_paused() {
                detail.take(&state.shown, &state.states, &*state.world);
            }
        }
        Action::Units => state.turn_units(),
        Action::Measures => state.turn_measures(),
        Action::Threshold => state.next_threshold(),
        Action::Theme => state.theme = state.theme.next(),
        Action::Redraw => return Reply::Do(Effect::Clear),
        Action::Export => state.set_note("only a table can be exported, not a detail"),
        _ => match acting::act(state, action, focus(detail)) {
            Some(reply) => return reply,
            None => state.refuse_here(key),
        },
    }
    Reply::Stay
}

/// Limits scrolling to the end of each panel.
pub(super) fn clamp_scroll(detail: &mut Detail, state: &State) {
    if !layout::fits(state.size) {
        return;
    }
    for place in detail_layout::places(state, detail).panels {
        let lines = lines(state, detail, &place);
        let most = lines.saturating_sub(place.body.height.into());
        if let Some(rows) = detail.panels.get_mut(place.at) {
            rows.offset = rows.offset.min(most);
        }
    }
}

/// Scrolls the panel with the focus.
pub(super) fn scroll(detail: &mut Detail, lines: isize) {
    if let Some(rows) = detail.focused() {
        rows.offset = rows.offset.saturating_add_signed(lines).min(LONGEST);
    }
}

/// A click: on a tab or a panel, which gets the focus, and there on a row. The second of two opens
/// it.
pub(super) fn click(detail: &mut Detail, state: &mut State, mouse: Mouse, time: Instant) -> Reply {
    let places = detail_layout::places(state, detail);
    let at = (mouse.column, mouse.row).into();
    if places.tabs.contains(at) {
        let tabs = detail_layout::tabs(detail, places.tabs.width);
        let hit = tabs.iter().position(|tab| {
            let end = usize::from(tab.x) + width(&tab.text);
            tab.x <= mouse.column && usize::from(mouse.column) < end
        });
        detail.focus = hit.unwrap_or(detail.focus);
        return Reply::Stay;
    }
    let hit = places.panels.iter().find(|place| {
        let parts = [place.title, place.header, place.body];
        parts.iter().any(|part| part.contains(at))
    });
    let Some(&PanelPlace {
        at: panel, body, ..
    }) = hit
    else {
        return Reply::Stay;
    };
    detail.focus = panel;
    let Some(rows) = detail.panels.get_mut(panel).filter(|_| body.contains(at)) else {
        return Reply::Stay;
    };
    let line = rows.offset + usize::from(mouse.row - body.y);
    if line >= rows.entries.len() {
        return Reply::Stay;
    }
    rows.choose(line);
    let Some(id) = rows.chosen.clone() else {
        return Reply::Stay;
    };
    match detail.clicked.is_second(time, (panel, id)) {
        true => open_row(detail, state),
        false => Reply::Stay,
    }
}

/// The selected row of a table; the subject of the detail is what keys act on otherwise.
fn focus(detail: &Detail) -> Focus {
    Focus {
        row: detail.chosen().cloned(),
        whole: Some(detail.of.subject()),
    }
}

/// Moves the cursor of the panel with the focus; a text has none, it scrolls.
fn step(detail: &mut Detail, state: &State, lines: isize) {
    let page = usize::try_from(page(detail, state)).unwrap_or(1);
    let is_text = matches!(
        detail.table().get(detail.focus).map(|panel| panel.content),
        Some(Content::Text(_))
    );
    if is_text {
        return scroll(detail, lines);
    }
    let Some(rows) = detail.focused() else { return };
    let to = match (&rows.chosen, lines) {
        (None, -1 | 1) => rows.offset,
        (None, _) => rows.offset.saturating_add_signed(lines),
        (Some(_), _) => rows.line.saturating_add_signed(lines),
    };
    rows.choose(to);
    rows.offset = rows
        .offset
        .clamp((rows.line + 1).saturating_sub(page), rows.line);
}

fn turn_focus(detail: &mut Detail, forward: bool) {
    let count = detail.table().len();
    let step = if forward { 1 } else { count - 1 };
    detail.focus = (detail.focus + step) % count;
}

/// Opens the row under the cursor.
fn open_row(detail: &Detail, state: &mut State) -> Reply {
    let rows = detail.panels.get(detail.focus);
    let Some(row) = rows.and_then(|rows| rows.under_cursor()) else {
        return Reply::Stay;
    };
    match detail.open_row(row, state) {
        Some(opened) => Reply::Open(Box::new(opened)),
        None => {
            state.set_note("this row has no detail");
            Reply::Stay
        }
    }
}

/// Rows of the panel with the focus that are seen at once.
fn page(detail: &Detail, state: &State) -> isize {
    let mut panels = match layout::fits(state.size) {
        true => detail_layout::places(state, detail).panels.into_iter(),
        false => Vec::new().into_iter(),
    };
    let place = panels.find(|place| place.at == detail.focus);
    let height = place.map_or(1, |place| place.body.height.max(1));
    isize::try_from(height).unwrap_or(1)
}

fn lines(state: &State, detail: &Detail, place: &PanelPlace) -> usize {
    match detail.table().get(place.at).map(|panel| panel.content) {
        Some(Content::Text(facts)) => {
            detail_layout::text_lines(state, detail, facts, place.body.width).len()
        }
        Some(Content::Table { .. }) => detail.panels[place.at].entries.len(),
        None => 0,
    }
}
