//! Merges facts of a socket, and decides when they make a flow.

use super::totals::raise_wire;
use crate::event::{SocketFact, State, TcpFacts};

/// Whether a socket is a flow before it moved any byte: connected, being connected, listening or
/// bound.
pub(super) fn is_meaningful(fact: &SocketFact) -> bool {
    match fact.state {
        State::SynReceived => false,
        // Its life was too short to be seen in another state; a fresh socket has no peer.
        State::Closed if fact.protocol.has_tcp_states() => fact.remote.is_some(),
        State::Unconnected => fact.remote.is_some() || fact.local.port() != 0,
        _ if fact.protocol.has_tcp_states() => true,
        _ => fact.remote.is_some() || fact.local.port() != 0,
    }
}

/// What a fact brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    Nothing,
    /// Only counters, timings or the interface of the last packet.
    Counters,
    /// State, addresses, owner.
    Shape,
}

/// Merges a fact into what is known. An older one (`newer` false) only fills what is missing and
/// raises counters. What the fact lacks stays as it was, except the peer of a datagram socket,
/// which may be given up.
pub(super) fn merge(known: &mut SocketFact, fact: SocketFact, newer: bool) -> Learned {
    let before = known.clone();
    let SocketFact {
        cookie: _,
        protocol,
        local,
        remote,
        state,
        direction,
        netns,
        ifindex,
        owner,
        wire,
        tcp,
    } = fact;
    if let Some(wire) = wire {
        raise_wire(known.wire.get_or_insert_default(), &wire);
    }
    if newer {
        known.protocol = protocol;
        known.state = state;
        // The kernel forgets a socket's port when it closes it; the row keeps it.
        if local.port() != 0 || known.local.port() == 0 {
            known.local = local;
        }
        let gives_up = !protocol.has_tcp_states() && state == State::Unconnected;
        if remote.is_some() || gives_up {
            known.remote = remote;
        }
        known.direction = direction.or(known.direction);
        known.netns = netns.or(known.netns);
        known.ifindex = ifindex.or(known.ifindex);
        known.owner = owner.or(known.owner);
        known.tcp = tcp.map(|tcp| newer_tcp(known.tcp, tcp)).or(known.tcp);
    } else {
        if known.local.port() == 0 {
            known.local = local;
        }
        if known.protocol.has_tcp_states() {
            known.remote = known.remote.or(remote);
        }
        known.direction = known.direction.or(direction);
        known.netns = known.netns.or(netns);
        known.ifindex = known.ifindex.or(ifindex);
        known.owner = known.owner.or(owner);
        known.tcp = known.tcp.or(tcp);
    }
    if *known == before {
        return Learned::Nothing;
    }
    let counters_apart = SocketFact {
        ifindex: before.ifindex,
        wire: before.wire,
        tcp: before.tcp,
        ..known.clone()
    };
    if counters_apart == before {
        Learned::Counters
    } else {
        Learned::Shape
    }
}

fn newer_tcp(known: Option<TcpFacts>, fact: TcpFacts) -> TcpFacts {
    let known = known.unwrap_or_default();
    TcpFacts {
        rtt: fact.rtt.or(known.rtt),
        min_rtt: fact.min_rtt.or(known.min_rtt),
        retransmits: fact.retransmits.max(known.retransmits),
    }
}
