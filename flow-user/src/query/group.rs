//! A snapshot's rows, filtered and added up: what each row of a table is made of.
//!
//! Bytes are conserved here too: without a filter the rows of a view add up to the snapshot's
//! totals, because whatever has no row of its own gets one that names the cause.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use super::{
    filter::Filter,
    view::{By, View},
};
use crate::{
    event::{
        AppTotals, Bytes, Direction, Netns, ProcessId, Protocol, SocketCookie, State, WireTotals,
    },
    model::snapshot::{Flow, Interface, LedgerSide, Process, Rate, Snapshot},
};

/// What a row stands for.
#[derive(Clone, Debug)]
pub(super) enum Subject<'a> {
    Process(&'a Process),
    Flow(&'a Flow),
    /// Bytes of a process whose flow is not known.
    Overflow(&'a Process),
    Remote(IpAddr),
    Listener(Listener<'a>),
    Interface(&'a Interface),
    User(u32),
    Cgroup(&'a str),
    /// Bytes without a row of their own.
    Cause(Cause),
    Total,
}

/// A listening address and port, and who listens there.
#[derive(Clone, Debug)]
pub(super) struct Listener<'a> {
    pub protocol: Protocol,
    pub local: SocketAddr,
    /// Distinct, by pid.
    pub processes: Vec<&'a Process>,
}

/// Why bytes have no row of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    NotAccepted,
    Left,
    NoProcess,
    TableFull,
    NoRemote,
    NoUser,
    NoCgroup,
    EndedProcesses,
    EndedFlows,
}

impl Cause {
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotAccepted => "(not accepted yet)",
            Self::Left => "(left by its process)",
            Self::NoProcess => "(no process seen)",
            Self::TableFull => "(table full)",
            Self::NoRemote => "(remote not told)",
            Self::NoUser => "(user not known)",
            Self::NoCgroup => "(cgroup not known)",
            Self::EndedProcesses => "(processes that ended)",
            Self::EndedFlows => "(flows that ended)",
        }
    }

    /// Why nobody owns `flow`.
    pub const fn of_unowned(flow: &Flow) -> Self {
        match (flow.state, flow.direction) {
            _ if flow.closed.is_some() => Self::Left,
            (
                State::FinWait1
                | State::FinWait2
                | State::TimeWait
                | State::LastAck
                | State::Closing
                | State::Closed,
                _,
            ) => Self::Left,
            (
                State::SynReceived | State::Established | State::CloseWait,
                Some(Direction::Inbound),
            ) => Self::NotAccepted,
            _ => Self::NoProcess,
        }
    }
}

/// A row before it has columns.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub subject: Subject<'a>,
    pub app: AppTotals,
    /// Of its sockets, each once; only in the view by flow.
    pub wire: Option<WireTotals>,
    pub rate: Rate,
    /// Open flows.
    pub flows: u64,
    pub processes: u64,
    /// Only in the view by interface.
    pub ingress: LedgerSide,
    pub egress: LedgerSide,
}

impl<'a> Entry<'a> {
    fn new(subject: Subject<'a>) -> Self {
        Self {
            subject,
            app: AppTotals::default(),
            wire: None,
            rate: Rate::default(),
            flows: 0,
            processes: 0,
            ingress: LedgerSide::default(),
            egress: LedgerSide::default(),
        }
    }

    fn add(&mut self, app: AppTotals, rate: Rate) {
        self.app += app;
        self.rate.tx += rate.tx;
        self.rate.rx += rate.rx;
    }

    /// Bytes both ways: what the default order goes by, after the rate.
    pub fn total(&self) -> u64 {
        let Bytes(app) = self.app.tx_bytes + self.app.rx_bytes;
        let Bytes(frames) = self.ingress.frames + self.egress.frames;
        app.saturating_add(frames)
    }
}

/// The rows of `view`, in no particular order.
pub(super) fn entries<'a>(snapshot: &'a Snapshot, view: &View) -> Vec<Entry<'a>> {
    let filter = &view.filter;
    match view.by {
        By::Process => by_process(snapshot, filter, |process| Subject::Process(process)),
        By::User => by_process(snapshot, filter, |process| match process.uid {
            Some(uid) => Subject::User(uid),
            None => Subject::Cause(Cause::NoUser),
        }),
        By::Cgroup => by_process(snapshot, filter, |process| match &process.cgroup_path {
            Some(path) => Subject::Cgroup(path),
            None => Subject::Cause(Cause::NoCgroup),
        }),
        By::Flow => by_flow(snapshot, filter),
        By::Remote => by_remote(snapshot, filter),
        By::Listener => by_listener(snapshot, filter),
        By::Interface => by_interface(snapshot, filter),
    }
}

/// The sum of `entries`, for the last line.
pub(super) fn total<'a>(snapshot: &Snapshot, view: &View, entries: &[Entry<'a>]) -> Entry<'a> {
    let mut total = Entry::new(Subject::Total);
    let mut sockets = HashSet::new();
    for entry in entries {
        total.add(entry.app, entry.rate);
        total.flows += entry.flows;
        total.processes += entry.processes;
        add_ledger(&mut total.ingress, &entry.ingress);
        add_ledger(&mut total.egress, &entry.egress);
        if let (Subject::Flow(flow), Some(wire)) = (&entry.subject, entry.wire)
            && sockets.insert(flow.key.socket)
        {
            *total.wire.get_or_insert_default() += wire;
        }
    }
    if view.filter.is_all() && matches!(view.by, By::Flow | By::Remote) {
        // A process's rows and a flow's remotes overlap; the model has counted them once.
        total.flows = snapshot.totals.open_flows as u64;
    }
    total
}

/// Identity of a group of processes.
#[derive(PartialEq, Eq, Hash)]
enum GroupKey<'a> {
    Process(ProcessId),
    User(u32),
    Cgroup(&'a str),
    Cause(&'static str),
}

fn by_process<'a>(
    snapshot: &'a Snapshot,
    filter: &Filter,
    subject_of: impl Fn(&'a Process) -> Subject<'a>,
) -> Vec<Entry<'a>> {
    let mut groups = Groups::default();
    let mut rest = snapshot.totals.app;
    let flows = if filter.is_all() {
        HashMap::new()
    } else {
        flows_by_process(snapshot)
    };
    for process in &snapshot.processes {
        subtract(&mut rest, process.totals);
        let (app, rate, open) = match filter.process_verdict(process) {
            Some(false) => continue,
            Some(true) => (process.totals, process.rate, process.open_flows as u64),
            // It depends on the flows: then only those that match are counted.
            None => {
                let mut sum = Entry::new(Subject::Process(process));
                let own = flows.get(&process.id).map_or(&[][..], Vec::as_slice);
                let mut any = false;
                for flow in own.iter().filter(|flow| filter.matches_flow(flow)) {
                    any = true;
                    sum.add(flow.app, flow.rate);
                    sum.flows += u64::from(flow.closed.is_none());
                }
                if !any {
                    continue;
                }
                (sum.app, sum.rate, sum.flows)
            }
        };
        let entry = groups.get(subject_of(process));
        entry.add(app, rate);
        entry.flows += open;
        entry.processes += 1;
    }
    for flow in unowned(snapshot, filter) {
        let entry = groups.get(Subject::Cause(Cause::of_unowned(flow)));
        entry.add(flow.app, flow.rate);
        entry.flows += u64::from(flow.closed.is_none());
    }
    if filter.is_all() && moved(rest) {
        groups
            .get(Subject::Cause(Cause::EndedProcesses))
            .add(rest, Rate::default());
    }
    groups.entries
}

fn by_flow<'a>(snapshot: &'a Snapshot, filter: &Filter) -> Vec<Entry<'a>> {
    let mut entries = Vec::new();
    let mut rest = snapshot.totals.app;
    for flow in &snapshot.flows {
        if flow.process.is_some() {
            subtract(&mut rest, flow.app);
        }
        if filter.matches_flow(flow) {
            let mut entry = Entry::new(Subject::Flow(flow));
            entry.add(flow.app, flow.rate);
            entry.wire = flow.wire;
            entry.flows = u64::from(flow.closed.is_none());
            entries.push(entry);
        }
    }
    for process in snapshot
        .processes
        .iter()
        .filter(|process| moved(process.overflow))
    {
        subtract(&mut rest, process.overflow);
        if filter.process_verdict(process) == Some(true) {
            let mut entry = Entry::new(Subject::Overflow(process));
            entry.add(process.overflow, Rate::default());
            entries.push(entry);
        }
    }
    if filter.is_all() && moved(rest) {
        let mut entry = Entry::new(Subject::Cause(Cause::EndedFlows));
        entry.add(rest, Rate::default());
        entries.push(entry);
    }
    entries
}

fn by_remote<'a>(snapshot: &'a Snapshot, filter: &Filter) -> Vec<Entry<'a>> {
    #[derive(Default)]
    struct Remote {
        app: AppTotals,
        rate: Rate,
        sockets: HashSet<SocketCookie>,
        processes: HashSet<ProcessId>,
    }
    let mut remotes: BTreeMap<Option<IpAddr>, Remote> = BTreeMap::new();
    let mut rest = snapshot.totals.app;
    for flow in &snapshot.flows {
        if flow.process.is_some() {
            subtract(&mut rest, flow.app);
        }
        if (flow.key.remote.is_none() && !moved(flow.app)) || !filter.matches_flow(flow) {
            continue;
        }
        let address = flow.key.remote.map(|remote| remote.ip().to_canonical());
        let remote = remotes.entry(address).or_default();
        remote.app += flow.app;
        remote.rate.tx += flow.rate.tx;
        remote.rate.rx += flow.rate.rx;
        remote.processes.extend(flow.key.process);
        if flow.closed.is_none() {
            remote.sockets.insert(flow.key.socket);
        }
    }
    let mut entries: Vec<_> = remotes
        .into_iter()
        .map(|(address, remote)| {
            let mut entry = Entry::new(match address {
                Some(address) => Subject::Remote(address),
                None => Subject::Cause(Cause::NoRemote),
            });
            entry.add(remote.app, remote.rate);
            entry.flows = remote.sockets.len() as u64;
            entry.processes = remote.processes.len() as u64;
            entry
        })
        .collect();
    if filter.is_all() {
        let mut overflow = AppTotals::default();
        for process in &snapshot.processes {
            overflow += process.overflow;
        }
        subtract(&mut rest, overflow);
        for (cause, app) in [(Cause::TableFull, overflow), (Cause::EndedFlows, rest)] {
            if moved(app) {
                let mut entry = Entry::new(Subject::Cause(cause));
                entry.add(app, Rate::default());
                entries.push(entry);
            }
        }
    }
    entries
}

/// One row for each listening address and port, however many sockets and processes share it. An
/// inbound flow belongs to the listener of its own address, else to one of any address.
fn by_listener<'a>(snapshot: &'a Snapshot, filter: &Filter) -> Vec<Entry<'a>> {
    type Key = (Option<Netns>, Protocol, SocketAddr);
    #[derive(Default)]
    struct Group<'a> {
        matches: bool,
        processes: BTreeMap<ProcessId, &'a Process>,
        sockets: HashSet<SocketCookie>,
        app: AppTotals,
        rate: Rate,
    }
    let mut groups: BTreeMap<Key, Group<'a>> = BTreeMap::new();
    let listeners = snapshot
        .flows
        .iter()
        .filter(|flow| flow.state == State::Listen && flow.closed.is_none());
    for flow in listeners {
        let group = groups
            .entry((flow.netns, flow.protocol, flow.local))
            .or_default();
        group.matches |= filter.matches_flow(flow);
        if let Some(process) = flow.process.as_deref() {
            group.processes.insert(process.id, process);
        }
    }
    let known: BTreeSet<Key> = groups.keys().copied().collect();
    for flow in &snapshot.flows {
        if flow.direction != Some(Direction::Inbound) || flow.state == State::Listen {
            continue;
        }
        let Some(group) = listener_of(flow)
            .find(|key| known.contains(key))
            .and_then(|key| groups.get_mut(&key))
        else {
            continue;
        };
        // Of a listener that passes all flows count, else only those that pass themselves.
        if group.matches || filter.matches_flow(flow) {
            group.app += flow.app;
            group.rate.tx += flow.rate.tx;
            group.rate.rx += flow.rate.rx;
            group.sockets.insert(flow.key.socket);
        }
    }
    groups
        .into_iter()
        .filter(|(_, group)| group.matches || !group.sockets.is_empty())
        .map(|((_, protocol, local), group)| {
            let mut entry = Entry::new(Subject::Listener(Listener {
                protocol,
                local,
                processes: group.processes.values().copied().collect(),
            }));
            entry.add(group.app, group.rate);
            entry.flows = group.sockets.len() as u64;
            entry.processes = group.processes.len() as u64;
            entry
        })
        .collect()
}

/// Where the listener of an inbound flow may listen, the closest first.
fn listener_of(flow: &Flow) -> impl Iterator<Item = (Option<Netns>, Protocol, SocketAddr)> {
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

fn by_interface<'a>(snapshot: &'a Snapshot, filter: &Filter) -> Vec<Entry<'a>> {
    snapshot
        .interfaces
        .iter()
        .filter(|interface| filter.matches_interface(interface))
        .map(|interface| {
            let mut entry = Entry::new(Subject::Interface(interface));
            entry.rate = interface.rate;
            entry.ingress = interface.ingress_ledger;
            entry.egress = interface.egress_ledger;
            entry
        })
        .collect()
}

/// Groups in the order they were met.
#[derive(Default)]
struct Groups<'a> {
    entries: Vec<Entry<'a>>,
    places: HashMap<GroupKey<'a>, usize>,
}

impl<'a> Groups<'a> {
    fn get(&mut self, subject: Subject<'a>) -> &mut Entry<'a> {
        let key = match &subject {
            Subject::Process(process) => GroupKey::Process(process.id),
            Subject::User(uid) => GroupKey::User(*uid),
            Subject::Cgroup(path) => GroupKey::Cgroup(path),
            Subject::Cause(cause) => GroupKey::Cause(cause.label()),
            Subject::Flow(_)
            | Subject::Overflow(_)
            | Subject::Remote(_)
            | Subject::Listener(_)
            | Subject::Interface(_)
            | Subject::Total => GroupKey::Cause(""),
        };
        let place = *self.places.entry(key).or_insert_with(|| {
            self.entries.push(Entry::new(subject));
            self.entries.len() - 1
        });
        &mut self.entries[place]
    }
}

fn flows_by_process(snapshot: &Snapshot) -> HashMap<ProcessId, Vec<&Flow>> {
    let mut flows: HashMap<ProcessId, Vec<&Flow>> = HashMap::new();
    for flow in &snapshot.flows {
        if let Some(process) = flow.key.process {
            flows.entry(process).or_default().push(flow);
        }
    }
    flows
}

fn unowned<'a>(snapshot: &'a Snapshot, filter: &Filter) -> impl Iterator<Item = &'a Flow> {
    snapshot
        .flows
        .iter()
        .map(|flow| &**flow)
        .filter(|flow| flow.process.is_none() && filter.matches_flow(flow))
}

fn moved(totals: AppTotals) -> bool {
    totals.tx_bytes > Bytes(0) || totals.rx_bytes > Bytes(0)
}

fn subtract(rest: &mut AppTotals, part: AppTotals) {
    rest.tx_bytes = rest.tx_bytes.since(part.tx_bytes);
    rest.rx_bytes = rest.rx_bytes.since(part.rx_bytes);
    rest.tx_calls = rest.tx_calls.saturating_sub(part.tx_calls);
    rest.rx_calls = rest.rx_calls.saturating_sub(part.rx_calls);
}

fn add_ledger(sum: &mut LedgerSide, side: &LedgerSide) {
    let LedgerSide {
        frames,
        socket,
        forwarded,
        kernel,
        packet_socket,
        not_ip,
        offload,
        unexplained,
    } = *side;
    sum.frames += frames;
    sum.socket += socket;
    sum.forwarded += forwarded;
    sum.kernel += kernel;
    sum.packet_socket += packet_socket;
    sum.not_ip += not_ip;
    sum.offload += offload;
    sum.unexplained = sum.unexplained.saturating_add(unexplained);
}
