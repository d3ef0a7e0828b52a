//! Moves the cursor. It belongs to a row and follows it.

use crate::tui::{
    keymap::Action,
    layout,
    state::{Hold, State},
    views::ViewId,
};

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
    let to_newest = state.to_newest();
    match (step, to_newest) {
        (Step::First, Some(Action::First)) | (Step::Last, Some(Action::Last)) => {
            return follow_newest(state);
        }
        _ => {}
    }
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
    hold_row(state);
}

/// Lets the selection go: what comes is seen.
fn follow_newest(state: &mut State) {
    let here = state.here_mut();
    here.chosen = None;
    here.hold = Hold::Newest;
    state.set_note("follows the newest event");
}

/// What is selected stays in its line, if it is seen.
fn hold_row(state: &mut State) {
    let page = page(state);
    let here = state.here_mut();
    let below = here.line.checked_sub(here.offset);
    here.hold = match below.filter(|below| here.chosen.is_some() && *below < page) {
        Some(below) => Hold::Row(below),
        None => Hold::Nothing,
    };
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

/// After every event: limits scrolling, and keeps a followed row visible. In the log of events,
/// where rows come at one end, the selected row stays where it is.
pub(super) fn keep_visible(state: &mut State) {
    let is_chosen = state.chosen().is_some();
    match (state.view, state.here().hold) {
        (ViewId::Events, Hold::Row(below)) if is_chosen => {
            let below = below.min(page(state) - 1);
            let here = state.here_mut();
            here.offset = here.line.saturating_sub(below);
        }
        (ViewId::Events, Hold::Newest) => match state.to_newest() {
            Some(Action::First) => state.here_mut().offset = 0,
            Some(_) => state.here_mut().offset = usize::MAX,
            None => {}
        },
        _ if state.follow && is_chosen => show(state),
        _ => {}
    }
    bound(state);
    if matches!(state.here().hold, Hold::Row(_)) {
        // Where the rows fill the page no longer, or not yet, it cannot stay.
        hold_row(state);
    }
}

/// Scrolls without moving the cursor.
pub(super) fn scroll(state: &mut State, lines: isize) {
    let here = state.here_mut();
    here.offset = here.offset.saturating_add_signed(lines);
    bound(state);
    hold_row(state);
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
