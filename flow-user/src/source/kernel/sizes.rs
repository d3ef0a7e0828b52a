//! How large the kernel side's maps and its ring buffer are.

use std::ops::RangeInclusive;

use aya::EbpfLoader;
use flow_common::limits;
use nix::unistd::{SysconfVar, sysconf};

/// Sockets that can be counted at once. The most take 1.5 GB of kernel memory.
pub const SOCKETS: RangeInclusive<u32> = 16..=1 << 22;
/// Processes whose bytes can be counted once the map of flows is full.
pub const PROCESSES: RangeInclusive<u32> = 16..=1 << 22;
/// Bytes of the ring buffer; the least holds a few records of the largest kind.
pub const RING: RangeInclusive<u32> = 16 << 10..=1 << 30;

/// Bytes of the smallest record with its header in the ring buffer.
const LEAST_RECORD: u32 = 32;

/// Sizes that a user may choose. The maps are made in full at the start, so they cost their memory
/// from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Entries of `SOCKETS`, and as many of `APP`.
    pub sockets: u32,
    /// Entries of `OVERFLOW`.
    pub processes: u32,
    /// Bytes of `RING`: a power of two, at least a page.
    pub ring: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        const { assert!(limits::APP_ENTRIES == limits::SOCKET_ENTRIES) };
        Self {
            sockets: limits::SOCKET_ENTRIES,
            processes: limits::OVERFLOW_ENTRIES,
            ring: limits::RING_BYTES,
        }
    }
}

impl Sizes {
    /// Has the loader make the maps this large.
    pub fn apply(&self, loader: &mut EbpfLoader<'_>) {
        let Self {
            sockets,
            processes,
            ring,
        } = *self;
        loader
            .map_max_entries("SOCKETS", sockets)
            .map_max_entries("APP", sockets)
            .map_max_entries("OVERFLOW", processes)
            .map_max_entries("RING", ring);
    }

    /// More records than the ring buffer holds.
    pub const fn ring_records(&self) -> usize {
        (self.ring / LEAST_RECORD) as usize
    }

    /// Entries of the largest map.
    pub const fn largest_map(&self) -> usize {
        if self.sockets > self.processes {
            self.sockets as usize
        } else {
            self.processes as usize
        }
    }
}

/// Bytes of a page of memory here.
pub fn page_bytes() -> u32 {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|bytes| u32::try_from(bytes).ok())
        .unwrap_or(4096)
}
