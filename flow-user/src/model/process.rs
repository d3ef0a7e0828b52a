//! The process table: programs, lineage and totals of each process.
//!
//! Every live process is known here, because a child is its parent's program until it calls exec;
//! only those with traffic or a flow are shown. A process is dropped once it exited, its last flow
//! left the history and the history has passed; its bytes then stay in the grand total.

mod identity;
mod keyframe;
mod known;
mod life;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use foldhash::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

use self::{known::Known, life::Dropped};
use super::{
    programs::Programs,
    rate::Meter,
    retired::RetiredProcesses,
    snapshot::{Process, Rate},
    sums::{Failures, SocketSums},
    tombstone::Tombstones,
    totals::{moved, raise_app},
};
use crate::event::{
    AppFact, AppTotals, CgroupId, CloseReason, Instant, ProcessFact, ProcessId, Program,
};

/// Ancestors kept for each process.
const LINEAGE: usize = 32;

/// Every process known, and the sums over them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProcessTable {
    #[serde(skip)]
    history: Duration,
    /// Ordered, so that every walk over it comes out the same.
    #[serde(with = "keyframe")]
    entries: BTreeMap<ProcessId, Entry>,
    /// Start of the newest process of each pid: an older one with that pid has exited, even
    /// without a report of its exit.
    #[serde(skip)]
    newest: HashMap<u32, Instant>,
    cgroups: Known<CgroupId>,
    users: Known<u32>,
    /// Processes that moved bytes since the last tick, or had a rate then.
    #[serde(skip)]
    moving: HashSet<ProcessId>,
    /// Exited processes whose grace runs, then those whose history runs.
    grace: VecDeque<(Instant, ProcessId)>,
    exited: VecDeque<(Instant, ProcessId)>,
    dropped: Tombstones<ProcessId, Dropped>,
    /// Dropped processes that had traffic.
    dropped_rows: u64,
    retired: RetiredProcesses,
    /// Processes of which something other than numbers changed since the last snapshot.
    #[serde(skip)]
    renamed: HashSet<ProcessId>,
    /// Processes with another name since the last tick: the lineage of others contains it.
    retitled: HashSet<ProcessId>,
    /// Processes that are shown now, and may have given themselves a title before.
    #[serde(skip)]
    untitled: Vec<ProcessId>,
    total: AppTotals,
    #[serde(default, skip_serializing_if = "Programs::is_empty")]
    programs: Arc<Programs>,
}

#[derive(Debug)]
struct Entry {
    row: Arc<Process>,
    /// The row as it was when something other than numbers last changed, shared by the rows of its
    /// flows, so that they do not each keep a copy.
    metadata: Arc<Process>,
    /// The row's name, shared with the lineage of descendants.
    name: Arc<str>,
    exec: Option<Instant>,
    /// When its current name was last reported.
    named: Instant,
    /// Whether its command line is what it inherited, not read since.
    inherited: bool,
    /// Largest overflow reported; the row's can be less if the process was dropped in between.
    overflow: AppTotals,
    /// Rows of flows, open or closed, and deferred counters that refer to this process.
    references: usize,
    /// Whether it is in `grace` or `exited`.
    queued: bool,
    /// Whether its exit was reported; not so if it was only inferred from a newer process with its
    /// pid.
    exit_reported: bool,
    meter: Meter,
    moving: bool,
}

impl ProcessTable {
    pub(super) fn new(history: Duration) -> Self {
        Self {
            history,
            entries: BTreeMap::new(),
            newest: HashMap::default(),
            cgroups: Known::default(),
            users: Known::default(),
            moving: HashSet::default(),
            grace: VecDeque::new(),
            exited: VecDeque::new(),
            dropped: Tombstones::default(),
            dropped_rows: 0,
            retired: RetiredProcesses::default(),
            renamed: HashSet::default(),
            retitled: HashSet::default(),
            untitled: Vec::new(),
            total: AppTotals::default(),
            programs: Arc::default(),
        }
    }

    /// A process exists: fills what is missing.
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
        self.ensure(id, time);
        self.identify(id, |row| {
            let known = &mut row.program;
            known.comm = known.comm.take().or(program.comm);
            known.exe = known.exe.take().or(program.exe);
            if known.cmdline.is_none() {
                known.cmdline = program.cmdline;
                known.cmdline_cut = program.cmdline_cut;
            }
            row.parent = row.parent.or(parent);
            row.uid = row.uid.or(uid);
        });
        if self
            .entries
            .get(&id)
            .is_some_and(|e| e.row.cgroup.is_none())
        {
            self.set_cgroup(id, cgroup);
        }
        self.trace(id);
    }

    /// All processes that exist. Returns the rows of those that ended without a report.
    pub(super) fn listed(&mut self, facts: Vec<ProcessFact>, time: Instant) -> Vec<Arc<Process>> {
        let present: HashSet<ProcessId> = facts.iter().map(|fact| fact.id).collect();
        for fact in facts {
            let ProcessFact { id, program, .. } = &fact;
            // Its exec may have been among what was lost. The list may come later than the records
            // of what happened after it.
            let changed = |entry: &&Entry| {
                let known = &entry.row.program;
                let is_later = entry.exec.is_some_and(|exec| exec > time);
                !is_later && program.exe.is_some() && program.exe != known.exe
            };
            if let Some(entry) = self.entries.get(id).filter(changed) {
                let mut program = program.clone();
                if entry.named > time {
                    program.comm.clone_from(&entry.row.program.comm);
                }
                self.identify(*id, |row| row.program = program);
            } else {
                self.named(*id, program.clone(), time);
            }
            self.seen(fact, time);
        }
        let ended: Vec<ProcessId> = self
            .entries
            .iter()
            .filter(|(id, entry)| {
                entry.row.exited.is_none() && id.start < time && !present.contains(id)
            })
            .map(|(id, _)| *id)
            .collect();
        let rows = ended.into_iter().filter_map(|id| self.exit(id, time));
        rows.collect()
    }

    /// A process became another program. Returns its row, unless this was reported before or the
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
        entry.named = time;
        entry.inherited = false;
        self.identify(id, |row| {
            row.program = program;
            row.parent = parent.or(row.parent);
            row.uid = uid;
        });
        self.set_cgroup(id, cgroup);
        self.trace(id);
        self.row(id)
    }

    /// A process was forked: it runs its parent's program.
    pub(super) fn fork(&mut self, fact: ProcessFact, time: Instant) {
        let parent = fact.parent.and_then(|parent| self.entries.get(&parent));
        let Some(parent) = parent else {
            self.seen(fact, time);
            return;
        };
        if self.entries.get(&fact.id).is_some_and(|e| e.exec.is_some()) {
            // Reported late: it is no longer its parent's program.
            self.seen(fact, time);
            return;
        }
        let id = fact.id;
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
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.inherited = true;
            if entry.is_shown() {
                self.untitled.push(id);
            }
        }
    }

    /// The names that a process had at `time`. Of one that became another program since they are an
    /// earlier program's.
    pub(super) fn named(&mut self, id: ProcessId, program: Program, time: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if entry.exec.is_some_and(|exec| exec > time) {
            return;
        }
        let Program {
            comm,
            exe: _,
            cmdline,
            cmdline_cut,
        } = program;
        let known = &entry.row.program;
        let comm = comm.filter(|comm| entry.named <= time && known.comm.as_ref() != Some(comm));
        let cmdline = cmdline.filter(|new| {
            let known = known.cmdline.as_deref();
            known.is_none_or(|known| without_padding(known) != without_padding(new))
        });
        entry.named = entry.named.max(time);
        entry.inherited = false;
        if comm.is_none() && cmdline.is_none() {
            return;
        }
        self.identify(id, |row| {
            if comm.is_some() {
                row.program.comm = comm;
            }
            if cmdline.is_some() {
                row.program.cmdline = cmdline;
                row.program.cmdline_cut = cmdline_cut;
            }
        });
    }

    /// A cgroup's path is known.
    pub(super) fn cgroup(&mut self, id: CgroupId, path: Arc<str>) {
        if self.cgroups.get(id) == Some(&path) {
            return;
        }
        let used = self.entries.values().filter_map(|e| e.row.cgroup);
        self.cgroups.set(id, Some(path.clone()), used);
        let are = |row: &Process| row.cgroup == Some(id);
        let change = |row: &mut Process| row.cgroup_path = Some(path.clone());
        self.identify_all(are, change);
        self.retired.identify(are, change);
    }

    /// A user's name is known, or that there is none.
    pub(super) fn user(&mut self, uid: u32, name: Option<Arc<str>>) {
        if self.users.get(uid) == name.as_ref() {
            return;
        }
        let are = |row: &Process| row.uid == Some(uid);
        self.retired.identify(are, |row| row.user.clone_from(&name));
        let used = self.entries.values().filter_map(|e| e.row.uid);
        self.users.set(uid, name, used);
        // It takes its user's name from there.
        self.identify_all(are, |_| {});
    }

    /// Leaves users without names.
    pub(super) fn forget_users(&mut self) {
        self.users = Known::default();
        let are = |row: &Process| row.user.is_some();
        self.identify_all(are, |_| {});
        self.retired.identify(are, |row| row.user = None);
    }

    /// Takes what an app fact knows of its process. A copy without new bytes may be an old one,
    /// with an outdated user and cgroup; `grew` says that it is not.
    pub(super) fn observe(&mut self, fact: &AppFact, grew: bool, time: Instant) {
        let entry = self.ensure(fact.process, time);
        let row = &entry.row;
        // It comes with a record, at the time of that.
        let comm = fact.comm.is_some()
            && fact.comm != row.program.comm
            && (entry.named <= time || row.program.comm.is_none());
        if fact.comm.is_some() {
            entry.named = entry.named.max(time);
        }
        let uid = fact.uid.is_some() && fact.uid != row.uid && (grew || row.uid.is_none());
        let cgroup = grew || row.cgroup.is_none();
        if comm || uid {
            self.identify(fact.process, |row| {
                if comm {
                    row.program.comm.clone_from(&fact.comm);
                }
                if uid {
                    row.uid = fact.uid;
                }
            });
        }
        if cgroup {
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
            self.moving.insert(id);
        }
        if first {
            self.shown_first(id);
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

    pub(super) fn flow_opened(&mut self, id: ProcessId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let open = &mut Arc::make_mut(&mut entry.row).open_flows;
            *open = open.saturating_add(1);
        }
    }

    pub(super) fn flow_closed(&mut self, id: ProcessId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let open = &mut Arc::make_mut(&mut entry.row).open_flows;
            *open = open.saturating_sub(1);
        }
    }

    /// A connection of this process has ended.
    pub(super) fn connection_ended(&mut self, id: ProcessId, reason: CloseReason) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let mut failures = entry.row.failures;
            failures.count(reason);
            if failures != entry.row.failures {
                Arc::make_mut(&mut entry.row).failures = failures;
            }
        }
    }

    /// A socket that this process used, or a part of its bytes, is no longer listed.
    pub(super) fn socket_left(&mut self, id: ProcessId, sums: SocketSums) {
        if sums != SocketSums::default()
            && let Some(entry) = self.entries.get_mut(&id)
        {
            let past = &mut Arc::make_mut(&mut entry.row).past_sockets;
            *Arc::make_mut(past.get_or_insert_default()) += sums;
        }
    }

    /// A socket that had left is listed again.
    pub(super) fn socket_came_back(&mut self, id: ProcessId, sums: &SocketSums) {
        if let Some(entry) = self.entries.get_mut(&id)
            && let Some(past) = &mut Arc::make_mut(&mut entry.row).past_sockets
        {
            let past = Arc::make_mut(past);
            *past = past.without(sums);
        }
    }

    /// The process now.
    pub(super) fn row(&self, id: ProcessId) -> Option<Arc<Process>> {
        self.entries.get(&id).map(|entry| entry.row.clone())
    }

    /// The process as the rows of its flows show it, with numbers of an earlier moment.
    pub(super) fn metadata(&self, id: ProcessId) -> Option<Arc<Process>> {
        self.entries.get(&id).map(|entry| entry.metadata.clone())
    }

    /// See [`super::Model::untitled`].
    pub(super) fn untitled(&mut self) -> Vec<ProcessId> {
        std::mem::take(&mut self.untitled)
    }

    /// See [`super::Model::living`].
    pub(super) fn living(&self) -> [Vec<ProcessId>; 2] {
        let entries = self.entries.iter();
        let living = entries.filter(|(_, entry)| entry.is_shown() && entry.row.exited.is_none());
        let (moving, still): (Vec<_>, Vec<_>) = living.partition(|(_, entry)| entry.moving);
        [moving, still].map(|part| part.into_iter().map(|(id, _)| *id).collect())
    }

    /// The processes that are shown: those with traffic or a flow.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Arc<Process>> {
        let entries = self.entries.values();
        entries.filter(|e| e.is_shown()).map(|e| &e.row)
    }

    /// Whether something other than numbers changed of a process since the last snapshot.
    pub(super) fn is_renamed(&self, id: ProcessId) -> bool {
        self.renamed.contains(&id)
    }

    /// A snapshot was taken.
    pub(super) fn forget_renamed(&mut self) {
        self.renamed.clear();
    }

    /// Processes with traffic that are no longer listed.
    pub(super) fn dropped_count(&self) -> u64 {
        self.dropped_rows
    }

    /// Sums of the processes that are no longer listed.
    pub(super) fn retired(&mut self) -> Arc<[Arc<Process>]> {
        self.retired.shown()
    }

    /// App bytes of all processes ever, dropped ones included.
    pub(super) fn total(&self) -> AppTotals {
        self.total
    }

    /// What processes moved that are no longer listed, by program.
    pub(super) fn programs(&self) -> Arc<Programs> {
        self.programs.clone()
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

    fn set_cgroup(&mut self, id: ProcessId, cgroup: Option<CgroupId>) {
        if let Some(cgroup) = cgroup
            && let Some(entry) = self.entries.get(&id)
            && entry.row.cgroup != Some(cgroup)
        {
            let path = self.cgroups.get(cgroup).cloned();
            self.identify(id, |row| {
                row.cgroup = Some(cgroup);
                row.cgroup_path = path;
            });
        }
    }

    /// A process is shown from here on.
    fn shown_first(&mut self, id: ProcessId) {
        self.trace(id);
        if self.entries.get(&id).is_some_and(|entry| entry.inherited) {
            self.untitled.push(id);
        }
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
            user: None,
            cgroup: None,
            cgroup_path: None,
            exited: None,
            totals: AppTotals::default(),
            overflow: AppTotals::default(),
            before: AppTotals::default(),
            rate: Rate::default(),
            open_flows: 0,
            failures: Failures::default(),
            past_sockets: None,
        };
        let name = row.name().into();
        let row = Arc::new(row);
        Self {
            name,
            metadata: row.clone(),
            row,
            exec: None,
            named: Instant(0),
            inherited: false,
            overflow,
            references: 0,
            queued: false,
            exit_reported: false,
            meter: Meter::default(),
            moving: false,
        }
    }

    fn is_shown(&self) -> bool {
        self.references > 0 || moved(&self.row.totals)
    }
}

/// A command line without the empty arguments at its end: what is left of those that a title was
/// written over.
fn without_padding(cmdline: &[String]) -> &[String] {
    let used = cmdline.iter().rposition(|argument| !argument.is_empty());
    &cmdline[..used.map_or(0, |last| last + 1)]
}
