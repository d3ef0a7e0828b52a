//! The rows of listeners, and the flows that each accepted.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    event::{AppTotals, Backlog, Direction, Netns, ProcessId, Protocol, SocketCookie, State},
    model::snapshot::{Flow, Process, Rate, Snapshot},
    query::{
        entry::{Entry, Listener, Subject},
        view::View,
    },
};

/// One row for each listening address and port, however many sockets and processes share it. An
/// inbound flow belongs to the listener of its own address, else to one of any address.
pub(super) fn by_listener(snapshot: &Snapshot, view: &View) -> Vec<Entry> {
    #[derive(Default)]
    struct Group {
        /// Whether the listener passes.
        matches: bool,
        /// Whether something that counts was accepted there.
        accepted: bool,
        processes: BTreeMap<ProcessId, Arc<Process>>,
        /// Of its own sockets, each once.
        backlogs: BTreeMap<SocketCookie, Backlog>,
        /// Those that are open.
        sockets: HashSet<SocketCookie>,
        app: AppTotals,
        rate: Rate,
    }
    let filter = &view.filter;
    let mut groups: BTreeMap<ListenerKey, Group> = BTreeMap::new();
    for flow in snapshot.flows.iter().filter(|flow| listens(flow)) {
        let group = groups
            .entry((flow.netns, flow.protocol, flow.local))
            .or_default();
        group.matches |= filter.matches_flow(flow);
        if let Some(backlog) = flow.backlog {
            group.backlogs.insert(flow.key.socket, backlog);
        }
        if let Some(process) = &flow.process {
            group.processes.insert(process.id, Arc::clone(process));
        }
    }
    let known: BTreeSet<ListenerKey> = groups.keys().copied().collect();
    for flow in &snapshot.flows {
        let listener = accepted_at(flow, &known);
        let Some(group) = listener.and_then(|key| groups.get_mut(&key)) else {
            continue;
        };
        // A listener that matches counts all its flows; otherwise only matching flows count.
        if group.matches || filter.matches_flow(flow) {
            group.app += view.app(flow);
            group.rate.tx += flow.rate.tx;
            group.rate.rx += flow.rate.rx;
            group.accepted = true;
            if flow.is_open() {
                group.sockets.insert(flow.key.socket);
            }
        }
    }
    if view.since.is_none() {
        for flow in snapshot.retired.accepted.iter() {
            let listener = accepted_at(flow, &known);
            if let Some(group) = listener.and_then(|key| groups.get_mut(&key))
                && group.matches
            {
                group.app += flow.app;
            }
        }
    }
    groups
        .into_iter()
        .filter(|(_, group)| group.matches || group.accepted)
        .map(|((netns, protocol, local), group)| {
            let processes: Vec<_> = group.processes.into_values().collect();
            let listening = processes.len() as u64;
            let mut entry = Entry::new(Subject::Listener(Box::new(Listener {
                netns,
                protocol,
                local,
                processes,
                backlog: group.backlogs.into_values().reduce(|mut sum, backlog| {
                    sum += backlog;
                    sum
                }),
            })));
            entry.add(group.app, group.rate);
            entry.flows = group.sockets.len() as u64;
            entry.processes = listening;
            entry
        })
        .collect()
}

/// An address with a listener.
pub(in crate::query) type ListenerKey = (Option<Netns>, Protocol, SocketAddr);

/// All addresses with listeners.
pub(in crate::query) fn listening(snapshot: &Snapshot) -> BTreeSet<ListenerKey> {
    let listeners = snapshot.flows.iter().filter(|flow| listens(flow));
    listeners
        .map(|flow| (flow.netns, flow.protocol, flow.local))
        .collect()
}

fn listens(flow: &Flow) -> bool {
    flow.state == State::Listen && flow.closed.is_none()
}

/// The listener of `known` that accepted a flow, if any.
pub(in crate::query) fn accepted_at(
    flow: &Flow,
    known: &BTreeSet<ListenerKey>,
) -> Option<ListenerKey> {
    let accepted = flow.direction == Some(Direction::Inbound) && flow.state != State::Listen;
    let mut candidates = accepted.then(|| listener_of(flow))?;
    candidates.find(|key| known.contains(key))
}

/// The addresses that the listener of an inbound flow may have, the closest first.
fn listener_of(flow: &Flow) -> impl Iterator<Item = ListenerKey> {
    let port = flow.local.port();
    let canonical = flow.local.ip().to_canonical();
    let any = match canonical {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    };
    let addresses = [flow.local.ip(), canonical, any, IpAddr::from([0; 16])];
    // Where a client of an MPTCP listener speaks plain TCP, so does the accepted socket.
    let protocols = [flow.protocol, Protocol::Mptcp];
    let netns = flow.netns;
    protocols.into_iter().flat_map(move |protocol| {
        addresses
            .into_iter()
            .map(move |address| (netns, protocol, SocketAddr::new(address, port)))
    })
}
