//! What everyone but the model's owner gets to see: an immutable picture of one moment.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use flow_common::limits::COMM_BYTES;
use serde::{Deserialize, Serialize};

use super::{
    programs::Programs,
    sums::{Failures, OneSocket, SocketSums},
    totals::moved,
};
use crate::event::{
    AppTotals, Backlog, Bytes, CgroupId, CloseReason, Coverage, Direction, Instant, InterfaceSide,
    Loss, Netns, ProcessId, Program, Protocol, RoundTrip, SocketCookie, State, TcpFacts, TcpInfo,
    WireTotals,
};

/// Bytes per second over the last tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    pub tx: f64,
    pub rx: f64,
}

/// Identity of a row of flows: a process's part of a (socket, remote).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    pub socket: SocketCookie,
    /// `None` before the socket is accepted or used.
    pub process: Option<ProcessId>,
    /// `None` where the peer is not known or the socket has none (LISTEN).
    pub remote: Option<SocketAddr>,
}

impl FlowKey {
    /// The flow's id in outputs: the cookie in hexadecimal and the remote, such as
    /// `1f3-198.51.100.9:443` or `1f4-*`. The same for every process that shares the flow.
    pub fn id(&self) -> String {
        match self.remote {
            Some(remote) => format!("{:x}-{remote}", self.socket.0),
            None => format!("{:x}-*", self.socket.0),
        }
    }
}

/// A process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    pub id: ProcessId,
    pub program: Program,
    pub parent: Option<ProcessId>,
    /// Ancestors, nearest first: id and name.
    pub lineage: Vec<(ProcessId, Arc<str>)>,
    pub uid: Option<u32>,
    /// Its user's login name, if that is known. May hold anything.
    pub user: Option<Arc<str>>,
    pub cgroup: Option<CgroupId>,
    pub cgroup_path: Option<Arc<str>>,
    /// When it exited, if it did.
    pub exited: Option<Instant>,
    /// Totals over all its flows, closed ones and overflow included.
    pub totals: AppTotals,
    /// Part of `totals` whose flow is unknown because the kernel's map was full.
    pub overflow: AppTotals,
    /// Part of `totals` that it moved under other names, before exec for example.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub before: AppTotals,
    pub rate: Rate,
    /// Its flows that are open, listeners apart.
    pub open_flows: usize,
    pub failures: Failures,
    /// Sums over the sockets that it used and that are no longer listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past_sockets: Option<Arc<SocketSums>>,
}

impl Process {
    /// The name to show: the one that the kernel keeps, which a process may change; or the
    /// executable's file name, where that is the same in full, or the kernel's says nothing.
    pub fn name(&self) -> &str {
        let comm = self.program.comm.as_deref();
        match (self.file_name(), comm) {
            (Some(file_name), Some(comm)) if is_own_name(comm, file_name) => comm,
            (Some(file_name), _) => file_name,
            (None, comm) => comm.unwrap_or("?"),
        }
    }

    /// Whether anything is known that it could be called by.
    pub(super) fn has_name(&self) -> bool {
        self.program.comm.is_some() || self.file_name().is_some()
    }

    /// Its totals since it has the name that it has.
    pub fn own(&self) -> AppTotals {
        AppTotals {
            tx_bytes: self.totals.tx_bytes.since(self.before.tx_bytes),
            rx_bytes: self.totals.rx_bytes.since(self.before.rx_bytes),
            tx_calls: self.totals.tx_calls.saturating_sub(self.before.tx_calls),
            rx_calls: self.totals.rx_calls.saturating_sub(self.before.rx_calls),
        }
    }

    /// The file name of its executable, where that is known and text.
    pub fn file_name(&self) -> Option<&str> {
        self.program.exe.as_deref()?.file_name()?.to_str()
    }

    /// What its command line begins with: the path or name that it was called by or, where the
    /// process wrote a title over its arguments (as `postgres: walsender`), that.
    pub fn title(&self) -> Option<&str> {
        let first = self.program.cmdline.as_deref()?.first()?;
        Some(first.trim_end())
    }
}

fn is_nothing(totals: &AppTotals) -> bool {
    *totals == AppTotals::default()
}

/// Whether the name that the kernel keeps says something that the executable's file name does not.
fn is_own_name(comm: &str, file_name: &str) -> bool {
    // The kernel keeps 15 bytes, which may end within a character.
    let kept = comm.trim_end_matches(char::REPLACEMENT_CHARACTER);
    let is_cut = kept.len() < comm.len() || comm.len() >= COMM_BYTES - 1;
    let is_same = comm == file_name || is_cut && file_name.starts_with(kept);
    // What exec leaves of /proc/self/exe, and of /proc/self/fd/7 or (before 6.14) a descriptor.
    let is_of_proc = comm == "exe" || comm.bytes().all(|byte| byte.is_ascii_digit());
    !is_same && !is_of_proc
}

/// A flow of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    pub key: FlowKey,
    /// Its process. Its totals, rates and counts are of an earlier moment; [`Snapshot::processes`]
    /// has those of now.
    pub process: Option<Arc<Process>>,
    /// Name of the interface that is the zone of its remote, where it is one of the host's
    /// namespace.
    pub zone: Option<Arc<str>>,
    pub protocol: Protocol,
    pub local: SocketAddr,
    pub state: State,
    pub direction: Option<Direction>,
    /// Whether its socket takes datagrams from anyone: it is, or was, a listener of its protocol.
    pub serves: bool,
    pub netns: Option<Netns>,
    /// Name of the interface of its last packet, where it is one of the host's namespace.
    pub interface: Option<Arc<str>>,
    pub app: AppTotals,
    /// Counters of the *socket*: rows with the same `key.socket` show the same numbers.
    pub wire: Option<WireTotals>,
    pub tcp: Option<TcpFacts>,
    /// TCP's own view of it, where that is asked for.
    pub path: Option<Arc<Path>>,
    /// For TCP: from its first SYN until it was established, if both were seen.
    pub connect: Option<RoundTrip>,
    /// What waits at its socket, if that listens in Flow's own network namespace.
    pub backlog: Option<Backlog>,
    pub rate: Rate,
    /// When it was opened or, where it was `found`, first seen.
    pub opened: Instant,
    /// When it last moved bytes; if it never did, as `opened`.
    pub last: Instant,
    /// If it was there before Flow began.
    pub found: Option<Found>,
    /// When and why it ended, if it did.
    pub closed: Option<(Instant, CloseReason)>,
}

/// What the sockets of these rows add up to. All are of one socket, and show the same counters.
pub fn socket_sums(rows: &[Arc<Flow>]) -> SocketSums {
    let Some(first) = rows.first() else {
        return SocketSums::default();
    };
    let mut app = AppTotals::default();
    for row in rows {
        app += row.app;
    }
    let before = first.found.map_or(0, |found| found.retransmits);
    SocketSums::of(OneSocket {
        protocol: first.protocol,
        direction: first.direction,
        wire: first.wire,
        app,
        retransmits: first.retransmits().map(|now| (now, before)),
    })
}

/// Whether a socket in this state is an open flow: neither a listener, nor a connection that is over.
pub(super) fn is_open(protocol: Protocol, state: State) -> bool {
    state != State::Listen && !(protocol.has_tcp_states() && state == State::Closed)
}

/// Whether a row is nothing but a socket that waits for datagrams: each of its remotes is a flow, and
/// so is what it moved to and from unknown ones.
pub(super) fn is_endpoint(serves: bool, remote: Option<SocketAddr>, app: &AppTotals) -> bool {
    serves && remote.is_none() && !moved(app)
}

/// TCP's own view of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    pub info: TcpInfo,
    /// When it was that.
    pub time: Instant,
    /// Bytes that waited for the process to receive them, in the last two readings.
    pub waits: u32,
    /// Of the last 10 to 20 seconds, once it was watched for a while; absent where the kernel does
    /// not say (before 4.10).
    pub limits: Option<Limits>,
}

impl Path {
    /// Whether the other says nothing else, but later.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.info == other.info && self.waits == other.waits && self.limits == other.limits
    }
}

/// What sending was limited by over some time. What is left of `busy` is the network: the
/// congestion window, or waiting for acknowledgements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub of: Duration,
    /// Something was on its way, or waited to be.
    pub busy: Duration,
    /// The receiver's window was full.
    pub receiver: Duration,
    /// The send buffer had no room.
    pub buffer: Duration,
}

impl Limits {
    /// As the kernel counts them; `of` is unknown.
    pub(super) fn since_the_beginning(info: &TcpInfo) -> Option<Self> {
        Some(Self {
            of: Duration::ZERO,
            busy: info.busy?,
            receiver: info.receiver_limited?,
            buffer: info.buffer_limited?,
        })
    }

    /// What came after an earlier reading.
    pub(super) fn since(self, earlier: &Self, of: Duration) -> Self {
        Self {
            of,
            busy: self.busy.saturating_sub(earlier.busy),
            receiver: self.receiver.saturating_sub(earlier.receiver),
            buffer: self.buffer.saturating_sub(earlier.buffer),
        }
    }
}

/// What a flow had behind it when Flow began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Retransmitted segments of its connection.
    pub retransmits: u32,
}

/// The index of the interface to which an address belongs that means another host on each.
pub fn zone_index(address: SocketAddr) -> Option<u32> {
    match address {
        SocketAddr::V6(v6) => Some(v6.scope_id()).filter(|index| *index != 0),
        SocketAddr::V4(_) => None,
    }
}

impl Flow {
    /// Segments that TCP retransmitted while Flow counted, as its wire bytes are counted.
    pub fn retransmits(&self) -> Option<u32> {
        let before = self.found.map_or(0, |found| found.retransmits);
        Some(self.tcp?.retransmits.saturating_sub(before))
    }

    /// The part of its packets that were sent again, while Flow counted both.
    pub fn retransmit_ratio(&self) -> Option<f64> {
        let packets = self.wire?.tx_packets;
        let again = self.retransmits()?;
        (packets > 0).then(|| f64::from(again) / packets as f64)
    }

    /// Whether it counts as an open flow: a listener is none.
    pub fn is_open(&self) -> bool {
        let is_endpoint = is_endpoint(self.serves, self.key.remote, &self.app);
        self.closed.is_none() && is_open(self.protocol, self.state) && !is_endpoint
    }

    /// Whether it stands for a socket that listens, for connections or for datagrams.
    pub fn listens(&self) -> bool {
        self.state == State::Listen || self.serves && self.key.remote.is_none()
    }

    /// The zone of its remote, if that has one: the name of an interface, or its index where the
    /// name is not known.
    pub fn remote_zone(&self) -> Option<Arc<str>> {
        let index = zone_index(self.key.remote?)?;
        Some(
            self.zone
                .clone()
                .unwrap_or_else(|| index.to_string().into()),
        )
    }

    /// The address of its remote with its zone, such as `fe80::1%eth0`.
    pub fn remote_host(&self) -> Option<String> {
        let ip = self.key.remote?.ip();
        Some(match self.remote_zone() {
            Some(zone) => format!("{ip}%{zone}"),
            None => ip.to_string(),
        })
    }

    /// Its remote endpoint, such as `[fe80::1%eth0]:53`; without a port where there is none.
    pub fn remote_text(&self) -> Option<String> {
        let remote = self.key.remote?;
        let host = self.remote_host()?;
        Some(match (remote.port(), remote.is_ipv6()) {
            (0, _) => host,
            (port, true) => format!("[{host}]:{port}"),
            (port, false) => format!("{host}:{port}"),
        })
    }

    /// Its local address, if it has one: packet sockets never get one, and without cgroup v2 that
    /// of a connection which is being opened is not known yet.
    pub fn bound(&self) -> Option<SocketAddr> {
        let has_one = self.local.port() != 0 || !self.local.ip().is_unspecified();
        has_one.then_some(self.local)
    }
}

/// One direction of an interface's ledger. `frames` is what the interface counted while Flow
/// looked; the parts add up to it: `frames = socket + forwarded + kernel + packet_socket + not_ip +
/// offload + unexplained`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerSide {
    pub frames: Bytes,
    pub socket: Bytes,
    pub forwarded: Bytes,
    pub kernel: Bytes,
    pub packet_socket: Bytes,
    pub not_ip: Bytes,
    /// Headers that segmentation repeats, where the interface counts them.
    pub offload: Bytes,
    /// Counted by the interface, not by the classifier (or, if negative, the reverse).
    pub unexplained: i64,
}

impl LedgerSide {
    /// Combines two ledgers part by part. What the parts then lack of the frames is `unexplained`.
    pub fn combine(&self, other: &Self, combine: impl Fn(Bytes, Bytes) -> Bytes) -> Self {
        let Self {
            frames,
            socket,
            forwarded,
            kernel,
            packet_socket,
            not_ip,
            offload,
            unexplained: _,
        } = *self;
        Self {
            frames: combine(frames, other.frames),
            socket: combine(socket, other.socket),
            forwarded: combine(forwarded, other.forwarded),
            kernel: combine(kernel, other.kernel),
            packet_socket: combine(packet_socket, other.packet_socket),
            not_ip: combine(not_ip, other.not_ip),
            offload: combine(offload, other.offload),
            unexplained: 0,
        }
        .balanced()
    }

    /// The parts of the frames that are explained.
    pub(super) fn parts(&self) -> [Bytes; 6] {
        let Self {
            frames: _,
            socket,
            forwarded,
            kernel,
            packet_socket,
            not_ip,
            offload,
            unexplained: _,
        } = *self;
        [socket, forwarded, kernel, packet_socket, not_ip, offload]
    }

    /// The same, with what the parts lack of the frames as `unexplained`.
    pub(super) fn balanced(self) -> Self {
        let parts = self.parts().map(|part| i128::from(part.0));
        let unexplained = i128::from(self.frames.0) - parts.iter().sum::<i128>();
        Self {
            unexplained: i64::try_from(unexplained).unwrap_or(if unexplained < 0 {
                i64::MIN
            } else {
                i64::MAX
            }),
            ..self
        }
    }
}

/// An interface of the host's namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    pub ifindex: u32,
    pub name: Arc<str>,
    pub up: bool,
    /// Whether its packets are classified; without that the ledger is all `unexplained`.
    pub classified: bool,
    /// When it went away, if it did.
    pub gone: Option<Instant>,
    pub ingress: InterfaceSide,
    pub egress: InterfaceSide,
    pub ingress_ledger: LedgerSide,
    pub egress_ledger: LedgerSide,
    /// Frame bytes per second; `rx` is ingress.
    pub rate: Rate,
}

/// Sums over everything.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// App bytes of all processes, exited ones included.
    pub app: AppTotals,
    pub rate: Rate,
    /// Listeners apart.
    pub open_flows: usize,
    pub processes: usize,
    /// Processes with traffic, and flows, that are no longer listed: what ended longer ago than the
    /// history, and the oldest where more ended than are kept.
    pub dropped_processes: u64,
    pub dropped_flows: u64,
}

/// Sums of what is no longer listed, as far as there was room for them.
#[derive(Clone, Debug, Default)]
pub struct Retired {
    /// By user and cgroup: processes with only these and totals.
    pub processes: Arc<[Arc<Process>]>,
    /// By the address of the remote: flows with only that and totals.
    pub remotes: Arc<[Arc<Flow>]>,
    /// Of flows of listeners, by their own end: flows with only that, totals, wire totals and the
    /// time of their last bytes.
    pub accepted: Arc<[Arc<Flow>]>,
    /// By the address of the remote: what else is known of these flows.
    pub past_remotes: Arc<BTreeMap<IpAddr, PastRemote>>,
}

/// What is known of the flows of a remote that are no longer listed, besides their app bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRemote {
    /// Over TCP sockets.
    pub sockets: SocketSums,
    /// Of connections to it.
    pub failures: Failures,
    pub seen: SeenTimes,
}

/// When something was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenTimes {
    pub first: Instant,
    /// Whether it was there before Flow began.
    pub found: bool,
    /// When it last moved bytes, or was opened.
    pub last: Instant,
}

impl SeenTimes {
    /// Of a flow.
    pub fn of(flow: &Flow) -> Self {
        Self {
            first: flow.opened,
            found: flow.found.is_some(),
            last: flow.last,
        }
    }

    /// Of both.
    pub fn and(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            found: self.found || other.found,
            last: self.last.max(other.last),
        }
    }
}

/// A picture of one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows by one with each snapshot.
    pub generation: u64,
    pub time: Instant,
    /// Since the model began.
    pub running: Duration,
    /// Processes with traffic or an open socket, and those that exited within the history.
    pub processes: Vec<Arc<Process>>,
    pub flows: Vec<Arc<Flow>>,
    pub interfaces: Vec<Arc<Interface>>,
    pub retired: Retired,
    /// What processes that are no longer listed moved.
    pub programs: Arc<Programs>,
    pub totals: Totals,
    pub losses: Vec<(Loss, u64)>,
    pub coverage: Arc<[Coverage]>,
}

impl Snapshot {
    /// Whether `other` lists the very same processes and flows: none moved anything, came or went
    /// between the two.
    pub fn has_same_flows(&self, other: &Self) -> bool {
        self.totals == other.totals
            && are_same(&self.processes, &other.processes)
            && are_same(&self.flows, &other.flows)
    }

    /// Whether `other` lists the very same interfaces.
    pub fn has_same_interfaces(&self, other: &Self) -> bool {
        are_same(&self.interfaces, &other.interfaces)
    }
}

/// What did not change is not copied from one snapshot to the next.
fn are_same<T>(some: &[Arc<T>], others: &[Arc<T>]) -> bool {
    some.len() == others.len() && some.iter().zip(others).all(|(a, b)| Arc::ptr_eq(a, b))
}

#[cfg(test)]
mod tests {
    use super::is_own_name;

    #[test]
    fn a_name_of_its_own_is_another_than_the_executables() {
        assert!(is_own_name("worker-7", "python3.11"));
        // A script, and a program by another name.
        assert!(is_own_name("backup.sh", "bash"));
        assert!(is_own_name("python3", "python3.11"));
        assert!(!is_own_name("curl", "curl"));
        assert!(!is_own_name(
            "a-name-of-15-by",
            "a-name-of-15-bytes-and-more"
        ));
        assert!(is_own_name(
            "a-name-of-15-bx",
            "a-name-of-15-bytes-and-more"
        ));
        assert!(!is_own_name(
            "\u{65e5}\u{672c}\u{8a9e}\u{65e5}\u{672c}",
            "\u{65e5}\u{672c}\u{8a9e}\u{65e5}\u{672c}\u{8a9e}"
        ));
        assert!(!is_own_name("x\u{fffd}", "x\u{65e5}"));
        // Names of descriptors.
        assert!(!is_own_name("exe", "dockerd"));
        assert!(!is_own_name("7", "runc"));
    }
}
