//! The rows under an unfolded row.
//!
//! One pass over the snapshot, whatever the number of unfolded rows.

use std::collections::HashMap;

use super::{
    entry::{Cause, Entry, Id, Program, Subject},
    filter::Filter,
    group::{self, OpenFlows, flow_entry},
    groups::{By, Grouping, Nested, RowsOf, Under},
    view::View,
};
use crate::{
    event::AppTotals,
    model::snapshot::{Flow, Process, Snapshot},
};

/// The rows under each of `parents`, which are those of `grouping`, that is `open`; each with its
/// parent. They add up to it: one more row has what is no longer listed.
pub(crate) fn rows(
    snapshot: &Snapshot,
    view: &View,
    grouping: &Grouping,
    parents: &[Entry],
    open: &dyn Fn(&Id) -> bool,
) -> Vec<(Id, Entry)> {
    let Some(Nested { rows, .. }) = grouping.nested else {
        return Vec::new();
    };
    let rest = match grouping.rows {
        RowsOf::Programs | RowsOf::ProcessesBy(..) if rows == Under::Processes => {
            Cause::EndedProcesses
        }
        _ => Cause::EndedFlows,
    };
    let nested = listed(snapshot, view, grouping.rows, rows, open);
    with_rest(nested, parents, open, rest)
}

fn listed(
    snapshot: &Snapshot,
    view: &View,
    of: RowsOf,
    under: Under,
    open: &dyn Fn(&Id) -> bool,
) -> Vec<(Id, Entry)> {
    match (of, under) {
        (RowsOf::Processes, Under::Flows) => flows_of_processes(snapshot, view, open),
        (RowsOf::Programs, Under::Processes) => processes_of_programs(snapshot, view, open),
        (RowsOf::ProcessesBy(by, key), Under::Flows) => {
            let of_process = |process: &Process| Some(Id::Label(by, key(process)?.id()));
            let of_flow = |flow: &Flow| of_process(flow.process.as_deref()?);
            flows(snapshot, view, open, of_flow, of_process)
        }
        (RowsOf::FlowsBy(by, key), Under::Flows) => {
            let of_flow = |flow: &Flow| Some(Id::Label(by, key(flow)?.id()));
            flows(snapshot, view, open, of_flow, |_| None)
        }
        (RowsOf::Listeners, Under::Flows) => accepted(snapshot, view, open),
        (RowsOf::ProcessesBy(by, key), Under::Processes) => processes(snapshot, view, open, |it| {
            Some(Id::Label(by, key(it)?.id()))
        }),
        (RowsOf::FlowsBy(by, key), Under::Processes) => {
            parts_of_processes(snapshot, view, open, |it| {
                Some(Id::Label(by, key(it)?.id()))
            })
        }
        (RowsOf::FlowsBy(by, key), Under::Programs) => {
            let parts = parts_of_processes(snapshot, view, open, |it| {
                Some(Id::Label(by, key(it)?.id()))
            });
            parts_of_programs(parts)
        }
        (_, Under::Processes | Under::Programs)
        | (
            RowsOf::Nothing | RowsOf::Programs | RowsOf::Flows | RowsOf::Interfaces | RowsOf::Log,
            _,
        ) => Vec::new(),
    }
}

/// As [`rows`], under the rows that it returned.
pub(crate) fn below(
    snapshot: &Snapshot,
    view: &View,
    grouping: &Grouping,
    parents: &[Entry],
    open: &dyn Fn(&Id) -> bool,
) -> Vec<(Id, Entry)> {
    match grouping.nested {
        Some(Nested {
            rows: Under::Processes,
            below: Some(Under::Flows),
            ..
        }) => {
            let nested = flows_of_processes(snapshot, view, open);
            with_rest(nested, parents, open, Cause::EndedFlows)
        }
        _ => Vec::new(),
    }
}

/// Adds a row for the part of the bytes of each of `parents` that no row under it lists.
fn with_rest(
    mut nested: Vec<(Id, Entry)>,
    parents: &[Entry],
    open: &dyn Fn(&Id) -> bool,
    cause: Cause,
) -> Vec<(Id, Entry)> {
    let mut sums: HashMap<&Id, AppTotals> = HashMap::new();
    for (parent, entry) in &nested {
        *sums.entry(parent).or_default() += entry.app;
    }
    let rests: Vec<_> = parents
        .iter()
        .filter(|parent| !matches!(parent.subject, Subject::Cause(_)))
        .filter_map(|parent| {
            let id = Some(parent.subject.id()).filter(open)?;
            let sum = sums.get(&id).copied().unwrap_or_default();
            let rest = group::rest_of(parent, sum, cause)?;
            Some((id, rest))
        })
        .collect();
    nested.extend(rests);
    nested
}

fn flows_of_processes(
    snapshot: &Snapshot,
    view: &View,
    open: &dyn Fn(&Id) -> bool,
) -> Vec<(Id, Entry)> {
    let of_process = |process: &Process| Some(Id::Process(process.id));
    let of_flow = |flow: &Flow| flow.key.process.map(Id::Process);
    flows(snapshot, view, open, of_flow, of_process)
}

/// The processes of each program of `open`.
fn processes_of_programs(
    snapshot: &Snapshot,
    view: &View,
    open: &dyn Fn(&Id) -> bool,
) -> Vec<(Id, Entry)> {
    let mut nested = processes(snapshot, view, open, |process| {
        Some(Id::program(&process.name().into()))
    });
    if view.filter.is_all() {
        for (_, entry) in &mut nested {
            if let Subject::Process(process) = &entry.subject {
                entry.app = view.own(process);
            }
        }
    }
    nested
}

/// Puts the processes of a name together that stand under the same row.
fn parts_of_programs(parts: Vec<(Id, Entry)>) -> Vec<(Id, Entry)> {
    let mut programs: Vec<(Id, Vec<Entry>)> = Vec::new();
    let mut places: HashMap<(Id, Id), usize> = HashMap::new();
    for (parent, entry) in parts {
        let program = match &entry.subject {
            Subject::Process(process) => Id::program(&process.name().into()),
            subject => subject.id(),
        };
        let place = *places.entry((parent.clone(), program)).or_insert_with(|| {
            programs.push((parent, Vec::new()));
            programs.len() - 1
        });
        programs[place].1.push(entry);
    }
    let programs = programs.into_iter();
    programs
        .filter_map(|(parent, parts)| Some((parent, together(parts)?)))
        .collect()
}

/// One row of the processes of a name; a single one stays as it is.
fn together(mut parts: Vec<Entry>) -> Option<Entry> {
    if parts.len() < 2 {
        return parts.pop();
    }
    let mut sum = Entry::new(Subject::Total);
    let mut processes = Vec::with_capacity(parts.len());
    for part in parts {
        sum.add(part.app, part.rate);
        sum.flows += part.flows;
        sum.processes += part.processes;
        if let Subject::Process(process) = part.subject {
            processes.push(process);
        }
    }
    let name = processes.first()?.name().into();
    sum.subject = Subject::Program(Box::new(Program {
        name,
        processes,
        past: 0,
    }));
    Some(sum)
}

/// The flows under each of `open`: those that `parent` says, and bytes of processes whose flow is
/// not known.
fn flows(
    snapshot: &Snapshot,
    view: &View,
    open: &dyn Fn(&Id) -> bool,
    parent: impl Fn(&Flow) -> Option<Id>,
    parent_of_process: impl Fn(&Process) -> Option<Id>,
) -> Vec<(Id, Entry)> {
    let mut nested: Vec<(Id, Entry)> = snapshot
        .flows
        .iter()
        .filter_map(|flow| {
            let parent = parent(flow).filter(open)?;
            let passes = view.filter.matches_flow(flow);
            passes.then(|| (parent, flow_entry(flow, view)))
        })
        .collect();
    for process in &snapshot.processes {
        if let Some(parent) = parent_of_process(process).filter(open)
            && let Some(entry) = group::overflow_entry(process, view)
        {
            nested.push((parent, entry));
        }
    }
    nested
}

/// The flows of each listener of `open`: those that it accepted or serves.
fn accepted(snapshot: &Snapshot, view: &View, open: &dyn Fn(&Id) -> bool) -> Vec<(Id, Entry)> {
    let known = group::listening(snapshot, &Filter::default());
    // A listener that matches counts all its flows.
    let matching = group::listening(snapshot, &view.filter);
    let under = snapshot.flows.iter().filter_map(|flow| {
        let listener = group::accepted_at(flow, &known)?;
        if !matching.contains(&listener) && !view.filter.matches_flow(flow) {
            return None;
        }
        let (netns, protocol, local) = listener;
        let parent = Some(Id::Listener(netns, protocol, local)).filter(open)?;
        let mut entry = flow_entry(flow, view);
        if flow.serves {
            // They are of the one socket: the listener's row has them.
            entry.wire = None;
        }
        Some((parent, entry))
    });
    under.collect()
}

/// The processes under each of `open`, those that `parent` says.
fn processes(
    snapshot: &Snapshot,
    view: &View,
    open: &dyn Fn(&Id) -> bool,
    parent: impl Fn(&Process) -> Option<Id>,
) -> Vec<(Id, Entry)> {
    let entries = group::entries_by(snapshot, view, By::Process).into_iter();
    let under = entries.filter_map(|entry| match &entry.subject {
        Subject::Process(process) => Some((parent(process).filter(open)?, entry)),
        _ => None,
    });
    under.collect()
}

/// The processes that have a part in the flows under each of `open`, with what they moved there.
fn parts_of_processes(
    snapshot: &Snapshot,
    view: &View,
    open: &dyn Fn(&Id) -> bool,
    parent: impl Fn(&Flow) -> Option<Id>,
) -> Vec<(Id, Entry)> {
    let mut nested: Vec<(Id, Entry, OpenFlows)> = Vec::new();
    let mut places: HashMap<(Id, Id), usize> = HashMap::new();
    for (at, flow) in snapshot.flows.iter().enumerate() {
        let Some(parent) = parent(flow).filter(open) else {
            continue;
        };
        if !view.filter.matches_flow(flow) {
            continue;
        }
        let subject = match &flow.process {
            Some(process) => Subject::Process(process.clone()),
            None => Subject::Cause(Cause::of_unowned(flow)),
        };
        let key = (parent.clone(), subject.id());
        let place = *places.entry(key).or_insert_with(|| {
            nested.push((parent, Entry::new(subject), OpenFlows::default()));
            nested.len() - 1
        });
        let (_, entry, open_flows) = &mut nested[place];
        let part = flow_entry(flow, view);
        entry.add(part.app, part.rate);
        entry.processes = 1;
        open_flows.count(&snapshot.flows, at);
    }
    let entries = nested.into_iter();
    entries
        .map(|(parent, mut entry, open_flows)| {
            entry.flows = open_flows.number();
            (parent, entry)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Bytes, State},
        query::{fixture, groups::Label},
    };

    /// The rows under those of the first grouping of a view.
    fn under(snapshot: &Snapshot, by: By, open: &dyn Fn(&Id) -> bool) -> Vec<(Id, Entry)> {
        let (view, grouping) = (View::default(), &by.def().groupings[0]);
        let parents = group::rows(snapshot, &view, grouping.rows);
        rows(snapshot, &view, grouping, &parents, open)
    }

    #[test]
    fn an_open_flow_counts_once_and_a_listener_never() {
        let (one, other) = (
            fixture::process(1, "/bin/a", &[]),
            fixture::process(2, "/bin/b", &[]),
        );
        let datagrams = |remote| fixture::served(1, &one, Some(remote));
        let shared = |of| fixture::flow(2, of, "10.0.0.2:80", Some("10.0.0.9:5"));
        let listener = Flow {
            state: State::Listen,
            ..fixture::flow(3, &one, "10.0.0.2:80", Some("10.0.0.9:0"))
        };
        let flows_of = vec![
            datagrams("10.0.0.9:1"),
            datagrams("10.0.0.9:2"),
            shared(&one),
            shared(&other),
            listener,
        ];
        let snapshot = fixture::snapshot(vec![one, other], flows_of, Vec::new());
        let of_all = group::rows(&snapshot, &View::default(), By::Remote.rows());
        assert_eq!(of_all[0].flows, 3);
        let under = under(&snapshot, By::Remote, &|_| true);
        let counts: Vec<u64> = under.iter().map(|(_, entry)| entry.flows).collect();
        assert_eq!(counts, [3, 1]);
    }

    #[test]
    fn only_what_is_open_has_rows_under_it() {
        let (curl, nginx) = (
            fixture::process(1, "/bin/curl", &[]),
            fixture::process(2, "/bin/nginx", &[]),
        );
        let flows_of = vec![
            fixture::flow(1, &curl, "10.0.0.2:1", Some("10.0.0.9:80")),
            fixture::flow(2, &curl, "10.0.0.2:2", Some("10.0.0.9:81")),
            fixture::flow(3, &nginx, "10.0.0.2:80", Some("10.0.0.9:5")),
        ];
        let (curl_id, nginx_id) = (Id::Process(curl.id), Id::Process(nginx.id));
        let snapshot = fixture::snapshot(vec![curl, nginx], flows_of, Vec::new());
        let remote = Id::Label(By::Remote, Label::Address("10.0.0.9".parse().unwrap()));
        let under = |by: By, open: &dyn Fn(&Id) -> bool| under(&snapshot, by, open);
        assert_eq!(under(By::Process, &|id| *id == curl_id).len(), 2);
        let there = under(By::Remote, &|id| *id == remote);
        let subjects: Vec<_> = there.iter().map(|(_, entry)| entry.subject.id()).collect();
        assert_eq!(subjects, [curl_id, nginx_id]);
        assert_eq!(there[0].1.app.rx_bytes, Bytes(2000));
        assert_eq!(there[0].1.flows, 2);
        assert_eq!(under(By::User, &|_| true).len(), 2);
    }

    #[test]
    fn under_a_listener_of_datagrams_are_its_remotes() {
        let dnsmasq = fixture::process(1, "/bin/dnsmasq", &[]);
        let of = |remote| fixture::served(7, &dnsmasq, remote);
        let endpoint = Flow {
            app: AppTotals::default(),
            ..of(None)
        };
        let flows = vec![endpoint, of(Some("10.0.0.7:1")), of(Some("10.0.0.8:1"))];
        let snapshot = fixture::snapshot(vec![dnsmasq], flows, Vec::new());
        let under = under(&snapshot, By::Listener, &|_| true);
        assert_eq!(under.len(), 2);
        assert!(under.iter().all(|(_, entry)| entry.wire.is_none()));
    }
}
