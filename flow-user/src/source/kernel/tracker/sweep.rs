//! The sweep: every entry of the maps is read, in steps, and what no record reported is made up
//! for.
//!
//! Between two steps records are taken, sockets closed and processes reported as ended. A step
//! works on what it has just read, so nothing it emits is older than what was emitted before.
//! First all sockets are read, then all counters; only then is anything closed.
//!
//! - What the maps held when the sweep began is read, unless it was taken from them since. So
//!   everything is known of what had ended by then, and that is closed.
//! - A socket may be reported for the first time after its place in the map was passed. It is not
//!   taken for one that vanished.

use std::{mem, vec};

use flow_common::{ProcessKey, SocketEntry, record::ExitRecord, tcp_state};
use foldhash::{HashMap, HashSet};

use super::{Counters, Lost, Tracker, UnmappedSockets, convert, emit_app, has_ended};
use crate::event::{Event, EventSink, Instant, ProcessFact, ProcessId};

/// Entries that a step reads or closes: some milliseconds of work, also while many have moved.
pub const STEP: usize = 4_096;

/// How long a socket that may have ended may stand still before it is taken for ended: one that is
/// closed or released but not both, as no hook releases the kernel's own and those that nobody
/// accepted; one in its handshake, whose end is not reported at all; one that its processes left.
const IDLE: std::time::Duration = std::time::Duration::from_secs(180);

/// The processes that there were at a time.
#[derive(Debug)]
pub struct Listing {
    pub time: Instant,
    pub processes: Vec<ProcessFact>,
}

/// What a sweep found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Whether each socket that may be in use has an entry.
    pub all_mapped: bool,
}

/// A sweep that has begun.
#[derive(Debug)]
pub(super) struct Sweep {
    began: Instant,
    /// What had been lost then.
    lost: Lost,
    unmapped: UnmappedSockets,
    listing: Option<Listing>,
    phase: Phase,
    /// Sockets that were read.
    known: HashSet<u64>,
    /// Further sockets that were reported since it began.
    arrived: HashSet<u64>,
    /// Sockets whose end was reported, and which wait for their grace.
    ended: HashSet<u64>,
    /// Sockets that were read and that have ended, or may have.
    suspects: Vec<u64>,
    /// What replaces the tracker's.
    ended_unreported: HashSet<u64>,
    orphans: HashSet<super::AppKey>,
    idle_since: HashMap<u64, (u64, Instant)>,
    /// Sockets that were not read.
    missing: Vec<u64>,
    /// Processes whose end was reported before it began.
    exits: vec::IntoIter<ExitRecord>,
    /// Processes that are not in the listing.
    absent: Vec<ProcessKey>,
    all_mapped: bool,
}

/// What a sweep does next. A position in a map is where to go on; the first one has none.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Sockets(Option<u32>),
    Counters(Option<u32>),
    Suspects,
    Missing,
    Ended,
    Exits,
    Absent,
    Over,
}

impl Sweep {
    /// A record reports a socket.
    pub(super) fn arrived(&mut self, cookie: u64) {
        if !self.known.contains(&cookie) {
            self.arrived.insert(cookie);
        }
    }

    /// A record reports the end of a socket.
    pub(super) fn ended(&mut self, cookie: u64) {
        self.ended.insert(cookie);
    }

    /// A socket was closed: what counters it has yet belong to none.
    pub(super) fn closed(&mut self, cookie: u64) {
        self.known.remove(&cookie);
        self.arrived.remove(&cookie);
    }

    /// Whether a process that ends now may be in a list that is not reported yet.
    pub(super) const fn holds_exits(&self) -> bool {
        self.listing.is_some()
    }
}

impl Tracker {
    /// Begins a sweep. What `unmapped` and the processes of `listing` are must have been read
    /// before.
    pub fn begin_sweep(
        &mut self,
        unmapped: UnmappedSockets,
        listing: Option<Listing>,
        now: Instant,
        counters: &impl Counters,
    ) {
        self.drop_sweep();
        self.sweep = Some(Sweep {
            began: now,
            // Before the maps: what is lost from here on is for the next one.
            lost: counters.lost(),
            unmapped,
            listing,
            phase: Phase::Sockets(None),
            known: HashSet::with_capacity_and_hasher(self.sockets.len(), Default::default()),
            arrived: HashSet::default(),
            ended: self.ended.iter().map(|ended| ended.cookie).collect(),
            suspects: Vec::new(),
            ended_unreported: HashSet::default(),
            orphans: HashSet::default(),
            idle_since: HashMap::default(),
            missing: Vec::new(),
            exits: mem::take(&mut self.exits).into_iter(),
            absent: Vec::new(),
            all_mapped: true,
        });
    }

    /// Leaves a sweep undone.
    fn drop_sweep(&mut self) {
        if let Some(sweep) = self.sweep.take() {
            let later = mem::take(&mut self.exits);
            self.exits = sweep.exits.chain(later).collect();
        }
    }

    /// Goes on with the sweep that has begun: at most `most` entries are read and closed, and the
    /// last one's remotes. Says what it found once it is over.
    pub fn step(
        &mut self,
        most: usize,
        now: Instant,
        counters: &mut impl Counters,
        out: &mut impl EventSink,
    ) -> Option<Swept> {
        let mut sweep = self.sweep.take()?;
        let mut left = most;
        while left > 0 {
            let mut step = Step {
                tracker: self,
                sweep: &mut sweep,
                most: left,
                now,
                counters,
                out,
            };
            let done = match step.sweep.phase {
                Phase::Sockets(position) => step.read_sockets(position),
                Phase::Counters(position) => step.read_counters(position),
                Phase::Suspects => step.close_suspects(),
                Phase::Missing => step.close_missing(),
                Phase::Ended => step.close_ended(),
                Phase::Exits => step.report_exits(),
                Phase::Absent => step.report_absent(),
                Phase::Over => return Some(self.end_sweep(sweep, counters, out)),
            };
            left = left.saturating_sub(done);
        }
        self.sweep = Some(sweep);
        None
    }

    fn end_sweep(
        &mut self,
        sweep: Sweep,
        counters: &mut impl Counters,
        out: &mut impl EventSink,
    ) -> Swept {
        let Sweep {
            lost,
            listing,
            orphans,
            ended_unreported,
            idle_since,
            all_mapped,
            ..
        } = sweep;
        if let Some(Listing { time, processes }) = listing {
            out.event(time, Event::ProcessesListed(processes));
        }
        self.swept = lost;
        self.orphans = orphans;
        self.ended_unreported = ended_unreported;
        self.idle_since = idle_since;
        let lost = counters.lost();
        if !self.is_behind_of(&lost) {
            self.emit_exits(&lost, counters, out);
        }
        Swept { all_mapped }
    }

    /// A whole sweep at once.
    pub fn sweep(
        &mut self,
        unmapped: UnmappedSockets,
        listing: Option<Listing>,
        now: Instant,
        counters: &mut impl Counters,
        out: &mut impl EventSink,
    ) -> Swept {
        self.begin_sweep(unmapped, listing, now, counters);
        loop {
            if let Some(swept) = self.step(STEP, now, counters, out) {
                return swept;
            }
        }
    }
}

/// A part of a step, of `most` entries.
struct Step<'a, C, S> {
    tracker: &'a mut Tracker,
    sweep: &'a mut Sweep,
    most: usize,
    now: Instant,
    counters: &'a mut C,
    out: &'a mut S,
}

/// Each returns how many entries it read or closed.
impl<C: Counters, S: EventSink> Step<'_, C, S> {
    fn read_sockets(&mut self, position: Option<u32>) -> usize {
        let part = self.counters.some_sockets(position, self.most);
        for (cookie, socket) in &part.entries {
            self.sweep.known.insert(*cookie);
            self.sweep.arrived.remove(cookie);
            if has_ended(socket) || may_have_ended(*cookie, socket, self.tracker) {
                self.sweep.suspects.push(*cookie);
            }
            // One that was never reported is of no interest: made, perhaps bound, never used.
            if socket.epoch == 0 {
                continue;
            }
            self.tracker.sockets.entry(*cookie).or_default();
            if let Some(fact) = convert::socket(*cookie, socket) {
                self.out.event(self.now, Event::Socket(fact));
            }
        }
        self.sweep.phase = match part.next {
            Some(next) => Phase::Sockets(Some(next)),
            None => Phase::Counters(None),
        };
        part.entries.len()
    }

    fn read_counters(&mut self, position: Option<u32>) -> usize {
        let part = self.counters.some_app(position, self.most);
        for (key, app) in &part.entries {
            let Sweep {
                known,
                arrived,
                unmapped,
                orphans,
                ..
            } = &mut *self.sweep;
            let cookie = key.cookie;
            let mut app = Some(*app);
            if known.contains(&cookie) || arrived.contains(&cookie) || unmapped.may_be_used(cookie)
            {
                self.tracker.index(*key);
            } else if !self.tracker.orphans.contains(key) {
                orphans.insert(*key);
            } else if self.counters.socket(cookie).is_none() {
                app = self.counters.take_app(key);
            }
            emit_app(key, app, self.now, self.out);
        }
        self.sweep.phase = match part.next {
            Some(next) => Phase::Counters(Some(next)),
            None => Phase::Suspects,
        };
        part.entries.len()
    }

    /// Closes sockets whose end was not reported, when two sweeps have found them ended, and those
    /// that may have ended and stand still for long.
    fn close_suspects(&mut self) -> usize {
        let mut done = 0;
        while done < self.most {
            let Some(cookie) = self.sweep.suspects.pop() else {
                self.sweep.phase = Phase::Missing;
                self.find_missing();
                break;
            };
            done += 1;
            // Once more: it may have been closed since, or moved.
            let Some(socket) = self.counters.socket(cookie) else {
                continue;
            };
            if !self.sweep.ended.contains(&cookie) && self.is_to_be_closed(cookie, &socket) {
                done += self.close(cookie);
            }
        }
        done
    }

    fn is_to_be_closed(&mut self, cookie: u64, socket: &SocketEntry) -> bool {
        if has_ended(socket) {
            if self.tracker.ended_unreported.contains(&cookie) {
                return true;
            }
            self.sweep.ended_unreported.insert(cookie);
        }
        if !may_have_ended(cookie, socket, self.tracker) {
            return false;
        }
        let moved = socket.wire_tx_bytes.wrapping_add(socket.wire_rx_bytes);
        let since = match self.tracker.idle_since.get(&cookie) {
            Some((before, since)) if *before == moved => *since,
            _ => self.now,
        };
        if self.now.since(since) >= IDLE {
            return true;
        }
        self.sweep.idle_since.insert(cookie, (moved, since));
        false
    }

    fn find_missing(&mut self) {
        let cookies = self.tracker.sockets.keys().copied();
        let missing = cookies.filter(|cookie| !self.sweep.known.contains(cookie));
        self.sweep.missing = missing.collect();
    }

    /// Closes sockets that are in no map any more.
    fn close_missing(&mut self) -> usize {
        let mut done = 0;
        while done < self.most {
            let Some(cookie) = self.sweep.missing.pop() else {
                self.sweep.phase = Phase::Ended;
                break;
            };
            done += 1;
            let is_open = self.tracker.sockets.contains_key(&cookie);
            if !is_open || self.counters.socket(cookie).is_some() {
                continue;
            }
            if self.sweep.arrived.contains(&cookie) || self.sweep.unmapped.may_be_used(cookie) {
                self.sweep.all_mapped = false;
            } else {
                done += self.close(cookie);
            }
        }
        done
    }

    /// Closes sockets whose grace was over when the sweep began. What was lost until then is known,
    /// whatever was lost since: else there would be no end while losses go on.
    fn close_ended(&mut self) -> usize {
        let began = self.sweep.began;
        let done = self
            .tracker
            .close_ended(began, self.most, self.counters, self.out);
        if done == 0 {
            if self.sweep.lost.app > 0 {
                self.tracker.overflow(self.now, self.counters, self.out);
            }
            self.sweep.phase = Phase::Exits;
        }
        done
    }

    /// Reports the ends of processes that were known when the sweep began.
    fn report_exits(&mut self) -> usize {
        let lost = self.counters.lost();
        let mut done = 0;
        while done < self.most {
            let Some(exit) = self.sweep.exits.next() else {
                self.sweep.phase = Phase::Absent;
                self.find_absent();
                break;
            };
            done += self
                .tracker
                .emit_exit(&exit, &lost, self.counters, self.out);
        }
        done
    }

    /// Without those that began later.
    fn find_absent(&mut self) {
        let Some(Listing { time, processes }) = &self.sweep.listing else {
            return;
        };
        let present: HashSet<ProcessId> = processes.iter().map(|process| process.id).collect();
        let is_present =
            |process| convert::process_id(process).is_none_or(|id| present.contains(&id));
        let overflowed = self.counters.all_overflow().into_iter();
        let overflowed = overflowed.map(|(process, _)| process);
        let known = self.tracker.processes.keys().copied().chain(overflowed);
        let absent: HashSet<ProcessKey> = known
            .filter(|process| process.start < time.0 && !is_present(*process))
            .collect();
        self.sweep.absent = absent.into_iter().collect();
    }

    /// Takes the last totals of processes that moved bytes and have ended since, while their record
    /// was lost.
    fn report_absent(&mut self) -> usize {
        let Some(listed) = self.sweep.listing.as_ref().map(|listing| listing.time) else {
            self.sweep.phase = Phase::Over;
            return 0;
        };
        let lost = self.counters.lost();
        let mut done = 0;
        while done < self.most {
            let Some(process) = self.sweep.absent.pop() else {
                self.sweep.phase = Phase::Over;
                break;
            };
            done += self
                .tracker
                .exited(process, listed, &lost, self.counters, self.out);
        }
        done
    }

    fn close(&mut self, cookie: u64) -> usize {
        self.tracker
            .close(cookie, self.now, self.counters, self.out)
    }
}

/// Whether a socket may have ended though nothing says so: it has when it stands still.
fn may_have_ended(cookie: u64, socket: &SocketEntry, tracker: &Tracker) -> bool {
    socket.released != 0
        || socket.closed != 0
        || socket.state == tcp_state::SYN_RECV
        || tracker.abandoned.contains(&cookie)
}
