//! Rows of a socket: the flow in snapshots, and the changes that are emitted.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Ctx, Socket};
use crate::{
    event::{AppTotals, CloseReason, Instant},
    model::{
        change::Change,
        process::ProcessTable,
        rate::Meter,
        snapshot::{Flow, FlowKey, Process, Rate},
        totals::moved,
    },
};

/// A process's part of the socket's traffic, or the socket itself before its first use.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) app: AppTotals,
    pub(super) meter: Meter,
    pub(super) rate: Rate,
    pub(super) opened: Instant,
    pub(super) reported: Reported,
    /// Something changed since the last report.
    pub(super) changed: bool,
    /// Whether it is in [`unreported`](super::DirtyRows::unreported), in
    /// [`moving`](super::DirtyRows::moving).
    #[serde(skip)]
    pub(super) listed: bool,
    pub(super) moving: bool,
    /// The row as last shown, and the socket's version then.
    #[serde(skip)]
    pub(super) shown: Option<(u32, Arc<Flow>)>,
}

/// What was reported of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reported {
    Nothing,
    Opened,
    Closed,
}

impl Socket {
    /// A row for a snapshot: the same object as last time if nothing changed in it but the numbers
    /// of its process. Most rows' processes move bytes over other rows; it would cost too much to
    /// make them all again.
    pub(in crate::model) fn row(
        &mut self,
        at: usize,
        processes: &ProcessTable,
    ) -> Option<Arc<Flow>> {
        if let Some((version, flow)) = &self.rows.at(at).shown
            && *version == self.version
            && !flow.key.process.is_some_and(|id| processes.is_renamed(id))
        {
            return Some(flow.clone());
        }
        self.current(at, processes)
    }

    /// A row now, with its process.
    fn current(&mut self, at: usize, processes: &ProcessTable) -> Option<Arc<Flow>> {
        let process = self.rows.key(at).0.and_then(|id| processes.metadata(id));
        let flow = Arc::new(self.to_flow(at, process, self.closed)?);
        self.rows.at_mut(at).shown = Some((self.version, flow.clone()));
        Some(flow)
    }

    pub(super) fn to_flow(
        &self,
        at: usize,
        process: Option<Arc<Process>>,
        closed: Option<(Instant, CloseReason)>,
    ) -> Option<Flow> {
        let fact = self.fact.as_ref()?;
        let (owner, remote) = self.rows.key(at);
        let row = self.rows.at(at);
        let by_first_app = if fact.protocol.has_tcp_states() {
            None
        } else {
            self.first_app
        };
        Some(Flow {
            key: FlowKey {
                socket: self.cookie,
                process: owner,
                remote,
            },
            process,
            zone: self.zone_of(remote),
            protocol: fact.protocol,
            local: fact.local,
            state: fact.state,
            direction: fact.direction.or(by_first_app),
            netns: fact.netns,
            interface: self.interface.clone(),
            app: row.app,
            wire: fact.wire,
            tcp: fact.tcp,
            backlog: self.rare.as_ref().and_then(|rare| rare.backlog),
            rate: row.rate,
            opened: row.opened,
            closed,
        })
    }

    /// Emits what changed of a row since the last report.
    pub(in crate::model) fn emit_changes(&mut self, at: usize, ctx: &mut Ctx<'_>) {
        self.has_dirty_row = false;
        let row = self.rows.at_mut(at);
        row.listed = false;
        if !std::mem::take(&mut row.changed) {
            return;
        }
        match row.reported {
            Reported::Nothing => self.emit_open(at, ctx),
            Reported::Opened => {
                if ctx.changes.are_wanted()
                    && let Some(flow) = self.current(at, ctx.processes)
                {
                    ctx.changes.emit(ctx.time, Change::FlowUpdated(flow));
                }
            }
            Reported::Closed => {}
        }
    }

    /// Takes a row's rate since the last tick; returns whether it moves.
    pub(in crate::model) fn rate(&mut self, at: usize, elapsed: Duration) -> bool {
        let row = self.rows.at_mut(at);
        let rate = row.meter.tick(row.app.tx_bytes, row.app.rx_bytes, elapsed);
        if rate != row.rate {
            row.rate = rate;
            row.shown = None;
        }
        row.moving = rate != Rate::default();
        row.moving
    }

    /// Whether a row of it moved at the last tick.
    pub(in crate::model) fn moves(&self) -> bool {
        self.rows.iter().any(|(_, row)| row.moving)
    }

    /// Marks a row as changed.
    pub(super) fn mark_dirty(&mut self, at: usize, ctx: &mut Ctx<'_>) {
        self.has_dirty_row = true;
        let row = self.rows.at_mut(at);
        row.changed = true;
        if !row.listed {
            row.listed = true;
            ctx.dirty.unreported.push((self.cookie, at));
        }
    }

    /// Reports a new row at once if its owner is certain; otherwise the next tick does.
    pub(super) fn open_if_sure(&mut self, at: usize, ctx: &mut Ctx<'_>) {
        let Some(fact) = &self.fact else { return };
        let (process, remote) = self.rows.key(at);
        let row = self.rows.at(at);
        let owned = process.is_some() && process == fact.owner;
        let steady = remote.is_some() || fact.protocol.has_tcp_states();
        let sure = moved(&row.app) || (owned && steady) || self.closed.is_some();
        if sure && row.reported == Reported::Nothing {
            self.emit_open(at, ctx);
        }
    }

    /// Emits a row as opened; if its socket has ended since, also as closed.
    pub(super) fn emit_open(&mut self, at: usize, ctx: &mut Ctx<'_>) {
        let row = self.rows.at_mut(at);
        row.reported = Reported::Opened;
        row.changed = false;
        let flow = if !ctx.changes.are_wanted() {
            None
        } else if self.closed.is_none() {
            self.current(at, ctx.processes)
        } else {
            let process = self
                .rows
                .key(at)
                .0
                .and_then(|id| ctx.processes.metadata(id));
            self.to_flow(at, process, None).map(Arc::new)
        };
        if let Some(flow) = flow {
            ctx.changes.emit(ctx.time, Change::FlowOpened(flow));
        }
        if self.closed.is_some() {
            self.emit_close(at, ctx);
        }
    }

    pub(super) fn emit_close(&mut self, at: usize, ctx: &mut Ctx<'_>) {
        let row = self.rows.at_mut(at);
        row.reported = Reported::Closed;
        row.changed = false;
        if ctx.changes.are_wanted()
            && let Some(flow) = self.current(at, ctx.processes)
        {
            ctx.changes.emit(ctx.time, Change::FlowClosed(flow));
        }
    }
}
