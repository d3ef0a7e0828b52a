//! Buffers of several datagrams that come in. A UDP socket that did not ask for them whole gets each datagram by
//! itself, with headers of its own (`udp_rcv_segment`); the interface counted one set of headers for all.

use aya_ebpf::bindings::__sk_buff;

use crate::{
    maps::BATCH,
    packet::Packet,
    sight::{self, BATCHES},
};

/// The buffer of datagrams that came in last on a CPU. It says nothing any more once another packet has come in.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Batch {
    /// The interface by which it came, and how many packets had come in there by then.
    ifindex: u32,
    /// Datagrams in it.
    size: u32,
    /// How many of them are delivered.
    delivered: u32,
    /// Bytes of the headers of each, from layer 3 on.
    header: u32,
    after: u64,
}

/// A buffer of datagrams came in by an interface, as the packet number `after`. Its network header lies `network` bytes
/// behind the start.
#[inline(always)]
pub fn came_in(skb: *mut __sk_buff, ifindex: u32, after: u64, network: u32, packet: &Packet) {
    sight::note(BATCHES);
    // SAFETY: a field that a TC program may read.
    let size = unsafe { (*skb).gso_size };
    if let Some(batch) = BATCH.get_ptr_mut(0) {
        // SAFETY: a live map value, this CPU's own.
        unsafe {
            *batch = Batch {
                ifindex,
                size: packet.frames as u32,
                delivered: 0,
                header: (packet.segment as u32).wrapping_sub(size + network),
                after,
            };
        }
    }
}

/// What came in by one interface is another's now: as packet number `after` of that.
#[inline(always)]
pub fn moved(from: u32, to: u32, after: u64) {
    if let Some(batch) = BATCH.get_ptr_mut(0) {
        // SAFETY: a live map value, this CPU's own.
        unsafe {
            if (*batch).ifindex == from {
                (*batch).ifindex = to;
                (*batch).after = after;
            }
        }
    }
}

/// A packet that a socket takes, as its interface counted it: a datagram of a buffer is a part of that. `None`
/// if another socket has taken it.
#[inline(always)]
pub fn as_it_came(ifindex: u32, after: u64, packet: Packet) -> Option<Packet> {
    if !sight::has_seen(BATCHES) {
        return Some(packet);
    }
    let Some(batch) = BATCH.get_ptr_mut(0) else {
        return Some(packet);
    };
    // SAFETY: a live map value, this CPU's own.
    unsafe {
        if (*batch).ifindex != ifindex || (*batch).after != after {
            return Some(packet);
        }
        let (delivered, size) = ((*batch).delivered, (*batch).size);
        if delivered >= size || delivered != 0 && packet.frames != 1 {
            return None;
        }
        (*batch).delivered = delivered + packet.frames as u32;
        let header = u64::from((*batch).header);
        Some(if delivered == 0 {
            packet
        } else {
            packet.without_own_headers(header)
        })
    }
}
