//! The rows of programs: the processes of each name, with what earlier ones moved.

use std::{collections::BTreeMap, sync::Arc};

use super::{cause_row, moved, passing, subtract, unowned_rows};
use crate::{
    model::snapshot::{Process, Snapshot},
    query::{
        baseline::app_since,
        entry::{Cause, Entry, Program, Subject},
        view::View,
    },
};

/// One row for each name that a process has or had. Without a filter it contains what processes
/// moved that are no longer listed; a filter cannot be asked of them.
pub(super) fn by_program(snapshot: &Snapshot, view: &View) -> Vec<Entry> {
    let mut programs: BTreeMap<Arc<str>, (Vec<Arc<Process>>, Entry)> = BTreeMap::new();
    let row = || (Vec::new(), Entry::new(Subject::Total));
    passing(snapshot, view, |process, part| {
        let known = programs.get_mut(process.name());
        let (processes, entry) = match known {
            Some(known) => known,
            None => programs.entry(process.name().into()).or_insert_with(row),
        };
        entry.add(part.own, part.rate);
        entry.flows += part.flows;
        entry.processes += 1;
        processes.push(Arc::clone(process));
    });
    let is_whole = view.filter.is_all();
    if is_whole {
        for (name, past) in &snapshot.programs.named {
            let (_, entry) = programs.entry(Arc::clone(name)).or_insert_with(row);
            entry.app += past.totals;
            entry.processes += past.processes;
        }
        if let Some(since) = &view.since {
            for (name, (_, entry)) in &mut programs {
                entry.app = app_since(entry.app, since.program(name));
            }
            programs.retain(|_, (processes, entry)| !processes.is_empty() || moved(entry.app));
        }
    }
    let mut rest = view.total(snapshot);
    let mut entries = Vec::with_capacity(programs.len());
    for (name, (processes, mut entry)) in programs {
        subtract(&mut rest, entry.app);
        let past = entry.processes.saturating_sub(processes.len() as u64);
        entry.subject = Subject::Program(Box::new(Program {
            name,
            processes,
            past,
        }));
        entries.push(entry);
    }
    entries.extend(unowned_rows(snapshot, view));
    if is_whole && moved(rest) {
        let others = snapshot.programs.others.processes;
        entries.push(match others {
            0 => cause_row(Cause::EndedProcesses, rest),
            processes => Entry {
                processes,
                ..cause_row(Cause::OtherPrograms, rest)
            },
        });
    }
    entries
}
