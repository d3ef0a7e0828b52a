//! Cells of columns that several views share.

use super::{column::Context, value::Value};
use crate::{
    event::{Backlog, Bytes, Direction, InterfaceSide},
    model::{
        change::{Change, ChangeSubject},
        snapshot::{Flow, LedgerSide, Process},
    },
    query::{
        entry::{Cause, Entry, Ledger, Subject},
        human,
        log::{Logged, What},
    },
};

pub(super) fn text(text: Option<String>) -> Value {
    text.map_or(Value::Absent, Value::Text)
}

pub(super) fn flow_of(entry: &Entry) -> Option<&Flow> {
    match &entry.subject {
        Subject::Flow(flow) => Some(flow),
        Subject::Event(event) => event.flow().map(|flow| &**flow),
        _ => None,
    }
}

pub(super) fn event_of(entry: &Entry) -> Option<&Logged> {
    match &entry.subject {
        Subject::Event(event) => Some(event),
        _ => None,
    }
}

pub(super) fn change_of(entry: &Entry) -> Option<&Change> {
    match &event_of(entry)?.what {
        What::Change(change) => Some(change),
        What::Alert(_) => None,
    }
}

pub(super) fn event_name(what: &What) -> &'static str {
    match what {
        What::Alert(_) => "alert",
        What::Change(change) => change.kind().short(),
    }
}

pub(super) fn what_happened(what: &What) -> String {
    let change = match what {
        What::Alert(process) => {
            return human::rate(process.rate.rx + process.rate.tx);
        }
        What::Change(change) => change,
    };
    match change.subject() {
        ChangeSubject::Flow(_) | ChangeSubject::Process(_) => outcome(change).unwrap_or_default(),
        ChangeSubject::Interface(_) => String::new(),
        ChangeSubject::Loss(cause, count) => format!("{count} {}", human::loss(cause)),
        ChangeSubject::Coverage(coverage) => {
            let missing = coverage.iter().filter(|it| it.backend.is_none());
            let missing: Vec<&str> = missing.map(|it| it.capability.name()).collect();
            match missing.as_slice() {
                [] => "every capability is available".to_owned(),
                missing => format!("not seen: {}", missing.join(", ")),
            }
        }
    }
}

/// The state of a flow, or why it or a process ended.
pub(super) fn outcome(change: &Change) -> Option<String> {
    match change.flow() {
        Some(flow) => Some(match flow.closed {
            Some((_, reason)) => reason.name().to_owned(),
            None => flow.state.name().to_owned(),
        }),
        None => change.exit().map(human::exit_status),
    }
}

/// The process of a row; of a listener the first one.
pub(super) fn process_of(entry: &Entry) -> Option<&Process> {
    match &entry.subject {
        Subject::Process(process) | Subject::Overflow(process) => Some(process),
        Subject::Flow(flow) => flow.process.as_deref(),
        Subject::Event(event) => event.process().map(|process| &**process),
        Subject::Listener(listener) => listener.processes.first().map(|process| &**process),
        _ => None,
    }
}

/// The first text column of rows that are not of the view's own type.
pub(super) fn label(entry: &Entry, _: &Context<'_>) -> Value {
    match &entry.subject {
        Subject::Cause(cause) => Value::Text(cause.label().to_owned()),
        Subject::Label(_, label) => Value::Text(label.to_string()),
        Subject::Total => Value::Text("TOTAL".to_owned()),
        _ => Value::Absent,
    }
}

pub(super) fn process_name(entry: &Entry, context: &Context<'_>) -> Value {
    let Some(process) = process_of(entry) else {
        return match &entry.subject {
            Subject::Flow(flow) => Value::Text(Cause::of_unowned(flow).label().to_owned()),
            Subject::Ancestor(_, name) => Value::Text(name.to_string()),
            _ => label(entry, context),
        };
    };
    let name = process.name().to_owned();
    let others = match &entry.subject {
        Subject::Listener(listener) => listener.processes.len(),
        _ => 1,
    };
    let label = match process.exited {
        _ if others > 1 => format!("{name} ×{others}"),
        Some(_) => format!("{name} (exited)"),
        None => return Value::Text(name),
    };
    Value::Labelled { text: name, label }
}

/// Columns of the graph, and the seconds it shows.
const GRAPH_WIDTH: usize = 10;
const GRAPH_SECONDS: usize = 60;

/// The rate of a process over time, both directions together.
pub(super) fn graph(entry: &Entry, context: &Context<'_>) -> Value {
    let Subject::Process(process) = &entry.subject else {
        return Value::Absent;
    };
    let Some((history, time)) = context.history else {
        return Value::Absent;
    };
    let Some(track) = history.process(process.id) else {
        return Value::Absent;
    };
    let samples = track.until(time, GRAPH_SECONDS);
    // Steps are aligned to the clock, so only the last one changes as time passes.
    let each = GRAPH_SECONDS / (GRAPH_WIDTH * 2);
    let into_last = usize::try_from(time.0 / 1_000_000_000).unwrap_or(0) % each;
    let mut steps = vec![0.0_f64; GRAPH_WIDTH * 2 + 1];
    for (ago, sample) in samples.iter().rev().enumerate() {
        let step = (ago + each - 1 - into_last) / each;
        let place = steps.len() - 1 - step.min(steps.len() - 1);
        steps[place] = steps[place].max((sample.tx + sample.rx).into());
    }
    let top = steps.iter().fold(0.0, |most: f64, rate| most.max(*rate));
    if top < 0.5 {
        return Value::Absent;
    }
    // The oldest step is not whole.
    steps.remove(0);
    Value::Graph {
        rates: steps,
        peak: top,
    }
}

pub(super) fn pid(entry: &Entry, _: &Context<'_>) -> Value {
    match (&entry.subject, process_of(entry)) {
        (Subject::Ancestor(id, _), _) => Value::Id(id.pid.into()),
        (_, Some(process)) => Value::Id(process.id.pid.into()),
        (_, None) => Value::Absent,
    }
}

pub(super) fn uid(entry: &Entry, _: &Context<'_>) -> Value {
    let uid = process_of(entry).and_then(|process| process.uid);
    uid.map_or(Value::Absent, |uid| Value::Id(uid.into()))
}

pub(super) fn user(entry: &Entry, _: &Context<'_>) -> Value {
    let user = process_of(entry).and_then(|process| Some((process.uid?, process.user.as_deref())));
    user.map_or(Value::Absent, |(uid, name)| user_named(uid, name))
}

pub(super) fn user_named(uid: u32, name: Option<&str>) -> Value {
    Value::Text(name.map_or_else(|| uid.to_string(), str::to_owned))
}

pub(super) fn cgroup(entry: &Entry, _: &Context<'_>) -> Value {
    text(process_of(entry).and_then(|process| process.cgroup_path.as_deref().map(str::to_owned)))
}

pub(super) fn command(entry: &Entry, _: &Context<'_>) -> Value {
    let cmdline = process_of(entry).and_then(|process| process.program.cmdline.as_deref());
    text(cmdline.map(|arguments| arguments.join(" ")))
}

pub(super) fn flows(entry: &Entry, _: &Context<'_>) -> Value {
    Value::Count(entry.flows)
}

pub(super) fn processes(entry: &Entry, _: &Context<'_>) -> Value {
    Value::Count(entry.processes)
}

pub(super) fn protocol(entry: &Entry, _: &Context<'_>) -> Value {
    let protocol = match &entry.subject {
        Subject::Listener(listener) => Some(listener.protocol),
        _ => flow_of(entry).map(|flow| flow.protocol),
    };
    text(protocol.map(|protocol| protocol.name().to_owned()))
}

pub(super) fn local(entry: &Entry, _: &Context<'_>) -> Value {
    let local = match &entry.subject {
        Subject::Listener(listener) => Some(listener.local),
        _ => flow_of(entry).and_then(Flow::bound),
    };
    local.map_or(Value::Absent, Value::from)
}

/// A number of a listener's accept queue.
pub(super) fn backlog(entry: &Entry, number: fn(&Backlog) -> u32) -> Value {
    match &entry.subject {
        Subject::Listener(listener) => listener.backlog.map_or(Value::Absent, |backlog| {
            Value::Count(number(&backlog).into())
        }),
        _ => Value::Absent,
    }
}

pub(super) fn arrow(entry: &Entry, _: &Context<'_>) -> Value {
    let arrow = match (flow_of(entry), direction(entry)) {
        (_, Some(Direction::Outbound)) => "→",
        (_, Some(Direction::Inbound)) => "←",
        (Some(flow), None) if flow.key.remote.is_some() => "↔",
        _ => return Value::Absent,
    };
    Value::Text(arrow.to_owned())
}

pub(super) fn direction(entry: &Entry) -> Option<Direction> {
    flow_of(entry).and_then(|flow| flow.direction)
}

pub(super) fn remote(entry: &Entry, _: &Context<'_>) -> Value {
    match &entry.subject {
        Subject::Overflow(_) => Value::Text(Cause::TableFull.label().to_owned()),
        // The process column names causes and the total.
        _ => flow_of(entry).map_or(Value::Absent, remote_of),
    }
}

fn remote_of(flow: &Flow) -> Value {
    flow.key
        .remote
        .map_or(Value::Absent, |address| Value::Address {
            ip: address.ip(),
            zone: flow.remote_zone(),
            // A protocol without ports shows none.
            port: Some(address.port()).filter(|port| *port != 0),
        })
}

/// A counter of the interface itself, both directions together.
pub(super) fn own_counter(entry: &Entry, of: fn(&InterfaceSide) -> u64) -> Value {
    match &entry.subject {
        Subject::Interface(it) => Value::Count(of(&it.ingress).saturating_add(of(&it.egress))),
        _ => Value::Absent,
    }
}

pub(super) fn both_directions(entry: &Entry, of: fn(&LedgerSide) -> Bytes) -> Value {
    let Ledger { ingress, egress } = entry.ledger();
    Value::Bytes(of(&ingress) + of(&egress))
}
