//! Credits packets that came in to their interfaces, once their taker is known.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use flow_common::{
    InterfaceCounters,
    interface::{Class, Direction},
};

use crate::{
    counters::{self, add_frame, received},
    datagrams::{self, relation},
    link,
    packet::Packet,
};

/// Interfaces on top of one another that a packet is credited to.
const LEVELS: usize = 5;

/// The taker of a packet that came in.
#[derive(Clone, Copy)]
pub enum Taker {
    Only,
    /// The only one, of a packet that may have waited: others have come in since.
    OnlyLater,
    /// This socket; others may take it as well.
    OneOf {
        skb: *mut __sk_buff,
        sock: *const bpf_sock,
    },
}

/// Adds a packet that came in by an interface to its counters of a class, and to those of the
/// interfaces below that brought it there. The packet is measured from layer 3 on; its network
/// header lies at `start`.
///
/// More than one socket may take a packet: those of a multicast group, raw ones beside others. They
/// do it one after the other, on the CPU where the classifier saw it come; the next packet that may
/// lie at the same place the classifier sees first. Without a classifier each is counted. One that
/// leaves by another interface has just one `taker`: see [`crate::stack::leaves_first`].
#[inline(always)]
pub fn credit(ifindex: u32, class: Class, taker: Taker, start: u64, packet: &Packet) {
    let Some(counters) = counters::interface(ifindex, Direction::Ingress) else {
        return;
    };
    let mut packet = *packet;
    let relation = match taker {
        Taker::Only | Taker::OnlyLater => relation::NONE,
        Taker::OneOf { skb, sock } => {
            datagrams::as_it_came(skb, sock, ifindex, counters, &mut packet)
        }
    };
    if relation == relation::COPY {
        return;
    }
    // It is known to be none: a datagram may lie where one lay that was dropped.
    let is_no_copy = !matches!(taker, Taker::OneOf { .. }) || relation == relation::DATAGRAM;
    let is_copy = note_taken(counters, start);
    if is_no_copy || !is_copy {
        add_frame(
            counters,
            class,
            &link::as_it_counts(packet, ifindex, counters),
        );
    }
    let (mut above, mut above_index, mut tags) = (counters, ifindex, 0);
    for _ in 1..LEVELS {
        // SAFETY: a live map value, this CPU's own.
        let (mut lower, lower_tags) = unsafe { ((*above).lower, (*above).lower_tags) };
        if matches!(taker, Taker::OnlyLater) {
            // Not the one by which the last packet came in.
            lower = link::layout(above_index).lower;
        }
        if lower == 0 {
            return;
        }
        let Some(counters) = counters::interface(lower, Direction::Ingress) else {
            return;
        };
        tags += lower_tags;
        let is_copy = note_taken(counters, start);
        if is_no_copy || !is_copy {
            add_frame(counters, class, &packet.with_header(tags));
        }
        (above, above_index) = (counters, lower);
    }
}

/// Notes that a packet was taken, and returns whether it had been before: a copy of it is then with
/// another socket.
#[inline(always)]
fn note_taken(counters: *mut InterfaceCounters, start: u64) -> bool {
    // SAFETY: a live map value, this CPU's own.
    unsafe {
        let came = received(counters);
        let is_copy =
            came != 0 && (*counters).delivered == start && (*counters).delivered_at == came;
        (*counters).delivered = start;
        (*counters).delivered_at = came;
        is_copy
    }
}
