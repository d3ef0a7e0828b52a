//! Identities of sockets: a cookie, or an alias for a socket that has no cookie of its own.

/// Set in every alias, and in no cookie.
pub const ALIAS_BIT: u64 = 1 << 63;

/// Whether an identity is an alias.
#[inline(always)]
pub const fn is_alias(id: u64) -> bool {
    id & ALIAS_BIT != 0
}
