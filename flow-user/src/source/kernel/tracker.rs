//! From the kernel side's records and maps to events.
//!
//! The maps hold the truth; a record only says where to look. A record tells at most once in an
//! epoch that an entry moved, so at each tick the entries that told are read again. What told
//! nothing because the ring buffer was full is found by the sweep. User space alone deletes
//! entries that it was told of, after a last look.

use std::{
    collections::{HashMap, HashSet},
    fs,
    sync::Arc,
    time::Duration,
};

use flow_common::{AppCounters, AppKey, ProcessKey, SocketState};

use super::{
    facts,
    ring::{Exec, Record},
};
use crate::event::{CloseReason, Event, Instant, SocketCookie, Timed};

/// How long an ended socket's entry is kept: its last packets leave just after its end.
const GRACE: Duration = Duration::from_millis(50);
/// How long a socket that is closed, and whose end did not tell, may stand still before it is taken
/// for ended: the kernel's own sockets, and those that nobody accepted, are released by no hook. The
/// same for one in its handshake, whose end is not told at all.
const STILL: Duration = Duration::from_secs(180);

/// The kernel side's maps, as the tracker needs them.
pub trait Counters {
    /// The counters of a key, now.
    fn app(&self, key: &AppKey) -> Option<AppCounters>;
    /// The entry of a socket, now.
    fn socket(&self, cookie: u64) -> Option<SocketState>;
    /// Deletes counters.
    fn forget_app(&mut self, key: &AppKey);
    /// Deletes a socket's entry.
    fn forget_socket(&mut self, cookie: u64);
    /// Every key and its counters. An entry may be missing or come twice while the map changes.
    fn all_app(&self) -> Vec<(AppKey, AppCounters)>;
    /// Every socket, with the same reservation.
    fn all_sockets(&self) -> Vec<(u64, SocketState)>;
    /// Every overflow entry, with the same reservation.
    fn all_overflow(&self) -> Vec<(ProcessKey, AppCounters)>;
}

/// What is known of the entries in the kernel side's maps.
#[derive(Debug, Default)]
pub struct Tracker {
    /// Keys of each socket that told.
    sockets: HashMap<u64, HashSet<AppKey>>,
    /// Keys of each process that told.
    processes: HashMap<ProcessKey, HashSet<AppKey>>,
    /// Keys that told and are to be read at the next tick, with the epoch in which they told.
    moved: HashMap<AppKey, u32>,
    /// Sockets that told and are to be read at the next tick, with the epoch.
    changed: HashMap<u64, u32>,
    ended: Vec<Ended>,
    /// Sockets that were found ended by the last sweep, without having told: the next one takes
    /// them, unless their record comes.
    suspects: HashSet<u64>,
    /// Keys whose socket the last sweep did not find.
    orphans: HashSet<AppKey>,
    /// Sockets that are closed or released but not both, what they had moved, and since when.
    still: HashMap<u64, (u64, Instant)>,
}

#[derive(Debug)]
struct Ended {
    cookie: u64,
    time: Instant,
}

impl Tracker {
    /// Takes up a socket that the source put into the map itself, as if it had told in `epoch`.
    pub fn adopt(&mut self, cookie: u64, epoch: u32) {
        self.sockets.entry(cookie).or_default();
        self.changed.insert(cookie, epoch);
    }

    /// How long until the next ended socket is to be closed.
    pub fn next_due(&self, now: Instant) -> Option<Duration> {
        let first = self.ended.first()?;
        Some(GRACE.saturating_sub(now.since(first.time)))
    }

    /// Takes a record; its events go to `out`.
    pub fn record(
        &mut self,
        record: Record<'_>,
        counters: &mut impl Counters,
        out: &mut Vec<Timed>,
    ) {
        match record {
            Record::App(record) => {
                self.know(record.key);
                self.moved.insert(record.key, record.counters.epoch);
                let time = Instant(record.header.time);
                if let Some(fact) = facts::app(&record.key, &record.counters, Some(&record.comm)) {
                    out.push(timed(time, Event::App(fact)));
                }
            }
            Record::Socket { record, ended } => {
                let time = Instant(record.header.time);
                self.sockets.entry(record.cookie).or_default();
                self.changed.insert(record.cookie, record.socket.epoch);
                if let Some(fact) = facts::socket(record.cookie, &record.socket) {
                    out.push(timed(time, Event::Socket(fact)));
                }
                if ended {
                    self.suspects.remove(&record.cookie);
                    self.ended.push(Ended {
                        cookie: record.cookie,
                        time,
                    });
                }
            }
            Record::Exec(exec) => {
                let time = Instant(exec.fixed.header.time);
                if let Some(fact) = executed(&exec) {
                    out.push(timed(time, Event::ProcessExec(fact)));
                }
            }
            Record::Fork(fork) => {
                if let Some(fact) = facts::forked(&fork) {
                    out.push(timed(Instant(fork.header.time), Event::ProcessFork(fact)));
                }
            }
            Record::Exit(exit) => {
                let time = Instant(exit.header.time);
                // What it moved comes first: its totals are final then.
                self.exited(exit.process, time, counters, out);
                if let Some(id) = facts::process_id(exit.process) {
                    let status = exit.status;
                    out.push(timed(time, Event::ProcessExit { id, status }));
                }
            }
        }
    }

    /// Keeps a key with its socket and its process.
    fn know(&mut self, key: AppKey) {
        self.sockets.entry(key.cookie).or_default().insert(key);
        self.processes.entry(key.process()).or_default().insert(key);
    }

    /// Tells the last totals of a process, and deletes its keys: nobody else adds to them.
    fn exited(
        &mut self,
        process: ProcessKey,
        time: Instant,
        counters: &mut impl Counters,
        out: &mut Vec<Timed>,
    ) {
        for key in self.processes.remove(&process).unwrap_or_default() {
            tell_app(&key, time, counters, out);
            counters.forget_app(&key);
            self.moved.remove(&key);
            let Some(keys) = self.sockets.get_mut(&key.cookie) else {
                continue;
            };
            keys.remove(&key);
            // No hook tells the end of a socket without a cookie of its own.
            if keys.is_empty() && is_alias(key.cookie) {
                self.ended.push(Ended {
                    cookie: key.cookie,
                    time,
                });
            }
        }
    }

    /// Reads again what told, and closes what ended. Before, `epoch` must have begun and the ring
    /// buffer been drained: what told in an earlier epoch tells again when it moves from here on.
    /// What told in this one does not, and is read again at the next tick.
    pub fn tick(
        &mut self,
        epoch: u32,
        now: Instant,
        counters: &mut impl Counters,
        out: &mut Vec<Timed>,
    ) {
        self.moved.retain(|key, told| {
            tell_app(key, now, counters, out);
            *told == epoch
        });
        self.changed.retain(|cookie, told| {
            tell_socket(*cookie, now, counters, out);
            *told == epoch
        });
        self.close_due(now, counters, out);
    }

    /// Closes the ended sockets whose grace is over.
    pub fn close_due(&mut self, now: Instant, counters: &mut impl Counters, out: &mut Vec<Timed>) {
        let is_due = |ended: &Ended| now.since(ended.time) >= GRACE;
        let (due, waiting) = std::mem::take(&mut self.ended)
            .into_iter()
            .partition(is_due);
        self.ended = waiting;
        for ended in due {
            self.close(ended.cookie, ended.time, counters, out);
        }
    }

    /// Reads every entry: what no record brought. `complete` says that no socket was ever refused an
    /// entry: otherwise one without an entry may be in use.
    pub fn sweep(
        &mut self,
        complete: bool,
        now: Instant,
        counters: &mut impl Counters,
        out: &mut Vec<Timed>,
    ) {
        let sockets = counters.all_sockets();
        for (cookie, socket) in &sockets {
            // One that never told is of no interest: made, perhaps bound, never used.
            if socket.epoch == 0 {
                continue;
            }
            self.sockets.entry(*cookie).or_default();
            if let Some(fact) = facts::socket(*cookie, socket) {
                out.push(timed(now, Event::Socket(fact)));
            }
        }
        let known: HashSet<u64> = sockets.iter().map(|(cookie, _)| *cookie).collect();
        let mut orphans = HashSet::new();
        for (key, app) in counters.all_app() {
            if let Some(fact) = facts::app(&key, &app, None) {
                out.push(timed(now, Event::App(fact)));
            }
            if known.contains(&key.cookie) || !complete {
                self.know(key);
            } else if !self.orphans.contains(&key) {
                orphans.insert(key);
            } else if counters.socket(key.cookie).is_none() {
                counters.forget_app(&key);
            }
        }
        self.orphans = orphans;
        self.close_suspects(&sockets, now, counters, out);
        self.close_still(&sockets, now, counters, out);
        if complete {
            self.close_vanished(&known, now, counters, out);
        }
        self.overflow(now, counters, out);
    }

    /// Closes sockets whose end did not tell, when two sweeps have found them ended.
    fn close_suspects(
        &mut self,
        sockets: &[(u64, SocketState)],
        now: Instant,
        counters: &mut impl Counters,
        out: &mut Vec<Timed>,
    ) {
        let told: HashSet<u64> = self.ended.iter().map(|ended| ended.cookie).collect();
        let mut suspects = HashSet::new();
        for (cookie, socket) in sockets {
            if !has_ended(socket) || told.contains(cookie) {
                continue;
            }
            if self.suspects.contains(cookie) {
                self.close(*cookie, now, counters, out);
            } else {
                suspects.insert(*cookie);
            }
        }
        self.suspects = suspects;
    }

    /// Closes sockets that are half ended and stand still for long.
    fn close_still(
        &mut self,
        sockets: &[(u64, SocketState)],
        now: Instant,
        counters: &mut impl Counters,
        out: &mut Vec<Timed>,
    ) {
        let mut still = HashMap::new();
        for (cookie, socket) in sockets {
            if socket.released == 0 && socket.closed == 0 && socket.state != SYN_RECV {
                continue;
            }
            let moved = socket.wire_tx_bytes.wrapping_add(socket.wire_rx_bytes);
            let since = match self.still.get(cookie) {
                Some((before, since)) if *before == moved => *since,
                _ => now,
            };
            if now.since(since) >= STILL {
                self.close(*cookie, now, counters, out);
            } else {
                still.insert(*cookie, (moved, since));
            }
        }
        self.still = still;
    }

    /// Closes sockets that are in no map any more.
    fn close_vanished(
        &mut self,
        known: &HashSet<u64>,
        now: Instant,
        counters: &mut impl Counters,
        out: &mut Vec<Timed>,
    ) {
        let gone: Vec<u64> = self
            .sockets
            .keys()
            .filter(|cookie| !known.contains(cookie))
            .filter(|cookie| counters.socket(**cookie).is_none())
            .copied()
            .collect();
        self.vanished(gone.into_iter(), now, counters, out);
    }

    /// Closes sockets of which another source says that they are no more.
    pub fn vanished(
        &mut self,
        cookies: impl Iterator<Item = u64>,
        now: Instant,
        counters: &mut impl Counters,
        out: &mut Vec<Timed>,
    ) {
        for cookie in cookies {
            if self.sockets.contains_key(&cookie) {
                self.close(cookie, now, counters, out);
            }
        }
    }

    /// Tells what processes moved after the map of counters was full.
    pub fn overflow(&self, now: Instant, counters: &impl Counters, out: &mut Vec<Timed>) {
        for (process, app) in counters.all_overflow() {
            if let Some(process) = facts::process_id(process) {
                let totals = facts::app_totals(&app);
                out.push(timed(now, Event::Overflow { process, totals }));
            }
        }
    }

    /// Tells the last totals of everything, and closes what ended, without waiting.
    pub fn finish(
        &mut self,
        epoch: u32,
        complete: bool,
        now: Instant,
        counters: &mut impl Counters,
        out: &mut Vec<Timed>,
    ) {
        self.tick(epoch, now, counters, out);
        self.sweep(complete, now, counters, out);
        for ended in std::mem::take(&mut self.ended) {
            self.close(ended.cookie, ended.time, counters, out);
        }
    }

    /// Tells a socket's last totals and its end, and deletes its entries.
    fn close(
        &mut self,
        cookie: u64,
        time: Instant,
        counters: &mut impl Counters,
        out: &mut Vec<Timed>,
    ) {
        for key in self.sockets.remove(&cookie).unwrap_or_default() {
            tell_app(&key, time, counters, out);
            counters.forget_app(&key);
            self.moved.remove(&key);
            if let Some(keys) = self.processes.get_mut(&key.process()) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.processes.remove(&key.process());
                }
            }
        }
        self.changed.remove(&cookie);
        let socket = counters.socket(cookie);
        if let Some(fact) = socket.and_then(|socket| facts::socket(cookie, &socket)) {
            out.push(timed(time, Event::Socket(fact)));
        }
        counters.forget_socket(cookie);
        let reason = socket.map_or(CloseReason::Vanished, |socket| facts::close_reason(&socket));
        let cookie = SocketCookie(cookie);
        out.push(timed(time, Event::SocketEnd { cookie, reason }));
    }
}

/// Whether a socket's identity is not a cookie; see `flow_common::AppKey::cookie`.
const fn is_alias(cookie: u64) -> bool {
    cookie >> 63 == 1
}

/// The state of a connection in its handshake, as the kernel numbers it.
const SYN_RECV: u8 = 3;

/// Whether nothing more can happen on a socket.
fn has_ended(socket: &SocketState) -> bool {
    const CLOSE: u8 = 7;
    let has_states = matches!(socket.protocol, 6 | 132 | 262);
    socket.released != 0 && (!has_states || socket.closed != 0 || socket.state == CLOSE)
}

fn tell_app(key: &AppKey, time: Instant, counters: &impl Counters, out: &mut Vec<Timed>) {
    // Gone means closed, and told, in the meantime.
    if let Some(fact) = counters
        .app(key)
        .and_then(|app| facts::app(key, &app, None))
    {
        out.push(timed(time, Event::App(fact)));
    }
}

fn tell_socket(cookie: u64, time: Instant, counters: &impl Counters, out: &mut Vec<Timed>) {
    if let Some(fact) = counters
        .socket(cookie)
        .and_then(|socket| facts::socket(cookie, &socket))
    {
        out.push(timed(time, Event::Socket(fact)));
    }
}

/// The fact of an exec record. A path that had no room is asked of `/proc`, while the process lives.
fn executed(exec: &Exec<'_>) -> Option<crate::event::ProcessFact> {
    let mut fact = facts::executed(exec)?;
    if fact.program.exe.is_none()
        && let Ok(exe) = fs::read_link(format!("/proc/{}/exe", fact.id.pid))
    {
        fact.program.exe = Some(Arc::new(exe));
    }
    Some(fact)
}

fn timed(time: Instant, event: Event) -> Timed {
    Timed { time, event }
}

#[cfg(test)]
mod tests {
    use flow_common::{IpAddress, RecordHeader, record::AppRecord, record::SocketRecord};

    use super::*;
    use crate::event::Bytes;

    #[derive(Default)]
    struct Maps {
        app: HashMap<AppKey, AppCounters>,
        sockets: HashMap<u64, SocketState>,
    }

    impl Counters for Maps {
        fn app(&self, key: &AppKey) -> Option<AppCounters> {
            self.app.get(key).copied()
        }
        fn socket(&self, cookie: u64) -> Option<SocketState> {
            self.sockets.get(&cookie).copied()
        }
        fn forget_app(&mut self, key: &AppKey) {
            self.app.remove(key);
        }
        fn forget_socket(&mut self, cookie: u64) {
            self.sockets.remove(&cookie);
        }
        fn all_app(&self) -> Vec<(AppKey, AppCounters)> {
            self.app.iter().map(|(key, app)| (*key, *app)).collect()
        }
        fn all_sockets(&self) -> Vec<(u64, SocketState)> {
            self.sockets.iter().map(|(c, s)| (*c, *s)).collect()
        }
        fn all_overflow(&self) -> Vec<(ProcessKey, AppCounters)> {
            Vec::new()
        }
    }

    const KEY: AppKey = AppKey {
        cookie: 9,
        start: 30_000_000,
        tgid: 7,
        remote_port: 0,
        remote_known: 0,
        remote: IpAddress::NONE,
    };

    fn maps(bytes: u64, socket: SocketState) -> Maps {
        let app = AppCounters {
            tx_bytes: bytes,
            epoch: 1,
            ..AppCounters::default()
        };
        Maps {
            app: [(KEY, app)].into(),
            sockets: [(KEY.cookie, socket)].into(),
        }
    }

    fn tcp() -> SocketState {
        SocketState {
            family: 2,
            protocol: 6,
            state: 1,
            epoch: 1,
            ..SocketState::default()
        }
    }

    fn header() -> RecordHeader {
        RecordHeader {
            time: 5,
            kind: 0,
            padding: 0,
        }
    }

    fn app_record() -> Record<'static> {
        Record::App(AppRecord {
            header: header(),
            key: KEY,
            counters: AppCounters {
                epoch: 1,
                ..AppCounters::default()
            },
            comm: [0; 16],
        })
    }

    fn sent(out: &[Timed]) -> Vec<u64> {
        out.iter()
            .filter_map(|timed| match &timed.event {
                Event::App(fact) => Some(fact.totals.tx_bytes.0),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn the_tick_brings_what_the_record_did_not_hold() {
        let mut maps = maps(100, tcp());
        let mut tracker = Tracker::default();
        let mut out = Vec::new();
        tracker.record(app_record(), &mut maps, &mut out);
        tracker.tick(2, Instant(10), &mut maps, &mut out);
        assert_eq!(sent(&out), [0, 100]);
        out.clear();
        tracker.tick(3, Instant(20), &mut maps, &mut out);
        assert!(out.is_empty(), "nothing told, nothing read");
    }

    #[test]
    fn what_told_in_the_new_epoch_is_read_at_the_next_tick_too() {
        let mut maps = maps(100, tcp());
        let mut tracker = Tracker::default();
        let mut out = Vec::new();
        // Its record came between the beginning of epoch 1 and the tick.
        tracker.record(app_record(), &mut maps, &mut out);
        tracker.tick(1, Instant(10), &mut maps, &mut out);
        maps.app.get_mut(&KEY).unwrap().tx_bytes = 120;
        out.clear();
        tracker.tick(2, Instant(20), &mut maps, &mut out);
        assert_eq!(sent(&out), [120]);
    }

    #[test]
    fn a_process_has_its_last_totals_before_its_exit() {
        let mut maps = maps(100, tcp());
        let mut tracker = Tracker::default();
        let mut out = Vec::new();
        tracker.record(app_record(), &mut maps, &mut out);
        out.clear();
        let exit = flow_common::record::ExitRecord {
            header: header(),
            process: KEY.process(),
            status: 0,
            padding: 0,
        };
        tracker.record(Record::Exit(exit), &mut maps, &mut out);
        assert_eq!(sent(&out), [100]);
        assert!(matches!(out[1].event, Event::ProcessExit { .. }));
        assert!(maps.app.is_empty(), "nobody adds to it any more");
        assert!(!maps.sockets.is_empty(), "another process may hold it");
    }

    #[test]
    fn without_room_for_sockets_nothing_is_deleted() {
        let mut maps = maps(100, tcp());
        maps.sockets.clear();
        let mut tracker = Tracker::default();
        let mut out = Vec::new();
        tracker.record(app_record(), &mut maps, &mut out);
        for seconds in 0..4 {
            tracker.sweep(
                false,
                Instant(seconds * 10_000_000_000),
                &mut maps,
                &mut out,
            );
        }
        assert!(!maps.app.is_empty());
        for seconds in 4..6 {
            tracker.sweep(true, Instant(seconds * 10_000_000_000), &mut maps, &mut out);
        }
        assert!(maps.app.is_empty());
    }

    #[test]
    fn a_closed_socket_that_nobody_releases_ends_when_it_stands_still() {
        let closed = SocketState { closed: 1, ..tcp() };
        let in_handshake = SocketState {
            state: SYN_RECV,
            ..tcp()
        };
        for socket in [closed, in_handshake] {
            let mut maps = maps(100, socket);
            let mut tracker = Tracker::default();
            let mut out = Vec::new();
            for seconds in [0, 100] {
                let now = Instant(seconds * 1_000_000_000);
                tracker.sweep(true, now, &mut maps, &mut out);
            }
            maps.sockets.get_mut(&KEY.cookie).unwrap().wire_rx_bytes = 40;
            for seconds in [170, 180, 349] {
                let now = Instant(seconds * 1_000_000_000);
                tracker.sweep(true, now, &mut maps, &mut out);
            }
            assert!(!maps.sockets.is_empty());
            tracker.sweep(true, Instant(350_000_000_000), &mut maps, &mut out);
            assert!(maps.app.is_empty() && maps.sockets.is_empty());
        }
    }

    #[test]
    fn an_ended_socket_is_read_once_more_and_deleted() {
        let mut maps = maps(100, tcp());
        let mut tracker = Tracker::default();
        let mut out = Vec::new();
        tracker.record(app_record(), &mut maps, &mut out);
        let end = Record::Socket {
            record: SocketRecord {
                header: header(),
                cookie: KEY.cookie,
                socket: tcp(),
            },
            ended: true,
        };
        tracker.record(end, &mut maps, &mut out);
        tracker.tick(2, Instant(10), &mut maps, &mut out);
        assert!(!maps.sockets.is_empty(), "its grace is not over");
        maps.app.get_mut(&KEY).unwrap().tx_bytes = 120;
        out.clear();
        tracker.tick(3, Instant(100_000_000), &mut maps, &mut out);
        assert_eq!(sent(&out), [120]);
        assert!(matches!(
            out.last().unwrap().event,
            Event::SocketEnd {
                reason: CloseReason::Closed,
                ..
            }
        ));
        assert!(maps.app.is_empty() && maps.sockets.is_empty());
    }

    #[test]
    fn the_sweep_finds_what_no_record_told() {
        let ended = SocketState {
            released: 1,
            closed: 1,
            ..tcp()
        };
        let mut maps = maps(100, ended);
        let mut tracker = Tracker::default();
        let mut out = Vec::new();
        tracker.sweep(true, Instant(10), &mut maps, &mut out);
        assert_eq!(sent(&out), [100]);
        tracker.sweep(true, Instant(20), &mut maps, &mut out);
        assert!(maps.app.is_empty() && maps.sockets.is_empty());
        assert_eq!(sent(&out).last(), Some(&Bytes(100).0));
    }
}
