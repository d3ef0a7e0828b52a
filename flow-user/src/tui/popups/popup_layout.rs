//! The place and frame of a box, computed from the state alone, so that mouse clicks can be mapped
//! without the drawn page.

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
    symbols::border,
    widgets::{Block, Clear, Widget as _},
};

use crate::tui::{
    key::Mouse,
    layout,
    line::Line,
    state::State,
    theme::{Role, Theme},
};

/// Pieces of a line.
pub(super) type Pieces = Vec<(String, Role)>;

/// Columns and rows of a frame, with a blank inside at each side.
pub(super) const FRAME: (u16, u16) = (4, 2);

/// A box.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub frame: Rect,
    pub inside: Rect,
    /// The lines in it that can be scrolled.
    pub list: Rect,
}

/// A box for so many columns and lines in the middle of the screen, as far as there is room.
pub(super) fn centred(state: &State, columns: u16, lines: usize) -> Place {
    let area = layout::middle(state);
    let lines = u16::try_from(lines).unwrap_or(u16::MAX);
    let width = columns.saturating_add(FRAME.0).min(area.width);
    let height = lines.saturating_add(FRAME.1).min(area.height);
    let frame = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let inside = Rect {
        x: frame.x + FRAME.0 / 2,
        y: frame.y + FRAME.1 / 2,
        width: width.saturating_sub(FRAME.0),
        height: height.saturating_sub(FRAME.1),
    };
    Place {
        frame,
        inside,
        list: inside,
    }
}

impl Place {
    /// Whether a click is on the box, its frame included.
    pub fn has(&self, mouse: Mouse) -> bool {
        self.frame.contains(Position::new(mouse.column, mouse.row))
    }

    /// The line of the list that a click is on, if `top` is the first that is seen.
    pub fn line_at(&self, mouse: Mouse, top: usize) -> Option<usize> {
        let is_there = self.list.contains(Position::new(mouse.column, mouse.row));
        is_there.then(|| top + usize::from(mouse.row - self.list.y))
    }

    /// The line of the list that comes first if `top` did, where `at` of `count` lines is to be
    /// seen.
    pub fn scroll_to(&self, top: usize, at: usize, count: usize) -> usize {
        let height = usize::from(self.list.height.max(1));
        let top = top.clamp((at + 1).saturating_sub(height), at);
        top.min(count.saturating_sub(height))
    }

    /// Draws the box, empty.
    pub fn draw_frame(&self, theme: Theme, title: &str, buffer: &mut Buffer) {
        Clear.render(self.frame, buffer);
        let block = Block::bordered()
            .border_set(border::ROUNDED)
            .border_style(theme.style(Role::Rule));
        block.render(self.frame, buffer);
        let title_place = Rect {
            x: self.frame.x + 2,
            width: self.frame.width.saturating_sub(4),
            ..self.frame
        };
        let mut line = Line::new(title_place, theme);
        line.put(&format!(" {title} "), Role::Strong);
        line.draw(buffer);
    }
}

/// Draws lines from `scroll` on, at most so far that the last page is full.
pub(super) fn draw_lines(
    theme: Theme,
    lines: &[Pieces],
    scroll: usize,
    area: Rect,
    buffer: &mut Buffer,
) {
    let most = lines.len().saturating_sub(area.height.into());
    let shown = lines.iter().skip(scroll.min(most));
    for (y, pieces) in (area.y..area.bottom()).zip(shown) {
        let mut line = Line::new(Rect { y, ..area }, theme);
        for (text, role) in pieces {
            line.put(text, *role);
        }
        line.draw(buffer);
    }
}
