//! Sort order and grouping.

use crate::tui::{layout, popups::sort::sortable, state::State};

/// Sorts by the next column on the screen, the rates first; after the last one by the default of the
/// view.
pub(super) fn next_sort(state: &mut State, forward: bool) {
    let slots = layout::slots(state);
    let columns = sortable(slots.iter().map(|slot| slot.column));
    let now = state.here().sort.and_then(|(sorted, _)| {
        let mut columns = columns.iter();
        columns.position(|column| column.name == sorted.name)
    });
    let next = match (now, forward) {
        (None, true) => 0,
        (None, false) => columns.len().saturating_sub(1),
        (Some(at), true) => at + 1,
        (Some(0), false) => columns.len(),
        (Some(at), false) => at - 1,
    };
    state.sort_by(columns.get(next).copied());
}

pub(super) fn reverse(state: &mut State) {
    let columns = state.view.columns();
    let rate = || columns.iter().find(|column| column.name == "rate");
    let here = state.here_mut();
    here.sort = match here.sort {
        Some((column, reverse)) => Some((column, !reverse)),
        None => rate().map(|column| (column, true)),
    };
    state.stale = true;
}

pub(super) fn next_grouping(state: &mut State) {
    let groupings = state.view.def().groupings;
    if groupings.len() < 2 {
        state.set_note("no other grouping here");
        return;
    }
    let here = state.here_mut();
    here.grouping = (here.grouping + 1) % groupings.len();
    here.folding = Default::default();
    here.widths = Default::default();
    state.stale = true;
}
