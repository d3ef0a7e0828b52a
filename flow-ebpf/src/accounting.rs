//! Bytes of processes and of sockets.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::bindings::BPF_NOEXIST;
use flow_common::{
    AppCounters, AppKey, IpAddress, Loss, ProcessKey, RecordKind, SocketEntry, protocol,
    record::AppRecord, traffic::socket_kind,
};

use crate::{
    atomic,
    inflight::{Dir, Peer},
    kernel::{Address, SockCommon, is_inet},
    maps::{APP, OVERFLOW, RING, SOCKETS, epoch, lose},
    packet::Packet,
    peer,
    process::{self, Current},
    record, socket, socket_id, stream,
};

static NO_APP: AppCounters = AppCounters {
    tx_bytes: 0,
    rx_bytes: 0,
    tx_calls: 0,
    rx_calls: 0,
    cgroup: 0,
    uid: 0,
    epoch: 0,
    kind: socket_kind::UNKNOWN,
    counted: 0,
    shared: 0,
    at_queue: 0,
};

/// Adds what one call returned, for the current process. `own_peer` finds the call's own peer, where
/// it is a datagram's, by the thread. Call it in process context only, and for sockets that have a
/// place in [`APP`].
///
/// Nearly every call is one more of a socket that has an entry. Each call of a helper costs more
/// than all the arithmetic between two of them, so what the entry says is not read from the socket
/// again.
#[inline(always)]
pub fn app(
    sk: Address,
    common: &SockCommon,
    dir: Dir,
    bytes: u64,
    own_peer: impl Fn(&SockCommon, u64) -> Option<Peer>,
) {
    let Some(Current { process, thread }) = process::current_thread() else {
        lose(Loss::ReadFault, 1);
        return;
    };
    let cookie = common.cookie();
    let mut storage = MaybeUninit::uninit();
    let key = key(&mut storage, cookie, process, common);
    let mut entry = ptr::null_mut();
    let mut asked = false;
    if cookie != 0 {
        // Of a stream this may be nonsense; then nothing is found.
        if key.remote_known == 0 {
            let peer = match own_peer(common, thread) {
                None if dir == Dir::Rx => peer::take_sender(cookie, sk),
                peer => peer,
            };
            name_remote(key, peer, dir, common);
            asked = true;
        }
        entry = look_up(key);
        if !asked && matches!(kind(entry), socket_kind::DATAGRAM | socket_kind::PORTLESS) {
            if name_remote(key, own_peer(common, thread), dir, common) {
                entry = look_up(key);
            }
            asked = true;
        }
    }
    match kind(entry) {
        // Nothing moved: the end of a stream, or an empty write. An empty datagram is a call that
        // counts.
        socket_kind::STREAM if bytes == 0 => return,
        socket_kind::STREAM | socket_kind::DATAGRAM => {}
        socket_kind::PORTLESS if key.remote_known != 0 => {}
        _ => {
            let protocol = socket::protocol(sk);
            let is_inet = is_inet(common.family());
            if is_inet && protocol::has_stream(protocol) {
                if bytes == 0 {
                    return;
                }
                set_remote(key, common);
            } else if is_inet {
                if !asked {
                    name_remote(key, own_peer(common, thread), dir, common);
                }
                if !protocol::has_ports(protocol) {
                    // Calls may name one; it is ignored.
                    key.remote_port = 0;
                }
            }
            key.cookie = socket_id::id(sk, common, protocol);
            entry = find(key);
        }
    }
    if entry.is_null() {
        if dir == Dir::Rx {
            if is_tracked(key.cookie) && stream::is_counted_at_queue(sk) {
                return;
            }
            read_elsewhere(key.cookie, bytes);
        }
        lose(Loss::AppFull, 1);
        overflow(process, dir, bytes);
        return;
    }
    if dir == Dir::Rx {
        // SAFETY: the entry is live.
        let (shared, at_queue) = unsafe { ((*entry).shared, (*entry).at_queue) };
        if at_queue != 0 && stream::is_counted_at_queue(sk) {
            return; // counted when they left the queue
        }
        if shared != 0 {
            read_elsewhere(key.cookie, bytes);
        }
    }
    add(entry, dir, bytes);
    // SAFETY: the entry is live.
    if unsafe { (*entry).epoch } != epoch() {
        emit(sk, common, key, entry);
    }
}

/// Bytes left a TCP socket's receive queue while `process` held its lock, and no call will report
/// them: counts what is not counted yet.
#[inline(always)]
pub fn taken_from_queue(sk: Address, common: &SockCommon, process: ProcessKey) -> Option<()> {
    let id = socket_id::id(sk, common, protocol::TCP);
    let socket = socket::entry(id)?;
    let taken = stream::taken(sk)?;
    let mut storage = MaybeUninit::uninit();
    let key = key(&mut storage, id, process, common);
    set_remote(key, common);
    // SAFETY: the entries are live. Whoever else takes from this socket waits for its lock; a call
    // that has taken and not returned yet is made up for by the next count.
    let bytes = unsafe {
        let user = (*socket).user;
        let mut counted = (*socket).others_rx_bytes;
        let mut is_known = (*socket).uncounted_rx_bytes != SocketEntry::NOT_KNOWN;
        if user.tgid != 0 {
            key.start = user.start;
            key.tgid = user.tgid;
            let first = look_up(key);
            if first.is_null() {
                // It has ended, and its count with it.
                (*socket).user = NOBODY;
                is_known = user.start == NOBODY.start && is_known;
            } else {
                counted += (*first).rx_bytes;
            }
            key.start = process.start;
            key.tgid = process.tgid;
        } else {
            // It may have moved bytes while its socket had no entry.
            let own = look_up(key);
            if !own.is_null() {
                (*socket).user = process;
                counted += (*own).rx_bytes;
            }
        }
        if !is_known {
            (*socket).uncounted_rx_bytes = taken.wrapping_sub(counted);
            return None;
        }
        taken
            .wrapping_sub((*socket).uncounted_rx_bytes)
            .wrapping_sub(counted)
    };
    if bytes == 0 || bytes >> 63 != 0 {
        return None;
    }
    let entry = find(key);
    if entry.is_null() {
        lose(Loss::AppFull, 1);
        overflow(process, Dir::Rx, bytes);
        read_elsewhere(id, bytes);
        return None;
    }
    // SAFETY: the entry is live.
    let (shared, last) = unsafe {
        (*entry).at_queue = 1;
        ((*entry).shared, (*entry).epoch)
    };
    if shared != 0 {
        read_elsewhere(id, bytes);
    }
    add(entry, Dir::Rx, bytes);
    if last != epoch() {
        emit(sk, common, key, entry);
    }
    Some(())
}

/// A program of the kernel took bytes of a stream: what is taken next is not known to be all that is
/// not counted.
#[inline(always)]
pub fn lose_track(sk: Address, common: &SockCommon) -> Option<()> {
    let id = socket_id::known_id(sk, common, protocol::TCP)?;
    let socket = SOCKETS.get_ptr_mut(id)?;
    // SAFETY: a live map value.
    unsafe { (*socket).uncounted_rx_bytes = SocketEntry::NOT_KNOWN };
    Some(())
}

/// Whether it is known how much of a socket's stream was read and not counted.
#[inline(always)]
fn is_tracked(id: u64) -> bool {
    SOCKETS.get_ptr(id).is_some_and(|socket| {
        // SAFETY: a live map value.
        unsafe { (*socket).uncounted_rx_bytes != SocketEntry::NOT_KNOWN }
    })
}

/// Stands for the first user of a socket when that has ended.
const NOBODY: ProcessKey = ProcessKey {
    start: u64::MAX,
    tgid: u32::MAX,
    padding: 0,
};

/// Bytes of a stream were read that do not stand in the entry of its first user.
#[inline(always)]
fn read_elsewhere(id: u64, bytes: u64) {
    if let Some(socket) = SOCKETS.get_ptr_mut(id) {
        // SAFETY: a live map value.
        unsafe { atomic::add(&raw mut (*socket).others_rx_bytes, bytes) };
    }
}

/// The entry, or null. Not an `Option`: the verifier does not know that its pointer is not read
/// where there is none.
#[inline(always)]
fn look_up(key: &AppKey) -> *mut AppCounters {
    APP.get_ptr_mut(key).unwrap_or(ptr::null_mut())
}

/// What an entry says of its socket.
#[inline(always)]
fn kind(entry: *const AppCounters) -> u32 {
    if entry.is_null() {
        socket_kind::UNKNOWN
    } else {
        // SAFETY: the entry is live.
        unsafe { (*entry).kind }
    }
}

/// Finds the entry, or makes it; null if there is no room.
#[inline(always)]
fn find(key: &mut AppKey) -> *mut AppCounters {
    let mut entry = look_up(key);
    if entry.is_null() && key.remote_known != 0 && !socket::takes_remote(key.cookie) {
        key.remote = IpAddress::NONE;
        key.remote_port = 0;
        key.remote_known = 0;
        key.zone = 0;
        entry = look_up(key);
    }
    if !entry.is_null() {
        return entry;
    }
    // Another CPU may insert at the same moment: then its entry is the one to add to.
    let is_new = APP.insert(*key, &NO_APP, u64::from(BPF_NOEXIST)).is_ok();
    entry = look_up(key);
    if is_new && key.remote_known != 0 && !entry.is_null() && socket::count_remote(key.cookie) {
        // SAFETY: the entry is live, and user space deletes it no sooner than this call has ended.
        unsafe { (*entry).counted = 1 };
    }
    entry
}

/// The key of what `process` moves between a socket and its peer, if it has one, in `storage`.
#[inline(always)]
fn key<'a>(
    storage: &'a mut MaybeUninit<AppKey>,
    cookie: u64,
    process: ProcessKey,
    common: &SockCommon,
) -> &'a mut AppKey {
    let key = storage.as_mut_ptr();
    // SAFETY: all of the storage is written, the port and its flag as one word.
    let key = unsafe {
        (&raw mut (*key).cookie).write(cookie);
        (&raw mut (*key).start).write(process.start);
        (&raw mut (*key).tgid).write(process.tgid);
        (&raw mut (*key).remote_port)
            .cast::<u32>()
            .write_volatile(0);
        clear((&raw mut (*key).remote).cast());
        (&raw mut (*key).zone).cast::<u64>().write_volatile(0);
        storage.assume_init_mut()
    };
    if common.has_remote() {
        key.remote = common.remote();
        key.remote_port = common.remote_port();
        key.remote_known = 1;
        key.zone = common.zone();
    }
    key
}

/// Clears two words. Volatile: the compiler would make a call of it that clears byte by byte.
///
/// # Safety
/// They may be written.
#[inline(always)]
unsafe fn clear(words: *mut u64) {
    // SAFETY: the caller's.
    unsafe {
        words.write_volatile(0);
        words.add(1).write_volatile(0);
    }
}

/// The peer of a stream's socket.
#[inline(always)]
fn set_remote(key: &mut AppKey, common: &SockCommon) {
    key.remote_port = common.remote_port();
    if key.remote_port != 0 {
        key.remote = common.remote();
        key.remote_known = 1;
        key.zone = common.zone();
    } else {
        key.remote = IpAddress::NONE;
        key.remote_known = 0;
        key.zone = 0;
    }
}

/// The call's own peer, if it has one.
#[inline(always)]
fn name_remote(key: &mut AppKey, peer: Option<Peer>, dir: Dir, common: &SockCommon) -> bool {
    let Some(peer) = peer else {
        return false;
    };
    key.remote = peer.address;
    key.remote_port = peer.port;
    key.remote_known = 1;
    key.zone = peer.zone;
    // Who sends from no address has none (DHCP).
    let is_meant = dir == Dir::Tx && peer.address.is_unspecified();
    if is_meant || peer.zone == 0 && peer.address.has_zone() {
        let (address, zone) = peer::settled(peer.address, common);
        key.remote = address;
        key.zone = zone;
    }
    true
}

#[inline(always)]
fn add(entry: *mut AppCounters, dir: Dir, bytes: u64) {
    // SAFETY: the entry is a live map value.
    unsafe {
        match dir {
            Dir::Tx => {
                atomic::add(&raw mut (*entry).tx_bytes, bytes);
                atomic::add(&raw mut (*entry).tx_calls, 1);
            }
            Dir::Rx => {
                atomic::add(&raw mut (*entry).rx_bytes, bytes);
                atomic::add(&raw mut (*entry).rx_calls, 1);
            }
        }
    }
}

/// Brings an entry and its socket's up to date, and sends copies of both to user space.
#[inline(always)]
fn emit(sk: Address, common: &SockCommon, key: &AppKey, entry: *mut AppCounters) {
    let protocol = socket::protocol(sk);
    let kind = if !is_inet(common.family()) || key.cookie != common.cookie() {
        socket_kind::UNKNOWN
    } else if protocol::has_stream(protocol) {
        socket_kind::STREAM
    } else if protocol::has_ports(protocol) {
        socket_kind::DATAGRAM
    } else {
        socket_kind::PORTLESS
    };
    // SAFETY: the entry is live; a race on its epoch costs one more or one fewer record.
    unsafe {
        (*entry).epoch = epoch();
        (*entry).uid = process::current_uid();
        (*entry).cgroup = process::current_cgroup();
        (*entry).kind = kind;
    }
    socket::used(sk, common, protocol, key.cookie, key.process(), entry);
    let Some(mut record) = RING.reserve::<AppRecord>(0) else {
        lose(Loss::RingTraffic, 1);
        return;
    };
    // SAFETY: the entry is a live map value, and the record has room for an AppRecord.
    unsafe {
        let record = record.as_mut_ptr();
        (*record).header = record::header(RecordKind::App);
        (*record).key = *key;
        (*record).counters = *entry;
        (*record).comm = process::current_name();
    }
    record.submit(0);
}

/// Adds to the process's own entry what found no entry of its flow.
#[inline(always)]
fn overflow(process: ProcessKey, dir: Dir, bytes: u64) {
    let mut entry = OVERFLOW.get_ptr_mut(process);
    if entry.is_none() {
        // Another CPU may have made it: the look-up finds either.
        let _ = OVERFLOW.insert(process, &NO_APP, u64::from(BPF_NOEXIST));
        entry = OVERFLOW.get_ptr_mut(process);
    }
    match entry {
        Some(entry) => add(entry, dir, bytes),
        None if dir == Dir::Tx => lose(Loss::OverflowFullTx, bytes),
        None => lose(Loss::OverflowFullRx, bytes),
    }
}

/// Adds a packet to its socket's wire counters.
#[inline(always)]
pub fn wire(entry: *mut SocketEntry, dir: Dir, packet: &Packet) {
    let bytes = packet.bytes + packet.header_bytes;
    // SAFETY: the entry is a live map value.
    unsafe {
        match dir {
            Dir::Tx => {
                atomic::add(&raw mut (*entry).wire_tx_bytes, bytes);
                atomic::add(&raw mut (*entry).wire_tx_packets, packet.frames);
            }
            Dir::Rx => {
                atomic::add(&raw mut (*entry).wire_rx_bytes, bytes);
                atomic::add(&raw mut (*entry).wire_rx_packets, packet.frames);
            }
        }
    }
}
