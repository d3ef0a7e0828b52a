//! Rows made by hand, for tests of queries and outputs.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    event::{
        AppTotals, Backlog, Bytes, Capability, CgroupId, Coverage, Direction, Instant,
        InterfaceSide, Netns, ProcessId, Program, Protocol, SocketCookie, State, WireTotals,
    },
    model::{
        snapshot::{
            Flow, FlowKey, Interface, LedgerSide, Process, Rate, Retired, Snapshot, Totals,
        },
        sums::Failures,
    },
};

pub(crate) fn totals(tx: u64, rx: u64) -> AppTotals {
    AppTotals {
        tx_bytes: Bytes(tx),
        rx_bytes: Bytes(rx),
        tx_calls: tx.min(3),
        rx_calls: rx.min(5),
    }
}

/// A process of user 1000, started at one second.
pub(crate) fn process(pid: u32, exe: &str, cmdline: &[&str]) -> Arc<Process> {
    let cmdline: Vec<String> = cmdline
        .iter()
        .map(|&argument| argument.to_owned())
        .collect();
    let name = exe.rsplit('/').next().unwrap_or(exe);
    Arc::new(Process {
        id: ProcessId {
            pid,
            start: Instant(1_000_000_000),
        },
        program: Program {
            comm: Some(name.chars().take(15).collect::<String>().into()),
            exe: Some(Arc::new(PathBuf::from(exe))),
            cmdline: Some(cmdline.into()),
            cmdline_cut: false,
        },
        parent: Some(ProcessId {
            pid: 1,
            start: Instant(0),
        }),
        lineage: vec![(
            ProcessId {
                pid: 1,
                start: Instant(0),
            },
            "systemd".into(),
        )],
        uid: Some(1000),
        user: None,
        cgroup: Some(CgroupId(44)),
        cgroup_path: Some("/user.slice/session-44.scope".into()),
        exited: None,
        totals: AppTotals::default(),
        overflow: AppTotals::default(),
        before: AppTotals::default(),
        rate: Rate::default(),
        open_flows: 0,
        failures: Failures::default(),
        past_sockets: None,
    })
}

/// An established TCP flow of 100 bytes sent and 1000 received.
pub(crate) fn flow(cookie: u64, process: &Arc<Process>, local: &str, remote: Option<&str>) -> Flow {
    Flow {
        key: FlowKey {
            socket: SocketCookie(cookie),
            process: Some(process.id),
            remote: remote.map(|remote| remote.parse().unwrap()),
        },
        process: Some(Arc::clone(process)),
        protocol: Protocol::Tcp,
        local: local.parse().unwrap(),
        state: State::Established,
        direction: None,
        serves: false,
        netns: Some(Netns(4_026_531_840)),
        zone: None,
        interface: Some("eth0".into()),
        app: totals(100, 1000),
        wire: Some(WireTotals {
            tx_bytes: Bytes(200),
            rx_bytes: Bytes(1200),
            tx_packets: 2,
            rx_packets: 3,
        }),
        tcp: None,
        path: None,
        connect: None,
        backlog: None,
        rate: Rate {
            tx: 10.0,
            rx: 100.0,
        },
        opened: Instant(2_000_000_000),
        last: Instant(2_000_000_000),
        found: None,
        closed: None,
    }
}

/// A row of a UDP socket that serves many at port 53, as [`flow`]; without a remote, the socket alone.
pub(crate) fn served(cookie: u64, process: &Arc<Process>, remote: Option<&str>) -> Flow {
    Flow {
        protocol: Protocol::Udp,
        state: State::Unconnected,
        direction: Some(Direction::Inbound),
        serves: true,
        ..flow(cookie, process, "0.0.0.0:53", remote)
    }
}

/// Datagrams that wait at such a socket.
pub(crate) const DATAGRAMS: Backlog = Backlog {
    waiting: 4_352,
    limit: 212_992,
    drops: 3,
};

pub(crate) fn interface(name: &str, frames: u64, socket: u64) -> Arc<Interface> {
    let side = LedgerSide {
        frames: Bytes(frames),
        socket: Bytes(socket),
        forwarded: Bytes(frames - socket),
        ..LedgerSide::default()
    };
    Arc::new(Interface {
        ifindex: 2,
        name: name.into(),
        up: true,
        classified: true,
        gone: None,
        ingress: InterfaceSide::default(),
        egress: InterfaceSide::default(),
        ingress_ledger: side,
        egress_ledger: side,
        rate: Rate { tx: 5.0, rx: 50.0 },
    })
}

/// A snapshot at 60 s whose totals are those of its processes.
pub(crate) fn snapshot(
    processes: Vec<Arc<Process>>,
    flows: Vec<Flow>,
    interfaces: Vec<Arc<Interface>>,
) -> Snapshot {
    let mut sums = Totals {
        open_flows: flows.len(),
        processes: processes.len(),
        ..Totals::default()
    };
    for process in &processes {
        sums.app += process.totals;
        sums.rate.tx += process.rate.tx;
        sums.rate.rx += process.rate.rx;
    }
    Snapshot {
        generation: 1,
        time: Instant(60_000_000_000),
        running: Duration::from_secs(40),
        processes,
        flows: flows.into_iter().map(Arc::new).collect(),
        interfaces,
        retired: Retired::default(),
        programs: Arc::default(),
        totals: sums,
        losses: Vec::new(),
        coverage: Arc::new([Coverage {
            capability: Capability::AppBytes,
            backend: Some("tracepoint".to_owned()),
            limits: "bytes read with splice() from a kTLS socket".to_owned(),
        }]),
    }
}
