//! Changes of the model, from which sinks make the event stream.

use std::sync::Arc;

use super::snapshot::{Flow, FlowKey, Interface, Process};
use crate::event::{AppTotals, Coverage, Instant, Loss, SocketCookie, State};

/// A change of the model. Rows are as they stood when the change was emitted.
#[derive(Clone, Debug)]
pub enum Change {
    /// A flow is new: connected, accepted, listening, or its first bytes moved.
    FlowOpened(Arc<Flow>),
    /// Counters, state or addresses of a flow changed; emitted at ticks, at most once for each
    /// flow.
    FlowUpdated(Arc<Flow>),
    /// A flow ended; its totals are final.
    FlowClosed(Arc<Flow>),
    ProcessExec(Arc<Process>),
    /// A process ended; its totals are final.
    ProcessExit {
        process: Arc<Process>,
        /// As `wait(2)` reports it; absent where it is unknown.
        status: Option<u32>,
    },
    /// An interface's ledger, emitted at ticks.
    Ledger(Arc<Interface>),
    /// Something was lost; `count` is cumulative.
    Lost {
        cause: Loss,
        count: u64,
    },
    /// How each capability is provided.
    Status(Arc<[Coverage]>),
}

/// What a change is about.
#[derive(Clone, Copy, Debug)]
pub enum ChangeSubject<'a> {
    Flow(&'a Arc<Flow>),
    Process(&'a Arc<Process>),
    Interface(&'a Arc<Interface>),
    Loss(Loss, u64),
    Coverage(&'a [Coverage]),
}

/// Identifies changes of one thing, of which a newer one replaces an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoalesceKey {
    Flow(FlowKey),
    Interface(u32),
    Loss(Loss),
    Coverage,
}

/// How a change combines with older ones that a slow reader has not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coalescing {
    /// Each is delivered.
    Never,
    /// Only brings newer totals: the newest of a key is delivered.
    Newest(CoalesceKey),
    /// Delivered, and what comes later replaces nothing from before it.
    First(CoalesceKey),
    /// Delivered, with the final totals: older ones of the key need not be.
    Last(CoalesceKey),
}

impl Change {
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::FlowOpened(_) => EventKind::FlowOpen,
            Self::FlowUpdated(_) => EventKind::FlowUpdate,
            Self::FlowClosed(_) => EventKind::FlowClose,
            Self::ProcessExec(_) => EventKind::ProcessExec,
            Self::ProcessExit { .. } => EventKind::ProcessExit,
            Self::Ledger(_) => EventKind::Ledger,
            Self::Lost { .. } => EventKind::Lost,
            Self::Status(_) => EventKind::Status,
        }
    }

    pub fn subject(&self) -> ChangeSubject<'_> {
        match self {
            Self::FlowOpened(flow) | Self::FlowUpdated(flow) | Self::FlowClosed(flow) => {
                ChangeSubject::Flow(flow)
            }
            Self::ProcessExec(process) | Self::ProcessExit { process, .. } => {
                ChangeSubject::Process(process)
            }
            Self::Ledger(interface) => ChangeSubject::Interface(interface),
            Self::Lost { cause, count } => ChangeSubject::Loss(*cause, *count),
            Self::Status(coverage) => ChangeSubject::Coverage(coverage),
        }
    }

    pub fn coalescing(&self) -> Coalescing {
        match self {
            Self::FlowOpened(flow) => Coalescing::First(CoalesceKey::Flow(flow.key)),
            Self::FlowUpdated(flow) => Coalescing::Newest(CoalesceKey::Flow(flow.key)),
            Self::FlowClosed(flow) => Coalescing::Last(CoalesceKey::Flow(flow.key)),
            Self::ProcessExec(_) | Self::ProcessExit { .. } => Coalescing::Never,
            Self::Ledger(it) => Coalescing::Newest(CoalesceKey::Interface(it.ifindex)),
            Self::Lost { cause, .. } => Coalescing::Newest(CoalesceKey::Loss(*cause)),
            Self::Status(_) => Coalescing::Newest(CoalesceKey::Coverage),
        }
    }

    /// The flow it is about.
    pub fn flow(&self) -> Option<&Arc<Flow>> {
        match self.subject() {
            ChangeSubject::Flow(flow) => Some(flow),
            _ => None,
        }
    }

    /// The process it is about, or whose flow it is about.
    pub fn process(&self) -> Option<&Arc<Process>> {
        match self.subject() {
            ChangeSubject::Process(process) => Some(process),
            _ => self.flow()?.process.as_ref(),
        }
    }

    /// Of a process that ended: its status, where that is known.
    pub const fn exit(&self) -> Option<Option<u32>> {
        match self {
            Self::ProcessExit { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Its name for columns; a flow that was there before Flow began was not opened now.
    pub fn word(&self) -> &'static str {
        match self {
            Self::FlowOpened(flow) if flow.found.is_some() => "found",
            _ => self.kind().short(),
        }
    }

    /// Whether it is worth a line in a log of what happened, where numbers that grew are not.
    pub fn is_notable(&self) -> bool {
        match self.kind().weight() {
            // Hundreds of them at once, of a time before the log.
            Weight::Notable if matches!(self, Self::FlowOpened(flow) if flow.found.is_some()) => {
                false
            }
            Weight::Routine => false,
            // Most processes never touch the network.
            Weight::IfMoved => self
                .process()
                .is_some_and(|process| process.totals != AppTotals::default()),
            Weight::Notable | Weight::Alarm => true,
        }
    }
}

/// How much a kind of event matters to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Frequent, and of no interest by itself.
    Routine,
    /// Notable where its process moved bytes, else routine.
    IfMoved,
    Notable,
    /// Something went wrong.
    Alarm,
}

/// The kinds of events: one row each.
macro_rules! event_kinds {
    ($($kind:ident $name:literal $weight:ident)*) => {
        /// Kind of an event, as in the stream.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventKind {
            $($kind,)*
        }

        impl EventKind {
            /// Every kind.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind,)*];

            /// Its name, the value of `type` in the stream.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            pub const fn weight(self) -> Weight {
                match self {
                    $(Self::$kind => Weight::$weight,)*
                }
            }
        }
    };
}

event_kinds! {
    FlowOpen    "flow.open"    Notable
    FlowUpdate  "flow.update"  Routine
    FlowClose   "flow.close"   Notable
    ProcessExec "process.exec" Routine
    ProcessExit "process.exit" IfMoved
    Ledger      "ledger"       Routine
    Lost        "lost"         Alarm
    Status      "status"       Notable
}

impl EventKind {
    /// What it is about: the first part of its name.
    pub fn family(self) -> &'static str {
        self.parts().0
    }

    /// Its name without that, for columns: `open`.
    pub fn short(self) -> &'static str {
        self.parts().1
    }

    fn parts(self) -> (&'static str, &'static str) {
        let name = self.name();
        name.split_once('.').unwrap_or((name, name))
    }
}

/// A change and when it happened.
#[derive(Clone, Debug)]
pub struct TimedChange {
    pub time: Instant,
    pub change: Change,
}

/// A connection's socket has a new state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    pub time: Instant,
    pub socket: SocketCookie,
    pub state: State,
}

/// The changes since they were last drained, in the order they were emitted.
#[derive(Debug)]
pub(super) struct Changes {
    /// `None` where no consumer wants them.
    wanted: Option<Vec<TimedChange>>,
    /// Of states, likewise.
    states: Option<Vec<StateChange>>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            wanted: Some(Vec::new()),
            states: None,
        }
    }
}

impl Changes {
    /// Sets whether a consumer wants them, and those of states.
    pub(super) fn want(&mut self, are_wanted: bool, are_states_wanted: bool) {
        self.wanted = are_wanted.then(|| self.drain());
        self.states = are_states_wanted.then(|| self.drain_states());
    }

    /// Whether a consumer wants them: otherwise no rows are made for them.
    pub(super) fn are_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    pub(super) fn emit(&mut self, time: Instant, change: Change) {
        if let Some(changes) = &mut self.wanted {
            changes.push(TimedChange { time, change });
        }
    }

    pub(super) fn emit_state(&mut self, change: StateChange) {
        if let Some(states) = &mut self.states {
            states.push(change);
        }
    }

    pub(super) fn drain_states(&mut self) -> Vec<StateChange> {
        self.states.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn drain(&mut self) -> Vec<TimedChange> {
        self.wanted.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
