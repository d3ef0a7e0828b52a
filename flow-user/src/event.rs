//! The vocabulary: what sources say and the model hears. Owned types, no I/O.
//!
//! Counters in events are cumulative: an event that is lost costs nothing, because the next one
//! brings the same total.

mod clock;
pub mod doctor;

use std::{borrow::Cow, fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

pub use flow_common::{Class, Loss};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use self::clock::Clock;

/// A number of bytes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// The difference, or zero where `earlier` is larger.
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |sum, bytes| sum + bytes)
    }
}

/// A moment: nanoseconds since boot (`CLOCK_BOOTTIME`), the clock of the kernel's records.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Instant(pub u64);

impl Instant {
    /// Time passed since `earlier`; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A process: its id, and when it started, so that a reused id is another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// Thread group id in the initial PID namespace.
    pub pid: u32,
    pub start: Instant,
}

/// A socket's cookie: one number for the life of the socket, the same in every kernel interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SocketCookie(pub u64);

/// A network namespace, by the inode number that `ip netns` and `lsns` show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Netns(pub u32);

/// A control group of the v2 tree, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CgroupId(pub u64);

/// Transport protocol of a socket.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Mptcp,
    Sctp,
    Udplite,
    Icmp,
    Icmp6,
    /// A raw IP socket of another protocol.
    Raw,
    /// A packet socket (`AF_PACKET`).
    Packet,
}

impl Protocol {
    /// Name as it stands in outputs and filters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Mptcp => "mptcp",
            Self::Sctp => "sctp",
            Self::Udplite => "udplite",
            Self::Icmp => "icmp",
            Self::Icmp6 => "icmp6",
            Self::Raw => "raw",
            Self::Packet => "packet",
        }
    }

    /// Whether its sockets have the states of TCP.
    pub const fn has_tcp_states(self) -> bool {
        matches!(self, Self::Tcp | Self::Mptcp | Self::Sctp)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// State of a socket; TCP's states for TCP, for other protocols connected or not.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Established,
    SynSent,
    SynReceived,
    FinWait1,
    FinWait2,
    TimeWait,
    Closed,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    /// A datagram socket without a fixed peer.
    Unconnected,
}

impl State {
    /// Name as it stands in outputs and filters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::SynSent => "syn-sent",
            Self::SynReceived => "syn-received",
            Self::FinWait1 => "fin-wait1",
            Self::FinWait2 => "fin-wait2",
            Self::TimeWait => "time-wait",
            Self::Closed => "closed",
            Self::CloseWait => "close-wait",
            Self::LastAck => "last-ack",
            Self::Listen => "listen",
            Self::Closing => "closing",
            Self::Unconnected => "unconnected",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who opened a flow.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// This machine's process.
    Outbound,
    /// The remote.
    Inbound,
}

/// Why a socket's life ended, as the kernel's `sk_err` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CloseReason {
    /// An orderly close.
    Closed,
    /// The remote sent a RST.
    Reset,
    /// Nobody listened at the remote.
    Refused,
    /// The remote did not answer.
    Timeout,
    /// No route, or the network said unreachable.
    Unreachable,
    /// Closed by another means, such as `ss --kill`.
    Aborted,
    /// Its end was not seen; it was found gone.
    Vanished,
}

impl CloseReason {
    /// Name as it stands in outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Aborted => "aborted",
            Self::Vanished => "vanished",
        }
    }
}

/// What send and receive calls returned. Cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppTotals {
    pub tx_bytes: Bytes,
    pub rx_bytes: Bytes,
    pub tx_calls: u64,
    pub rx_calls: u64,
}

impl std::ops::AddAssign for AppTotals {
    fn add_assign(&mut self, other: Self) {
        self.tx_bytes += other.tx_bytes;
        self.rx_bytes += other.rx_bytes;
        self.tx_calls = self.tx_calls.saturating_add(other.tx_calls);
        self.rx_calls = self.rx_calls.saturating_add(other.rx_calls);
    }
}

/// Layer-3 bytes and packets of a socket. Cumulative since Flow attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireTotals {
    pub tx_bytes: Bytes,
    pub rx_bytes: Bytes,
    pub tx_packets: u64,
    pub rx_packets: u64,
}

impl std::ops::AddAssign for WireTotals {
    fn add_assign(&mut self, other: Self) {
        self.tx_bytes += other.tx_bytes;
        self.rx_bytes += other.rx_bytes;
        self.tx_packets = self.tx_packets.saturating_add(other.tx_packets);
        self.rx_packets = self.rx_packets.saturating_add(other.rx_packets);
    }
}

/// What TCP knows of a connection's path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpFacts {
    /// Smoothed round trip time.
    pub rtt: Option<Duration>,
    pub min_rtt: Option<Duration>,
    pub retransmits: u32,
}

/// Connections that wait at a listening socket to be accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// How many wait.
    pub waiting: u32,
    /// How many may, as `listen(2)` was told.
    pub limit: u32,
    /// Connections that it refused or dropped since it listens.
    pub drops: u32,
}

impl std::ops::AddAssign for Backlog {
    fn add_assign(&mut self, other: Self) {
        self.waiting = self.waiting.saturating_add(other.waiting);
        self.limit = self.limit.saturating_add(other.limit);
        self.drops = self.drops.saturating_add(other.drops);
    }
}

/// What is known of a process's program. Absent means unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Name as the kernel keeps it (at most 15 bytes). Text from another process: may hold anything.
    pub comm: Option<Arc<str>>,
    /// Path of the executable; lossless bytes are kept, see [`PathBuf`].
    #[serde(with = "path")]
    pub exe: Option<Arc<PathBuf>>,
    /// Arguments, invalid UTF-8 replaced, at most 4 KiB in all.
    pub cmdline: Option<Arc<[String]>>,
    /// Whether `cmdline` was cut.
    pub cmdline_cut: bool,
}

/// A process as some source saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFact {
    pub id: ProcessId,
    pub parent: Option<ProcessId>,
    pub program: Program,
    pub uid: Option<u32>,
    pub cgroup: Option<CgroupId>,
}

/// A socket as some source saw it. Counters cumulative.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketFact {
    pub cookie: SocketCookie,
    pub protocol: Protocol,
    pub local: SocketAddr,
    /// Fixed peer, if it has one.
    pub remote: Option<SocketAddr>,
    pub state: State,
    pub direction: Option<Direction>,
    pub netns: Option<Netns>,
    /// Index of the interface of its last packet, in its own namespace.
    pub ifindex: Option<u32>,
    /// Who created, connected or accepted it.
    pub owner: Option<ProcessId>,
    pub wire: Option<WireTotals>,
    pub tcp: Option<TcpFacts>,
}

/// Bytes a process moved over a socket to or from one remote. Counters cumulative.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppFact {
    pub socket: SocketCookie,
    pub process: ProcessId,
    /// Peer of this part of the socket's traffic; `None` where the call did not tell.
    pub remote: Option<SocketAddr>,
    pub totals: AppTotals,
    pub uid: Option<u32>,
    pub cgroup: Option<CgroupId>,
    /// Name that the process has now, where the source tells.
    pub comm: Option<Arc<str>>,
}

/// Packets and bytes of one class at an interface. See [`flow_common::PacketCount`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    /// Buffers as the stack handed them over.
    pub packets: u64,
    /// Bytes of those buffers, link header included.
    pub bytes: Bytes,
    /// Frames on the wire, each segment of a GSO/GRO buffer counted.
    pub frames: u64,
    /// Bytes of the headers that segmentation repeats.
    pub header_bytes: Bytes,
}

impl ClassCount {
    /// What was counted after `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(earlier.packets),
            bytes: self.bytes.since(earlier.bytes),
            frames: self.frames.saturating_sub(earlier.frames),
            header_bytes: self.header_bytes.since(earlier.header_bytes),
        }
    }
}

/// One direction of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceSide {
    /// The interface's own counters, as `ip -s link` shows them, but continued where those begin
    /// anew. Cumulative since it was made.
    pub bytes: Bytes,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
    /// What the classifier saw since it was attached, by [`Class`].
    pub classes: [ClassCount; Class::COUNT],
    /// What it saw while the interface's own counters were read: they may have it, the total does not.
    pub meanwhile: ClassCount,
    /// The interface's own `bytes` when the classifier was attached.
    pub bytes_at_attach: Bytes,
    /// Its own `packets` then, give or take those that were on their way.
    pub packets_at_attach: u64,
}

impl InterfaceSide {
    /// Bytes that were taken beyond those that came in, headers that were repeated on the way to
    /// sockets left out.
    pub fn taken_too_often(&self) -> Bytes {
        let sum = |part: fn(&ClassCount) -> Bytes| -> Bytes {
            let taken = [
                Class::Socket,
                Class::Forwarded,
                Class::PacketSocket,
                Class::NotIp,
            ];
            taken
                .map(|class| part(&self.classes[class as usize]))
                .into_iter()
                .sum()
        };
        let total = self.classes[Class::Total as usize];
        let headers = total.header_bytes.since(sum(|count| count.header_bytes));
        sum(|count| count.bytes).since(total.bytes + headers)
    }
}

/// An interface of the host's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceFact {
    pub ifindex: u32,
    pub name: Arc<str>,
    pub up: bool,
    /// Whether the classifier is attached; without it only `bytes` and its kin are true.
    pub classified: bool,
    pub ingress: InterfaceSide,
    pub egress: InterfaceSide,
}

/// Something that sources provide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    AppBytes,
    Sockets,
    WireBytes,
    Interfaces,
    Processes,
    /// Sockets that were there before the source began.
    Existing,
}

impl Capability {
    /// Every capability, in the order in which they are reported.
    pub const ALL: [Self; 6] = [
        Self::AppBytes,
        Self::Sockets,
        Self::WireBytes,
        Self::Interfaces,
        Self::Processes,
        Self::Existing,
    ];

    /// Name as it stands in outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AppBytes => "app bytes by process",
            Self::Sockets => "socket identity and life",
            Self::WireBytes => "wire bytes by socket",
            Self::Interfaces => "interface totals",
            Self::Processes => "process life",
            Self::Existing => "sockets that existed before",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        let mut all = Self::ALL.into_iter();
        all.find(|capability| capability.name() == name)
            .ok_or_else(|| D::Error::custom("no capability has this name"))
    }
}

/// How a capability is provided, for the header of each view and `flow doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Coverage {
    /// What is provided, such as "app bytes by process".
    #[schemars(with = "String")]
    pub capability: Capability,
    /// The backend in use; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// What it cannot see, in words; empty when it sees everything.
    pub limits: String,
}

/// The machine that events are from, for headers and reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub name: String,
    /// Release of the kernel, as `uname -r` prints it.
    pub kernel: String,
}

/// What a source emits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// How each capability is provided; first event of a source.
    Coverage(Vec<Coverage>),
    /// A process was there when the source began, or was looked up later.
    ProcessSeen(ProcessFact),
    /// A process became another program. What the fact lacks is unknown, not unchanged.
    ProcessExec(ProcessFact),
    /// A process was made; it is its parent's program.
    ProcessFork(ProcessFact),
    /// The names that a process has now: of its program `comm` and `cmdline`, where these are there. It may have given
    /// itself others since it began (`prctl`, a title over its arguments).
    ProcessNamed { id: ProcessId, program: Program },
    /// The last thread of a process ended; `status` as `wait(2)` reports it. All its totals were
    /// told before.
    ProcessExit { id: ProcessId, status: u32 },
    /// Every process that there is, because records of processes were lost. One that began before this and is
    /// not among them has ended. All its totals were told before.
    ProcessesListed(Vec<ProcessFact>),
    /// A socket is new or changed.
    Socket(SocketFact),
    /// A socket is gone. Its last totals were told before.
    SocketEnd {
        cookie: SocketCookie,
        reason: CloseReason,
    },
    /// What waits at a listening socket now.
    Listening {
        cookie: SocketCookie,
        backlog: Backlog,
    },
    /// A process moved bytes.
    App(AppFact),
    /// Bytes of a process that found no entry of their own: counted for it, flow unknown. Cumulative.
    Overflow {
        process: ProcessId,
        totals: AppTotals,
    },
    /// An interface's counters.
    Interface(Box<InterfaceFact>),
    /// An interface is gone.
    InterfaceGone { ifindex: u32 },
    /// Path of a cgroup below the v2 root, such as `/system.slice/nginx.service`.
    Cgroup { id: CgroupId, path: Arc<str> },
    /// Login name of a user; absent where the directory has none. May hold anything.
    User { uid: u32, name: Option<Arc<str>> },
    /// Something was lost `count` times (or bytes, see [`Loss`]) since the source began. Cumulative.
    Lost {
        #[serde(with = "cause")]
        cause: Loss,
        count: u64,
    },
}

/// Takes what sources emit.
pub trait EventSink {
    fn event(&mut self, time: Instant, event: Event);
}

impl<S: EventSink + ?Sized> EventSink for &mut S {
    fn event(&mut self, time: Instant, event: Event) {
        (**self).event(time, event);
    }
}

impl EventSink for Vec<Timed> {
    fn event(&mut self, time: Instant, event: Event) {
        self.push(Timed { time, event });
    }
}

/// An event and when it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    pub time: Instant,
    pub event: Event,
}

/// Paths of executables: text where they are, else their bytes.
mod path {
    use std::{
        ffi::OsString,
        os::unix::ffi::{OsStrExt as _, OsStringExt as _},
        path::PathBuf,
        sync::Arc,
    };

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Path {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(
        path: &Option<Arc<PathBuf>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let path = path.as_deref().map(|path| match path.to_str() {
            Some(text) => Path::Text(text.to_owned()),
            None => Path::Bytes(path.as_os_str().as_bytes().to_vec()),
        });
        path.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<PathBuf>>, D::Error> {
        let path = Option::<Path>::deserialize(deserializer)?;
        Ok(path.map(|path| {
            Arc::new(match path {
                Path::Text(text) => text.into(),
                Path::Bytes(bytes) => OsString::from_vec(bytes).into(),
            })
        }))
    }
}

/// Causes of loss, by their index.
mod cause {
    use flow_common::Loss;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(cause: &Loss, serializer: S) -> Result<S::Ok, S::Error> {
        (*cause as usize).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Loss, D::Error> {
        let index = usize::deserialize(deserializer)?;
        let cause = Loss::ALL.get(index).copied();
        cause.ok_or_else(|| D::Error::custom("no cause of loss has this index"))
    }
}
