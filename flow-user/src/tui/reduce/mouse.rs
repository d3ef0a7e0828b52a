//! What does the mouse mean?

use std::time::Duration;

use super::{boxes, cursor, detail, open, order::sort_by, show, typing};
use crate::{
    event::Instant,
    sink::text::width,
    tui::{
        effect::Effect,
        key::{Mouse, MouseAction},
        keymap::Action,
        layout,
        state::{Popup, State},
    },
};

/// Lines that one step of the wheel goes.
const WHEEL: isize = 3;
/// Two clicks within this time are one double click.
const DOUBLE: Duration = Duration::from_millis(400);

pub(super) fn take(state: &mut State, mouse: Mouse, time: Instant) -> Vec<Effect> {
    if !layout::fits(state.size) {
        return Vec::new();
    }
    let lines = match mouse.action {
        MouseAction::WheelUp => -WHEEL,
        MouseAction::WheelDown => WHEEL,
        MouseAction::Click => {
            match state.popups.last() {
                None => click(state, mouse, time),
                Some(Popup::Detail(_)) => detail::click(state, mouse, time),
                Some(Popup::Help(_) | Popup::Columns(_) | Popup::Choice(_)) => {
                    return boxes::click(state, mouse, time);
                }
            }
            return Vec::new();
        }
    };
    match state.popups.last_mut() {
        None => cursor::scroll(state, lines),
        Some(Popup::Columns(chooser)) => chooser.step(lines.signum()),
        Some(Popup::Help(scroll)) => *scroll = scroll.saturating_add_signed(lines),
        Some(Popup::Detail(_)) => detail::scroll(state, lines),
        Some(Popup::Choice(choice)) => choice.turn(match lines {
            ..0 => Action::Up,
            _ => Action::Down,
        }),
    }
    Vec::new()
}

/// Whether a click on something is the second of two; otherwise it may be the first.
pub(super) fn is_second<T: PartialEq>(
    clicked: &mut Option<(Instant, T)>,
    time: Instant,
    on: T,
) -> bool {
    let again = clicked
        .take()
        .is_some_and(|(before, it)| it == on && time.since(before) <= DOUBLE);
    if !again {
        *clicked = Some((time, on));
    }
    again
}

fn click(state: &mut State, mouse: Mouse, time: Instant) {
    let parts = layout::parts(state);
    let at = (mouse.column, mouse.row).into();
    if parts.tabs.contains(at) {
        click_tab(state, mouse.column);
    } else if parts.header.contains(at) {
        click_header(state, mouse.column);
    } else if parts.candidates.contains(at) {
        typing::click(state, mouse.column);
    } else if parts.body.contains(at) {
        let line = state.here().offset + usize::from(mouse.row - parts.body.y);
        click_row(state, line, time);
    }
}

fn click_tab(state: &mut State, column: u16) {
    let tabs = layout::tabs(state);
    let hit = tabs.iter().find(|tab| {
        let end = usize::from(tab.x) + width(&tab.text);
        tab.x <= column && usize::from(column) < end
    });
    if let Some(view) = hit.map(|tab| tab.view) {
        show(state, view);
    }
}

/// Sorts by the column; if that was so already, the other way round.
fn click_header(state: &mut State, x: u16) {
    let slots = layout::slots(state);
    let hit = slots
        .iter()
        .find(|slot| slot.x <= x && x < slot.x + slot.width && !slot.column.header.is_empty());
    let Some(column) = hit.map(|slot| slot.column) else {
        return;
    };
    match state.here().sort {
        Some((sorted, reverse)) if sorted.name == column.name => {
            state.here_mut().sort = Some((column, !reverse));
            state.stale = true;
        }
        _ => sort_by(state, Some(column)),
    }
}

fn click_row(state: &mut State, line: usize, time: Instant) {
    let Some(key) = state.rows.key(line) else {
        return;
    };
    cursor::choose(state, line);
    if is_second(&mut state.clicked, time, key) {
        typing::leave(state);
        open(state);
    }
}
