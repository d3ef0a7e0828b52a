//! Sockets that were there before the programs were attached.

use foldhash::HashSet;

use super::{convert, maps::Maps};
use crate::{
    event::{Protocol, State},
    source::{
        boottime::now,
        seed::{Seed, SeedSocket},
    },
};

/// What was there when the programs were attached, until it is reported.
pub struct Beginning {
    /// Listed before the hooks of sockets and calls were attached.
    pub seed: Seed,
    /// Listed after that.
    pub listing: Seed,
    pub gives_cookies: bool,
}

/// Makes the entry of a listed socket.
pub fn seed_entry(maps: &mut Maps, socket: &SeedSocket) {
    if let Err(error) = maps.seed_socket(socket.cookie.0, &convert::seed_state(socket, now())) {
        log::warn!("a socket that was there: {error}");
    }
}

/// Whether a listed socket is reported and followed. The remains of a connection are not: no
/// process has them, and they never end by a close. An MPTCP socket shares its cookie; it is
/// reported when it is used.
pub fn is_seeded(socket: &SeedSocket) -> bool {
    let remains = matches!(socket.state, State::TimeWait | State::SynReceived);
    !remains && socket.protocol != Protocol::Mptcp
}

/// The cookies of the sockets that are reported.
pub fn cookies(seed: &Seed) -> HashSet<u64> {
    let sockets = seed.sockets.iter().filter(|socket| is_seeded(socket));
    sockets.map(|socket| socket.cookie.0).collect()
}
