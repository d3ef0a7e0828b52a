//! A snapshot's rows, filtered and added up: what each row of a table is made of.
//!
//! Bytes are conserved here too: without a filter the rows of a view add up to the snapshot's
//! totals, because whatever has no row of its own gets one that names the cause.

mod listener;
mod program;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    ops::Add,
    sync::Arc,
};

pub(super) use self::listener::{accepted_at, listening};
use self::{listener::by_listener, program::by_program};
use super::{
    baseline::app_since,
    entry::{Cause, Entry, Id, Ledger, Subject},
    filter::Filter,
    groups::{By, Label, RowsOf},
    log::Log,
    view::View,
};
use crate::{
    event::{AppTotals, Bytes, ProcessId, SocketCookie},
    model::snapshot::{Flow, FlowKey, Process, Rate, Snapshot},
};

/// The rows of `view`, in no particular order.
pub(crate) fn entries(snapshot: &Snapshot, view: &View) -> Vec<Entry> {
    entries_by(snapshot, view, view.by)
}

/// The rows of `view`, but with what `by` says in each, in no particular order.
pub(crate) fn entries_by(snapshot: &Snapshot, view: &View, by: By) -> Vec<Entry> {
    rows(snapshot, view, by.rows())
}

/// The rows that `of` says, of what `view` counts, in no particular order.
pub(crate) fn rows(snapshot: &Snapshot, view: &View, of: RowsOf) -> Vec<Entry> {
    let label = |by, label| match label {
        Some(label) => Subject::Label(by, label),
        None => Subject::Cause(Cause::Unlabelled(by)),
    };
    match of {
        RowsOf::Nothing | RowsOf::Log => Vec::new(),
        RowsOf::Processes => by_process(snapshot, view, of, |process| {
            Subject::Process(Arc::clone(process))
        }),
        RowsOf::Programs => by_program(snapshot, view),
        RowsOf::ProcessesBy(by, key) => by_process(snapshot, view, of, |it| label(by, key(it))),
        RowsOf::Flows => by_flow(snapshot, view),
        RowsOf::FlowsBy(by, key) => {
            // As with processes, see `retired_processes`.
            let retired: &[Arc<Flow>] = match by {
                By::Remote if view.since.is_none() => &snapshot.retired.remotes,
                _ => &[],
            };
            by_part(snapshot, view, retired, |flow| {
                let key = key(flow);
                (key.is_some() || moved(view.app(flow))).then(|| label(by, key))
            })
        }
        RowsOf::Listeners => by_listener(snapshot, view),
        RowsOf::Interfaces => by_interface(snapshot, view),
    }
}

/// The rows of the log's events that pass the filter, the oldest first.
pub(crate) fn events(log: &Log, filter: &Filter) -> Vec<Entry> {
    let events = log.passing(filter);
    events.map(|event| Entry::of_event(&event)).collect()
}

/// A row for each protocol that moved something.
pub(crate) fn by_protocol(snapshot: &Snapshot, view: &View) -> Vec<Entry> {
    by_part(snapshot, view, &[], |flow| {
        let counts = flow.key.remote.is_some() || moved(view.app(flow));
        counts.then_some(Subject::Protocol(flow.protocol))
    })
}

/// A row for each process that has a part in a flow, with what it moved there.
pub(crate) fn by_part_owner(snapshot: &Snapshot, view: &View) -> Vec<Entry> {
    by_part(snapshot, view, &[], |flow| {
        Some(match &flow.process {
            Some(process) => Subject::Process(Arc::clone(process)),
            None => Subject::Cause(Cause::of_unowned(flow)),
        })
    })
}

/// The sum of `entries`, for the last line.
pub(crate) fn total(snapshot: &Snapshot, view: &View, entries: &[Entry]) -> Entry {
    let mut total = Entry::new(Subject::Total);
    let mut ledger = Ledger::default();
    for entry in entries {
        total.add(entry.app, entry.rate);
        total.flows += entry.flows;
        total.processes += entry.processes;
        if let Some(part) = entry.ledger.as_deref() {
            let mut part = *part;
            if entry.subject.is_over() {
                // The counters of an interface that is gone ended before those of Flow.
                part.ingress.unexplained = 0;
                part.egress.unexplained = 0;
            }
            ledger.ingress = ledger.ingress.combine(&part.ingress, Add::add);
            ledger.egress = ledger.egress.combine(&part.egress, Add::add);
        }
        if let Some(wire) = entry.wire {
            *total.wire.get_or_insert_default() += wire;
        }
    }
    let of = view.by.rows();
    if matches!(of, RowsOf::Interfaces) {
        total.ledger = Some(Box::new(ledger));
    }
    if view.filter.is_all() && matches!(of, RowsOf::Flows | RowsOf::FlowsBy(..)) {
        // A process's rows and a flow's remotes overlap; the model has counted them once.
        total.flows = snapshot.totals.open_flows as u64;
    }
    total
}

fn by_process(
    snapshot: &Snapshot,
    view: &View,
    of: RowsOf,
    subject_of: impl Fn(&Arc<Process>) -> Subject,
) -> Vec<Entry> {
    let mut groups = Groups::default();
    let mut rest = view.total(snapshot);
    for process in &snapshot.processes {
        subtract(&mut rest, view.totals(process));
    }
    passing(snapshot, view, |process, part| {
        let entry = groups.get(subject_of(process));
        entry.add(part.app, part.rate);
        entry.flows += part.flows;
        entry.processes += 1;
    });
    for retired in retired_processes(snapshot, view, of) {
        subtract(&mut rest, retired.totals);
        let entry = groups.get(subject_of(retired));
        entry.add(retired.totals, Rate::default());
    }
    let mut entries = groups.entries;
    entries.extend(unowned_rows(snapshot, view));
    if view.filter.is_all() && moved(rest) {
        entries.push(cause_row(Cause::EndedProcesses, rest));
    }
    entries
}

/// What counts of a process.
struct Part {
    app: AppTotals,
    /// Of these, what it moved since it has its name.
    own: AppTotals,
    rate: Rate,
    flows: u64,
}

/// Hands each process that passes the filter to `each`: whole, or with those of its flows that
/// pass.
fn passing(snapshot: &Snapshot, view: &View, mut each: impl FnMut(&Arc<Process>, Part)) {
    let filter = &view.filter;
    let flows = match filter.is_all() {
        true => HashMap::new(),
        false => flows_by_process(snapshot),
    };
    for process in &snapshot.processes {
        match filter.process_verdict(process) {
            Some(false) => {}
            Some(true) => {
                let part = Part {
                    app: view.totals(process),
                    own: match filter.is_all() {
                        true => process.own(),
                        false => view.own(process),
                    },
                    rate: process.rate,
                    flows: process.open_flows as u64,
                };
                each(process, part);
            }
            // It depends on the flows: then only those that match are counted.
            None => {
                let mut sum = Entry::new(Subject::Total);
                let own = flows.get(&process.id).map_or(&[][..], Vec::as_slice);
                let mut any = false;
                for flow in own.iter().filter(|flow| filter.matches_flow(flow)) {
                    any = true;
                    sum.add(view.app(flow), flow.rate);
                    sum.flows += u64::from(flow.is_open());
                }
                if any {
                    let part = Part {
                        app: sum.app,
                        own: sum.app,
                        rate: sum.rate,
                        flows: sum.flows,
                    };
                    each(process, part);
                }
            }
        }
    }
}

/// Rows of flows that belong to no process, by the cause of that.
fn unowned_rows(snapshot: &Snapshot, view: &View) -> Vec<Entry> {
    let mut groups = Groups::default();
    for flow in unowned(snapshot, &view.filter) {
        let entry = groups.get(Subject::Cause(Cause::of_unowned(flow)));
        entry.add(view.app(flow), flow.rate);
        entry.flows += u64::from(flow.is_open());
    }
    groups.entries
}

/// The processes that are no longer listed, for rows that put processes together. A filter may ask
/// for more than is known of them, and a baseline does not know which of them it counted: then they
/// are in the row of what has ended, or nowhere.
fn retired_processes<'a>(snapshot: &'a Snapshot, view: &View, of: RowsOf) -> &'a [Arc<Process>] {
    match of {
        RowsOf::ProcessesBy(..) if view.since.is_none() && view.filter.is_all() => {
            &snapshot.retired.processes
        }
        _ => &[],
    }
}

/// The row of bytes without a row of their own.
fn cause_row(cause: Cause, app: AppTotals) -> Entry {
    let mut entry = Entry::new(Subject::Cause(cause));
    entry.add(app, Rate::default());
    entry
}

/// The part of a row's bytes that no row under it lists.
pub(super) fn rest_of(row: &Entry, listed: AppTotals, cause: Cause) -> Option<Entry> {
    let mut rest = row.app;
    subtract(&mut rest, listed);
    let processes = match &row.subject {
        Subject::Program(program) => program.past,
        _ => 0,
    };
    moved(rest).then(|| Entry {
        processes,
        ..cause_row(cause, rest)
    })
}

fn by_flow(snapshot: &Snapshot, view: &View) -> Vec<Entry> {
    let filter = &view.filter;
    let mut entries = Vec::with_capacity(snapshot.flows.len());
    let mut rest = view.total(snapshot);
    // Rows of one socket are adjacent. Its wire bytes are those of all its flows together: one row
    // shows them.
    let mut before = None;
    for flow in &snapshot.flows {
        let mut entry = flow_entry(flow, view);
        if flow.process.is_some() {
            subtract(&mut rest, entry.app);
        }
        if filter.matches_flow(flow) {
            if before.replace(flow.key.socket) == Some(flow.key.socket) {
                entry.wire = None;
            }
            entries.push(entry);
        }
    }
    for process in &snapshot.processes {
        subtract(&mut rest, view.overflow(process));
        entries.extend(overflow_entry(process, view));
    }
    if filter.is_all() && moved(rest) {
        entries.push(cause_row(Cause::EndedFlows, rest));
    }
    entries
}

/// Counts open flows. One that several processes share counts once.
#[derive(Debug, Default)]
pub(super) struct OpenFlows {
    alone: u64,
    of_many: HashSet<(SocketCookie, Option<SocketAddr>)>,
}

impl OpenFlows {
    /// Counts a flow of a snapshot, where those of one socket stand together.
    pub(super) fn count(&mut self, flows: &[Arc<Flow>], at: usize) {
        let flow = &flows[at];
        if !flow.is_open() {
            return;
        }
        let FlowKey { socket, remote, .. } = flow.key;
        let is_of_it = |at: Option<usize>| {
            let other = at.and_then(|at| flows.get(at));
            other.is_some_and(|it| it.key.socket == socket)
        };
        if is_of_it(at.checked_sub(1)) || is_of_it(at.checked_add(1)) {
            self.of_many.insert((socket, remote));
        } else {
            self.alone += 1;
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.alone + self.of_many.len() as u64
    }
}

/// Flows added up by what `subject_of` says, without those of which it says nothing; bytes without
/// a flow by their cause.
fn by_part(
    snapshot: &Snapshot,
    view: &View,
    retired: &[Arc<Flow>],
    subject_of: impl Fn(&Flow) -> Option<Subject>,
) -> Vec<Entry> {
    #[derive(Default)]
    struct Part {
        flows: OpenFlows,
        processes: HashSet<ProcessId>,
    }
    let filter = &view.filter;
    let mut groups = Groups::default();
    let mut parts: Vec<Part> = Vec::new();
    let mut rest = view.total(snapshot);
    for (at, flow) in snapshot.flows.iter().enumerate() {
        let app = view.app(flow);
        if flow.process.is_some() {
            subtract(&mut rest, app);
        }
        let Some(subject) = subject_of(flow).filter(|_| filter.matches_flow(flow)) else {
            continue;
        };
        let place = groups.place(subject);
        groups.entries[place].add(app, flow.rate);
        groups.entries[place].members += 1;
        if parts.len() == place {
            parts.push(Part::default());
        }
        let part = &mut parts[place];
        part.processes.extend(flow.key.process);
        part.flows.count(&snapshot.flows, at);
    }
    if filter.is_all() {
        for flow in retired {
            // Nothing else is known of them.
            let Some(subject @ Subject::Label(_, Label::Address(_) | Label::Network(..))) =
                subject_of(flow)
            else {
                continue;
            };
            subtract(&mut rest, flow.app);
            let place = groups.place(subject);
            groups.entries[place].add(flow.app, Rate::default());
        }
    }
    let mut entries = groups.entries;
    for (entry, part) in entries.iter_mut().zip(parts) {
        entry.flows = part.flows.number();
        entry.processes = part.processes.len() as u64;
    }
    if filter.is_all() {
        let mut overflow = AppTotals::default();
        for process in &snapshot.processes {
            overflow += view.overflow(process);
        }
        subtract(&mut rest, overflow);
        for (cause, app) in [(Cause::TableFull, overflow), (Cause::EndedFlows, rest)] {
            if moved(app) {
                entries.push(cause_row(cause, app));
            }
        }
    }
    entries
}

/// The row of a flow.
pub(super) fn flow_entry(flow: &Arc<Flow>, view: &View) -> Entry {
    let mut entry = Entry::new(Subject::Flow(Arc::clone(flow)));
    let (app, wire) = match &view.since {
        None => (flow.app, flow.wire),
        Some(since) => since.flow(flow),
    };
    entry.app = app;
    entry.rate = flow.rate;
    entry.wire = wire;
    entry.flows = u64::from(flow.is_open());
    entry
}

/// The row of a process's bytes of unknown flow, if there are any and the process passes.
pub(super) fn overflow_entry(process: &Arc<Process>, view: &View) -> Option<Entry> {
    let overflow = view.overflow(process);
    let passes = moved(overflow) && view.filter.process_verdict(process) == Some(true);
    passes.then(|| {
        let mut entry = Entry::new(Subject::Overflow(Arc::clone(process)));
        entry.add(overflow, Rate::default());
        entry
    })
}

fn by_interface(snapshot: &Snapshot, view: &View) -> Vec<Entry> {
    snapshot
        .interfaces
        .iter()
        .filter(|interface| view.filter.matches_interface(interface))
        .map(|interface| {
            let mut entry = Entry::new(Subject::Interface(Arc::clone(interface)));
            entry.rate = interface.rate;
            entry.ledger = Some(Box::new(match &view.since {
                None => Ledger {
                    ingress: interface.ingress_ledger,
                    egress: interface.egress_ledger,
                },
                Some(since) => since.interface(interface),
            }));
            entry
        })
        .collect()
}

/// Groups in the order they were met.
#[derive(Default)]
struct Groups {
    entries: Vec<Entry>,
    places: HashMap<Id, usize>,
}

impl Groups {
    fn get(&mut self, subject: Subject) -> &mut Entry {
        let place = self.place(subject);
        &mut self.entries[place]
    }

    fn place(&mut self, subject: Subject) -> usize {
        *self.places.entry(subject.id()).or_insert_with(|| {
            self.entries.push(Entry::new(subject));
            self.entries.len() - 1
        })
    }
}

fn flows_by_process(snapshot: &Snapshot) -> HashMap<ProcessId, Vec<&Flow>> {
    let mut flows: HashMap<ProcessId, Vec<&Flow>> = HashMap::new();
    for flow in &snapshot.flows {
        if let Some(process) = flow.key.process {
            flows.entry(process).or_default().push(flow);
        }
    }
    flows
}

fn unowned<'a>(snapshot: &'a Snapshot, filter: &Filter) -> impl Iterator<Item = &'a Flow> {
    snapshot
        .flows
        .iter()
        .map(|flow| &**flow)
        .filter(|flow| flow.process.is_none() && filter.matches_flow(flow))
}

fn moved(totals: AppTotals) -> bool {
    totals.tx_bytes > Bytes(0) || totals.rx_bytes > Bytes(0)
}

fn subtract(rest: &mut AppTotals, part: AppTotals) {
    *rest = app_since(*rest, part);
}
