//! A small world: a process with a few sockets behind one interface, as the model shows it.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    os::unix::ffi::OsStrExt as _,
    sync::{Arc, OnceLock},
};

use crate::{
    event::{
        AppFact, AppTotals, Bytes, Capability, CgroupId, CloseReason, Coverage, Direction, Event,
        Instant, InterfaceFact, InterfaceSide, Netns, ProcessFact, ProcessId, Program, Protocol,
        SocketCookie, SocketFact, State, Timed, WireTotals,
    },
    model::{
        Config, Model,
        change::TimedChange,
        snapshot::{Flow, Snapshot},
    },
};

/// What happened, and how things stand.
pub struct Scene {
    pub changes: Vec<TimedChange>,
    pub snapshot: Arc<Snapshot>,
}

/// Texts that others choose: the process's name (and its user's), path and argument, its cgroup's path, the
/// interface's name, what a source says of itself.
pub type Texts<'a> = [&'a [u8]; 6];

const HOST: Netns = Netns(4_026_531_840);
const PROCESS: ProcessId = ProcessId {
    pid: 4711,
    start: Instant(10_000_000),
};

impl Scene {
    /// With names as they usually are. Made once.
    pub fn plain() -> &'static Self {
        static PLAIN: OnceLock<Scene> = OnceLock::new();
        PLAIN.get_or_init(|| {
            Self::of([
                b"curl",
                b"/usr/bin/curl",
                b"https://x",
                b"/user.slice/a",
                b"eth0",
                b"fexit",
            ])
        })
    }

    /// With these names.
    pub fn of(texts: Texts<'_>) -> Self {
        let config = Config {
            host_netns: Some(HOST),
            ..Config::default()
        };
        let mut model = Model::new(config, Instant(0));
        for (second, event) in (1_u64..).zip(events(texts)) {
            let time = Instant(second * 1_000_000_000);
            model.apply(Timed { time, event });
            model.tick(time);
        }
        Self {
            changes: model.changes(),
            snapshot: model.snapshot(),
        }
    }

    /// The flows of a process.
    pub fn flows_of(&self, id: ProcessId) -> impl Iterator<Item = &Flow> {
        self.snapshot
            .flows
            .iter()
            .map(|flow| &**flow)
            .filter(move |flow| flow.process.as_ref().is_some_and(|it| it.id == id))
    }
}

fn events([comm, exe, argument, cgroup, interface, source]: Texts<'_>) -> Vec<Event> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let process = ProcessFact {
        id: PROCESS,
        parent: None,
        program: Program {
            comm: Some(text(comm).into()),
            exe: Some(Arc::new(OsStr::from_bytes(exe).into())),
            cmdline: Some([text(comm), text(argument)].into()),
            cmdline_cut: false,
        },
        uid: Some(33),
        cgroup: Some(CgroupId(5)),
    };
    let coverage = Coverage {
        capability: Capability::AppBytes,
        backend: Some(text(source)),
        limits: text(source),
    };
    let interface = InterfaceFact {
        ifindex: 2,
        name: text(interface).into(),
        up: true,
        classified: true,
        ingress: InterfaceSide::default(),
        egress: InterfaceSide::default(),
    };
    let mut events = vec![
        Event::Coverage(vec![coverage]),
        Event::Interface(Box::new(interface)),
        Event::Cgroup {
            id: CgroupId(5),
            path: text(cgroup).into(),
        },
        Event::User {
            uid: 33,
            name: Some(text(comm).into()),
        },
        Event::ProcessExec(process),
    ];
    for (cookie, protocol, direction, local, remote) in [
        (
            1,
            Protocol::Tcp,
            Some(Direction::Outbound),
            "10.0.0.2:50000",
            Some("198.51.100.9:443"),
        ),
        (
            2,
            Protocol::Tcp,
            Some(Direction::Inbound),
            "[2001:db8::1]:22",
            Some("[2001:db8::2]:1"),
        ),
        (3, Protocol::Udp, None, "0.0.0.0:53", None),
    ] {
        let remote = remote.map(address);
        let state = match (protocol, remote) {
            (Protocol::Udp, _) => State::Unconnected,
            _ => State::Established,
        };
        events.push(Event::Socket(SocketFact {
            cookie: SocketCookie(cookie),
            protocol,
            local: address(local),
            remote,
            state,
            direction,
            netns: Some(HOST),
            ifindex: Some(2),
            owner: Some(PROCESS),
            wire: Some(WireTotals::default()),
            tcp: None,
        }));
        events.push(Event::App(AppFact {
            socket: SocketCookie(cookie),
            process: PROCESS,
            remote,
            totals: AppTotals {
                tx_bytes: Bytes(100),
                rx_bytes: Bytes(1000),
                tx_calls: 1,
                rx_calls: 2,
            },
            uid: Some(33),
            cgroup: Some(CgroupId(5)),
            comm: Some(text(comm).into()),
        }));
    }
    events.push(Event::SocketEnd {
        cookie: SocketCookie(2),
        reason: CloseReason::Reset,
    });
    events
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address written above")
}
