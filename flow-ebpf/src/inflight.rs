//! Notes from a function's entry, or a cgroup hook, to the same call's return.
//!
//! A thread's note stays in the map when it was taken, and the next one is written over it: to
//! insert and to delete would cost more than all the rest of a call. It goes with its thread.
//!
//! Nearly every thread has a slot of its own in an array, which takes no helper call to find. Of
//! two threads whose ids end alike the first has the slot, the other an entry of [`CALLS`].

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, HashMap},
};
use flow_common::{IpAddress, Loss, limits};

use crate::maps::lose;

/// Calls between a function's entry, or a cgroup hook, and its return, by thread (`pid_tgid`): of
/// threads without a slot.
#[map]
pub static CALLS: HashMap<u64, Call> = HashMap::with_max_entries(limits::CALL_ENTRIES, 0);

/// The same, by the last bits of the thread's id.
#[map]
pub static CALL_SLOTS: Array<Slot> = Array::with_max_entries(limits::CALL_SLOTS, 0);

/// Which thread has a slot: to insert is to claim it.
#[map]
pub static SLOT_THREADS: HashMap<u32, u64> = HashMap::with_max_entries(limits::CALL_SLOTS, 0);

const HALF_BITS: u32 = limits::CALL_SLOTS.ilog2() / 2;
const _: () = assert!(limits::CALL_SLOTS == 1 << (2 * HALF_BITS));

/// A thread's place for its calls.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Slot {
    /// The thread whose slot it is; 0 if it is nobody's.
    thread: u64,
    /// 1 once a thread found it taken, and has an entry of [`CALLS`].
    is_contested: u64,
    call: Call,
}
// The size of a line of the cache.
const _: () = assert!(size_of::<Slot>() == 64);

/// Direction of bytes, as the process or socket sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dir {
    /// Sent.
    Tx,
    /// Received.
    Rx,
}

/// The peer of one call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Peer {
    pub address: IpAddress,
    /// Host byte order.
    pub port: u16,
    pub padding: u16,
    /// As [`AppKey::zone`].
    pub zone: u32,
}

/// A call under way.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Call {
    /// The socket: its address, or its cookie in the notes of the cgroup hooks.
    pub socket: u64,
    /// Address of the `struct msghdr`, or 0.
    pub message: u64,
    pub peer: Peer,
    /// 1 if `peer` is known.
    pub peer_known: u8,
    /// 1 if the call moves no bytes for good (`MSG_PEEK`) and must not count.
    pub skip: u8,
    /// 1 for a note of a send, 0 of a receive.
    pub is_send: u8,
    /// 1 until the note is taken.
    pub under_way: u8,
    /// 1 if `peer`'s address and zone are those of a packet that the call sent.
    pub from_packet: u8,
    pub padding: u8,
}

impl Call {
    /// Whether a function was entered and its return has not come. Notes of the cgroup hooks may be
    /// left behind, by calls that failed.
    #[inline(always)]
    fn is_missed(&self) -> bool {
        self.under_way != 0 && self.is_of_entry()
    }

    /// Whether it is of a function's entry, not of a cgroup program: only addresses of the kernel's
    /// have the highest bit.
    #[inline(always)]
    pub fn is_of_entry(&self) -> bool {
        self.socket >> 63 != 0
    }
}

/// The slot of a thread. Threads that were made one after the other have slots far apart: those of
/// two processors would share lines of the cache.
#[inline(always)]
const fn slot_of(thread: u64) -> u32 {
    let id = thread as u32 & (limits::CALL_SLOTS - 1);
    (id << HALF_BITS | id >> HALF_BITS) & (limits::CALL_SLOTS - 1)
}

/// The thread's note, taken or not. Only this thread writes it, and it stays as long as the thread.
#[inline(always)]
pub fn find(thread: u64) -> Option<*mut Call> {
    let slot = CALL_SLOTS.get_ptr_mut(slot_of(thread))?;
    // SAFETY: a live map value; whoever else writes to it writes neither this thread's number nor
    // takes it away, and a thread without a slot has set the flag itself.
    unsafe {
        if (*slot).thread == thread {
            return Some(&raw mut (*slot).call);
        }
        if (*slot).is_contested == 0 {
            return None;
        }
    }
    CALLS.get_ptr_mut(thread)
}

/// Keeps a note of the thread's call.
#[inline(always)]
pub fn note(thread: u64, call: &Call) {
    if let Some(known) = find(thread) {
        // SAFETY: see `find`.
        unsafe { *known = *call };
        return;
    }
    let index = slot_of(thread);
    let Some(slot) = CALL_SLOTS.get_ptr_mut(index) else {
        return;
    };
    let is_free = SLOT_THREADS.insert(index, thread, u64::from(BPF_NOEXIST));
    // SAFETY: a live map value. Of the slot only its thread writes more than the flag.
    unsafe {
        if is_free.is_ok() {
            (*slot).call = *call;
            (*slot).thread = thread;
            return;
        }
        (*slot).is_contested = 1;
    }
    if CALLS.insert(thread, call, 0).is_err() {
        lose(Loss::CallFull, 1);
    }
}

/// Whether the thread has a note of a function's entry that was not taken.
#[inline(always)]
pub fn is_noted(thread: u64) -> bool {
    // SAFETY: see `find`.
    find(thread).is_some_and(|call| unsafe { (*call).is_missed() })
}

/// Takes the thread's note; it is good until the next one.
#[inline(always)]
pub fn take<'a>(thread: u64) -> Option<&'a Call> {
    // SAFETY: see `find`.
    let call = unsafe { &mut *find(thread)? };
    if call.under_way == 0 {
        return None;
    }
    call.under_way = 0;
    Some(call)
}

/// The thread ends: drops its note. Whether the return of its last call was missed.
#[inline(always)]
pub fn forget(thread: u64) -> bool {
    // Most threads have none.
    let Some(call) = find(thread) else {
        return false;
    };
    // SAFETY: see `find`.
    let is_missed = unsafe { (*call).is_missed() };
    let index = slot_of(thread);
    match CALL_SLOTS.get_ptr_mut(index) {
        // SAFETY: a live map value, which is this thread's until its entry is removed.
        Some(slot) if unsafe { (*slot).thread == thread } => {
            // SAFETY: as above.
            unsafe { (*slot).thread = 0 };
            let _ = SLOT_THREADS.remove(index);
        }
        _ => {
            let _ = CALLS.remove(thread);
        }
    }
    is_missed
}
