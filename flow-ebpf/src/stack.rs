//! Interfaces on top of one another: by which ones a packet came in, and by which it leaves first.
//!
//! A packet that a bridge's port receives comes in by the port and by the bridge, and one that is
//! routed out by the bridge leaves by the bridge and by a port; likewise with VLAN, macvlan, bond
//! and their parents. The classifier of each interface sees it. A packet has no number by which a
//! program could know it again, so it is known by where it lies while one CPU handles it: what
//! happens to it on one interface follows what happened on the one before.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    macros::map,
    maps::{LruHashMap, PerCpuArray},
};
use flow_common::{
    Class, Direction, ForeignKey, InterfaceCounters, LinkLayout,
    interface::{foreign, kinds, link as flags, stacking},
    limits, tcp_state,
};

use crate::{
    atomic,
    bytes::{self, IPPROTO_UDP},
    counters,
    credit::{self, Taker},
    datagrams,
    kernel::HOST_NETNS,
    link::{self, LOOPBACK_IFINDEX, UNKNOWN, stacking},
    network::{self, Network},
    packet::Packet,
    socket,
};

/// One element: the packets that passed last.
#[map]
pub static PASSING: PerCpuArray<Passing> = PerCpuArray::with_max_entries(1, 0);

/// Forwarded packets that an upper interface has queued, by the address of their buffer and by that
/// of their network header.
#[map]
pub static QUEUED: LruHashMap<u64, u32> = LruHashMap::with_max_entries(limits::QUEUED_ENTRIES, 0);

/// Which of the host's interfaces is below one of another namespace, or a value of
/// [`flow_common::interface::foreign`].
#[map]
pub static FOREIGN: LruHashMap<ForeignKey, u32> =
    LruHashMap::with_max_entries(limits::FOREIGN_ENTRIES, 0);

/// One element: how many entries of [`FOREIGN`] were made.
#[map]
pub static FOREIGN_SEEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The packets that passed last on a CPU.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Passing {
    /// Where the network header of the one lies that came in.
    came_at: u64,
    /// The interface by which it did.
    came_by: u32,
    /// Bytes of VLAN tags in its data there.
    came_tags: u32,
    /// Where the network header of the one lies that left, forwarded.
    left_at: u64,
    /// The address of its buffer. Whoever writes headers may move them (`skb_cow_head`).
    left: u64,
    /// The interface by which it had come in, and how many packets had come in there.
    left_from: u32,
    /// The interface by which it left first.
    left_by: u32,
    left_after: u64,
    /// Where the network header of the one lies that a socket sent, and the address of that socket.
    sent_at: u64,
    sent_by: u64,
    /// The socket's network namespace.
    sent_netns: u32,
    /// 1 if what came in last is of neighbour discovery: what leaves next may have waited for it.
    neighbours: u32,
    /// See [`unfollowed`].
    network: Network,
    packet: Packet,
}

/// The same value, by way of a map: the verifier knows nothing of it, and need not follow what
/// comes next for each way in which it was found.
///
/// # Safety
/// `place` is a member of a map value, this CPU's own.
#[inline(always)]
unsafe fn unfollowed<T: Copy>(value: &T, place: *mut T) -> T {
    // SAFETY: the caller's.
    unsafe {
        place.write_volatile(*value);
        place.read_volatile()
    }
}

/// [`unfollowed`] of a packet.
#[inline(always)]
pub fn unfollowed_packet(packet: Packet) -> Packet {
    match PASSING.get_ptr_mut(0) {
        // SAFETY: a live map value, this CPU's own.
        Some(passing) => unsafe { unfollowed(&packet, &raw mut (*passing).packet) },
        None => packet,
    }
}

/// [`unfollowed`] of where a packet's network header is.
#[inline(always)]
pub fn unfollowed_network(network: Network) -> Network {
    match PASSING.get_ptr_mut(0) {
        // SAFETY: a live map value, this CPU's own.
        Some(passing) => unsafe { unfollowed(&network, &raw mut (*passing).network) },
        None => network,
    }
}

const IPIP: u8 = 4;
const IPV6: u8 = 41;
const GRE: u8 = 47;
const ICMPV6: u8 = 58;
const IPV6_HEADER: u32 = 40;
/// Neighbour discovery, `ipv6_ndisc_frame`.
const NDISC: core::ops::RangeInclusive<u8> = 133..=137;
/// A packet came in by an interface: notes the one below that brought it there.
///
/// From interface to interface the kernel goes at once, so it is the packet that came in last
/// (`__netif_receive_skb_core`, `br_pass_frame_up`). To its socket it may go after others of the
/// same batch; those came the same way, or none of them is a bridge's, which hands each up by
/// itself.
#[inline(always)]
pub fn came_in(
    skb: *mut __sk_buff,
    ifindex: u32,
    counters: *mut InterfaceCounters,
    network: &Network,
    packet: &Packet,
    bits: u32,
) {
    let Some(passing) = PASSING.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: members of a live map value, this CPU's own.
    let (network, packet) = unsafe {
        (
            &unfollowed(network, &raw mut (*passing).network),
            &unfollowed(packet, &raw mut (*passing).packet),
        )
    };
    let start = network.start(skb);
    // SAFETY: live map values, this CPU's own.
    unsafe {
        let tags = network.header().wrapping_sub((*counters).header);
        if (*counters).kinds & kinds::UPPER != 0 {
            if (*passing).came_at == start && (*passing).came_by != ifindex {
                (*counters).lower = (*passing).came_by;
                (*counters).lower_tags = (*passing).came_tags.saturating_sub(tags);
            } else {
                // It waited in between, or was copied: of several it may have come by any.
                let lower = link::layout(ifindex).lower;
                if lower != (*counters).lower {
                    (*counters).lower = lower;
                    (*counters).lower_tags = 0;
                }
            }
        }
        (*passing).came_at = start;
        (*passing).came_by = ifindex;
        (*passing).came_tags = tags;
        (*passing).neighbours = u32::from(!network.is_ip || is_discovery(skb, network));
    }
    if bits & (stacking::VRF | stacking::TAP) == 0 || !network.is_ip {
        return;
    }
    let layout = link::layout(ifindex);
    if layout.flags & (flags::TAP | flags::USED_HERE) == flags::TAP {
        // Whoever reads the device file has it (`tap_handle_frame`).
        let packet = packet.without_link_header(network.header());
        credit::credit(ifindex, Class::Forwarded, Taker::Only, start, &packet);
    }
    if layout.flags & flags::IN_VRF != 0 {
        came_in_by_vrf(skb, ifindex, layout.master, network, packet, bits);
    }
}

/// Whether a packet is of IPv6's neighbour discovery.
#[inline(always)]
fn is_discovery(skb: *mut __sk_buff, network: &Network) -> bool {
    let byte = |at, index| bytes::byte(skb, network.offset + at, index).unwrap_or(0);
    byte(0, 0) >> 4 == 6 && byte(0, 6) == ICMPV6 && NDISC.contains(&byte(IPV6_HEADER, 0))
}

/// How a packet that leaves was taken. One that waited for its neighbour's address leaves once that
/// came, and others have come in meanwhile.
#[inline(always)]
pub fn taker_of_leaving(stacking: u32) -> Taker {
    if stacking != 0
        && let Some(passing) = PASSING.get_ptr(0)
        // SAFETY: a live map value, this CPU's own.
        && unsafe { (*passing).neighbours } != 0
    {
        Taker::OnlyLater
    } else {
        Taker::Only
    }
}

/// A VRF device takes packets from its ports above the classifiers (`vrf_ip_rcv`, `vrf_ip6_rcv`),
/// and counts them without their link header.
#[inline(always)]
fn came_in_by_vrf(
    skb: *mut __sk_buff,
    ifindex: u32,
    vrf: u32,
    network: &Network,
    packet: &Packet,
    bits: u32,
) {
    let Some(counters) = counters::interface(vrf, Direction::Ingress) else {
        return;
    };
    // SAFETY: a live map value, this CPU's own.
    unsafe {
        (*counters).lower = ifindex;
        (*counters).lower_tags = 0;
    }
    if network::is_for_others(skb) {
        return; // dropped before (`ip_rcv_core`)
    }
    let byte = |index| bytes::byte(skb, network.offset, index).unwrap_or(0);
    let is_counted = if byte(0) >> 4 == 4 {
        // Multicast is handed on uncounted.
        byte(16) >> 4 != 0xe
    } else {
        let destination = bytes::byte(skb, network.offset + 24, 0).unwrap_or(0);
        let second = bytes::byte(skb, network.offset + 24, 1).unwrap_or(0);
        // `rt6_need_strict`
        let is_local = destination == 0xff || destination == 0xfe && second & 0xc0 == 0x80;
        !(is_local || is_discovery(skb, network))
    };
    if is_counted {
        // SAFETY: a live map value.
        let header = unsafe { (*counters).header };
        let packet = packet.without_link_header(network.header());
        counters::add_frame(counters, Class::Total, &packet.with_header(header));
    }
    if packet.is_batch && bits & stacking::LOOPS == 0 {
        datagrams::came_in(skb, vrf, counters::received(counters), network, packet);
    }
}

/// A packet passes cgroup_skb on its way out: notes the network namespace of its socket for the
/// classifiers, which it reaches next.
#[inline(always)]
pub fn sent(start: u64, sk: *const bpf_sock, netns: u32) {
    if stacking() == 0 {
        return;
    }
    if let Some(passing) = PASSING.get_ptr_mut(0) {
        // SAFETY: a live map value, this CPU's own.
        unsafe {
            (*passing).sent_at = start;
            (*passing).sent_by = sk as u64;
            (*passing).sent_netns = netns;
        }
    }
}

/// Whether a packet that leaves is of a socket of another network namespace: that of a container
/// behind a bridge, macvlan or VLAN, as those keep the socket with the packet.
#[inline(always)]
pub fn is_foreign(sk: *const bpf_sock, socket_state: u8, start: u64) -> bool {
    let host = HOST_NETNS.load();
    let is_full = !matches!(
        socket_state,
        tcp_state::TIME_WAIT | tcp_state::NEW_SYN_RECV | tcp_state::BOUND_INACTIVE
    );
    if is_full && let Some(passing) = PASSING.get_ptr(0) {
        // SAFETY: a live map value, this CPU's own.
        unsafe {
            let is_same = (*passing).sent_at == start && (*passing).sent_by == sk as u64;
            if is_same && (*passing).sent_netns != 0 {
                return (*passing).sent_netns != host;
            }
        }
    }
    let netns = socket::netns(sk);
    netns != 0 && netns != host
}

/// A packet reached a socket of another network namespace. If one of the host's interfaces brought
/// it there without its leaving by another, as for a macvlan in a container, the host has forwarded
/// it.
#[inline(always)]
pub fn delivered_elsewhere(netns: u32, ifindex: u32, taker: Taker, start: u64, packet: &Packet) {
    if ifindex == LOOPBACK_IFINDEX || netns == 0 {
        return;
    }
    let key = ForeignKey { netns, ifindex };
    // SAFETY: the value is copied at once.
    match unsafe { FOREIGN.get(key) }.copied() {
        Some(foreign::NEW | foreign::UNRELATED) => {}
        Some(lower) => {
            credit::credit(lower, Class::Forwarded, taker, start, packet);
        }
        None => {
            let _ = FOREIGN.insert(key, foreign::NEW, 0);
            if let Some(seen) = FOREIGN_SEEN.get_ptr_mut(0) {
                // SAFETY: an element of the array lives as long as the program.
                unsafe { atomic::add(seen, 1) };
            }
        }
    }
}

/// Whether a packet leaves by this interface first, having come in by `came_from`: then it counts
/// as forwarded there. A copy, such as a bridge sends to each of its ports, lies where the first
/// lay.
#[inline(always)]
pub fn leaves_first(
    skb: *mut __sk_buff,
    ifindex: u32,
    came_from: u32,
    start: u64,
    stacking: u32,
) -> bool {
    let Some(counters) = counters::interface(came_from, Direction::Ingress) else {
        return false;
    };
    let Some(passing) = PASSING.get_ptr_mut(0) else {
        return false;
    };
    let buffer = skb as u64;
    let after = counters::received(counters);
    // SAFETY: a live map value, this CPU's own.
    let mut again = unsafe {
        (*passing).left_from == came_from
            && (*passing).left_after == after
            && (*passing).left_by != ifindex
            && ((*passing).left_at == start || (*passing).left == buffer)
    };
    let layout = if stacking == 0 {
        UNKNOWN
    } else {
        link::layout(ifindex)
    };
    if layout.flags & flags::COPIES != 0 {
        return false;
    }
    let mut first = ifindex;
    if layout.flags & flags::BELOW_QUEUED != 0
        && !again
        && was_queued(skb, start, came_from, &layout)
    {
        // Its copies for other ports follow.
        again = true;
        first = 0;
    }
    if layout.flags & flags::QUEUED != 0 {
        queue(buffer, start, came_from);
    }
    if !again || first == 0 {
        // SAFETY: a live map value, this CPU's own.
        unsafe {
            (*passing).left_from = came_from;
            (*passing).left_after = after;
            (*passing).left_by = first;
            (*passing).left_at = start;
            (*passing).left = buffer;
        }
    }
    !again
}

/// Remembers a packet that may wait: whoever copies its headers keeps the buffer, whoever makes
/// another buffer keeps the headers.
#[inline(always)]
fn queue(buffer: u64, start: u64, came_from: u32) {
    let _ = QUEUED.insert(buffer, came_from, 0);
    let _ = QUEUED.insert(start, came_from, 0);
}

/// Whether a packet of this interface was remembered by a key; it is no more.
#[inline(always)]
fn was_remembered(key: u64, came_from: u32) -> bool {
    // SAFETY: the value is copied at once.
    let known = unsafe { QUEUED.get(key) }.copied();
    known == Some(came_from) && QUEUED.remove(key).is_ok()
}

/// Whether a packet has waited at an upper interface, and so left there first. Its queue may have
/// cut it into segments (`tbf_segment`), which the map `QUEUED` does not hold.
#[inline(always)]
fn was_queued(skb: *mut __sk_buff, start: u64, came_from: u32, layout: &LinkLayout) -> bool {
    if layout.master != 0 {
        // A bridge hands on what other ports received; all else it sent itself.
        return link::layout(came_from).master != layout.master;
    }
    // SAFETY: a field that a TC program may read.
    if unsafe { (*skb).vlan_present } != 0 {
        return true;
    }
    let by_buffer = was_remembered(skb as u64, came_from);
    let by_place = was_remembered(start, came_from);
    by_buffer || by_place
}

/// Whether a packet that leaves has left by the same interface before, and comes back from an IFB
/// device (`ifb_ri_tasklet`). Only the second time it reaches the interface, but the first time it
/// still had its socket.
#[inline(always)]
pub fn comes_back(ifindex: u32, came_from: u32) -> bool {
    came_from != 0 && came_from != ifindex && link::layout(came_from).flags & flags::LOOPS != 0
}

/// A packet that leaves by an IFB device: that counts it as received when it takes it (`ifb_xmit`),
/// and as sent when it gives it back.
#[inline(always)]
pub fn loops(ifindex: u32, class: Class, packet: &Packet) {
    if link::layout(ifindex).flags & flags::LOOPS == 0 {
        return;
    }
    if let Some(counters) = counters::interface(ifindex, Direction::Ingress) {
        counters::add_frame(counters, Class::Total, packet);
        match class {
            // These are counted from layer 3 on.
            Class::Socket | Class::Forwarded => {
                // SAFETY: a live map value.
                let header = unsafe { (*counters).header };
                counters::add_frame(counters, class, &packet.without_link_header(header));
            }
            Class::PacketSocket | Class::NotIp => counters::add_frame(counters, class, packet),
            Class::Kernel | Class::Total => {}
        }
    }
}

/// Whether a packet without a socket is of the tunnel by which another left: what the kernel says
/// for itself has other protocols.
#[inline(always)]
fn is_tunnels(skb: *mut __sk_buff, network: &Network, left_by: u32) -> bool {
    if link::layout(left_by).flags & flags::TUNNEL == 0 {
        return false;
    }
    let byte = |index| bytes::byte(skb, network.offset, index).unwrap_or(0);
    let protocol = if byte(0) >> 4 == 4 { byte(9) } else { byte(6) };
    matches!(protocol, IPIP | IPV6 | GRE | IPPROTO_UDP)
}

/// Whether a packet that leaves without a socket holds the one that was forwarded last: a tunnel
/// has put its headers in front of it, and taken away where it came from (`skb_scrub_packet`). Of a
/// buffer that the stack has cut before the tunnel, each segment is another buffer.
#[inline(always)]
pub fn holds_forwarded(skb: *mut __sk_buff, ifindex: u32, network: &Network) -> bool {
    let Some(passing) = PASSING.get_ptr(0) else {
        return false;
    };
    // SAFETY: a live map value, this CPU's own.
    let (left, left_from, left_by, left_after) = unsafe {
        let passing = &*passing;
        (
            passing.left,
            passing.left_from,
            passing.left_by,
            passing.left_after,
        )
    };
    // Nothing has come in since, so it is no other packet in the same buffer.
    (left == skb as u64 || is_tunnels(skb, network, left_by))
        && left_by != ifindex
        && counters::interface(left_from, Direction::Ingress)
            .is_some_and(|counters| counters::received(counters) == left_after)
}
