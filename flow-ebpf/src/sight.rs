//! Flags for rare kinds of traffic. Programs look for a kind in earnest only once one of them has
//! come across it; until then a packet pays a test or two.

use aya_ebpf::{bindings::__sk_buff, macros::map, maps::Array};

use crate::{
    bytes::{self, IPPROTO_UDP},
    network::Network,
};

pub use flow_common::interface::sight::{BATCHES, FRAGMENTS, IPSEC};

/// One element: what has been seen, as bits.
#[map]
pub static SIGHTS: Array<u32> = Array::with_max_entries(1, 0);

const IPV6_HEADER: u32 = 40;
const ESP: u8 = 50;
const AH: u8 = 51;
/// The port of ESP within UDP.
const NAT_TRAVERSAL: u16 = 4500;
/// The bits of IPv4's `frag_off` that a whole packet has not set: more fragments, and an offset.
const IS_FRAGMENT: u16 = 0x3fff;
pub const NEXTHDR_HOP: u8 = 0;
pub const NEXTHDR_ROUTING: u8 = 43;
pub const NEXTHDR_FRAGMENT: u8 = 44;
pub const NEXTHDR_DEST: u8 = 60;

/// Whether it has been seen.
#[inline(always)]
pub fn has_seen(what: u32) -> bool {
    SIGHTS.get(0).is_some_and(|seen| seen & what != 0)
}

/// Notes that it was seen.
#[inline(always)]
pub fn note(what: u32) {
    if let Some(seen) = SIGHTS.get_ptr_mut(0) {
        // SAFETY: an element of the array lives as long as the program. A bit that another CPU
        // writes over comes again with the next such packet.
        unsafe {
            if *seen & what != what {
                *seen |= what;
            }
        }
    }
}

/// Looks at a packet of an interface.
#[inline(always)]
pub fn look(skb: *mut __sk_buff, network: &Network) {
    let seen = SIGHTS.get(0).copied().unwrap_or(0);
    if seen & (FRAGMENTS | IPSEC) == FRAGMENTS | IPSEC || !network.is_ip {
        return;
    }
    let byte = |at, index| bytes::byte(skb, network.offset + at, index).unwrap_or(0);
    let first = byte(0, 0);
    let (is_fragment, protocol, transport) = if first >> 4 == 4 {
        let fragment = u16::from_be_bytes([byte(0, 6), byte(0, 7)]) & IS_FRAGMENT;
        (fragment != 0, byte(0, 9), u32::from(first & 0xf) * 4)
    } else {
        let next = byte(0, 6);
        let is_fragment = match next {
            NEXTHDR_FRAGMENT => true,
            // Behind two of these it may be a fragment.
            NEXTHDR_HOP | NEXTHDR_ROUTING | NEXTHDR_DEST => matches!(
                byte(IPV6_HEADER, 0),
                NEXTHDR_FRAGMENT | NEXTHDR_ROUTING | NEXTHDR_DEST
            ),
            _ => false,
        };
        (is_fragment, next, IPV6_HEADER)
    };
    let mut sights = if is_fragment { FRAGMENTS } else { 0 };
    let is_ipsec = match protocol {
        ESP | AH => true,
        // Behind a translator of addresses.
        IPPROTO_UDP => {
            let ports = [
                u16::from_be_bytes([byte(transport, 0), byte(transport, 1)]),
                u16::from_be_bytes([byte(transport, 2), byte(transport, 3)]),
            ];
            ports.contains(&NAT_TRAVERSAL)
        }
        _ => false,
    };
    if is_ipsec {
        sights |= IPSEC;
    }
    if sights & !seen != 0 {
        note(sights);
    }
}
