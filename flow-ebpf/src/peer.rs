//! The peer of a datagram, where the call does not contain all of it: the packet does.
//!
//! - A call may name no host (`0.0.0.0`, `::`), and the kernel takes this one.
//! - A link-local address may come without its zone, and the kernel chooses the interface.
//! - The tracepoints do not see the message of a call, and no cgroup program runs for the addresses
//!   of raw and ping sockets.
//!
//! A packet passes `cgroup_skb` on its way out in the context of its sender, who finds what it
//! notes in [`CALLS`] when the call returns. On its way in it is queued: [`SENDERS`] keeps its
//! source until it is read.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel},
    macros::map,
    maps::LruHashMap,
};
use flow_common::{
    IpAddress, SocketEntry, limits,
    protocol::{has_ports, has_states},
};

use crate::{
    inflight::{self, CALLS, Call, Dir, Peer},
    kernel::{self, Address, ESTABLISHED, SK_RMEM_ALLOC, SockCommon},
    process,
};

/// Senders that sockets without ports and peer receive from, by cookie.
#[map]
pub static SENDERS: LruHashMap<u64, Senders> =
    LruHashMap::with_max_entries(limits::SENDER_ENTRIES, 0);

const LOOPBACK: u32 = u32::from_ne_bytes([127, 0, 0, 1]);
const LOOPBACK6: IpAddress =
    IpAddress::from_octets([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// The offset of `sin6_scope_id` in a `struct sockaddr_in6`.
const SCOPE_OF_NAME: u64 = 24;

/// Senders of the datagrams that wait at a socket.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Senders {
    address: IpAddress,
    /// Address of the socket. Read from here it is a number, to which the verifier lets programs
    /// add.
    socket: Address,
    zone: u32,
    /// How many wait. Too many where datagrams were dropped after they passed `cgroup_skb`.
    waiting: u32,
    /// 1 once datagrams of another sender wait as well.
    mixed: u32,
    padding: u32,
}

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
    // SAFETY: fields of a socket that each of its forms has.
    let (is_connected, bound_to) = unsafe {
        (
            (*sock).state == u32::from(ESTABLISHED),
            (*sock).bound_dev_if,
        )
    };
    if dir == Dir::Rx {
        if portless && !is_connected {
            queue_sender(skb, cookie, sock as Address);
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
    let thread = process::thread()?;
    if let Some(call) = CALLS.get_ptr_mut(thread) {
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
fn queue_sender(skb: *mut __sk_buff, cookie: u64, sk: Address) -> Option<()> {
    let address = match Ends::of(skb)? {
        Ends::V4 { source, .. } => IpAddress::mapped(source),
        Ends::V6 { at } => source6(at),
    };
    let first = Senders {
        address,
        socket: sk,
        zone: zone(skb, address),
        waiting: 1,
        mixed: 0,
        padding: 0,
    };
    let Some(senders) = SENDERS.get_ptr_mut(cookie) else {
        let _ = SENDERS.insert(cookie, first, 0);
        return None;
    };
    // SAFETY: a live map value. Packets of two CPUs may mix up who waits: then the sender is not
    // known, or that of a neighbour in the queue.
    let senders = unsafe { &mut *senders };
    // SAFETY: a field of it; volatile, or the compiler would leave the number out.
    let sk = unsafe {
        (&raw mut senders.socket).write_volatile(sk);
        (&raw const senders.socket).read_volatile()
    };
    if senders.waiting == 0 || is_empty(sk) {
        *senders = first;
    } else {
        senders.waiting += 1;
        if senders.address != first.address || senders.zone != first.zone {
            senders.mixed = 1;
        }
    }
    Some(())
}

/// Whom a datagram came from that was just read from a socket without ports and peer; `None` where
/// datagrams of several senders waited.
#[inline(always)]
pub fn take_sender(cookie: u64, sk: Address) -> Option<Peer> {
    let senders = SENDERS.get_ptr_mut(cookie)?;
    // SAFETY: a live map value.
    let senders = unsafe { &mut *senders };
    if senders.waiting == 0 {
        return None;
    }
    senders.waiting -= 1;
    let peer = (senders.mixed == 0).then_some(Peer {
        address: senders.address,
        port: 0,
        padding: 0,
        zone: senders.zone,
    });
    if senders.mixed != 0 && is_empty(sk) {
        senders.waiting = 0;
    }
    peer
}

/// Whether nothing waits at a socket to be read.
#[inline(always)]
fn is_empty(sk: Address) -> bool {
    kernel::read::<u32>(sk, &SK_RMEM_ALLOC) == Some(0)
}

/// The address and zone of the peer that the current call meant by no host, or by an address
/// without its zone.
#[inline(always)]
pub fn settled(address: IpAddress, common: &SockCommon) -> (IpAddress, u32) {
    let sent = CALLS.get_ptr_mut(bpf_get_current_pid_tgid());
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
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel((name + SCOPE_OF_NAME) as *const u32) }.unwrap_or(0)
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
