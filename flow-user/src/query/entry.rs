//! A row before it has columns: its subject and its counters.

use std::{net::SocketAddr, sync::Arc};

use super::{
    groups::{By, Label},
    log::Logged,
};
use crate::{
    event::{
        AppTotals, Backlog, Bytes, Direction, Instant, Netns, ProcessId, Protocol, State,
        WireTotals,
    },
    model::snapshot::{Flow, FlowKey, Interface, LedgerSide, Process, Rate},
};

/// The subject of a row.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Process(Arc<Process>),
    /// A process that moved nothing here, but whose descendants did: its id and name.
    Ancestor(ProcessId, Arc<str>),
    Flow(Arc<Flow>),
    /// Bytes of a process whose flow is unknown.
    Overflow(Arc<Process>),
    /// What a grouping put together.
    Label(By, Label),
    Protocol(Protocol),
    Listener(Box<Listener>),
    Program(Box<Program>),
    Interface(Arc<Interface>),
    /// Bytes without a row of their own.
    Cause(Cause),
    Event(Arc<Logged>),
    Total,
}

/// The identity of a row, whatever its place: the same subject has the same identity in every
/// snapshot.
///
/// Equals are sorted in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Id {
    Process(ProcessId),
    Flow(FlowKey),
    Overflow(ProcessId),
    Label(By, Label),
    Protocol(Protocol),
    Listener(Option<Netns>, Protocol, SocketAddr),
    /// By its index.
    Interface(u32),
    Cause(Cause),
    /// By its number.
    Event(u64),
    Total,
}

impl Id {
    /// The identity of the row of a program.
    pub fn program(name: &Arc<str>) -> Self {
        Self::Label(By::Program, Label::Text(Arc::clone(name)))
    }
}

impl Subject {
    pub fn id(&self) -> Id {
        match self {
            Self::Process(process) => Id::Process(process.id),
            Self::Ancestor(id, _) => Id::Process(*id),
            Self::Flow(flow) => Id::Flow(flow.key),
            Self::Overflow(process) => Id::Overflow(process.id),
            Self::Label(by, label) => Id::Label(*by, label.id()),
            Self::Protocol(protocol) => Id::Protocol(*protocol),
            Self::Listener(it) => Id::Listener(it.netns, it.protocol, it.local),
            Self::Program(program) => Id::program(&program.name),
            Self::Interface(interface) => Id::Interface(interface.ifindex),
            Self::Cause(cause) => Id::Cause(*cause),
            Self::Event(event) => Id::Event(event.number),
            Self::Total => Id::Total,
        }
    }

    /// Whether it is the sum of what is no longer listed.
    pub const fn is_rest(&self) -> bool {
        matches!(self, Self::Cause(Cause::EndedProcesses | Cause::EndedFlows))
    }

    /// Whether it has ended: an exited process, a closed flow, a gone interface.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Process(process) | Self::Overflow(process) => process.exited.is_some(),
            Self::Flow(flow) => flow.closed.is_some(),
            Self::Interface(interface) => interface.gone.is_some(),
            Self::Program(program) => program.running() == 0,
            _ => false,
        }
    }
}

/// A listening address and port, and its processes.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub netns: Option<Netns>,
    pub protocol: Protocol,
    pub local: SocketAddr,
    /// Distinct, by pid.
    pub processes: Vec<Arc<Process>>,
    /// What waits at its sockets together, where that is known.
    pub backlog: Option<Backlog>,
    /// When the first of its sockets was opened, or first seen.
    pub opened: Instant,
    /// When something last moved there; if nothing did, as `opened`.
    pub last: Instant,
}

/// A program: processes of one name.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub name: Arc<str>,
    /// Those that are listed.
    pub processes: Vec<Arc<Process>>,
    /// How many are no longer.
    pub past: u64,
}

impl Program {
    pub fn running(&self) -> u64 {
        let running = self.processes.iter().filter(|it| it.exited.is_none());
        running.count() as u64
    }

    /// Its only process, if it never had another one.
    pub fn sole(&self) -> Option<&Arc<Process>> {
        match self.processes.as_slice() {
            [one] if self.past == 0 => Some(one),
            _ => None,
        }
    }

    /// What all of its listed processes have in common.
    pub fn common<'a, T: PartialEq>(&'a self, of: impl Fn(&'a Process) -> T) -> Option<T> {
        let mut values = self.processes.iter().map(|process| of(process));
        let first = values.next()?;
        values.all(|value| value == first).then_some(first)
    }
}

/// The reason why bytes have no row of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Cause {
    NotAccepted,
    Left,
    NoProcess,
    TableFull,
    /// A grouping has no label for them.
    Unlabelled(By),
    /// Programs that are not kept apart.
    OtherPrograms,
    EndedProcesses,
    EndedFlows,
}

impl Cause {
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotAccepted => "(not accepted yet)",
            Self::Left => "(left by its process)",
            Self::NoProcess => "(no process)",
            Self::TableFull => "(table full)",
            Self::Unlabelled(by) => by.def().unknown,
            Self::OtherPrograms => "(other programs)",
            Self::EndedProcesses => "(exited earlier)",
            Self::EndedFlows => "(closed earlier)",
        }
    }

    /// The reason why `flow` has no owner.
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
pub(crate) struct Entry {
    pub subject: Subject,
    pub app: AppTotals,
    /// Of its sockets, each once; only in the views by flow and by listener.
    pub wire: Option<WireTotals>,
    pub rate: Rate,
    /// Open flows.
    pub flows: u64,
    pub processes: u64,
    /// Flows of a group of them, closed ones too.
    pub members: u64,
    /// Rows under it that are not shown, and that its numbers contain.
    pub collapsed: u64,
    /// Only in the view by interface. Boxed, because there may be many flows and few interfaces.
    pub(super) ledger: Option<Box<Ledger>>,
}

/// The ledgers of an interface, by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub ingress: LedgerSide,
    pub egress: LedgerSide,
}

impl Entry {
    pub fn new(subject: Subject) -> Self {
        Self {
            subject,
            app: AppTotals::default(),
            wire: None,
            rate: Rate::default(),
            flows: 0,
            processes: 0,
            members: 0,
            collapsed: 0,
            ledger: None,
        }
    }

    /// The row of an event: with what its flow moved, or else its process.
    pub fn of_event(event: &Arc<Logged>) -> Self {
        let mut entry = Self::new(Subject::Event(Arc::clone(event)));
        entry.app = match (event.flow(), event.process()) {
            (Some(flow), _) => flow.app,
            (None, Some(process)) => process.totals,
            (None, None) => AppTotals::default(),
        };
        entry
    }

    pub fn add(&mut self, app: AppTotals, rate: Rate) {
        self.app += app;
        self.rate.tx += rate.tx;
        self.rate.rx += rate.rx;
    }

    /// Whether all that it stands for has ended.
    pub fn is_over(&self) -> bool {
        match &self.subject {
            Subject::Label(By::Flow | By::Remote, _) => self.members > 0 && self.flows == 0,
            Subject::Cause(cause) => matches!(cause, Cause::EndedProcesses | Cause::EndedFlows),
            subject => subject.is_over(),
        }
    }

    /// Whether it is a flow without a remote.
    pub fn has_no_remote(&self) -> bool {
        matches!(&self.subject, Subject::Flow(flow) if flow.key.remote.is_none())
    }

    pub fn is_flow(&self) -> bool {
        matches!(self.subject, Subject::Flow(_) | Subject::Overflow(_))
    }

    /// The ledger of an interface; all zero for other rows.
    pub fn ledger(&self) -> Ledger {
        self.ledger.as_deref().copied().unwrap_or_default()
    }

    /// Bytes in both directions: the second criterion of the default order, after the rate.
    pub fn total(&self) -> u64 {
        let Bytes(app) = self.app.tx_bytes + self.app.rx_bytes;
        let Bytes(frames) = match &self.ledger {
            Some(ledger) => ledger.ingress.frames + ledger.egress.frames,
            None => Bytes(0),
        };
        app.saturating_add(frames)
    }
}
