//! The classifier of each interface: frames by class.

use aya_ebpf::{bindings::TC_ACT_UNSPEC, programs::TcContext};
use flow_common::interface::{Class, Direction, stacking};

use crate::{
    classify::egress_class,
    counters, credit, datagrams, ipsec, link, network, packet,
    sight::{self, IPSEC},
    skb, stack,
};

/// A packet came in. Its socket is not known yet: cgroup_skb counts those that reach one.
#[inline(always)]
pub fn ingress(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    if network::is_looped_back(skb) {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: a field that a TC program may read.
    let ifindex = unsafe { (*skb).ifindex };
    let Some(counters) = counters::interface(ifindex, Direction::Ingress) else {
        return TC_ACT_UNSPEC;
    };
    // SAFETY: a live map value.
    let header = unsafe { (*counters).header };
    let mut left_over = 0;
    if sight::has_seen(IPSEC) && ipsec::is_decrypted(skb) {
        if !link::decrypts(ifindex) {
            // It came in by this interface before, encrypted (`gro_cells_receive` in `xfrm_input`).
            return TC_ACT_UNSPEC;
        }
        // It still has the link header of the interface by which it came encrypted
        // (`skb_mac_header_rebuild`).
        left_over = skb::link_header(skb).map_or(0, |all| all.saturating_sub(header));
    }
    let network = stack::unfollowed_network(network::network(skb, header, left_over));
    sight::look(skb, &network);
    let packet = packet::measure(skb, network.offset).without_link_header(network.left_over);
    let packet = link::as_it_counts(packet, ifindex, counters);
    counters::add_frame(counters, Class::Total, &packet);
    if !network.is_ip {
        counters::add_frame(counters, Class::NotIp, &packet);
    }
    let stacking = link::stacking();
    // What an IFB device leads through comes in at once and is delivered later.
    if packet.is_batch && stacking & stacking::LOOPS == 0 {
        let after = counters::received(counters);
        datagrams::came_in(skb, ifindex, after, &network, &packet);
    }
    if stacking != 0 {
        stack::came_in(skb, ifindex, counters, &network, &packet, stacking);
    }
    TC_ACT_UNSPEC
}

/// A packet goes out.
#[inline(always)]
pub fn egress(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: fields that a TC program may read.
    let (ifindex, came_from) = unsafe { ((*skb).ifindex, (*skb).ingress_ifindex) };
    let Some(counters) = counters::interface(ifindex, Direction::Egress) else {
        return TC_ACT_UNSPEC;
    };
    // SAFETY: a live map value.
    let network = network::network(skb, unsafe { (*counters).header }, 0);
    let network = stack::unfollowed_network(network);
    sight::look(skb, &network);
    let mut packet = packet::measure(skb, network.offset);
    if packet.frames != 1 {
        // Only the verifier needs it, and only for the many ways to measure such a packet.
        packet = stack::unfollowed_packet(packet);
    }
    let start = network.start(skb);
    let stacking = link::stacking();
    if stacking & stacking::LOOPS != 0 && stack::comes_back(ifindex, came_from) {
        return TC_ACT_UNSPEC;
    }
    let class = egress_class(skb, &network, stacking);
    let counted = link::as_it_counts(packet, ifindex, counters);
    if link::is_cut(skb, &packet, &link::layout_for(skb)) {
        counters::add_frame(counters, class, &counted.cut());
    } else {
        counters::add_frame(counters, class, &counted);
    }
    if stacking & stacking::LOOPS != 0 {
        stack::loops(ifindex, class, &packet);
    }
    if stacking & stacking::TAP != 0 && class == Class::Socket {
        link::used_here(ifindex);
    }
    // What a socket of this host sent may come in once more, by the other end of a pair.
    if (class == Class::Forwarded || class == Class::Socket) && came_from != 0 {
        // On the way in nobody knew that it would be forwarded. Counted there from layer 3, as
        // deliveries to sockets are.
        if stack::leaves_first(skb, ifindex, came_from, start, stacking) {
            let packet = packet.without_link_header(network.offset);
            let taker = stack::taker_of_leaving(stacking);
            credit::credit(came_from, Class::Forwarded, taker, start, &packet);
        }
    }
    TC_ACT_UNSPEC
}
