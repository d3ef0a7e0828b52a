//! A box over the table, with lines that may be more than have room.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    symbols::border,
    widgets::{Block, Clear, Widget as _},
};

use super::text::Line;
use crate::tui::{state::State, theme::Role};

/// Pieces of a line.
pub(super) type Pieces = Vec<(String, Role)>;

/// Draws an empty box.
pub(super) fn frame(state: &State, title: &str, place: Rect, buffer: &mut Buffer) {
    Clear.render(place, buffer);
    let block = Block::bordered()
        .border_set(border::ROUNDED)
        .border_style(state.theme.style(Role::Rule));
    block.render(place, buffer);
    let mut line = Line::new(Rect {
        x: place.x + 2,
        width: place.width.saturating_sub(4),
        height: place.height.min(1),
        ..place
    });
    line.put(state, &format!(" {title} "), Role::Strong);
    line.draw(buffer);
}

/// Draws lines from `scroll` on, at most so far that the last page is full.
pub(super) fn lines(
    state: &State,
    lines: &[Pieces],
    scroll: usize,
    area: Rect,
    buffer: &mut Buffer,
) {
    let most = lines.len().saturating_sub(area.height.into());
    let shown = lines.iter().skip(scroll.min(most));
    for (y, pieces) in (area.y..area.bottom()).zip(shown) {
        let mut line = Line::new(Rect {
            y,
            height: 1,
            ..area
        });
        for (text, role) in pieces {
            line.put(state, text, *role);
        }
        line.draw(buffer);
    }
}
