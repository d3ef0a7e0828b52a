//! Clicks and the wheel in the main view.

use super::{cursor, open, settle, show, typing, with_top};
use crate::{
    event::Instant,
    tui::{
        draw::foot,
        effect::Effect,
        key::{Mouse, MouseAction},
        layout,
        state::{Reply, State},
        views::ViewId,
    },
};

/// Lines that one step of the wheel goes.
const WHEEL: isize = 3;

pub(super) fn take(state: &mut State, mouse: Mouse, time: Instant) -> Vec<Effect> {
    if !layout::fits(state.size) {
        return Vec::new();
    }
    let lines = match mouse.action {
        MouseAction::WheelUp => -WHEEL,
        MouseAction::WheelDown => WHEEL,
        MouseAction::Click => {
            if let Some(key) = foot::key_at(state, mouse) {
                return super::take_key(state, key);
            }
            // The tabs stay in view beside a detail.
            let hides_table = state.popups.last().is_some_and(|it| it.hides_table());
            if hides_table && let Some(view) = tab_at(state, mouse) {
                return settle(state, Reply::Show(view));
            }
            let reply = with_top(state, |popup, state| popup.click(state, mouse, time));
            let reply = reply.unwrap_or_else(|| click(state, mouse, time));
            return settle(state, reply);
        }
    };
    let scrolled = with_top(state, |popup, state| popup.scroll(state, lines));
    if scrolled.is_none() {
        cursor::scroll(state, lines);
    }
    Vec::new()
}

fn click(state: &mut State, mouse: Mouse, time: Instant) -> Reply {
    let parts = layout::parts(state);
    let at = (mouse.column, mouse.row).into();
    if let Some(view) = tab_at(state, mouse) {
        show(state, view);
    } else if parts.header.contains(at) {
        click_header(state, mouse.column);
    } else if parts.candidates.contains(at) {
        typing::click(state, mouse.column);
    } else if parts.body.contains(at) {
        let line = state.here().offset + usize::from(mouse.row - parts.body.y);
        return click_row(state, line, time);
    }
    Reply::Stay
}

/// The view whose tab a click is on.
fn tab_at(state: &State, mouse: Mouse) -> Option<ViewId> {
    let Mouse { column, row, .. } = mouse;
    let is_there = layout::parts(state).tabs.contains((column, row).into());
    let tabs = layout::tabs(state);
    let hit = tabs.iter().find(|tab| tab.x <= column && column < tab.ends);
    hit.map(|tab| tab.view).filter(|_| is_there)
}

/// Sorts by the column; if it did already, reverses the order.
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
        _ => state.sort_by(Some(column)),
    }
}

fn click_row(state: &mut State, line: usize, time: Instant) -> Reply {
    let Some(key) = state.rows.key(line) else {
        return Reply::Stay;
    };
    cursor::choose(state, line);
    if !state.clicked.is_second(time, key) {
        return Reply::Stay;
    }
    typing::leave(state);
    open(state)
}
