//! Maps that more than one module uses, and the counters of loss.

use aya_ebpf::{
    bindings::BPF_F_RDONLY_PROG,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use flow_common::{
    AppCounters, AppKey, InterfaceCounters, InterfaceKey, Loss, ProcessKey, SocketEntry, limits,
};

use crate::{atomic, logging};

/// Bytes by (socket, process, remote).
#[map]
pub static APP: HashMap<AppKey, AppCounters> = HashMap::with_max_entries(limits::APP_ENTRIES, 0);

/// Bytes by process, for those that found `APP` full.
#[map]
pub static OVERFLOW: HashMap<ProcessKey, AppCounters> =
    HashMap::with_max_entries(limits::OVERFLOW_ENTRIES, 0);

/// Sockets by cookie.
#[map]
pub static SOCKETS: HashMap<u64, SocketEntry> =
    HashMap::with_max_entries(limits::SOCKET_ENTRIES, 0);

/// By cookie: of the keys in [`SocketEntry::remotes`] those that user space has deleted. Only user
/// space writes it, as only programs write the entry: so neither loses what the other counts.
#[map]
pub static FREED_REMOTES: HashMap<u64, u32> =
    HashMap::with_max_entries(limits::FREED_REMOTES_ENTRIES, BPF_F_RDONLY_PROG);

/// Frames by interface and direction. The loader makes the entries, so that it decides which
/// interfaces count.
#[map]
pub static INTERFACES: PerCpuHashMap<InterfaceKey, InterfaceCounters> =
    PerCpuHashMap::with_max_entries(limits::INTERFACE_ENTRIES, 0);

/// Records for user space.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(limits::RING_BYTES, 0);

/// One element: the current epoch. User space counts it up; each entry is emitted at most once in
/// it.
#[map]
pub static EPOCH: Array<u32> = Array::with_max_entries(1, 0);

/// Counters by [`Loss`].
#[map]
pub static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Loss::COUNT, 0);

/// The current epoch; never 0, which marks an entry that was never emitted.
#[inline(always)]
pub fn epoch() -> u32 {
    EPOCH.get(0).copied().unwrap_or(1)
}

/// Counts a loss.
#[inline(always)]
pub fn lose(cause: Loss, amount: u64) {
    logging::debug!("lost: cause {}, {}", cause as u32, amount);
    if let Some(counter) = LOSSES.get_ptr_mut(cause as u32) {
        // SAFETY: an element of the array lives as long as the program.
        unsafe { atomic::add(counter, amount) };
    }
}
