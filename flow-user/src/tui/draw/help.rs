//! The help, in a box.

use ratatui::buffer::Buffer;

use super::popup;
use crate::tui::{boxes, help, state::State};

pub(super) fn draw(state: &State, scroll: usize, buffer: &mut Buffer) {
    let place = boxes::help(state);
    popup::frame(state, "Keys", place.frame, buffer);
    popup::lines(state, &help::lines(state), scroll, place.list, buffer);
}
