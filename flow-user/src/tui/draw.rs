//! The screen, from the state alone. Drawing changes nothing.

mod bar;
mod candidates;
mod choice;
mod columns;
mod detail;
mod foot;
mod help;
mod marks;
mod overview;
mod popup;
mod table;
mod tabs;
mod text;

use ratatui::{Frame, buffer::Buffer, layout::Rect};

use self::text::Line;
use super::{
    layout::{self, LEAST},
    state::{Popup, State},
    theme::Role,
};

/// Draws the screen.
pub fn draw(state: &State, frame: &mut Frame<'_>) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    if !layout::fits((area.width, area.height)) || !layout::fits(state.size) {
        too_small(state, area, buffer);
        return;
    }
    let parts = layout::parts(state);
    overview::draw(state, &parts, buffer);
    tabs::draw(state, parts.tabs, buffer);
    marks::draw(state, parts.marks, buffer);
    table::draw(state, &parts, buffer);
    if let Some(prompt) = &state.prompt {
        candidates::draw(state, prompt, parts.candidates, buffer);
    }
    let cursor = foot::draw(state, parts.foot, buffer);
    let mut popups = state.popups.iter().rev();
    let detail = popups.find_map(|popup| match popup {
        Popup::Detail(detail) => Some(detail),
        Popup::Help(_) | Popup::Columns(_) | Popup::Choice(_) => None,
    });
    if let Some(detail) = detail {
        detail::draw(state, detail, buffer);
    }
    match state.popups.last() {
        None | Some(Popup::Detail(_)) => {}
        Some(Popup::Help(scroll)) => help::draw(state, *scroll, buffer),
        Some(Popup::Columns(chooser)) => columns::draw(state, chooser, buffer),
        Some(Popup::Choice(choice)) => choice::draw(state, choice, buffer),
    }
    if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
}

/// What stands on a screen that has no room for a table: as much as fits.
fn too_small(state: &State, area: Rect, buffer: &mut Buffer) {
    let (columns, rows) = LEAST;
    let lines = [
        format!("flow needs {columns}×{rows}"),
        format!("this is {}×{}", area.width, area.height),
        "q quits".to_owned(),
    ];
    for (y, text) in (area.y..area.bottom()).zip(&lines) {
        let mut line = Line::new(Rect {
            y,
            height: 1,
            ..area
        });
        line.put(state, text, Role::Plain);
        line.draw(buffer);
    }
}
