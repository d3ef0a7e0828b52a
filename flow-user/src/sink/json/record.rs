//! The types of the event stream. An absent field is unknown; `null` is never written.

use std::{net::IpAddr, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::tcp::TcpRecord;
use crate::{
    event::{AppTotals, Bytes, Clock, CloseReason, Coverage, Direction, Loss, Protocol, State},
    model::{
        change::Change,
        snapshot::{Flow, Interface, LedgerSide, Process},
    },
};

/// One line of `flow events --json`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "Flow event, version 1")]
pub struct Record<'a> {
    /// Version of the stream. Fields may be added within a version; none change or are removed.
    #[schemars(range(min = 1, max = 1))]
    pub v: u32,
    /// Number of the line in its stream, from 1, without gaps.
    #[schemars(range(min = 1))]
    pub seq: u64,
    /// When it happened: RFC 3339, UTC, nanoseconds.
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
    #[serde(flatten)]
    pub body: Body<'a>,
}

/// What happened, by `type`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type")]
pub enum Body<'a> {
    /// A flow is new: connected, accepted, listening, or its first bytes moved.
    #[serde(rename = "flow.open")]
    FlowOpen(FlowBody<'a>),
    /// Counters, state or addresses of a flow changed.
    #[serde(rename = "flow.update")]
    FlowUpdate(FlowBody<'a>),
    /// A flow ended; its totals are final. A flow without bytes may reopen, if its socket changed
    /// its owner or remote and changed back.
    #[serde(rename = "flow.close")]
    FlowClose(CloseBody<'a>),
    /// A process executed another program.
    #[serde(rename = "process.exec")]
    ProcessExec(ExecBody<'a>),
    /// A process ended; its totals are final.
    #[serde(rename = "process.exit")]
    ProcessExit(ExitBody<'a>),
    /// Frame bytes of an interface, by cause.
    #[serde(rename = "ledger")]
    Ledger(LedgerBody<'a>),
    /// Something was lost, or merged for a slow reader.
    #[serde(rename = "lost")]
    Lost(LostBody),
    /// The backend of each capability.
    #[serde(rename = "status")]
    Status(StatusBody<'a>),
}

impl<'a> Body<'a> {
    /// `process` is the record of its flow's process, as text.
    pub(super) fn new(change: &'a Change, process: Option<&'a RawValue>, clock: Clock) -> Self {
        match change {
            Change::FlowOpened(it) => Self::FlowOpen(FlowBody::new(it, process)),
            Change::FlowUpdated(it) => Self::FlowUpdate(FlowBody::new(it, process)),
            Change::FlowClosed(it) => Self::FlowClose(CloseBody {
                facts: FlowBody::new(it, process),
                duration_ns: it.closed.map(|(at, _)| nanoseconds(at.since(it.opened))),
                reason: it.closed.map(|(_, reason)| reason),
            }),
            Change::ProcessExec(process) => Self::ProcessExec(ExecBody {
                process: ProcessRecord::new(process, clock),
            }),
            Change::ProcessExit { process, status } => Self::ProcessExit(ExitBody {
                process: ProcessRecord::new(process, clock),
                app: AppRecord::from(process.totals),
                overflow: AppRecord::unless_zero(process.overflow),
                status: *status,
            }),
            Change::Ledger(interface) => Self::Ledger(LedgerBody::from(&**interface)),
            Change::Lost { cause, count } => Self::Lost(LostBody {
                cause: (*cause).into(),
                count: *count,
            }),
            Change::Status(coverage) => Self::Status(StatusBody { coverage }),
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct FlowBody<'a> {
    pub flow: FlowRecord<'a>,
    /// The owner of the bytes; absent until a process accepts or uses the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ProcessRecord<'a>>")]
    pub process: Option<&'a RawValue>,
    pub app: AppRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire: Option<WireRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpRecord>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct CloseBody<'a> {
    #[serde(flatten)]
    pub facts: FlowBody<'a>,
    /// How long the flow lived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<CloseReason>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ExecBody<'a> {
    pub process: ProcessRecord<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ExitBody<'a> {
    pub process: ProcessRecord<'a>,
    /// Totals over all its flows.
    pub app: AppRecord,
    /// Part of `app` without a flow, because a table of the kernel side was full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overflow: Option<AppRecord>,
    /// As `wait(2)` reports it. Absent if the record of the exit was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct LedgerBody<'a> {
    pub interface: InterfaceRecord<'a>,
    pub ingress: LedgerRecord,
    pub egress: LedgerRecord,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct LostBody {
    pub cause: LossCause,
    /// Cumulative, since the stream began or Flow attached.
    pub count: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct StatusBody<'a> {
    pub coverage: &'a [Coverage],
}

/// A flow of a process: one socket and one remote.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FlowRecord<'a> {
    /// Socket and remote, such as `1f3-198.51.100.9:443`. The same for every process that shares
    /// the flow.
    pub id: String,
    /// Socket cookie in hexadecimal. Flows with the same socket share `wire`.
    pub socket: String,
    pub protocol: Protocol,
    /// Whether the remote opened it or this host did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    pub local: LocalRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteRecord>,
    pub state: State,
    /// Whether it was there before Flow attached, so that its beginning was not seen; absent means
    /// no.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub existed: bool,
    /// Inode number of the network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// The interface of its last packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<&'a str>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct LocalRecord {
    pub ip: IpAddr,
    pub port: u16,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct RemoteRecord {
    /// Its address. A link-local or link-scoped multicast address is followed by its zone, such as
    /// `fe80::1%eth0`: the name of an interface or, in another network namespace, its index.
    pub ip: String,
    /// 0 if the protocol has no ports.
    pub port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// The source of `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_source: Option<NameSource>,
}

/// The source of a remote's name.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    /// A reverse look-up of the address.
    Resolver,
}

/// A process.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProcessRecord<'a> {
    /// In the initial PID namespace.
    pub pid: u32,
    /// RFC 3339, UTC, nanoseconds. With `pid` it identifies the process.
    #[schemars(extend("format" = "date-time"))]
    pub start_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ppid: Option<u32>,
    pub name: &'a str,
    /// Path of the executable, invalid UTF-8 replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Arguments, invalid UTF-8 replaced, at most 4 KiB in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<&'a [String]>,
    /// Whether `cmdline` was truncated; absent means no.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cmdline_cut: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// Path below the root of the cgroup v2 tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<&'a str>,
    /// Ancestors, nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<AncestorRecord<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct AncestorRecord<'a> {
    pub pid: u32,
    #[schemars(extend("format" = "date-time"))]
    pub start_time: String,
    pub name: &'a str,
}

/// What send and receive calls returned to the process since its flow began.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct AppRecord {
    pub tx_bytes: Bytes,
    pub rx_bytes: Bytes,
    pub tx_calls: u64,
    pub rx_calls: u64,
}

/// Layer-3 bytes and packets of the socket since Flow attached, retransmits and pure ACKs
/// included.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct WireRecord {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_bytes: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_bytes: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_packets: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_packets: Option<u64>,
    /// Retransmitted segments since Flow attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u32>,
}

/// An interface of the host's network namespace.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InterfaceRecord<'a> {
    pub name: &'a str,
    pub index: u32,
    pub up: bool,
    /// Whether its packets are classified; if not, all its frames are unexplained.
    pub classified: bool,
}

/// Bytes of one direction of an interface. `frames` is the sum of the others.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct LedgerRecord {
    /// Bytes that the interface counted since its ledger began.
    pub frames: Bytes,
    /// Sent by, or delivered to, a socket.
    pub socket: Bytes,
    /// Forwarded, including containers' traffic.
    pub forwarded: Bytes,
    /// Sent by the kernel without a socket, or taken by no socket.
    pub kernel: Bytes,
    /// Sent through a packet socket.
    pub packet_socket: Bytes,
    /// Neither IPv4 nor IPv6.
    pub not_ip: Bytes,
    /// Headers that segmentation repeats, as far as the interface counts them.
    pub offload: Bytes,
    /// Counted by the interface but not by the classifier; negative if the other way round.
    pub unexplained: i64,
}

macro_rules! declare {
    ($($(#[$doc:meta])* $cause:ident = $name:literal,)*) => {
        /// Why something was lost or merged.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
        pub enum LossCause {
            $($(#[$doc])* #[serde(rename = $name)] $cause,)*
            /// Updates replaced by a newer one of the same flow or interface, because this stream's
            /// reader was slow. No bytes are lost: counters are cumulative.
            #[serde(rename = "reader_slow_coalesced")]
            ReaderSlowCoalesced,
        }

        impl LossCause {
            /// Its name in the stream.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$cause => $name,)*
                    Self::ReaderSlowCoalesced => "reader_slow_coalesced",
                }
            }
        }

        impl From<Loss> for LossCause {
            fn from(loss: Loss) -> Self {
                match loss {
                    $(Loss::$cause => Self::$cause,)*
                }
            }
        }
    };
}

flow_common::loss_causes!(declare);

/// Nanoseconds, up to some 584 years.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl<'a> FlowBody<'a> {
    fn new(flow: &'a Flow, process: Option<&'a RawValue>) -> Self {
        Self {
            flow: FlowRecord::new(flow),
            process,
            app: flow.app.into(),
            wire: WireRecord::of(flow),
            tcp: TcpRecord::of(flow),
        }
    }
}

impl<'a> FlowRecord<'a> {
    pub fn new(flow: &'a Flow) -> Self {
        Self {
            id: flow.key.id(),
            socket: format!("{:x}", flow.key.socket.0),
            protocol: flow.protocol,
            direction: flow.direction,
            local: LocalRecord {
                ip: flow.local.ip(),
                port: flow.local.port(),
            },
            remote: flow
                .key
                .remote
                .zip(flow.remote_host())
                .map(|(remote, ip)| RemoteRecord {
                    ip,
                    port: remote.port(),
                    name: None,
                    name_source: None,
                }),
            state: flow.state,
            existed: flow.found.is_some(),
            netns: flow.netns.map(|netns| netns.0),
            interface: flow.interface.as_deref(),
        }
    }
}

impl<'a> ProcessRecord<'a> {
    pub fn new(process: &'a Process, clock: Clock) -> Self {
        Self {
            pid: process.id.pid,
            start_time: clock.rfc3339(process.id.start),
            ppid: process.parent.map(|parent| parent.pid),
            name: process.name(),
            exe: process
                .program
                .exe
                .as_deref()
                .map(|exe| exe.to_string_lossy().into_owned()),
            cmdline: process.program.cmdline.as_deref(),
            cmdline_cut: process.program.cmdline_cut,
            uid: process.uid,
            user: process.user.as_deref(),
            cgroup: process.cgroup_path.as_deref(),
            lineage: process
                .lineage
                .iter()
                .map(|(id, name)| AncestorRecord {
                    pid: id.pid,
                    start_time: clock.rfc3339(id.start),
                    name,
                })
                .collect(),
        }
    }
}

impl AppRecord {
    /// `None` where nothing moved.
    pub fn unless_zero(totals: AppTotals) -> Option<Self> {
        (totals != AppTotals::default()).then(|| totals.into())
    }
}

impl From<AppTotals> for AppRecord {
    fn from(totals: AppTotals) -> Self {
        let AppTotals {
            tx_bytes,
            rx_bytes,
            tx_calls,
            rx_calls,
        } = totals;
        Self {
            tx_bytes,
            rx_bytes,
            tx_calls,
            rx_calls,
        }
    }
}

impl WireRecord {
    pub fn of(flow: &Flow) -> Option<Self> {
        let (wire, retransmits) = (flow.wire, flow.retransmits());
        if wire.is_none() && retransmits.is_none() {
            return None;
        }
        Some(Self {
            tx_bytes: wire.map(|wire| wire.tx_bytes),
            rx_bytes: wire.map(|wire| wire.rx_bytes),
            tx_packets: wire.map(|wire| wire.tx_packets),
            rx_packets: wire.map(|wire| wire.rx_packets),
            retransmits,
        })
    }
}

impl<'a> From<&'a Interface> for LedgerBody<'a> {
    fn from(interface: &'a Interface) -> Self {
        Self {
            interface: InterfaceRecord {
                name: &interface.name,
                index: interface.ifindex,
                up: interface.up,
                classified: interface.classified,
            },
            ingress: interface.ingress_ledger.into(),
            egress: interface.egress_ledger.into(),
        }
    }
}

impl From<LedgerSide> for LedgerRecord {
    fn from(side: LedgerSide) -> Self {
        let LedgerSide {
            frames,
            socket,
            forwarded,
            kernel,
            packet_socket,
            not_ip,
            offload,
            unexplained,
        } = side;
        Self {
            frames,
            socket,
            forwarded,
            kernel,
            packet_socket,
            not_ip,
            offload,
            unexplained,
        }
    }
}
