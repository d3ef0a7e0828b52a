//! What do clicks mean where a box lies over the table?

use super::{acting, columns, mouse::is_second};
use crate::{
    event::Instant,
    tui::{
        boxes::{self, MARK},
        effect::Effect,
        key::{Code, Key, Mouse},
        layout,
        state::{Popup, State},
    },
};

/// After every event: what is chosen in a list is seen. Nothing else scrolls it, so that the second of two clicks finds
/// what the first did.
pub(super) fn hold(state: &mut State) {
    let Some(place) = boxes::place(state).filter(|_| layout::fits(state.size)) else {
        return;
    };
    match state.popups.last_mut() {
        Some(Popup::Columns(it)) => it.top = place.hold(it.top, it.at, it.choices.len()),
        Some(Popup::Choice(it)) => it.top = place.hold(it.top, it.chosen, it.answers.len()),
        _ => {}
    }
}

/// A click beside a box closes it.
pub(super) fn click(state: &mut State, mouse: Mouse, time: Instant) -> Vec<Effect> {
    let Some(place) = boxes::place(state) else {
        return Vec::new();
    };
    let at = (mouse.column, mouse.row).into();
    if !place.frame.contains(at) {
        close(state);
        return Vec::new();
    }
    match state.popups.last() {
        Some(Popup::Columns(chooser)) => {
            let on_mark = MARK.contains(&mouse.column.saturating_sub(place.list.x));
            if let Some(line) = place.line_at(at, chooser.top) {
                columns::click(state, line, on_mark);
            }
        }
        Some(Popup::Choice(choice)) => {
            if let Some(answer) = place.line_at(at, choice.top) {
                return click_answer(state, answer, time);
            }
        }
        _ => {}
    }
    Vec::new()
}

/// As Esc does.
fn close(state: &mut State) {
    match state.popups.last() {
        Some(Popup::Choice(_)) => acting::leave(state),
        _ => drop(state.popups.pop()),
    }
}

/// One click only chooses: what an answer does is not undone by another.
fn click_answer(state: &mut State, answer: usize, time: Instant) -> Vec<Effect> {
    let Some(Popup::Choice(choice)) = state.popups.last_mut() else {
        return Vec::new();
    };
    if answer >= choice.answers.len() {
        return Vec::new();
    }
    choice.chosen = answer;
    if is_second(&mut choice.clicked, time, answer) {
        return acting::answer(state, Key::plain(Code::Enter));
    }
    Vec::new()
}
