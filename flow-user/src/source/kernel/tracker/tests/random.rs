//! Sockets and processes that come, move and go in any order, with records that are lost, and
//! sweeps whose steps come in between: nothing is missing in the end, no counter falls, and what
//! ended stays ended.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Action {
    /// A process uses a socket. Its record may be lost; a new socket may find no room.
    Moves {
        socket: usize,
        process: usize,
        is_lost: bool,
        is_refused: bool,
    },
    SocketEnds {
        socket: usize,
        is_lost: bool,
    },
    ProcessEnds {
        process: usize,
        is_lost: bool,
    },
    Tick,
    Step(usize),
    CloseDue,
    Time(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let (socket, process) = (0..6_usize, 0..4_usize);
    let rarely = || prop::bool::weighted(0.15);
    prop_oneof![
        6 => (socket.clone(), process.clone(), rarely(), rarely()).prop_map(
            |(socket, process, is_lost, is_refused)| Action::Moves { socket, process, is_lost, is_refused }
        ),
        2 => (socket, rarely()).prop_map(|(socket, is_lost)| Action::SocketEnds { socket, is_lost }),
        1 => (process, rarely()).prop_map(|(process, is_lost)| Action::ProcessEnds { process, is_lost }),
        1 => Just(Action::Tick),
        8 => (1..6_usize).prop_map(Action::Step),
        2 => Just(Action::CloseDue),
        2 => (1..100_u64).prop_map(Action::Time),
    ]
}

/// What is true, what the maps hold, and what was reported.
#[derive(Default)]
struct World {
    maps: Maps,
    tracker: Tracker,
    out: Vec<Timed>,
    now: Instant,
    epoch: u32,
    truth: HashMap<AppKey, u64>,
    /// The cookie of each socket, and the pid of each process: those that ended are followed by
    /// others.
    sockets: [u64; 6],
    processes: [ProcessKey; 4],
    named: u64,
    ended_sockets: HashSet<u64>,
    /// Those that found no room at times: counters of theirs may be found after their end, or that
    /// of their process.
    refused: HashSet<u64>,
    ended_processes: HashSet<u32>,
    /// As the kernel source has them.
    all_mapped: u64,
    listed: u64,
    sweeping: Option<(u64, u64)>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            now: Instant(1_000_000_000_000),
            epoch: 1,
            ..Self::default()
        };
        for socket in 0..world.sockets.len() {
            world.sockets[socket] = world.name();
        }
        for process in 0..world.processes.len() {
            world.processes[process] = world.process();
        }
        world
    }

    fn name(&mut self) -> u64 {
        self.named += 1;
        self.named
    }

    fn process(&mut self) -> ProcessKey {
        ProcessKey {
            start: self.now.0,
            tgid: self.name() as u32,
            padding: 0,
        }
    }

    fn header(&self) -> RecordHeader {
        RecordHeader {
            time: self.now.0,
            ..header()
        }
    }

    fn record(&mut self, record: Record<'_>) {
        self.tracker.record(record, &mut self.maps, &mut self.out);
    }

    fn act(&mut self, action: Action) {
        self.now.0 += 1_000;
        match action {
            Action::Moves {
                socket,
                process,
                is_lost,
                is_refused,
            } => self.moves(socket, process, is_lost, is_refused),
            Action::SocketEnds { socket, is_lost } => self.socket_ends(socket, is_lost),
            Action::ProcessEnds { process, is_lost } => self.process_ends(process, is_lost),
            Action::Tick => {
                self.epoch += 1;
                self.tracker
                    .tick(self.epoch, self.now, &mut self.maps, &mut self.out);
            }
            Action::Step(most) => self.step(most),
            Action::CloseDue => self
                .tracker
                .close_due(self.now, &mut self.maps, &mut self.out),
            Action::Time(milliseconds) => self.now.0 += milliseconds * 1_000_000,
        }
    }

    fn moves(&mut self, socket: usize, process: usize, is_lost: bool, is_refused: bool) {
        let key = AppKey {
            cookie: self.sockets[socket],
            start: self.processes[process].start,
            tgid: self.processes[process].tgid,
            ..KEY
        };
        let epoch = self.epoch;
        *self.truth.entry(key).or_default() += 7;
        let entry = self.maps.app.entry(key).or_default();
        entry.tx_bytes += 7;
        if mem::replace(&mut entry.epoch, epoch) == epoch {
            return;
        }
        let counters = *entry;
        let header = self.header();
        if !self.maps.sockets.contains_key(&key.cookie) && is_refused {
            self.maps.lost.sockets += 1;
            self.refused.insert(key.cookie);
        } else {
            let socket = self.maps.sockets.entry(key.cookie).or_insert_with(tcp);
            socket.epoch = epoch;
            let (cookie, socket) = (key.cookie, *socket);
            if !is_lost {
                let record = SocketRecord {
                    header,
                    cookie,
                    socket,
                };
                self.record(Record::Socket {
                    record,
                    ended: false,
                });
            }
        }
        if is_lost {
            self.maps.lost.traffic += 1;
        } else {
            self.record(Record::App(AppRecord {
                header,
                key,
                counters,
                comm: [0; 16],
            }));
        }
    }

    fn socket_ends(&mut self, socket: usize, is_lost: bool) {
        let cookie = self.sockets[socket];
        self.sockets[socket] = self.name();
        self.ended_sockets.insert(cookie);
        let Some(socket) = self.maps.sockets.get_mut(&cookie) else {
            return;
        };
        (socket.released, socket.closed) = (1, 1);
        let socket = *socket;
        if is_lost {
            self.maps.lost.traffic += 1;
            return;
        }
        let record = SocketRecord {
            header: self.header(),
            cookie,
            socket,
        };
        self.record(Record::Socket {
            record,
            ended: true,
        });
    }

    fn process_ends(&mut self, process: usize, is_lost: bool) {
        let ended = self.processes[process];
        self.processes[process] = self.process();
        self.ended_processes.insert(ended.tgid);
        if is_lost {
            self.maps.lost.process += 1;
            return;
        }
        self.record(Record::Exit(ExitRecord {
            header: self.header(),
            process: ended,
            status: 0,
            padding: 0,
            comm: [0; 16],
        }));
    }

    fn unmapped(&self) -> UnmappedSockets {
        if self.maps.lost.sockets == self.all_mapped {
            UnmappedSockets::None
        } else {
            UnmappedSockets::Among(self.sockets.into_iter().collect())
        }
    }

    fn listing(&self) -> Option<Listing> {
        let processes = self.processes.into_iter().filter_map(convert::process_id);
        let processes: Vec<_> = processes.collect();
        (self.maps.lost.process != self.listed)
            .then(|| listing(&processes, self.now.0))
            .flatten()
    }

    fn step(&mut self, most: usize) {
        let (refused, listed) = self.sweeping.take().unwrap_or_else(|| {
            let lost = self.maps.lost;
            let (unmapped, listing) = (self.unmapped(), self.listing());
            self.tracker
                .begin_sweep(unmapped, listing, self.now, &self.maps);
            (lost.sockets, lost.process)
        });
        let step = self
            .tracker
            .step(most, self.now, &mut self.maps, &mut self.out);
        match step {
            None => self.sweeping = Some((refused, listed)),
            Some(swept) => {
                self.listed = listed;
                if swept.all_mapped {
                    self.all_mapped = refused;
                }
            }
        }
    }

    fn finish(&mut self) {
        self.epoch += 1;
        let (unmapped, listing) = (self.unmapped(), self.listing());
        let (maps, out) = (&mut self.maps, &mut self.out);
        self.tracker
            .finish(self.epoch, unmapped, listing, self.now, maps, out);
    }

    fn check(&self) {
        let mut sent: HashMap<(u64, u32), u64> = HashMap::default();
        let mut closed: HashSet<u64> = HashSet::default();
        let mut exited: HashSet<u32> = HashSet::default();
        for timed in &self.out {
            match &timed.event {
                Event::App(fact) => {
                    let (cookie, pid) = (fact.socket.0, fact.process.pid);
                    let known = sent.entry((cookie, pid)).or_default();
                    assert!(*known <= fact.totals.tx_bytes.0, "{cookie} of {pid} falls");
                    *known = fact.totals.tx_bytes.0;
                    if !self.refused.contains(&cookie) {
                        assert!(!closed.contains(&cookie), "{cookie} moves after its end");
                        assert!(!exited.contains(&pid), "{pid} moves after its exit");
                    }
                }
                Event::Socket(fact) => {
                    let cookie = fact.cookie.0;
                    assert!(!closed.contains(&cookie), "{cookie} comes after its end");
                }
                Event::SocketEnd { cookie, .. } => {
                    assert!(
                        self.ended_sockets.contains(&cookie.0),
                        "{cookie:?} has not ended"
                    );
                    assert!(closed.insert(cookie.0), "{cookie:?} ends twice");
                }
                Event::ProcessExit { id, .. } => {
                    assert!(exited.insert(id.pid), "{} exits twice", id.pid);
                }
                Event::ProcessesListed(facts) => {
                    let present: HashSet<u32> = facts.iter().map(|fact| fact.id.pid).collect();
                    let is_late = present.intersection(&exited).next();
                    assert_eq!(is_late, None, "there after its exit");
                }
                _ => {}
            }
        }
        for (key, bytes) in &self.truth {
            assert_eq!(sent.get(&(key.cookie, key.tgid)), Some(bytes), "{key:?}");
            if self.refused.contains(&key.cookie) {
                continue;
            }
            let has_ended = self.ended_sockets.contains(&key.cookie);
            assert_eq!(closed.contains(&key.cookie), has_ended, "{key:?}");
            let is_final = has_ended || self.ended_processes.contains(&key.tgid);
            assert_eq!(self.maps.app.contains_key(key), !is_final, "{key:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_is_missing_and_nothing_comes_back(actions in prop::collection::vec(action(), 0..120)) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
        }
        world.finish();
        world.check();
    }
}
