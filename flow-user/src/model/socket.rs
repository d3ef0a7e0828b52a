//! One socket: what is known of it, its counters, and the rows (flows) they make.
//!
//! A *counter* is a process's bytes over the socket to or from one remote, as the kernel counts
//! them. A *row* is what is shown: a counter whose call did not tell the remote belongs to the row
//! of the socket's own peer.
//!
//! Rules of the rows:
//! - A socket without app bytes has one row, its *provisional* one, for its owner; as long as
//!   nobody accepted a connection, for the owner of the listener it came in through.
//! - The first app bytes take that row over if they are for the same remote. Was it told as another
//!   process's, it is told closed (with no bytes) and opened anew: every key that was opened is closed
//!   exactly once before it is opened again.
//! - The provisional row of a socket without a peer (a UDP server waiting) stays beside the rows of
//!   its remotes: it is the open endpoint. A client's, which began by sending, continues as the row
//!   of its first remote, unless somebody was already told of it.
//! - Bytes whose socket is not known yet, or whose TCP socket has no peer yet, are *held*: they
//!   count for the process and the total at once, and go to a row when the socket's fact comes,
//!   for a TCP socket without peer at the next tick. A row needs a protocol, so bytes of a
//!   socket of which no fact ever comes have none.
//! - A row is told at once when it is sure whose it is; else at the next tick, so that a connection
//!   which is accepted promptly is told once, as its acceptor's.

use std::{net::SocketAddr, sync::Arc};

use super::{
    change::{Change, Changes},
    keyed::Keyed,
    process::ProcessTable,
    rate::Meter,
    snapshot::{Flow, FlowKey, Rate},
    totals::{moved, raise_app, raise_wire},
};
use crate::event::{
    AppFact, AppTotals, CloseReason, Direction, Instant, ProcessId, Protocol, SocketCookie,
    SocketFact, State, TcpFacts,
};

/// What the tables share while an event is applied.
pub(super) struct Scene<'a> {
    pub(super) time: Instant,
    pub(super) processes: &'a mut ProcessTable,
    pub(super) changes: &'a mut Changes,
    pub(super) work: &'a mut Work,
}

/// What the next tick has to look at, and how many rows there are.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Rows with something to tell.
    pub(super) untold: Vec<RowRef>,
    /// Rows that moved bytes since the last tick, or had a rate then.
    pub(super) moving: Vec<RowRef>,
    /// Sockets with held bytes.
    pub(super) holding: std::collections::BTreeSet<SocketCookie>,
    pub(super) open_rows: usize,
    pub(super) closed_rows: usize,
}

/// A row, by its socket and position there.
pub(super) type RowRef = (SocketCookie, usize);

type CounterKey = (ProcessId, Option<SocketAddr>);
type RowKey = (Option<ProcessId>, Option<SocketAddr>);

/// Counters of a socket. Kept when the socket itself is dropped, see [`super::tombstone`].
pub(super) type Counters = Keyed<CounterKey, Counter>;

/// One counter.
#[derive(Debug, Default)]
pub(super) struct Counter {
    /// The most that was reported.
    total: AppTotals,
    /// Part of it that is in no row yet.
    held: Option<AppTotals>,
}

#[derive(Debug)]
struct Row {
    app: AppTotals,
    meter: Meter,
    rate: Rate,
    opened: Instant,
    told: Told,
    /// Something changed since it was last told.
    changed: bool,
    /// It stands in [`Work::untold`], in [`Work::moving`].
    listed: bool,
    moving: bool,
    /// The row as last shown, and the socket's version then.
    shown: Option<(u32, Arc<Flow>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Opened,
    Closed,
}

/// A socket.
#[derive(Debug)]
pub(super) struct Socket {
    cookie: SocketCookie,
    /// What is known of it; its counters are the most reported.
    pub(super) fact: Option<SocketFact>,
    /// When the latest fact was true.
    fact_time: Instant,
    /// Name of the interface of its last packet.
    interface: Option<Arc<str>>,
    /// When it was first heard of.
    seen: Instant,
    /// Direction of the first app bytes.
    first_app: Option<Direction>,
    counters: Counters,
    rows: Keyed<RowKey, Row>,
    /// The row without bytes that stands for the whole socket.
    provisional: Option<usize>,
    /// Grows with each change of what all rows show.
    version: u32,
    /// One of its rows was marked as changed since the last tick.
    touched: bool,
    pub(super) closed: Option<(Instant, CloseReason)>,
}

impl Socket {
    pub(super) fn new(cookie: SocketCookie, seen: Instant) -> Self {
        Self {
            cookie,
            fact: None,
            fact_time: Instant::default(),
            interface: None,
            seen,
            first_app: None,
            counters: Keyed::default(),
            rows: Keyed::default(),
            provisional: None,
            version: 0,
            touched: false,
            closed: None,
        }
    }

    /// Raises a counter; returns by how much it grew.
    pub(super) fn raise(counters: &mut Counters, fact: &AppFact) -> AppTotals {
        let key = (fact.process, fact.remote);
        match counters.position(&key) {
            Some(at) => raise_app(&mut counters.at_mut(at).total, &fact.totals),
            None if moved(&fact.totals) => {
                let counter = Counter {
                    total: fact.totals,
                    held: None,
                };
                counters.push(key, counter);
                fact.totals
            }
            None => AppTotals::default(),
        }
    }

    /// A process moved bytes.
    pub(super) fn app(&mut self, fact: &AppFact, scene: &mut Scene<'_>) {
        let growth = Self::raise(&mut self.counters, fact);
        let grew = moved(&growth);
        scene.processes.observe(fact, grew, scene.time);
        if !grew {
            return;
        }
        scene.processes.count(fact.process, growth, scene.time);
        if self.first_app.is_none() {
            let sent = growth.tx_bytes.0 > 0 || growth.tx_calls > 0;
            self.first_app = Some(if sent {
                Direction::Outbound
            } else {
                Direction::Inbound
            });
            self.version += 1;
        }
        match self.route(fact.remote) {
            Some(remote) => self.add(fact.process, remote, growth, scene),
            None => self.hold(fact, growth, scene),
        }
    }

    /// The socket is new or changed. `interface` is the name of the interface of its last packet,
    /// `listener` the owner of the listener it came in through, if these are known.
    pub(super) fn learn(
        &mut self,
        fact: SocketFact,
        interface: Option<Arc<str>>,
        listener: Option<ProcessId>,
        scene: &mut Scene<'_>,
    ) {
        let newer = scene.time >= self.fact_time;
        let known_index = self.fact.as_ref().and_then(|known| known.ifindex);
        let moved_interface = fact.ifindex.is_some() && fact.ifindex != known_index;
        let learned = match &mut self.fact {
            Some(known) => merge(known, fact, newer),
            None => {
                self.fact = Some(fact);
                Learned::Shape
            }
        };
        self.fact_time = self.fact_time.max(scene.time);
        if newer && (interface.is_some() || moved_interface) && interface != self.interface {
            self.interface = interface;
            self.version += 1;
        }
        match learned {
            Learned::Nothing => return,
            Learned::Counters => self.version += 1,
            Learned::Shape => {
                self.version += 1;
                self.place(false, scene);
                self.claim(listener, scene);
                for at in 0..self.rows.len() {
                    self.touch(at, scene);
                    self.open_if_sure(at, scene);
                }
            }
        }
        // Counters of the socket stand in each of its rows, of which there may be thousands: one
        // of them tells.
        if !self.touched && !self.rows.is_empty() {
            self.touch(self.rows.len() - 1, scene);
        }
    }

    /// Gives the interface of its last packet a name.
    pub(super) fn name_interface(&mut self, name: &Arc<str>) {
        self.interface = Some(name.clone());
        self.version += 1;
    }

    /// The socket is gone.
    pub(super) fn close(&mut self, reason: CloseReason, scene: &mut Scene<'_>) {
        self.place(true, scene);
        for at in 0..self.rows.len() {
            if self.rows.at(at).told == Told::Nothing {
                self.tell_open(at, scene);
            }
        }
        self.closed = Some((scene.time, reason));
        self.version += 1;
        scene.work.open_rows -= self.rows.len();
        scene.work.closed_rows += self.rows.len();
        for at in 0..self.rows.len() {
            if let Some(process) = self.rows.key(at).0 {
                scene.processes.flow_closed(process);
            }
            self.tell_close(at, scene);
        }
    }

    /// A tick: held bytes go to the row that fits best by now. Returns whether none are left.
    pub(super) fn settle(&mut self, scene: &mut Scene<'_>) -> bool {
        self.place(true, scene)
    }

    /// Whether every process that moved its bytes is known to have ended.
    pub(super) fn is_orphan(&self, processes: &ProcessTable) -> bool {
        let mut counters = self.counters.iter();
        counters.all(|((process, _), _)| processes.has_exited(*process))
    }

    /// Tells what changed of a row since it was last told.
    pub(super) fn tell(&mut self, at: usize, scene: &mut Scene<'_>) {
        self.touched = false;
        let row = self.rows.at_mut(at);
        row.listed = false;
        if !std::mem::take(&mut row.changed) {
            return;
        }
        match row.told {
            Told::Nothing => self.tell_open(at, scene),
            Told::Opened => {
                if let Some(flow) = self.row(at, scene.processes) {
                    scene.changes.tell(scene.time, Change::FlowUpdated(flow));
                }
            }
            Told::Closed => {}
        }
    }

    /// Takes a row's rate since the last tick; returns whether it moves.
    pub(super) fn rate(&mut self, at: usize, elapsed: std::time::Duration) -> bool {
        let row = self.rows.at_mut(at);
        let rate = row.meter.tick(row.app.tx_bytes, row.app.rx_bytes, elapsed);
        if rate != row.rate {
            row.rate = rate;
            row.shown = None;
        }
        row.moving = rate != Rate::default();
        row.moving
    }

    /// Gives up its references, and leaves its counters.
    pub(super) fn bury(self, scene: &mut Scene<'_>) -> Counters {
        scene.work.closed_rows -= self.rows.len();
        for ((process, _), _) in self.rows.into_iter() {
            if let Some(process) = process {
                scene.processes.release(process, scene.time);
            }
        }
        for ((process, _), counter) in self.counters.iter() {
            if counter.held.is_some() {
                scene.processes.release(*process, scene.time);
            }
        }
        self.counters
    }

    pub(super) fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// A row as it stands now: the same object as last time, if nothing in it changed.
    pub(super) fn row(&mut self, at: usize, processes: &ProcessTable) -> Option<Arc<Flow>> {
        let process = self.rows.key(at).0.and_then(|id| processes.row(id));
        if let Some((version, flow)) = &self.rows.at(at).shown
            && *version == self.version
            && same(&flow.process, &process)
        {
            return Some(flow.clone());
        }
        let flow = Arc::new(self.draw(at, process, self.closed)?);
        self.rows.at_mut(at).shown = Some((self.version, flow.clone()));
        Some(flow)
    }

    fn draw(
        &self,
        at: usize,
        process: Option<Arc<super::snapshot::Process>>,
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
            protocol: fact.protocol,
            local: fact.local,
            state: fact.state,
            direction: fact.direction.or(by_first_app),
            netns: fact.netns,
            interface: self.interface.clone(),
            app: row.app,
            wire: fact.wire,
            tcp: fact.tcp,
            rate: row.rate,
            opened: row.opened,
            closed,
        })
    }

    /// The remote of the row that bytes to or from `remote` belong to; `None` if that is not known
    /// yet.
    fn route(&self, remote: Option<SocketAddr>) -> Option<Option<SocketAddr>> {
        let fact = self.fact.as_ref()?;
        let remote = remote.or(fact.remote);
        let waits = remote.is_none()
            && matches!(fact.protocol, Protocol::Tcp | Protocol::Mptcp)
            && fact.state != State::Listen;
        (!waits).then_some(remote)
    }

    fn hold(&mut self, fact: &AppFact, growth: AppTotals, scene: &mut Scene<'_>) {
        let key = (fact.process, fact.remote);
        if let Some(at) = self.counters.position(&key) {
            let held = &mut self.counters.at_mut(at).held;
            if held.is_none() {
                scene.processes.acquire(fact.process, scene.time);
            }
            *held.get_or_insert_default() += growth;
            scene.work.holding.insert(self.cookie);
        }
    }

    /// Puts held bytes into their rows; with `now`, also those of a TCP socket without peer.
    /// Returns whether none are held any more.
    fn place(&mut self, now: bool, scene: &mut Scene<'_>) -> bool {
        if !scene.work.holding.contains(&self.cookie) {
            return true;
        }
        let mut none_left = true;
        for at in 0..self.counters.len() {
            if self.counters.at(at).held.is_none() {
                continue;
            }
            let (process, remote) = self.counters.key(at);
            let route = self.route(remote);
            let known = now && self.fact.is_some();
            let Some(remote) = route.or(known.then_some(remote)) else {
                none_left = false;
                continue;
            };
            if let Some(held) = self.counters.at_mut(at).held.take() {
                self.add(process, remote, held, scene);
                scene.processes.release(process, scene.time);
            }
        }
        if none_left {
            scene.work.holding.remove(&self.cookie);
        }
        none_left
    }

    /// Adds bytes to the row they belong to, and makes it if need be.
    fn add(
        &mut self,
        process: ProcessId,
        remote: Option<SocketAddr>,
        growth: AppTotals,
        scene: &mut Scene<'_>,
    ) {
        let key = (Some(process), remote);
        let at = match (self.rows.position(&key), self.provisional) {
            (Some(at), _) => at,
            (None, Some(at)) if self.is_continued_by(at, remote) => {
                self.rekey(at, key, scene);
                at
            }
            (None, _) => self.push(key, scene),
        };
        if self.provisional == Some(at) {
            self.provisional = None;
        }
        let row = self.rows.at_mut(at);
        row.app += growth;
        row.shown = None;
        if !row.moving {
            row.moving = true;
            scene.work.moving.push((self.cookie, at));
        }
        self.touch(at, scene);
        self.open_if_sure(at, scene);
    }

    /// Whether the first bytes of `remote` continue the provisional row.
    fn is_continued_by(&self, provisional: usize, remote: Option<SocketAddr>) -> bool {
        let row = self.rows.at(provisional);
        if row.told == Told::Closed {
            return false;
        }
        match self.rows.key(provisional).1 {
            own if own == remote => true,
            None => row.told == Told::Nothing && self.first_app == Some(Direction::Outbound),
            Some(_) => false,
        }
    }

    /// Sees that a socket without bytes has a row, and that the row is its owner's.
    fn claim(&mut self, listener: Option<ProcessId>, scene: &mut Scene<'_>) {
        let Some(fact) = &self.fact else { return };
        let (owner, remote) = (fact.owner, fact.remote);
        match self.provisional {
            None if self.rows.is_empty() && is_meaningful(fact) => {
                let at = self.push((owner.or(listener), remote), scene);
                self.provisional = Some(at);
            }
            Some(at) if self.closed.is_none() => {
                let current = self.rows.key(at);
                let wanted = (owner.or(current.0).or(listener), remote);
                if wanted != current && self.rows.position(&wanted).is_none() {
                    self.rekey(at, wanted, scene);
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, key: RowKey, scene: &mut Scene<'_>) -> usize {
        if let Some(process) = key.0 {
            scene.processes.acquire(process, scene.time);
        }
        if self.closed.is_some() {
            scene.work.closed_rows += 1;
        } else {
            scene.work.open_rows += 1;
            if let Some(process) = key.0 {
                scene.processes.flow_opened(process);
            }
        }
        let row = Row {
            app: AppTotals::default(),
            meter: Meter::default(),
            rate: Rate::default(),
            opened: if self.rows.is_empty() {
                self.seen
            } else {
                scene.time
            },
            told: Told::Nothing,
            changed: false,
            listed: false,
            moving: false,
            shown: None,
        };
        let at = self.rows.push(key, row);
        self.touch(at, scene);
        at
    }

    /// Gives a row without bytes another identity; if it was told, the old one is told closed.
    fn rekey(&mut self, at: usize, key: RowKey, scene: &mut Scene<'_>) {
        let old = self.rows.key(at).0;
        if old != key.0 {
            if let Some(process) = key.0 {
                scene.processes.acquire(process, scene.time);
                scene.processes.flow_opened(process);
            }
            if let Some(process) = old {
                scene.processes.flow_closed(process);
            }
        }
        if self.rows.at(at).told == Told::Opened {
            let process = old.and_then(|id| scene.processes.row(id));
            let closed = Some((scene.time, CloseReason::Closed));
            if let Some(flow) = self.draw(at, process, closed) {
                let change = Change::FlowClosed(Arc::new(flow));
                scene.changes.tell(scene.time, change);
            }
            self.rows.at_mut(at).told = Told::Nothing;
        }
        if old != key.0
            && let Some(process) = old
        {
            scene.processes.release(process, scene.time);
        }
        self.rows.rekey(at, key);
        self.rows.at_mut(at).shown = None;
        self.touch(at, scene);
    }

    /// Marks a row as changed.
    fn touch(&mut self, at: usize, scene: &mut Scene<'_>) {
        self.touched = true;
        let row = self.rows.at_mut(at);
        row.changed = true;
        if !row.listed {
            row.listed = true;
            scene.work.untold.push((self.cookie, at));
        }
    }

    /// Tells a new row at once if there is no doubt whose it is; else the next tick does.
    fn open_if_sure(&mut self, at: usize, scene: &mut Scene<'_>) {
        let Some(fact) = &self.fact else { return };
        let (process, remote) = self.rows.key(at);
        let row = self.rows.at(at);
        let owned = process.is_some() && process == fact.owner;
        let steady = remote.is_some() || fact.protocol.has_tcp_states();
        let sure = moved(&row.app) || (owned && steady) || self.closed.is_some();
        if sure && row.told == Told::Nothing {
            self.tell_open(at, scene);
        }
    }

    /// Tells a row as opened; if its socket has ended since, also as closed.
    fn tell_open(&mut self, at: usize, scene: &mut Scene<'_>) {
        let row = self.rows.at_mut(at);
        row.told = Told::Opened;
        row.changed = false;
        let flow = if self.closed.is_none() {
            self.row(at, scene.processes)
        } else {
            let process = self.rows.key(at).0.and_then(|id| scene.processes.row(id));
            self.draw(at, process, None).map(Arc::new)
        };
        if let Some(flow) = flow {
            scene.changes.tell(scene.time, Change::FlowOpened(flow));
        }
        if self.closed.is_some() {
            self.tell_close(at, scene);
        }
    }

    fn tell_close(&mut self, at: usize, scene: &mut Scene<'_>) {
        let row = self.rows.at_mut(at);
        row.told = Told::Closed;
        row.changed = false;
        if let Some(flow) = self.row(at, scene.processes) {
            scene.changes.tell(scene.time, Change::FlowClosed(flow));
        }
    }
}

/// Whether a socket is a flow before it moved any byte: connected, being connected, listening or
/// bound.
fn is_meaningful(fact: &SocketFact) -> bool {
    match fact.state {
        State::SynReceived => false,
        // Its life was too short to be seen in another state; a fresh socket has no peer.
        State::Closed if fact.protocol.has_tcp_states() => fact.remote.is_some(),
        State::Unconnected => fact.remote.is_some() || fact.local.port() != 0,
        _ if fact.protocol.has_tcp_states() => true,
        _ => fact.remote.is_some() || fact.local.port() != 0,
    }
}

fn same<T>(one: &Option<Arc<T>>, other: &Option<Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// What a fact brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Learned {
    Nothing,
    /// Only counters, timings or the interface of the last packet.
    Counters,
    /// State, addresses, owner.
    Shape,
}

/// Merges a fact into what is known. An older one (`newer` false) only fills what is missing and
/// raises counters. What the fact lacks stays as it was, except the peer of a datagram socket,
/// which may be given up.
fn merge(known: &mut SocketFact, fact: SocketFact, newer: bool) -> Learned {
    let before = known.clone();
    let SocketFact {
        cookie: _,
        protocol,
        local,
        remote,
        state,
        direction,
        netns,
        ifindex,
        owner,
        wire,
        tcp,
    } = fact;
    if let Some(wire) = wire {
        raise_wire(known.wire.get_or_insert_default(), &wire);
    }
    if newer {
        known.protocol = protocol;
        known.state = state;
        // The kernel forgets a socket's port when it closes it; the row keeps it.
        if local.port() != 0 || known.local.port() == 0 {
            known.local = local;
        }
        let gives_up = !protocol.has_tcp_states() && state == State::Unconnected;
        if remote.is_some() || gives_up {
            known.remote = remote;
        }
        known.direction = direction.or(known.direction);
        known.netns = netns.or(known.netns);
        known.ifindex = ifindex.or(known.ifindex);
        known.owner = owner.or(known.owner);
        known.tcp = tcp.map(|tcp| newer_tcp(known.tcp, tcp)).or(known.tcp);
    } else {
        if known.local.port() == 0 {
            known.local = local;
        }
        if known.protocol.has_tcp_states() {
            known.remote = known.remote.or(remote);
        }
        known.direction = known.direction.or(direction);
        known.netns = known.netns.or(netns);
        known.ifindex = known.ifindex.or(ifindex);
        known.owner = known.owner.or(owner);
        known.tcp = known.tcp.or(tcp);
    }
    if *known == before {
        return Learned::Nothing;
    }
    let counters_apart = SocketFact {
        ifindex: before.ifindex,
        wire: before.wire,
        tcp: before.tcp,
        ..known.clone()
    };
    if counters_apart == before {
        Learned::Counters
    } else {
        Learned::Shape
    }
}

fn newer_tcp(known: Option<TcpFacts>, fact: TcpFacts) -> TcpFacts {
    let known = known.unwrap_or_default();
    TcpFacts {
        rtt: fact.rtt.or(known.rtt),
        min_rtt: fact.min_rtt.or(known.min_rtt),
        retransmits: fact.retransmits.max(known.retransmits),
    }
}
