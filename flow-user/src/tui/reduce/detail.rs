//! What do keys and the mouse do in a detail? Its panels have a cursor each, and one of them has the focus.

use super::{acting, mouse::is_second, next_threshold, pause, turn_units};
use crate::{
    event::Instant,
    query::history::Watched,
    sink::text::width,
    tui::{
        detail::{
            Detail, Of,
            panel::Content,
            places::{self, PanelPlace, Places},
        },
        effect::Effect,
        key::Mouse,
        keymap::Action,
        layout,
        state::{Popup, State},
    },
};

/// Details that lie over each other at most; the lowest goes.
const DEEPEST: usize = 16;
/// Lines that a text has at most.
const LONGEST: usize = 10_000;

/// Opens a detail over what is there.
pub(super) fn open(state: &mut State, detail: Detail) {
    if state.popups.len() >= DEEPEST {
        state.popups.remove(0);
    }
    state.popups.push(Popup::Detail(Box::new(detail)));
}

/// Does what a key means in the detail on top.
pub(super) fn act(state: &mut State, action: Action) -> Vec<Effect> {
    state.note = None;
    match action {
        Action::Up => step(state, -1),
        Action::Down => step(state, 1),
        Action::PageUp => step(state, -page(state)),
        Action::PageDown => step(state, page(state)),
        Action::First => step(state, isize::MIN),
        Action::Last => step(state, isize::MAX),
        Action::NextView | Action::Unfold => turn_focus(state, true),
        Action::PreviousView | Action::Fold => turn_focus(state, false),
        Action::Open => open_row(state),
        Action::Span => state.span = state.span.next(),
        Action::Back | Action::Quit => drop(state.popups.pop()),
        Action::Help => state.popups.push(Popup::Help(0)),
        Action::Pause => pause(state),
        Action::Units => turn_units(state),
        Action::Measures => state.measures = state.measures.next(),
        Action::Threshold => next_threshold(state),
        Action::Theme => state.theme = state.theme.next(),
        Action::Redraw => return vec![Effect::Clear],
        _ => return acting::act(state, action).unwrap_or_default(),
    }
    Vec::new()
}

/// What the open details show: it is remembered whatever it does.
pub(super) fn watched(state: &State) -> Watched {
    let mut watched = Watched::default();
    for popup in &state.popups {
        match popup {
            Popup::Detail(detail) => match &detail.of {
                Of::Process(process) => watched.processes.push(process.id),
                Of::Flow(flow) => watched.flows.push(flow.key),
            },
            Popup::Help(_) | Popup::Columns(_) | Popup::Choice(_) => {}
        }
    }
    watched
}

/// After every event: nothing past the end of a panel is shown.
pub(super) fn hold(state: &mut State) {
    let Some((detail, places)) = top(state) else {
        return;
    };
    let most: Vec<(usize, usize)> = places
        .panels
        .iter()
        .map(|place| {
            let lines = lines(state, detail, place);
            (place.at, lines.saturating_sub(place.body.height.into()))
        })
        .collect();
    let Some(detail) = top_mut(state) else { return };
    for (at, most) in most {
        if let Some(rows) = detail.panels.get_mut(at) {
            rows.offset = rows.offset.min(most);
        }
    }
}

/// Scrolls the panel with the focus.
pub(super) fn scroll(state: &mut State, lines: isize) {
    if let Some(rows) = top_mut(state).and_then(Detail::focused) {
        rows.offset = rows.offset.saturating_add_signed(lines).min(LONGEST);
    }
}

/// A click: on a tab or a panel, which gets the focus, and there on a row. The second of two opens it.
pub(super) fn click(state: &mut State, mouse: Mouse, time: Instant) {
    let Some((detail, places)) = top(state) else {
        return;
    };
    let at = (mouse.column, mouse.row).into();
    if places.tabs.contains(at) {
        let tabs = places::tabs(detail, places.tabs.width);
        let hit = tabs.iter().position(|tab| {
            let end = usize::from(tab.x) + width(&tab.text);
            tab.x <= mouse.column && usize::from(mouse.column) < end
        });
        if let (Some(panel), Some(detail)) = (hit, top_mut(state)) {
            detail.focus = panel;
        }
        return;
    }
    let hit = places.panels.iter().find(|place| {
        let parts = [place.title, place.header, place.body];
        parts.iter().any(|part| part.contains(at))
    });
    let Some(&PanelPlace {
        at: panel, body, ..
    }) = hit
    else {
        return;
    };
    let Some(detail) = top_mut(state) else { return };
    detail.focus = panel;
    let Some(rows) = detail.panels.get_mut(panel).filter(|_| body.contains(at)) else {
        return;
    };
    let line = rows.offset + usize::from(mouse.row - body.y);
    if line >= rows.entries.len() {
        return;
    }
    rows.choose(line);
    let Some(id) = rows.chosen.clone() else {
        return;
    };
    if is_second(&mut detail.clicked, time, (panel, id)) {
        open_row(state);
    }
}

/// Moves the cursor of the panel with the focus; a text has none, it scrolls.
fn step(state: &mut State, lines: isize) {
    let page = usize::try_from(page(state)).unwrap_or(1);
    let Some(detail) = top_mut(state) else { return };
    let is_text = matches!(
        detail.table().get(detail.focus).map(|panel| panel.content),
        Some(Content::Text(_))
    );
    let Some(rows) = detail.focused() else { return };
    if is_text {
        rows.offset = rows.offset.saturating_add_signed(lines).min(LONGEST);
        return;
    }
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

fn turn_focus(state: &mut State, forward: bool) {
    if let Some(detail) = top_mut(state) {
        let count = detail.table().len();
        let step = if forward { 1 } else { count - 1 };
        detail.focus = (detail.focus + step) % count;
    }
}

/// Opens what the cursor stands on.
fn open_row(state: &mut State) {
    let Some(Popup::Detail(detail)) = state.popups.last() else {
        return;
    };
    let rows = detail.panels.get(detail.focus);
    let Some(row) = rows.and_then(|rows| rows.under_cursor()) else {
        return;
    };
    match detail.open_row(row, &state.shown, &state.states) {
        Some(opened) => open(state, opened),
        None => state.note = Some("this row has no detail".to_owned()),
    }
}

/// Rows of the panel with the focus that are seen at once.
fn page(state: &State) -> isize {
    let place = top(state).and_then(|(detail, places)| {
        let mut panels = places.panels.into_iter();
        panels.find(|place| place.at == detail.focus)
    });
    let height = place.map_or(1, |place| place.body.height.max(1));
    isize::try_from(height).unwrap_or(1)
}

fn lines(state: &State, detail: &Detail, place: &PanelPlace) -> usize {
    match detail.table().get(place.at).map(|panel| panel.content) {
        Some(Content::Text(facts)) => {
            places::text_lines(state, detail, facts, place.body.width).len()
        }
        Some(Content::Table { .. }) => detail.panels[place.at].entries.len(),
        None => 0,
    }
}

fn top(state: &State) -> Option<(&Detail, Places)> {
    match state.popups.last() {
        Some(Popup::Detail(detail)) if layout::fits(state.size) => {
            Some((detail, places::places(state, detail)))
        }
        _ => None,
    }
}

fn top_mut(state: &mut State) -> Option<&mut Detail> {
    match state.popups.last_mut() {
        Some(Popup::Detail(detail)) => Some(detail),
        _ => None,
    }
}
