//! What the tables share while an event is applied.

use std::collections::BTreeSet;

use super::RowRef;
use crate::{
    event::{Instant, ProcessId, SocketCookie},
    model::{change::Changes, process::ProcessTable, retired::RetiredFlows},
};

/// Context of an event: what the tables share while it is applied.
pub(in crate::model) struct Ctx<'a> {
    pub(in crate::model) time: Instant,
    pub(in crate::model) processes: &'a mut ProcessTable,
    pub(in crate::model) changes: &'a mut Changes,
    pub(in crate::model) dirty: &'a mut DirtyRows,
    pub(in crate::model) retired: &'a mut RetiredFlows,
}

impl Ctx<'_> {
    /// A row begins to count as an open flow of this process.
    pub(super) fn flow_opened(&mut self, process: Option<ProcessId>) {
        self.dirty.open_flows += 1;
        if let Some(process) = process {
            self.processes.flow_opened(process);
        }
    }

    /// And ends to.
    pub(super) fn flow_closed(&mut self, process: Option<ProcessId>) {
        self.dirty.open_flows = self.dirty.open_flows.saturating_sub(1);
        if let Some(process) = process {
            self.processes.flow_closed(process);
        }
    }
}

/// The rows and sockets that the next tick visits, and the number of rows.
#[derive(Debug, Default)]
pub(in crate::model) struct DirtyRows {
    /// Rows with unreported changes.
    pub(in crate::model) unreported: Vec<RowRef>,
    /// Rows that moved bytes since the last tick, or had a rate then.
    pub(in crate::model) moving: Vec<RowRef>,
    /// Rows that may become idle, by when they last moved bytes at least.
    pub(in crate::model) waiting: BTreeSet<(Instant, RowRef)>,
    /// Rows that are idle, and since when, until they leave the history.
    pub(in crate::model) idle: BTreeSet<(Instant, RowRef)>,
    /// Sockets with deferred bytes.
    pub(in crate::model) deferring: BTreeSet<SocketCookie>,
    pub(in crate::model) open_rows: usize,
    pub(in crate::model) closed_rows: usize,
    /// Rows that count as open flows.
    pub(in crate::model) open_flows: usize,
}
