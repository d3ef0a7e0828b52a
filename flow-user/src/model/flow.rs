//! The socket table: open, listening and ended sockets.
//!
//! A socket that ended stays with its rows for the history, and then as a tombstone with its
//! counters, see [`super::tombstone`]. The rows of one socket are in [`super::socket`].

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use foldhash::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

use super::{
    change::Changes,
    process::ProcessTable,
    retired::RetiredFlows,
    snapshot::Flow,
    socket::{Ctx, DirtyRows, FinalCounters, NamedZone, Names, Place, Socket},
    tombstone::Tombstones,
    totals::moved,
};
use crate::{
    event::{
        AppFact, Backlog, CloseReason, Direction, Instant, Netns, ProcessId, SocketCookie,
        SocketFact, State, TcpInfo,
    },
    room::Room as _,
};

/// How long TCP's own view of a connection counts as its view now.
const STALE: Duration = Duration::from_secs(5);
/// Rows of ended sockets kept at most, so that a storm of short connections cannot fill memory.
const CLOSED_ROWS: usize = 65_536;

/// Every socket known, with its rows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FlowTable {
    #[serde(skip)]
    history: Duration,
    /// How long a datagram flow may move nothing before it is over.
    #[serde(skip)]
    idle: Duration,
    /// Ordered, so that every walk over it comes out the same. Boxed, because a map of large
    /// values is mostly room for values to come.
    sockets: BTreeMap<SocketCookie, Box<Socket>>,
    #[serde(skip)]
    listeners: HashMap<Place, Vec<SocketCookie>>,
    closed: VecDeque<(Instant, SocketCookie)>,
    dropped: Tombstones<SocketCookie, FinalCounters>,
    /// Rows of dropped sockets.
    dropped_rows: u64,
    retired: RetiredFlows,
    /// Connections of which TCP's own view is known.
    watched: HashSet<SocketCookie>,
    #[serde(skip)]
    dirty: DirtyRows,
}

impl FlowTable {
    pub(super) fn new(history: Duration, idle: Duration) -> Self {
        Self {
            history,
            idle,
            sockets: BTreeMap::new(),
            listeners: HashMap::default(),
            closed: VecDeque::new(),
            dropped: Tombstones::default(),
            dropped_rows: 0,
            retired: RetiredFlows::default(),
            watched: HashSet::default(),
            dirty: DirtyRows::default(),
        }
    }

    /// Resumes from a keyframe.
    pub(super) fn resume(
        &mut self,
        history: Duration,
        idle: Duration,
        processes: &mut ProcessTable,
    ) {
        self.history = history;
        self.idle = idle;
        for (cookie, socket) in &mut self.sockets {
            socket.cookie = *cookie;
            socket.resume(processes, &mut self.dirty);
        }
        for (cookie, socket) in &self.sockets {
            if let Some(at) = socket.listening() {
                self.listeners.entry(at).or_default().push(*cookie);
            }
        }
        self.queue_closed();
    }

    /// Queues each closed socket, once.
    fn queue_closed(&mut self) {
        let closed = |cookie: &SocketCookie| {
            let (time, _) = self.sockets.get(cookie)?.closed?;
            Some(time)
        };
        let mut queued = HashSet::default();
        let mut queue = std::mem::take(&mut self.closed);
        queue.retain(|(time, cookie)| closed(cookie) == Some(*time) && queued.insert(*cookie));
        let missing = self
            .sockets
            .keys()
            .filter(|cookie| !queued.contains(*cookie));
        let missing = missing.filter_map(|cookie| Some((closed(cookie)?, *cookie)));
        queue.extend(missing);
        self.closed = queue;
    }

    /// A process moved bytes over a socket.
    pub(super) fn app(
        &mut self,
        fact: &AppFact,
        zone: Option<NamedZone>,
        time: Instant,
        processes: &mut ProcessTable,
        changes: &mut Changes,
    ) {
        if let Some(counters) = self.dropped.get_mut(&fact.socket) {
            let growth = counters.raise(fact);
            if moved(&growth) {
                processes.observe(fact, true, time);
                processes.count(fact.process, growth, time);
                self.dropped.renew(fact.socket, time);
            }
            return;
        }
        if !moved(&fact.totals) {
            return;
        }
        let (mut ctx, sockets) = self.ctx(time, processes, changes);
        let socket = socket(sockets, fact.socket);
        socket.name_zone(zone);
        socket.app(fact, &mut ctx);
    }

    /// A socket is new or changed.
    pub(super) fn socket(
        &mut self,
        fact: SocketFact,
        names: Names,
        time: Instant,
        processes: &mut ProcessTable,
        changes: &mut Changes,
    ) {
        let cookie = fact.cookie;
        if self.dropped.contains(&cookie) {
            return;
        }
        let listener = self.listener_of(&fact);
        let (mut ctx, sockets) = self.ctx(time, processes, changes);
        let socket = socket(sockets, cookie);
        let before = socket.listening();
        socket.learn(fact, names, listener, &mut ctx);
        let after = socket.listening();
        if before != after {
            self.stop_listening(cookie, before);
            if let Some(port) = after {
                self.listeners.entry(port).or_default().push(cookie);
            }
        }
    }

    /// What waits at a listening socket; one that is not known yet has none.
    pub(super) fn listening_with(&mut self, cookie: SocketCookie, backlog: Backlog) {
        if let Some(socket) = self.sockets.get_mut(&cookie) {
            socket.listening_with(backlog);
        }
    }

    /// What TCP knows of a connection; of one that is not known yet nothing is kept.
    pub(super) fn tcp_info(&mut self, cookie: SocketCookie, info: TcpInfo, time: Instant) {
        if let Some(socket) = self.sockets.get_mut(&cookie) {
            socket.tcp_info(info, time);
            self.watched.insert(cookie);
        }
    }

    /// Forgets what TCP knew of connections that are no longer asked for.
    pub(super) fn forget_tcp_info(&mut self, now: Instant) {
        let before = Instant(now.0.saturating_sub(STALE.as_nanos() as u64));
        let sockets = &mut self.sockets;
        self.watched.retain(|cookie| {
            let socket = sockets.get_mut(cookie);
            socket.is_some_and(|socket| socket.forget_tcp_info(before))
        });
        self.watched.give_back();
    }

    /// A socket is gone.
    pub(super) fn end(
        &mut self,
        cookie: SocketCookie,
        reason: CloseReason,
        time: Instant,
        processes: &mut ProcessTable,
        changes: &mut Changes,
    ) {
        if self.dropped.contains(&cookie) {
            return;
        }
        let (mut ctx, sockets) = self.ctx(time, processes, changes);
        let socket = socket(sockets, cookie);
        let listening = socket.listening();
        if socket.closed.is_none() {
            socket.close(reason, &mut ctx);
            self.closed.push_back((time, cookie));
        }
        self.stop_listening(cookie, listening);
    }

    /// An interface of the host, whose namespace is `netns`, has a new name.
    pub(super) fn name_interface(&mut self, netns: Netns, ifindex: u32, name: &Arc<str>) {
        // Interfaces come and are renamed rarely: a walk over all sockets is cheap enough.
        for socket in self.sockets.values_mut() {
            let there =
                |fact: &SocketFact| fact.netns == Some(netns) && fact.ifindex == Some(ifindex);
            if socket.fact.as_ref().is_some_and(there) {
                socket.name_interface(name);
            }
            socket.rename_zone(ifindex, name);
        }
    }

    /// Adds deferred bytes to rows, and closes sockets of which no report can come any more.
    pub(super) fn settle(
        &mut self,
        time: Instant,
        processes: &mut ProcessTable,
        changes: &mut Changes,
    ) {
        let deferring: Vec<_> = self.dirty.deferring.iter().copied().collect();
        for cookie in deferring {
            let (mut ctx, sockets) = self.ctx(time, processes, changes);
            let Some(socket) = sockets.get_mut(&cookie) else {
                continue;
            };
            let settled = socket.settle(&mut ctx);
            let orphan = !settled && socket.closed.is_none() && socket.is_orphan(ctx.processes);
            if orphan {
                self.end(cookie, CloseReason::Vanished, time, processes, changes);
            }
        }
    }

    /// Ends the datagram flows that have moved nothing for long.
    pub(super) fn end_idle(
        &mut self,
        time: Instant,
        processes: &mut ProcessTable,
        changes: &mut Changes,
    ) {
        let idle = self.idle;
        while let Some(&(last, row)) = self.dirty.waiting.first()
            && time.since(last) >= idle
        {
            self.dirty.waiting.pop_first();
            let (mut ctx, sockets) = self.ctx(time, processes, changes);
            if let Some(socket) = sockets.get_mut(&row.0) {
                socket.wait_on(row.1, idle, &mut ctx);
            }
        }
    }

    /// Takes each row's rate since the last tick; `elapsed` must not be zero.
    pub(super) fn rates(&mut self, elapsed: Duration) {
        let sockets = &mut self.sockets;
        self.dirty.moving.retain(|(cookie, at)| {
            let socket = sockets.get_mut(cookie);
            socket.is_some_and(|socket| socket.rate(*at, elapsed))
        });
    }

    /// Emits each row that is new or changed since the last report.
    pub(super) fn emit_changes(
        &mut self,
        time: Instant,
        processes: &mut ProcessTable,
        changes: &mut Changes,
    ) {
        let unreported = std::mem::take(&mut self.dirty.unreported);
        let (mut ctx, sockets) = self.ctx(time, processes, changes);
        for (cookie, at) in unreported {
            if let Some(socket) = sockets.get_mut(&cookie) {
                socket.emit_changes(at, &mut ctx);
            }
        }
    }

    /// Drops the sockets that have left the history.
    pub(super) fn expire(
        &mut self,
        time: Instant,
        processes: &mut ProcessTable,
        changes: &mut Changes,
    ) {
        while let Some(&(since, (cookie, at))) = self.dirty.idle.first()
            && (time.since(since) >= self.history || self.dirty.closed_rows > CLOSED_ROWS)
        {
            self.dirty.idle.pop_first();
            let (mut ctx, sockets) = self.ctx(time, processes, changes);
            if let Some(socket) = sockets.get_mut(&cookie)
                && socket.hide(at, since, &mut ctx)
            {
                self.dropped_rows += 1;
            }
        }
        let mut moved = false;
        while let Some(&(closed, cookie)) = self.closed.front() {
            if time.since(closed) < self.history && self.dirty.closed_rows <= CLOSED_ROWS {
                break;
            }
            self.closed.pop_front();
            let (mut ctx, sockets) = self.ctx(time, processes, changes);
            if let Some(socket) = sockets.remove(&cookie) {
                let rows = socket.listed_rows() as u64;
                moved |= socket.moves();
                socket.retire_all(&mut ctx);
                let counters = socket.bury(&mut ctx);
                self.dropped_rows += rows;
                self.dirty.deferring.remove(&cookie);
                // Late is what comes after the end, not after the history.
                self.dropped.bury(cookie, counters, closed);
            }
        }
        if moved {
            // Before a late report brings one of them back with other rows.
            let sockets = &self.sockets;
            let moving = &mut self.dirty.moving;
            moving.retain(|(cookie, _)| sockets.contains_key(cookie));
        }
        self.dropped.expire(time);
        self.closed.give_back();
        self.dirty.moving.give_back();
        self.listeners.give_back();
    }

    /// Every row, open ones and those in the history.
    pub(super) fn rows(&mut self, processes: &ProcessTable) -> Vec<Arc<Flow>> {
        let mut rows = Vec::with_capacity(self.dirty.open_rows + self.dirty.closed_rows);
        for socket in self.sockets.values_mut() {
            rows.extend((0..socket.row_count()).filter_map(|at| socket.row(at, processes)));
        }
        rows
    }

    /// Open rows, listeners apart.
    pub(super) fn open_flows(&self) -> usize {
        self.dirty.open_flows
    }

    /// Sums of the rows that are no longer listed.
    pub(super) fn retired(&mut self) -> &mut RetiredFlows {
        &mut self.retired
    }

    /// Rows that are no longer listed.
    pub(super) fn dropped_count(&self) -> u64 {
        self.dropped_rows + self.retired.replaced()
    }

    /// Entries that its lists and tables have room for.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        let Self {
            history: _,
            idle: _,
            // Its nodes go with their entries.
            sockets: _,
            listeners,
            closed,
            dropped,
            dropped_rows: _,
            // Bounded.
            retired: _,
            watched,
            dirty,
        } = self;
        let DirtyRows {
            unreported,
            moving,
            // Its nodes go with their entries.
            waiting: _,
            idle: _,
            deferring: _,
            open_rows: _,
            closed_rows: _,
            open_flows: _,
        } = dirty;
        let lists = closed.capacity() + unreported.capacity() + moving.capacity();
        lists + listeners.capacity() + watched.capacity() + dropped.room()
    }

    fn ctx<'a>(
        &'a mut self,
        time: Instant,
        processes: &'a mut ProcessTable,
        changes: &'a mut Changes,
    ) -> (Ctx<'a>, &'a mut BTreeMap<SocketCookie, Box<Socket>>) {
        let ctx = Ctx {
            time,
            processes,
            changes,
            dirty: &mut self.dirty,
            retired: &mut self.retired,
        };
        (ctx, &mut self.sockets)
    }

    fn stop_listening(&mut self, cookie: SocketCookie, at: Option<Place>) {
        if let Some(at) = at
            && let Some(cookies) = self.listeners.get_mut(&at)
        {
            cookies.retain(|other| *other != cookie);
            if cookies.is_empty() {
                self.listeners.remove(&at);
            }
        }
    }

    /// The owner of the listener of a connection that is not accepted yet: of those at its address,
    /// else at the wildcard. `None` if they have several owners (SO_REUSEPORT).
    fn listener_of(&self, fact: &SocketFact) -> Option<ProcessId> {
        let waits = fact.owner.is_none()
            && fact.direction == Some(Direction::Inbound)
            && fact.protocol.has_tcp_states()
            && fact.state != State::Listen;
        if !waits {
            return None;
        }
        let local = fact.local.ip().to_canonical();
        let mut owners = self.owners_at(local, fact).peekable();
        if owners.peek().is_some() {
            return common(owners);
        }
        let v4 = local.is_ipv4().then_some(IpAddr::from([0; 4]));
        let wildcards = v4.into_iter().chain([IpAddr::from([0; 16])]);
        common(wildcards.flat_map(|any| self.owners_at(any, fact)))
    }

    /// The owners of those that listen for a connection at an address.
    fn owners_at(&self, ip: IpAddr, fact: &SocketFact) -> impl Iterator<Item = Option<ProcessId>> {
        let at = (fact.netns, fact.local.port(), ip);
        let cookies = self.listeners.get(&at).into_iter().flatten();
        let protocol = fact.protocol;
        cookies.filter_map(move |cookie| {
            let listener = self.sockets.get(cookie)?.fact.as_ref()?;
            (listener.protocol == protocol).then_some(listener.owner)
        })
    }
}

/// What all of them are, if they are the same.
fn common(mut owners: impl Iterator<Item = Option<ProcessId>>) -> Option<ProcessId> {
    let first = owners.next()?;
    owners.all(|owner| owner == first).then_some(first)?
}

fn socket(sockets: &mut BTreeMap<SocketCookie, Box<Socket>>, cookie: SocketCookie) -> &mut Socket {
    sockets
        .entry(cookie)
        .or_insert_with(|| Box::new(Socket::new(cookie)))
}
