//! What a socket is, and how its life goes.

use std::fmt;

use serde::{Deserialize, Serialize};

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
