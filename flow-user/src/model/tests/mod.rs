//! Scripts of events against the model: small ones by hand, and random ones.

mod conservation;
mod flows;
mod growth;
mod lasting;
mod processes;
mod scale;
mod serving;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{
    Config, Keyframe, Model,
    change::Change,
    snapshot::{Flow, Process, Snapshot},
};
use crate::event::{
    AppFact, AppTotals, Bytes, CloseReason, Direction, Event, Instant, Netns, ProcessFact,
    ProcessId, Program, Protocol, SocketCookie, SocketFact, State, Timed, WireTotals,
};

const SECOND: u64 = 1_000_000_000;
const HISTORY: u64 = 10;
/// So short that random scripts come to it.
const UDP_IDLE: u64 = 4;
const HOST: Netns = Netns(1);

/// A model and a clock.
struct Play {
    model: Model,
    now: Instant,
}

impl Play {
    fn new() -> Self {
        Self::with_history(HISTORY)
    }

    fn with_history(seconds: u64) -> Self {
        let now = Instant(1000 * SECOND);
        Self {
            model: Model::new(config(seconds), now),
            now,
        }
    }

    fn apply(&mut self, event: Event) {
        self.now.0 += 1000;
        self.apply_at(self.now, event);
    }

    fn apply_at(&mut self, time: Instant, event: Event) {
        self.model.apply(Timed { time, event });
    }

    /// A tick `seconds` from now.
    fn tick(&mut self, seconds: u64) {
        self.now.0 += seconds * SECOND;
        self.model.tick(self.now);
    }

    fn app(&mut self, socket: u64, pid: u32, remote: Option<&str>, tx: u64, rx: u64) {
        self.apply(app(socket, pid, remote, tx, rx));
    }

    fn end(&mut self, socket: u64) {
        self.apply(Event::SocketEnd {
            cookie: SocketCookie(socket),
            reason: CloseReason::Closed,
        });
    }

    /// Changes of flows since the last call.
    fn changes(&mut self) -> Vec<String> {
        let changes = self.model.changes();
        let flows = changes.iter().filter_map(|timed| match &timed.change {
            Change::FlowOpened(flow) => Some(format!("open {}", line(flow))),
            Change::FlowUpdated(flow) => Some(format!("update {}", line(flow))),
            Change::FlowClosed(flow) => Some(format!("close {}", line(flow))),
            _ => None,
        });
        flows.collect()
    }

    fn rows(&mut self) -> Vec<String> {
        let snapshot = self.model.snapshot();
        snapshot.flows.iter().map(|flow| line(flow)).collect()
    }

    fn process(&mut self, pid: u32) -> Option<Arc<Process>> {
        let snapshot = self.model.snapshot();
        let mut processes = snapshot.processes.iter();
        processes.find(|process| process.id.pid == pid).cloned()
    }

    fn total(&mut self) -> AppTotals {
        self.model.snapshot().totals.app
    }
}

fn config(history: u64) -> Config {
    Config {
        history: Duration::from_secs(history),
        udp_idle: Duration::from_secs(UDP_IDLE.max(history / 10)),
        host_netns: Some(HOST),
        changes: true,
        ..Config::default()
    }
}

/// A flow in short: socket, pid, remote, bytes sent and received.
fn line(flow: &Flow) -> String {
    let pid = flow.key.process.map_or("-".into(), |id| id.pid.to_string());
    let remote = flow.key.remote.map_or("*".into(), |to| to.to_string());
    let (tx, rx) = (flow.app.tx_bytes.0, flow.app.rx_bytes.0);
    format!("{} {pid} {remote} {tx} {rx}", flow.key.socket.0)
}

fn process(pid: u32) -> ProcessId {
    ProcessId {
        pid,
        start: Instant(u64::from(pid)),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address in a test")
}

fn totals(tx: u64, rx: u64) -> AppTotals {
    AppTotals {
        tx_bytes: Bytes(tx),
        rx_bytes: Bytes(rx),
        tx_calls: u64::from(tx > 0),
        rx_calls: u64::from(rx > 0),
    }
}

fn app(socket: u64, pid: u32, remote: Option<&str>, tx: u64, rx: u64) -> Event {
    Event::App(AppFact {
        socket: SocketCookie(socket),
        process: process(pid),
        remote: remote.map(address),
        totals: totals(tx, rx),
        uid: Some(1000),
        cgroup: None,
        comm: None,
    })
}

fn fact(socket: u64, protocol: Protocol, state: State) -> SocketFact {
    SocketFact {
        cookie: SocketCookie(socket),
        protocol,
        local: address("10.0.0.1:40000"),
        remote: None,
        state,
        direction: None,
        netns: Some(HOST),
        ifindex: None,
        owner: None,
        wire: None,
        tcp: None,
    }
}

/// A TCP connection this machine opened.
fn connection(socket: u64, owner: Option<u32>) -> SocketFact {
    SocketFact {
        remote: Some(address("10.0.0.9:443")),
        direction: Some(Direction::Outbound),
        owner: owner.map(process),
        ..fact(socket, Protocol::Tcp, State::Established)
    }
}

/// A TCP connection to port 80 of this machine.
fn accepted(socket: u64, owner: Option<u32>) -> SocketFact {
    SocketFact {
        local: address("10.0.0.1:80"),
        remote: Some(address("10.0.0.9:5000")),
        direction: Some(Direction::Inbound),
        ..connection(socket, owner)
    }
}

fn listener(socket: u64, local: &str, owner: u32) -> SocketFact {
    SocketFact {
        local: address(local),
        owner: Some(process(owner)),
        ..fact(socket, Protocol::Tcp, State::Listen)
    }
}

/// A UDP socket without a peer.
fn udp(socket: u64, owner: u32) -> SocketFact {
    SocketFact {
        owner: Some(process(owner)),
        ..fact(socket, Protocol::Udp, State::Unconnected)
    }
}

fn program(comm: &str) -> Program {
    Program {
        comm: Some(comm.into()),
        exe: Some(Arc::new(format!("/usr/bin/{comm}").into())),
        cmdline: Some([comm.to_owned()].into()),
        cmdline_cut: false,
    }
}

fn process_fact(pid: u32, parent: Option<u32>, program: Program) -> ProcessFact {
    ProcessFact {
        id: process(pid),
        parent: parent.map(process),
        program,
        uid: Some(1000),
        cgroup: None,
    }
}

fn wire(bytes: u64) -> Option<WireTotals> {
    Some(WireTotals {
        tx_bytes: Bytes(bytes),
        tx_packets: 1,
        ..WireTotals::default()
    })
}

fn flows_of(snapshot: &Snapshot, pid: u32) -> impl Iterator<Item = &Arc<Flow>> {
    let flows = snapshot.flows.iter();
    flows.filter(move |flow| flow.key.process.is_some_and(|id| id.pid == pid))
}
