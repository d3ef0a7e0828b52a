//! A fixed recording of events of a host with something of everything, applied to the model for the
//! tests.

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use crate::{
    event::{
        self, AppFact, AppTotals, Backlog, Bytes, Capability, CgroupId, Class, ClassCount,
        CloseReason, Coverage, Direction, Instant, InterfaceFact, InterfaceSide, Loss, Netns,
        ProcessFact, ProcessId, Program, Protocol, RoundTrip, SocketCookie, SocketFact, State,
        TcpFacts, Timed, WireTotals,
    },
    model::{
        Config, Model,
        change::{StateChange, TimedChange},
        snapshot::Snapshot,
    },
    tui::{Event, OwnUse},
};

/// Kilobytes and megabytes.
const K: u64 = 1_000;
const M: u64 = 1_000_000;
/// Seconds since boot: when the recording begins, and its first step.
const BEGIN: u64 = 60;
const START: u64 = 100;
/// The last step.
const LAST: u64 = 700;
/// Longer than the recording, so that what ended stays to be seen.
const HISTORY: Duration = Duration::from_secs(3_600);
const HOST: Netns = Netns(4_026_531_840);

/// Growth in a second at each step, in parts: up and down, so that graphs have a shape.
const WAVE: [u64; 10] = [3, 5, 8, 9, 10, 9, 7, 4, 2, 1];

const SYSTEMD: ProcessId = process(1, 0);
const BASH: ProcessId = process(40122, 1);
const POSTGRES: ProcessId = process(8123, 2);
const CHRONYD: ProcessId = process(912, 3);
const CURL: ProcessId = process(41007, 80);
const MAKE: ProcessId = process(40990, 85);
const HOSTILE: ProcessId = process(666, 91);

const REPLICAS: [&str; 2] = ["10.0.3.21:50122", "10.0.3.22:41870"];
const MIRROR: &str = "198.51.100.9:443";

/// The host at one step, and what changed since the one before.
struct Step {
    snapshot: Arc<Snapshot>,
    changes: Vec<TimedChange>,
    states: Vec<StateChange>,
}

static PLAYED: LazyLock<Vec<Step>> = LazyLock::new(|| {
    let mut model = begun();
    let play = |step| {
        pass(&mut model, step);
        Step {
            snapshot: model.snapshot(),
            changes: model.changes(),
            states: model.states(),
        }
    };
    (0..=LAST).map(play).collect()
});

/// The snapshot of one second, with the changes of it.
pub fn moment(step: u64) -> Event {
    let Step {
        snapshot,
        changes,
        states,
    } = &PLAYED[usize::try_from(step).unwrap()];
    Event::Snapshot {
        snapshot: Arc::clone(snapshot),
        changes: changes.clone(),
        states: states.clone(),
        own: OwnUse {
            cpu: 0.004,
            memory: Bytes(21 * M),
        },
    }
}

/// The host `step` seconds after the first one.
pub fn snapshot(step: u64) -> Snapshot {
    Snapshot::clone(&PLAYED[usize::try_from(step).unwrap()].snapshot)
}

/// The same host with losses and a backend that does not see everything.
pub fn troubled() -> Event {
    let mut model = begun();
    (0..50).for_each(|step| pass(&mut model, step));
    drop(model.changes());
    let coverage = vec![covered(
        Capability::AppBytes,
        "tracepoint",
        "bytes read with splice() from a kTLS socket",
    )];
    let lost = event::Event::Lost {
        cause: Loss::RingTraffic,
        count: 7,
    };
    for event in [event::Event::Coverage(coverage), lost] {
        model.apply(timed(START + 50, event));
    }
    pass(&mut model, 50);
    Event::Snapshot {
        snapshot: model.snapshot(),
        changes: model.changes(),
        states: model.states(),
        own: OwnUse::default(),
    }
}

/// What happened until the first step.
fn begun() -> Model {
    let config = Config {
        history: HISTORY,
        host_netns: Some(HOST),
        states: true,
        ..Config::default()
    };
    let mut model = Model::new(config, at(BEGIN));
    let mut events = beginning().into_iter().peekable();
    for second in BEGIN + 1..START {
        while let Some(event) = events.next_if(|event| event.time <= at(second)) {
            model.apply(event);
        }
        model.tick(at(second));
    }
    model
}

/// Lets a second pass.
fn pass(model: &mut Model, step: u64) {
    let now = START + step;
    for event in moved(step + 1) {
        model.apply(timed(now, event));
    }
    model.tick(at(now));
}

fn beginning() -> Vec<Timed> {
    use event::Event as E;
    let coverage = [
        (Capability::AppBytes, "fexit"),
        (Capability::Interfaces, "TCX"),
    ];
    let coverage = coverage.map(|(capability, backend)| covered(capability, backend, ""));
    let cgroups = [
        (70, "/system.slice/postgresql.service"),
        (110, "/system.slice/chrony.service"),
        (1000, "/user.slice/user-1000.slice/session-44.scope"),
        (666, "/docker/\u{9b}31m日本語/e\u{301}"),
        (1001, "/user.slice/user-1000.slice"),
    ];
    let cgroups = cgroups.map(|(id, path)| E::Cgroup {
        id: CgroupId(id),
        path: path.into(),
    });
    let user = E::User {
        uid: 1000,
        name: Some("deploy".into()),
    };
    let postgres = "/usr/lib/postgresql/16/bin/postgres";
    let seen = [
        program(
            SYSTEMD,
            None,
            "/usr/lib/systemd/systemd",
            &["/sbin/init"],
            (0, 0),
        ),
        program(
            BASH,
            Some(SYSTEMD),
            "/usr/bin/bash",
            &["-bash"],
            (1000, 1000),
        ),
        program(
            POSTGRES,
            Some(SYSTEMD),
            postgres,
            &["postgres: walsender"],
            (70, 70),
        ),
        program(
            CHRONYD,
            Some(SYSTEMD),
            "/usr/sbin/chronyd",
            &["/usr/sbin/chronyd", "-F"],
            (110, 110),
        ),
    ];
    let mut events = vec![timed(70, E::Coverage(coverage.into()))];
    events.extend(interfaces(0).map(|event| timed(70, event)));
    events.extend(cgroups.map(|event| timed(70, event)));
    events.push(timed(70, user));
    events.extend(seen.map(|fact| timed(70, E::ProcessSeen(fact))));

    let listener = SocketFact {
        owner: Some(POSTGRES),
        state: State::Listen,
        wire: None,
        ifindex: None,
        ..socket(3, "[::]:5432", None)
    };
    let waiting = E::Listening {
        cookie: SocketCookie(3),
        backlog: Backlog {
            waiting: 3,
            limit: 128,
            drops: 12,
        },
    };
    let unused = SocketFact {
        direction: Some(Direction::Inbound),
        ..socket(8, "10.0.3.7:22", Some("192.0.2.1:5000"))
    };
    events.extend([
        timed(71, E::Socket(listener)),
        timed(71, waiting),
        timed(72, E::Socket(unused)),
    ]);

    let urls = (1..=12).map(|disc| format!("https://mirror.example.org/disc-{disc}.iso"));
    let arguments = [
        "curl",
        "--retry",
        "3",
        "--header",
        "X-Mark: \u{1b}[31mred\u{202e}",
    ];
    let arguments: Vec<_> = arguments
        .map(str::to_owned)
        .into_iter()
        .chain(urls)
        .collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let curl = program(CURL, Some(BASH), "/usr/bin/curl", &arguments, (1000, 1000));
    let connected = opened_by(CURL, socket(4, "10.0.3.7:50514", Some(MIRROR)));
    let download = SocketFact {
        state: State::SynSent,
        ..connected.clone()
    };
    let make = program(
        MAKE,
        Some(SYSTEMD),
        "/usr/bin/make",
        &["make", "-j8"],
        (1000, 1001),
    );
    let fetched = socket(7, "10.0.3.7:50900", Some("203.0.113.5:80"));
    let ended = E::SocketEnd {
        cookie: SocketCookie(7),
        reason: CloseReason::Reset,
    };
    let exited = E::ProcessExit {
        id: MAKE,
        status: 0x0200,
    };
    // A name that would do harm, and wide.
    let exe = "/tmp/\u{1b}[2J日本語\u{202e}é\u{301}";
    let hostile = program(
        HOSTILE,
        Some(BASH),
        exe,
        &["evil\n\u{1b}]0;title\u{7}"],
        (1000, 666),
    );
    let knocking = SocketFact {
        state: State::SynSent,
        ..socket(6, "10.0.3.7:1024", Some("192.0.2.66:6667"))
    };
    events.extend([
        timed(80, E::ProcessExec(curl)),
        timed(80, E::Socket(download)),
        timed(81, E::Socket(connected)),
        timed(85, E::ProcessExec(make)),
        timed(86, E::Socket(opened_by(MAKE, fetched))),
        timed(87, app(7, MAKE, "203.0.113.5:80", 1_200, 40 * K)),
        timed(88, ended),
        timed(88, exited),
        timed(91, E::ProcessExec(hostile)),
        timed(91, E::Socket(opened_by(HOSTILE, knocking))),
        timed(91, app(6, HOSTILE, "192.0.2.66:6667", 7, 0)),
    ]);
    events.extend(moved(0).map(|event| timed(START - 1, event)));
    events
}

/// What had moved after so many seconds, and how the sockets are.
fn moved(seconds: u64) -> impl Iterator<Item = event::Event> {
    use event::Event as E;
    let waves: u64 = WAVE.iter().cycle().take(seconds as usize).sum();
    let walsender = (
        1_900 * M + 1_100 * K * seconds,
        105_500 * M + 6_120 * K * waves,
    );
    let idle = (1_900 * M, 105_500 * M);
    let download = (90 * K + 2_100 * seconds, 301 * M + 780 * K * waves);
    let time = (1_100 * K + 96 * seconds, 1_100 * K + 96 * seconds);
    let apps = [
        app(1, POSTGRES, REPLICAS[0], walsender.0, walsender.1),
        app(2, POSTGRES, REPLICAS[1], idle.0, idle.1),
        app(4, CURL, MIRROR, download.0, download.1),
        // Somebody else sends through the same socket.
        app(4, CHRONYD, MIRROR, 1_000, 0),
        app(
            5,
            CHRONYD,
            "[2001:db8:ffff:1234:5678:9abc:def0:1]:123",
            time.0,
            time.1,
        ),
    ];
    let replica = |at: usize, app| SocketFact {
        owner: Some(POSTGRES),
        direction: Some(Direction::Inbound),
        tcp: Some(path(400, 310, 2)),
        wire: Some(wire(app)),
        ..socket(1 + at as u64, "10.0.3.7:5432", Some(REPLICAS[at]))
    };
    let sockets = [
        replica(0, walsender),
        replica(1, idle),
        SocketFact {
            tcp: Some(path(9_000 + 700 * (seconds % 7), 8_800, seconds)),
            wire: Some(wire((download.0 + 1_000, download.1))),
            ..opened_by(CURL, socket(4, "10.0.3.7:50514", Some(MIRROR)))
        },
        SocketFact {
            protocol: Protocol::Udp,
            state: State::Unconnected,
            owner: Some(CHRONYD),
            wire: Some(wire(time)),
            ..socket(5, "[2001:db8:1::7]:41022", None)
        },
    ];
    let sockets = sockets.into_iter().map(E::Socket);
    sockets.chain(apps).chain(interfaces(seconds))
}

/// What the wire carries for so many bytes sent and received.
fn wire((tx, rx): (u64, u64)) -> WireTotals {
    WireTotals {
        tx_bytes: Bytes(tx / 100 * 108),
        rx_bytes: Bytes(rx / 1_000 * 1_046),
        tx_packets: tx / 50,
        rx_packets: rx / 1_400,
    }
}

/// Round trips in microseconds, now and the shortest.
fn path(rtt: u64, min_rtt: u64, retransmits: u64) -> TcpFacts {
    let time = |micros: u64| RoundTrip::from_micros(u32::try_from(micros).unwrap());
    TcpFacts {
        rtt: time(rtt),
        min_rtt: time(min_rtt),
        retransmits: u32::try_from(retransmits).unwrap(),
    }
}

fn interfaces(seconds: u64) -> impl Iterator<Item = event::Event> {
    let interfaces = [
        interface("lo", 1, 880 * M, seconds, [1_000, 0, 0]),
        interface("eth0", 2, 1_500_000 * M, seconds, [990, 7, 2]),
        interface("docker0", 3, 3_100 * M, seconds, [0, 1_000, 0]),
    ];
    let event = |fact| event::Event::Interface(Box::new(fact));
    interfaces.into_iter().map(event)
}

/// An interface whose classes have these thousandths of its bytes: sockets', forwarded, the
/// kernel's; of the rest the classifier does not know.
fn interface(name: &str, ifindex: u32, bytes: u64, seconds: u64, parts: [u64; 3]) -> InterfaceFact {
    let side = |per_second: u64, is_ingress: bool| {
        let bytes = bytes + per_second * seconds;
        let count = |thousandths: u64| ClassCount {
            packets: bytes / 1_400_000 * thousandths,
            bytes: Bytes(bytes / 1_000 * thousandths),
            frames: bytes / 1_400_000 * thousandths,
            header_bytes: Bytes(0),
        };
        let [socket, forwarded, kernel] = parts;
        let mut classes = [ClassCount::default(); Class::COUNT];
        classes[Class::Total as usize] = count(parts.iter().sum());
        classes[Class::Socket as usize] = count(socket);
        classes[Class::Forwarded as usize] = count(forwarded);
        if !is_ingress {
            classes[Class::Kernel as usize] = count(kernel);
        }
        InterfaceSide {
            bytes: Bytes(bytes),
            packets: bytes / 1_400,
            errors: u64::from(ifindex == 2 && is_ingress),
            dropped: if ifindex == 2 { 12 } else { 0 },
            classes,
            meanwhile: ClassCount::default(),
            bytes_at_attach: Bytes(0),
            packets_at_attach: 0,
        }
    };
    InterfaceFact {
        ifindex,
        name: name.into(),
        up: true,
        classified: true,
        ingress: side(bytes / 20_000, true),
        egress: side(bytes / 100_000, false),
    }
}

const fn process(pid: u32, second: u64) -> ProcessId {
    ProcessId {
        pid,
        start: at(second),
    }
}

const fn at(seconds: u64) -> Instant {
    Instant(seconds * 1_000_000_000)
}

fn timed(second: u64, event: event::Event) -> Timed {
    Timed {
        time: at(second),
        event,
    }
}

fn covered(capability: Capability, backend: &str, limits: &str) -> Coverage {
    Coverage {
        capability,
        backend: Some(backend.to_owned()),
        limits: limits.to_owned(),
    }
}

/// A process with its program, user and cgroup.
fn program(
    id: ProcessId,
    parent: Option<ProcessId>,
    exe: &str,
    arguments: &[&str],
    (uid, cgroup): (u32, u64),
) -> ProcessFact {
    let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
    let name = exe.rsplit('/').next().unwrap();
    ProcessFact {
        id,
        parent,
        program: Program {
            comm: Some(name.chars().take(15).collect::<String>().into()),
            exe: Some(Arc::new(PathBuf::from(exe))),
            cmdline: Some(arguments.into()),
            cmdline_cut: false,
        },
        uid: Some(uid),
        cgroup: Some(CgroupId(cgroup)),
    }
}

/// An established connection over eth0 that nobody owns yet.
fn socket(cookie: u64, local: &str, remote: Option<&str>) -> SocketFact {
    SocketFact {
        cookie: SocketCookie(cookie),
        protocol: Protocol::Tcp,
        local: local.parse().unwrap(),
        remote: remote.map(|remote| remote.parse().unwrap()),
        state: State::Established,
        direction: None,
        netns: Some(HOST),
        ifindex: Some(2),
        owner: None,
        wire: Some(WireTotals {
            tx_bytes: Bytes(200),
            rx_bytes: Bytes(1_200),
            tx_packets: 2,
            rx_packets: 3,
        }),
        tcp: None,
    }
}

fn opened_by(process: ProcessId, socket: SocketFact) -> SocketFact {
    SocketFact {
        owner: Some(process),
        direction: Some(Direction::Outbound),
        ..socket
    }
}

fn app(cookie: u64, process: ProcessId, remote: &str, tx: u64, rx: u64) -> event::Event {
    event::Event::App(AppFact {
        socket: SocketCookie(cookie),
        process,
        remote: Some(remote.parse().unwrap()),
        totals: AppTotals {
            tx_bytes: Bytes(tx),
            rx_bytes: Bytes(rx),
            tx_calls: tx.min(3),
            rx_calls: rx.min(5),
        },
        uid: None,
        cgroup: None,
        comm: None,
    })
}
