//! From the kernel side's records and maps to events.
//!
//! The maps hold the truth; a record only says where to look. A record reports at most once in an
//! epoch that an entry moved, so at each tick the reported entries are read again. What was not
//! reported because the ring buffer was full is found by the sweep. User space alone deletes
//! entries that were reported to it, after a last look.
//!
//! Once a record found no room there may be counters of a socket or process that nobody knows of.
//! So nothing is closed, and no exit is reported, until a sweep has read everything.

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod memory;
mod sweep;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, fs, mem, sync::Arc, time::Duration};

use flow_common::{
    AppCounters, AppKey, ProcessKey, SocketEntry, limits::FREED_REMOTES_STEP, protocol::has_states,
    record::ExitRecord, socket_id::is_alias, tcp_state,
};
use foldhash::{HashMap, HashSet};
use smallvec::SmallVec;

use self::sweep::Sweep;
use super::{
    convert,
    ring::{Exec, Record},
};
use crate::{
    event::{CloseReason, Event, EventSink, Instant, SocketCookie},
    room::Room,
};

pub use self::sweep::{Listing, STEP};

/// How long an ended socket's entry is kept: its last packets leave just after its end.
const GRACE: Duration = Duration::from_millis(50);
/// The kernel side's maps, as the tracker needs them.
pub trait Counters {
    /// The counters of a key, now.
    fn app(&self, key: &AppKey) -> Option<AppCounters>;
    /// The entry of a socket, now.
    fn socket(&self, cookie: u64) -> Option<SocketEntry>;
    /// The counters of a key, which are deleted with that: nothing can be added in between.
    fn take_app(&mut self, key: &AppKey) -> Option<AppCounters>;
    /// The entry of a socket, which is deleted with that.
    fn take_socket(&mut self, cookie: u64) -> Option<SocketEntry>;
    /// Some keys and their counters, from a position on: `most`, or some more. Whatever is in the
    /// map from the first part to the last one is in one of them; an entry that comes or goes
    /// meanwhile may be.
    fn some_app(&self, position: Option<u32>, most: usize) -> Part<AppKey, AppCounters>;
    /// Some sockets, in the same way.
    fn some_sockets(&self, position: Option<u32>, most: usize) -> Part<u64, SocketEntry>;
    /// Every overflow entry. One that comes or goes meanwhile may be missing.
    fn all_overflow(&self) -> Vec<(ProcessKey, AppCounters)>;
    /// The overflow entry of a process, which is deleted with that.
    fn take_overflow(&mut self, process: ProcessKey) -> Option<AppCounters>;
    /// Reports to the kernel side how many of a living socket's counted keys were deleted.
    fn set_freed_remotes(&mut self, cookie: u64, freed: u32);
    /// Deletes that number, with its socket.
    fn forget_freed_remotes(&mut self, cookie: u64);
    /// What found no room so far.
    fn lost(&self) -> Lost;
}

/// A part of a map.
#[derive(Debug)]
pub struct Part<K, V> {
    pub entries: Vec<(K, V)>,
    /// Where the next part begins, if there may be more.
    pub next: Option<u32>,
}

/// What found no room since the programs were attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Records of bytes and sockets in the ring buffer.
    pub traffic: u64,
    /// Records of processes in the ring buffer.
    pub process: u64,
    /// Calls in the map of counters: their bytes are in an overflow entry.
    pub app: u64,
    /// Attempts to make an entry in the map of sockets.
    pub sockets: u64,
}

impl Lost {
    /// Whether further records were lost since `earlier`.
    pub const fn has_more_records_than(&self, earlier: &Self) -> bool {
        self.traffic != earlier.traffic || self.process != earlier.process
    }
}

/// Sockets that may be in use though they found no room in the map of sockets.
#[derive(Debug)]
pub enum UnmappedSockets {
    /// None: each got one.
    None,
    /// These at most: sock_diag lists them.
    Among(HashSet<u64>),
    /// Any.
    Any,
}

impl UnmappedSockets {
    fn may_be_used(&self, cookie: u64) -> bool {
        match self {
            Self::None => false,
            // sock_diag does not know aliases.
            Self::Among(listed) => is_alias(cookie) || listed.contains(&cookie),
            Self::Any => true,
        }
    }
}

/// What is known of the entries in the kernel side's maps.
#[derive(Debug, Default)]
pub struct Tracker {
    /// The reported sockets.
    sockets: HashMap<u64, KeysOfSocket>,
    /// The sockets of each process's reported keys.
    processes: HashMap<ProcessKey, HashSet<u64>>,
    /// Reported keys that are to be read at the next tick, with the epoch in which they were
    /// reported.
    moved: HashMap<AppKey, u32>,
    /// Reported sockets that are to be read at the next tick, with the epoch.
    changed: HashMap<u64, u32>,
    /// As reported: nearly in order of time, as each CPU has its own clock readings.
    ended: VecDeque<Ended>,
    /// Processes that ended and whose end waits for a sweep.
    exits: Vec<ExitRecord>,
    /// What was lost before the last sweep.
    swept: Lost,
    /// Sockets that were found ended by the last sweep, without a record: the next one takes
    /// them, unless their record comes.
    ended_unreported: HashSet<u64>,
    /// Keys whose socket the last sweep did not find.
    orphans: HashSet<AppKey>,
    /// Sockets with an alias and states whose last process that moved bytes has ended: another may
    /// hold them still.
    abandoned: HashSet<u64>,
    /// Sockets that may have ended, what they had moved, and since when.
    idle_since: HashMap<u64, (u64, Instant)>,
    /// The sweep that is under way.
    sweep: Option<Sweep>,
}

#[derive(Debug, Default)]
struct KeysOfSocket {
    /// Those reported, sorted, so that those of a process are together. Nearly every socket has just
    /// one, and none more than the kernel side distinguishes.
    keys: SmallVec<[AppKey; 1]>,
    /// How many were deleted of those that the kernel side counts as the socket's remotes.
    freed: u32,
}

#[derive(Debug)]
struct Ended {
    cookie: u64,
    time: Instant,
}

impl Tracker {
    /// Takes up a socket that the source put into the map itself, as if it had been reported in
    /// `epoch`.
    pub fn adopt(&mut self, cookie: u64, epoch: u32) {
        self.meet(cookie);
        self.changed.insert(cookie, epoch);
    }

    /// Notes a socket that was reported. Returns its keys.
    fn meet(&mut self, cookie: u64) -> &mut KeysOfSocket {
        if let Some(sweep) = &mut self.sweep {
            sweep.arrived(cookie);
        }
        self.sockets.entry(cookie).or_default()
    }

    /// Whether records were lost that no sweep has made up for.
    pub fn is_behind(&self, counters: &impl Counters) -> bool {
        self.is_behind_of(&counters.lost())
    }

    fn is_behind_of(&self, lost: &Lost) -> bool {
        lost.has_more_records_than(&self.swept)
    }

    /// How long until the next ended socket is to be closed.
    pub fn next_due(&self, now: Instant) -> Option<Duration> {
        let first = self.ended.front()?;
        Some(GRACE.saturating_sub(now.since(first.time)))
    }

    /// Takes a record; its events go to `out`.
    pub fn record(
        &mut self,
        record: Record<'_>,
        counters: &mut impl Counters,
        out: &mut impl EventSink,
    ) {
        match record {
            Record::App(record) => {
                self.index(record.key);
                self.moved.insert(record.key, record.counters.epoch);
                let time = Instant(record.header.time);
                if let Some(fact) = convert::app(&record.key, &record.counters, Some(&record.comm))
                {
                    out.event(time, Event::App(fact));
                }
            }
            Record::Socket { record, ended } => {
                let time = Instant(record.header.time);
                self.meet(record.cookie);
                self.changed.insert(record.cookie, record.socket.epoch);
                if let Some(fact) = convert::socket(record.cookie, &record.socket) {
                    out.event(time, Event::Socket(fact));
                }
                if ended {
                    self.ended_unreported.remove(&record.cookie);
                    self.end(record.cookie, time);
                }
            }
            Record::Exec(exec) => {
                let time = Instant(exec.fixed.header.time);
                if let Some(fact) = executed(&exec) {
                    out.event(time, Event::ProcessExec(fact));
                }
            }
            Record::Fork(fork) => {
                if let Some(fact) = convert::forked(&fork) {
                    out.event(Instant(fork.header.time), Event::ProcessFork(fact));
                }
            }
            Record::Exit(exit) => {
                self.exits.push(exit);
                let lost = counters.lost();
                let waits = self.sweep.as_ref().is_some_and(Sweep::holds_exits);
                if !waits && !self.is_behind_of(&lost) {
                    self.emit_exits(&lost, counters, out);
                }
            }
        }
    }

    /// Notes that a socket's end was reported.
    fn end(&mut self, cookie: u64, time: Instant) {
        self.ended.push_back(Ended { cookie, time });
        if let Some(sweep) = &mut self.sweep {
            sweep.ended(cookie);
        }
    }

    fn emit_exits(&mut self, lost: &Lost, counters: &mut impl Counters, out: &mut impl EventSink) {
        for exit in mem::take(&mut self.exits) {
            self.emit_exit(&exit, lost, counters, out);
        }
    }

    /// Returns how many entries that took, and events.
    fn emit_exit(
        &mut self,
        exit: &ExitRecord,
        lost: &Lost,
        counters: &mut impl Counters,
        out: &mut impl EventSink,
    ) -> usize {
        let time = Instant(exit.header.time);
        // What it moved comes first: its totals are final then.
        let done = self.exited(exit.process, time, lost, counters, out);
        if let Some(id) = convert::process_id(exit.process) {
            let status = exit.status;
            if let Some(named) = convert::named(id, &exit.comm) {
                out.event(time, named);
            }
            out.event(time, Event::ProcessExit { id, status });
        }
        done + 2
    }

    /// Keeps a key with its socket and its process.
    fn index(&mut self, key: AppKey) {
        let KeysOfSocket { keys, .. } = self.meet(key.cookie);
        if let Err(at) = keys.binary_search(&key) {
            keys.insert(at, key);
        }
        if is_alias(key.cookie) {
            self.abandoned.remove(&key.cookie);
        }
        let sockets = self.processes.entry(key.process()).or_default();
        sockets.insert(key.cookie);
    }

    /// Emits the last totals of a process, and deletes its keys: nobody else adds to them. Returns
    /// how many entries that took.
    fn exited(
        &mut self,
        process: ProcessKey,
        time: Instant,
        lost: &Lost,
        counters: &mut impl Counters,
        out: &mut impl EventSink,
    ) -> usize {
        // Its overflow entry.
        let mut done = 1;
        for cookie in self.processes.remove(&process).unwrap_or_default() {
            let Some(KeysOfSocket { keys, freed }) = self.sockets.get_mut(&cookie) else {
                continue;
            };
            // Sorted by process.
            let of = |key: &AppKey| (key.start, key.tgid);
            let own = (process.start, process.tgid);
            let from = keys.partition_point(|key| of(key) < own);
            let to = keys.partition_point(|key| of(key) <= own);
            done += to - from;
            for key in keys.drain(from..to) {
                let app = counters.take_app(&key);
                emit_app(&key, app, time, out);
                self.moved.remove(&key);
                if app.is_some_and(|app| app.counted != 0) {
                    *freed = freed.wrapping_add(1);
                    if freed.is_multiple_of(FREED_REMOTES_STEP) {
                        counters.set_freed_remotes(cookie, *freed);
                    }
                }
            }
            if !keys.is_empty() || !is_alias(cookie) {
                continue;
            }
            // Without states no hook reports the end.
            match counters.socket(cookie) {
                Some(socket) if has_states(socket.protocol) => {
                    self.abandoned.insert(cookie);
                }
                _ => self.end(cookie, time),
            }
        }
        if lost.app > 0
            && let Some(app) = counters.take_overflow(process)
        {
            emit_overflow(process, &app, time, out);
        }
        done
    }

    /// Reads again what was reported. Before, `epoch` must have begun and the ring buffer been
    /// drained: what was reported in an earlier epoch is reported again when it moves from here on.
    /// What was reported in this one is not, and is read again at the next tick.
    pub fn tick(
        &mut self,
        epoch: u32,
        now: Instant,
        counters: &mut impl Counters,
        out: &mut impl EventSink,
    ) {
        self.moved.retain(|key, reported| {
            emit_app(key, counters.app(key), now, out);
            *reported == epoch
        });
        self.changed.retain(|cookie, reported| {
            emit_socket(*cookie, counters.socket(*cookie), now, out);
            *reported == epoch
        });
        self.give_back();
    }

    /// Gives back what a burst needed.
    fn give_back(&mut self) {
        self.sockets.give_back();
        self.processes.give_back();
        self.processes.values_mut().for_each(Room::give_back);
        self.moved.give_back();
        self.changed.give_back();
        self.ended.give_back();
        self.exits.give_back();
    }

    /// Closes ended sockets whose grace is over, once everything is known of them: those that a
    /// step has room for.
    pub fn close_due(
        &mut self,
        now: Instant,
        counters: &mut impl Counters,
        out: &mut impl EventSink,
    ) {
        // Asked last: what was lost is read from the kernel.
        let is_due = self.next_due(now) == Some(Duration::ZERO);
        if is_due && !self.is_behind(counters) {
            self.close_ended(now, STEP, counters, out);
        }
    }

    /// Closes ended sockets whose grace was over at `now`, up to so many entries. Returns how many
    /// that took.
    fn close_ended(
        &mut self,
        now: Instant,
        most: usize,
        counters: &mut impl Counters,
        out: &mut impl EventSink,
    ) -> usize {
        let mut done = 0;
        while done < most
            && let Some(&Ended { cookie, time }) = self.ended.front()
            && now.since(time) >= GRACE
        {
            self.ended.pop_front();
            done += self.close(cookie, time, counters, out);
        }
        done
    }

    /// Closes sockets of which another source says that they are no more.
    pub fn close_missing(
        &mut self,
        cookies: impl Iterator<Item = u64>,
        now: Instant,
        counters: &mut impl Counters,
        out: &mut impl EventSink,
    ) {
        for cookie in cookies {
            if self.sockets.contains_key(&cookie) {
                self.close(cookie, now, counters, out);
            }
        }
    }

    /// Emits what processes moved after the map of counters was full.
    pub fn overflow(&self, now: Instant, counters: &impl Counters, out: &mut impl EventSink) {
        for (process, app) in counters.all_overflow() {
            emit_overflow(process, &app, now, out);
        }
    }

    /// Emits the last totals of everything, and closes what ended, without waiting. A sweep under
    /// way gives way to a whole one.
    pub fn finish(
        &mut self,
        epoch: u32,
        unmapped: UnmappedSockets,
        listing: Option<Listing>,
        now: Instant,
        counters: &mut impl Counters,
        out: &mut impl EventSink,
    ) {
        self.tick(epoch, now, counters, out);
        self.sweep(unmapped, listing, now, counters, out);
        for ended in mem::take(&mut self.ended) {
            self.close(ended.cookie, ended.time, counters, out);
        }
        // No other sweep will find them.
        for cookie in mem::take(&mut self.ended_unreported) {
            self.close(cookie, now, counters, out);
        }
    }

    /// Emits a socket's last totals and its end, and deletes its entries. Returns how many events
    /// that took.
    fn close(
        &mut self,
        cookie: u64,
        time: Instant,
        counters: &mut impl Counters,
        out: &mut impl EventSink,
    ) -> usize {
        let KeysOfSocket { keys, freed } = self.sockets.remove(&cookie).unwrap_or_default();
        if freed >= FREED_REMOTES_STEP {
            counters.forget_freed_remotes(cookie);
        }
        // And the socket, and its end.
        let done = keys.len() + 2;
        for key in keys {
            emit_app(&key, counters.take_app(&key), time, out);
            self.moved.remove(&key);
            if let Some(sockets) = self.processes.get_mut(&key.process()) {
                sockets.remove(&cookie);
                if sockets.is_empty() {
                    self.processes.remove(&key.process());
                }
            }
        }
        self.changed.remove(&cookie);
        self.abandoned.remove(&cookie);
        let socket = counters.take_socket(cookie);
        emit_socket(cookie, socket, time, out);
        let reason = socket.map_or(CloseReason::Vanished, |socket| {
            convert::close_reason(&socket)
        });
        let cookie = SocketCookie(cookie);
        out.event(time, Event::SocketEnd { cookie, reason });
        if let Some(sweep) = &mut self.sweep {
            sweep.closed(cookie.0);
        }
        done
    }
}

/// Whether nothing more can happen on a socket.
fn has_ended(socket: &SocketEntry) -> bool {
    socket.released != 0
        && (!has_states(socket.protocol) || socket.closed != 0 || socket.state == tcp_state::CLOSE)
}

/// Emits counters. Those that are gone were emitted, when their socket closed.
fn emit_app(key: &AppKey, app: Option<AppCounters>, time: Instant, out: &mut impl EventSink) {
    if let Some(fact) = app.and_then(|app| convert::app(key, &app, None)) {
        out.event(time, Event::App(fact));
    }
}

fn emit_overflow(process: ProcessKey, app: &AppCounters, time: Instant, out: &mut impl EventSink) {
    if let Some(process) = convert::process_id(process) {
        let totals = convert::app_totals(app);
        out.event(time, Event::Overflow { process, totals });
    }
}

fn emit_socket(cookie: u64, socket: Option<SocketEntry>, time: Instant, out: &mut impl EventSink) {
    if let Some(fact) = socket.and_then(|socket| convert::socket(cookie, &socket)) {
        out.event(time, Event::Socket(fact));
    }
}

/// The fact of an exec record. A path that had no room is asked of `/proc`, while the process
/// lives.
fn executed(exec: &Exec<'_>) -> Option<crate::event::ProcessFact> {
    let mut fact = convert::executed(exec)?;
    if fact.program.exe.is_none()
        && let Ok(exe) = fs::read_link(format!("/proc/{}/exe", fact.id.pid))
    {
        fact.program.exe = Some(Arc::new(exe));
    }
    Some(fact)
}
