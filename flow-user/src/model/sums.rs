//! Sums over sockets, each counted once, and of connections that failed.

use serde::{Deserialize, Serialize};

use super::totals::{moved, raise_app, raise_wire};
use crate::event::{AppTotals, CloseReason, Direction, Protocol, WireTotals};

/// Sums over sockets, each counted once. A connection that came in and carried nothing yet counts
/// for nobody: it may still be accepted by another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketSums {
    /// Sockets whose packets are counted.
    pub counted: u64,
    pub wire: WireTotals,
    /// App bytes over the same sockets, of any process.
    pub app: AppTotals,
    /// Of those that speak TCP; `None` if none does.
    pub retransmits: Option<u64>,
    /// What these had sent again before Flow began.
    pub retransmits_before: u64,
}

/// A socket, for sums.
#[derive(Clone, Copy, Debug)]
pub(super) struct OneSocket {
    pub(super) protocol: Protocol,
    pub(super) direction: Option<Direction>,
    pub(super) wire: Option<WireTotals>,
    pub(super) app: AppTotals,
    /// Segments sent again while Flow counted, and before, if it speaks TCP.
    pub(super) retransmits: Option<(u32, u32)>,
}

impl SocketSums {
    /// Of one socket.
    pub(super) fn of(socket: OneSocket) -> Self {
        let OneSocket {
            protocol,
            direction,
            wire,
            app,
            retransmits,
        } = socket;
        let is_inbound = direction == Some(Direction::Inbound);
        if is_inbound && protocol.has_tcp_states() && !moved(&app) {
            return Self::default();
        }
        Self {
            counted: wire.is_some().into(),
            wire: wire.unwrap_or_default(),
            app: if wire.is_some() {
                app
            } else {
                AppTotals::default()
            },
            retransmits: retransmits.map(|(now, _)| now.into()),
            retransmits_before: retransmits.map_or(0, |(_, before)| before.into()),
        }
    }

    /// The same without what `other` has.
    pub(super) fn without(self, other: &Self) -> Self {
        let (mut app, mut wire) = (self.app, self.wire);
        app.tx_bytes = app.tx_bytes.since(other.app.tx_bytes);
        app.rx_bytes = app.rx_bytes.since(other.app.rx_bytes);
        app.tx_calls = app.tx_calls.saturating_sub(other.app.tx_calls);
        app.rx_calls = app.rx_calls.saturating_sub(other.app.rx_calls);
        wire.tx_bytes = wire.tx_bytes.since(other.wire.tx_bytes);
        wire.rx_bytes = wire.rx_bytes.since(other.wire.rx_bytes);
        wire.tx_packets = wire.tx_packets.saturating_sub(other.wire.tx_packets);
        wire.rx_packets = wire.rx_packets.saturating_sub(other.wire.rx_packets);
        let again = other.retransmits.unwrap_or(0);
        Self {
            counted: self.counted.saturating_sub(other.counted),
            wire,
            app,
            retransmits: self.retransmits.map(|it| it.saturating_sub(again)),
            retransmits_before: self
                .retransmits_before
                .saturating_sub(other.retransmits_before),
        }
    }

    /// Raises each number to that of `other`, if it is less.
    pub fn raise(&mut self, other: &Self) {
        self.counted = self.counted.max(other.counted);
        raise_wire(&mut self.wire, &other.wire);
        raise_app(&mut self.app, &other.app);
        self.retransmits = self.retransmits.max(other.retransmits);
        self.retransmits_before = self.retransmits_before.max(other.retransmits_before);
    }
}

impl std::ops::AddAssign for SocketSums {
    fn add_assign(&mut self, other: Self) {
        self.counted = self.counted.saturating_add(other.counted);
        self.wire += other.wire;
        self.app += other.app;
        if let Some(more) = other.retransmits {
            let retransmits = self.retransmits.get_or_insert_default();
            *retransmits = retransmits.saturating_add(more);
        }
        self.retransmits_before = self
            .retransmits_before
            .saturating_add(other.retransmits_before);
    }
}

/// Connections that failed, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    pub refused: u32,
    pub timeout: u32,
    pub unreachable: u32,
    /// By the remote, established ones too.
    pub reset: u32,
}

impl Failures {
    /// Counts an end, if it is a failure.
    pub const fn count(&mut self, reason: CloseReason) {
        let of_reason = match reason {
            CloseReason::Refused => &mut self.refused,
            CloseReason::Timeout => &mut self.timeout,
            CloseReason::Unreachable => &mut self.unreachable,
            CloseReason::Reset => &mut self.reset,
            CloseReason::Closed
            | CloseReason::Aborted
            | CloseReason::Vanished
            | CloseReason::Idle => return,
        };
        *of_reason = of_reason.saturating_add(1);
    }

    /// Raises each number to that of `other`, if it is less.
    pub fn raise(&mut self, other: &Self) {
        let Self {
            refused,
            timeout,
            unreachable,
            reset,
        } = *other;
        self.refused = self.refused.max(refused);
        self.timeout = self.timeout.max(timeout);
        self.unreachable = self.unreachable.max(unreachable);
        self.reset = self.reset.max(reset);
    }

    /// The reasons that occurred, and how often.
    pub fn occurred(&self) -> impl Iterator<Item = (CloseReason, u32)> {
        let Self {
            refused,
            timeout,
            unreachable,
            reset,
        } = *self;
        let all = [
            (CloseReason::Refused, refused),
            (CloseReason::Timeout, timeout),
            (CloseReason::Unreachable, unreachable),
            (CloseReason::Reset, reset),
        ];
        all.into_iter().filter(|(_, count)| *count > 0)
    }
}

impl std::ops::AddAssign for Failures {
    fn add_assign(&mut self, other: Self) {
        let Self {
            refused,
            timeout,
            unreachable,
            reset,
        } = other;
        self.refused = self.refused.saturating_add(refused);
        self.timeout = self.timeout.saturating_add(timeout);
        self.unreachable = self.unreachable.saturating_add(unreachable);
        self.reset = self.reset.saturating_add(reset);
    }
}
