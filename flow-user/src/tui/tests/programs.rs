//! Grouping by program, what is folded, and what has ended.

use std::sync::Arc;

use super::*;
use crate::{
    event::{CloseReason, ProcessId},
    model::{
        programs::{Past, Programs},
        snapshot::{Flow, Process, Rate, Snapshot},
    },
    query::{
        entry::{Id, Subject},
        fixture,
    },
    sink::export::Format,
};

/// A curl for each of 10 pids, of which three run, after 190 others; a server with 300 flows to a
/// database; a shell under which both run.
fn flood() -> Snapshot {
    let process = |pid: u32, exe: &str, change: &dyn Fn(&mut Process)| {
        let mut process = Process::clone(&fixture::process(pid, exe, &[exe]));
        process.lineage = vec![(shell(), "bash".into())];
        change(&mut process);
        Arc::new(process)
    };
    let mut processes: Vec<_> = (100..110)
        .map(|pid| {
            process(pid, "/usr/bin/curl", &|it| {
                it.totals = fixture::totals(100, 1000);
                it.open_flows = usize::from(pid < 103);
                it.exited = (pid >= 103).then_some(Instant(50_000_000_000));
                it.rate.rx = if pid < 103 { 10.0 } else { 0.0 };
            })
        })
        .collect();
    let orderd = process(500, "/usr/sbin/orderd-with-a-long-name", &|it| {
        it.totals = fixture::totals(30_000, 300_000);
        it.open_flows = 299;
        it.rate = Rate {
            tx: 100.0,
            rx: 5000.0,
        };
    });
    let mut flows: Vec<Flow> = (0..300)
        .map(|at| {
            let local = format!("10.201.52.1:{}", 40_000 + at);
            fixture::flow(at + 1, &orderd, &local, Some("10.201.52.2:5432"))
        })
        .collect();
    flows[0].closed = Some((Instant(55_000_000_000), CloseReason::Closed));
    let curl = &processes[0];
    flows.push(fixture::flow(
        900,
        curl,
        "10.0.0.2:50001",
        Some("192.0.2.1:443"),
    ));
    processes.push(orderd);
    let mut snapshot = fixture::snapshot(processes, flows, Vec::new());
    let past = Past {
        totals: fixture::totals(19_000, 190_000),
        processes: 190,
    };
    snapshot.totals.app += past.totals;
    snapshot.programs = Arc::new(Programs {
        named: [("curl".into(), past)].into(),
        others: Past::default(),
    });
    snapshot
}

fn shell() -> ProcessId {
    ProcessId {
        pid: 50,
        start: Instant(0),
    }
}

fn flooded(size: (u16, u16)) -> State {
    let mut state = blank(size);
    take(&mut state, flood());
    state
}

fn take(state: &mut State, snapshot: Snapshot) {
    let event = Event::Snapshot {
        snapshot: snapshot.into(),
        changes: Vec::new(),
        states: Vec::new(),
        own: OwnUse::default(),
    };
    reduce(state, event);
}

fn chosen(state: &State) -> Option<Id> {
    state.chosen().map(|key| key.id.clone())
}

#[test]
fn processes_of_a_name_are_one_row_that_unfolds_to_them_and_to_their_flows() {
    let mut state = flooded((160, 40));
    press(&mut state, "a");
    let curl = line_with(&state, "curl");
    assert!(curl.contains("curl ×200 (3 running)"), "{curl}");
    // Sums of the rates and flows, and totals of those that are gone as well.
    assert!(curl.contains("30 B/s"), "{curl}");
    assert!(curl.contains("200 kB") && curl.contains("20 kB"), "{curl}");
    assert_eq!(state.rows.len(), 2);
    press(&mut state, "Down Down Right");
    assert_eq!(chosen(&state), Some(Id::program(&"curl".into())));
    assert_eq!(state.rows.len(), 2 + 11);
    assert!(line_with(&state, "×190").contains("190 kB"));
    press(&mut state, "Down");
    assert!(matches!(chosen(&state), Some(Id::Process(id)) if id.pid == 100));
    press(&mut state, "Right");
    assert!(line_with(&state, "192.0.2.1:443").contains("tcp 10.0.0.2:50001 ↔"));
    press(&mut state, "Down");
    assert!(matches!(chosen(&state), Some(Id::Flow(_))));
    // Back up, level by level.
    press(&mut state, "Left");
    assert!(matches!(chosen(&state), Some(Id::Process(id)) if id.pid == 100));
    press(&mut state, "Left");
    assert_eq!(state.rows.len(), 2 + 11);
    press(&mut state, "Left");
    assert_eq!(chosen(&state), Some(Id::program(&"curl".into())));
    press(&mut state, "Left");
    assert_eq!(state.rows.len(), 2);
}

#[test]
fn enter_opens_the_detail_of_a_sole_process_and_unfolds_several() {
    let mut state = flooded((120, 40));
    press(&mut state, "a Down Enter");
    assert_eq!(state.popups.len(), 1);
    press(&mut state, "Esc Down Enter");
    assert!(state.popups.is_empty());
    assert_eq!(state.rows.len(), 2 + 11);
    // Of several processes none is meant.
    press(&mut state, "K");
    assert!(state.popups.is_empty());
    press(&mut state, "Up K");
    assert!(text(&state).contains("Signal 500"));
}

#[test]
fn search_sort_filter_and_export_know_programs() {
    let mut state = flooded((160, 40));
    press(&mut state, "a f");
    type_in(&mut state, "CURL");
    assert_eq!(chosen(&state), Some(Id::program(&"curl".into())));
    press(&mut state, "Enter F");
    let by_name = |state: &State| {
        state
            .here()
            .sort
            .is_some_and(|(by, _)| by.name == "process")
    };
    for _ in 0..state.here().columns.len() {
        if !by_name(&state) {
            press(&mut state, ">");
        }
    }
    // And the row is followed.
    assert!(by_name(&state));
    assert_eq!(state.here().line, 0);
    let sheet = state.sheet();
    let csv = sheet.text(Format::Csv);
    assert_eq!((sheet.grouping, sheet.rows.len()), ("by program", 2));
    assert!(csv.contains("\n,curl,"), "{csv}");
    assert!(csv.contains(",20000,") || csv.contains(",200000,"), "{csv}");
    // What is filtered counts what is listed.
    press(&mut state, "/");
    type_in(&mut state, "process curl");
    press(&mut state, "Enter");
    assert!(line_with(&state, "curl ×").contains("curl ×10 (3 running)"));
    assert_eq!(state.rows.len(), 1);
}

#[test]
fn a_program_keeps_its_total_when_its_processes_leave() {
    let mut state = flooded((120, 40));
    press(&mut state, "a Down Down");
    let mut later = flood();
    let gone = later.processes.iter().filter(|it| it.exited.is_some());
    let gone = gone.fold(Past::default(), |mut sum, process| {
        sum.totals += process.totals;
        sum.processes += 1;
        sum
    });
    later.processes.retain(|it| it.exited.is_none());
    let mut programs = Programs::clone(&later.programs);
    let past = programs.named.get_mut("curl").unwrap();
    past.totals += gone.totals;
    past.processes += gone.processes;
    later.programs = Arc::new(programs);
    let before = line_with(&state, "curl");
    take(&mut state, later);
    assert_eq!(line_with(&state, "curl"), before);
    assert_eq!(chosen(&state), Some(Id::program(&"curl".into())));
    // From now on, nothing.
    press(&mut state, "r");
    let reset = line_with(&state, "curl");
    assert!(!reset.contains("kB"), "{reset}");
}

#[test]
fn flows_of_a_program_to_the_same_remote_are_one_row() {
    let mut state = flooded((160, 40));
    press(&mut state, "2 a a a");
    // Also what closed earlier.
    assert_eq!(state.rows.len(), 3);
    let row = line_with(&state, "10.201.52.2:5432");
    assert!(row.contains("tcp"), "{row}");
    assert!(row.contains("300 flows (299 open)"), "{row}");
    assert!(row.contains("→") || row.contains("↔"), "{row}");
    assert!(row.contains("orderd-with"), "{row}");
    press(&mut state, "Down Right");
    assert_eq!(state.rows.len(), 303);
    press(&mut state, "Left Enter");
    assert_eq!(state.rows.len(), 303);
}

#[test]
fn groups_of_flows_say_which_remote_and_how_many() {
    let mut state = flooded((160, 40));
    press(&mut state, "2 a a");
    let rows = text(&state);
    let group = |line: &&str| line.contains("300 flows (299 open)");
    let line = rows.lines().find(group).unwrap();
    assert!(line.contains("10.201.52.2 "), "{line}");
    press(&mut state, "a a a");
    assert!(line_with(&state, " 500 orderd").contains("299 flows"));
}

#[test]
fn a_remote_unfolds_to_programs() {
    let mut state = blank((120, 40));
    let mut snapshot = flood();
    let flows: Vec<_> = (0..5)
        .map(|at| {
            let curl = &snapshot.processes[at as usize];
            let local = format!("10.0.0.2:{}", 50_100 + at);
            Arc::new(fixture::flow(950 + at, curl, &local, Some("192.0.2.9:443")))
        })
        .collect();
    snapshot.flows.extend(flows);
    take(&mut state, snapshot);
    press(&mut state, "3 *");
    let curls = line_with(&state, "curl ×5");
    assert!(curls.contains("curl ×5 (3 running)"), "{curls}");
    assert!(curls.contains("5.0 kB"), "{curls}");
    assert!(line_with(&state, "  100 curl").contains("1.0 kB"));
    press(&mut state, "a a");
    assert!(text(&state).contains("192.0.2.9:443"));
}

#[test]
fn a_collapsed_parent_shows_the_sum_of_what_is_under_it() {
    let mut state = flooded((120, 40));
    press(&mut state, "a a Home");
    assert!(line_with(&state, "bash").contains(" 50 bash"));
    let open = line_with(&state, "bash");
    assert!(!open.contains("5.0 kB/s"), "{open}");
    press(&mut state, "Left");
    assert_eq!(state.rows.len(), 2, "{}", text(&state));
    let folded = line_with(&state, "bash");
    assert!(folded.contains("bash (+11)"), "{folded}");
    assert!(folded.contains("5.0 kB/s"), "{folded}");
    assert!(
        folded.contains("310 kB") && folded.contains("302"),
        "{folded}"
    );
    press(&mut state, "Right");
    assert_eq!(line_with(&state, "bash"), open);
}

#[test]
fn what_has_ended_is_hidden_and_shown_again() {
    let mut state = flooded((120, 40));
    let rows = state.rows.len();
    let total = line_with(&state, "TOTAL");
    press(&mut state, "H");
    assert!(text(&state).contains("ended hidden"));
    assert_eq!(state.rows.len(), 4);
    assert_eq!(line_with(&state, "TOTAL"), total);
    let subjects = (0..state.rows.len()).filter_map(|line| state.rows.entry(line));
    for entry in subjects {
        assert!(matches!(&entry.subject, Subject::Process(it) if it.exited.is_none()));
    }
    press(&mut state, "a *");
    assert_eq!(state.rows.len(), 2 + 1 + 3);
    press(&mut state, "2");
    assert_eq!(state.rows.len(), 300);
    press(&mut state, "1 a a H");
    assert_eq!(state.rows.len(), rows);
    assert!(!text(&state).contains("ended hidden"));
}

#[test]
fn a_name_loses_what_is_said_of_it_then_its_end() {
    let mut state = blank((60, 15));
    let mut snapshot = flood();
    for process in &mut snapshot.processes {
        let mut ended = Process::clone(process);
        ended.exited = Some(Instant(50_000_000_000));
        *process = Arc::new(ended);
    }
    take(&mut state, snapshot);
    let shown = text(&state);
    assert!(shown.contains("curl (exited)"), "{shown}");
    assert!(
        !shown.contains("xited)…") && !shown.contains("…xited"),
        "{shown}"
    );
    let orderd = line_with(&state, "orderd");
    assert!(orderd.contains("orderd-with-a-lo"), "{orderd}");
    assert!(!orderd.contains("exited"), "{orderd}");
}

#[test]
fn unfolded_flows_to_one_remote_differ_by_their_local_port() {
    for (columns, least) in [(60, ":40007"), (80, ":40007"), (160, "10.201.52.1:40007")] {
        let mut state = flooded((columns, 60));
        press(&mut state, "Down Right");
        let rows = text(&state);
        assert!(rows.contains(least), "{columns} {rows}");
        assert!(rows.contains("10.201.52.2:5432"), "{columns} {rows}");
    }
}

#[test]
fn rows_by_program_at_each_size() {
    for (columns, rows) in [(60, 15), (80, 24), (120, 40), (200, 60)] {
        let mut state = flooded((columns, rows));
        press(&mut state, "a Down Down Right Down Right");
        insta::assert_snapshot!(format!("programs_{columns}x{rows}"), text(&state));
        press(&mut state, "2 a a a H");
        insta::assert_snapshot!(format!("program_remotes_{columns}x{rows}"), text(&state));
        press(&mut state, "H 3 a a *");
        insta::assert_snapshot!(format!("remote_ports_{columns}x{rows}"), text(&state));
    }
}
