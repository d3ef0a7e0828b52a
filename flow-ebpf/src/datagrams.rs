//! Buffers of several datagrams that come in. A UDP socket that did not ask for them whole gets each datagram by
//! itself, with headers of its own (`udp_rcv_segment`); the interface counted one set of headers for all.
//!
//! The kernel hands up packets in lists (`napi->rx_list`): all of a list pass the classifier before the first of
//! them reaches its socket. So several buffers may be on their way at once, known by their addresses and ports.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::bpf_skb_load_bytes,
};

use flow_common::InterfaceCounters;

use crate::{
    account,
    interface::{self, Network},
    maps::{BATCHES_CAME, LAST_BATCH},
    packet::{self, IPPROTO_UDP, Packet},
    sight::{self, BATCHES},
    socket,
};

/// Flows whose buffers a CPU remembers.
pub const FLOWS: u32 = 1 << FLOW_BITS;
const FLOW_BITS: u32 = 7;
/// Packets of a list, at most, unless somebody has changed it (`net.core.gro_normal_batch`).
const LIST: u64 = 8;
/// Bytes from the addresses on, with the ports behind them: in IPv4 without options, and in IPv6.
const IDENTITY_V4: usize = 12;
const IDENTITY_V6: usize = 36;
const SOURCE_V4: u32 = 12;
const SOURCE_V6: u32 = 8;

/// Buffers of datagrams of one flow that came in on a CPU in one list.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Batch {
    /// See [`flow`].
    flow: u32,
    /// The interface by which they came, and how many packets had come in there by then.
    ifindex: u32,
    after: u64,
    /// Bytes of the headers of each datagram, from layer 3 on.
    header: u32,
    /// Datagrams that are not delivered, and whose headers the interface did not count.
    repeated: u32,
    /// The address of the socket that takes the first of them, once it has one, and how many packets had come in by then:
    /// no others come in until the list is delivered.
    taker: u64,
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
    let Some(flow) = flow(skb, network.offset) else {
        return;
    };
    let slot = slot(flow, ifindex);
    let (Some(batch), Some(last)) = (BATCHES_CAME.get_ptr_mut(slot), LAST_BATCH.get_ptr_mut(0))
    else {
        return;
    };
    let header = (packet.segment as u32).wrapping_sub(size + network.header());
    let repeated = packet.frames as u32 - 1;
    // SAFETY: live map values, this CPU's own.
    unsafe {
        let earlier = if is_of(batch, flow, ifindex) && is_waiting(batch, after) {
            (*batch).repeated
        } else {
            0
        };
        *batch = Batch {
            flow,
            ifindex,
            after,
            header,
            repeated: earlier + repeated,
            taker: 0,
            taken_after: 0,
            is_shared: 0,
            padding: 0,
        };
        *last = slot;
    }
}

/// What a packet is that a socket takes. Numbers, as the verifier of 6.1 refuses what is made of an enumeration.
pub mod part {
    /// Of no buffer that is known.
    pub const NONE: u32 = 0;
    /// Of a buffer of datagrams, or all of it.
    pub const OF_BATCH: u32 = 1;
    /// The same, and another socket has taken it already.
    pub const COPY: u32 = 2;
}

/// Makes of a packet that a socket takes what its interface counted: a datagram of a buffer is a part of that, and
/// its headers are repeated ones. `counters` are the interface's. Returns one of [`part`].
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
        return part::NONE;
    }
    let Some(flow) = flow(skb, 0) else {
        return part::NONE;
    };
    let Some(mut batch) = BATCHES_CAME.get_ptr_mut(slot(flow, ifindex)) else {
        return part::NONE;
    };
    let came = account::received(counters);
    // SAFETY: live map values, this CPU's own, and fields that a program of the cgroup may read.
    unsafe {
        if !is_of(batch, flow, ifindex) {
            let last = LAST_BATCH.get(0).copied().unwrap_or(0);
            let Some(only) = BATCHES_CAME.get_ptr_mut(last) else {
                return part::NONE;
            };
            if !is_only_one(only, sock, ifindex, counters) {
                return part::NONE;
            }
            batch = only;
        }
        if is_waiting(batch, came) {
            (*batch).taker = sock as u64;
            (*batch).taken_after = came;
            // Raw sockets have their copies before the others (`ip_protocol_deliver_rcu`).
            (*batch).is_shared = u32::from(interface::is_for_several(skb) || socket::is_raw(sock));
        } else if (*batch).taker == 0 || (*batch).taken_after != came {
            return part::NONE;
        } else if (*batch).taker != sock as u64 && (*batch).is_shared != 0 {
            return part::COPY;
        }
        let repeated = (*batch).repeated;
        if packet.frames != 1 {
            (*batch).repeated = repeated.saturating_sub(packet.frames as u32 - 1);
        } else if repeated != 0 {
            (*batch).repeated = repeated - 1;
            *packet = packet.without_own_headers(u64::from((*batch).header));
        }
    }
    part::OF_BATCH
}

/// Whether a datagram is of this buffer, by its place, whatever its addresses are: they may have been translated
/// since the classifier saw it. The buffer is the last one that came in, and was the only packet of its list, as all
/// before it have been delivered.
///
/// # Safety
/// `batch` and `counters` are live map values.
#[inline(always)]
unsafe fn is_only_one(
    batch: *const Batch,
    sock: *const bpf_sock,
    ifindex: u32,
    counters: *const InterfaceCounters,
) -> bool {
    let came = account::received(counters);
    // SAFETY: the caller's.
    unsafe {
        (*batch).ifindex == ifindex
            && (*batch).after == came
            && if (*batch).taker == 0 {
                (*counters).delivered_at + 1 == came
            } else {
                (*batch).taker == sock as u64 || (*batch).is_shared != 0
            }
    }
}

/// # Safety
/// `batch` is a live map value.
#[inline(always)]
unsafe fn is_of(batch: *const Batch, flow: u32, ifindex: u32) -> bool {
    // SAFETY: the caller's.
    unsafe { (*batch).flow == flow && (*batch).ifindex == ifindex }
}

/// Whether no socket has taken any of them, and they may still be on their way when so many packets have come in.
///
/// # Safety
/// `batch` is a live map value.
#[inline(always)]
unsafe fn is_waiting(batch: *const Batch, came: u64) -> bool {
    // SAFETY: the caller's.
    unsafe { (*batch).taker == 0 && came.wrapping_sub((*batch).after) < LIST }
}

#[inline(always)]
fn slot(flow: u32, ifindex: u32) -> u32 {
    // The upper bits of a product depend on all bits of both.
    (flow ^ ifindex).wrapping_mul(0x9e37_79b1) >> (u32::BITS - FLOW_BITS)
}

/// A number of a datagram's addresses and ports. `None` if it is none of UDP, or IPv6 has other headers in between.
#[inline(always)]
fn flow(skb: *mut __sk_buff, network: u32) -> Option<u32> {
    let mut identity = [0_u32; IDENTITY_V6 / 4];
    let is_v4 = packet::byte(skb, network, 0)? >> 4 == 4;
    let protocol = packet::byte(skb, network, if is_v4 { 9 } else { 6 })?;
    if protocol != IPPROTO_UDP {
        return None;
    }
    let (at, length) = if is_v4 {
        (SOURCE_V4, IDENTITY_V4)
    } else {
        (SOURCE_V6, IDENTITY_V6)
    };
    // SAFETY: the helper checks the offset; so many bytes fit.
    let status = unsafe {
        bpf_skb_load_bytes(
            skb.cast::<core::ffi::c_void>(),
            network + at,
            (&raw mut identity).cast(),
            length as u32,
        )
    };
    if status != 0 {
        return None;
    }
    // FNV-1a, by words.
    let hash = identity.iter().fold(0x811c_9dc5, |hash: u32, word| {
        (hash ^ word).wrapping_mul(0x0100_0193)
    });
    Some(hash)
}
