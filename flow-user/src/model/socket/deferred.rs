//! Bytes whose row is not known yet.

use std::net::SocketAddr;

use super::{Ctx, Socket};
use crate::event::{AppFact, AppTotals, Protocol, State};

impl Socket {
    /// The remote of the row that bytes to or from `remote` belong to; `None` if that is not known
    /// yet.
    pub(super) fn route(&self, remote: Option<SocketAddr>) -> Option<Option<SocketAddr>> {
        let fact = self.fact.as_ref()?;
        let remote = remote.or(fact.remote);
        let waits = remote.is_none()
            && matches!(fact.protocol, Protocol::Tcp | Protocol::Mptcp)
            && fact.state != State::Listen;
        (!waits).then_some(remote)
    }

    pub(super) fn defer(&mut self, fact: &AppFact, growth: AppTotals, ctx: &mut Ctx<'_>) {
        let key = (fact.process, fact.remote);
        if let Some(at) = self.counters.position(&key) {
            let deferred = &mut self.counters.at_mut(at).deferred;
            if deferred.is_none() {
                ctx.processes.acquire(fact.process, ctx.time);
            }
            let deferred =
                deferred.get_or_insert_with(|| Box::new((ctx.time, AppTotals::default())));
            deferred.1 += growth;
            ctx.dirty.deferring.insert(self.cookie);
        }
    }

    /// Adds deferred bytes to their rows; with `now`, also those of a TCP socket without peer.
    /// Returns whether none are deferred any more.
    pub(super) fn flush_deferred(&mut self, now: bool, ctx: &mut Ctx<'_>) -> bool {
        if !ctx.dirty.deferring.contains(&self.cookie) {
            return true;
        }
        let mut none_left = true;
        for at in 0..self.counters.len() {
            if self.counters.at(at).deferred.is_none() {
                continue;
            }
            let (process, remote) = self.counters.key(at);
            let route = self.route(remote);
            let known = now && self.fact.is_some();
            let Some(remote) = route.or(known.then_some(remote)) else {
                none_left = false;
                continue;
            };
            let deferred = self.counters.at_mut(at).deferred.take();
            if let Some((since, deferred)) = deferred.map(|it| *it) {
                self.add((process, remote), deferred, since, ctx);
                ctx.processes.release(process, ctx.time);
            }
        }
        if none_left {
            ctx.dirty.deferring.remove(&self.cookie);
        }
        none_left
    }
}
