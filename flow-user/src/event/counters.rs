//! Counters and measurements of sockets.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::Bytes;

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
    pub rtt: Option<RoundTrip>,
    pub min_rtt: Option<RoundTrip>,
    pub retransmits: u32,
}

/// What TCP knows of a connection now, as `ss -ti` shows it (`struct tcp_info`). What an older kernel
/// does not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpInfo {
    /// Name of the congestion control, such as `cubic`.
    pub congestion: Option<Arc<str>>,
    /// Bytes of payload in a segment that it sends.
    pub mss: u32,
    /// In segments; on their way, and not acknowledged yet.
    pub unacknowledged: u32,
    /// In segments; taken for lost, and not acknowledged yet.
    pub lost: u32,
    /// In segments; absent where it was never set.
    pub slow_start_threshold: Option<u32>,
    /// In segments.
    pub congestion_window: u32,
    /// Bytes that were sent by the process and not acknowledged by the remote.
    pub send_queue: u32,
    /// Bytes that wait for the process to receive them.
    pub receive_queue: u32,
    /// Bytes a second at which it sends at most.
    pub pacing_rate: Option<u64>,
    /// Bytes a second that arrived at the remote, as last measured.
    pub delivery_rate: Option<u64>,
    /// For how long it had something to send, since it began.
    pub busy: Option<Duration>,
    /// The part of it in which the remote's window was full.
    pub receiver_limited: Option<Duration>,
    /// The part of it in which the send buffer had no room.
    pub buffer_limited: Option<Duration>,
    /// Bytes of the window that the remote gives.
    pub send_window: Option<u32>,
}

/// A round trip time in the kernel's unit, microseconds: a quarter of the size of a [`Duration`], and
/// each connection has four of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoundTrip(NonZeroU32);

impl RoundTrip {
    /// None where nothing was measured yet.
    pub const fn from_micros(micros: u32) -> Option<Self> {
        match NonZeroU32::new(micros) {
            Some(micros) => Some(Self(micros)),
            None => None,
        }
    }

    pub const fn micros(self) -> u32 {
        self.0.get()
    }

    pub const fn duration(self) -> Duration {
        Duration::from_micros(self.0.get() as u64)
    }
}

/// Connections that wait at a listening socket to be accepted, or bytes of datagrams that wait to be
/// received, as the kernel accounts for their buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// How many wait.
    pub waiting: u32,
    /// How many may: the backlog of `listen(2)`, or the size of the receive buffer.
    pub limit: u32,
    /// Connections or datagrams that it refused or dropped since it listens.
    pub drops: u32,
}

impl std::ops::AddAssign for Backlog {
    fn add_assign(&mut self, other: Self) {
        self.waiting = self.waiting.saturating_add(other.waiting);
        self.limit = self.limit.saturating_add(other.limit);
        self.drops = self.drops.saturating_add(other.drops);
    }
}
