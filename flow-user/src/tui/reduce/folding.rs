//! Unfolds and folds rows.

use std::collections::HashSet;

use super::cursor;
use crate::{
    query::entry::Id,
    tui::{
        rows::{Fold, RowKey},
        state::State,
    },
};

/// Unfolds a folded row, or folds it; false if it is neither.
pub(super) fn turn(state: &mut State, line: usize) -> bool {
    match state.rows.lines.get(line).map(|it| it.fold) {
        Some(Fold::Folded) => unfold(state),
        Some(Fold::Open) => fold(state),
        Some(Fold::Nothing) | None => return false,
    }
    true
}

pub(super) fn unfold(state: &mut State) {
    let Some((key, line)) = key_under_cursor(state) else {
        return;
    };
    if state.rows.lines[line].fold == Fold::Nothing {
        return;
    }
    let is_open = is_unfolded(state, line);
    let folding = &mut state.here_mut().folding;
    // In a tree first its descendants come back, then what is under the row itself.
    if !folding.pruned.remove(&key.id) && !is_open {
        turn_over(&mut folding.turned, key);
    }
    state.stale = true;
}

pub(super) fn fold(state: &mut State) {
    let Some((key, line)) = key_under_cursor(state) else {
        return;
    };
    let has_fold = state.rows.lines[line].fold == Fold::Open;
    if has_fold && is_unfolded(state, line) {
        turn_over(&mut state.here_mut().folding.turned, key);
    } else if has_fold {
        state.here_mut().folding.pruned.insert(key.id);
    } else if let Some(above) = state.rows.above(line) {
        cursor::choose(state, above);
        return;
    }
    state.stale = true;
}

/// Whether it is open for other rows than its descendants in a tree, also if there are none now.
fn is_unfolded(state: &State, line: usize) -> bool {
    let lines = &state.rows.lines;
    let this = &lines[line];
    let next = lines.get(line + 1);
    let has_children = state.grouping().tree && next.is_some_and(|next| next.depth > this.depth);
    next.is_some_and(|next| next.nested && next.depth > this.depth)
        || (this.fold == Fold::Open && !has_children)
}

fn turn_over(turned: &mut HashSet<Id>, key: RowKey) {
    if !turned.remove(&key.id) {
        turned.insert(key.id);
    }
}

pub(super) fn fold_all(state: &mut State) {
    let folding = &mut state.here_mut().folding;
    folding.all = !folding.all;
    folding.turned.clear();
    folding.pruned.clear();
    state.stale = true;
}

fn key_under_cursor(state: &State) -> Option<(RowKey, usize)> {
    let line = cursor::line_or_first(state)?;
    Some((state.rows.key(line)?, line))
}
