//! Draws the screen from the state alone.

pub(super) mod bar;
mod filter_bar;
pub(super) mod foot;
pub(super) mod overview;
pub(super) mod table;
mod tabs;

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::{Position, Rect},
};

use super::{
    layout::{self, LEAST},
    line::Line,
    state::State,
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
    let cursor = page(state, buffer);
    state.depth.reduce(buffer);
    if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
}

/// Draws all of it; returns the cursor of the terminal if a line is typed.
fn page(state: &State, buffer: &mut Buffer) -> Option<Position> {
    let parts = layout::parts(state);
    overview::draw(state, &parts, buffer);
    tabs::draw(state, parts.tabs, buffer);
    filter_bar::draw(state, parts.marks, buffer);
    table::draw(state, &parts, buffer);
    if let Some(prompt) = &state.prompt {
        prompt.draw_candidates(state.theme, parts.candidates, buffer);
    }
    let cursor = foot::draw(state, parts.foot, buffer);
    // Of popups over each other the last one is visible, and the last detail under it.
    let detail = state.popups.iter().rposition(|popup| popup.hides_table());
    let top = state.popups.len().checked_sub(1);
    let seen = detail.into_iter().chain(top.filter(|_| top != detail));
    for at in seen {
        state.popups[at].draw(state, buffer);
    }
    cursor
}

/// The message on a screen without room for a table: as much as fits.
fn too_small(state: &State, area: Rect, buffer: &mut Buffer) {
    let (columns, rows) = LEAST;
    let lines = [
        format!("flow needs {columns}×{rows}"),
        format!("this is {}×{}", area.width, area.height),
        "q quits".to_owned(),
    ];
    for (y, text) in (area.y..area.bottom()).zip(&lines) {
        let mut line = Line::new(Rect { y, ..area }, state.theme);
        line.put(text, Role::Plain);
        line.draw(buffer);
    }
}
