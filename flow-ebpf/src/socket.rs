//! Entries of sockets, and their records.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{BPF_NOEXIST, bpf_sock},
    helpers::generated::bpf_sk_fullsock,
};
use flow_common::{
    AppCounters, IpAddress, Loss, ProcessKey, RecordKind, SocketEntry, limits::REMOTES_PER_SOCKET,
    protocol, record::SocketRecord, tcp_state, traffic::direction,
};

use crate::{
    atomic, clock,
    kernel::{
        self, AF_INET, AF_INET6, Address, SK_PROTOCOL, SK_TYPE, SKC_FAMILY, SockCommon,
        TCP_MIN_RTT, TCP_SRTT_US, TCP_TOTAL_RETRANS,
    },
    maps::{FREED_REMOTES, RING, SOCKETS, epoch, lose},
    record,
};

pub const SOCK_RAW: u32 = 3;

static NO_SOCKET: SocketEntry = SocketEntry {
    wire_tx_bytes: 0,
    wire_rx_bytes: 0,
    wire_tx_packets: 0,
    wire_rx_packets: 0,
    seen: 0,
    owner: ProcessKey {
        start: 0,
        tgid: 0,
        padding: 0,
    },
    user: ProcessKey {
        start: 0,
        tgid: 0,
        padding: 0,
    },
    others_rx_bytes: 0,
    uncounted_rx_bytes: SocketEntry::NOT_KNOWN,
    local: IpAddress::NONE,
    remote: IpAddress::NONE,
    local_port: 0,
    remote_port: 0,
    family: 0,
    unasked: 0,
    protocol: 0,
    netns: 0,
    ifindex: 0,
    epoch: 0,
    rtt_us: 0,
    min_rtt_us: 0,
    retransmits: 0,
    remotes: 0,
    error: 0,
    guarded: 0,
    zone: 0,
    state: tcp_state::CLOSE,
    direction: direction::UNKNOWN,
    released: 0,
    closed: 0,
};

/// Whether a socket's protocol has a sendpage of its own, before 6.5: TCP, and UDP over IPv4. For
/// others `inet_sendpage` goes on to `inet_sendmsg`, which counts.
#[inline(always)]
pub fn has_sendpage(sk: Address) -> bool {
    let protocol = protocol(sk);
    let is_udp = protocol == protocol::UDP || protocol == protocol::UDPLITE;
    protocol == protocol::TCP || is_udp && kernel::read(sk, &SKC_FAMILY) == Some(AF_INET)
}

/// The protocol of a socket; see [`shown_protocol`].
#[inline(always)]
pub fn protocol(sk: Address) -> u16 {
    // The two stand side by side, and one read is enough.
    let [kind, protocol] = if SK_PROTOCOL.load() == SK_TYPE.load() + 2 {
        kernel::read::<[u16; 2]>(sk, &SK_TYPE).unwrap_or([0; 2])
    } else {
        let kind = kernel::read(sk, &SK_TYPE).unwrap_or(0);
        [kind, kernel::read(sk, &SK_PROTOCOL).unwrap_or(0)]
    };
    shown_protocol(u32::from(kind), protocol)
}

/// A raw socket of a protocol with ports has neither these nor its states: it is one of raw IP.
#[inline(always)]
pub fn shown_protocol(kind: u32, protocol: u16) -> u16 {
    if kind == SOCK_RAW && protocol::has_ports(protocol) {
        protocol::RAW
    } else {
        protocol
    }
}

/// Whether a packet's socket is a raw one.
#[inline(always)]
pub fn is_raw(sock: *const bpf_sock) -> bool {
    // SAFETY: the helper takes any socket of a packet; a full socket's field, after the check that
    // there is one.
    unsafe {
        let full = bpf_sk_fullsock(sock.cast_mut());
        !full.is_null() && (*full).type_ == SOCK_RAW
    }
}

/// Finds a socket's entry, or makes an empty one. `None` if the map is full.
#[inline(always)]
pub fn entry(id: u64) -> Option<*mut SocketEntry> {
    if let Some(entry) = SOCKETS.get_ptr_mut(id) {
        return Some(entry);
    }
    // Another CPU may insert at the same moment; either entry will do.
    let _ = SOCKETS.insert(id, &NO_SOCKET, u64::from(BPF_NOEXIST));
    let Some(entry) = SOCKETS.get_ptr_mut(id) else {
        lose(Loss::SocketFull, 1);
        return None;
    };
    // SAFETY: a live map value.
    unsafe { (*entry).seen = clock::now() };
    Some(entry)
}

/// Whether a socket has room for a further remote that is counted by itself.
#[inline(always)]
pub fn takes_remote(id: u64) -> bool {
    let Some(entry) = SOCKETS.get_ptr(id) else {
        return true; // its first use: the entry comes next
    };
    // SAFETY: a live map value; a race lets in a few more.
    let made = unsafe { (*entry).remotes };
    if made < REMOTES_PER_SOCKET {
        return true;
    }
    // SAFETY: user space replaces the value as a whole.
    let freed = unsafe { FREED_REMOTES.get(id) }.copied().unwrap_or(0);
    // More were freed than made where the entry is younger than its keys.
    made.wrapping_sub(freed).cast_signed() < REMOTES_PER_SOCKET.cast_signed()
}

/// Counts a key that names a remote; whether its socket has an entry for that.
#[inline(always)]
pub fn count_remote(id: u64) -> bool {
    let Some(entry) = SOCKETS.get_ptr_mut(id) else {
        return false;
    };
    // SAFETY: a live map value.
    unsafe { atomic::increment(&raw mut (*entry).remotes) };
    true
}

/// A process received a datagram without asking for its sender: notes those of the next ones.
#[inline(always)]
pub fn note_senders(id: u64) {
    if let Some(entry) = SOCKETS.get_ptr_mut(id) {
        // SAFETY: a live map value.
        unsafe { (*entry).unasked = 1 };
    }
}

/// A process used a socket: brings its entry up to date and emits it. `app` are the counters of what
/// the process moved.
#[inline(always)]
pub fn used(
    sk: Address,
    common: &SockCommon,
    protocol: u16,
    id: u64,
    process: ProcessKey,
    app: *mut AppCounters,
) {
    let Some(entry) = entry(id) else {
        return;
    };
    // SAFETY: live map values.
    unsafe {
        if (*entry).owner.tgid == 0 {
            (*entry).owner = process;
        }
        if (*entry).user.tgid == 0 {
            (*entry).user = process;
        }
        let is_first = (*entry).user.start == process.start && (*entry).user.tgid == process.tgid;
        if protocol == protocol::TCP && !is_first && (*app).shared == 0 {
            (*app).shared = 1;
            atomic::add(&raw mut (*entry).others_rx_bytes, (*app).rx_bytes);
        }
    }
    refresh(sk, common, protocol, entry);
    emit(id, entry, RecordKind::Socket);
}

/// Copies what the kernel knows of a socket into its entry.
#[inline(always)]
pub fn refresh(sk: Address, common: &SockCommon, protocol: u16, entry: *mut SocketEntry) {
    // SAFETY: a live map value.
    unsafe {
        (*entry).family = common.family() as u8;
        (*entry).protocol = protocol;
        (*entry).state = common.state();
        // When a connection closes, the kernel may clear the addresses; the last ones are the ones
        // to keep. A datagram socket that was disconnected has no peer any more.
        if common.local_port() != 0 {
            (*entry).local_port = common.local_port();
            (*entry).local = common.local();
        }
        if common.remote_port() != 0 || !protocol::has_states(protocol) {
            (*entry).remote_port = common.remote_port();
            (*entry).remote = common.remote();
            (*entry).zone = common.zone();
        }
        if (*entry).netns == 0 {
            (*entry).netns = common.netns();
        }
        if protocol == protocol::TCP {
            // srtt_us is kept times eight.
            (*entry).rtt_us = kernel::read::<u32>(sk, &TCP_SRTT_US).unwrap_or(0) >> 3;
            (*entry).min_rtt_us = kernel::read(sk, &TCP_MIN_RTT).unwrap_or(0);
            (*entry).retransmits = kernel::read(sk, &TCP_TOTAL_RETRANS).unwrap_or(0);
        }
    }
}

/// Why a packet's socket has no entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NoEntry {
    /// It is the kernel's own: no process made it.
    Kernel,
    /// The map is full.
    Full,
}

/// Inode number of the network namespace of a packet's socket; 0 where it can't be read.
#[inline(always)]
pub fn netns(sock: *const bpf_sock) -> u32 {
    let mut storage = MaybeUninit::uninit();
    // The verifier takes the pointer as an address as long as nothing is added to it.
    SockCommon::copy(sock as Address, &mut storage).map_or(0, SockCommon::netns)
}

/// The entry for a packet's socket, made from the packet's view of it if it is new.
#[inline(always)]
pub fn of_packet(id: u64, sock: *mut bpf_sock, ifindex: u32) -> Result<*mut SocketEntry, NoEntry> {
    let known = SOCKETS.get_ptr_mut(id);
    if let Some(entry) = known {
        // SAFETY: a live map value.
        let was_emitted = unsafe {
            (*entry).ifindex = ifindex;
            if (*entry).netns == 0 {
                // Another CPU has just made it.
                (*entry).netns = netns(sock);
            }
            (*entry).epoch != 0
        };
        if was_emitted {
            return Ok(entry);
        }
    }
    // SAFETY: the caller has checked that it is not null.
    let sock = unsafe { bpf_sk_fullsock(sock) };
    if let Some(entry) = known {
        if !sock.is_null() {
            // Its first packet emits it, before its call returns: with the addresses it has by now.
            // SAFETY: a live map value and a full socket.
            unsafe { identify(entry, sock) };
        }
        return Ok(entry);
    }
    // cgroup_skb runs for full sockets only; the verifier does not know. The kernel sends ICMP and
    // neighbour discovery from raw sockets of its own. Those of processes have an entry since they
    // were made, or since the first call.
    // SAFETY: a full socket's field, after the check that there is one.
    if sock.is_null() || unsafe { (*sock).type_ } == SOCK_RAW {
        return Err(NoEntry::Kernel);
    }
    let Some(entry) = entry(id) else {
        return Err(NoEntry::Full);
    };
    // SAFETY: a live map value and a full socket.
    unsafe {
        (*entry).ifindex = ifindex;
        (*entry).netns = netns(sock);
        identify(entry, sock);
        if (*entry).state == tcp_state::CLOSE && protocol::has_states((*entry).protocol) {
            // The last packet of a socket that was deleted: nothing else will end it.
            (*entry).released = 1;
            (*entry).closed = 1;
        }
    }
    Ok(entry)
}

/// Copies what a packet's program sees of its socket.
///
/// # Safety
/// `entry` is a live map value, `sock` a full socket.
#[inline(always)]
unsafe fn identify(entry: *mut SocketEntry, sock: *const bpf_sock) {
    // SAFETY: the caller's promise.
    unsafe {
        let family = (*sock).family as u16;
        (*entry).family = family as u8;
        (*entry).protocol = shown_protocol((*sock).type_, (*sock).protocol as u16);
        (*entry).state = (*sock).state as u8;
        (*entry).local_port = (*sock).src_port as u16;
        (*entry).remote_port = u16::from_be((*sock).dst_port);
        if family == AF_INET6 {
            (*entry).local = address6(&raw const (*sock).src_ip6);
            (*entry).remote = address6(&raw const (*sock).dst_ip6);
            (*entry).zone = if (*entry).remote.has_zone() {
                (*sock).bound_dev_if
            } else {
                0
            };
        } else {
            (*entry).local = IpAddress::mapped((*sock).src_ip4);
            (*entry).remote = IpAddress::mapped((*sock).dst_ip4);
        }
    }
}

/// Emits the entry of a packet's socket, once in an epoch.
#[inline(always)]
pub fn emit_once_per_epoch(id: u64, entry: *mut SocketEntry) {
    // SAFETY: a live map value.
    if unsafe { (*entry).epoch } != epoch() {
        emit(id, entry, RecordKind::Socket);
    }
}

/// Reads an IPv6 address from a context, word by word as the verifier wants it.
///
/// # Safety
/// `words` points into a context where it may be read.
#[inline(always)]
pub unsafe fn address6(words: *const [u32; 4]) -> IpAddress {
    let words = words.cast::<u32>();
    // SAFETY: the caller's promise. Volatile, or the compiler would merge two words into one read.
    let address = unsafe {
        [
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ]
    };
    // SAFETY: sixteen bytes of integers are sixteen bytes.
    unsafe { core::mem::transmute::<[u32; 4], IpAddress>(address) }
}

/// Emits a copy of an entry to user space.
#[inline(always)]
pub fn emit(cookie: u64, entry: *mut SocketEntry, kind: RecordKind) {
    // SAFETY: a live map value. Marked first, so that what happens from here on is emitted again.
    unsafe { (*entry).epoch = epoch() };
    let Some(mut record) = RING.reserve::<SocketRecord>(0) else {
        lose(Loss::RingTraffic, 1);
        return;
    };
    // SAFETY: the record has room for a SocketRecord.
    unsafe {
        let record = record.as_mut_ptr();
        (*record).header = record::header(kind);
        (*record).cookie = cookie;
        (*record).socket = *entry;
    }
    record.submit(0);
}
