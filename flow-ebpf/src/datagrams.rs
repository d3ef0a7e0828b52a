//! Buffers of several datagrams that come in. A UDP socket that did not ask for them whole gets
//! each datagram by itself, with headers of its own (`udp_rcv_segment`); the interface counted one
//! set of headers for all.
//!
//! The kernel hands up packets in lists (`napi->rx_list`): all packets of a protocol in a list pass
//! the classifier before the first of them reaches its socket. So several buffers may be on their
//! way at once. They are known by their addresses and ports; where NAT changes one end of these in
//! between, by the other end and by their place.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    macros::map,
    maps::PerCpuArray,
};
use flow_common::InterfaceCounters;

use crate::{
    bytes::{self, IPPROTO_UDP},
    counters,
    link::LOOPBACK_IFINDEX,
    network::{self, Network},
    packet::Packet,
    sight::{self, BATCHES},
    socket,
};

/// Buffers of datagrams that came in last, by a part of the number of their flow.
#[map]
pub static BATCHES_CAME: PerCpuArray<Batch> = PerCpuArray::with_max_entries(FLOWS, 0);
/// Which of them came in last.
#[map]
pub static LAST_BATCH: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// Flows whose buffers a CPU remembers.
const FLOWS: u32 = 1 << FLOW_BITS;
const FLOW_BITS: u32 = 7;
/// Packets of a list at most (`gro_normal_one`), unless somebody has changed
/// `net.core.gro_normal_batch`.
const LIST: u64 = 8;
/// Where the addresses begin.
const SOURCE_V4: u32 = 12;
const SOURCE_V6: u32 = 8;

/// Numbers of a datagram's two ends, each made of an address and a port.
#[derive(Clone, Copy)]
#[repr(C)]
struct Ends {
    source: u32,
    destination: u32,
}

/// Buffers of datagrams of one flow that came in on a CPU in one list.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Batch {
    ends: Ends,
    /// How many packets had come in by the interface by then.
    after: u64,
    /// The interface by which they came.
    ifindex: u32,
    /// Bytes of the headers of each datagram, and of a whole one at most, from layer 3 on.
    header: u32,
    most: u32,
    /// Datagrams that are not delivered, and whose headers the interface did not count.
    repeated: u32,
    /// The address of the socket that takes the first of them, once it has one, and how many
    /// packets had come in by then: no others come in until the list is delivered.
    first_taker: u64,
    taken_after: u64,
    /// Whether other sockets take the same ones: those of a group, or others beside a raw one.
    is_shared: u32,
    padding: u32,
}

/// A buffer of datagrams came in by an interface, as the packet number `after`.
#[inline(always)]
pub fn came_in(skb: *mut __sk_buff, ifindex: u32, after: u64, network: &Network, packet: &Packet) {
    sight::note(BATCHES);
    // SAFETY: a field that a TC program may read.
    let size = unsafe { (*skb).gso_size };
    let Some((ends, _)) = ends(skb, network.offset) else {
        return;
    };
    let slot = slot(ends, ifindex);
    let (Some(batch), Some(last)) = (BATCHES_CAME.get_ptr_mut(slot), LAST_BATCH.get_ptr_mut(0))
    else {
        return;
    };
    let most = (packet.segment as u32).wrapping_sub(network.header());
    let repeated = packet.frames as u32 - 1;
    // SAFETY: live map values, this CPU's own.
    unsafe {
        let earlier = if is_of(batch, ends, ifindex) && is_waiting(batch, after) {
            (*batch).repeated
        } else {
            0
        };
        *batch = Batch {
            ends,
            after,
            ifindex,
            header: most.wrapping_sub(size),
            most,
            repeated: earlier + repeated,
            first_taker: 0,
            taken_after: 0,
            is_shared: 0,
            padding: 0,
        };
        *last = slot;
    }
}

/// How a packet at a socket relates to the buffers that came in. Numbers: made of an enumeration,
/// the program is refused ("invalid size of register spill").
pub mod relation {
    /// Not known to be a datagram of one.
    pub const NONE: u32 = 0;
    /// One of its datagrams.
    pub const DATAGRAM: u32 = 1;
    /// One of its datagrams, or all of it, that another socket has taken before.
    pub const COPY: u32 = 2;
}

/// Changes a packet at its socket to the part of a buffer that the interface counted: the headers
/// of a datagram are repeated ones. `counters` are the interface's. Returns one of [`relation`].
#[inline(always)]
pub fn as_it_came(
    skb: *mut __sk_buff,
    sock: *const bpf_sock,
    ifindex: u32,
    counters: *const InterfaceCounters,
    packet: &mut Packet,
) -> u32 {
    // What was put together of fragments has several frames, but is no buffer.
    if !sight::has_seen(BATCHES) || packet.frames != 1 && packet.segment == 0 {
        return relation::NONE;
    }
    let Some((ends, is_for_group)) = ends(skb, 0) else {
        return relation::NONE;
    };
    let came = counters::received(counters);
    let Some(batch) = find(ends, sock, ifindex, counters, came) else {
        return relation::NONE;
    };
    // SAFETY: a live map value, this CPU's own.
    unsafe {
        if packet.frames == 1 && packet.bytes > u64::from((*batch).most) {
            return relation::NONE;
        }
        if is_waiting(batch, came) {
            (*batch).first_taker = sock as u64;
            (*batch).taken_after = came;
            // Raw sockets have their copies before the others (`ip_protocol_deliver_rcu`).
            let is_shared = is_for_group
                || network::is_for_several(skb)
                || ifindex == LOOPBACK_IFINDEX
                || socket::is_raw(sock);
            (*batch).is_shared = u32::from(is_shared);
        } else if (*batch).first_taker == 0 || (*batch).taken_after != came {
            return relation::NONE;
        } else if (*batch).first_taker != sock as u64 && (*batch).is_shared != 0 {
            return relation::COPY;
        }
        let repeated = (*batch).repeated;
        if packet.frames != 1 {
            (*batch).repeated = repeated.saturating_sub(packet.frames as u32 - 1);
            return relation::NONE;
        }
        if repeated != 0 {
            (*batch).repeated = repeated - 1;
            *packet = packet.without_own_headers(u64::from((*batch).header));
        }
    }
    relation::DATAGRAM
}

/// The buffers to which a packet with these ends may belong, at a socket and after `came` packets:
/// those with the same ends, or the last ones, if they have one end in common with it and nothing
/// else can come next.
#[inline(always)]
fn find(
    ends: Ends,
    sock: *const bpf_sock,
    ifindex: u32,
    counters: *const InterfaceCounters,
    came: u64,
) -> Option<*mut Batch> {
    let batch = BATCHES_CAME.get_ptr_mut(slot(ends, ifindex))?;
    let last = LAST_BATCH.get(0)?;
    // SAFETY: live map values, this CPU's own.
    unsafe {
        if is_of(batch, ends, ifindex) {
            return Some(batch);
        }
        let batch = BATCHES_CAME.get_ptr_mut(*last)?;
        let is_next = match (*batch).first_taker {
            0 => (*counters).delivered_at + 1 == came,
            taker => taker == sock as u64 || (*batch).is_shared != 0,
        };
        let is_last = (*batch).ifindex == ifindex && (*batch).after == came;
        (is_last && has_an_end_of(batch, ends) && is_next).then_some(batch)
    }
}

/// # Safety
/// `batch` is a live map value.
#[inline(always)]
unsafe fn is_of(batch: *const Batch, ends: Ends, ifindex: u32) -> bool {
    // SAFETY: the caller's.
    unsafe {
        (*batch).ends.source == ends.source
            && (*batch).ends.destination == ends.destination
            && (*batch).ifindex == ifindex
    }
}

/// Whether one end is the same: addresses are translated at one end, as a rule.
///
/// # Safety
/// `batch` is a live map value.
#[inline(always)]
unsafe fn has_an_end_of(batch: *const Batch, ends: Ends) -> bool {
    // SAFETY: the caller's.
    unsafe { (*batch).ends.source == ends.source || (*batch).ends.destination == ends.destination }
}

/// Whether no socket has taken any of them, and they may still be on their way when so many packets
/// have come in.
///
/// # Safety
/// `batch` is a live map value.
#[inline(always)]
unsafe fn is_waiting(batch: *const Batch, came: u64) -> bool {
    // SAFETY: the caller's.
    unsafe { (*batch).first_taker == 0 && came.wrapping_sub((*batch).after) < LIST }
}

#[inline(always)]
fn slot(ends: Ends, ifindex: u32) -> u32 {
    let all = ends.source ^ ends.destination.rotate_left(16) ^ ifindex;
    // The upper bits of a product depend on all bits of both.
    all.wrapping_mul(0x9e37_79b1) >> (u32::BITS - FLOW_BITS)
}

/// The ends of a datagram, and whether it is for a group. `None` if it is none of UDP, or IPv6 has
/// other headers in between.
#[inline(always)]
fn ends(skb: *mut __sk_buff, network: u32) -> Option<(Ends, bool)> {
    let is_v4 = bytes::byte(skb, network, 0)? >> 4 == 4;
    let protocol = bytes::byte(skb, network, if is_v4 { 9 } else { 6 })?;
    if protocol != IPPROTO_UDP {
        return None;
    }
    // Two addresses, and both ports in one word; in IPv4 without options.
    if is_v4 {
        let mut words = [0_u32; 3];
        if !bytes::load(skb, network + SOURCE_V4, &mut words) {
            return None;
        }
        let [source, destination, ports] = words;
        let ends = Ends::of(&[source], &[destination], ports);
        return Some((ends, destination.to_ne_bytes()[0] >> 4 == 0xe));
    }
    let mut words = [0_u32; 9];
    if !bytes::load(skb, network + SOURCE_V6, &mut words) {
        return None;
    }
    let [a, b, c, d, e, f, g, h, ports] = words;
    let ends = Ends::of(&[a, b, c, d], &[e, f, g, h], ports);
    Some((ends, e.to_ne_bytes()[0] == 0xff))
}

impl Ends {
    /// Of the words of two addresses, and of the ports as a packet has them.
    #[inline(always)]
    fn of(source: &[u32], destination: &[u32], ports: u32) -> Self {
        let [a, b, c, d] = ports.to_ne_bytes();
        // FNV-1a, by words.
        let hash = |address: &[u32], port: [u8; 2]| {
            let port = u32::from(u16::from_ne_bytes(port));
            let add = |hash: u32, word: &u32| (hash ^ word).wrapping_mul(0x0100_0193);
            add(address.iter().fold(0x811c_9dc5, add), &port)
        };
        Self {
            source: hash(source, [a, b]),
            destination: hash(destination, [c, d]),
        }
    }
}
