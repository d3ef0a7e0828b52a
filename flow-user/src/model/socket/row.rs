//! Rows of a socket: the flow in snapshots, and the changes that are emitted.

use std::{sync::Arc, time::Duration};

use foldhash::HashSet;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Ctx, DirtyRows, Socket};
use crate::{
    event::{AppTotals, CloseReason, Instant, ProcessId},
    model::{
        change::Change,
        process::ProcessTable,
        rate::Meter,
        snapshot::{Flow, FlowKey, Process, Rate},
        sums::{OneSocket, SocketSums},
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
    /// When it last moved bytes, or was opened.
    pub(super) last: Instant,
    /// Whether it counts as an open flow, see [`Flow::is_open`].
    pub(super) counts: bool,
    pub(super) phase: Phase,
    /// If it is in [`waiting`](super::DirtyRows::waiting), by which time.
    #[serde(default)]
    pub(super) waits: Option<Instant>,
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

/// Where a row is in its life, as long as its socket is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    Open,
    /// It ended then, for want of bytes.
    Idle(Instant),
    /// It left the history after that.
    Hidden,
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
        if self.rows.at(at).phase == Phase::Hidden {
            return None;
        }
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
        let flow = Arc::new(self.to_flow(at, process, self.ended(at))?);
        self.rows.at_mut(at).shown = Some((self.version, flow.clone()));
        Some(flow)
    }

    /// Puts what its rows moved, and its packets, to the sums of what is no longer listed.
    pub(in crate::model) fn retire_all(&self, ctx: &mut Ctx<'_>) {
        let Some(fact) = &self.fact else { return };
        let sums = self.sums();
        let is_used = self.rows.iter().any(|(_, row)| moved(&row.app));
        let mut processes = HashSet::default();
        // A connection counts once for its remote, however many processes share it.
        let mut of_connection = fact.protocol.has_tcp_states().then_some(sums);
        // Packets are of the socket: one of its rows brings them.
        let mut packets = fact.wire;
        for at in 0..self.rows.len() {
            let is_hidden = self.rows.at(at).phase == Phase::Hidden;
            if is_hidden && packets.is_none() {
                continue;
            }
            if !is_hidden
                && let Some(process) = self.rows.key(at).0
                && processes.insert(process)
            {
                ctx.processes.socket_left(process, sums);
            }
            if let Some(flow) = self.to_flow(at, None, self.ended(at)) {
                ctx.retired.add(&flow, packets.take());
                if is_hidden {
                    continue;
                }
                let of_connection = match flow.key.remote == fact.remote {
                    true => of_connection.take(),
                    false => None,
                };
                ctx.retired.add_past_remote(&flow, is_used, of_connection);
            }
        }
        if self.is_ephemeral
            && self.serves()
            && let Some(flow) = self.to_flow(0, None, self.closed)
        {
            ctx.retired.forget_port(&flow);
        }
    }

    /// The processes with listed rows, each once.
    fn listed_processes(&self) -> SmallVec<[ProcessId; 2]> {
        let mut processes: SmallVec<[ProcessId; 2]> = SmallVec::new();
        for ((process, _), row) in self.rows.iter() {
            if let Some(process) = process.filter(|it| !processes.contains(it))
                && row.phase != Phase::Hidden
            {
                processes.push(process);
            }
        }
        processes
    }

    /// The sums over this socket alone.
    fn sums(&self) -> SocketSums {
        let Some(fact) = &self.fact else {
            return SocketSums::default();
        };
        let mut app = AppTotals::default();
        for (_, row) in self.rows.iter() {
            app += row.app;
        }
        let before = self.found.map_or(0, |found| found.retransmits);
        let retransmits = fact
            .tcp
            .map(|tcp| (tcp.retransmits.saturating_sub(before), before));
        SocketSums::of(OneSocket {
            protocol: fact.protocol,
            direction: fact.direction,
            wire: fact.wire,
            app,
            retransmits,
        })
    }

    /// A row is listed no longer, or as that of another process. If the process has no other one, its
    /// sums keep what the socket has counted so far.
    pub(super) fn leave(&mut self, process: ProcessId, at: usize, ctx: &mut Ctx<'_>) {
        let mut others = (0..self.rows.len()).filter(|other| *other != at);
        let is_listed = others.any(|other| {
            self.rows.key(other).0 == Some(process) && self.rows.at(other).phase != Phase::Hidden
        });
        if is_listed {
            return;
        }
        let sums = self.sums();
        if sums != SocketSums::default() {
            ctx.processes.socket_left(process, sums);
            let left = &mut self.rare.get_or_insert_default().left;
            left.push((process, sums));
        }
    }

    /// A process has a listed row, perhaps again.
    pub(super) fn come_back(&mut self, process: ProcessId, ctx: &mut Ctx<'_>) {
        let Some(left) = self.rare.as_mut().map(|rare| &mut rare.left) else {
            return;
        };
        if let Some(at) = left.iter().position(|(id, _)| *id == process) {
            let (_, sums) = left.swap_remove(at);
            ctx.processes.socket_came_back(process, &sums);
        }
    }

    /// When and why a row ended, if it did.
    fn ended(&self, at: usize) -> Option<(Instant, CloseReason)> {
        match self.rows.at(at).phase {
            Phase::Idle(since) => Some((since, CloseReason::Idle)),
            Phase::Open | Phase::Hidden => self.closed,
        }
    }

    /// Makes a row count as an open flow, or no longer.
    pub(super) fn count(&mut self, at: usize, counts: bool, ctx: &mut Ctx<'_>) {
        let process = self.rows.key(at).0;
        match std::mem::replace(&mut self.rows.at_mut(at).counts, counts) {
            before if before == counts => {}
            false => ctx.flow_opened(process),
            true => ctx.flow_closed(process),
        }
    }

    /// Has an open row looked at when it may be idle.
    pub(super) fn begin_waiting(&mut self, at: usize, dirty: &mut DirtyRows) {
        let row = self.rows.at(at);
        if row.waits.is_none() && row.phase == Phase::Open && self.may_be_idle(at) {
            let last = row.last;
            dirty.waiting.insert((last, (self.cookie, at)));
            self.rows.at_mut(at).waits = Some(last);
        }
    }

    /// It ends: no row is looked at any more.
    pub(super) fn stop_waiting(&mut self, dirty: &mut DirtyRows) {
        for at in 0..self.rows.len() {
            if let Some(since) = self.rows.at_mut(at).waits.take() {
                dirty.waiting.remove(&(since, (self.cookie, at)));
            }
            if let Phase::Idle(since) = self.rows.at(at).phase {
                dirty.idle.remove(&(since, (self.cookie, at)));
            }
        }
    }

    /// Whether a row ends when it moves nothing for long.
    pub(super) fn may_be_idle(&self, at: usize) -> bool {
        let Some(fact) = &self.fact else { return false };
        let has_own_peer = fact.protocol.has_tcp_states() || fact.remote.is_some();
        !has_own_peer && self.rows.key(at).1.is_some() && self.closed.is_none()
    }

    /// Looks at a row that was in [`waiting`](super::DirtyRows::waiting): it is idle, or waits on.
    pub(in crate::model) fn wait_on(&mut self, at: usize, idle: Duration, ctx: &mut Ctx<'_>) {
        if at >= self.rows.len() {
            return;
        }
        self.rows.at_mut(at).waits = None;
        if self.rows.at(at).phase != Phase::Open || !self.may_be_idle(at) {
            return;
        }
        if ctx.time.since(self.rows.at(at).last) < idle {
            self.begin_waiting(at, ctx.dirty);
            return;
        }
        if self.rows.at(at).reported == Reported::Nothing {
            self.emit_open(at, ctx);
        }
        let row = self.rows.at_mut(at);
        row.phase = Phase::Idle(ctx.time);
        row.shown = None;
        ctx.dirty.idle.insert((ctx.time, (self.cookie, at)));
        ctx.dirty.open_rows -= 1;
        ctx.dirty.closed_rows += 1;
        self.count(at, false, ctx);
        self.emit_close(at, ctx);
    }

    /// A row that is idle since then leaves the history, if it still is. Returns whether it does.
    pub(in crate::model) fn hide(&mut self, at: usize, since: Instant, ctx: &mut Ctx<'_>) -> bool {
        let is_there = at < self.rows.len() && self.closed.is_none();
        if !is_there || self.rows.at(at).phase != Phase::Idle(since) {
            return false;
        }
        self.retire(at, ctx);
        self.rows.at_mut(at).phase = Phase::Hidden;
        ctx.dirty.closed_rows -= 1;
        if let Some(process) = self.rows.key(at).0 {
            self.leave(process, at, ctx);
            ctx.processes.release(process, ctx.time);
        }
        true
    }

    /// Bytes came for a row that had ended: a new flow begins.
    pub(super) fn begin_again(&mut self, at: usize, since: Instant, ctx: &mut Ctx<'_>) {
        let process = self.rows.key(at).0;
        if self.rows.at(at).phase == Phase::Hidden {
            if let Some(process) = process {
                ctx.processes.acquire(process, ctx.time);
                self.come_back(process, ctx);
            }
        } else {
            if let Phase::Idle(since) = self.rows.at(at).phase {
                ctx.dirty.idle.remove(&(since, (self.cookie, at)));
            }
            self.retire(at, ctx);
            ctx.retired.count_replaced();
            ctx.dirty.closed_rows -= 1;
        }
        ctx.dirty.open_rows += 1;
        self.rows.at_mut(at).phase = Phase::Open;
        let counts = self.counts_at(at);
        self.count(at, counts, ctx);
        let row = self.rows.at_mut(at);
        row.opened = since;
        row.reported = Reported::Nothing;
        row.changed = true;
    }

    /// Puts what a row moved to the sums of what is no longer listed.
    fn retire(&mut self, at: usize, ctx: &mut Ctx<'_>) {
        if let Some(flow) = self.to_flow(at, None, self.ended(at)) {
            ctx.retired.add(&flow, None);
            ctx.retired.add_past_remote(&flow, true, None);
            // The bytes of a socket count for each process that uses it, as its packets do.
            if flow.wire.is_some() {
                let sums = SocketSums {
                    app: flow.app,
                    ..SocketSums::default()
                };
                for process in self.listed_processes() {
                    ctx.processes.socket_left(process, sums);
                }
            }
        }
        let row = self.rows.at_mut(at);
        row.app = AppTotals::default();
        row.meter = Meter::default();
        row.rate = Rate::default();
        row.shown = None;
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
            serves: self.serves(),
            netns: fact.netns,
            interface: self.interface.clone(),
            app: row.app,
            wire: fact.wire,
            tcp: fact.tcp,
            path: self
                .rare
                .as_ref()
                .and_then(|rare| Some(rare.watched.as_ref()?.path.clone())),
            connect: self.connect,
            backlog: self.rare.as_ref().and_then(|rare| rare.backlog),
            rate: row.rate,
            opened: row.opened,
            last: row.last,
            found: self.found,
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
