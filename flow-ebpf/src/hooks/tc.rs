//! The classifier of each interface: frames by class.

use aya_ebpf::{bindings::TC_ACT_UNSPEC, programs::TcContext};
use flow_common::interface::{Class, Direction};

use crate::{
    account,
    interface::{self, egress_class, is_ip},
    packet,
};

/// A packet came in. Its socket is not known yet: cgroup_skb counts those that reach one.
#[inline(always)]
pub fn ingress(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    if interface::is_looped_back(skb) {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: a field that a TC program may read.
    let ifindex = unsafe { (*skb).ifindex };
    let packet = packet::measure(skb, interface::layout_for(skb).header);
    account::frame(ifindex, Direction::Ingress, Class::Total, &packet);
    if !is_ip(skb) {
        account::frame(ifindex, Direction::Ingress, Class::NotIp, &packet);
    }
    TC_ACT_UNSPEC
}

/// A packet goes out.
#[inline(always)]
pub fn egress(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: fields that a TC program may read.
    let (ifindex, came_from) = unsafe { ((*skb).ifindex, (*skb).ingress_ifindex) };
    let link = interface::layout_for(skb);
    let packet = packet::measure(skb, link.header);
    let class = egress_class(skb);
    if interface::is_cut(skb, &packet, &link) {
        account::frame(ifindex, Direction::Egress, class, &packet.cut());
    } else {
        account::frame(ifindex, Direction::Egress, class, &packet);
    }
    if class == Class::Forwarded {
        // On the way in nobody knew that it would be forwarded. Counted there from layer 3, as
        // deliveries to sockets are.
        let packet = packet.without_link_header(interface::layout(ifindex).header);
        account::frame(came_from, Direction::Ingress, Class::Forwarded, &packet);
    }
    TC_ACT_UNSPEC
}
