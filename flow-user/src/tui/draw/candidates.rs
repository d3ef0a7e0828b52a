//! What could stand at the cursor while a filter is typed: as much as one line has room for.

use ratatui::{buffer::Buffer, layout::Rect};

use super::text::Line;
use crate::tui::{
    layout::{self, MORE, OFFER_SIGN, OFFERS},
    prompt::Prompt,
    state::State,
    theme::Role,
};

pub(super) fn draw(state: &State, prompt: &Prompt, area: Rect, buffer: &mut Buffer) {
    let candidates = &prompt.completion.candidates;
    let mut line = Line::new(area);
    line.skip(1);
    if candidates.is_empty() {
        if prompt.error.is_none() {
            line.put_keys(state, &[("Enter", "keeps it")]);
        }
        line.put_keys(state, &[("Esc", "leaves it as it was")]);
        return line.draw(buffer);
    }
    line.put(state, OFFERS, Role::Accent);
    let (offers, more) = layout::offers(state);
    for offer in offers {
        let (sign, role) = match prompt.taken == Some(offer.at) {
            true => (" ›", Role::Chosen),
            false => ("  ", Role::Dim),
        };
        line.go_to(offer.x);
        line.put(state, sign, Role::Accent);
        let room = usize::from(offer.width).saturating_sub(OFFER_SIGN);
        let style = state.theme.style(role);
        line.put_styled(&candidates[offer.at], room, style);
    }
    if more {
        line.put(state, MORE, Role::Dim);
    }
    line.draw(buffer);
}
