//! Processes in a keyframe.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use foldhash::HashSet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Entry, ProcessTable};
use crate::{
    event::{AppTotals, Instant, ProcessId},
    model::{rate::Meter, snapshot::Process},
};

/// An entry without what follows from the others.
#[derive(Serialize, Deserialize)]
struct Saved {
    row: Arc<Process>,
    exec: Option<Instant>,
    named: Instant,
    inherited: bool,
    overflow: AppTotals,
    exit_reported: bool,
    meter: Meter,
    moving: bool,
}

impl From<&Entry> for Saved {
    fn from(entry: &Entry) -> Self {
        let Entry {
            row,
            metadata: _,
            name: _,
            exec,
            named,
            inherited,
            overflow,
            references: _,
            queued: _,
            exit_reported,
            meter,
            moving,
        } = entry;
        Self {
            row: row.clone(),
            exec: *exec,
            named: *named,
            inherited: *inherited,
            overflow: *overflow,
            exit_reported: *exit_reported,
            meter: *meter,
            moving: *moving,
        }
    }
}

impl From<Saved> for Entry {
    fn from(saved: Saved) -> Self {
        let Saved {
            row,
            exec,
            named,
            inherited,
            overflow,
            exit_reported,
            meter,
            moving,
        } = saved;
        Self {
            metadata: row.clone(),
            name: row.name().into(),
            row,
            exec,
            named,
            inherited,
            overflow,
            references: 0,
            queued: false,
            exit_reported,
            meter,
            moving,
        }
    }
}

pub(super) fn serialize<S: Serializer>(
    entries: &BTreeMap<ProcessId, Entry>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(entries.values().map(Saved::from))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<ProcessId, Entry>, D::Error> {
    let saved = Vec::<Saved>::deserialize(deserializer)?;
    let entries = saved.into_iter().map(|saved| (saved.row.id, saved.into()));
    Ok(entries.collect())
}

impl ProcessTable {
    /// As it was written to a keyframe, to go on. Then each flow [refers](Self::refer) to its
    /// process, and [`Self::queue_exited`] ends it.
    pub(in crate::model) fn resume(&mut self, history: Duration) {
        self.history = history;
        for (id, entry) in &mut self.entries {
            // Counted again with the flows.
            if entry.row.open_flows != 0 {
                Arc::make_mut(&mut entry.row).open_flows = 0;
            }
            let newest = self.newest.entry(id.pid).or_insert(id.start);
            *newest = id.start.max(*newest);
            if entry.moving {
                self.moving.insert(*id);
            }
        }
    }

    /// A row of a flow, or a deferred counter, refers to this process.
    pub(in crate::model) fn refer(&mut self, id: ProcessId) {
        self.ensure(id, Instant::default()).references += 1;
    }

    /// Queues each exited process without references, once.
    pub(in crate::model) fn queue_exited(&mut self) {
        let mut queued = HashSet::default();
        let mut keep = |(_, id): &(Instant, ProcessId)| {
            let entry = self.entries.get_mut(id);
            entry.is_some_and(|entry| {
                let is_first = entry.row.exited.is_some() && queued.insert(*id);
                entry.queued |= is_first;
                is_first
            })
        };
        self.grace.retain(&mut keep);
        self.exited.retain(&mut keep);
        for (id, entry) in &mut self.entries {
            if let Some(exited) = entry.row.exited
                && !entry.queued
                && entry.references == 0
            {
                entry.queued = true;
                self.exited.push_back((exited, *id));
            }
        }
    }
}
