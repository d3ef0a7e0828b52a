//! What is known of a process, numbers apart, and of its ancestors.

use std::sync::Arc;

use super::{LINEAGE, ProcessTable};
use crate::{
    event::ProcessId,
    model::{programs::Past, snapshot::Process, totals::moved},
};

impl ProcessTable {
    /// Writes down again who the ancestors are of the processes below those that have another name.
    /// Once for all that have, as it takes a walk over everything.
    pub(in crate::model) fn trace_again(&mut self) {
        let retitled = std::mem::take(&mut self.retitled);
        if retitled.is_empty() {
            return;
        }
        let entries = self.entries.iter();
        let below = entries.filter(|(_, entry)| {
            let lineage = &entry.row.lineage;
            lineage
                .iter()
                .any(|(ancestor, _)| retitled.contains(ancestor))
        });
        let below: Vec<_> = below.map(|(id, _)| *id).collect();
        for id in below {
            self.trace(id);
        }
    }

    /// Writes down a process's ancestors, as far as they are known; where they are no longer,
    /// as the nearest known ancestor (or the process itself) had written them down.
    pub(super) fn trace(&mut self, id: ProcessId) {
        let Some(mut entry) = self.entries.get(&id) else {
            return;
        };
        let mut lineage = Vec::new();
        while let Some(parent) = entry.row.parent
            && lineage.len() < LINEAGE
        {
            let Some(next) = self.entries.get(&parent) else {
                let room = LINEAGE - lineage.len();
                lineage.extend(entry.row.lineage.iter().take(room).cloned());
                break;
            };
            lineage.push((parent, next.name.clone()));
            entry = next;
        }
        if self
            .entries
            .get(&id)
            .is_some_and(|e| e.row.lineage != lineage)
        {
            self.identify(id, |row| row.lineage = lineage);
        }
    }

    /// Changes what is known of all processes that `are` so. Once per name, so a walk over all is
    /// cheap enough.
    pub(super) fn identify_all(
        &mut self,
        are: impl Fn(&Process) -> bool,
        change: impl Fn(&mut Process),
    ) {
        let entries = self.entries.iter();
        let those = entries.filter(|(_, entry)| are(&entry.row));
        let those: Vec<_> = those.map(|(id, _)| *id).collect();
        for id in those {
            self.identify(id, &change);
        }
    }

    /// Changes what is known of a process, numbers apart.
    pub(super) fn identify(&mut self, id: ProcessId, change: impl FnOnce(&mut Process)) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let mut row = Process::clone(&entry.row);
        change(&mut row);
        row.user = row.uid.and_then(|uid| self.users.get(uid)).cloned();
        if *entry.row == row {
            return;
        }
        if row.name() != &*entry.name {
            let own = entry.row.own();
            // One without a name was what it is called now.
            if moved(&own) && entry.row.has_name() {
                let past = Past {
                    totals: own,
                    processes: 1,
                };
                Arc::make_mut(&mut self.programs).add(&entry.name, past);
                row.before = row.totals;
            }
            entry.name = row.name().into();
            self.retitled.insert(id);
        }
        entry.row = Arc::new(row);
        entry.metadata = entry.row.clone();
        if entry.references > 0 {
            self.renamed.insert(id);
        }
    }
}
