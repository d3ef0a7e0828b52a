//! Notes from a function's entry, or a cgroup hook, to the same call's return.
//!
//! A thread's note stays in the map when it was taken, and the next one is written over it: to
//! insert and to delete would cost more than all the rest of a call. It goes with its thread.

use aya_ebpf::{macros::map, maps::HashMap};
use flow_common::{IpAddress, Loss, limits};

use crate::maps::lose;

/// Calls between a function's entry, or a cgroup hook, and its return, by thread (`pid_tgid`).
#[map]
pub static CALLS: HashMap<u64, Call> = HashMap::with_max_entries(limits::CALL_ENTRIES, 0);

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
    /// Whether it is of a function's entry, not of a cgroup program: only addresses of the kernel's
    /// have the highest bit.
    #[inline(always)]
    pub fn is_of_entry(&self) -> bool {
        self.socket >> 63 != 0
    }
}

/// Keeps a note of the thread's call.
#[inline(always)]
pub fn note(thread: u64, call: &Call) {
    if let Some(entry) = CALLS.get_ptr_mut(thread) {
        // SAFETY: a live map value, which only this thread writes.
        unsafe { *entry = *call };
    } else if CALLS.insert(thread, call, 0).is_err() {
        lose(Loss::CallFull, 1);
    }
}

/// Whether the thread has a note of a function's entry that was not taken.
#[inline(always)]
pub fn is_noted(thread: u64) -> bool {
    // SAFETY: only this thread writes its entry.
    unsafe { CALLS.get(thread) }.is_some_and(|call| call.under_way != 0 && call.is_of_entry())
}

/// Takes the thread's note; it is good until the next one.
#[inline(always)]
pub fn take<'a>(thread: u64) -> Option<&'a Call> {
    let entry = CALLS.get_ptr_mut(thread)?;
    // SAFETY: a live map value, which only this thread writes, and which stays as long as its
    // thread.
    let call = unsafe { &mut *entry };
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
    // SAFETY: only this thread writes its entry.
    let Some(call) = (unsafe { CALLS.get(thread) }) else {
        return false;
    };
    // Those of the cgroup hooks may be left behind, by calls that failed.
    let is_missed = call.under_way != 0 && call.is_of_entry();
    let _ = CALLS.remove(thread);
    is_missed
}
