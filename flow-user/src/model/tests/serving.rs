//! Which datagram sockets are listeners, and what counts as a flow of theirs.

use super::*;
use crate::event::{Backlog, EphemeralPorts};

const CLIENT: &str = "10.0.0.7:5353";
const OTHER: &str = "10.0.0.8:5353";

/// A datagram socket at a port that its process chose.
fn server(socket: u64, owner: u32) -> SocketFact {
    SocketFact {
        local: address("0.0.0.0:53"),
        ..udp(socket, owner)
    }
}

impl Play {
    /// The listeners that are open: local addresses.
    fn listeners(&mut self) -> Vec<String> {
        let snapshot = self.model.snapshot();
        let open = snapshot.flows.iter().filter(|flow| flow.closed.is_none());
        let listeners = open.filter(|flow| flow.listens());
        listeners.map(|flow| flow.local.to_string()).collect()
    }

    fn open_flows(&mut self) -> (usize, Option<usize>) {
        let all = self.model.snapshot().totals.open_flows;
        (all, self.process(10).map(|process| process.open_flows))
    }
}

#[test]
fn a_datagram_socket_at_a_chosen_port_listens() {
    let mut play = Play::new();
    play.apply(Event::SocketFound(server(1, 10)));
    assert_eq!(play.listeners(), ["0.0.0.0:53"]);
    // It is no flow, its remotes are.
    assert_eq!(play.open_flows(), (0, Some(0)));
    // Whether it sends first, as for mDNS, or receives.
    play.app(1, 10, Some(CLIENT), 40, 0);
    play.app(1, 10, Some(OTHER), 0, 40);
    assert_eq!(play.listeners(), ["0.0.0.0:53"]);
    assert_eq!(play.open_flows(), (2, Some(2)));
    play.tick(UDP_IDLE);
    assert_eq!(play.open_flows(), (0, Some(0)));
    play.tick(HISTORY);
    assert_eq!(play.rows(), ["1 10 * 0 0"]);
    play.end(1);
    assert_eq!(play.listeners(), Vec::<String>::new());
}

#[test]
fn a_socket_that_connects_is_no_listener() {
    let mut play = Play::new();
    let connected = SocketFact {
        remote: Some(address(CLIENT)),
        state: State::Established,
        ..server(1, 10)
    };
    play.apply(Event::Socket(connected));
    assert_eq!(play.listeners(), Vec::<String>::new());
    assert_eq!(play.open_flows(), (1, Some(1)));
    let ping = SocketFact {
        protocol: Protocol::Icmp,
        ..server(2, 10)
    };
    play.apply(Event::Socket(ping));
    let unbound = SocketFact {
        local: address("0.0.0.0:0"),
        ..server(3, 10)
    };
    play.apply(Event::Socket(unbound));
    assert_eq!(play.listeners(), Vec::<String>::new());
}

#[test]
fn of_a_port_that_the_kernel_chose_only_who_receives_first_listens() {
    let mut play = Play::new();
    // One that asks, and one that waits.
    play.apply(Event::Socket(udp(1, 10)));
    let waits = SocketFact {
        local: address("10.0.0.1:40001"),
        ..udp(2, 10)
    };
    play.apply(Event::Socket(waits.clone()));
    assert_eq!(play.listeners().len(), 2);
    assert_eq!(play.open_flows(), (0, Some(0)));
    let sends = SocketFact {
        wire: wire(40),
        ..udp(1, 10)
    };
    // Its packet may be seen before its call.
    play.apply(Event::Socket(sends));
    assert_eq!(play.listeners(), ["10.0.0.1:40001"]);
    assert_eq!(play.open_flows(), (1, Some(1)));
    play.app(1, 10, Some(CLIENT), 40, 0);
    play.app(1, 10, Some(CLIENT), 40, 60);
    play.app(2, 10, Some(CLIENT), 0, 60);
    play.app(2, 10, Some(CLIENT), 60, 60);
    assert_eq!(play.listeners(), ["10.0.0.1:40001"]);
    assert_eq!(play.open_flows(), (2, Some(2)));

    // What a silent one did before is not known.
    let found = SocketFact {
        local: address("10.0.0.1:40002"),
        ..udp(3, 10)
    };
    play.apply(Event::SocketFound(found));
    assert_eq!(play.listeners(), ["10.0.0.1:40001"]);
    play.app(3, 10, Some(CLIENT), 0, 60);
    assert_eq!(play.listeners(), ["10.0.0.1:40001", "10.0.0.1:40002"]);
}

#[test]
fn the_ephemeral_ports_are_those_of_the_namespace() {
    let mut play = Play::new();
    play.apply(Event::EphemeralPorts {
        netns: HOST,
        ports: EphemeralPorts {
            first: 50_000,
            last: 50_009,
        },
    });
    play.apply(Event::SocketFound(udp(1, 10)));
    let elsewhere = SocketFact {
        netns: Some(Netns(7)),
        ..udp(2, 10)
    };
    play.apply(Event::SocketFound(elsewhere));
    assert_eq!(play.listeners(), ["10.0.0.1:40000"]);
}

#[test]
fn a_server_whose_bytes_come_before_its_fact_stays_when_its_remotes_are_idle() {
    let mut play = Play::new();
    play.app(1, 10, Some(CLIENT), 0, 40);
    play.apply(Event::Socket(server(1, 10)));
    assert_eq!(play.rows(), ["1 10 10.0.0.7:5353 0 40", "1 10 * 0 0"]);
    play.tick(UDP_IDLE);
    play.tick(HISTORY);
    assert_eq!(play.listeners(), ["0.0.0.0:53"]);
}

#[test]
fn bytes_of_unknown_remotes_are_a_flow() {
    let mut play = Play::new();
    play.apply(Event::Socket(server(1, 10)));
    play.app(1, 10, None, 0, 40);
    assert_eq!(play.listeners(), ["0.0.0.0:53"]);
    assert_eq!(play.open_flows(), (1, Some(1)));
}

#[test]
fn what_waits_is_known_of_listeners_only() {
    let mut play = Play::new();
    let client = udp(2, 10);
    play.apply(Event::Socket(server(1, 10)));
    play.apply(Event::SocketFound(client));
    let backlog = Backlog {
        waiting: 4_352,
        limit: 212_992,
        drops: 3,
    };
    for socket in [1, 2] {
        let cookie = SocketCookie(socket);
        play.apply(Event::Listening { cookie, backlog });
    }
    let snapshot = play.model.snapshot();
    let known: Vec<_> = snapshot.flows.iter().map(|flow| flow.backlog).collect();
    assert_eq!(known, [Some(backlog), None]);
}

#[test]
fn the_packets_of_a_listener_outlast_its_flows_once_for_each_socket() {
    let mut play = Play::new();
    let packets = |number| {
        Some(WireTotals {
            rx_packets: number,
            ..WireTotals::default()
        })
    };
    let with = |number| SocketFact {
        wire: packets(number),
        ..server(1, 10)
    };
    play.apply(Event::Socket(with(0)));
    for remote in [CLIENT, OTHER] {
        play.app(1, 10, Some(remote), 0, 40);
    }
    play.apply(Event::Socket(with(7)));
    // A connection that nobody sent anything over.
    let silent = SocketFact {
        wire: packets(3),
        ..accepted(2, Some(10))
    };
    play.apply(Event::Socket(silent));
    for socket in [1, 2] {
        play.end(socket);
    }
    let last = play.model.snapshot().flows[0].last;
    play.tick(HISTORY);
    let snapshot = play.model.snapshot();
    assert!(snapshot.flows.is_empty());
    let sums = snapshot.retired.accepted.iter();
    let sums: Vec<_> = sums
        .map(|flow| {
            (
                flow.local.port(),
                flow.app.rx_bytes.0,
                flow.wire.unwrap().rx_packets,
            )
        })
        .collect();
    assert_eq!(sums, [(80, 0, 3), (53, 80, 7)]);
    assert!(snapshot.retired.accepted[1].last >= last);
}
