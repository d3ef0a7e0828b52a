//! What the model says changed: the raw material of the event stream.

use std::sync::Arc;

use super::snapshot::{Flow, Interface, Process};
use crate::event::{Coverage, Instant, Loss};

/// A change of the model. Rows are as they stood when the change was told.
#[derive(Clone, Debug)]
pub enum Change {
    /// A flow is new: connected, accepted, listening, or its first bytes moved.
    FlowOpened(Arc<Flow>),
    /// Counters, state or addresses of a flow changed; told at ticks, at most once for each flow.
    FlowUpdated(Arc<Flow>),
    /// A flow ended; its totals are final.
    FlowClosed(Arc<Flow>),
    ProcessExec(Arc<Process>),
    /// A process ended; its totals are final.
    ProcessExit {
        process: Arc<Process>,
        /// As `wait(2)` reports it; absent where nobody told.
        status: Option<u32>,
    },
    /// An interface's ledger, told at ticks.
    Ledger(Arc<Interface>),
    /// Something was lost; `count` is cumulative.
    Lost {
        cause: Loss,
        count: u64,
    },
    /// How each capability is provided.
    Status(Arc<[Coverage]>),
}

/// A change and when it happened.
#[derive(Clone, Debug)]
pub struct TimedChange {
    pub time: Instant,
    pub change: Change,
}

/// The changes since they were last drained, in the order they were emitted.
#[derive(Debug)]
pub(super) struct Changes {
    /// Absent where nobody wants them.
    wanted: Option<Vec<TimedChange>>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            wanted: Some(Vec::new()),
        }
    }
}

impl Changes {
    /// Says whether anybody wants them.
    pub(super) fn want(&mut self, are_wanted: bool) {
        self.wanted = are_wanted.then(|| self.drain());
    }

    /// Whether anybody does: else there is no need to draw rows for them.
    pub(super) fn are_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    pub(super) fn emit(&mut self, time: Instant, change: Change) {
        if let Some(changes) = &mut self.wanted {
            changes.push(TimedChange { time, change });
        }
    }

    pub(super) fn drain(&mut self) -> Vec<TimedChange> {
        self.wanted.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
