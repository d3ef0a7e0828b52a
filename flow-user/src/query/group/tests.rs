//! Over any sequence of snapshots no total falls, and the rows of each grouping add up.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::{
    event::{
        AppFact, CloseReason, Direction, Event, Instant, ProcessFact, Program, Protocol,
        SocketFact, State, Timed, WireTotals,
    },
    model::{Config, Model},
    query::{baseline::Baseline, fixture::totals, groups::Grouping, nested},
};

/// Groupings whose rows lose what leaves the history: the model keeps no totals for them.
const FALLING: [(By, &str); 2] = [(By::Flow, "by program and remote"), (By::Remote, "by port")];

/// Those that do after a reset: it is not known how much of what left the history came after it.
const FALLING_SINCE: [(By, &str); 6] = [
    (By::Flow, "by remote"),
    (By::Remote, "by host"),
    (By::Remote, "by network"),
    (By::Listener, "flat"),
    (By::User, "flat"),
    (By::Cgroup, "flat"),
];

/// Bytes without a row, which get one when their socket is described: this sum may fall.
const FOR_NOW: Id = Id::Cause(Cause::EndedFlows);

const NAMES: [&str; 4] = ["curl", "nginx", "sh", "orderd"];
const REMOTES: [&str; 3] = ["10.0.0.9:443", "10.0.0.8:53", "10.0.1.7:5432"];
/// Seconds that ended rows stay.
const HISTORY: u64 = 3;

/// What happens to a host. Processes and sockets are by place: what ends there makes room for the
/// next one.
#[derive(Clone, Debug)]
enum Step {
    Exec(usize, usize),
    Rename(usize, usize),
    Open(usize, usize, usize),
    Listen(usize, usize),
    Serve(usize, usize, usize),
    Move(usize, usize, u64, u64),
    Close(usize),
    Exit(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (process, socket) = (0..4_usize, 0..6_usize);
    prop_oneof![
        2 => (process.clone(), 0..NAMES.len()).prop_map(|(at, name)| Step::Exec(at, name)),
        1 => (process.clone(), 0..NAMES.len()).prop_map(|(at, name)| Step::Rename(at, name)),
        4 => (socket.clone(), process.clone(), 0..REMOTES.len())
            .prop_map(|(at, process, remote)| Step::Open(at, process, remote)),
        1 => (socket.clone(), process.clone()).prop_map(|(at, process)| Step::Listen(at, process)),
        2 => (socket.clone(), process.clone(), 0..REMOTES.len())
            .prop_map(|(at, process, remote)| Step::Serve(at, process, remote)),
        6 => (socket.clone(), process.clone(), 0..1000_u64, 0..1000_u64)
            .prop_map(|(at, process, tx, rx)| Step::Move(at, process, tx, rx)),
        2 => socket.prop_map(Step::Close),
        2 => process.prop_map(Step::Exit),
        6 => (1..3_u64).prop_map(Step::Pass),
    ]
}

/// A host that steps happen to.
struct Play {
    model: Model,
    seconds: u64,
    processes: [(u32, usize); 4],
    sockets: [(u64, usize); 6],
    moved: HashMap<(u64, ProcessId, SocketAddr), AppTotals>,
    described: HashSet<u64>,
    /// Sockets that listen: they are never connected, nor is a connection ever a listener.
    listening: HashSet<u64>,
    /// Those of datagrams, whose remote changes.
    serving: HashSet<u64>,
}

impl Play {
    fn new() -> Self {
        let config = Config {
            history: std::time::Duration::from_secs(HISTORY),
            udp_idle: std::time::Duration::from_secs(1),
            ..Config::default()
        };
        let mut play = Self {
            model: Model::new(config, Instant(0)),
            seconds: 1,
            processes: [(1, 0), (2, 1), (3, 2), (4, 3)],
            sockets: std::array::from_fn(|at| (at as u64 + 1, 0)),
            moved: HashMap::new(),
            described: HashSet::new(),
            listening: HashSet::new(),
            serving: HashSet::new(),
        };
        for at in 0..play.processes.len() {
            play.named(at);
        }
        play
    }

    fn apply(&mut self, event: Event) {
        let time = Instant(self.seconds * 1_000_000_000);
        self.model.apply(Timed { time, event });
    }

    fn id(&self, at: usize) -> ProcessId {
        ProcessId {
            pid: self.processes[at].0,
            start: Instant(1),
        }
    }

    fn fact(&self, at: usize) -> ProcessFact {
        let name = NAMES[self.processes[at].1];
        ProcessFact {
            id: self.id(at),
            parent: None,
            program: Program {
                comm: Some(name.into()),
                exe: Some(Arc::new(format!("/bin/{name}").into())),
                ..Program::default()
            },
            uid: Some(1000 + at as u32 % 2),
            cgroup: None,
        }
    }

    fn named(&mut self, at: usize) {
        let fact = self.fact(at);
        self.apply(Event::ProcessExec(fact));
    }

    fn socket(&mut self, at: usize, process: usize, fact: impl FnOnce(SocketFact) -> SocketFact) {
        self.described.insert(self.sockets[at].0);
        let fact = fact(SocketFact {
            cookie: SocketCookie(self.sockets[at].0),
            protocol: Protocol::Tcp,
            local: "10.0.0.2:80".parse().unwrap(),
            remote: Some(REMOTES[self.sockets[at].1].parse().unwrap()),
            state: State::Established,
            direction: Some(match at % 2 {
                0 => Direction::Outbound,
                _ => Direction::Inbound,
            }),
            netns: None,
            ifindex: None,
            owner: Some(self.id(process)),
            wire: Some(WireTotals {
                rx_packets: self.seconds,
                ..WireTotals::default()
            }),
            tcp: None,
        });
        self.apply(Event::Socket(fact));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open(at, ..) | Step::Move(at, ..)
                if self.listening.contains(&self.sockets[at].0) => {}
            Step::Open(at, ..) if self.serving.contains(&self.sockets[at].0) => {}
            Step::Listen(at, _) if self.described.contains(&self.sockets[at].0) => {}
            Step::Serve(at, ..)
                if self.described.contains(&self.sockets[at].0)
                    && !self.serving.contains(&self.sockets[at].0) => {}
            Step::Exec(at, name) => {
                self.processes[at].1 = name;
                self.seconds += 1;
                self.named(at);
            }
            Step::Rename(at, name) => {
                let program = Program {
                    comm: Some(NAMES[name].into()),
                    ..Program::default()
                };
                let id = self.id(at);
                self.apply(Event::ProcessNamed { id, program });
            }
            Step::Open(at, process, remote) => {
                self.sockets[at].1 = remote;
                self.socket(at, process, |fact| fact);
            }
            Step::Listen(at, process) => {
                self.listening.insert(self.sockets[at].0);
                self.socket(at, process, |fact| SocketFact {
                    remote: None,
                    state: State::Listen,
                    direction: None,
                    ..fact
                });
            }
            Step::Serve(at, process, remote) => {
                self.serving.insert(self.sockets[at].0);
                self.sockets[at].1 = remote;
                self.socket(at, process, |fact| SocketFact {
                    protocol: Protocol::Udp,
                    local: "0.0.0.0:53".parse().unwrap(),
                    remote: None,
                    state: State::Unconnected,
                    direction: None,
                    ..fact
                });
            }
            Step::Move(at, process, tx, rx) => {
                let (cookie, remote) = self.sockets[at];
                // A reset would not know what moved through a socket that is described later.
                if self.described.insert(cookie) {
                    self.socket(at, process, |fact| fact);
                }
                let remote = REMOTES[remote].parse().unwrap();
                let id = self.id(process);
                let sum = self.moved.entry((cookie, id, remote)).or_default();
                *sum += totals(tx, rx);
                let fact = AppFact {
                    socket: SocketCookie(cookie),
                    process: id,
                    remote: Some(remote),
                    totals: *sum,
                    uid: None,
                    cgroup: None,
                    comm: None,
                };
                self.apply(Event::App(fact));
            }
            Step::Close(at) => {
                let cookie = SocketCookie(self.sockets[at].0);
                self.sockets[at].0 += self.sockets.len() as u64;
                let reason = CloseReason::Closed;
                self.apply(Event::SocketEnd { cookie, reason });
            }
            Step::Exit(at) => {
                let id = self.id(at);
                self.apply(Event::ProcessExit { id, status: 0 });
                self.processes[at].0 += self.processes.len() as u32;
                self.named(at);
            }
            Step::Pass(seconds) => {
                self.seconds += seconds;
                self.model.tick(Instant(self.seconds * 1_000_000_000));
            }
        }
    }
}

fn groupings() -> impl Iterator<Item = (By, &'static Grouping)> {
    By::ALL.into_iter().flat_map(|by| {
        let groupings = by.def().groupings.iter();
        groupings.map(move |grouping| (by, grouping))
    })
}

/// The totals of each row, and of all; of listeners their packets too.
fn rows_of(snapshot: &Snapshot, view: &View, of: RowsOf) -> HashMap<Id, (AppTotals, u64)> {
    let entries = rows(snapshot, view, of);
    let total = total(snapshot, view, &entries);
    let all = entries.into_iter().chain([total]);
    let packets = |entry: &Entry| match &entry.subject {
        Subject::Listener(_) => entry.wire.map_or(0, |wire| wire.rx_packets),
        _ => 0,
    };
    all.map(|entry| (entry.subject.id(), (entry.app, packets(&entry))))
        .collect()
}

/// The rows whose totals fell.
fn fallen(before: &HashMap<Id, (AppTotals, u64)>, now: &HashMap<Id, (AppTotals, u64)>) -> Vec<Id> {
    let fell = |(id, (before, packets_before)): &(&Id, &(AppTotals, u64))| {
        now.get(*id).is_some_and(|(now, packets)| {
            now.tx_bytes < before.tx_bytes
                || now.rx_bytes < before.rx_bytes
                || packets < packets_before
        })
    };
    let fallen = before.iter().filter(fell);
    let fallen = fallen.filter(|(id, _)| **id != FOR_NOW);
    fallen.map(|(id, _)| id.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_total_falls(steps in prop::collection::vec(step(), 0..80), reset in 0..80_usize) {
        let mut play = Play::new();
        let mut views = vec![None];
        let mut before: HashMap<_, HashMap<Id, (AppTotals, u64)>> = HashMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            play.step(step);
            let snapshot = play.model.snapshot();
            if number == reset {
                views.push(Some(Arc::new(Baseline::of(&snapshot))));
            }
            for (by, grouping) in groupings() {
                for (at, since) in views.iter().enumerate() {
                    let view = View { by, since: since.clone(), ..View::default() };
                    let now = rows_of(&snapshot, &view, grouping.rows);
                    let key = (by, grouping.name, at);
                    let mut fallen = before.get(&key).map(|before| fallen(before, &now));
                    if let (By::Listener, Some(fallen)) = (by, &mut fallen) {
                        // A listener's row goes with it.
                        fallen.retain(|id| *id != Id::Total);
                    }
                    let it = (by, grouping.name);
                    // In the place of a datagram flow that was idle another one begins.
                    let is_again = |id: &Id| {
                        matches!(id, Id::Flow(key) if play.serving.contains(&key.socket.0))
                    };
                    if let Some(fallen) = &mut fallen {
                        fallen.retain(|id| !is_again(id));
                    }
                    let falls = since.is_some() && FALLING_SINCE.contains(&it);
                    if !falls && !FALLING.contains(&it) {
                        prop_assert_eq!(fallen.unwrap_or_default(), [], "{:?}", key);
                    }
                    before.insert(key, now);
                }
            }
        }
    }

    #[test]
    fn programs_add_up(steps in prop::collection::vec(step(), 0..80), reset in 0..80_usize) {
        let mut play = Play::new();
        let mut view = View { by: By::Program, ..View::default() };
        for (number, step) in steps.into_iter().enumerate() {
            play.step(step);
            let snapshot = play.model.snapshot();
            if number == reset {
                view.since = Some(Arc::new(Baseline::of(&snapshot)));
            }
            let entries = entries(&snapshot, &view);
            let sum = total(&snapshot, &view, &entries).app;
            let all = view.total(&snapshot);
            prop_assert_eq!((sum.tx_bytes, sum.rx_bytes), (all.tx_bytes, all.rx_bytes));
        }
    }

    #[test]
    fn rows_under_a_row_add_up(steps in prop::collection::vec(step(), 0..80), reset in 0..80_usize) {
        let mut play = Play::new();
        let mut since = None;
        for (number, step) in steps.into_iter().enumerate() {
            play.step(step);
            let snapshot = play.model.snapshot();
            if number == reset {
                since = Some(Arc::new(Baseline::of(&snapshot)));
            }
            for by in By::ALL {
                let view = View { by, since: since.clone(), ..View::default() };
                for grouping in by.def().groupings.iter().filter(|it| it.nested.is_some()) {
                    add_up(&snapshot, &view, grouping)?;
                }
            }
        }
    }
}

/// Whatever is under a row adds up to it.
fn add_up(snapshot: &Snapshot, view: &View, grouping: &Grouping) -> Result<(), TestCaseError> {
    let parents = rows(snapshot, view, grouping.rows);
    let nested = nested::rows(snapshot, view, grouping, &parents, &|_| true);
    for parent in &parents {
        if matches!(parent.subject, Subject::Cause(_)) {
            continue;
        }
        let id = parent.subject.id();
        let under = nested.iter().filter(|(of, _)| *of == id);
        let sum = under.fold(AppTotals::default(), |mut sum, (_, entry)| {
            sum += entry.app;
            sum
        });
        prop_assert_eq!(
            (sum.tx_bytes, sum.rx_bytes),
            (parent.app.tx_bytes, parent.app.rx_bytes),
            "{:?} under {:?}",
            &nested,
            parent.subject
        );
    }
    Ok(())
}
