//! Sort order and grouping.

use crate::{
    query::columns::Column,
    tui::{layout, state::State},
};

/// Sorts by the next column on the screen; after the last one by the default of the view.
pub(super) fn next_sort(state: &mut State, forward: bool) {
    let columns: Vec<_> = layout::slots(state)
        .into_iter()
        .map(|slot| slot.column)
        .filter(|column| !column.header.is_empty())
        .collect();
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
    sort_by(state, columns.get(next).copied());
}

/// Sorts by a column; `None` is the default of the view.
pub(super) fn sort_by(state: &mut State, column: Option<&'static Column>) {
    let here = state.here_mut();
    here.sort = match column {
        Some(column) => Some((column, false)),
        None => here.first_sort,
    };
    let text = match here.sort {
        Some((sorted, _)) if !sorted.header.is_empty() => format!("sorted by {}", sorted.header),
        Some(_) => "default order".to_owned(),
        None => "the busiest first".to_owned(),
    };
    state.stale = true;
    state.set_note(text);
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
        state.set_note("this view has only one grouping");
        return;
    }
    let here = state.here_mut();
    here.grouping = (here.grouping + 1) % groupings.len();
    here.folding = Default::default();
    let name = groupings[here.grouping].name;
    state.set_note(name);
    state.stale = true;
}
