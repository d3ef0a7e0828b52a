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
        Code::Up => recall(state, true),
        Code::Down => recall(state, false),
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
    let is_wrong = |it: &Prompt| it.error.is_some() || it.expected.is_some();
    if state.prompt.as_ref().is_some_and(is_wrong) {
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

/// Recalls an earlier filter, or a later one.
fn recall(state: &mut State, further: bool) {
    if let Some(prompt) = &mut state.prompt
        && prompt.recall(&state.filter.earlier, further) == Typed::Changed
    {
        changed(state);
    }
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

/// Applies the filter as far as it is typed; an invalid one reports its error.
fn try_filter(state: &mut State) {
    let Some(prompt) = &mut state.prompt else {
        return;
    };
    let uid_of = |name: &str| state.world.uid(name);
    let typed = filter::while_typed(&prompt.text, prompt.cursor, &uid_of);
    prompt.error = typed.error.map(|it| (it.column(), it.message().to_owned()));
    prompt.expected = typed.unfinished.map(|it| it.expected().to_owned());
    if let Some((filter, length)) = typed.read {
        state.filter.text = prompt.text.get(..length).unwrap_or_default().to_owned();
        state.filter.filter = state.filter.narrowed(filter);
        state.stale = true;
    }
}

/// Applies the filter as it stands; with a mistake in it, it stays in the prompt.
fn accept(state: &mut State) {
    let Some(prompt) = &mut state.prompt else {
        return;
    };
    let Purpose::Filter { .. } = prompt.purpose else {
        state.prompt = None;
        return;
    };
    let text = prompt.text.clone();
    match state.filter.parse(&text, &*state.world) {
        Ok(filter) => {
            state.prompt = None;
            state.filter.earlier.remember(&text);
            state.filter.text = text;
            state.filter.filter = filter;
            state.stale = true;
        }
        Err(error) => {
            prompt.expected = None;
            prompt.error = Some((error.column(), error.message().to_owned()));
        }
    }
}

/// Restores what applied before.
fn cancel(state: &mut State) {
    let Some(prompt) = state.prompt.take() else {
        return;
    };
    if let Purpose::Filter { before } = prompt.purpose {
        if prompt.text != before {
            state.set_note("cancelled; the filter is as it was");
        }
        set_filter(state, &before);
    }
}

/// Esc in the table: takes back the filter that was typed, then the selection. A filter of the
/// command line stays.
pub(super) fn back(state: &mut State) {
    let given = state.filter.given.clone();
    if state.filter.text.trim() != given.trim() {
        set_filter(state, &given);
        state.set_note(match given.trim() {
            "" => "filter cleared".to_owned(),
            given => format!("back to the filter of the command line: {given}"),
        });
    } else if state.here().chosen.is_some() {
        state.here_mut().chosen = None;
    } else if !given.trim().is_empty() {
        state.set_note("the filter of the command line stays; / changes it");
    }
}

/// Sets a filter that is known to be valid.
fn set_filter(state: &mut State, text: &str) {
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
