//! Protocols of sockets, as the kernel numbers them (`IPPROTO_*`), and what their sockets have.

pub const TCP: u16 = 6;
pub const UDP: u16 = 17;
pub const DCCP: u16 = 33;
pub const SCTP: u16 = 132;
pub const UDPLITE: u16 = 136;
pub const RAW: u16 = 255;
pub const MPTCP: u16 = 262;

/// Whether a protocol's sockets go through TCP's states before they are gone.
// Comparisons: the verifier goes through a `match` of several numbers many times over.
#[inline(always)]
pub const fn has_states(protocol: u16) -> bool {
    protocol == TCP || protocol == MPTCP || protocol == SCTP
}

/// Whether a socket's bytes have no boundaries between them.
#[inline(always)]
pub const fn has_stream(protocol: u16) -> bool {
    protocol == TCP || protocol == MPTCP
}

/// Whether a protocol's packets name ports.
#[inline(always)]
pub const fn has_ports(protocol: u16) -> bool {
    has_states(protocol) || matches!(protocol, UDP | UDPLITE | DCCP)
}

/// Whether a protocol's sockets have a cookie that no other socket has. A connection that an MPTCP
/// socket accepted has its listener's (`mptcp_sk_clone_init` copies it).
#[inline(always)]
pub const fn has_own_cookie(protocol: u16) -> bool {
    protocol != MPTCP
}
