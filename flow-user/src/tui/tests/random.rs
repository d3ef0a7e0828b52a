//! Random keys, sizes and events: nothing breaks, and the selected row stays selected while it is
//! listed.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{model::snapshot::Snapshot, query::entry::Id, tui::rows::RowKey};

#[derive(Clone, Debug)]
enum Act {
    Key(Key),
    Mouse(Mouse),
    Resize(u16, u16),
    /// The host at a moment, without some of its processes and flows.
    Snapshot {
        step: u64,
        without: u64,
    },
    Paste(String),
}

/// Filters that go on.
const FILTERS: [&str; 6] = ["process ", " and not cgroup /", "user", " ", "\"", " or ("];

fn act() -> impl Strategy<Value = Act> {
    let mut keys: Vec<Key> = keymap::KeyMap::default()
        .bindings()
        .iter()
        .flat_map(|binding| binding.keys.clone())
        .collect();
    // Those that only a popup knows.
    keys.extend(["J", "K", "shift-Up"].map(|key| key.parse::<Key>().unwrap()));
    prop_oneof![
        12 => prop::sample::select(keys).prop_map(Act::Key),
        3 => any::<char>().prop_map(|it| Act::Key(Key::plain(Code::Char(it)))),
        2 => (0..3, 0..250_u16, 0..70_u16).prop_map(|(action, column, row)| Act::Mouse(Mouse {
            action: [MouseAction::Click, MouseAction::WheelUp, MouseAction::WheelDown][action as usize],
            column,
            row,
        })),
        1 => (0..250_u16, 0..70_u16).prop_map(|(columns, rows)| Act::Resize(columns, rows)),
        4 => (0..90_u64, any::<u64>()).prop_map(|(step, without)| Act::Snapshot { step, without }),
        1 => any::<String>().prop_map(Act::Paste),
        1 => prop::sample::select(FILTERS.to_vec()).prop_map(|it| Act::Paste(it.to_owned())),
    ]
}

fn snapshot(step: u64, without: u64) -> Snapshot {
    let mut snapshot = scene::snapshot(step);
    let mut bits = (0..).map(|bit| without >> (bit % 64) & 1 == 0);
    snapshot.processes.retain(|_| bits.next() == Some(true));
    snapshot.flows.retain(|_| bits.next() == Some(true));
    snapshot.interfaces.retain(|_| bits.next() == Some(true));
    snapshot
}

fn event(act: Act) -> Event {
    match act {
        Act::Key(key) => Event::Input(Input::Key(key), Instant(0)),
        Act::Mouse(mouse) => Event::Input(Input::Mouse(mouse), Instant(0)),
        Act::Paste(text) => Event::Input(Input::Paste(text), Instant(0)),
        Act::Resize(columns, rows) => Event::Resize(columns, rows),
        Act::Snapshot { step, without } => Event::Snapshot {
            snapshot: Arc::new(snapshot(step, without)),
            changes: Vec::new(),
            states: Vec::new(),
            own: OwnUse::default(),
        },
    }
}

fn is_there(state: &State, key: &RowKey) -> bool {
    state.rows.find(key).is_some()
}

/// Keys of the table that arrange its rows and leave the choice.
const ARRANGING: [&str; 9] = ["a", "*", "s", "<", "S", "u", "U", "c", "r"];

/// Whether it may only arrange the rows: nothing lies over the table, and nothing is typed.
fn arranges(state: &State, act: &Act) -> bool {
    let free = state.popups.is_empty() && state.prompt.is_none();
    match act {
        Act::Key(key) => free && ARRANGING.iter().any(|it| it.parse() == Ok(*key)),
        _ => false,
    }
}

/// Whether a row stands anywhere, under whatever.
fn stands(state: &State, id: &Id) -> bool {
    (0..state.rows.len()).any(|line| state.rows.key(line).is_some_and(|key| key.id == *id))
}

proptest! {
    // Each case draws some thirty screens.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_breaks_and_the_chosen_row_is_kept(acts in prop::collection::vec(act(), 0..60)) {
        let mut state = with_scene((80, 24));
        for act in acts {
            let before = (state.view, state.chosen().cloned());
            // Only these may leave the choice to itself.
            let keeps = matches!(act, Act::Snapshot { .. } | Act::Resize(..));
            let arranges = arranges(&state, &act);
            reduce(&mut state, event(act));
            drawn(&state);
            if let (_, Some(chosen)) = &before
                && arranges
            {
                // The same row, or the one it stood under.
                let ids = [Some(&chosen.id), chosen.under.as_ref()];
                let kept = ids.into_iter().flatten().find(|id| stands(&state, id));
                if let Some(id) = kept {
                    prop_assert_eq!(state.chosen().map(|chosen| &chosen.id), Some(id));
                }
            }
            if let (view, Some(chosen)) = before
                && keeps
                && view == state.view
                && is_there(&state, &chosen)
            {
                prop_assert_eq!(state.chosen(), Some(&chosen));
            }
            if let Some(chosen) = state.chosen() {
                prop_assert!(is_there(&state, chosen) || state.rows.is_empty());
                let under_cursor = state.rows.key(state.here().line);
                prop_assert!(state.rows.is_empty() || under_cursor.as_ref() == Some(chosen));
            }
        }
    }
}
