//! Which datagram sockets are listeners.
//!
//! The kernel does not tell a server's socket from a client's: both are bound and have no peer. A
//! socket of a port that the kernel gives to whoever asks for none is a client's, unless it received
//! before it ever sent. Any other port was chosen by its process.

use std::net::SocketAddr;

use super::{Ctx, Socket, row::Phase};
use crate::{
    event::{Direction, Netns, State},
    model::snapshot::{is_endpoint, is_open},
};

impl Socket {
    /// Whether it takes datagrams from anyone, as far as can be known.
    pub(super) fn serves(&self) -> bool {
        let Some(fact) = &self.fact else { return false };
        let is_bound = fact.protocol.has_datagram_ports()
            && fact.state == State::Unconnected
            && fact.remote.is_none()
            && fact.local.port() != 0;
        is_bound && (!self.is_ephemeral || self.waits_first())
    }

    /// Whether it received, or waits to, before it sent anything. Of a silent socket that was there
    /// before its source began, this is not known.
    fn waits_first(&self) -> bool {
        match self.first_app {
            Some(first) => first == Direction::Inbound,
            None => {
                let wire = self.fact.as_ref().and_then(|fact| fact.wire);
                self.found.is_none() && wire.is_none_or(|wire| wire.tx_packets == 0)
            }
        }
    }

    /// Takes whether the kernel may have chosen the port of this place, if that is where the socket
    /// is.
    pub(super) fn set_ephemeral(
        &mut self,
        ephemeral: bool,
        (netns, local): (Option<Netns>, SocketAddr),
        ctx: &mut Ctx<'_>,
    ) {
        let fact = self.fact.as_ref();
        let is_there = fact.is_some_and(|fact| fact.netns == netns && fact.local == local);
        if is_there && ephemeral != self.is_ephemeral {
            self.is_ephemeral = ephemeral;
            self.version += 1;
            self.recount(ctx);
        }
    }

    /// Whether it serves, and no row says so: its bytes came before its fact.
    pub(super) fn lacks_endpoint(&self) -> bool {
        let mut rows = self.rows.iter();
        self.closed.is_none() && self.serves() && !rows.any(|((_, remote), _)| remote.is_none())
    }

    /// Whether a row counts as an open flow.
    pub(super) fn counts_at(&self, at: usize) -> bool {
        let row = self.rows.at(at);
        let (_, remote) = self.rows.key(at);
        row.phase == Phase::Open
            && self.closed.is_none()
            && self.fact.as_ref().is_none_or(|fact| {
                is_open(fact.protocol, fact.state) && !is_endpoint(self.serves(), remote, &row.app)
            })
    }

    /// Counts its rows again, after what it is has changed.
    pub(super) fn recount(&mut self, ctx: &mut Ctx<'_>) {
        for at in 0..self.rows.len() {
            let counts = self.counts_at(at);
            self.count(at, counts, ctx);
        }
    }
}
