//! The view of events, and actions in it.

use std::sync::Arc;

use super::*;
use crate::{
    model::{
        change::{Change, TimedChange},
        snapshot::{Rate, Snapshot},
    },
    query::entry::Subject,
    tui::{
        key::{Mouse, MouseAction},
        views::ViewId,
    },
};

#[test]
fn an_event_opens_its_flow_or_process_and_keys_act_on_that() {
    let mut state = with_scene((120, 40));
    press(&mut state, "9 Down");
    let rows = state.rows.len();
    let mut opened = 0;
    for _ in 0..rows {
        let line = state.here().line;
        let subject = state.rows.entry(line).unwrap().subject.clone();
        let Subject::Event(event) = subject else {
            panic!("no event");
        };
        press(&mut state, "Enter");
        // A connection is somebody's only once it was accepted.
        let opens = event.flow().is_some() || event.process().is_some();
        assert_eq!(!state.popups.is_empty(), opens);
        if let Some(process) = event.process() {
            opened += 1;
            let name = crate::sink::text::escape(process.name());
            let name = format!("{} {name}", process.id.pid);
            assert!(text(&state).contains(&name), "{name}: {}", text(&state));
        }
        if opens {
            press(&mut state, "Esc Y");
        }
        press(&mut state, "Down");
    }
    assert!(opened > 1, "{opened} of {rows}");
}

#[test]
fn who_reaches_the_threshold_is_logged_once() {
    let mut state = with_scene((120, 40));
    let alerts = |state: &State| text(state).matches(" alert  ").count();
    press(&mut state, "T");
    reduce(&mut state, scene::moment(40));
    press(&mut state, "9");
    let first = alerts(&state);
    assert!(first > 0);
    assert!(line_with(&state, " alert  ").contains("B/s"));
    // One that stays above it is logged once.
    reduce(&mut state, scene::moment(40));
    assert_eq!(alerts(&state), first);
    // And again who was below it meanwhile.
    reduce(&mut state, quiet(scene::snapshot(41)));
    reduce(&mut state, scene::moment(40));
    assert_eq!(alerts(&state), 2 * first);
}

/// The snapshot without any rates.
fn quiet(mut snapshot: Snapshot) -> Event {
    for process in &mut snapshot.processes {
        Arc::make_mut(process).rate = Rate::default();
    }
    Event::Snapshot {
        snapshot: Arc::new(snapshot),
        changes: Vec::new(),
        states: Vec::new(),
        own: OwnUse::default(),
    }
}

/// The next snapshot, and so many events more.
fn with_more(number: usize) -> Event {
    let Event::Snapshot {
        snapshot,
        states,
        own,
        ..
    } = scene::moment(40)
    else {
        panic!("a moment is a snapshot");
    };
    let flow = snapshot.flows.iter().find(|flow| flow.process.is_some());
    let change = TimedChange {
        time: snapshot.time,
        change: Change::FlowOpened(Arc::clone(flow.unwrap())),
    };
    Event::Snapshot {
        snapshot,
        changes: vec![change; number],
        states,
        own,
    }
}

#[test]
fn a_found_event_stays_in_view_until_the_newest_is_followed_again() {
    for size in [(60, 15), (80, 24), (120, 40), (200, 60)] {
        let mut state = with_scene(size);
        reduce(&mut state, with_more(60));
        press(&mut state, "9 f");
        type_in(&mut state, "make");
        press(&mut state, "Enter");
        let found = |state: &State| {
            let text = text(state);
            text.lines()
                .position(|line| line.contains(" exit ") && line.contains(" make "))
        };
        let place = found(&state).unwrap();
        for more in [3, 40, 1] {
            reduce(&mut state, with_more(more));
            assert_eq!(found(&state), Some(place), "{size:?}");
        }
        let last = text(&state).lines().last().unwrap().to_owned();
        assert!(last.contains("Home newest"), "{last}");
        insta::assert_snapshot!(format!("found_event_{}x{}", size.0, size.1), text(&state));

        press(&mut state, "g");
        assert_eq!(state.note.as_deref(), Some("follows the newest event"));
        assert_eq!((state.chosen(), state.here().offset), (None, 0));
        reduce(&mut state, with_more(40));
        assert_eq!((found(&state), state.here().offset), (None, 0));
        assert!(!text(&state).contains("Home newest"));
        // The other way round the newest is the last one.
        press(&mut state, "S G");
        let rows = state.rows.len();
        reduce(&mut state, with_more(40));
        assert_eq!(state.rows.len(), rows + 40);
        let all = rows + 40;
        assert!(
            text(&state).ends_with(&format!("-{all} of {all}")),
            "{size:?}"
        );
    }
}

#[test]
fn a_found_event_that_is_scrolled_away_stays_there() {
    let mut state = with_scene((80, 24));
    press(&mut state, "9");
    reduce(&mut state, with_more(100));
    press(&mut state, "f");
    type_in(&mut state, "make");
    press(&mut state, "Enter");
    let wheel = Input::Mouse(Mouse {
        action: MouseAction::WheelUp,
        column: 10,
        row: 10,
    });
    for _ in 0..30 {
        reduce(&mut state, Event::Input(wheel.clone(), Instant(0)));
    }
    let offset = state.here().offset;
    reduce(&mut state, with_more(10));
    assert_eq!(state.here().offset, offset);
}

#[test]
fn at_every_width_an_event_says_who_listens_where() {
    for size in [(60, 15), (80, 24), (120, 40), (200, 60)] {
        let mut state = with_scene(size);
        press(&mut state, "9 End");
        let line = line_with(&state, "[::]:5432");
        assert!(line.contains("postgres"), "{line}");
        let has_column = line_with(&state, "EVENT").contains("LOCAL");
        assert_eq!(line.contains("@ [::]:5432"), !has_column, "{line}");
    }
}

#[test]
fn after_the_last_column_events_stand_as_at_first() {
    let mut state = with_scene((120, 40));
    press(&mut state, "9");
    let first = text(&state);
    let columns = layout::slots(&state)
        .iter()
        .filter(|slot| !slot.column.header.is_empty())
        .count();
    for _ in 0..columns {
        press(&mut state, ">");
        assert!(state.note.as_ref().unwrap().starts_with("sorted by"));
    }
    press(&mut state, ">");
    assert_eq!(state.note.as_deref(), Some("default order"));
    assert_eq!(state.view, ViewId::Events);
    press(&mut state, "Down Up Esc");
    let last = text(&state);
    let rows = |text: &str| {
        text.lines()
            .skip(6)
            .take(20)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(&last), rows(&first));
}
