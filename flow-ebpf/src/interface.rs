//! What a packet on an interface is.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::bpf_get_socket_cookie,
};
use flow_common::{Class, LinkLayout, tcp_state};

use crate::{
    kernel::{AF_PACKET, is_inet},
    maps::{LINKS, SOCKETS},
    packet::{self, Packet},
    skb, socket, stack,
};

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;
const PACKET_HOST: u32 = 0;
const PACKET_OTHERHOST: u32 = 3;
const PACKET_LOOPBACK: u32 = 5;
/// The highest number of an IP protocol.
const LAST_PROTOCOL: u32 = 255;

/// An interface that the loader did not describe: nothing is cut.
pub const UNKNOWN: LinkLayout = LinkLayout {
    header: 0,
    gso_max_size: u32::MAX,
    gso_ipv4_max_size: u32::MAX,
    gso_max_segments: u32::MAX,
    flags: 0,
    master: 0,
    lower: 0,
    mtu: 0,
};

/// Where a packet's network header is.
#[derive(Clone, Copy)]
pub struct Network {
    /// Bytes in front of it: the link header, and VLAN tags that are part of the packet's data.
    pub offset: u32,
    /// How many of these are not its interface's: the link header of another one by which it came.
    pub left_over: u32,
    /// Whether it is IPv4's or IPv6's.
    pub is_ip: bool,
}

impl Network {
    /// Its address. Nearly everything that the stack does to a packet leaves it where it is.
    #[inline(always)]
    pub fn start(&self, skb: *mut __sk_buff) -> u64 {
        // SAFETY: a field that a TC program may read.
        let data = unsafe { (*skb).data as u64 };
        data + u64::from(self.offset & OFFSET_WITHIN)
    }

    /// Bytes in front of it that are the interface's.
    #[inline(always)]
    pub fn header(&self) -> u32 {
        self.offset - self.left_over
    }
}

/// Bytes in front of a network header at most, as a mask that the verifier understands.
const OFFSET_WITHIN: u32 = 0x3f;
/// VLAN tags within a packet's data: the outermost is kept beside it (`skb_vlan_untag`).
const TAGS: usize = 2;
const TAG_BYTES: u32 = 4;

/// Finds the network header behind so many bytes that are left over, and a link header of so many.
#[inline(always)]
pub fn network(skb: *mut __sk_buff, header: u32, left_over: u32) -> Network {
    // SAFETY: a field that every skb program may read.
    let mut protocol = (unsafe { (*skb).protocol } as u16).to_be();
    let left_over = left_over & OFFSET_WITHIN;
    let mut offset = (header & OFFSET_WITHIN) + left_over;
    for _ in 0..TAGS {
        if protocol != ETH_P_8021Q && protocol != ETH_P_8021AD {
            break;
        }
        let (Some(high), Some(low)) = (packet::byte(skb, offset, 2), packet::byte(skb, offset, 3))
        else {
            break;
        };
        protocol = u16::from_be_bytes([high, low]);
        offset += TAG_BYTES;
    }
    Network {
        offset,
        left_over,
        is_ip: protocol == ETH_P_IP || protocol == ETH_P_IPV6,
    }
}

/// Whether it is IPv4.
#[inline(always)]
pub fn is_ipv4(skb: *mut __sk_buff) -> bool {
    // SAFETY: a field that every skb program may read.
    unsafe { (*skb).protocol == u32::from(ETH_P_IP.to_be()) }
}

/// Whether a packet that comes in is this host's own, looped back: what it sends to a group or to everyone, and is to take as well, comes
/// back from its interface's output. The interface itself did not receive it.
#[inline(always)]
pub fn is_looped_back(skb: *mut __sk_buff) -> bool {
    // SAFETY: a field that every skb program may read.
    unsafe { (*skb).pkt_type == PACKET_LOOPBACK }
}

/// Whether a frame that comes in is addressed to others than this host alone: to a group, or to everyone.
#[inline(always)]
pub fn is_for_several(skb: *mut __sk_buff) -> bool {
    // SAFETY: a field that every skb program may read.
    unsafe { (*skb).pkt_type != PACKET_HOST }
}

/// Whether a frame that comes in is addressed to somebody else's link address.
#[inline(always)]
pub fn is_for_others(skb: *mut __sk_buff) -> bool {
    // SAFETY: a field that every skb program may read.
    unsafe { (*skb).pkt_type == PACKET_OTHERHOST }
}

/// What the loader knows of a packet's interface, for [`crate::packet::measure`] and [`is_cut`]: of a packet of one segment
/// they need nothing, and it is not looked for.
#[inline(always)]
pub fn layout_for(skb: *mut __sk_buff) -> LinkLayout {
    // SAFETY: fields that a TC program may read.
    let (size, ifindex) = unsafe { ((*skb).gso_size, (*skb).ifindex) };
    if size == 0 { UNKNOWN } else { layout(ifindex) }
}

/// What the loader knows of an interface.
#[inline(always)]
pub fn layout(ifindex: u32) -> LinkLayout {
    // SAFETY: the loader may write it meanwhile; each member is whole.
    unsafe { LINKS.get(ifindex) }.copied().unwrap_or(UNKNOWN)
}

/// Whether the stack cuts a packet of several segments before its interface gets it.
#[inline(always)]
pub fn is_cut(skb: *mut __sk_buff, packet: &Packet, link: &LinkLayout) -> bool {
    if packet.frames == 1 {
        return false;
    }
    let max_size = if is_ipv4(skb) {
        link.gso_ipv4_max_size
    } else {
        link.gso_max_size
    };
    packet.bytes >= u64::from(max_size)
        || packet.frames > u64::from(link.gso_max_segments)
        || packet.is_unusual && skb::device_segments(skb) == Some(false)
}

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
                // The kernel's own replies (RST, ICMP) come from raw sockets of its own, without a peer.
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
