//! Buffers of several datagrams that come in. A UDP socket that did not ask for them whole gets each datagram by
//! itself, with headers of its own (`udp_rcv_segment`); the interface counted one set of headers for all.
//!
//! The kernel hands up packets in lists (`napi->rx_list`): all of a list pass the classifier before the first of
//! them reaches its socket. So several buffers may be on their way at once, known by their addresses and ports.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::bpf_skb_load_bytes,
};

use crate::{
    interface::Network,
    maps::BATCHES_CAME,
    packet::{self, IPPROTO_UDP, Packet},
    sight::{self, BATCHES},
};

/// Flows whose buffers a CPU remembers.
pub const FLOWS: u32 = 1 << FLOW_BITS;
const FLOW_BITS: u32 = 7;
/// Packets of a list, at most. What the stack puts together it hands up after 8 (`gro_normal_batch`), and no
/// driver is asked for more than 64 at once (`NAPI_POLL_WEIGHT`).
const LIST: u64 = 64;
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
    /// The address of the socket that takes them, once it has one, and how many packets had come in when it took the first:
    /// no others come in until the list is delivered.
    taker: u64,
    taken_after: u64,
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
    let Some(batch) = BATCHES_CAME.get_ptr_mut(slot(flow, ifindex)) else {
        return;
    };
    let header = (packet.segment as u32).wrapping_sub(size + network.header());
    let repeated = packet.frames as u32 - 1;
    // SAFETY: a live map value, this CPU's own.
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
        };
    }
}

/// A packet that a socket takes, as its interface counted it after so many: a datagram of a buffer is a part of
/// that. `None` if another socket has taken it.
#[inline(always)]
pub fn as_it_came(
    skb: *mut __sk_buff,
    sock: *const bpf_sock,
    ifindex: u32,
    came: u64,
    packet: Packet,
) -> Option<Packet> {
    if !sight::has_seen(BATCHES) {
        return Some(packet);
    }
    let Some(flow) = flow(skb, 0) else {
        return Some(packet);
    };
    let Some(batch) = BATCHES_CAME.get_ptr_mut(slot(flow, ifindex)) else {
        return Some(packet);
    };
    // SAFETY: a live map value, this CPU's own.
    unsafe {
        if !is_of(batch, flow, ifindex) {
            return Some(packet);
        }
        if is_waiting(batch, came) {
            (*batch).taker = sock as u64;
            (*batch).taken_after = came;
        } else if (*batch).taker == 0 || (*batch).taken_after != came {
            return Some(packet);
        } else if (*batch).taker != sock as u64 {
            return None;
        }
        let repeated = (*batch).repeated;
        if packet.frames != 1 {
            (*batch).repeated = repeated.saturating_sub(packet.frames as u32 - 1);
        } else if repeated != 0 {
            (*batch).repeated = repeated - 1;
            return Some(packet.without_own_headers(u64::from((*batch).header)));
        }
    }
    Some(packet)
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
