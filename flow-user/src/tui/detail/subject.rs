//! The subject of a detail, and what a snapshot says of it.

use std::{net::IpAddr, ops::AddAssign as _, sync::Arc};

use crate::{
    event::{self, AppTotals, ProcessId},
    model::{
        snapshot::{
            Flow, FlowKey, Interface, Process, Rate, Retired, SeenTimes, Snapshot, Totals,
            socket_sums,
        },
        sums::{Failures, SocketSums},
        totals::raise_app,
    },
    query::{
        entry::{Entry, Subject},
        group,
        history::Watched,
        members::Members,
        view::View,
    },
};

/// The subject of a detail.
#[derive(Clone, Debug)]
pub(in crate::tui) enum Of {
    Process(Arc<Process>),
    Flow(Arc<Flow>),
    Interface(Arc<Interface>),
    /// A remote, a network, a user or a cgroup.
    Group(Members),
}

/// What is known of it at a moment.
pub(super) struct Found {
    pub of: Of,
    /// The rows that the panels are made of.
    pub part: Snapshot,
    pub sums: Sums,
}

/// The numbers of a subject.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::tui) struct Sums {
    /// App bytes; of an interface its frames.
    pub app: AppTotals,
    pub rate: Rate,
    /// Sums over its sockets, also those that are no longer listed; nothing where sockets cannot be
    /// told apart.
    pub sockets: SocketSums,
    pub failures: Failures,
    /// When its flows were seen.
    pub seen: Option<SeenTimes>,
    /// Those that are listed.
    pub processes: u64,
    /// Those that are open.
    pub flows: u64,
}

impl Sums {
    /// Takes newer numbers. Totals never fall: what is no longer listed anywhere was there.
    pub fn renew(&mut self, newer: Self) {
        let Self {
            mut app,
            rate: _,
            mut sockets,
            mut failures,
            seen,
            processes: _,
            flows: _,
        } = *self;
        raise_app(&mut app, &newer.app);
        sockets.raise(&newer.sockets);
        failures.raise(&newer.failures);
        *self = Self {
            app,
            sockets,
            failures,
            seen: newer.seen.or(seen),
            ..newer
        };
    }
}

impl Of {
    /// The subject of a row, if it has a detail.
    pub fn row(subject: &Subject) -> Option<Self> {
        Some(match subject {
            Subject::Process(process) | Subject::Overflow(process) => {
                Self::Process(Arc::clone(process))
            }
            Subject::Flow(flow) => Self::Flow(Arc::clone(flow)),
            Subject::Program(program) => Self::Process(Arc::clone(program.sole()?)),
            Subject::Interface(interface) => Self::Interface(Arc::clone(interface)),
            Subject::Label(by, label) => Self::Group(Members::of(*by, label)?),
            Subject::Event(event) => match (event.flow(), event.process()) {
                (Some(flow), _) => Self::Flow(Arc::clone(flow)),
                (None, Some(process)) => Self::Process(Arc::clone(process)),
                (None, None) => return None,
            },
            _ => return None,
        })
    }

    /// The row that keys act on.
    pub fn subject(&self) -> Subject {
        match self {
            Self::Process(process) => Subject::Process(Arc::clone(process)),
            Self::Flow(flow) => Subject::Flow(Arc::clone(flow)),
            Self::Interface(interface) => Subject::Interface(Arc::clone(interface)),
            Self::Group(members) => Subject::Label(members.by, members.label.clone()),
        }
    }

    pub fn is_over(&self) -> bool {
        self.subject().is_over()
    }

    /// Whether it is a connection with round trips: no listener and no datagrams.
    pub fn has_round_trips(&self) -> bool {
        match self {
            Self::Flow(flow) => flow.tcp.is_some() && flow.state != event::State::Listen,
            _ => false,
        }
    }

    /// Adds what its graphs need to be recorded.
    pub fn watch(&self, watched: &mut Watched) {
        match self {
            Self::Process(process) => watched.processes.push(process.id),
            Self::Flow(flow) => watched.flows.push(flow.key),
            Self::Interface(interface) => watched.interfaces.push(interface.ifindex),
            Self::Group(members) => watched.groups.push(members.clone()),
        }
    }

    /// As it was known, without rows.
    pub(super) fn alone(&self) -> Found {
        match self {
            Self::Process(process) => of_process(process, &[]),
            Self::Flow(flow) => of_flow(flow, &[]),
            Self::Interface(interface) => of_interface(interface, &[]),
            Self::Group(members) => Found {
                of: Self::Group(members.clone()),
                part: Snapshot::default(),
                sums: Sums::default(),
            },
        }
    }

    /// What a snapshot says of it, if it lists it.
    pub(super) fn find(&self, snapshot: &Snapshot) -> Option<Found> {
        let flows = &snapshot.flows;
        let mut found = match self {
            Self::Process(known) => of_process(&find_process(snapshot, known.id)?, flows),
            Self::Flow(known) => of_flow(&find_flow(snapshot, known.key)?, flows),
            Self::Interface(known) => of_interface(&find_interface(snapshot, known)?, flows),
            Self::Group(known) => of_group(known, snapshot)?,
        };
        found.part.time = snapshot.time;
        Some(found)
    }
}

fn of_process(process: &Arc<Process>, flows: &[Arc<Flow>]) -> Found {
    let (flows, mut sockets) = flows_of(flows, |flow| flow.key.process == Some(process.id));
    if let Some(past) = process.past_sockets.as_deref() {
        sockets += *past;
    }
    Found {
        of: Of::Process(Arc::clone(process)),
        part: part(flows, vec![Arc::clone(process)], process.totals),
        sums: Sums {
            app: process.totals,
            rate: process.rate,
            sockets,
            failures: process.failures,
            ..Sums::default()
        },
    }
}

fn of_flow(flow: &Arc<Flow>, flows: &[Arc<Flow>]) -> Found {
    let (flows, _) = flows_of(flows, |other| other.key.socket == flow.key.socket);
    // Its own packets count, whoever will accept it.
    let own = SocketSums {
        counted: flow.wire.is_some().into(),
        wire: flow.wire.unwrap_or_default(),
        app: flows.iter().fold(AppTotals::default(), |mut sum, flow| {
            sum += flow.app;
            sum
        }),
        retransmits: flow.retransmits().map(Into::into),
        retransmits_before: flow.found.map_or(0, |found| found.retransmits.into()),
    };
    Found {
        of: Of::Flow(Arc::clone(flow)),
        part: part(flows, Vec::new(), AppTotals::default()),
        sums: Sums {
            app: flow.app,
            rate: flow.rate,
            sockets: own,
            ..Sums::default()
        },
    }
}

/// Its flows are those whose last packet it carried.
fn of_interface(interface: &Arc<Interface>, flows: &[Arc<Flow>]) -> Found {
    let name = Some(&interface.name);
    let (flows, _) = flows_of(flows, |flow| flow.interface.as_ref() == name);
    let (received, sent) = (interface.ingress_ledger, interface.egress_ledger);
    Found {
        of: Of::Interface(Arc::clone(interface)),
        part: part(flows, Vec::new(), AppTotals::default()),
        sums: Sums {
            app: AppTotals {
                rx_bytes: received.frames,
                tx_bytes: sent.frames,
                ..AppTotals::default()
            },
            rate: match interface.gone {
                Some(_) => Rate::default(),
                None => interface.rate,
            },
            ..Sums::default()
        },
    }
}

fn of_group(members: &Members, snapshot: &Snapshot) -> Option<Found> {
    let (flows, _) = flows_of(&snapshot.flows, |flow| members.have_flow(flow));
    let mut members = members.clone();
    let processes: Vec<Arc<Process>> = match members.are_flows() {
        true => Vec::new(),
        false => {
            let all = snapshot.processes.iter();
            all.filter(|it| members.have_process(it)).cloned().collect()
        }
    };
    let mut part = part(flows, processes, AppTotals::default());
    let retired = &snapshot.retired;
    if members.are_flows() {
        let own = retired.remotes.iter().filter(|it| members.have_flow(it));
        part.retired.remotes = own.cloned().collect();
    } else {
        let own = retired.processes.iter();
        let own = own.filter(|it| members.have_process(it));
        part.retired.processes = own.cloned().collect();
    }
    let entry = entry_of(&members, &part)?;
    if let Subject::Label(_, label) = &entry.subject {
        // A name may be known by now.
        members.label.clone_from(label);
    }
    let left = part.retired.processes.iter();
    let failures: Vec<_> = (part.processes.iter().chain(left))
        .map(|process| process.failures)
        .collect();
    // Panels put what is no longer listed in one row.
    part.retired = Retired::default();
    part.totals.app = entry.app;
    let mut sums = Sums {
        app: entry.app,
        rate: entry.rate,
        processes: entry.processes,
        flows: entry.flows,
        ..Sums::default()
    };
    if members.are_flows() {
        of_remotes(&members, snapshot, &part.flows, &mut sums);
    } else {
        let all = failures.into_iter();
        all.for_each(|failures| sums.failures.add_assign(failures));
    }
    Some(Found {
        of: Of::Group(members),
        part,
        sums,
    })
}

/// Adds what is known of remotes besides their bytes.
fn of_remotes(members: &Members, snapshot: &Snapshot, flows: &[Arc<Flow>], sums: &mut Sums) {
    for rows in flows.chunk_by(|a, b| a.key.socket == b.key.socket) {
        // A socket of datagrams may serve others too.
        let Some(first) = rows.first().filter(|it| it.protocol.has_tcp_states()) else {
            continue;
        };
        sums.sockets += socket_sums(rows);
        let is_outbound = first.direction == Some(event::Direction::Outbound);
        if let Some((_, reason)) = first.closed.filter(|_| is_outbound) {
            sums.failures.count(reason);
        }
    }
    let mut see = |seen: SeenTimes| {
        sums.seen = Some(sums.seen.map_or(seen, |known| known.and(seen)));
    };
    flows.iter().for_each(|flow| see(SeenTimes::of(flow)));
    let past = snapshot.retired.past_remotes.iter();
    let past = past.filter(|(address, _): &(&IpAddr, _)| members.have_address(**address));
    for (_, past) in past {
        see(past.seen);
        sums.sockets += past.sockets;
        sums.failures += past.failures;
    }
}

/// The row of a group.
fn entry_of(members: &Members, part: &Snapshot) -> Option<Entry> {
    let id = members.id();
    let entries = group::rows(part, &View::default(), members.rows());
    entries.into_iter().find(|entry| entry.subject.id() == id)
}

fn part(flows: Vec<Arc<Flow>>, processes: Vec<Arc<Process>>, app: AppTotals) -> Snapshot {
    Snapshot {
        flows,
        processes,
        totals: Totals {
            app,
            ..Totals::default()
        },
        ..Snapshot::default()
    }
}

/// The flows that are its own, and the sums over their sockets. The rows of a socket are adjacent.
fn flows_of(flows: &[Arc<Flow>], is_own: impl Fn(&Flow) -> bool) -> (Vec<Arc<Flow>>, SocketSums) {
    let mut own = Vec::new();
    let mut sockets = SocketSums::default();
    for rows in flows.chunk_by(|a, b| a.key.socket == b.key.socket) {
        let before = own.len();
        own.extend(rows.iter().filter(|flow| is_own(flow)).cloned());
        if own.len() > before {
            sockets += socket_sums(rows);
        }
    }
    (own, sockets)
}

fn find_process(snapshot: &Snapshot, id: ProcessId) -> Option<Arc<Process>> {
    let mut processes = snapshot.processes.iter();
    processes.find(|process| process.id == id).cloned()
}

/// The flow. One without an owner or remote so far continues as another row of its socket.
fn find_flow(snapshot: &Snapshot, key: FlowKey) -> Option<Arc<Flow>> {
    let rows = || {
        let flows = snapshot.flows.iter();
        flows.filter(|flow| flow.key.socket == key.socket)
    };
    let same = rows().find(|flow| flow.key == key);
    let same_remote = || rows().find(|flow| flow.key.remote == key.remote);
    let any = || rows().find(|_| key.remote.is_none());
    same.or_else(same_remote).or_else(any).cloned()
}

/// The interface; another one may have the index of one that is gone.
fn find_interface(snapshot: &Snapshot, known: &Interface) -> Option<Arc<Interface>> {
    let mut interfaces = snapshot.interfaces.iter();
    let found = interfaces.find(|it| it.ifindex == known.ifindex)?;
    let is_same = known.gone.is_none() || found.name == known.name;
    is_same.then(|| Arc::clone(found))
}
