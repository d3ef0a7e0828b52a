//! A line of text in pieces, each in its role.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::theme::{Role, Theme};
use crate::sink::text::{cut, cut_end, escape, width};

/// A line that is put together from the left, and never leaves its place.
pub(super) struct Line {
    area: Rect,
    theme: Theme,
    used: u16,
    pieces: Vec<(u16, String, Style)>,
}

impl Line {
    /// A line in the first row of `area`.
    pub fn new(area: Rect, theme: Theme) -> Self {
        let height = area.height.min(1);
        Self {
            area: Rect { height, ..area },
            theme,
            used: 0,
            pieces: Vec::new(),
        }
    }

    /// Columns that are left.
    pub fn room(&self) -> usize {
        usize::from(self.area.width - self.used)
    }

    /// Adds text, with the middle cut out where it is too long. It is escaped: the terminal
    /// interprets none of it.
    pub fn put(&mut self, text: &str, role: Role) {
        let room = self.room();
        self.put_styled(text, room, self.theme.style(role));
    }

    /// As [`Self::put`], but the end goes.
    pub fn put_start(&mut self, text: &str, role: Role) {
        let escaped = escape(text);
        let shown = cut_end(&escaped, self.room()).into_owned();
        self.put(&shown, role);
    }

    /// Adds text if it fits as a whole.
    pub fn put_whole(&mut self, text: &str, role: Role) -> bool {
        let fits = width(&escape(text)) <= self.room();
        if fits {
            self.put(text, role);
        }
        fits
    }

    /// Adds text in at most `room` columns.
    pub fn put_styled(&mut self, text: &str, room: usize, style: Style) {
        let escaped = escape(text);
        let shown = cut(&escaped, room.min(self.room()));
        let taken = u16::try_from(width(&shown)).unwrap_or(u16::MAX);
        self.pieces.push((self.used, shown.into_owned(), style));
        self.used = self.used.saturating_add(taken).min(self.area.width);
    }

    /// Adds keys with their descriptions.
    pub fn put_keys(&mut self, keys: &[(&str, &str)]) {
        for (key, does) in keys {
            self.put(key, Role::Accent);
            self.put(&format!(" {does}"), Role::Plain);
            self.skip(2);
        }
    }

    /// Leaves columns blank.
    pub fn skip(&mut self, columns: u16) {
        self.used = self.used.saturating_add(columns).min(self.area.width);
    }

    /// Continues at this column, unless it is further already.
    pub fn go_to(&mut self, column: u16) {
        self.used = self.used.max(column).min(self.area.width);
    }

    /// Draws it.
    pub fn draw(self, buffer: &mut Buffer) {
        let Self { area, pieces, .. } = self;
        if area.is_empty() {
            return;
        }
        for (x, text, style) in pieces {
            let room = usize::from(area.width.saturating_sub(x));
            buffer.set_stringn(area.x + x, area.y, text, room, style);
        }
    }
}

/// The left part of an area, and what is to the right of it.
pub(super) fn split(area: Rect, columns: u16) -> (Rect, Rect) {
    let columns = columns.min(area.width);
    let left = Rect {
        width: columns,
        ..area
    };
    let right = Rect {
        x: area.x + columns,
        width: area.width - columns,
        ..area
    };
    (left, right)
}
