//! The help is read.

use super::{pause, turn_units};
use crate::tui::{
    boxes,
    effect::Effect,
    help,
    key::{Code, Key},
    keymap::Action,
    state::{Popup, State},
};

/// A key while it is open.
pub(super) fn key(state: &mut State, key: Key) -> Vec<Effect> {
    let page = page(state).max(1);
    match state.keys.action(key) {
        Some(Action::Up) => scroll(state, |at| at.saturating_sub(1)),
        Some(Action::Down) => scroll(state, |at| at.saturating_add(1)),
        Some(Action::PageUp) => scroll(state, |at| at.saturating_sub(page)),
        Some(Action::PageDown) => scroll(state, |at| at.saturating_add(page)),
        Some(Action::First) => scroll(state, |_| 0),
        Some(Action::Last) => scroll(state, |_| usize::MAX),
        Some(Action::Back | Action::Quit | Action::Help) => drop(state.popups.pop()),
        Some(Action::Pause) => pause(state),
        Some(Action::Units) => turn_units(state),
        Some(Action::Theme) => state.theme = state.theme.next(),
        Some(Action::Redraw) => return vec![Effect::Clear],
        _ if key == Key::plain(Code::Enter) => drop(state.popups.pop()),
        _ => {}
    }
    Vec::new()
}

/// After every event: no further than to the last page.
pub(super) fn hold(state: &mut State) {
    if let Some(Popup::Help(_)) = state.popups.last() {
        let last = help::lines(state).len().saturating_sub(page(state));
        scroll(state, |at| at.min(last));
    }
}

fn scroll(state: &mut State, to: impl Fn(usize) -> usize) {
    if let Some(Popup::Help(at)) = state.popups.last_mut() {
        *at = to(*at);
    }
}

/// Lines that are seen at once.
fn page(state: &State) -> usize {
    boxes::help(state).list.height.into()
}
