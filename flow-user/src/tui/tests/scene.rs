//! A host with something of everything: the fixed recording that tests show.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    event::{
        Backlog, Bytes, CloseReason, Coverage, Direction, Instant, Loss, Netns, ProcessId,
        Protocol, State, TcpFacts,
    },
    model::{
        change::{Change, TimedChange},
        snapshot::{Flow, Interface, LedgerSide, Process, Rate, Snapshot},
    },
    query::fixture,
    tui::{Event, OwnUse},
};

/// Kilobytes and megabytes.
const K: u64 = 1_000;
const M: u64 = 1_000_000;

/// The snapshot of one second, with the changes of it.
pub fn moment(step: u64) -> Event {
    let snapshot = snapshot(step);
    let changes = if step == 0 {
        changes(&snapshot)
    } else {
        Vec::new()
    };
    Event::Snapshot {
        snapshot: Arc::new(snapshot),
        changes,
        own: OwnUse {
            cpu: 0.004,
            memory: Bytes(21 * M),
        },
    }
}

/// Seconds since boot at the first step.
const START: u64 = 100;

fn at(seconds: u64) -> Instant {
    Instant(seconds * 1_000_000_000)
}

/// The host `step` seconds after the start. Rates go up and down, so that graphs have a shape.
pub fn snapshot(step: u64) -> Snapshot {
    let wave = [3, 5, 8, 9, 10, 9, 7, 4, 2, 1][usize::try_from(step % 10).unwrap()];
    let now = START + step;
    let mut made = Vec::new();
    let mut flows = Vec::new();
    let systemd = (
        ProcessId {
            pid: 1,
            start: at(0),
        },
        Arc::from("systemd"),
    );

    let postgres = made_of(8123, "/usr/lib/postgresql/16/bin/postgres", |it| {
        it.program.cmdline = Some(vec!["postgres: walsender".to_owned()].into());
        it.uid = Some(70);
        it.cgroup_path = Some("/system.slice/postgresql.service".into());
        it.totals = fixture::totals(3_900 * M, 212_000 * M);
        it.rate = rate(1_100 * K, 6_120 * K * wave);
        it.open_flows = 3;
        it.lineage = vec![systemd.clone()];
    });
    for (cookie, local, remote, received) in [
        (1, "10.0.3.7:5432", "10.0.3.21:50122", 6_120 * K * wave),
        (2, "10.0.3.7:5432", "10.0.3.22:41870", 0),
    ] {
        flows.push(Flow {
            direction: Some(Direction::Inbound),
            rate: rate(received / 55, received),
            tcp: Some(TcpFacts {
                rtt: Some(Duration::from_micros(400)),
                min_rtt: Some(Duration::from_micros(310)),
                retransmits: 2,
            }),
            app: fixture::totals(1_900 * M, 105_500 * M + cookie),
            ..fixture::flow(cookie, &postgres, local, Some(remote))
        });
    }
    flows.push(listener(3, &postgres, "[::]:5432"));
    made.push(postgres);

    let sh = (
        ProcessId {
            pid: 40122,
            start: at(1),
        },
        Arc::from("bash"),
    );
    let curl = made_of(41007, "/usr/bin/curl", |it| {
        let arguments = [
            "curl",
            "--retry",
            "3",
            "-O",
            "https://mirror.example.org/big.iso",
        ];
        it.program.cmdline = Some(arguments.map(str::to_owned).into());
        it.cgroup_path = Some("/user.slice/user-1000.slice/session-44.scope".into());
        it.totals = fixture::totals(90 * K, 301 * M);
        it.rate = rate(2_100, 780 * K * wave);
        it.open_flows = 1;
        it.lineage = vec![sh.clone(), systemd.clone()];
    });
    flows.push(Flow {
        direction: Some(Direction::Outbound),
        rate: curl.rate,
        app: curl.totals,
        ..fixture::flow(4, &curl, "10.0.3.7:50514", Some("198.51.100.9:443"))
    });
    made.push(curl);

    let chrony = made_of(912, "/usr/sbin/chronyd", |it| {
        it.program.cmdline = Some(vec!["/usr/sbin/chronyd".to_owned(), "-F".to_owned()].into());
        it.uid = Some(110);
        it.cgroup_path = Some("/system.slice/chrony.service".into());
        it.totals = fixture::totals(1_100 * K, 1_100 * K);
        it.rate = rate(96, 96);
        it.open_flows = 1;
        it.lineage = vec![systemd.clone()];
    });
    flows.push(Flow {
        protocol: Protocol::Udp,
        state: State::Unconnected,
        rate: chrony.rate,
        app: chrony.totals,
        ..fixture::flow(
            5,
            &chrony,
            "[2001:db8:1::7]:41022",
            Some("[2001:db8:ffff:1234:5678:9abc:def0:1]:123"),
        )
    });
    made.push(chrony);

    // Names that would do harm, and wide ones.
    let hostile = made_of(666, "/tmp/\u{1b}[2J日本語\u{202e}é\u{301}", |it| {
        it.program.cmdline = Some(vec!["evil\n\u{1b}]0;title\u{7}".to_owned()].into());
        it.cgroup_path = Some("/docker/\u{9b}31m日本語/e\u{301}".into());
        it.totals = fixture::totals(7, 0);
        it.open_flows = 1;
        it.lineage = vec![sh, systemd.clone()];
    });
    flows.push(Flow {
        state: State::SynSent,
        direction: Some(Direction::Outbound),
        rate: Rate::default(),
        app: hostile.totals,
        ..fixture::flow(6, &hostile, "10.0.3.7:1024", Some("192.0.2.66:6667"))
    });
    made.push(hostile);

    // A ghost.
    let make = made_of(40990, "/usr/bin/make", |it| {
        it.program.cmdline = Some(vec!["make".to_owned(), "-j8".to_owned()].into());
        it.exited = Some(at(START - 12));
        it.totals = fixture::totals(1_200, 40 * K);
        it.lineage = vec![systemd];
    });
    flows.push(Flow {
        state: State::Closed,
        direction: Some(Direction::Outbound),
        rate: Rate::default(),
        app: make.totals,
        closed: Some((at(START - 12), CloseReason::Reset)),
        ..fixture::flow(7, &make, "10.0.3.7:50900", Some("203.0.113.5:80"))
    });
    made.push(make);

    let mut unused = fixture::flow(8, &made[0], "10.0.3.7:22", Some("192.0.2.1:5000"));
    unused.process = None;
    unused.key.process = None;
    unused.direction = Some(Direction::Inbound);
    unused.app = fixture::totals(0, 0);
    unused.rate = Rate::default();
    flows.push(unused);

    made.sort_by_key(|process| process.id);
    let interfaces = vec![
        interface("lo", 1, 880 * M, (1_000, 0, 0)),
        interface("eth0", 2, 1_500_000 * M, (990, 7, 2)),
        interface("docker0", 3, 3_100 * M, (0, 1_000, 0)),
    ];
    let mut snapshot = fixture::snapshot(made, flows, interfaces);
    snapshot.generation = step + 1;
    snapshot.time = at(now);
    snapshot.running = Duration::from_secs(step);
    snapshot.coverage = Arc::new([
        Coverage {
            capability: "app bytes by process".to_owned(),
            backend: Some("fexit".to_owned()),
            limits: String::new(),
        },
        Coverage {
            capability: "interface totals".to_owned(),
            backend: Some("TCX".to_owned()),
            limits: String::new(),
        },
    ]);
    snapshot
}

/// The same host with losses and a backend that does not see everything.
pub fn troubled() -> Snapshot {
    let mut snapshot = snapshot(50);
    snapshot.losses = vec![(Loss::RingTraffic, 7)];
    snapshot.coverage = Arc::new([Coverage {
        capability: "app bytes by process".to_owned(),
        backend: Some("tracepoint".to_owned()),
        limits: "bytes read with splice() from a socket".to_owned(),
    }]);
    snapshot
}

fn made_of(pid: u32, exe: &str, change: impl FnOnce(&mut Process)) -> Arc<Process> {
    let mut process = Process::clone(&fixture::process(pid, exe, &[]));
    process.program.exe = Some(Arc::new(PathBuf::from(exe)));
    change(&mut process);
    Arc::new(process)
}

fn listener(cookie: u64, process: &Arc<Process>, local: &str) -> Flow {
    Flow {
        state: State::Listen,
        rate: Rate::default(),
        wire: None,
        app: fixture::totals(0, 0),
        netns: Some(Netns(4_026_531_840)),
        backlog: Some(Backlog {
            waiting: 3,
            limit: 128,
            drops: 12,
        }),
        ..fixture::flow(cookie, process, local, None)
    }
}

fn rate(tx: u64, rx: u64) -> Rate {
    Rate {
        tx: tx as f64,
        rx: rx as f64,
    }
}

/// Of an interface: thousandths that a socket owns, that were forwarded, and the kernel's; the rest is unexplained.
fn interface(
    name: &str,
    ifindex: u32,
    bytes: u64,
    (socket, forwarded, kernel): (u64, u64, u64),
) -> Arc<Interface> {
    let part = |thousandths: u64| Bytes(bytes / 1_000 * thousandths);
    let known = socket + forwarded + kernel;
    let side = LedgerSide {
        frames: part(1_000),
        socket: part(socket),
        forwarded: part(forwarded),
        kernel: part(kernel),
        unexplained: i64::try_from(part(1_000 - known).0).unwrap(),
        ..LedgerSide::default()
    };
    let mut interface = Interface::clone(&fixture::interface(name, 0, 0));
    interface.ifindex = ifindex;
    interface.ingress_ledger = side;
    interface.egress_ledger = side;
    interface.rate = rate(bytes / 100_000, bytes / 20_000);
    Arc::new(interface)
}

fn changes(snapshot: &Snapshot) -> Vec<TimedChange> {
    let timed = |second: u64, change| TimedChange {
        time: at(second),
        change,
    };
    let flow = |cookie: u64| {
        let mut flows = snapshot.flows.iter();
        Arc::clone(flows.find(|flow| flow.key.socket.0 == cookie).unwrap())
    };
    let process = |pid: u32| {
        let mut processes = snapshot.processes.iter();
        Arc::clone(processes.find(|it| it.id.pid == pid).unwrap())
    };
    vec![
        timed(70, Change::Status(snapshot.coverage.clone())),
        timed(71, Change::FlowOpened(flow(3))),
        timed(80, Change::FlowOpened(flow(4))),
        timed(88, Change::FlowClosed(flow(7))),
        timed(
            88,
            Change::ProcessExit {
                process: process(40990),
                status: Some(0x0200),
            },
        ),
        timed(
            90,
            Change::Lost {
                cause: Loss::RingTraffic,
                count: 7,
            },
        ),
        timed(91, Change::FlowOpened(flow(6))),
    ]
}
