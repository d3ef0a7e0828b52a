//! The peer of a datagram, where the call does not contain all of it: the packet does.
//!
//! - A call may name no host (`0.0.0.0`, `::`), and the kernel takes this one.
//! - A link-local address may come without its zone, and the kernel chooses the interface.
//! - The tracepoints do not see the message of a call, and no cgroup program runs for the addresses
//!   of raw and ping sockets.
//! - Who receives without asking gets no address (`recv`).
//!
//! A packet passes `cgroup_skb` on its way out in the context of its sender, who finds what it
//! notes ([`inflight`]) when the call returns. On its way in it is queued: [`SENDERS`] keeps its
//! source until it is read. A queue's order is not known for certain (datagrams may be dropped from
//! it, or come on two CPUs at once), so a sender is known as long as all that wait are its own.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_NOEXIST, bpf_sock},
    helpers::{bpf_get_current_pid_tgid, generated::bpf_jiffies64},
    macros::map,
    maps::LruHashMap,
};
use flow_common::{
    IpAddress, SocketEntry, limits,
    protocol::{has_ports, has_states},
};

use crate::{
    atomic, bytes,
    inflight::{self, Call, Dir, Peer},
    kernel::{self, Address, ESTABLISHED, SK_RMEM_ALLOC, SockCommon},
    link::LOOPBACK_IFINDEX,
    process, socket,
};

/// Senders of the datagrams that wait at sockets: those without ports and peer, and those that were
/// read without asking. By cookie.
#[map]
pub static SENDERS: LruHashMap<u64, Senders> =
    LruHashMap::with_max_entries(limits::SENDER_ENTRIES, 0);

/// Ticks of the kernel (0.1 to 1 s) after which a reader has returned with what it took.
const QUIET: u64 = 100;

const LOOPBACK: u32 = u32::from_ne_bytes([127, 0, 0, 1]);
const LOOPBACK6: IpAddress =
    IpAddress::from_octets([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// The offset of `sin6_scope_id` in a `struct sockaddr_in6`.
const SCOPE_OF_NAME: u64 = 24;

/// Who sent the datagrams that wait at a socket.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Senders {
    address: IpAddress,
    /// Address of the socket. Read from here it is a number, to which the verifier lets programs
    /// add.
    socket: Address,
    /// When the last one came, in ticks of the kernel; 0 until they are counted, which begins when
    /// none waits.
    last: u64,
    /// How many came, and how many were read: more of the former where some were dropped on the
    /// way, or read by a call that asked.
    came: u64,
    read: u64,
    /// 1 if those that wait may be of several senders.
    mixed: u16,
    port: u16,
    zone: u32,
}

static NO_SENDERS: Senders = Senders {
    address: IpAddress::NONE,
    socket: 0,
    last: 0,
    came: 0,
    read: 0,
    mixed: 0,
    port: 0,
    zone: 0,
};

/// A packet of a socket that has no connection. What a call says or gets is completed by it.
#[inline(always)]
pub fn of_packet(
    skb: *mut __sk_buff,
    dir: Dir,
    cookie: u64,
    sock: *const bpf_sock,
    entry: *const SocketEntry,
) {
    // SAFETY: a live map value.
    let protocol = unsafe { (*entry).protocol };
    if has_states(protocol) {
        return;
    }
    let portless = !has_ports(protocol);
    // SAFETY: as above.
    let is_unasked = portless || unsafe { (*entry).unasked != 0 };
    // SAFETY: fields of a socket that each of its forms has.
    let (is_connected, bound_to) = unsafe {
        (
            (*sock).state == u32::from(ESTABLISHED),
            (*sock).bound_dev_if,
        )
    };
    if dir == Dir::Rx {
        // What comes while a socket is connected may be read after that.
        if is_unasked && !(portless && is_connected) {
            queue_sender(skb, cookie, sock as Address, portless);
        }
    } else if portless || !is_connected {
        sent(skb, cookie, portless, bound_to);
    }
}

/// Notes where a packet goes, for the call that sends it.
#[inline(always)]
fn sent(skb: *mut __sk_buff, cookie: u64, portless: bool, bound_to: u32) -> Option<()> {
    let ends = Ends::of(skb)?;
    let is_news = match ends {
        _ if portless => true,
        // `ip_route_output_key_hash_rcu` chooses the address of the interface.
        Ends::V4 { source, target } => bound_to != 0 && source == target,
        Ends::V6 { at } => target6(at).has_zone(),
    };
    if !is_news {
        return None;
    }
    let address = match ends {
        Ends::V4 { target, .. } => IpAddress::mapped(target),
        Ends::V6 { at } => target6(at),
    };
    let zone = zone(skb, address);
    // An interrupted idle task is no thread that sends.
    let thread = process::thread().filter(|thread| *thread != 0)?;
    if let Some(call) = inflight::find(thread) {
        // SAFETY: a live map value, which only this thread writes.
        let call = unsafe { &mut *call };
        let is_its = call.is_of_entry() || call.socket == cookie && call.is_send != 0;
        if call.under_way != 0 && is_its {
            call.peer.address = address;
            // A packet to this machine passes the loopback interface, whatever its zone.
            if call.peer.zone == 0 {
                call.peer.zone = zone;
            }
            call.from_packet = 1;
            call.peer_known |= u8::from(portless);
            return Some(());
        }
    }
    let call = Call {
        socket: cookie,
        message: 0,
        peer: Peer {
            address,
            port: 0,
            padding: 0,
            zone,
        },
        // A port belongs to the peer as well.
        peer_known: u8::from(portless),
        skip: 0,
        is_send: 1,
        under_way: 1,
        from_packet: 1,
        padding: 0,
    };
    inflight::note(thread, &call);
    Some(())
}

/// Keeps the source of a packet until a call reads it.
#[inline(always)]
fn queue_sender(skb: *mut __sk_buff, cookie: u64, sk: Address, portless: bool) -> Option<()> {
    let address = match Ends::of(skb)? {
        Ends::V4 { source, .. } => IpAddress::mapped(source),
        Ends::V6 { at } => source6(at),
    };
    let port = if portless { 0 } else { source_port(skb) };
    let zone = zone(skb, address);
    let mut known = SENDERS.get_ptr_mut(cookie);
    if known.is_none() {
        // Another CPU may insert at the same moment: the look-up finds either.
        let _ = SENDERS.insert(cookie, NO_SENDERS, u64::from(BPF_NOEXIST));
        known = SENDERS.get_ptr_mut(cookie);
    }
    let senders = known?;
    // SAFETY: a live map value. Volatile: other CPUs count as well, and the compiler would leave
    // the number of the socket out.
    unsafe {
        let last = (&raw const (*senders).last).read_volatile();
        let now = bpf_jiffies64();
        (&raw mut (*senders).socket).write_volatile(sk);
        let sk = (&raw const (*senders).socket).read_volatile();
        atomic::add(&raw mut (*senders).came, 1);
        let came = (&raw const (*senders).came).read_volatile();
        let is_alone = last != 0 && waiting(senders) == 1;
        if !is_alone {
            // Some were dropped, or waited before they were counted.
            let is_quiet = portless || now.saturating_sub(last) >= QUIET;
            if is_quiet && is_empty(sk) {
                (*senders).read = came.wrapping_sub(1);
            } else if last == 0 {
                return None;
            }
        }
        if waiting(senders) == 1 {
            (*senders).address = address;
            (*senders).zone = zone;
            (*senders).port = port;
            // A reader may be about to return with one that was not counted. Of sockets without
            // ports some are dropped all the time (`ICMP_FILTER`, `SO_ATTACH_FILTER`).
            (*senders).mixed = u16::from(!is_alone && !portless);
        }
        // An address with a zone that came over loopback says nothing of the zone.
        let is_unknown = port == 0 && !portless || zone == LOOPBACK_IFINDEX;
        let is_other =
            (*senders).address != address || (*senders).zone != zone || (*senders).port != port;
        // Another CPU may be here at the same moment, with another sender. To add nothing puts what
        // was written before what is read.
        atomic::add(&raw mut (*senders).came, 0);
        if is_unknown || is_other || (&raw const (*senders).came).read_volatile() != came {
            (*senders).mixed = 1;
        }
        (*senders).last = now;
    }
    Some(())
}

/// How many datagrams wait at a socket, or are on their way to whoever reads them.
///
/// # Safety
/// `senders` is a live map value.
#[inline(always)]
unsafe fn waiting(senders: *mut Senders) -> i64 {
    // SAFETY: the caller's. Volatile: another CPU may count meanwhile.
    unsafe {
        let came = (&raw const (*senders).came).read_volatile();
        let read = (&raw const (*senders).read).read_volatile();
        came.wrapping_sub(read).cast_signed()
    }
}

/// Whom a datagram came from that was just read by a call that did not ask; `None` where that is
/// not known.
#[inline(always)]
pub fn take_sender(cookie: u64, sk: Address) -> Option<Peer> {
    let Some(senders) = SENDERS.get_ptr_mut(cookie) else {
        socket::note_senders(cookie);
        return None;
    };
    // SAFETY: a live map value.
    unsafe {
        if (*senders).last == 0 {
            return None;
        }
        let peer = Peer {
            address: (*senders).address,
            port: (*senders).port,
            padding: 0,
            zone: (*senders).zone,
        };
        let is_mixed = (*senders).mixed != 0;
        // In this order: one that comes meanwhile is counted before it waits.
        let has_more = waiting(senders) <= 1 && !is_empty(sk);
        atomic::add(&raw mut (*senders).read, 1);
        let left = waiting(senders);
        if left < 0 || left == 0 && has_more {
            // One that was not counted: the next ones are not who is expected.
            (*senders).last = 0;
            return None;
        }
        (!is_mixed).then_some(peer)
    }
}

/// Whether nothing waits at a socket to be read.
#[inline(always)]
fn is_empty(sk: Address) -> bool {
    kernel::read_uncalled::<u32>(sk, &SK_RMEM_ALLOC) == Some(0)
}

/// The address and zone of the peer that the current call meant by no host, or by an address
/// without its zone.
#[inline(always)]
pub fn settled(address: IpAddress, common: &SockCommon) -> (IpAddress, u32) {
    let sent = inflight::find(bpf_get_current_pid_tgid());
    // SAFETY: a live map value, which only this thread writes.
    let sent = sent.map(|call| unsafe { &mut *call }).filter(|call| {
        let is_its = call.is_of_entry() || call.socket == common.cookie();
        is_its && call.from_packet != 0
    });
    if address.has_zone() {
        let zone = match sent {
            Some(call) if call.peer.address == address => call.peer.zone,
            _ => common.bound_to(),
        };
        return (address, zone);
    }
    // `udpv6_sendmsg` and `rawv6_sendmsg` put the loopback address in its place.
    if address == IpAddress::NONE {
        return (LOOPBACK6, 0);
    }
    // Only packets of sockets without ports, or that are bound to an interface, are noted.
    match sent {
        Some(call) if common.bound_to() != 0 || call.peer_known != 0 => (call.peer.address, 0),
        _ if common.local().is_unspecified() => (IpAddress::mapped(LOOPBACK), 0),
        _ => (common.local(), 0),
    }
}

/// Where IPv4 sends what goes to `0.0.0.0` from an address, network byte order: there, or to
/// loopback if it is none (`ip_route_output_key_hash_rcu`).
#[inline(always)]
pub fn own_address(source: u32) -> u32 {
    if source == 0 { LOOPBACK } else { source }
}

/// The zone in a `struct sockaddr_in6` of the kernel's.
#[inline(always)]
pub fn scope_of_name(name: Address) -> u32 {
    kernel::read_at(name + SCOPE_OF_NAME).unwrap_or(0)
}

/// The interface of a packet, if it makes a difference to an address of it.
#[inline(always)]
fn zone(skb: *mut __sk_buff, address: IpAddress) -> u32 {
    if address.has_zone() {
        // SAFETY: a field that every skb program may read.
        unsafe { (*skb).ifindex }
    } else {
        0
    }
}

/// The addresses of a packet.
#[derive(Clone, Copy)]
enum Ends {
    /// Network byte order.
    V4 { source: u32, target: u32 },
    /// Its header is whole, and stands here.
    V6 { at: *const u8 },
}

impl Ends {
    /// `None` where the header is not in the part of the packet that programs may read; of packets
    /// that a socket sends or receives it is.
    #[inline(always)]
    fn of(skb: *mut __sk_buff) -> Option<Self> {
        // SAFETY: fields that programs of the cgroup may read.
        let (start, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
        if start + IPV4_HEADER > end {
            return None;
        }
        let at = start as *const u8;
        // SAFETY: the verifier has seen the comparison.
        if unsafe { *at } >> 4 == 4 {
            // SAFETY: as above.
            let [source, target] = unsafe { at.add(12).cast::<[u32; 2]>().read_unaligned() };
            return Some(Self::V4 { source, target });
        }
        (start + IPV6_HEADER <= end).then_some(Self::V6 { at })
    }
}

/// The source port of a datagram of UDP or a protocol like it; 0 where other headers stand in front
/// of that, or it has none.
#[inline(always)]
fn source_port(skb: *mut __sk_buff) -> u16 {
    let byte = |at, index| bytes::byte(skb, at, index).unwrap_or(0);
    let first = byte(0, 0);
    let at = if first >> 4 == 4 {
        u32::from(first & 0xf) * 4
    } else if has_ports(u16::from(byte(0, 6))) {
        IPV6_HEADER as u32
    } else {
        return 0;
    };
    u16::from_be_bytes([byte(at, 0), byte(at, 1)])
}

#[inline(always)]
fn source6(header: *const u8) -> IpAddress {
    // SAFETY: `Ends::of` has seen that the header is whole.
    unsafe { header.add(8).cast::<IpAddress>().read_unaligned() }
}

#[inline(always)]
fn target6(header: *const u8) -> IpAddress {
    // SAFETY: as above.
    unsafe { header.add(24).cast::<IpAddress>().read_unaligned() }
}
