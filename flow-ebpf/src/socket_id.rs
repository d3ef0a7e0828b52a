//! Identities of sockets: a cookie, or an alias for a socket that has none of its own.

use aya_ebpf::{
    bindings::BPF_NOEXIST, helpers::generated::bpf_get_smp_processor_id, macros::map,
    maps::LruHashMap,
};
use flow_common::{limits, protocol, socket_id::ALIAS_BIT, tcp_state};

use crate::{
    clock,
    kernel::{Address, GIVES_COOKIES, SockCommon},
};

/// Identities of sockets that have no cookie of their own, by address.
#[map]
pub static ALIASES: LruHashMap<u64, Alias> = LruHashMap::with_max_entries(limits::ALIAS_ENTRIES, 0);

/// The identity of a socket that has no cookie of its own.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Alias {
    id: u64,
    /// 1 once the socket closed: what is at its address next is another one.
    closed: u64,
}

/// The socket's identity: its cookie. A few sockets have none when they are first used: nobody
/// asked for it, and tracing programs can't. A connection accepted by an MPTCP socket has its
/// listener's (`mptcp_sk_clone_init` copies it). Those get an alias.
#[inline(always)]
pub fn id(sk: Address, common: &SockCommon, protocol: u16) -> u64 {
    known_id(sk, common, protocol).unwrap_or_else(|| new_alias(sk))
}

/// As [`id`], of a socket that has one.
#[inline(always)]
pub fn known_id(sk: Address, common: &SockCommon, protocol: u16) -> Option<u64> {
    let cookie = common.cookie();
    let cookie = (cookie != 0 && protocol::has_own_cookie(protocol)).then_some(cookie);
    // Where no program gives cookies, somebody may still ask for one at any time (`ss` does, and
    // Flow for listeners). Of other protocols no hook would report that another socket is at the
    // address.
    let keeps_alias = GIVES_COOKIES.load() == 0 && protocol::has_states(protocol);
    if keeps_alias || cookie.is_none() {
        alias(sk).or(cookie)
    } else {
        cookie
    }
}

/// The alias of the socket at an address, if it has one.
#[inline(always)]
pub fn alias(sk: Address) -> Option<u64> {
    // SAFETY: the value is copied at once.
    unsafe { ALIASES.get(sk) }.map(|alias| alias.id)
}

/// Takes the alias away from the socket at an address.
#[inline(always)]
pub fn take_alias(sk: Address) -> Option<u64> {
    let id = alias(sk)?;
    let _ = ALIASES.remove(sk);
    Some(id)
}

#[inline(always)]
fn new_alias(sk: Address) -> u64 {
    // No CPU makes two in one nanosecond.
    // SAFETY: no arguments.
    let cpu = u64::from(unsafe { bpf_get_smp_processor_id() });
    let id = ALIAS_BIT | clock::now() << 10 | cpu & 0x3ff;
    let made = Alias { id, closed: 0 };
    let _ = ALIASES.insert(sk, made, u64::from(BPF_NOEXIST));
    // Another CPU may have been first.
    alias(sk).unwrap_or(id)
}

/// Notes a socket's new state with its alias; whether that is the alias of the one before: a socket
/// that leaves the closed state is a new one, or a new connection.
#[inline(always)]
pub fn note_state(sk: Address, new_state: u8) -> bool {
    let Some(alias) = ALIASES.get_ptr_mut(sk) else {
        return false;
    };
    // SAFETY: a live map value.
    let alias = unsafe { &mut *alias };
    if new_state == tcp_state::CLOSE {
        alias.closed = 1;
        return false;
    }
    alias.closed != 0
}
