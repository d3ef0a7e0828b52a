//! The reducer: applies an event to the state, itself or through the popup on top. Nothing else
//! changes the state.

mod cursor;
mod folding;
mod mouse;
mod order;
mod typing;

use std::{collections::HashSet, sync::Arc};

use self::cursor::Step;
use super::{
    acting::{self, Focus},
    detail::Detail,
    effect::Effect,
    event::{Event, OwnUse},
    key::{Code, Input, Key},
    keymap::Action,
    popups::{columns::ColumnPicker, help::Help, sort::SortPicker},
    state::{Popup, Reply, State},
    views::ViewId,
};
use crate::{
    event::Instant,
    model::{change::TimedChange, snapshot::Snapshot},
    query::{baseline::Baseline, history::Watched},
};

/// The most details that lie over each other; the lowest is dropped.
const DEEPEST: usize = 16;

/// Applies an event to the state, and returns the effects to perform outside.
///
/// A terminal sends a key with Alt as Esc and the key. Where nothing is bound to it, it is Esc and
/// then the key, as if they had been pressed slowly.
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
            states,
            own,
        } => {
            state.states.take(&states);
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
        Event::Status(text) => {
            state.changed = true;
            state.set_note(text);
            Vec::new()
        }
        Event::Input(input, time) => {
            state.changed = true;
            take_input(state, input, time)
        }
    };
    state.refresh();
    cursor::keep_visible(state);
    state.measure();
    with_top(state, |popup, state| popup.clamp_scroll(state));
    effects
}

fn take_snapshot(
    state: &mut State,
    snapshot: Arc<Snapshot>,
    changes: Vec<TimedChange>,
    own: OwnUse,
) {
    let mut watched = Watched::default();
    for popup in &state.popups {
        popup.watch(&mut watched);
    }
    state.history.remember(&snapshot, &watched);
    state.log.take(changes);
    alert(state, &snapshot);
    state.own = own;
    state.live = snapshot;
    // The clock and the graphs move even while the rows are paused.
    state.changed = true;
    if !state.is_paused() {
        state.show_live();
    }
    typing::try_again(state);
}

/// Logs the processes that have reached the threshold since the last snapshot.
fn alert(state: &mut State, snapshot: &Snapshot) {
    let processes = snapshot.processes.iter();
    let reached = processes.filter(|it| state.threshold.is_reached(it.rate));
    let mut now = HashSet::new();
    for process in reached {
        if !state.alerted.contains(&process.id) {
            state.log.alert(snapshot.time, Arc::clone(process));
        }
        now.insert(process.id);
    }
    state.alerted = now;
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
    if let Some(reply) = with_top(state, |popup, state| popup.key(state, key)) {
        return settle(state, reply);
    }
    state.note = None;
    let reply = match state.keys.action(key) {
        Some(action) => act(state, action),
        None => {
            state.refuse(key);
            Reply::Stay
        }
    };
    settle(state, reply)
}

/// Hands the popup on top to `take`. `None` if there is none.
fn with_top<T>(state: &mut State, take: impl FnOnce(&mut dyn Popup, &mut State) -> T) -> Option<T> {
    let mut popup = state.popups.pop()?;
    let taken = take(&mut *popup, state);
    state.popups.push(popup);
    Some(taken)
}

/// Applies the reply of a popup or of the table.
fn settle(state: &mut State, reply: Reply) -> Vec<Effect> {
    match reply {
        Reply::Stay => Vec::new(),
        Reply::Do(effect) => vec![effect],
        Reply::Close => {
            state.popups.pop();
            Vec::new()
        }
        Reply::CloseAndDo(effect) => {
            state.popups.pop();
            vec![effect]
        }
        Reply::Show(view) => {
            if view.has_content() {
                state.popups.clear();
            }
            show(state, view);
            Vec::new()
        }
        Reply::Open(popup) => {
            if popup.hides_table() && state.popups.len() >= DEEPEST {
                state.popups.remove(0);
            }
            state.begin_graphs(&*popup);
            state.popups.push(popup);
            Vec::new()
        }
    }
}

/// Performs an action of the main view.
fn act(state: &mut State, action: Action) -> Reply {
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
        Action::Open => return open(state),
        Action::Unfold => folding::unfold(state),
        Action::Fold => folding::fold(state),
        Action::FoldAll => folding::fold_all(state),
        Action::Filter => typing::open_filter(state),
        Action::Search => typing::open_search(state),
        Action::NextMatch => typing::next_match(state, true),
        Action::PreviousMatch => typing::next_match(state, false),
        Action::Sort => return choose_sort(state),
        Action::NextSort => order::next_sort(state, true),
        Action::PreviousSort => order::next_sort(state, false),
        Action::Reverse => order::reverse(state),
        Action::Group => order::next_grouping(state),
        Action::Columns => return choose_columns(state),
        Action::Pause => state.pause(),
        Action::Follow => {
            state.follow = !state.follow;
            state.set_note(match state.follow {
                true => "follows the selected row",
                false => "follow is off",
            });
        }
        Action::HideEnded => {
            state.hides_ended = !state.hides_ended;
            state.stale = true;
        }
        Action::Compact => state.compact = !state.compact,
        Action::Units => state.turn_units(),
        Action::Measures => state.turn_measures(),
        Action::Threshold => state.next_threshold(),
        Action::Span => {
            state.span = state.span.next();
            state.set_note(format!("graph range {}", state.span.name()));
        }
        Action::Theme => {
            state.theme = state.theme.next();
            state.set_note(format!("theme {}", state.theme));
        }
        Action::Save => return Reply::Do(Effect::SaveSettings(state.settings())),
        Action::Reset => reset(state),
        Action::Help => return Reply::Open(Box::new(Help::default())),
        Action::Export => return acting::export(state),
        Action::Kill | Action::Close | Action::Copy | Action::CopyPid => {
            let here = state.here();
            let chosen = here.chosen.as_ref().and(state.rows.entry(here.line));
            let focus = Focus {
                row: None,
                whole: chosen.map(|entry| entry.subject.clone()),
            };
            return acting::act(state, action, focus).unwrap_or(Reply::Stay);
        }
        Action::Back => typing::back(state),
        Action::Redraw => return Reply::Do(Effect::Clear),
        Action::Suspend => return Reply::Do(Effect::Suspend),
        Action::Quit => return Reply::Do(Effect::Quit),
    }
    Reply::Stay
}

fn show(state: &mut State, view: ViewId) {
    if !view.has_content() {
        state.set_note(view.def().empty);
    } else if state.view != view {
        state.view = view;
        state.stale = true;
    }
}

/// Opens the detail of the row under the cursor; a row without one is unfolded or folded.
fn open(state: &mut State) -> Reply {
    let Some(line) = cursor::line_or_first(state) else {
        return Reply::Stay;
    };
    let detail = state
        .rows
        .entry(line)
        .and_then(|entry| Detail::open(&entry.subject, state));
    if let Some(detail) = detail {
        return Reply::Open(Box::new(detail));
    }
    if !folding::turn(state, line) {
        state.set_note("nothing more to show");
    }
    Reply::Stay
}

fn choose_sort(state: &mut State) -> Reply {
    match SortPicker::open(state) {
        Some(picker) => Reply::Open(Box::new(picker)),
        None => {
            state.set_note("this view has no columns yet");
            Reply::Stay
        }
    }
}

fn choose_columns(state: &mut State) -> Reply {
    match ColumnPicker::open(state.view, &state.here().columns) {
        Some(picker) => Reply::Open(Box::new(picker)),
        None => {
            state.set_note("this view has no columns yet");
            Reply::Stay
        }
    }
}

/// Counts from now on; if that was so already, from the start again.
fn reset(state: &mut State) {
    state.since = match state.since.take() {
        Some(_) => None,
        None => Some(Arc::new(Baseline::of(&state.live))),
    };
    state.set_note(match &state.since {
        Some(_) => "totals count from now on; again: from the start",
        None => "totals count from the start",
    });
    state.stale = true;
}
