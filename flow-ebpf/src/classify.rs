//! The class of a packet that leaves by an interface.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::bpf_get_socket_cookie,
};
use flow_common::{Class, tcp_state};

use crate::{
    kernel::{AF_PACKET, is_inet},
    maps::SOCKETS,
    network::Network,
    socket, stack,
};

/// The highest number of an IP protocol.
const LAST_PROTOCOL: u32 = 255;

/// The class of a packet that leaves.
#[inline(always)]
pub fn egress_class(skb: *mut __sk_buff, network: &Network, stacking: u32) -> Class {
    // SAFETY: fields that a TC program may read.
    let (sk, ifindex, came_from) = unsafe {
        (
            (*skb).__bindgen_anon_2.sk,
            (*skb).ifindex,
            (*skb).ingress_ifindex,
        )
    };
    if !sk.is_null() {
        // SAFETY: not null; fields of the common part.
        let (family, state) = unsafe { ((*sk).family as u16, (*sk).state as u8) };
        if stacking != 0 && stack::is_foreign(sk, state, network.start(skb)) {
            return if network.is_ip {
                Class::Forwarded
            } else {
                Class::NotIp
            };
        }
        if family == AF_PACKET {
            return Class::PacketSocket;
        }
        if is_inet(family) {
            let is_kernels = match state {
                // No full sockets (`sk_fullsock`).
                tcp_state::TIME_WAIT | tcp_state::NEW_SYN_RECV | tcp_state::BOUND_INACTIVE => true,
                // The kernel's own replies (RST, ICMP) come from raw sockets of its own, without a
                // peer.
                tcp_state::CLOSE => may_be_raw(sk) && socket::is_raw(sk) && !is_known(skb),
                _ => false,
            };
            return if is_kernels {
                Class::Kernel
            } else {
                Class::Socket
            };
        }
    }
    if !network.is_ip {
        Class::NotIp
    } else if came_from != 0 || !sk.is_null() {
        // The socket of a tap device has no family: a virtual machine sent it.
        Class::Forwarded
    } else if stack::holds_forwarded(skb, ifindex, network) {
        Class::Forwarded
    } else {
        Class::Kernel
    }
}

/// A raw socket's port is its protocol. To look here first spares the datagrams of others a call.
#[inline(always)]
fn may_be_raw(sk: *const bpf_sock) -> bool {
    // SAFETY: not null; a field of the common part.
    unsafe { (*sk).src_port <= LAST_PROTOCOL }
}

/// Whether the packet's socket is one that Flow saw a process make or use.
#[inline(always)]
fn is_known(skb: *mut __sk_buff) -> bool {
    // SAFETY: the program's context.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    SOCKETS.get_ptr(cookie).is_some()
}
