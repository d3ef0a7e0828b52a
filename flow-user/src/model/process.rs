//! Which processes are there, what programs they are, and what each moved in all.
//!
//! Every live process is known here, because a child is its parent's program until it calls exec;
//! only those with traffic or a flow are shown. A process is dropped once it exited, its last flow
//! left the history and the history has passed; its bytes then stay in the grand total.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    rate::Meter,
    snapshot::{Process, Rate},
    tombstone::Tombstones,
    totals::{moved, raise_app},
};
use crate::event::{AppFact, AppTotals, CgroupId, Instant, ProcessFact, ProcessId, Program};

/// Ancestors kept for each process.
const LINEAGE: usize = 32;
/// How long an exited process without traffic is kept, in case its bytes are told late.
const GRACE: Duration = Duration::from_secs(1);
/// Exited processes kept at most, so that a storm of short processes cannot fill memory.
const EXITED: usize = 16_384;
/// Known paths of cgroups above which those without a process are dropped.
const CGROUPS: usize = 4_096;

/// Every process known, and the sums over them.
#[derive(Debug)]
pub(super) struct ProcessTable {
    history: Duration,
    /// Ordered, so that every walk over it comes out the same.
    entries: BTreeMap<ProcessId, Entry>,
    /// Start of the newest process of each pid: an older one with that pid has exited, even if
    /// nobody said so.
    newest: HashMap<u32, Instant>,
    cgroups: HashMap<CgroupId, Arc<str>>,
    cgroups_limit: usize,
    /// Processes that moved bytes since the last tick, or had a rate then.
    moving: Vec<ProcessId>,
    /// Exited processes whose grace runs, then those whose history runs.
    grace: VecDeque<(Instant, ProcessId)>,
    exited: VecDeque<(Instant, ProcessId)>,
    dropped: Tombstones<ProcessId, Dropped>,
    total: AppTotals,
}

#[derive(Debug)]
struct Entry {
    row: Arc<Process>,
    /// The row's name, shared with the lineage of descendants.
    name: Arc<str>,
    exec: Option<Instant>,
    /// Largest overflow reported; the row's can be less if the process was dropped in between.
    overflow: AppTotals,
    /// Rows of flows, open or closed, and held counters that refer to this process.
    references: usize,
    /// Whether it stands in `grace` or `exited`.
    queued: bool,
    meter: Meter,
    moving: bool,
}

#[derive(Debug)]
struct Dropped {
    exited: Instant,
    overflow: AppTotals,
}

impl ProcessTable {
    pub(super) fn new(history: Duration) -> Self {
        Self {
            history,
            entries: BTreeMap::new(),
            newest: HashMap::new(),
            cgroups: HashMap::new(),
            cgroups_limit: CGROUPS,
            moving: Vec::new(),
            grace: VecDeque::new(),
            exited: VecDeque::new(),
            dropped: Tombstones::default(),
            total: AppTotals::default(),
        }
    }

    /// A process was there: fills what is missing.
    pub(super) fn seen(&mut self, fact: ProcessFact, time: Instant) {
        if self.dropped.contains(&fact.id) {
            return;
        }
        let ProcessFact {
            id,
            parent,
            program,
            uid,
            cgroup,
        } = fact;
        let entry = self.ensure(id, time);
        let old = &entry.row;
        let known = &old.program;
        let (cmdline, cmdline_cut) = match &known.cmdline {
            Some(cmdline) => (Some(cmdline.clone()), known.cmdline_cut),
            None => (program.cmdline, program.cmdline_cut),
        };
        let mut new = Process::clone(old);
        new.program = Program {
            comm: known.comm.clone().or(program.comm),
            exe: known.exe.clone().or(program.exe),
            cmdline,
            cmdline_cut,
        };
        new.parent = old.parent.or(parent);
        new.uid = old.uid.or(uid);
        entry.replace(new);
        if entry.row.cgroup.is_none() {
            self.set_cgroup(id, cgroup);
        }
        self.trace(id);
    }

    /// A process became another program. Returns its row, unless this was told before or the
    /// process is gone.
    pub(super) fn exec(&mut self, fact: ProcessFact, time: Instant) -> Option<Arc<Process>> {
        if self.dropped.contains(&fact.id) {
            return None;
        }
        let entry = self.ensure(fact.id, time);
        if entry.row.exited.is_some() {
            self.seen(fact, time);
            return None;
        }
        if entry.exec.is_some_and(|exec| time <= exec) {
            return None;
        }
        let ProcessFact {
            id,
            parent,
            program,
            uid,
            cgroup,
        } = fact;
        entry.exec = Some(time);
        let mut new = Process::clone(&entry.row);
        new.program = program;
        new.parent = parent.or(new.parent);
        new.uid = uid;
        entry.replace(new);
        self.set_cgroup(id, cgroup);
        self.trace(id);
        self.row(id)
    }

    /// A process was made: it is its parent's program.
    pub(super) fn fork(&mut self, fact: ProcessFact, time: Instant) {
        let parent = fact.parent.and_then(|parent| self.entries.get(&parent));
        let Some(parent) = parent else {
            self.seen(fact, time);
            return;
        };
        if self.entries.get(&fact.id).is_some_and(|e| e.exec.is_some()) {
            // Told late: it is no longer its parent's program.
            self.seen(fact, time);
            return;
        }
        let inherited = &parent.row.program;
        let row = &parent.row;
        self.seen(
            ProcessFact {
                program: Program {
                    comm: fact.program.comm.or(inherited.comm.clone()),
                    ..inherited.clone()
                },
                uid: fact.uid.or(row.uid),
                cgroup: fact.cgroup.or(row.cgroup),
                ..fact
            },
            time,
        );
    }

    /// A process ended. Returns its row the first time this is told.
    pub(super) fn exit(&mut self, id: ProcessId, time: Instant) -> Option<Arc<Process>> {
        if self.dropped.contains(&id) {
            return None;
        }
        let entry = self.ensure(id, time);
        if entry.row.exited.is_some() {
            return None;
        }
        self.set_exited(id, time);
        self.row(id)
    }

    /// A cgroup's path is known.
    pub(super) fn cgroup(&mut self, id: CgroupId, path: Arc<str>) {
        if self.cgroups.get(&id) == Some(&path) {
            return;
        }
        // Once per cgroup, so a walk over all processes is cheap enough.
        for entry in self.entries.values_mut() {
            if entry.row.cgroup == Some(id) {
                Arc::make_mut(&mut entry.row).cgroup_path = Some(path.clone());
            }
        }
        self.cgroups.insert(id, path);
        if self.cgroups.len() > self.cgroups_limit {
            let entries = self.entries.values();
            let used: std::collections::HashSet<_> = entries.filter_map(|e| e.row.cgroup).collect();
            self.cgroups
                .retain(|known, _| *known == id || used.contains(known));
            self.cgroups_limit = CGROUPS.max(2 * self.cgroups.len());
        }
    }

    /// Takes what an app fact knows of its process. A copy without new bytes may be an old one,
    /// whose user and cgroup no longer hold; `grew` says that it is not.
    pub(super) fn observe(&mut self, fact: &AppFact, grew: bool, time: Instant) {
        let entry = self.ensure(fact.process, time);
        if entry.row.program.comm.is_none() && fact.comm.is_some() {
            let mut new = Process::clone(&entry.row);
            new.program.comm.clone_from(&fact.comm);
            entry.replace(new);
        }
        if fact.uid.is_some() && fact.uid != entry.row.uid && (grew || entry.row.uid.is_none()) {
            Arc::make_mut(&mut entry.row).uid = fact.uid;
        }
        if grew || entry.row.cgroup.is_none() {
            self.set_cgroup(fact.process, fact.cgroup);
        }
    }

    /// Adds app bytes to a process and to the grand total.
    pub(super) fn count(&mut self, id: ProcessId, growth: AppTotals, time: Instant) {
        self.total += growth;
        let entry = self.ensure(id, time);
        let first = !entry.is_shown();
        Arc::make_mut(&mut entry.row).totals += growth;
        if !entry.moving {
            entry.moving = true;
            self.moving.push(id);
        }
        if first {
            self.trace(id);
        }
    }

    /// Bytes of a process whose flow is unknown; `totals` is cumulative.
    pub(super) fn overflow(&mut self, id: ProcessId, totals: AppTotals, time: Instant) {
        if let Some(dropped) = self.dropped.get_mut(&id) {
            let mut known = dropped.overflow;
            if !moved(&raise_app(&mut known, &totals)) {
                return;
            }
        }
        let entry = self.ensure(id, time);
        let growth = raise_app(&mut entry.overflow, &totals);
        if moved(&growth) {
            Arc::make_mut(&mut entry.row).overflow += growth;
            self.count(id, growth, time);
        }
    }

    /// Something refers to this process: it stays until that is [released](Self::release).
    pub(super) fn acquire(&mut self, id: ProcessId, time: Instant) {
        let entry = self.ensure(id, time);
        let first = !entry.is_shown();
        entry.references += 1;
        if first {
            self.trace(id);
        }
    }

    pub(super) fn release(&mut self, id: ProcessId, time: Instant) {
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

    pub(super) fn flow_opened(&mut self, id: ProcessId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            Arc::make_mut(&mut entry.row).open_flows += 1;
        }
    }

    pub(super) fn flow_closed(&mut self, id: ProcessId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let open = &mut Arc::make_mut(&mut entry.row).open_flows;
            *open = open.saturating_sub(1);
        }
    }

    /// The process as it stands now.
    pub(super) fn row(&self, id: ProcessId) -> Option<Arc<Process>> {
        self.entries.get(&id).map(|entry| entry.row.clone())
    }

    /// The processes that are shown: those with traffic or a flow.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Arc<Process>> {
        let entries = self.entries.values();
        entries.filter(|e| e.is_shown()).map(|e| &e.row)
    }

    /// Whether a process is known to have ended.
    pub(super) fn has_exited(&self, id: ProcessId) -> bool {
        match self.entries.get(&id) {
            Some(entry) => entry.row.exited.is_some(),
            None => self.dropped.contains(&id),
        }
    }

    /// App bytes of all processes ever, dropped ones included.
    pub(super) fn total(&self) -> AppTotals {
        self.total
    }

    /// Takes the rates since the last tick; `elapsed` must not be zero.
    pub(super) fn rates(&mut self, elapsed: Duration) {
        let entries = &mut self.entries;
        self.moving.retain(|id| {
            let Some(entry) = entries.get_mut(id) else {
                return false;
            };
            let AppTotals {
                tx_bytes, rx_bytes, ..
            } = entry.row.totals;
            let rate = entry.meter.tick(tx_bytes, rx_bytes, elapsed);
            if rate != entry.row.rate {
                Arc::make_mut(&mut entry.row).rate = rate;
            }
            entry.moving = rate != Rate::default();
            entry.moving
        });
    }

    /// Drops the processes whose time has come.
    pub(super) fn expire(&mut self, now: Instant) {
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
        self.dropped.expire(now);
    }

    /// The entry of a process, made if need be. One that was dropped comes back as exited.
    fn ensure(&mut self, id: ProcessId, time: Instant) -> &mut Entry {
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
            Arc::make_mut(&mut entry.row).exited = Some(time);
            entry.queued = true;
            self.grace.push_back((time, id));
        }
    }

    fn set_cgroup(&mut self, id: ProcessId, cgroup: Option<CgroupId>) {
        if let Some(cgroup) = cgroup
            && let Some(entry) = self.entries.get_mut(&id)
            && entry.row.cgroup != Some(cgroup)
        {
            let row = Arc::make_mut(&mut entry.row);
            row.cgroup = Some(cgroup);
            row.cgroup_path = self.cgroups.get(&cgroup).cloned();
        }
    }

    /// Writes down a process's ancestors, as far as they are known; where they are no longer,
    /// as the nearest known ancestor (or the process itself) had written them down.
    fn trace(&mut self, id: ProcessId) {
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
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.row.lineage != lineage
        {
            Arc::make_mut(&mut entry.row).lineage = lineage;
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

impl Entry {
    fn new(id: ProcessId, overflow: AppTotals) -> Self {
        let row = Process {
            id,
            program: Program::default(),
            parent: None,
            lineage: Vec::new(),
            uid: None,
            cgroup: None,
            cgroup_path: None,
            exited: None,
            totals: AppTotals::default(),
            overflow: AppTotals::default(),
            rate: Rate::default(),
            open_flows: 0,
        };
        Self {
            name: row.name().into(),
            row: Arc::new(row),
            exec: None,
            overflow,
            references: 0,
            queued: false,
            meter: Meter::default(),
            moving: false,
        }
    }

    fn is_shown(&self) -> bool {
        self.references > 0 || moved(&self.row.totals)
    }

    /// Puts another row in the place of this one, if it differs.
    fn replace(&mut self, row: Process) {
        if *self.row != row {
            if row.name() != &*self.name {
                self.name = row.name().into();
            }
            self.row = Arc::new(row);
        }
    }
}
