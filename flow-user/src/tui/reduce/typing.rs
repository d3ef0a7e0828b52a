//! The prompt of the filter, which applies while it is typed, and of the search.

use super::cursor;
use crate::{
    query::{
        columns::{Align, Column},
        filter::{self, Completion},
    },
    tui::{
        key::{Code, Key},
        layout,
        prompt::{Prompt, Purpose, Typed},
        state::State,
    },
};

/// Opens the prompt of the filter, with the current one.
pub(super) fn open_filter(state: &mut State) {
    let before = state.filter.text.clone();
    let purpose = Purpose::Filter {
        before: before.clone(),
    };
    state.prompt = Some(Prompt::new(purpose, before));
    suggest(state);
}

pub(super) fn open_search(state: &mut State) {
    state.prompt = Some(Prompt::new(Purpose::Search, String::new()));
}

pub(super) fn key(state: &mut State, key: Key) {
    let Some(prompt) = &mut state.prompt else {
        return;
    };
    match prompt.key(key) {
        Typed::Changed => return changed(state),
        Typed::Moved => return suggest(state),
        Typed::Other => {}
    }
    let is_search = prompt.purpose == Purpose::Search;
    match key.code {
        Code::Enter => accept(state),
        Code::Esc => cancel(state),
        Code::Down | Code::Tab if is_search => next_match(state, true),
        Code::Up | Code::BackTab if is_search => next_match(state, false),
        Code::Tab => complete(state, |prompt| prompt.complete(true)),
        Code::BackTab => complete(state, |prompt| prompt.complete(false)),
        _ => {}
    }
}

pub(super) fn paste(state: &mut State, text: &str) {
    if let Some(prompt) = &mut state.prompt {
        prompt.insert(text);
        changed(state);
    }
}

/// The text of the prompt changed.
fn changed(state: &mut State) {
    let Some(prompt) = &state.prompt else {
        return;
    };
    if prompt.purpose == Purpose::Search {
        state.searched = prompt.text.clone();
        return search_from_here(state);
    }
    try_filter(state);
    suggest(state);
}

/// A filter that made no sense may name a user who is known by now.
pub(super) fn try_again(state: &mut State) {
    if state.prompt.as_ref().is_some_and(|it| it.error.is_some()) {
        try_filter(state);
    }
}

/// Candidates for the word at the cursor.
fn suggest(state: &mut State) {
    let Some(prompt) = &mut state.prompt else {
        return;
    };
    prompt.taken = None;
    prompt.completion = match prompt.purpose {
        Purpose::Search => Completion::default(),
        Purpose::Filter { .. } => filter::complete(&prompt.text, prompt.cursor, &state.shown),
    };
}

/// Inserts one of the candidates.
fn complete(state: &mut State, take: impl FnOnce(&mut Prompt) -> Typed) {
    let Some(prompt) = &mut state.prompt else {
        return;
    };
    if take(prompt) == Typed::Moved {
        return;
    }
    let goes_round = prompt.taken.is_some();
    try_filter(state);
    if !goes_round {
        suggest(state);
    }
}

/// Inserts the candidate in this column, if any.
pub(super) fn click(state: &mut State, column: u16) {
    let prompt = state.prompt.as_ref();
    if let Some(at) = prompt.and_then(|it| it.offer_at(column, state.size.0)) {
        complete(state, |prompt| prompt.take(at));
    }
}

/// Closes the prompt; the last valid filter applies.
pub(super) fn leave(state: &mut State) {
    state.prompt = None;
}

/// Applies a valid filter; an invalid one reports its error.
fn try_filter(state: &mut State) {
    let Some(prompt) = &mut state.prompt else {
        return;
    };
    let text = prompt.text.clone();
    match state.filter.parse(&text, &*state.world) {
        Ok(filter) => {
            prompt.error = None;
            state.filter.text = text;
            state.filter.filter = filter;
            state.stale = true;
        }
        Err(error) => prompt.error = Some((error.column(), error.message().to_owned())),
    }
}

fn accept(state: &mut State) {
    if let Some(prompt) = &state.prompt
        && prompt.error.is_none()
    {
        state.prompt = None;
    }
}

/// Restores what applied before.
fn cancel(state: &mut State) {
    let Some(prompt) = state.prompt.take() else {
        return;
    };
    if let Purpose::Filter { before } = prompt.purpose {
        set_filter(state, &before);
    }
}

/// Sets a filter that is known to be valid.
pub(super) fn set_filter(state: &mut State, text: &str) {
    if let Ok(filter) = state.filter.parse(text, &*state.world) {
        state.filter.text = text.to_owned();
        state.filter.filter = filter;
        state.stale = true;
    }
}

/// While the text is typed: the row under the cursor may stay.
fn search_from_here(state: &mut State) {
    let from = cursor::line_or_first(state).unwrap_or(0);
    search(state, from, true);
}

pub(super) fn next_match(state: &mut State, forward: bool) {
    let count = state.rows.len();
    let Some(from) = cursor::line_or_first(state) else {
        return;
    };
    let step = if forward { 1 } else { count - 1 };
    search(state, (from + step) % count, forward);
}

/// Puts the cursor on the next row from `from` on whose text has what is searched for; after the
/// last comes the first.
fn search(state: &mut State, from: usize, forward: bool) {
    if state.searched.is_empty() {
        return;
    }
    let wanted = state.searched.to_lowercase();
    let count = state.rows.len();
    let mut lines = (0..count).map(|step| match forward {
        true => (from + step) % count,
        false => (from + count - step) % count,
    });
    let shown: Vec<_> = layout::slots(state)
        .iter()
        .map(|slot| slot.column)
        .collect();
    match lines.find(|line| text_of(state, &shown, *line).contains(&wanted)) {
        Some(line) => {
            state.note = None;
            cursor::choose(state, line);
        }
        None => {
            state.set_note(format!("no row has `{}`", state.searched));
        }
    }
}

/// The text columns of a row, those `shown` and its own, in small letters.
fn text_of(state: &State, shown: &[&Column], line: usize) -> String {
    let Some(entry) = state.rows.entry(line) else {
        return String::new();
    };
    let context = state.context();
    let own = entry.columns().iter();
    let columns = shown.iter().copied().chain(own);
    let mut text = String::new();
    for column in columns {
        if column.align == Align::Left || column.name == "pid" {
            text.push_str(&(column.value)(entry, &context).text());
            text.push(' ');
        }
    }
    text.to_lowercase()
}
