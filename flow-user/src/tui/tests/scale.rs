//! Many flows: rows that are not visible, or did not change, cost nothing. `cargo xtask bench
//! screen` measures the time of a frame.

use std::sync::Arc;

use super::*;
use crate::{model::snapshot::Snapshot, query::fixture};

/// A host with so many flows, of a hundred processes.
fn crowd(flows: u32) -> Snapshot {
    let processes: Vec<_> = (1..=100)
        .map(|pid| fixture::process(pid, "/usr/bin/server", &["server"]))
        .collect();
    let flows = (0..flows).map(|number| {
        let process = &processes[number as usize % processes.len()];
        let remote = format!(
            "10.{}.{}.{}:443",
            number >> 16,
            number >> 8 & 0xff,
            number & 0xff
        );
        let mut flow = fixture::flow(number.into(), process, "10.0.0.2:5000", Some(&remote));
        flow.rate.rx = f64::from(number.wrapping_mul(2_654_435_761) >> 12);
        flow
    });
    let flows = flows.collect();
    fixture::snapshot(processes, flows, Vec::new())
}

fn shown(flows: u32) -> State {
    let mut state = blank((200, 60));
    press(&mut state, "2");
    let event = Event::Snapshot {
        snapshot: Arc::new(crowd(flows)),
        changes: Vec::new(),
        states: Vec::new(),
        own: OwnUse::default(),
    };
    reduce(&mut state, event);
    state
}

#[test]
fn the_whole_of_fifty_thousand_flows_can_be_walked() {
    let mut state = shown(50_000);
    assert_eq!(state.rows.len(), 50_000);
    press(&mut state, "End");
    assert!(text(&state).contains("of 50000"));
    // The least busy comes last: the order is by rate.
    let rates: Vec<f64> = (0..state.rows.len())
        .filter_map(|line| state.rows.entry(line))
        .map(|entry| entry.rate.rx)
        .collect();
    assert!(rates.is_sorted_by(|a, b| a >= b));
}

#[test]
fn rows_are_made_anew_only_if_something_moved() {
    let mut state = shown(100);
    // Takes a snapshot; returns whether that made rows.
    let take = |state: &mut State, snapshot: &Snapshot| {
        state.rows.top = usize::MAX;
        let event = Event::Snapshot {
            snapshot: Arc::new(snapshot.clone()),
            changes: Vec::new(),
            states: Vec::new(),
            own: OwnUse::default(),
        };
        reduce(state, event);
        state.rows.top != usize::MAX
    };
    let mut snapshot = Snapshot::clone(&state.live);
    assert!(!take(&mut state, &snapshot));

    let moved = Arc::make_mut(&mut snapshot.flows[42]);
    moved.rate.rx = 1e12;
    let key = moved.key;
    assert!(take(&mut state, &snapshot));
    let top = state.rows.key(0).map(|row| row.id);
    assert_eq!(top, Some(crate::query::entry::Id::Flow(key)));

    snapshot.flows.truncate(7);
    take(&mut state, &snapshot);
    assert_eq!(state.rows.len(), 7);

    // The graphs that rows are sorted by here go on.
    press(&mut state, "1");
    let graph = state.view.columns().iter().find(|it| it.name == "graph");
    state.here_mut().sort = graph.map(|column| (column, false));
    take(&mut state, &snapshot);
    assert!(take(&mut state, &snapshot));
}
