//! Many flows: memory stays bounded, and cost grows with what changes, not with what is there.

use super::*;

#[test]
fn closed_flows_and_exited_processes_leave_nothing_behind() {
    let mut play = Play::with_history(1);
    for round in 0..50_u64 {
        for number in 0..100 {
            let cookie = round * 100 + number + 1;
            let pid = u32::try_from(cookie).expect("a small number");
            play.apply(Event::Socket(connection(cookie, Some(pid))));
            play.app(cookie, pid, None, 1, 1);
            play.end(cookie);
            play.apply(Event::ProcessExit {
                id: process(pid),
                status: 0,
            });
        }
        play.tick(1);
        play.model.changes();
        assert!(play.model.snapshot().flows.len() <= 200);
        assert!(play.model.snapshot().processes.len() <= 200);
    }
    play.tick(2);
    let snapshot = play.model.snapshot();
    assert!(snapshot.flows.is_empty() && snapshot.processes.is_empty());
    assert_eq!(snapshot.totals.dropped_flows, 5000);
    assert_eq!(snapshot.totals.dropped_processes, 5000);
    assert_eq!(snapshot.totals.app.tx_bytes, Bytes(5000));
}

/// What a burst needed is given back once it has left the history.
#[test]
fn memory_follows_the_load_down() {
    let mut play = Play::with_history(1);
    let before = play.model.flows.room() + play.model.processes.room();
    for cookie in 1..=20_000 {
        let pid = u32::try_from(cookie).expect("a small number");
        play.apply(Event::Socket(connection(cookie, Some(pid))));
        play.app(cookie, pid, None, 1, 1);
    }
    play.tick(1);
    play.model.snapshot();
    let most = play.model.flows.room() + play.model.processes.room();
    assert!(most > 60_000, "{most} after {before}");
    for cookie in 1..=20_000 {
        let pid = u32::try_from(cookie).expect("a small number");
        play.end(cookie);
        play.apply(Event::ProcessExit {
            id: process(pid),
            status: 0,
        });
    }
    play.tick(1);
    play.model.changes();
    play.model.snapshot();
    // The history, then the tombstones.
    for _ in 0..3 {
        play.tick(30);
        play.model.snapshot();
    }
    let after = play.model.flows.room() + play.model.processes.room();
    assert!(after < before + 4_000, "{after} after {most}");
}

#[test]
fn the_history_holds_a_bounded_number_of_flows() {
    let mut play = Play::with_history(1000);
    for cookie in 1..70_000 {
        play.apply(Event::Socket(connection(cookie, Some(10))));
        play.app(cookie, 10, None, 1, 0);
        play.end(cookie);
        play.model.changes();
    }
    play.tick(1);
    let snapshot = play.model.snapshot();
    assert_eq!(snapshot.flows.len(), 65_536);
    assert_eq!(snapshot.flows[0].key.socket.0, 70_000 - 65_536);
    assert_eq!(snapshot.totals.dropped_flows, 69_999 - 65_536);
    assert_eq!(snapshot.totals.app.tx_bytes, Bytes(69_999));
}

#[test]
fn a_server_of_thousands_of_remotes_has_a_row_for_each() {
    let mut play = Play::new();
    play.apply(Event::Socket(udp(1, 10)));
    for port in 1..5000 {
        let remote = format!("10.0.0.2:{port}");
        play.app(1, 10, Some(&remote), 0, 1);
    }
    play.tick(1);
    assert_eq!(play.changes().len(), 5000);
    assert_eq!(play.model.snapshot().flows.len(), 5000);
    play.app(1, 10, Some("10.0.0.2:77"), 0, 2);
    play.tick(1);
    assert_eq!(play.changes(), ["update 1 10 10.0.0.2:77 0 2"]);
}
