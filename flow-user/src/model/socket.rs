//! One socket: its facts, its counters, and the rows (flows) they make.
//!
//! A *counter* is a process's bytes over the socket to or from one remote, as the kernel counts
//! them. A *row* is what is shown: a counter of calls without a remote belongs to the row
//! of the socket's own peer.
//!
//! Rules of the rows:
//! - A socket without app bytes has one row, its *provisional* one, for its owner; until a
//!   connection is accepted, for the owner of its listener.
//! - The first app bytes take that row over if they are for the same remote. If the row was already
//!   reported under another process, it is reported closed (with zero bytes) and opened again:
//!   every key that was opened is closed exactly once before it is opened again.
//! - The provisional row of a socket without a peer (a UDP server waiting) stays beside the rows of
//!   its remotes: it is the open endpoint. A client's, which began by sending, continues as the row
//!   of its first remote, unless it was already reported.
//! - Bytes whose socket is not known yet, or whose TCP socket has no peer yet, are *deferred*: they
//!   count for the process and the total at once, and go to a row when the socket's fact comes,
//!   for a TCP socket without peer at the next tick. A row needs a protocol, so bytes of a
//!   socket of which no fact ever comes have none.
//! - A row of a datagram socket that names no peer of its own is *idle* after a while without bytes:
//!   nothing else says that its remote is done. It is reported closed then, and leaves after the
//!   history as others do; bytes that come later are those of a new flow.
//! - A row is reported at once when its owner is certain; otherwise at the next tick, so that a
//!   connection which is accepted promptly is reported once, under its acceptor.

mod context;
mod deferred;
mod path;
mod resume;
mod row;
mod serving;
mod zones;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

pub(super) use self::context::{Ctx, DirtyRows};
use self::{
    path::Watched,
    row::{Phase, Reported, Row},
};
use super::{
    change::{Change, StateChange},
    fact::{Learned, is_meaningful, merge},
    keyed::Keyed,
    process::ProcessTable,
    rate::Meter,
    snapshot::{Found, Rate},
    sums::SocketSums,
    totals::{moved, raise_app},
};
use crate::event::{
    AppFact, AppTotals, Backlog, CloseReason, Direction, Instant, Netns, ProcessId, RoundTrip,
    SocketCookie, SocketFact, State,
};

/// Index and name of an interface of the host.
pub(super) type NamedZone = (u32, Arc<str>);

/// Where a socket listens: IPv4 addresses as such.
pub(super) type Place = (Option<Netns>, u16, IpAddr);

/// What a fact does not say itself: names of the interfaces that it has by index, and whether it
/// is of a socket that was there before.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// That of its last packet.
    pub(super) interface: Option<Arc<str>>,
    /// That of its peer's zone, if the socket is of the host's namespace.
    pub(super) zone: Option<NamedZone>,
    /// Whether the socket is of the host's namespace.
    pub(super) host: bool,
    /// Whether the kernel may have chosen its port.
    pub(super) ephemeral: bool,
    /// Whether it was there before its source began.
    pub(super) found: bool,
}

/// A row, by its socket and position there.
pub(super) type RowRef = (SocketCookie, usize);

type CounterKey = (ProcessId, Option<SocketAddr>);
type RowKey = (Option<ProcessId>, Option<SocketAddr>);

/// Counters of a dropped socket, which late reports are compared with; see [`super::tombstone`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FinalCounters(SmallVec<[(CounterKey, AppTotals); 1]>);

/// One counter.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Counter {
    /// The most that was reported.
    total: AppTotals,
    /// Part of it that is in no row yet, and since when. Boxed, because few have any, and not for
    /// long.
    deferred: Option<Box<(Instant, AppTotals)>>,
}

/// What few sockets have.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Rare {
    /// Zones of its peers.
    zones: Vec<NamedZone>,
    /// What waits at it, if it listens.
    backlog: Option<Backlog>,
    watched: Option<Watched>,
    /// Processes of which no row is listed any more while the socket goes on, with what they took
    /// along as the sums of past sockets.
    #[serde(default)]
    left: Vec<(ProcessId, SocketSums)>,
}

/// A socket.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Socket {
    pub(super) cookie: SocketCookie,
    /// What is known of it; its counters are the most reported.
    pub(super) fact: Option<SocketFact>,
    /// When the latest fact was true.
    fact_time: Instant,
    /// When it was first reported in its state.
    state_since: Instant,
    /// Name of the interface of its last packet.
    interface: Option<Arc<str>>,
    /// Whether it is of the host's namespace, so that names of interfaces are those of its zones.
    host: bool,
    /// Whether the kernel may have chosen its port.
    #[serde(default)]
    is_ephemeral: bool,
    /// How long it took to be established, if it connected while its source watched.
    connect: Option<RoundTrip>,
    /// If it was there before its source began.
    found: Option<Found>,
    /// Boxed, because nearly none has any of it.
    rare: Option<Box<Rare>>,
    /// Direction of the first app bytes.
    first_app: Option<Direction>,
    counters: Keyed<CounterKey, Counter>,
    rows: Keyed<RowKey, Row>,
    /// The row without bytes that represents the whole socket.
    provisional: Option<u32>,
    /// Grows with each change that affects all rows.
    version: u32,
    /// One of its rows was marked as changed since the last tick.
    has_dirty_row: bool,
    pub(super) closed: Option<(Instant, CloseReason)>,
}

impl FinalCounters {
    /// Raises a counter; returns by how much it grew.
    pub(super) fn raise(&mut self, fact: &AppFact) -> AppTotals {
        let key = (fact.process, fact.remote);
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, total)) => raise_app(total, &fact.totals),
            None if moved(&fact.totals) => {
                self.0.push((key, fact.totals));
                fact.totals
            }
            None => AppTotals::default(),
        }
    }
}

impl Socket {
    pub(super) fn new(cookie: SocketCookie) -> Self {
        Self {
            cookie,
            fact: None,
            fact_time: Instant::default(),
            state_since: Instant::default(),
            interface: None,
            host: false,
            is_ephemeral: false,
            connect: None,
            found: None,
            rare: None,
            first_app: None,
            counters: Keyed::default(),
            rows: Keyed::default(),
            provisional: None,
            version: 0,
            has_dirty_row: false,
            closed: None,
        }
    }

    /// Raises a counter; returns by how much it grew.
    fn raise(&mut self, fact: &AppFact) -> AppTotals {
        let key = (fact.process, fact.remote);
        match self.counters.position(&key) {
            Some(at) => raise_app(&mut self.counters.at_mut(at).total, &fact.totals),
            None if moved(&fact.totals) => {
                let counter = Counter {
                    total: fact.totals,
                    deferred: None,
                };
                self.counters.push(key, counter);
                fact.totals
            }
            None => AppTotals::default(),
        }
    }

    /// A process moved bytes.
    pub(super) fn app(&mut self, fact: &AppFact, ctx: &mut Ctx<'_>) {
        let growth = self.raise(fact);
        let grew = moved(&growth);
        ctx.processes.observe(fact, grew, ctx.time);
        if !grew {
            return;
        }
        ctx.processes.count(fact.process, growth, ctx.time);
        if self.first_app.is_none() {
            let sent = growth.tx_bytes.0 > 0 || growth.tx_calls > 0;
            self.first_app = Some(if sent {
                Direction::Outbound
            } else {
                Direction::Inbound
            });
            self.version += 1;
            self.recount(ctx);
        }
        match self.route(fact.remote) {
            Some(remote) => self.add((fact.process, remote), growth, ctx.time, ctx),
            None => self.defer(fact, growth, ctx),
        }
    }

    /// The socket is new or changed. `listener` is the owner of the listener it came in through, if
    /// that is known.
    pub(super) fn learn(
        &mut self,
        fact: SocketFact,
        names: Names,
        listener: Option<ProcessId>,
        ctx: &mut Ctx<'_>,
    ) {
        let Names {
            interface,
            zone,
            host,
            ephemeral,
            found,
        } = names;
        if fact.netns.is_some() {
            self.host = host;
        }
        self.name_zone(zone);
        let newer = ctx.time >= self.fact_time;
        let known_index = self.fact.as_ref().and_then(|known| known.ifindex);
        let moved_interface = fact.ifindex.is_some() && fact.ifindex != known_index;
        let before = self.fact.as_ref().map(|known| known.state);
        if fact.protocol.has_tcp_states() && newer && before != Some(fact.state) {
            ctx.changes.emit_state(StateChange {
                time: ctx.time,
                socket: self.cookie,
                state: fact.state,
            });
        }
        let connecting = before == Some(State::SynSent) && fact.state == State::Established;
        if newer && connecting && self.found.is_none() {
            let took = ctx.time.since(self.state_since).as_micros();
            self.connect = u32::try_from(took).ok().and_then(RoundTrip::from_micros);
        }
        if newer && before != Some(fact.state) {
            self.state_since = ctx.time;
        }
        let (local, netns) = (fact.local, fact.netns);
        let learned = match &mut self.fact {
            Some(known) => merge(known, fact, newer),
            None => {
                self.found = found.then(|| Found {
                    retransmits: fact.tcp.map_or(0, |tcp| tcp.retransmits),
                });
                self.fact = Some(fact);
                Learned::Shape
            }
        };
        self.set_ephemeral(ephemeral, (netns, local), ctx);
        self.fact_time = self.fact_time.max(ctx.time);
        if newer && (interface.is_some() || moved_interface) && interface != self.interface {
            self.interface = interface;
            self.version += 1;
        }
        match learned {
            Learned::Nothing => return,
            Learned::Counters => {
                self.version += 1;
                if self.first_app.is_none() {
                    // A socket that sends is no longer one that waits.
                    self.recount(ctx);
                }
            }
            Learned::Shape => {
                self.version += 1;
                self.flush_deferred(false, ctx);
                self.assign_owner(listener, ctx);
                for at in 0..self.rows.len() {
                    if self.rows.at(at).phase != Phase::Open {
                        continue;
                    }
                    let counts = self.counts_at(at);
                    self.count(at, counts, ctx);
                    self.begin_waiting(at, ctx.dirty);
                    self.mark_dirty(at, ctx);
                    self.open_if_sure(at, ctx);
                }
            }
        }
        // Each row shows the counters of the socket, and there may be thousands of rows: one
        // of them is reported.
        if !self.has_dirty_row
            && let Some(at) =
                (0..self.rows.len()).rfind(|at| self.rows.at(*at).phase == Phase::Open)
        {
            self.mark_dirty(at, ctx);
        }
    }

    /// Gives the interface of its last packet a name.
    pub(super) fn name_interface(&mut self, name: &Arc<str>) {
        self.interface = Some(name.clone());
        self.version += 1;
    }

    /// Where it listens, if it does.
    pub(super) fn listening(&self) -> Option<Place> {
        let fact = self.fact.as_ref()?;
        let listens = fact.state == State::Listen && self.closed.is_none();
        listens.then_some((
            fact.netns,
            fact.local.port(),
            fact.local.ip().to_canonical(),
        ))
    }

    /// What waits at it to be accepted.
    pub(super) fn listening_with(&mut self, backlog: Backlog) {
        if self.listening().is_none() && !self.serves() {
            return;
        }
        let known = &mut self.rare.get_or_insert_default().backlog;
        if known.replace(backlog) != Some(backlog) {
            self.version += 1;
        }
    }

    /// The socket is gone.
    pub(super) fn close(&mut self, reason: CloseReason, ctx: &mut Ctx<'_>) {
        self.flush_deferred(true, ctx);
        for at in 0..self.rows.len() {
            if self.rows.at(at).reported == Reported::Nothing {
                self.emit_open(at, ctx);
            }
        }
        self.stop_waiting(ctx.dirty);
        self.closed = Some((ctx.time, reason));
        self.version += 1;
        for at in 0..self.rows.len() {
            if self.rows.at(at).phase != Phase::Open {
                continue;
            }
            ctx.dirty.open_rows -= 1;
            ctx.dirty.closed_rows += 1;
            let process = self.rows.key(at).0;
            self.count(at, false, ctx);
            if let Some(process) = process {
                ctx.processes.connection_ended(process, reason);
            }
            self.emit_close(at, ctx);
        }
    }

    /// A tick: deferred bytes go to the row that fits best by now. Returns whether none are left.
    pub(super) fn settle(&mut self, ctx: &mut Ctx<'_>) -> bool {
        self.flush_deferred(true, ctx)
    }

    /// Whether every process that moved its bytes is known to have ended.
    pub(super) fn is_orphan(&self, processes: &ProcessTable) -> bool {
        let mut counters = self.counters.iter();
        counters.all(|((process, _), _)| processes.has_exited(*process))
    }

    /// Gives up its references, and leaves its counters.
    pub(super) fn bury(self, ctx: &mut Ctx<'_>) -> FinalCounters {
        for ((process, _), row) in self.rows.into_iter() {
            if row.phase == Phase::Hidden {
                continue;
            }
            ctx.dirty.closed_rows -= 1;
            if let Some(process) = process {
                ctx.processes.release(process, ctx.time);
            }
        }
        for ((process, _), counter) in self.counters.iter() {
            if counter.deferred.is_some() {
                ctx.processes.release(*process, ctx.time);
            }
        }
        let counters = self.counters.into_iter();
        FinalCounters(
            counters
                .map(|(key, counter)| (key, counter.total))
                .collect(),
        )
    }

    pub(super) fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// How many rows are listed.
    pub(super) fn listed_rows(&self) -> usize {
        let rows = self.rows.iter();
        rows.filter(|(_, row)| row.phase != Phase::Hidden).count()
    }

    /// Adds bytes that began to move at `since` to the row they belong to, and makes it if need be.
    fn add(
        &mut self,
        (process, remote): CounterKey,
        growth: AppTotals,
        since: Instant,
        ctx: &mut Ctx<'_>,
    ) {
        let key = (Some(process), remote);
        let at = match (self.rows.position(&key), self.provisional()) {
            (Some(at), _) => at,
            (None, Some(at)) if self.is_continued_by(at, remote) => {
                self.rekey(at, key, ctx);
                at
            }
            (None, _) => self.push(key, since, ctx),
        };
        if self.provisional() == Some(at) {
            self.provisional = None;
        }
        if self.rows.at(at).phase != Phase::Open && self.closed.is_none() {
            self.begin_again(at, since, ctx);
        }
        let row = self.rows.at_mut(at);
        row.app += growth;
        row.last = row.last.max(ctx.time);
        row.shown = None;
        let counts = self.counts_at(at);
        self.count(at, counts, ctx);
        self.begin_waiting(at, ctx.dirty);
        let row = self.rows.at_mut(at);
        if !row.moving {
            row.moving = true;
            ctx.dirty.moving.push((self.cookie, at));
        }
        self.mark_dirty(at, ctx);
        self.open_if_sure(at, ctx);
    }

    /// The position of the provisional row.
    fn provisional(&self) -> Option<usize> {
        self.provisional.map(|at| at as usize)
    }

    /// Whether the first bytes of `remote` continue the provisional row.
    fn is_continued_by(&self, provisional: usize, remote: Option<SocketAddr>) -> bool {
        let row = self.rows.at(provisional);
        if row.reported == Reported::Closed {
            return false;
        }
        match self.rows.key(provisional).1 {
            own if own == remote => true,
            None => {
                row.reported == Reported::Nothing
                    && self.first_app == Some(Direction::Outbound)
                    && !self.serves()
            }
            Some(_) => false,
        }
    }

    /// Makes the row of a socket without bytes, and assigns it to the socket's owner.
    fn assign_owner(&mut self, listener: Option<ProcessId>, ctx: &mut Ctx<'_>) {
        let Some(fact) = &self.fact else { return };
        let (owner, remote) = (fact.owner, fact.remote);
        match self.provisional() {
            None if self.rows.is_empty() && is_meaningful(fact) || self.lacks_endpoint() => {
                let at = self.push((owner.or(listener), remote), ctx.time, ctx);
                self.provisional = u32::try_from(at).ok();
            }
            Some(at) if self.closed.is_none() => {
                let current = self.rows.key(at);
                let wanted = (owner.or(current.0).or(listener), remote);
                if wanted != current && self.rows.position(&wanted).is_none() {
                    self.rekey(at, wanted, ctx);
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, key: RowKey, opened: Instant, ctx: &mut Ctx<'_>) -> usize {
        if let Some(process) = key.0 {
            ctx.processes.acquire(process, ctx.time);
            self.come_back(process, ctx);
        }
        if self.closed.is_some() {
            ctx.dirty.closed_rows += 1;
        } else {
            ctx.dirty.open_rows += 1;
        }
        let row = Row {
            app: AppTotals::default(),
            meter: Meter::default(),
            rate: Rate::default(),
            opened,
            last: opened,
            counts: false,
            phase: Phase::Open,
            waits: None,
            reported: Reported::Nothing,
            changed: false,
            listed: false,
            moving: false,
            shown: None,
        };
        let at = self.rows.push(key, row);
        let counts = self.counts_at(at);
        self.count(at, counts, ctx);
        self.mark_dirty(at, ctx);
        at
    }

    /// Gives a row without bytes another identity; if it was reported, the old one is reported
    /// closed.
    fn rekey(&mut self, at: usize, key: RowKey, ctx: &mut Ctx<'_>) {
        let old = self.rows.key(at).0;
        if old != key.0 {
            if let Some(process) = key.0 {
                ctx.processes.acquire(process, ctx.time);
            }
            if self.rows.at(at).counts {
                ctx.flow_opened(key.0);
                ctx.flow_closed(old);
            }
        }
        if self.rows.at(at).reported == Reported::Opened {
            let process = old.and_then(|id| ctx.processes.metadata(id));
            let closed = Some((ctx.time, CloseReason::Closed));
            if let Some(flow) = self.to_flow(at, process, closed) {
                let change = Change::FlowClosed(Arc::new(flow));
                ctx.changes.emit(ctx.time, change);
            }
            self.rows.at_mut(at).reported = Reported::Nothing;
        }
        if old != key.0 {
            if let Some(process) = key.0 {
                self.come_back(process, ctx);
            }
            if let Some(process) = old {
                self.leave(process, at, ctx);
                ctx.processes.release(process, ctx.time);
            }
        }
        self.rows.rekey(at, key);
        self.rows.at_mut(at).shown = None;
        self.mark_dirty(at, ctx);
    }
}
