//! No total of a detail falls, whatever closes, exits and leaves the history.

use proptest::prelude::*;

use super::*;
use crate::{
    event::{
        self, AppFact, AppTotals, Bytes, CgroupId, Direction, Netns, ProcessFact, ProcessId,
        Program, Protocol, SocketCookie, SocketFact, State as SocketState, TcpFacts, Timed,
        WireTotals,
    },
    model::{Config, Model},
    tui::detail::Sums,
};

/// Processes and remotes, so few that they share much.
const PROCESSES: u32 = 3;
const REMOTES: u64 = 2;

fn process(number: u64) -> ProcessId {
    ProcessId {
        pid: 100 + (number % u64::from(PROCESSES)) as u32,
        start: Instant(1),
    }
}

fn remote(number: u64) -> String {
    format!("198.51.100.{}:443", 1 + number % REMOTES)
}

/// A host whose sockets come and go.
struct Host {
    model: Model,
    now: u64,
    moved: u64,
}

impl Host {
    fn new() -> Self {
        let config = Config {
            history: Duration::from_secs(5),
            udp_idle: Duration::from_secs(3),
            ..Config::default()
        };
        let mut host = Self {
            model: Model::new(config, Instant(1_000_000_000)),
            now: 1,
            moved: 0,
        };
        for number in 0..PROCESSES.into() {
            host.apply(event::Event::ProcessSeen(ProcessFact {
                id: process(number),
                parent: None,
                program: Program {
                    comm: Some("worker".into()),
                    ..Program::default()
                },
                uid: Some(1000),
                cgroup: Some(CgroupId(7)),
            }));
            // Each is there from the beginning.
            host.open(1_000 + number, number, false);
            host.transfer(1_000 + number, number, 10);
        }
        host.apply(event::Event::Cgroup {
            id: CgroupId(7),
            path: "/work".into(),
        });
        host
    }

    fn apply(&mut self, event: event::Event) {
        let time = Instant(self.now * 1_000_000_000);
        self.model.apply(Timed { time, event });
    }

    fn open(&mut self, cookie: u64, owner: u64, datagrams: bool) {
        let bytes = self.moved + cookie;
        self.apply(event::Event::Socket(SocketFact {
            cookie: SocketCookie(cookie),
            protocol: if datagrams {
                Protocol::Udp
            } else {
                Protocol::Tcp
            },
            local: "10.0.0.2:5000".parse().unwrap(),
            remote: (!datagrams).then(|| remote(cookie).parse().unwrap()),
            state: match datagrams {
                true => SocketState::Unconnected,
                false => SocketState::Established,
            },
            direction: (!datagrams).then_some(match cookie % 3 {
                0 => Direction::Inbound,
                _ => Direction::Outbound,
            }),
            netns: Some(Netns(1)),
            ifindex: None,
            owner: Some(process(owner)),
            wire: Some(WireTotals {
                tx_bytes: Bytes(bytes),
                rx_bytes: Bytes(bytes),
                tx_packets: bytes,
                rx_packets: bytes,
            }),
            tcp: (!datagrams).then_some(TcpFacts {
                retransmits: bytes as u32,
                ..TcpFacts::default()
            }),
        }));
    }

    /// Counters only grow.
    fn transfer(&mut self, cookie: u64, owner: u64, more: u64) {
        self.moved += more;
        let bytes = self.moved;
        // One socket of datagrams serves many.
        let remote = remote(if cookie.is_multiple_of(2) {
            cookie + owner
        } else {
            cookie
        });
        self.apply(event::Event::App(AppFact {
            socket: SocketCookie(cookie),
            process: process(owner),
            remote: Some(remote.parse().unwrap()),
            totals: AppTotals {
                tx_bytes: Bytes(bytes),
                rx_bytes: Bytes(bytes),
                tx_calls: bytes,
                rx_calls: bytes,
            },
            uid: None,
            cgroup: None,
            comm: None,
        }));
    }

    fn pass(&mut self, seconds: u64) -> Event {
        self.now += seconds;
        self.model.tick(Instant(self.now * 1_000_000_000));
        event(Snapshot::clone(&self.model.snapshot()))
    }
}

/// The totals of every open detail.
fn totals(state: &State) -> Vec<Sums> {
    let details = state.popups.iter();
    details
        .map(|popup| popup_as::<Detail>(&**popup).unwrap().sums)
        .collect()
}

/// The same as those see it who open the details now; nothing of what is no longer listed.
fn seen_now(state: &State) -> Vec<Option<Sums>> {
    let details = state.popups.iter();
    details
        .map(|popup| {
            let detail = popup_as::<Detail>(&**popup).unwrap();
            let now = Detail::open(&detail.of.subject(), state).unwrap();
            (now.listed && !matches!(now.of, Of::Flow(_))).then_some(now.sums)
        })
        .collect()
}

fn falls(before: &Sums, now: &Sums) -> bool {
    let numbers = |sums: &Sums| {
        let Sums {
            app,
            sockets,
            failures,
            ..
        } = *sums;
        let failures: u32 = failures.occurred().map(|(_, count)| count).sum();
        [
            app.tx_bytes.0,
            app.rx_bytes.0,
            app.tx_calls,
            app.rx_calls,
            sockets.counted,
            sockets.wire.tx_bytes.0,
            sockets.wire.rx_bytes.0,
            sockets.wire.tx_packets,
            sockets.wire.rx_packets,
            sockets.retransmits.unwrap_or(0),
            failures.into(),
        ]
    };
    let pairs = numbers(before).into_iter().zip(numbers(now));
    pairs.into_iter().any(|(before, now)| now < before)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_total_of_a_detail_falls(
        acts in prop::collection::vec((0..8_u8, any::<u64>(), 0..9_u64), 1..60),
    ) {
        let mut host = Host::new();
        let mut state = blank((120, 40));
        reduce(&mut state, host.pass(1));
        // Details over each other: of a process, its flow, a remote, a user, a cgroup.
        let opened: Vec<_> = ["1 Home Enter", "2 Home Enter", "3 Home Enter", "6 Home Enter", "7 Home Enter"]
            .map(|keys| {
                press(&mut state, keys);
                state.popups.pop().unwrap()
            })
            .into();
        state.popups = opened;
        let (mut before, mut seen) = (totals(&state), seen_now(&state));
        prop_assert_eq!(before.len(), 5);
        for (act, which, more) in acts {
            let (cookie, owner) = (1 + which % 6, which / 7);
            match act {
                0 => host.open(cookie, owner, cookie.is_multiple_of(2)),
                1..4 => host.transfer(cookie, owner, more * 100),
                4 => host.apply(event::Event::SocketEnd {
                    cookie: SocketCookie(cookie),
                    reason: CloseReason::Reset,
                }),
                5 if which % 5 == 0 => host.apply(event::Event::ProcessExit {
                    id: process(owner),
                    status: 0,
                }),
                _ => {
                    let moment = host.pass(more);
                    reduce(&mut state, moment);
                    let now = totals(&state);
                    for (at, (before, now)) in before.iter().zip(&now).enumerate() {
                        prop_assert!(!falls(before, now), "{at}: {before:?}\n{now:?}");
                    }
                    before = now;
                    let now = seen_now(&state);
                    for (at, (before, now)) in seen.iter().zip(&now).enumerate() {
                        if let (Some(before), Some(now)) = (before, now) {
                            prop_assert!(!falls(before, now), "anew {at}: {before:?}\n{now:?}");
                        }
                    }
                    seen = now;
                }
            }
        }
    }
}

/// Without the sums of what left, the largest number ever seen would hide what came after it.
#[test]
fn the_wire_of_a_process_contains_the_sockets_that_left() {
    let mut host = Host::new();
    let mut state = blank((120, 40));
    reduce(&mut state, host.pass(1));
    press(&mut state, "1 Home Enter");
    let wire = |state: &State| detail(state).sums.sockets.wire.rx_packets;
    let owner = match &detail(&state).of {
        Of::Process(process) => u64::from(process.id.pid - 100),
        of => panic!("{of:?}"),
    };
    let first = wire(&state);
    for cookie in [1, 4, 7] {
        host.open(cookie, owner, false);
        host.transfer(cookie, owner, 100);
        host.open(cookie, owner, false);
        let before = wire(&state);
        reduce(&mut state, host.pass(1));
        assert!(wire(&state) > before, "{cookie}");
        let with_it = wire(&state);
        host.apply(event::Event::SocketEnd {
            cookie: SocketCookie(cookie),
            reason: CloseReason::Closed,
        });
        for _ in 0..9 {
            reduce(&mut state, host.pass(1));
            assert_eq!(wire(&state), with_it);
        }
    }
    assert!(wire(&state) > first);
    assert_eq!(detail(&state).sums.sockets.counted, 4);
    // Whoever looks later sees the same.
    let kept = detail(&state).sums.sockets;
    press(&mut state, "Esc Enter");
    assert_eq!(detail(&state).sums.sockets, kept);
}
