//! What a socket is, and how its life goes.

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
    strum::Display,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
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
        self.into_str()
    }

    /// Whether its sockets receive datagrams at a port.
    pub const fn has_datagram_ports(self) -> bool {
        matches!(self, Self::Udp | Self::Udplite)
    }

    /// Whether its sockets have the states of TCP.
    pub const fn has_tcp_states(self) -> bool {
        matches!(self, Self::Tcp | Self::Mptcp | Self::Sctp)
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
    strum::Display,
    strum::EnumIter,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case", const_into_str)]
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
        self.into_str()
    }
}

/// Ports that the kernel chooses from where a socket asks for none, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EphemeralPorts {
    pub first: u16,
    pub last: u16,
}

impl Default for EphemeralPorts {
    /// Those of a new network namespace (`inet_init_net`).
    fn default() -> Self {
        Self {
            first: 32_768,
            last: 60_999,
        }
    }
}

impl EphemeralPorts {
    /// Whether the kernel may have chosen this port.
    pub const fn contain(self, port: u16) -> bool {
        self.first <= port && port <= self.last
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

/// Why a socket ended, by the kernel's `sk_err`.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
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
    /// A datagram flow that moved nothing for a while. Its socket is open still.
    Idle,
}

impl CloseReason {
    /// Name as it stands in outputs.
    pub const fn name(self) -> &'static str {
        self.into_str()
    }
}
