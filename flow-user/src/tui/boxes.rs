//! Where do the boxes over the table stand? From the state alone, so that the mouse is understood without a look at
//! what was drawn.

use std::ops::Range;

use ratatui::layout::{Position, Rect};

use super::{
    choice::Choice,
    chooser::{Chooser, HINTS},
    help, layout,
    state::{Popup, State},
};

/// Columns of what is in the box of columns, and in a question.
const CHOOSER: u16 = 52;
const CHOICE: u16 = 66;
/// Columns and rows of a frame; at the sides it keeps a blank from what it frames.
const FRAME: (u16, u16) = (4, 2);
/// Where, in a line of the box of columns, the mark of a column stands.
pub(super) const MARK: Range<u16> = 2..5;

/// A box.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub frame: Rect,
    pub inside: Rect,
    /// The lines in it that can be scrolled.
    pub list: Rect,
}

/// The box on top; `None` if there is none, or a detail.
pub(super) fn place(state: &State) -> Option<Place> {
    match state.popups.last()? {
        Popup::Detail(_) => None,
        Popup::Help(_) => Some(help(state)),
        Popup::Columns(chooser) => Some(columns(state, chooser)),
        Popup::Choice(choice) => Some(question(state, choice)),
    }
}

pub(super) fn help(state: &State) -> Place {
    centred(state, help::COLUMNS, help::lines(state).len())
}

/// Under the list stand a blank line and hints.
pub(super) fn columns(state: &State, chooser: &Chooser) -> Place {
    let below = HINTS.len() + 1;
    let mut place = centred(state, CHOOSER, chooser.choices.len() + below);
    let below = u16::try_from(below).unwrap_or(u16::MAX);
    place.list.height = place.list.height.saturating_sub(below);
    place
}

/// Above the list of answers stands what is to be known; an answer has room in any case.
pub(super) fn question(state: &State, choice: &Choice) -> Place {
    let above = choice.says().count();
    let mut place = centred(state, CHOICE, above + choice.answers.len());
    let above = u16::try_from(above).unwrap_or(u16::MAX);
    let above = above.min(place.list.height.saturating_sub(1));
    place.list.y += above;
    place.list.height -= above;
    place
}

impl Place {
    /// The line of the list at `position`, if `top` is the first that is seen.
    pub fn line_at(&self, position: Position, top: usize) -> Option<usize> {
        let is_there = self.list.contains(position);
        is_there.then(|| top + usize::from(position.y - self.list.y))
    }

    /// The line of the list that comes first if `top` did, where `at` of `count` lines is to be seen.
    pub fn hold(&self, top: usize, at: usize, count: usize) -> usize {
        let height = usize::from(self.list.height.max(1));
        let top = top.clamp((at + 1).saturating_sub(height), at);
        top.min(count.saturating_sub(height))
    }
}

/// A box for so many columns and lines in the middle of the screen, as far as there is room.
fn centred(state: &State, columns: u16, lines: usize) -> Place {
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
