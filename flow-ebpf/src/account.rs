//! The only place that adds bytes.

use aya_ebpf::bindings::BPF_NOEXIST;
use flow_common::{
    AppCounters, AppKey, InterfaceKey, Loss, ProcessKey, RecordKind, SocketState,
    interface::{Class, Direction},
    record::AppRecord,
};

use crate::{
    atomic,
    kernel::{Address, SockCommon},
    maps::{APP, INTERFACES, OVERFLOW, RING, epoch, lose},
    packet::Packet,
    process, socket,
};

/// Which way bytes went, seen from the process or socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Sent,
    Received,
}

/// The peer of one call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Peer {
    pub address: [u8; 16],
    /// Host byte order.
    pub port: u16,
}

/// A call between its entry and its return.
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
    pub padding: [u8; 3],
}

static NO_APP: AppCounters = AppCounters {
    tx_bytes: 0,
    rx_bytes: 0,
    tx_calls: 0,
    rx_calls: 0,
    cgroup: 0,
    uid: 0,
    epoch: 0,
};

/// Adds what one call moved, for the current process. Call it in process context only.
#[inline(always)]
pub fn app(
    sk: Address,
    common: &SockCommon,
    protocol: u16,
    way: Way,
    bytes: u64,
    peer: Option<Peer>,
) {
    let Some(process) = process::current() else {
        lose(Loss::ReadFault, 1);
        return;
    };
    let cookie = socket::id(sk, common, protocol);
    let mut key = AppKey {
        cookie,
        start: process.start,
        tgid: process.tgid,
        remote_port: 0,
        remote_known: 0,
        remote: [0; 16],
    };
    if let Some(peer) = peer {
        key.remote = peer.address;
        key.remote_port = peer.port;
        key.remote_known = 1;
    } else if common.remote_port() != 0 {
        key.remote = common.remote();
        key.remote_port = common.remote_port();
        key.remote_known = 1;
    }
    let mut is_new = false;
    let mut entry = APP.get_ptr_mut(key);
    if entry.is_none() && key.remote_known != 0 && !socket::takes_remote(cookie) {
        key.remote = [0; 16];
        key.remote_port = 0;
        key.remote_known = 0;
        entry = APP.get_ptr_mut(key);
    }
    if entry.is_none() {
        // Another CPU may insert at the same moment: then its entry is the one to add to.
        is_new = APP.insert(key, &NO_APP, u64::from(BPF_NOEXIST)).is_ok();
        entry = APP.get_ptr_mut(key);
    }
    let Some(entry) = entry else {
        lose(Loss::AppFull, 1);
        overflow(process, way, bytes);
        return;
    };
    add(entry, way, bytes);
    let now = epoch();
    // SAFETY: the entry is live; a race on its epoch costs one more or one fewer record.
    if unsafe { (*entry).epoch } != now {
        // SAFETY: as above.
        unsafe {
            (*entry).epoch = now;
            (*entry).uid = process::current_uid();
            (*entry).cgroup = process::current_cgroup();
        }
        socket::used(sk, common, protocol, cookie, process);
        tell(&key, entry, is_new);
    }
}

#[inline(always)]
fn add(entry: *mut AppCounters, way: Way, bytes: u64) {
    // SAFETY: the entry is a live map value.
    unsafe {
        match way {
            Way::Sent => {
                atomic::add(&raw mut (*entry).tx_bytes, bytes);
                atomic::add(&raw mut (*entry).tx_calls, 1);
            }
            Way::Received => {
                atomic::add(&raw mut (*entry).rx_bytes, bytes);
                atomic::add(&raw mut (*entry).rx_calls, 1);
            }
        }
    }
}

/// Sends a copy of an entry to user space.
#[inline(always)]
fn tell(key: &AppKey, entry: *mut AppCounters, is_new: bool) {
    let Some(mut record) = RING.reserve::<AppRecord>(0) else {
        lose(Loss::RingTraffic, 1);
        return;
    };
    let kind = if is_new {
        RecordKind::AppNew
    } else {
        RecordKind::AppUpdate
    };
    // SAFETY: the entry is a live map value, and the record has room for an AppRecord.
    unsafe {
        let record = record.as_mut_ptr();
        (*record).header = process::header(kind);
        (*record).key = *key;
        (*record).counters = *entry;
        (*record).comm = process::current_comm();
    }
    record.submit(0);
}

/// Adds to the process's own entry what found no entry of its flow.
#[inline(always)]
fn overflow(process: ProcessKey, way: Way, bytes: u64) {
    let mut entry = OVERFLOW.get_ptr_mut(process);
    if entry.is_none() {
        // The entry may be another CPU's; the lookup tells.
        let _ = OVERFLOW.insert(process, &NO_APP, u64::from(BPF_NOEXIST));
        entry = OVERFLOW.get_ptr_mut(process);
    }
    match entry {
        Some(entry) => add(entry, way, bytes),
        None if way == Way::Sent => lose(Loss::OverflowFullTx, bytes),
        None => lose(Loss::OverflowFullRx, bytes),
    }
}

/// Adds a packet to its socket's wire counters.
#[inline(always)]
pub fn wire(entry: *mut SocketState, way: Way, packet: &Packet) {
    let bytes = packet.bytes + packet.header_bytes;
    // SAFETY: the entry is a live map value.
    unsafe {
        match way {
            Way::Sent => {
                atomic::add(&raw mut (*entry).wire_tx_bytes, bytes);
                atomic::add(&raw mut (*entry).wire_tx_packets, packet.frames);
            }
            Way::Received => {
                atomic::add(&raw mut (*entry).wire_rx_bytes, bytes);
                atomic::add(&raw mut (*entry).wire_rx_packets, packet.frames);
            }
        }
    }
}

/// Adds a packet to an interface's counters of the given classes. Packets of interfaces that the
/// loader did not choose are not counted.
#[inline(always)]
pub fn frame(ifindex: u32, direction: Direction, classes: &[Class], packet: &Packet) {
    let key = InterfaceKey {
        ifindex,
        direction: direction as u32,
    };
    let Some(counters) = INTERFACES.get_ptr_mut(key) else {
        return;
    };
    for class in classes {
        // SAFETY: a class is an index into the array. Atomic, because a packet in a softirq may
        // interrupt the count of one sent in process context.
        unsafe {
            let count = (&raw mut (*counters).classes)
                .cast::<flow_common::PacketCount>()
                .add(*class as usize);
            atomic::add(&raw mut (*count).packets, packet.buffers);
            atomic::add(&raw mut (*count).bytes, packet.bytes);
            atomic::add(&raw mut (*count).frames, packet.frames);
            atomic::add(&raw mut (*count).header_bytes, packet.header_bytes);
        }
    }
}
