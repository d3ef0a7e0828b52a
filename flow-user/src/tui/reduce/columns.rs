//! Columns are being chosen.

use super::note;
use crate::tui::{
    chooser::Chooser,
    effect::Effect,
    key::{Code, Key},
    keymap::Action,
    state::{Popup, State},
};

/// Opens the box.
pub(super) fn open(state: &mut State) {
    match Chooser::open(state.view, &state.here().columns) {
        Some(chooser) => state.popups.push(Popup::Columns(chooser)),
        None => note(state, "this view has no columns yet"),
    }
}

/// A key while it is open. Its own come first, then those for moving that the user has.
pub(super) fn key(state: &mut State, key: Key) -> Vec<Effect> {
    let page = isize::try_from(state.size.1 / 2).unwrap_or(isize::MAX);
    let action = state.keys.action(key);
    state.note = None;
    let Some(Popup::Columns(chooser)) = state.popups.last_mut() else {
        return Vec::new();
    };
    match (key.code, key.typed()) {
        (_, Some(' ')) => toggle(state),
        (_, Some('J')) | (Code::ShiftDown, _) => chooser.carry(1),
        (_, Some('K')) | (Code::ShiftUp, _) => chooser.carry(-1),
        (_, Some('r')) => chooser.usual(),
        (Code::Enter, _) => return keep(state),
        (Code::Esc, _) => drop(state.popups.pop()),
        _ => match action {
            Some(Action::Up) => chooser.step(-1),
            Some(Action::Down) => chooser.step(1),
            Some(Action::PageUp) => chooser.step(-page),
            Some(Action::PageDown) => chooser.step(page),
            Some(Action::First) => chooser.at = 0,
            Some(Action::Last) => chooser.step(isize::MAX),
            Some(Action::Help) => state.popups.push(Popup::Help(0)),
            Some(Action::Redraw) => return vec![Effect::Clear],
            Some(Action::Back | Action::Quit | Action::Columns) => drop(state.popups.pop()),
            _ => {}
        },
    }
    Vec::new()
}

/// A click on a line: it goes there; if it was there already, or on the mark, it shows or hides the column.
pub(super) fn click(state: &mut State, line: usize, on_mark: bool) {
    state.note = None;
    let Some(Popup::Columns(chooser)) = state.popups.last_mut() else {
        return;
    };
    if line >= chooser.choices.len() {
        return;
    }
    let was_there = std::mem::replace(&mut chooser.at, line) == line;
    if was_there || on_mark {
        toggle(state);
    }
}

/// Shows or hides the column under the cursor.
fn toggle(state: &mut State) {
    if let Some(Popup::Columns(chooser)) = state.popups.last_mut()
        && !chooser.toggle()
    {
        note(state, "one column stays");
    }
}

/// The view has these columns from now on, also in later runs.
fn keep(state: &mut State) -> Vec<Effect> {
    let Some(Popup::Columns(chooser)) = state.popups.pop() else {
        return Vec::new();
    };
    let columns = chooser.columns();
    let names = columns.iter().map(|column| column.name).collect();
    state.views[chooser.view.index()].columns = columns;
    vec![Effect::KeepColumns(chooser.view, names)]
}
