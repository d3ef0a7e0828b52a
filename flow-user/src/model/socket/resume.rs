//! A socket as it was written to a keyframe, to go on.

use super::{DirtyRows, Socket, row::Phase};
use crate::model::process::ProcessTable;

impl Socket {
    /// Resumes from a keyframe: counts references to processes and lists the rows to visit.
    pub(in crate::model) fn resume(&mut self, processes: &mut ProcessTable, dirty: &mut DirtyRows) {
        self.provisional = self
            .provisional
            .filter(|at| (*at as usize) < self.rows.len());
        for at in 0..self.rows.len() {
            let counts = self.counts_at(at);
            let row = self.rows.at_mut(at);
            row.counts = counts;
            match row.phase {
                Phase::Open if self.closed.is_some() => dirty.closed_rows += 1,
                Phase::Open => {
                    dirty.open_rows += 1;
                    dirty.open_flows += usize::from(row.counts);
                }
                Phase::Idle(since) => {
                    dirty.closed_rows += 1;
                    if self.closed.is_none() {
                        dirty.idle.insert((since, (self.cookie, at)));
                    }
                }
                Phase::Hidden => {}
            }
            if row.phase != Phase::Hidden
                && let Some(process) = self.rows.key(at).0
            {
                processes.refer(process);
                if counts {
                    processes.flow_opened(process);
                }
            }
            let row = self.rows.at_mut(at);
            row.listed = row.changed;
            if row.listed {
                dirty.unreported.push((self.cookie, at));
            }
            if row.moving {
                dirty.moving.push((self.cookie, at));
            }
            let waits = self.rows.at_mut(at).waits.take();
            match waits.filter(|_| self.rows.at(at).phase == Phase::Open && self.may_be_idle(at)) {
                Some(since) => {
                    dirty.waiting.insert((since, (self.cookie, at)));
                    self.rows.at_mut(at).waits = Some(since);
                }
                None => self.begin_waiting(at, dirty),
            }
        }
        for ((process, _), counter) in self.counters.iter() {
            if counter.deferred.is_some() {
                processes.refer(*process);
                dirty.deferring.insert(self.cookie);
            }
        }
    }
}
