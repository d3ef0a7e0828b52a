//! Where a packet's network header is, and to whom its frame is addressed.

use aya_ebpf::bindings::__sk_buff;

use crate::bytes;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;
const PACKET_HOST: u32 = 0;
const PACKET_OTHERHOST: u32 = 3;
const PACKET_LOOPBACK: u32 = 5;
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
        let (Some(high), Some(low)) = (bytes::byte(skb, offset, 2), bytes::byte(skb, offset, 3))
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

/// Whether a packet that comes in is this host's own, looped back: what it sends to a group or to
/// everyone, and is to take as well, comes back from its interface's output. The interface itself
/// did not receive it.
#[inline(always)]
pub fn is_looped_back(skb: *mut __sk_buff) -> bool {
    // SAFETY: a field that every skb program may read.
    unsafe { (*skb).pkt_type == PACKET_LOOPBACK }
}

/// Whether a frame that comes in is addressed to others than this host alone: to a group, or to
/// everyone.
#[inline(always)]
pub fn is_for_several(skb: *mut __sk_buff) -> bool {
    // SAFETY: a field that every skb program may read.
    unsafe { (*skb).pkt_type != PACKET_HOST }
}

/// Whether a frame that comes in is addressed to another host's link address.
#[inline(always)]
pub fn is_for_others(skb: *mut __sk_buff) -> bool {
    // SAFETY: a field that every skb program may read.
    unsafe { (*skb).pkt_type == PACKET_OTHERHOST }
}
