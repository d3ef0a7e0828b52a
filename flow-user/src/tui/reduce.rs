//! What does an event change? The one place where the state changes.

mod acting;
mod boxes;
mod columns;
mod cursor;
mod detail;
mod folding;
mod help;
mod mouse;
mod order;
mod typing;

use std::{collections::HashSet, sync::Arc};

use self::cursor::Step;
use super::{
    detail::Detail,
    effect::Effect,
    event::{Event, OwnUse},
    focus,
    key::{Code, Input, Key},
    keymap::Action,
    state::{Paused, Popup, State},
    views::ViewId,
};
use crate::{
    event::Instant,
    model::{change::TimedChange, snapshot::Snapshot},
    query::{
        baseline::Baseline,
        columns::{Column, Show},
        view::By,
    },
};

/// Takes an event: changes the state, and says what is to be done outside.
///
/// A terminal sends a key with Alt as Esc and the key. Where nothing is bound to it, it is Esc and then the key, as if
/// they had been pressed slowly.
pub fn reduce(state: &mut State, event: Event) -> Vec<Effect> {
    match event {
        Event::Input(Input::Key(key), time) if key.alt && state.keys.action(key).is_none() => {
            let bare = Key { alt: false, ..key };
            let both = [Key::plain(Code::Esc), bare].into_iter();
            both.flat_map(|key| take(state, Event::Input(Input::Key(key), time)))
                .collect()
        }
        event => take(state, event),
    }
}

fn take(state: &mut State, event: Event) -> Vec<Effect> {
    let effects = match event {
        Event::Snapshot {
            snapshot,
            changes,
            own,
        } => {
            take_snapshot(state, snapshot, changes, own);
            Vec::new()
        }
        Event::Resize(columns, rows) => {
            state.size = (columns, rows);
            state.changed = true;
            Vec::new()
        }
        Event::Redraw => {
            state.changed = true;
            vec![Effect::Clear]
        }
        Event::NamesChanged => {
            state.changed = true;
            typing::names_changed(state);
            Vec::new()
        }
        Event::Told(text) => {
            state.changed = true;
            note(state, &text);
            Vec::new()
        }
        Event::Input(input, time) => {
            state.changed = true;
            take_input(state, input, time)
        }
    };
    state.refresh();
    cursor::hold(state);
    detail::hold(state);
    help::hold(state);
    boxes::hold(state);
    effects
}

fn take_snapshot(
    state: &mut State,
    snapshot: Arc<Snapshot>,
    changes: Vec<TimedChange>,
    own: OwnUse,
) {
    let watched = detail::watched(state);
    state.history.remember(&snapshot, &watched);
    state.states.take(&changes);
    let (clock, zone) = (state.clock, state.zone.clone());
    state
        .log
        .take(changes, &|time| clock.time_of_day(time, &zone));
    alert(state, &snapshot);
    state.own = own;
    state.live = snapshot;
    // The clock and the graphs move even while the rows are held still.
    state.changed = true;
    if !state.is_paused() {
        show_live(state);
    }
}

/// Logs the processes that have reached the threshold since the last snapshot.
fn alert(state: &mut State, snapshot: &Snapshot) {
    let processes = snapshot.processes.iter();
    let reached = processes.filter(|it| state.threshold.is_reached(it.rate));
    let mut now = HashSet::new();
    for process in reached {
        if !state.alerted.contains(&process.id) {
            let time = state.clock.time_of_day(snapshot.time, &state.zone);
            state.log.alert(time, Arc::clone(process));
        }
        now.insert(process.id);
    }
    state.alerted = now;
}

fn show_live(state: &mut State) {
    state.stale |= !fits(state, &state.live);
    state.shown = Arc::clone(&state.live);
    for popup in &mut state.popups {
        if let Popup::Detail(detail) = popup {
            detail.renew(&state.shown, &state.states);
        }
    }
}

/// Whether the rows would be the same with a snapshot: there are many where a host is busy, and most hosts are idle.
fn fits(state: &State, snapshot: &Snapshot) -> bool {
    // What only the screen knows goes on while nothing moves.
    let by_past = |(column, _): (&Column, bool)| matches!(column.show, Show::Screen(_));
    if state.here().sort.is_some_and(by_past) {
        return false;
    }
    match state.view.def().by {
        None => false,
        Some(By::Interface) => state.shown.has_same_interfaces(snapshot),
        Some(_) => state.shown.has_same_flows(snapshot),
    }
}

fn take_input(state: &mut State, input: Input, time: Instant) -> Vec<Effect> {
    match input {
        Input::Key(key) => take_key(state, key),
        Input::Mouse(it) => mouse::take(state, it, time),
        Input::Paste(text) => {
            typing::paste(state, &text);
            Vec::new()
        }
    }
}

fn take_key(state: &mut State, key: Key) -> Vec<Effect> {
    // These work everywhere.
    match state.keys.action(key) {
        Some(Action::Quit) if key.ctrl => return vec![Effect::Quit],
        Some(Action::Suspend) if key.ctrl => return vec![Effect::Suspend],
        _ => {}
    }
    if state.prompt.is_some() {
        typing::key(state, key);
        return Vec::new();
    }
    if !state.popups.is_empty() {
        return popup_key(state, key);
    }
    state.note = None;
    match state.keys.action(key) {
        Some(action) => act(state, action),
        None => Vec::new(),
    }
}

/// A key while something lies over the table.
fn popup_key(state: &mut State, key: Key) -> Vec<Effect> {
    let action = state.keys.action(key);
    match state.popups.last() {
        None => Vec::new(),
        Some(Popup::Detail(_)) => action.map_or_else(Vec::new, |it| detail::act(state, it)),
        Some(Popup::Columns(_)) => columns::key(state, key),
        Some(Popup::Choice(_)) => acting::answer(state, key),
        Some(Popup::Help(_)) => help::key(state, key),
    }
}

/// Does what a key of the main view means.
fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match action {
        Action::View(view) => show(state, view),
        Action::NextView => show(state, state.view.turned(true)),
        Action::PreviousView => show(state, state.view.turned(false)),
        Action::Up => cursor::step(state, Step::Lines(-1)),
        Action::Down => cursor::step(state, Step::Lines(1)),
        Action::PageUp => cursor::step(state, Step::Pages(-1)),
        Action::PageDown => cursor::step(state, Step::Pages(1)),
        Action::First => cursor::step(state, Step::First),
        Action::Last => cursor::step(state, Step::Last),
        Action::Open => open(state),
        Action::Unfold => folding::unfold(state),
        Action::Fold => folding::fold(state),
        Action::FoldAll => folding::fold_all(state),
        Action::Filter => typing::open_filter(state),
        Action::Search => typing::open_search(state),
        Action::NextMatch => typing::next_match(state, true),
        Action::PreviousMatch => typing::next_match(state, false),
        Action::Sort => order::next_sort(state, true),
        Action::PreviousSort => order::next_sort(state, false),
        Action::Reverse => order::reverse(state),
        Action::Group => order::next_grouping(state),
        Action::Columns => columns::open(state),
        Action::Pause => pause(state),
        Action::Follow => {
            state.follow = !state.follow;
            note(
                state,
                if state.follow {
                    "follows the chosen row"
                } else {
                    "follows no row"
                },
            );
        }
        Action::Compact => state.compact = !state.compact,
        Action::Units => turn_units(state),
        Action::Measures => state.measures = state.measures.next(),
        Action::Threshold => next_threshold(state),
        Action::Span => {
            state.span = state.span.next();
            let text = format!("graphs of details go back {}", state.span.name());
            note(state, &text);
        }
        Action::Theme => {
            state.theme = state.theme.next();
            note(state, &format!("theme {}", state.theme));
        }
        Action::Reset => reset(state),
        Action::Help => state.popups.push(Popup::Help(0)),
        Action::Kill | Action::Close | Action::Copy | Action::CopyPid | Action::Export => {
            return acting::act(state, action).unwrap_or_default();
        }
        Action::Back => back(state),
        Action::Redraw => return vec![Effect::Clear],
        Action::Suspend => return vec![Effect::Suspend],
        Action::Quit => return vec![Effect::Quit],
    }
    Vec::new()
}

fn note(state: &mut State, text: &str) {
    state.note = Some(text.to_owned());
}

fn show(state: &mut State, view: ViewId) {
    if state.view != view {
        state.view = view;
        state.stale = true;
    }
}

/// Opens the detail of the row under the cursor; a row without one is unfolded or folded.
fn open(state: &mut State) {
    let Some(line) = cursor::line_or_first(state) else {
        return;
    };
    let detail = state
        .rows
        .entry(line)
        .and_then(|entry| Detail::open(&entry.subject, &state.shown, &state.states));
    match detail {
        Some(detail) => detail::open(state, detail),
        None => {
            // There is no detail to read a long name in.
            let entry = state.rows.entry(line);
            let name = entry.and_then(|entry| focus::copied(&entry.subject).ok());
            if let Some((_, name)) = name {
                note(state, &name);
            }
            folding::turn(state, line);
        }
    }
}

fn pause(state: &mut State) {
    if state.paused.take().is_some() {
        show_live(state);
    } else {
        state.paused = Some(Paused {
            since: state.live.time,
            log: state.log.clone(),
            history: state.history.clone(),
        });
    }
}

fn turn_units(state: &mut State) {
    let units = &mut state.units;
    (units.bits, units.binary) = match (units.bits, units.binary) {
        (false, false) => (false, true),
        (false, true) => (true, false),
        (true, false) => (true, true),
        (true, true) => (false, false),
    };
}

fn next_threshold(state: &mut State) {
    state.threshold = state.threshold.next();
    let text = match state.threshold.rate() {
        Some(rate) => format!("marks rows of {} or more", state.units.rate(rate)),
        None => "marks no rows by their rate".to_owned(),
    };
    note(state, &text);
}

/// Counts from now on; if that was so already, from the start again.
fn reset(state: &mut State) {
    state.since = match state.since.take() {
        Some(_) => None,
        None => Some(Arc::new(Baseline::of(&state.live))),
    };
    let text = match &state.since {
        Some(_) => "totals count from now on; again: from the start",
        None => "totals count from the start",
    };
    note(state, text);
    state.stale = true;
}

/// Esc in the main view: the filter goes first, then the choice.
fn back(state: &mut State) {
    if !state.filter.text.is_empty() {
        typing::set_filter(state, "");
    } else {
        state.here_mut().chosen = None;
    }
}
