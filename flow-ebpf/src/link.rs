//! The loader's table of interfaces.

use aya_ebpf::{
    bindings::__sk_buff,
    macros::map,
    maps::{Array, HashMap},
};
use flow_common::{
    InterfaceCounters, LinkLayout,
    interface::{kinds, link, stacking},
    limits,
};

use crate::{kernel::HOST_NETNS, network::is_ipv4, packet::Packet, skb};

/// What the loader knows of the interfaces, by index.
#[map]
pub static LINKS: HashMap<u32, LinkLayout> =
    HashMap::with_max_entries(limits::INTERFACE_ENTRIES, 0);

/// One element: bits of [`flow_common::interface::stacking`].
#[map]
pub static STACKING: Array<u32> = Array::with_max_entries(1, 0);

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

pub const LOOPBACK_IFINDEX: u32 = 1;

/// Bits of [`flow_common::interface::stacking`]: what this host has.
#[inline(always)]
pub fn stacking() -> u32 {
    STACKING.get(0).copied().unwrap_or(0)
}

/// Whether an interface gets what IPsec has decrypted, and counts it so.
#[inline(always)]
pub fn decrypts(ifindex: u32) -> bool {
    layout(ifindex).flags & link::DECRYPTS != 0
}

/// A packet as its interface counts it.
#[inline(always)]
pub fn as_it_counts(packet: Packet, ifindex: u32, counters: *const InterfaceCounters) -> Packet {
    if pads(counters) {
        packet.padded(layout(ifindex).mtu)
    } else {
        packet
    }
}

/// Whether an interface fills packets up.
#[inline(always)]
pub fn pads(counters: *const InterfaceCounters) -> bool {
    // SAFETY: a live map value.
    unsafe { (*counters).kinds & kinds::PADS != 0 }
}

/// Whether a packet that leaves a socket leaves it again, encrypted (`xfrmi_xmit2`).
#[inline(always)]
pub fn encrypts(ifindex: u32, netns: u32) -> bool {
    stacking() & stacking::DECRYPTS != 0 && netns == HOST_NETNS.load() && decrypts(ifindex)
}

/// A socket of this host sent by an interface: if what comes in could be read from a device file,
/// it is not.
#[inline(always)]
pub fn used_here(ifindex: u32) {
    if let Some(layout) = LINKS.get_ptr_mut(ifindex) {
        // SAFETY: a live map value; any other writer sets the same bit, or the loader replaces the
        // entry.
        unsafe { (*layout).flags |= link::USED_HERE };
    }
}

/// What the loader knows of a packet's interface, for [`is_cut`]: of a packet of one segment
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
