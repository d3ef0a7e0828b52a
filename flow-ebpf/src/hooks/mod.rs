//! One file for each attach type, each a thin adapter to `accounting`, `process`, `socket` and
//! `lifecycle`.

pub mod cgroup;
pub mod fexit;
pub mod kprobe;
pub mod tc;
pub mod tracepoint;

use core::mem::MaybeUninit;

use crate::{
    accounting,
    inflight::{Dir, Peer},
    kernel::{AF_INET, AF_INET6, AF_PACKET, Address, SockCommon, is_inet, read_at},
    peer,
};
use flow_common::{IpAddress, Loss};

const MSG_PEEK: i32 = 0x2;
const MSG_ERRQUEUE: i32 = 0x2000;

/// Whether a receive with these flags takes nothing from the socket's data.
#[inline(always)]
fn is_peek(flags: i32) -> bool {
    flags & (MSG_PEEK | MSG_ERRQUEUE) != 0
}

/// Counts a call that returned `result`; `own_peer` finds the call's own peer, where it is a
/// datagram's.
#[inline(always)]
fn count_call(
    sk: Address,
    dir: Dir,
    result: i64,
    own_peer: impl Fn(&SockCommon, u64) -> Option<Peer>,
) {
    if result < 0 {
        return;
    }
    let mut storage = MaybeUninit::uninit();
    let Some(common) = SockCommon::read(sk, &mut storage) else {
        crate::maps::lose(Loss::ReadFault, 1);
        return;
    };
    let family = common.family();
    if !(is_inet(family) || family == AF_PACKET && dir == Dir::Tx) {
        return;
    }
    accounting::app(sk, common, dir, result as u64, own_peer);
}

/// The peer in a message's `msg_name`, where a datagram call has one: the kernel's copy of the
/// destination, or the source it filled in.
#[inline(always)]
fn peer_in_name(name: Address) -> Option<Peer> {
    if name == 0 {
        return None;
    }
    /// `struct sockaddr_in6`; the first eight bytes of `sockaddr_in` have the same places.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Name {
        family: u16,
        port: u16,
        v4_or_flow: u32,
    }
    let start: Name = read_at(name)?;
    let port = u16::from_be(start.port);
    match start.family {
        AF_INET => Some(Peer {
            address: IpAddress::mapped(start.v4_or_flow),
            port,
            padding: 0,
            zone: 0,
        }),
        AF_INET6 => {
            let address: IpAddress = read_at(name + 8)?;
            let zone = if address.has_zone() {
                peer::scope_of_name(name)
            } else {
                0
            };
            Some(Peer {
                address,
                port,
                padding: 0,
                zone,
            })
        }
        _ => None,
    }
}
