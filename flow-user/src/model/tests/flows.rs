//! Rows of flows: when they appear, their owners, and how they end.

use super::*;
use crate::{
    event::{Backlog, InterfaceFact},
    model::snapshot::Rate,
};

const PEER: &str = "10.0.0.9:443";

#[test]
fn a_connection_is_reported_once_and_closed_with_its_final_totals() {
    let mut play = Play::new();
    let fresh = SocketFact {
        local: address("0.0.0.0:0"),
        owner: Some(process(10)),
        ..fact(1, Protocol::Tcp, State::Closed)
    };
    play.apply(Event::Socket(fresh));
    play.tick(1);
    assert_eq!(play.changes(), Vec::<String>::new());

    let connecting = SocketFact {
        state: State::SynSent,
        ..connection(1, Some(10))
    };
    play.apply(Event::Socket(connecting));
    assert_eq!(play.changes(), ["open 1 10 10.0.0.9:443 0 0"]);

    play.apply(Event::Socket(connection(1, Some(10))));
    play.app(1, 10, None, 100, 0);
    play.app(1, 10, None, 100, 50);
    assert_eq!(play.changes(), Vec::<String>::new());
    play.tick(1);
    assert_eq!(play.changes(), ["update 1 10 10.0.0.9:443 100 50"]);
    play.tick(1);
    assert_eq!(play.changes(), Vec::<String>::new());

    play.app(1, 10, None, 120, 50);
    play.end(1);
    assert_eq!(play.changes(), ["close 1 10 10.0.0.9:443 120 50"]);
    play.end(1);
    play.tick(1);
    assert_eq!(play.changes(), Vec::<String>::new());
}

#[test]
fn a_listener_is_reported_at_once() {
    let mut play = Play::new();
    play.apply(Event::Socket(listener(1, "0.0.0.0:80", 10)));
    assert_eq!(play.changes(), ["open 1 10 * 0 0"]);
}

#[test]
fn an_accept_queue_is_in_its_row_and_emits_no_update() {
    let mut play = Play::new();
    let backlog = Backlog {
        waiting: 3,
        limit: 128,
        drops: 1,
    };
    let waits = Event::Listening {
        cookie: SocketCookie(1),
        backlog,
    };
    play.apply(waits.clone());
    play.apply(Event::Socket(listener(1, "0.0.0.0:80", 10)));
    play.changes();
    assert_eq!(play.model.snapshot().flows[0].backlog, None);
    play.apply(waits);
    assert_eq!(play.model.snapshot().flows[0].backlog, Some(backlog));
    play.tick(1);
    assert_eq!(play.changes(), Vec::<String>::new());
}

#[test]
fn a_connection_accepted_promptly_is_reported_once_as_its_acceptors() {
    let mut play = Play::new();
    play.apply(Event::Socket(listener(1, "0.0.0.0:80", 10)));
    play.changes();
    play.apply(Event::Socket(accepted(2, None)));
    assert_eq!(play.rows()[1], "2 10 10.0.0.9:5000 0 0");
    play.apply(Event::Socket(accepted(2, Some(11))));
    play.tick(1);
    assert_eq!(play.changes(), ["open 2 11 10.0.0.9:5000 0 0"]);
    // The listener is none.
    assert_eq!(play.process(10).map(|p| p.open_flows), Some(0));
    assert_eq!(play.process(11).map(|p| p.open_flows), Some(1));
}

#[test]
fn a_connection_nobody_accepted_is_its_listeners_until_somebody_does() {
    let mut play = Play::new();
    play.apply(Event::Socket(listener(1, "[::]:80", 10)));
    play.apply(Event::Socket(accepted(2, None)));
    play.tick(1);
    let changes = play.changes();
    assert_eq!(changes[1], "open 2 10 10.0.0.9:5000 0 0");
    play.app(2, 11, None, 0, 7);
    assert_eq!(
        play.changes(),
        [
            "close 2 10 10.0.0.9:5000 0 0",
            "open 2 11 10.0.0.9:5000 0 7"
        ]
    );
    play.end(2);
    assert_eq!(play.changes(), ["close 2 11 10.0.0.9:5000 0 7"]);
}

#[test]
fn the_hint_wants_the_best_address_and_one_owner() {
    let cases: [(&[(&str, u32)], &str); 5] = [
        (&[("0.0.0.0:80", 10), ("10.0.0.1:80", 11)], "11"),
        (&[("0.0.0.0:80", 10), ("10.0.0.2:80", 11)], "10"),
        (&[("0.0.0.0:80", 10), ("0.0.0.0:80", 11)], "-"),
        (&[("0.0.0.0:80", 10), ("0.0.0.0:80", 10)], "10"),
        (&[("0.0.0.0:81", 10)], "-"),
    ];
    for (listeners, expected) in cases {
        let mut play = Play::new();
        for (cookie, (local, owner)) in (1..).zip(listeners) {
            play.apply(Event::Socket(listener(cookie, local, *owner)));
        }
        play.apply(Event::Socket(accepted(9, None)));
        let rows = play.rows();
        let last = rows.last().expect("a row");
        assert_eq!(*last, format!("9 {expected} 10.0.0.9:5000 0 0"));
    }
}

#[test]
fn a_closed_listener_and_one_of_another_namespace_give_no_hint() {
    let mut play = Play::new();
    play.apply(Event::Socket(listener(1, "0.0.0.0:80", 10)));
    play.end(1);
    let elsewhere = SocketFact {
        netns: Some(Netns(2)),
        ..listener(2, "0.0.0.0:80", 11)
    };
    play.apply(Event::Socket(elsewhere));
    play.apply(Event::Socket(accepted(3, None)));
    assert_eq!(play.rows()[2], "3 - 10.0.0.9:5000 0 0");
}

#[test]
fn a_worker_takes_over_a_row_without_bytes_and_shares_one_with() {
    let mut play = Play::new();
    play.apply(Event::Socket(connection(1, Some(10))));
    play.app(1, 11, Some(PEER), 5, 0);
    assert_eq!(
        play.changes(),
        [
            "open 1 10 10.0.0.9:443 0 0",
            "close 1 10 10.0.0.9:443 0 0",
            "open 1 11 10.0.0.9:443 5 0"
        ]
    );
    play.app(1, 12, None, 0, 6);
    assert_eq!(play.changes(), ["open 1 12 10.0.0.9:443 0 6"]);
    assert_eq!(play.rows().len(), 2);
    play.end(1);
    assert_eq!(
        play.changes(),
        ["close 1 11 10.0.0.9:443 5 0", "close 1 12 10.0.0.9:443 0 6"]
    );
    assert_eq!(play.process(10), None);
}

#[test]
fn a_udp_client_has_a_row_for_each_remote_and_none_without() {
    let mut play = Play::new();
    play.apply(Event::Socket(udp(1, 10)));
    play.app(1, 10, Some("10.0.0.2:53"), 30, 0);
    play.app(1, 10, Some("10.0.0.3:53"), 31, 0);
    play.tick(1);
    assert_eq!(
        play.changes(),
        ["open 1 10 10.0.0.2:53 30 0", "open 1 10 10.0.0.3:53 31 0"]
    );
    let snapshot = play.model.snapshot();
    assert_eq!(snapshot.flows[0].direction, Some(Direction::Outbound));
}

#[test]
fn a_udp_server_keeps_its_endpoint_beside_its_remotes() {
    let mut play = Play::new();
    play.apply(Event::Socket(udp(1, 10)));
    play.app(1, 11, Some("10.0.0.2:5353"), 0, 30);
    play.tick(1);
    assert_eq!(
        play.changes(),
        ["open 1 11 10.0.0.2:5353 0 30", "open 1 10 * 0 0"]
    );
    let snapshot = play.model.snapshot();
    assert_eq!(snapshot.flows[0].direction, Some(Direction::Inbound));
    // A call without a peer counts for the endpoint.
    play.app(1, 10, None, 0, 8);
    play.end(1);
    assert_eq!(
        play.changes(),
        ["close 1 10 * 0 8", "close 1 11 10.0.0.2:5353 0 30"]
    );
}

/// A UDP socket that is reported as an endpoint, and then connects.
fn endpoint_that_connects() -> Play {
    let mut play = Play::new();
    play.apply(Event::Socket(udp(1, 10)));
    play.tick(1);
    let connected = SocketFact {
        remote: Some(address(PEER)),
        state: State::Established,
        ..udp(1, 10)
    };
    play.apply(Event::Socket(connected));
    play
}

#[test]
fn a_udp_endpoint_that_connects_becomes_that_flow() {
    let mut play = endpoint_that_connects();
    assert_eq!(
        play.changes(),
        [
            "open 1 10 * 0 0",
            "close 1 10 * 0 0",
            "open 1 10 10.0.0.9:443 0 0"
        ]
    );
    play.app(1, 10, None, 9, 0);
    assert_eq!(play.rows(), ["1 10 10.0.0.9:443 9 0"]);
}

#[test]
fn an_endpoint_that_was_closed_without_bytes_opens_again_when_it_moves_some() {
    let mut play = endpoint_that_connects();
    play.app(1, 10, Some(PEER), 9, 0);
    play.tick(2);
    let rest_of_old = play.changes().split_off(3);
    assert_eq!(rest_of_old, ["update 1 10 10.0.0.9:443 9 0"]);
    // It gives up its remote; a call that does not ask where bytes come from counts for the
    // endpoint.
    play.apply(Event::Socket(udp(1, 10)));
    play.app(1, 10, None, 0, 8);
    play.end(1);
    assert_eq!(
        play.changes(),
        [
            "open 1 10 * 0 8",
            "close 1 10 10.0.0.9:443 9 0",
            "close 1 10 * 0 8"
        ]
    );
}

#[test]
fn a_udp_socket_of_a_moment_is_reported_opened_and_closed() {
    let mut play = Play::new();
    play.apply(Event::Socket(udp(1, 10)));
    play.end(1);
    assert_eq!(play.changes(), ["open 1 10 * 0 0", "close 1 10 * 0 0"]);
}

#[test]
fn a_socket_that_is_neither_bound_nor_used_is_no_flow() {
    let mut play = Play::new();
    let unbound = SocketFact {
        local: address("0.0.0.0:0"),
        ..udp(1, 10)
    };
    play.apply(Event::Socket(unbound));
    play.tick(1);
    play.end(1);
    assert_eq!(play.changes(), Vec::<String>::new());
    assert_eq!(play.rows(), Vec::<String>::new());
}

#[test]
fn bytes_before_the_sockets_fact_count_at_once_and_get_their_row_with_it() {
    let mut play = Play::new();
    play.app(1, 10, None, 100, 0);
    play.app(1, 11, None, 0, 5);
    play.tick(1);
    assert_eq!(play.rows(), Vec::<String>::new());
    assert_eq!(play.total(), {
        let mut sum = totals(100, 0);
        sum += totals(0, 5);
        sum
    });
    assert_eq!(play.process(10).map(|p| p.totals), Some(totals(100, 0)));

    play.apply(Event::Socket(connection(1, Some(10))));
    assert_eq!(
        play.changes(),
        ["open 1 10 10.0.0.9:443 100 0", "open 1 11 10.0.0.9:443 0 5"]
    );
    play.app(1, 10, Some(PEER), 40, 0);
    assert_eq!(play.rows()[0], "1 10 10.0.0.9:443 140 0");
}

#[test]
fn a_fact_that_comes_after_the_end_shows_the_flow_closed() {
    let mut play = Play::new();
    play.app(1, 10, None, 100, 0);
    play.end(1);
    assert_eq!(play.changes(), Vec::<String>::new());
    play.apply(Event::Socket(connection(1, Some(10))));
    assert_eq!(
        play.changes(),
        [
            "open 1 10 10.0.0.9:443 100 0",
            "close 1 10 10.0.0.9:443 100 0"
        ]
    );
    let snapshot = play.model.snapshot();
    assert_eq!(snapshot.totals.open_flows, 0);
    assert!(snapshot.flows[0].closed.is_some());
    assert_eq!(play.process(10).map(|p| p.open_flows), Some(0));
}

#[test]
fn a_tcp_socket_whose_peer_stays_unknown_shows_its_bytes_at_the_tick() {
    let mut play = Play::new();
    let unknown = SocketFact {
        owner: Some(process(10)),
        ..fact(1, Protocol::Tcp, State::Established)
    };
    play.apply(Event::Socket(unknown));
    play.app(1, 10, None, 100, 0);
    assert_eq!(play.rows(), ["1 10 * 0 0"]);
    play.tick(1);
    assert_eq!(play.rows(), ["1 10 * 100 0"]);
    play.apply(Event::Socket(connection(1, Some(10))));
    play.app(1, 10, None, 130, 0);
    assert_eq!(play.rows(), ["1 10 * 100 0", "1 10 10.0.0.9:443 30 0"]);
}

#[test]
fn a_late_report_adds_to_a_closed_row_and_to_one_that_was_dropped() {
    let mut play = Play::new();
    play.apply(Event::Socket(connection(1, Some(10))));
    play.app(1, 10, None, 100, 0);
    play.end(1);
    play.changes();
    play.app(1, 10, None, 101, 0);
    play.apply(Event::Socket(connection(1, Some(10))));
    assert_eq!(play.rows(), ["1 10 10.0.0.9:443 101 0"]);
    assert_eq!(play.model.snapshot().totals.open_flows, 0);

    play.tick(HISTORY);
    assert_eq!(play.rows(), Vec::<String>::new());
    play.app(1, 10, None, 101, 0);
    play.app(1, 10, None, 105, 0);
    play.apply(Event::Socket(connection(1, Some(10))));
    play.tick(1);
    assert_eq!(play.rows(), Vec::<String>::new());
    assert_eq!(play.changes(), Vec::<String>::new());
    assert_eq!(play.total(), totals(105, 0));
    assert_eq!(play.process(10).map(|p| p.totals), Some(totals(105, 0)));
}

#[test]
fn a_report_long_after_the_end_begins_anew() {
    let mut play = Play::new();
    play.apply(Event::Socket(connection(1, Some(10))));
    play.app(1, 10, None, 5, 0);
    play.end(1);
    // Longer than anything is remembered, as after a suspend; at this tick it had a rate still.
    play.tick(1000);
    play.app(1, 10, None, 5, 0);
    play.tick(1);
    assert_eq!(play.rows(), Vec::<String>::new());
    assert_eq!(play.total().tx_bytes, Bytes(10));
}

/// Why the event stream keeps what ended for a while, though its end was reported at once.
#[test]
fn bytes_of_another_process_reported_after_the_end_are_a_flow_as_long_as_the_history_lasts() {
    for (history, changes) in [
        (
            2,
            &["open 1 11 10.0.0.9:443 5 0", "close 1 11 10.0.0.9:443 5 0"][..],
        ),
        (0, &[]),
    ] {
        let mut play = Play::with_history(history);
        play.apply(Event::Socket(connection(1, Some(10))));
        play.end(1);
        play.tick(1);
        play.changes();
        play.app(1, 11, None, 5, 0);
        play.tick(0);
        assert_eq!(play.changes(), changes, "history of {history} s");
        assert_eq!(play.total(), totals(5, 0));
    }
}

#[test]
fn an_older_fact_fills_but_does_not_turn_back() {
    let mut play = Play::new();
    let closing = SocketFact {
        state: State::FinWait1,
        wire: wire(100),
        ..connection(1, None)
    };
    play.apply(Event::Socket(closing));
    let before = Instant(play.now.0 - 1);
    let older = SocketFact {
        wire: wire(90),
        ..connection(1, Some(10))
    };
    play.apply_at(before, Event::Socket(older));
    let snapshot = play.model.snapshot();
    let flow = &snapshot.flows[0];
    assert_eq!(flow.state, State::FinWait1);
    assert_eq!(flow.key.process, Some(process(10)));
    assert_eq!(flow.wire, wire(100));
}

#[test]
fn a_closed_tcp_socket_keeps_the_addresses_it_had() {
    let mut play = Play::new();
    play.apply(Event::Socket(connection(1, Some(10))));
    let gone = SocketFact {
        local: address("0.0.0.0:0"),
        owner: Some(process(10)),
        ..fact(1, Protocol::Tcp, State::Closed)
    };
    play.apply(Event::Socket(gone));
    let snapshot = play.model.snapshot();
    assert_eq!(snapshot.flows[0].local, address("10.0.0.1:40000"));
    assert_eq!(snapshot.flows[0].state, State::Closed);
    assert_eq!(play.rows(), ["1 10 10.0.0.9:443 0 0"]);
}

#[test]
fn wire_bytes_are_reported_with_one_row_of_the_socket_and_shown_in_all() {
    let mut play = Play::new();
    play.apply(Event::Socket(udp(1, 10)));
    play.app(1, 10, Some("10.0.0.2:53"), 30, 0);
    play.app(1, 10, Some("10.0.0.3:53"), 31, 0);
    play.tick(1);
    play.changes();
    let more = SocketFact {
        wire: wire(500),
        ..udp(1, 10)
    };
    play.apply(Event::Socket(more));
    play.tick(1);
    assert_eq!(play.changes(), ["update 1 10 10.0.0.3:53 31 0"]);
    let snapshot = play.model.snapshot();
    assert!(snapshot.flows.iter().all(|flow| flow.wire == wire(500)));
}

#[test]
fn rates_are_over_the_time_between_ticks_and_fall_to_zero() {
    let mut play = Play::new();
    play.tick(1);
    play.apply(Event::Socket(connection(1, Some(10))));
    play.app(1, 10, None, 1000, 500);
    // Events take 2 microseconds in this test's clock.
    play.now.0 -= 2000;
    play.tick(2);
    let expected = Rate {
        tx: 500.0,
        rx: 250.0,
    };
    let snapshot = play.model.snapshot();
    assert_eq!(snapshot.flows[0].rate, expected);
    assert_eq!(snapshot.processes[0].rate, expected);
    assert_eq!(snapshot.totals.rate, expected);
    // A tick at the same moment changes nothing, the next one does.
    play.tick(0);
    assert_eq!(play.model.snapshot().flows[0].rate, expected);
    play.tick(1);
    let snapshot = play.model.snapshot();
    assert_eq!(snapshot.flows[0].rate, Rate::default());
    assert_eq!(snapshot.processes[0].rate, Rate::default());
    assert_eq!(snapshot.totals.rate, Rate::default());
}

#[test]
fn only_the_hosts_sockets_have_an_interface_name() {
    let mut play = Play::new();
    let interface = |name: &str| {
        Event::Interface(Box::new(InterfaceFact {
            ifindex: 2,
            name: name.into(),
            up: true,
            classified: true,
            ingress: Default::default(),
            egress: Default::default(),
        }))
    };
    for (cookie, netns) in [(1, HOST), (2, Netns(2))] {
        let fact = SocketFact {
            ifindex: Some(2),
            netns: Some(netns),
            ..connection(cookie, Some(10))
        };
        play.apply(Event::Socket(fact));
    }
    let names = |play: &mut Play| {
        let snapshot = play.model.snapshot();
        let flows = snapshot.flows.iter();
        flows.map(|flow| flow.interface.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&mut play), [None, None]);
    for name in ["eth0", "lan0"] {
        play.apply(interface(name));
        assert_eq!(names(&mut play), [Some(name.into()), None]);
    }
    // A fact without an interface does not take the name away.
    play.apply(Event::Socket(connection(1, Some(10))));
    assert_eq!(names(&mut play), [Some("lan0".into()), None]);
}

#[test]
fn rows_that_did_not_change_are_the_same_objects() {
    let mut play = Play::new();
    for (cookie, pid) in [(1, 10), (2, 11)] {
        play.apply(Event::Socket(connection(cookie, Some(pid))));
        play.app(cookie, pid, None, 10, 0);
    }
    play.tick(1);
    play.tick(1);
    let before = play.model.snapshot();
    assert!(Arc::ptr_eq(&before, &play.model.snapshot()));
    play.app(2, 11, None, 20, 0);
    play.tick(1);
    let after = play.model.snapshot();
    assert_eq!(after.generation, before.generation + 1);
    assert!(Arc::ptr_eq(&before.flows[0], &after.flows[0]));
    assert!(!Arc::ptr_eq(&before.flows[1], &after.flows[1]));
    assert!(Arc::ptr_eq(&before.processes[0], &after.processes[0]));
}

#[test]
fn finish_emits_what_the_last_tick_did_not() {
    let mut play = Play::new();
    play.apply(Event::Socket(connection(1, Some(10))));
    play.apply(Event::Socket(connection(2, None)));
    play.app(1, 10, None, 10, 0);
    play.changes();
    play.model.finish(play.now);
    assert_eq!(
        play.changes(),
        ["update 1 10 10.0.0.9:443 10 0", "open 2 - 10.0.0.9:443 0 0"]
    );
    play.model.finish(play.now);
    assert_eq!(play.changes(), Vec::<String>::new());
}

#[test]
fn the_same_link_local_peer_on_two_interfaces_is_two_flows() {
    let mut play = Play::new();
    for (ifindex, name) in [(2, "v0"), (3, "v1")] {
        play.apply(Event::Interface(Box::new(InterfaceFact {
            ifindex,
            name: name.into(),
            up: true,
            classified: true,
            ingress: Default::default(),
            egress: Default::default(),
        })));
    }
    let remotes = |play: &mut Play| {
        let snapshot = play.model.snapshot();
        let mut remotes: Vec<_> = snapshot
            .flows
            .iter()
            .filter_map(|flow| flow.remote_text())
            .collect();
        remotes.sort();
        remotes
    };
    for (cookie, netns) in [(1, HOST), (2, Netns(2))] {
        play.apply(Event::Socket(SocketFact {
            protocol: Protocol::Udp,
            state: State::Unconnected,
            remote: None,
            netns: Some(netns),
            ..connection(cookie, Some(10))
        }));
        for remote in ["[fe80::99%2]:7005", "[fe80::99%3]:7005"] {
            play.app(cookie, 10, Some(remote), 100, 0);
        }
    }
    // Of another namespace the names are not known.
    assert_eq!(
        remotes(&mut play),
        [
            "[fe80::99%2]:7005",
            "[fe80::99%3]:7005",
            "[fe80::99%v0]:7005",
            "[fe80::99%v1]:7005",
        ]
    );
    let ids: std::collections::HashSet<_> = play
        .model
        .snapshot()
        .flows
        .iter()
        .map(|flow| flow.key.id())
        .collect();
    assert_eq!(ids.len(), 4);
}
