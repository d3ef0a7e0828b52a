//! The rows of listeners, and the flows of each: accepted connections, or the remotes that a socket
//! of datagrams serves.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use foldhash::{HashMap, HashSet};

use crate::{
    event::{
        AppTotals, Backlog, Direction, Instant, Netns, ProcessId, Protocol, SocketCookie, State,
        WireTotals,
    },
    model::snapshot::{Flow, FlowKey, Process, Rate, Snapshot},
    query::{
        entry::{Entry, Listener, Subject},
        filter::Filter,
        group::flow_entry,
        view::View,
    },
};

#[derive(Default)]
struct Group {
    /// Whether the listener passes.
    matches: bool,
    /// Whether something that counts was accepted there.
    accepted: bool,
    processes: BTreeMap<ProcessId, Arc<Process>>,
    /// Of its own sockets, each once.
    backlogs: BTreeMap<SocketCookie, Backlog>,
    /// Open flows, whoever shares them.
    open: HashSet<(SocketCookie, Option<SocketAddr>)>,
    app: AppTotals,
    /// Of the sockets that moved something, each once.
    packets: HashMap<SocketCookie, WireTotals>,
    /// Of those that are no longer listed.
    dropped: WireTotals,
    rate: Rate,
    /// When the first of its own sockets was opened.
    opened: Option<Instant>,
    /// When one of its flows last moved bytes.
    last: Instant,
}

impl Group {
    /// Counts the packets of a flow's socket, once for each socket. After a reset each of its flows
    /// has its own beginning: that of the oldest counts.
    fn count_packets(&mut self, flow: &Arc<Flow>, view: &View) {
        let Some(wire) = flow_entry(flow, view).wire else {
            return;
        };
        let known = self.packets.entry(flow.key.socket).or_insert(wire);
        if wire.tx_packets + wire.rx_packets < known.tx_packets + known.rx_packets {
            *known = wire;
        }
    }
}

/// One row for each listening address and port, however many sockets and processes share it. An
/// inbound flow belongs to the listener of its own address, else to one of any address; one of a
/// socket that serves many to that socket's.
pub(super) fn by_listener(snapshot: &Snapshot, view: &View) -> Vec<Entry> {
    let filter = &view.filter;
    let mut groups: BTreeMap<ListenerKey, Group> = BTreeMap::new();
    for flow in snapshot.flows.iter().filter(|flow| listens(flow)) {
        let group = groups.entry(own(flow)).or_default();
        group.matches |= filter.matches_flow(flow);
        group.opened = Some(group.opened.map_or(flow.opened, |it| it.min(flow.opened)));
        group.last = group.last.max(flow.last);
        if let Some(backlog) = flow.backlog {
            group.backlogs.insert(flow.key.socket, backlog);
        }
        if let Some(process) = &flow.process {
            group.processes.insert(process.id, Arc::clone(process));
        }
    }
    let known: BTreeSet<ListenerKey> = groups.keys().copied().collect();
    for flow in &snapshot.flows {
        // Of a socket that was never used, too.
        if flow.serves
            && let Some(group) = groups.get_mut(&own(flow))
            && (group.matches || filter.matches_flow(flow))
        {
            group.count_packets(flow, view);
            // Who bound it may have left it to a child.
            if let Some(process) = &flow.process {
                group.processes.insert(process.id, Arc::clone(process));
            }
        }
        let listener = accepted_at(flow, &known);
        let Some(group) = listener.and_then(|key| groups.get_mut(&key)) else {
            continue;
        };
        // A listener that matches counts all its flows; otherwise only matching flows count.
        if group.matches || filter.matches_flow(flow) {
            let FlowKey { socket, remote, .. } = flow.key;
            group.app += view.app(flow);
            group.rate.tx += flow.rate.tx;
            group.rate.rx += flow.rate.rx;
            group.last = group.last.max(flow.last);
            group.count_packets(flow, view);
            group.accepted = true;
            if flow.is_open() {
                group.open.insert((socket, remote));
            }
        }
    }
    if view.since.is_none() {
        for flow in snapshot.retired.accepted.iter() {
            let listener = match flow.serves {
                true => Some(own(flow)),
                false => accepted_at(flow, &known),
            };
            if let Some(group) = listener.and_then(|key| groups.get_mut(&key))
                && group.matches
            {
                group.app += flow.app;
                group.last = group.last.max(flow.last);
                group.dropped += flow.wire.unwrap_or_default();
            }
        }
    }
    groups
        .into_iter()
        .filter(|(_, group)| group.matches || group.accepted)
        .map(|((netns, protocol, local), group)| {
            let mut processes: Vec<_> = group.processes.into_values().collect();
            if processes.iter().any(|process| process.exited.is_none()) {
                processes.retain(|process| process.exited.is_none());
            }
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
                opened: group.opened.unwrap_or_default(),
                last: group.last,
            })));
            entry.add(group.app, group.rate);
            let packets = group.packets.into_values();
            entry.wire = Some(packets.fold(group.dropped, |mut sum, wire| {
                sum += wire;
                sum
            }));
            entry.flows = group.open.len() as u64;
            entry.processes = listening;
            entry
        })
        .collect()
}

/// An address with a listener.
pub(in crate::query) type ListenerKey = (Option<Netns>, Protocol, SocketAddr);

/// All addresses with listeners that pass.
pub(in crate::query) fn listening(snapshot: &Snapshot, filter: &Filter) -> BTreeSet<ListenerKey> {
    let flows = snapshot.flows.iter();
    let listeners = flows.filter(|flow| listens(flow) && filter.matches_flow(flow));
    listeners.map(|flow| own(flow)).collect()
}

/// The address of a flow's own end.
fn own(flow: &Flow) -> ListenerKey {
    (flow.netns, flow.protocol, flow.local)
}

fn listens(flow: &Flow) -> bool {
    flow.listens() && flow.closed.is_none()
}

/// The listener of `known` that a flow belongs to, if any: the one that accepted it, or the one that
/// it is a remote of. A listener itself belongs to none, unless it moved bytes of unknown remotes.
pub(in crate::query) fn accepted_at(
    flow: &Flow,
    known: &BTreeSet<ListenerKey>,
) -> Option<ListenerKey> {
    if flow.serves {
        let is_flow = flow.key.remote.is_some() || flow.app != AppTotals::default();
        return Some(own(flow)).filter(|own| is_flow && known.contains(own));
    }
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
