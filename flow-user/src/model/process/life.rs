//! The lifetime of a process in the table.
//!
//! One that exited is dropped after the history and after the last row of flows that refers to it;
//! one without traffic or flows after a short grace.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Entry, ProcessTable};
use crate::{
    event::{AppTotals, Instant, ProcessId},
    model::{programs::Past, snapshot::Process, totals::moved},
    room::Room as _,
};

/// How long an exited process without traffic is kept, in case its bytes are reported late.
const GRACE: Duration = Duration::from_secs(1);
/// Exited processes kept at most, so that a storm of short processes cannot fill memory.
const EXITED: usize = 16_384;

/// What is remembered of a process that was dropped.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Dropped {
    pub(super) exited: Instant,
    pub(super) overflow: AppTotals,
}

impl ProcessTable {
    /// A process ended. Returns its row at the first report of it.
    pub(in crate::model) fn exit(&mut self, id: ProcessId, time: Instant) -> Option<Arc<Process>> {
        if self.dropped.contains(&id) {
            return None;
        }
        // A newer process with its pid may have been seen first, in /proc: then it has exited
        // without a report.
        let entry = self.ensure(id, time);
        if std::mem::replace(&mut entry.exit_reported, true) {
            return None;
        }
        self.set_exited(id, time);
        self.row(id)
    }

    /// Something refers to this process: it stays until that is [released](Self::release).
    pub(in crate::model) fn acquire(&mut self, id: ProcessId, time: Instant) {
        let entry = self.ensure(id, time);
        let first = !entry.is_shown();
        entry.references += 1;
        if first {
            self.shown_first(id);
        }
    }

    pub(in crate::model) fn release(&mut self, id: ProcessId, time: Instant) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.references = entry.references.saturating_sub(1);
            if entry.references == 0
                && !self.drop_if_due(id, time)
                && let Some(entry) = self.entries.get_mut(&id)
                && let Some(exited) = entry.row.exited
                && !entry.queued
            {
                entry.queued = true;
                self.exited.push_back((exited, id));
            }
        }
    }

    /// Whether a process is known to have ended.
    pub(in crate::model) fn has_exited(&self, id: ProcessId) -> bool {
        match self.entries.get(&id) {
            Some(entry) => entry.row.exited.is_some(),
            None => self.dropped.contains(&id),
        }
    }

    /// Drops the processes that have left the history.
    pub(in crate::model) fn expire(&mut self, now: Instant) {
        let grace = GRACE.min(self.history);
        while let Some(&(exited, id)) = self.grace.front() {
            if now.since(exited) < grace {
                break;
            }
            self.grace.pop_front();
            if !self.drop_if_due(id, now) {
                self.exited.push_back((exited, id));
            }
        }
        while let Some(&(exited, id)) = self.exited.front() {
            if now.since(exited) < self.history && self.exited.len() <= EXITED {
                break;
            }
            self.exited.pop_front();
            // One that is still referred to is looked at again when it is released.
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.queued = false;
                if entry.references == 0 {
                    self.remove(id, now);
                }
            }
        }
        if self.programs.is_over_full() {
            let shown = self.entries.values().filter(|entry| entry.is_shown());
            let listed = shown.map(|entry| entry.name.clone()).collect();
            Arc::make_mut(&mut self.programs).shrink(&listed);
        }
        self.dropped.expire(now);
        self.newest.give_back();
        self.moving.give_back();
        self.grace.give_back();
        self.exited.give_back();
        self.renamed.give_back();
        self.retitled.give_back();
    }

    /// Entries that its lists and tables have room for.
    #[cfg(test)]
    pub(in crate::model) fn room(&self) -> usize {
        let Self {
            history: _,
            // Its nodes go with their entries.
            entries: _,
            newest,
            // Bounded by the processes that there are.
            cgroups: _,
            users: _,
            moving,
            grace,
            exited,
            dropped,
            dropped_rows: _,
            // Bounded.
            retired: _,
            renamed,
            retitled,
            untitled,
            total: _,
            // Bounded by itself.
            programs: _,
        } = self;
        let queues = grace.capacity() + exited.capacity() + untitled.capacity();
        let sets = moving.capacity() + renamed.capacity() + retitled.capacity();
        queues + sets + newest.capacity() + dropped.room()
    }

    /// The entry of a process, made if need be. One that was dropped comes back as exited.
    pub(super) fn ensure(&mut self, id: ProcessId, time: Instant) -> &mut Entry {
        if !self.entries.contains_key(&id) {
            let dropped = self.dropped.dig_up(&id);
            self.entries.insert(
                id,
                Entry::new(
                    id,
                    dropped
                        .as_ref()
                        .map_or_else(AppTotals::default, |d| d.overflow),
                ),
            );
            let newest = self.newest.entry(id.pid).or_insert(id.start);
            if let Some(dropped) = dropped {
                self.set_exited(id, dropped.exited);
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.exit_reported = true;
                }
            } else if *newest > id.start {
                self.set_exited(id, time);
            } else if *newest < id.start {
                let superseded = ProcessId {
                    start: *newest,
                    ..id
                };
                *newest = id.start;
                self.set_exited(superseded, time);
            }
        }
        self.entries
            .get_mut(&id)
            .expect("the entry was made above if it was missing")
    }

    fn set_exited(&mut self, id: ProcessId, time: Instant) {
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.row.exited.is_none()
        {
            entry.queued = true;
            self.grace.push_back((time, id));
            self.identify(id, |row| row.exited = Some(time));
        }
    }

    fn drop_if_due(&mut self, id: ProcessId, now: Instant) -> bool {
        let due = self.entries.get(&id).is_some_and(|entry| {
            let keep = if moved(&entry.row.totals) {
                self.history
            } else {
                GRACE.min(self.history)
            };
            let exited = entry.row.exited;
            entry.references == 0 && exited.is_some_and(|exited| now.since(exited) >= keep)
        });
        if due {
            self.remove(id, now);
        }
        due
    }

    fn remove(&mut self, id: ProcessId, now: Instant) {
        let Some(entry) = self.entries.remove(&id) else {
            return;
        };
        self.dropped_rows += u64::from(moved(&entry.row.totals));
        self.retired.add(&entry.row);
        if moved(&entry.row.totals) {
            let past = Past {
                totals: entry.row.own(),
                processes: 1,
            };
            Arc::make_mut(&mut self.programs).add(&entry.name, past);
        }
        // A late report may bring it back.
        self.moving.remove(&id);
        self.renamed.remove(&id);
        self.retitled.remove(&id);
        if self.newest.get(&id.pid) == Some(&id.start) {
            self.newest.remove(&id.pid);
        }
        let dropped = Dropped {
            exited: entry.row.exited.unwrap_or(now),
            overflow: entry.overflow,
        };
        self.dropped.bury(id, dropped, now);
    }
}
