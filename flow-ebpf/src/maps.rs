//! Every map, and the counters of loss.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use flow_common::{
    AppCounters, AppKey, ForeignKey, InterfaceCounters, InterfaceKey, LinkLayout, Loss, ProcessKey,
    SocketState, limits, record::ExecRecord,
};

use crate::{
    atomic,
    calls::Call,
    datagrams::{self, Batch},
    identity::Alias,
    life::StateChange,
    logging,
    peer::Heard,
    stack::Passing,
};

/// Bytes by (socket, process, remote).
#[map]
pub static APP: HashMap<AppKey, AppCounters> = HashMap::with_max_entries(limits::APP_ENTRIES, 0);

/// Bytes by process, for those that found `APP` full.
#[map]
pub static OVERFLOW: HashMap<ProcessKey, AppCounters> =
    HashMap::with_max_entries(limits::OVERFLOW_ENTRIES, 0);

/// Sockets by cookie.
#[map]
pub static SOCKETS: HashMap<u64, SocketState> =
    HashMap::with_max_entries(limits::SOCKET_ENTRIES, 0);

/// Identities of sockets that have no cookie of their own, by address.
#[map]
pub static ALIASES: LruHashMap<u64, Alias> = LruHashMap::with_max_entries(limits::ALIAS_ENTRIES, 0);

/// Frames by interface and direction. The loader makes the entries, so that it decides which
/// interfaces count.
#[map]
pub static INTERFACES: PerCpuHashMap<InterfaceKey, InterfaceCounters> =
    PerCpuHashMap::with_max_entries(limits::INTERFACE_ENTRIES, 0);

/// What the loader knows of the interfaces, by index.
#[map]
pub static LINKS: HashMap<u32, LinkLayout> =
    HashMap::with_max_entries(limits::INTERFACE_ENTRIES, 0);

/// One element: bits of [`flow_common::interface::stacking`].
#[map]
pub static STACKING: Array<u32> = Array::with_max_entries(1, 0);

/// Which of the host's interfaces is below one of another namespace, or a value of
/// [`flow_common::interface::foreign`].
#[map]
pub static FOREIGN: LruHashMap<ForeignKey, u32> =
    LruHashMap::with_max_entries(limits::FOREIGN_ENTRIES, 0);

/// One element: how many entries of [`FOREIGN`] were made.
#[map]
pub static FOREIGN_SEEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// One element: the packets that passed last. See [`crate::stack`].
#[map]
pub static PASSING: PerCpuArray<Passing> = PerCpuArray::with_max_entries(1, 0);

/// Buffers of datagrams that came in last, by a part of the number of their flow. See [`crate::datagrams`].
#[map]
pub static BATCHES_CAME: PerCpuArray<Batch> = PerCpuArray::with_max_entries(datagrams::FLOWS, 0);
/// Which of them came in last.
#[map]
pub static LAST_BATCH: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// Forwarded packets that an upper interface has queued, by the address of their buffer and by that of
/// their network header.
#[map]
pub static QUEUED: LruHashMap<u64, u32> = LruHashMap::with_max_entries(limits::QUEUED_ENTRIES, 0);

/// Calls between a function's entry, or a cgroup hook, and its return, by thread (`pid_tgid`). See
/// [`crate::calls`].
#[map]
pub static CALLS: HashMap<u64, Call> = HashMap::with_max_entries(limits::CALL_ENTRIES, 0);

/// Whom sockets without ports and peer hear, by cookie. See [`crate::peer`].
#[map]
pub static HEARD: LruHashMap<u64, Heard> = LruHashMap::with_max_entries(limits::HEARD_ENTRIES, 0);

/// Records for user space.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(limits::RING_BYTES, 0);

/// One element: the current epoch. User space counts it up; each entry tells at most once in it.
#[map]
pub static EPOCH: Array<u32> = Array::with_max_entries(1, 0);

/// Counters by [`Loss`].
#[map]
pub static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Loss::COUNT, 0);

/// One element: bits of [`crate::sight`].
#[map]
pub static SIGHTS: Array<u32> = Array::with_max_entries(1, 0);

/// One element: the last change that the first program of states took up.
#[map]
pub static LAST_STATE_CHANGE: PerCpuArray<StateChange> = PerCpuArray::with_max_entries(1, 0);

/// Where an exec record is put together; it is larger than the stack.
#[map]
pub static EXEC_SCRATCH: PerCpuArray<ExecRecord> = PerCpuArray::with_max_entries(1, 0);

/// The current epoch; never 0, which marks an entry that never told.
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
