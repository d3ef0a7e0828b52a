//! What a packet on an interface is.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock},
};
use flow_common::Class;

use crate::{
    kernel::{AF_PACKET, is_inet},
    maps::{LINK_HEADERS, SOCKETS},
};

const ETH_P_IP: u32 = 0x0800;
const ETH_P_IPV6: u32 = 0x86dd;
const SOCK_RAW: u32 = 3;

/// Whether a packet is IPv4 or IPv6.
#[inline(always)]
pub fn is_ip(skb: *mut __sk_buff) -> bool {
    // SAFETY: a field that every skb program may read.
    let protocol = unsafe { (*skb).protocol };
    protocol == ETH_P_IP.to_be() >> 16 || protocol == ETH_P_IPV6.to_be() >> 16
}

/// Bytes of an interface's link header; 0 for one that has none.
#[inline(always)]
pub fn link_header(ifindex: u32) -> u32 {
    // SAFETY: the loader writes it once.
    unsafe { LINK_HEADERS.get(ifindex) }.copied().unwrap_or(0)
}

/// The class of a packet that leaves.
#[inline(always)]
pub fn egress_class(skb: *mut __sk_buff) -> Class {
    // SAFETY: fields that a TC program may read.
    let (sk, came_from) = unsafe { ((*skb).__bindgen_anon_2.sk, (*skb).ingress_ifindex) };
    if !sk.is_null() {
        // SAFETY: not null; a field of the common part.
        if unsafe { (*sk).family } == u32::from(AF_PACKET) {
            return Class::PacketSocket;
        }
        // SAFETY: not null.
        let full = unsafe { bpf_sk_fullsock(sk) };
        if full.is_null() {
            return Class::Kernel; // a connection request, or TIME_WAIT
        }
        // SAFETY: a full socket's fields.
        let (family, kind) = unsafe { ((*full).family, (*full).type_) };
        if is_inet(family as u16) {
            // The kernel's own replies (RST, ICMP) come from raw sockets of its own.
            if kind == SOCK_RAW && !is_known(skb) {
                return Class::Kernel;
            }
            return Class::Socket;
        }
    }
    if !is_ip(skb) {
        Class::NotIp
    } else if came_from != 0 {
        Class::Forwarded
    } else {
        Class::Kernel
    }
}

/// Whether the packet's socket is one that Flow saw a process make or use.
#[inline(always)]
fn is_known(skb: *mut __sk_buff) -> bool {
    // SAFETY: the program's context.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    SOCKETS.get_ptr(cookie).is_some()
}
