//! Moves the cursor. It belongs to a row and follows it.

use crate::tui::{layout, state::State};

/// How far to move.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Lines(isize),
    Pages(isize),
    First,
    Last,
}

/// Moves the cursor, and scrolls it into view. Without a cursor the first visible row gets it.
pub(super) fn step(state: &mut State, step: Step) {
    let Some(last) = state.rows.len().checked_sub(1) else {
        return;
    };
    let page = isize::try_from(page(state)).unwrap_or(isize::MAX);
    let from = state.chosen().map(|_| state.here().line);
    let to = match (step, from) {
        (Step::First, _) => 0,
        (Step::Last, _) => last,
        (Step::Lines(_), None) => state.here().offset,
        (Step::Lines(lines), Some(from)) => from.saturating_add_signed(lines),
        (Step::Pages(pages), from) => from
            .unwrap_or(state.here().offset)
            .saturating_add_signed(pages * page),
    };
    choose(state, to.min(last));
}

/// Puts the cursor on a line, and scrolls to it.
pub(super) fn choose(state: &mut State, line: usize) {
    let key = state.rows.key(line);
    let here = state.here_mut();
    here.chosen = key;
    here.line = line;
    show(state);
}

/// The line of the cursor; without one, the first that is seen.
pub(super) fn line_or_first(state: &State) -> Option<usize> {
    let here = state.here();
    let line = if here.chosen.is_some() {
        here.line
    } else {
        here.offset
    };
    (line < state.rows.len()).then_some(line)
}

/// After every event: limits scrolling, and keeps a followed row visible.
pub(super) fn keep_visible(state: &mut State) {
    if state.follow && state.chosen().is_some() {
        show(state);
    }
    bound(state);
}

/// Scrolls without moving the cursor.
pub(super) fn scroll(state: &mut State, lines: isize) {
    let here = state.here_mut();
    here.offset = here.offset.saturating_add_signed(lines);
    bound(state);
}

/// Rows that are seen at once.
fn page(state: &State) -> usize {
    usize::from(layout::parts(state).body.height).max(1)
}

fn show(state: &mut State) {
    let page = page(state);
    let here = state.here_mut();
    here.offset = here
        .offset
        .clamp((here.line + 1).saturating_sub(page), here.line);
}

fn bound(state: &mut State) {
    let most = state.rows.len().saturating_sub(page(state));
    let here = state.here_mut();
    here.offset = here.offset.min(most);
}
