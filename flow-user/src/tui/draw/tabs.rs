//! The views, and which one is shown.

use ratatui::{buffer::Buffer, layout::Rect};

use crate::{
    sink::text::width,
    tui::{
        layout::{self, TAB_RULE},
        line::Line,
        state::State,
        theme::Role,
    },
};

pub(super) fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let mut line = Line::new(area, state.theme);
    let tabs = layout::tabs(state);
    for (at, tab) in tabs.iter().enumerate() {
        line.go_to(tab.x);
        let (digit, name) = tab.text.split_at(1);
        let roles = match tab.view == state.view {
            true => [Role::Tab, Role::Tab],
            false => [Role::Accent, Role::Plain],
        };
        line.put(digit, roles[0]);
        line.put(name, roles[1]);
        let gap = tabs.get(at + 1).map(|next| next.x - tab.ends);
        if gap.map(usize::from) == Some(width(TAB_RULE)) {
            line.go_to(tab.ends);
            line.put(TAB_RULE, Role::Rule);
        }
    }
    line.draw(buffer);
}
