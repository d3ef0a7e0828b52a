//! Counters of an interface.

use std::sync::Arc;

use flow_common::Class;
use serde::{Deserialize, Serialize};

use super::Bytes;

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
