//! Counters and measurements of sockets.

use std::{num::NonZeroU32, time::Duration};

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
