//! What was there before, what is idle, and sums that outlast what they are of.

use super::*;
use crate::{event::TcpFacts, model::change::StateChange};

const CLIENT: &str = "10.0.0.7:5353";

fn retransmitted(segments: u32) -> Option<TcpFacts> {
    Some(TcpFacts {
        retransmits: segments,
        ..TcpFacts::default()
    })
}

#[test]
fn what_was_there_before_has_no_beginning_and_counts_from_now_on() {
    let mut play = Play::new();
    let with = |segments| SocketFact {
        tcp: retransmitted(segments),
        ..connection(1, Some(10))
    };
    play.apply(Event::SocketFound(with(6412)));
    play.apply(Event::Socket(connection(2, Some(10))));
    let snapshot = play.model.snapshot();
    let flows = &snapshot.flows;
    assert!(flows[0].found.is_some() && flows[1].found.is_none());
    assert_eq!(flows[0].retransmits(), Some(0));
    let words = play.model.changes();
    let words: Vec<_> = words.iter().map(|it| it.change.word()).collect();
    assert_eq!(words, ["found", "open"]);

    play.apply(Event::Socket(with(6436)));
    let snapshot = play.model.snapshot();
    assert_eq!(snapshot.flows[0].retransmits(), Some(24));
    assert_eq!(snapshot.flows[0].tcp, retransmitted(6436));
    // A later list changes nothing.
    play.apply(Event::SocketFound(with(6440)));
    assert_eq!(play.model.snapshot().flows[0].retransmits(), Some(28));
}

#[test]
fn a_datagram_flow_without_bytes_ends_and_comes_back() {
    let mut play = Play::new();
    play.apply(Event::Socket(udp(1, 10)));
    play.app(1, 10, Some(CLIENT), 0, 40);
    play.tick(1);
    play.changes();
    play.tick(UDP_IDLE - 2);
    assert_eq!(play.changes(), Vec::<String>::new());
    play.tick(1);
    assert_eq!(play.changes(), ["close 1 10 10.0.0.7:5353 0 40"]);
    let snapshot = play.model.snapshot();
    let row = |remote: Option<&str>| {
        let remote = remote.map(address);
        let mut flows = snapshot.flows.iter();
        flows.find(|flow| flow.key.remote == remote).unwrap()
    };
    assert_eq!(row(Some(CLIENT)).closed.unwrap().1, CloseReason::Idle);
    // The socket itself waits on.
    assert_eq!(row(None).closed, None);

    // Within the history, and after it.
    play.app(1, 10, Some(CLIENT), 0, 100);
    play.tick(1);
    assert_eq!(play.changes(), ["open 1 10 10.0.0.7:5353 0 60"]);
    play.tick(UDP_IDLE);
    assert_eq!(play.changes(), ["close 1 10 10.0.0.7:5353 0 60"]);
    play.tick(HISTORY);
    assert_eq!(play.rows(), ["1 10 * 0 0"]);
    play.app(1, 10, Some(CLIENT), 7, 100);
    assert_eq!(play.rows().len(), 2);
    play.end(1);
    let changes = play.changes();
    assert_eq!(changes[0], "open 1 10 10.0.0.7:5353 7 0");
    assert!(changes.contains(&"close 1 10 10.0.0.7:5353 7 0".to_owned()));
    play.tick(HISTORY);
    assert_eq!(play.rows(), Vec::<String>::new());
    assert_eq!(play.process(10).unwrap().totals.rx_bytes, Bytes(100));
}

#[test]
fn a_socket_that_comes_back_has_no_rows_of_before() {
    let mut play = Play::new();
    let config = Config {
        udp_idle: Duration::from_secs(600),
        ..config(1)
    };
    play.model = Model::new(config, play.now);
    play.apply(Event::Socket(udp(1, 10)));
    for remote in ["10.0.0.7:1", "10.0.0.7:2"] {
        play.app(1, 10, Some(remote), 0, 40);
    }
    play.end(1);
    // Until its tombstone is gone too.
    play.tick(30);
    play.tick(30);
    play.app(1, 10, Some(CLIENT), 0, 7);
    play.apply(Event::Socket(udp(1, 10)));
    play.tick(600);
    play.tick(600);
    assert_eq!(play.total().rx_bytes, Bytes(87));
}

#[test]
fn a_connected_datagram_socket_is_never_idle() {
    let mut play = Play::new();
    let connected = SocketFact {
        remote: Some(address(CLIENT)),
        state: State::Established,
        ..udp(1, 10)
    };
    play.apply(Event::Socket(connected));
    play.app(1, 10, None, 40, 0);
    play.tick(2 * UDP_IDLE);
    assert_eq!(play.model.snapshot().flows[0].closed, None);
}

#[test]
fn a_listener_is_no_flow_of_its_process() {
    let mut play = Play::new();
    play.apply(Event::Socket(listener(1, "0.0.0.0:80", 10)));
    play.apply(Event::Socket(accepted(2, Some(10))));
    assert_eq!(play.process(10).unwrap().open_flows, 1);
    assert_eq!(play.model.snapshot().totals.open_flows, 1);
    for socket in [1, 2] {
        play.end(socket);
    }
    assert_eq!(play.process(10).unwrap().open_flows, 0);
    assert_eq!(play.model.snapshot().totals.open_flows, 0);
}

#[test]
fn sums_outlast_processes_and_flows() {
    let mut play = Play::new();
    for pid in [10, 11] {
        play.apply(Event::ProcessSeen(process_fact(pid, None, program("curl"))));
        let socket = u64::from(pid);
        play.apply(Event::Socket(accepted(socket, Some(pid))));
        play.app(socket, pid, None, 100, 5);
        play.end(socket);
        play.apply(Event::ProcessExit {
            id: process(pid),
            status: 0,
        });
    }
    play.tick(HISTORY);
    play.tick(HISTORY);
    let snapshot = play.model.snapshot();
    assert!(snapshot.processes.is_empty() && snapshot.flows.is_empty());
    let [both] = &*snapshot.retired.processes else {
        panic!("one user, one cgroup: {:?}", snapshot.retired);
    };
    assert_eq!(both.totals.tx_bytes, Bytes(200));
    assert_eq!(snapshot.retired.remotes[0].app.tx_bytes, Bytes(200));
    let accepted = &snapshot.retired.accepted[0];
    assert_eq!(accepted.local, address("10.0.0.1:80"));
    assert_eq!(accepted.app.rx_bytes, Bytes(10));
    // A user's name may come late.
    play.apply(Event::User {
        uid: 1000,
        name: Some("deploy".into()),
    });
    let snapshot = play.model.snapshot();
    let user = snapshot.retired.processes[0].user.as_deref();
    assert_eq!(user, Some("deploy"));
}

#[test]
fn states_are_reported_in_order_each_once() {
    let mut play = Play::new();
    play.model = Model::new(
        Config {
            states: true,
            ..config(HISTORY)
        },
        play.now,
    );
    let in_state = |state| SocketFact {
        state,
        ..connection(1, Some(10))
    };
    for state in [
        State::SynSent,
        State::SynSent,
        State::Established,
        State::Established,
        State::Closed,
    ] {
        play.apply(Event::Socket(in_state(state)));
    }
    play.apply(Event::Socket(udp(2, 10)));
    let states = play.model.states();
    let seen: Vec<_> = states
        .iter()
        .map(|StateChange { socket, state, .. }| (socket.0, *state))
        .collect();
    let expected = [State::SynSent, State::Established, State::Closed];
    assert_eq!(seen, expected.map(|state| (1, state)));
    assert!(play.model.states().is_empty());
    // From the first SYN, not from the last report of it.
    let connect = play.model.snapshot().flows[0].connect.unwrap();
    assert_eq!(connect.micros(), 2);
}

/// Connections of two processes that count their packets.
fn carried(socket: u64, owner: u32, bytes: u64, segments: u32) -> Event {
    Event::Socket(SocketFact {
        wire: wire(bytes),
        tcp: retransmitted(segments),
        ..connection(socket, Some(owner))
    })
}

#[test]
fn a_process_and_a_remote_keep_what_their_sockets_counted() {
    let mut play = Play::new();
    for (socket, reason) in [(1, CloseReason::Closed), (2, CloseReason::Refused)] {
        play.apply(carried(socket, 10, 100, 3));
        play.app(socket, 10, Some("10.0.0.9:443"), 40, 0);
        play.apply(Event::SocketEnd {
            cookie: SocketCookie(socket),
            reason,
        });
    }
    // This one knocked, was not accepted, and belongs to nobody.
    play.apply(Event::Socket(SocketFact {
        wire: wire(7),
        ..accepted(3, Some(10))
    }));
    play.end(3);
    play.apply(carried(4, 10, 1_000, 0));
    assert_eq!(play.process(10).unwrap().past_sockets, None);
    play.tick(HISTORY);
    let past = play.process(10).unwrap().past_sockets.clone().unwrap();
    assert_eq!((past.counted, past.wire.tx_bytes), (2, Bytes(200)));
    assert_eq!((past.app.tx_bytes, past.retransmits), (Bytes(80), Some(6)));
    let snapshot = play.model.snapshot();
    let remotes = &snapshot.retired.past_remotes;
    assert_eq!(remotes.len(), 1);
    let remote = remotes.values().next().unwrap();
    assert_eq!(remote.sockets, *past);
    assert_eq!(remote.failures.refused, 1);

    // A keyframe has them too.
    let written = serde_json::to_string(play.model.keyframe()).unwrap();
    let keyframe: Keyframe = serde_json::from_str(&written).unwrap();
    let resumed = keyframe.resume(config(HISTORY)).snapshot();
    assert_eq!(resumed.retired.past_remotes, *remotes);
    assert_eq!(resumed.processes[0].past_sockets, Some(past));
}

#[test]
fn a_socket_of_datagrams_counts_once_however_often_its_flows_come_and_go() {
    let mut play = Play::new();
    play.apply(Event::Socket(SocketFact {
        wire: wire(500),
        ..udp(1, 10)
    }));
    let whole = |play: &mut Play| {
        let snapshot = play.model.snapshot();
        let past = play.process(11).and_then(|it| it.past_sockets.clone());
        let listed = flows_of(&snapshot, 11).next().and_then(|flow| flow.wire);
        let listed = listed.map_or(0, |wire| wire.tx_bytes.0);
        past.map_or(0, |past| past.wire.tx_bytes.0) + listed
    };
    // Another process sends through it now and then.
    for round in 1..4 {
        play.app(1, 11, Some(CLIENT), round, 0);
        assert_eq!(whole(&mut play), 500);
        play.tick(UDP_IDLE);
        play.tick(HISTORY);
        assert_eq!(flows_of(&play.model.snapshot(), 11).count(), 0);
        assert_eq!(whole(&mut play), 500);
    }
    play.end(1);
    play.tick(HISTORY);
    assert_eq!(whole(&mut play), 500);
}

#[test]
fn what_a_process_and_its_sockets_moved_stays_when_another_ones_flow_leaves() {
    let mut play = Play::new();
    play.apply(Event::Socket(SocketFact {
        wire: wire(500),
        ..udp(1, 10)
    }));
    let whole = |play: &mut Play, pid: u32| {
        let snapshot = play.model.snapshot();
        let past = play.process(pid).and_then(|it| it.past_sockets.clone());
        let is_listed = flows_of(&snapshot, pid).next().is_some();
        let listed = snapshot.flows.iter().filter(|_| is_listed);
        let listed: u64 = listed.map(|flow| flow.app.tx_bytes.0).sum();
        past.map_or(0, |past| past.app.tx_bytes.0) + listed
    };
    play.app(1, 10, Some(CLIENT), 40, 0);
    play.app(1, 11, Some("10.0.0.8:7"), 2, 0);
    assert_eq!((whole(&mut play, 10), whole(&mut play, 11)), (42, 42));
    // Only one of them goes on.
    for more in 1..=3 {
        play.tick(UDP_IDLE / 2);
        play.app(1, 10, Some(CLIENT), more, 0);
    }
    play.tick(1);
    let before = (whole(&mut play, 10), whole(&mut play, 11));
    for _ in 0..HISTORY {
        play.tick(1);
        play.app(1, 10, Some(CLIENT), 1, 0);
    }
    assert_eq!(flows_of(&play.model.snapshot(), 11).count(), 0);
    let after = (whole(&mut play, 10), whole(&mut play, 11));
    assert!(
        after.0 >= before.0 && after.1 >= before.1,
        "{before:?}, then {after:?}"
    );
}

#[test]
fn failures_of_users_outlive_their_processes() {
    let mut play = Play::new();
    play.apply(Event::ProcessSeen(process_fact(10, None, program("curl"))));
    play.apply(Event::Socket(connection(1, Some(10))));
    play.apply(Event::SocketEnd {
        cookie: SocketCookie(1),
        reason: CloseReason::Refused,
    });
    play.apply(Event::ProcessExit {
        id: process(10),
        status: 1,
    });
    play.tick(HISTORY);
    play.tick(HISTORY);
    let snapshot = play.model.snapshot();
    assert!(snapshot.processes.is_empty());
    let refused: u32 = snapshot
        .retired
        .processes
        .iter()
        .map(|it| it.failures.refused)
        .sum();
    assert_eq!(refused, 1);
}

#[test]
fn a_port_that_the_kernel_chose_leaves_no_listener() {
    for (port, kept) in [(53, 1), (50_000, 0)] {
        let mut play = Play::new();
        play.apply(Event::Socket(SocketFact {
            local: SocketAddr::from(([10, 0, 0, 1], port)),
            wire: wire(500),
            ..udp(1, 10)
        }));
        play.app(1, 10, Some(CLIENT), 0, 40);
        play.end(1);
        play.tick(HISTORY);
        assert_eq!(play.model.snapshot().retired.accepted.len(), kept, "{port}");
    }
}
