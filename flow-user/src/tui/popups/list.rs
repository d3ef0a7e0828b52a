//! A list in a box: its cursor, how it scrolls, and how its lines are drawn.

use ratatui::{buffer::Buffer, layout::Rect};

use super::popup_layout::Place;
use crate::tui::{key::Mouse, keymap::Action, layout, line::Line, state::State, theme::Role};

/// The cursor of a list, and how far it is scrolled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct List {
    /// The line under the cursor.
    pub at: usize,
    /// The first one that is seen.
    top: usize,
}

impl List {
    /// With the cursor on this line.
    pub const fn at(line: usize) -> Self {
        Self { at: line, top: 0 }
    }

    /// Moves the cursor if `action` does that, in a list of so many lines.
    pub fn act(&mut self, action: Action, place: &Place, count: usize) -> bool {
        let page = isize::try_from(place.list.height.max(1)).unwrap_or(1);
        match action {
            Action::Up => self.step(-1, count),
            Action::Down => self.step(1, count),
            Action::PageUp => self.step(-page, count),
            Action::PageDown => self.step(page, count),
            Action::First => self.step(isize::MIN, count),
            Action::Last => self.step(isize::MAX, count),
            _ => return false,
        }
        true
    }

    /// Moves the cursor by so many lines.
    pub fn step(&mut self, lines: isize, count: usize) {
        self.at = self.beside(lines, count);
    }

    /// The line so many lines from the cursor.
    pub fn beside(&self, lines: isize, count: usize) -> usize {
        let last = count.saturating_sub(1);
        self.at.saturating_add_signed(lines).min(last)
    }

    /// The line that a click is on.
    pub fn line_at(&self, place: &Place, mouse: Mouse, count: usize) -> Option<usize> {
        let line = place.line_at(mouse, self.top)?;
        (line < count).then_some(line)
    }

    /// Keeps the cursor visible. Nothing else scrolls, so that both clicks of a double click hit the
    /// same line.
    pub fn keep_visible(&mut self, state: &State, place: &Place, count: usize) {
        if layout::fits(state.size) {
            self.top = place.scroll_to(self.top, self.at, count);
        }
    }

    /// Lines of `rows` from the first that is seen, each with its number.
    pub fn seen<'a, T>(&self, rows: &'a [T]) -> impl Iterator<Item = (usize, &'a T)> {
        rows.iter().enumerate().skip(self.top)
    }

    /// Draws each line as `put` does, after the mark of the cursor.
    pub fn draw<T>(
        &self,
        state: &State,
        rows: &[T],
        area: Rect,
        put: impl Fn(&T, &mut Line),
        buffer: &mut Buffer,
    ) {
        for (y, (at, row)) in (area.y..area.bottom()).zip(self.seen(rows)) {
            let place = Rect {
                y,
                height: 1,
                ..area
            };
            let mut line = Line::new(place, state.theme);
            line.put(if at == self.at { "›" } else { "" }, Role::Accent);
            line.go_to(MARK);
            put(row, &mut line);
            line.draw(buffer);
            if at == self.at {
                state.theme.select(place, buffer);
            }
        }
    }
}

/// Columns of the mark of the cursor.
pub(super) const MARK: u16 = 2;
