//! Counters and measurements of sockets.

use std::time::Duration;

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
    pub rtt: Option<Duration>,
    pub min_rtt: Option<Duration>,
    pub retransmits: u32,
}

/// Connections that wait at a listening socket to be accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// How many wait.
    pub waiting: u32,
    /// How many may: the backlog of `listen(2)`.
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
