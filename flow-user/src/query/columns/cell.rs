//! Cells of columns that several views share.

use super::{column::Context, value::Value};
use crate::{
    event::{Backlog, Bytes, CloseReason, Direction, Instant, InterfaceSide},
    model::{
        change::{Change, ChangeSubject},
        snapshot::{Flow, LedgerSide, Process},
    },
    query::{
        entry::{Cause, Entry, Ledger, Subject},
        groups::{By, Label},
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

/// Its state, or how it ended.
pub(super) fn how_it_is(flow: &Flow) -> &'static str {
    match flow.closed {
        // How is not known.
        Some((_, CloseReason::Vanished)) => CloseReason::Closed.name(),
        Some((_, reason)) => reason.name(),
        None => flow.state.name(),
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
        What::Change(change) => change.word(),
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
        Subject::Program(program) => program.sole().map(|process| &**process),
        _ => None,
    }
}

/// What the process of a row is said to have, or all processes of a program.
fn common<'a, T: PartialEq>(entry: &'a Entry, of: impl Fn(&'a Process) -> Option<T>) -> Option<T> {
    match &entry.subject {
        Subject::Program(program) => program.common(of).flatten(),
        _ => of(process_of(entry)?),
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
    let mut count = match entry.collapsed {
        0 => String::new(),
        hidden => format!(" (+{hidden})"),
    };
    let mut note = String::new();
    let exited = |is_over: bool| if is_over { " (exited)" } else { "" };
    let name = match &entry.subject {
        Subject::Program(program) => {
            let (all, running) = (entry.processes, program.running());
            if all > 1 {
                count = format!(" ×{all}");
            }
            note = match running {
                0 => exited(true).to_owned(),
                running if running < all => format!(" ({running} running)"),
                _ => String::new(),
            };
            program.name.to_string()
        }
        Subject::Listener(listener) if listener.processes.len() > 1 => {
            count = format!(" ×{}", listener.processes.len());
            listener.processes[0].name().to_owned()
        }
        Subject::Ancestor(_, name) => name.to_string(),
        Subject::Cause(cause) => {
            let of_processes = matches!(cause, Cause::EndedProcesses | Cause::OtherPrograms);
            if of_processes && entry.processes > 1 {
                count = format!(" ×{}", entry.processes);
            }
            cause.label().to_owned()
        }
        Subject::Label(By::Flow | By::Remote, group) => {
            let program = match group {
                Label::Peer(peer) => peer.program.as_deref(),
                _ => None,
            };
            let Some(program) = program else {
                return Value::Text(number_of(entry.processes, "process", "processes"));
            };
            if entry.processes > 1 {
                count = format!(" ×{}", entry.processes);
            }
            program.to_owned()
        }
        subject => match (process_of(entry), subject) {
            (Some(process), _) => {
                note = exited(process.exited.is_some()).to_owned();
                process.name().to_owned()
            }
            (None, Subject::Flow(flow)) => Cause::of_unowned(flow).label().to_owned(),
            _ => return label(entry, context),
        },
    };
    Value::Name { name, count, note }
}

/// Columns of the graph, and the seconds it shows.
const GRAPH_WIDTH: usize = 10;
const GRAPH_SECONDS: usize = 60;

/// The rate of a process or program over time, both directions together.
pub(super) fn graph(entry: &Entry, context: &Context<'_>) -> Value {
    let processes = match &entry.subject {
        Subject::Process(process) => std::slice::from_ref(process),
        Subject::Program(program) => &program.processes,
        _ => return Value::Absent,
    };
    let Some((history, time)) = context.history else {
        return Value::Absent;
    };
    let tracks = processes.iter().filter_map(|it| history.process(it.id));
    // Steps are aligned to the clock, so only the last one changes as time passes.
    let each = GRAPH_SECONDS / (GRAPH_WIDTH * 2);
    let into_last = usize::try_from(time.0 / 1_000_000_000).unwrap_or(0) % each;
    let mut steps = vec![0.0_f64; GRAPH_WIDTH * 2 + 1];
    let mut seconds = [0.0_f64; GRAPH_SECONDS];
    for track in tracks {
        let samples = track.until(time, GRAPH_SECONDS);
        for (sum, sample) in seconds.iter_mut().zip(samples.iter().rev()) {
            *sum += f64::from(sample.tx + sample.rx);
        }
    }
    for (ago, rate) in seconds.into_iter().enumerate() {
        let step = (ago + each - 1 - into_last) / each;
        let place = steps.len() - 1 - step.min(steps.len() - 1);
        steps[place] = steps[place].max(rate);
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
    let user = common(entry, |process| {
        Some((process.uid?, process.user.as_deref()))
    });
    user.map_or(Value::Absent, |(uid, name)| user_named(uid, name))
}

pub(super) fn user_named(uid: u32, name: Option<&str>) -> Value {
    Value::Text(name.map_or_else(|| uid.to_string(), str::to_owned))
}

pub(super) fn cgroup(entry: &Entry, _: &Context<'_>) -> Value {
    text(common(entry, |process| process.cgroup_path.as_deref()).map(str::to_owned))
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
        Subject::Label(_, Label::Peer(peer)) => Some(peer.protocol),
        _ => flow_of(entry).map(|flow| flow.protocol),
    };
    text(protocol.map(|protocol| protocol.name().to_owned()))
}

pub(super) fn local(entry: &Entry, _: &Context<'_>) -> Value {
    let local = match &entry.subject {
        Subject::Listener(listener) => Some(listener.local),
        Subject::Label(By::Flow | By::Remote, group) => return flow_count(entry, group),
        Subject::Process(_) if entry.flows > 0 => {
            return Value::Text(number_of(entry.flows, "flow", "flows"));
        }
        _ => flow_of(entry).and_then(Flow::bound),
    };
    local.map_or(Value::Absent, Value::from)
}

fn number_of(number: u64, one: &str, many: &str) -> String {
    human::count(usize::try_from(number).unwrap_or(usize::MAX), one, many)
}

/// How many flows a group has, in place of their local addresses; with the port where they have
/// that in common.
fn flow_count(entry: &Entry, group: &Label) -> Value {
    let port = match group {
        Label::Peer(peer) if peer.is_inbound() => format!(":{} ", peer.port),
        _ => String::new(),
    };
    Value::Name {
        name: format!("{port}{}", number_of(entry.members, "flow", "flows")),
        count: String::new(),
        note: match entry.flows {
            open if open < entry.members => format!(" ({open} open)"),
            _ => String::new(),
        },
    }
}

/// A number of a listener's queue: connections, or bytes of datagrams.
pub(super) fn queue(entry: &Entry, number: fn(&Backlog) -> u32) -> Value {
    match &entry.subject {
        Subject::Listener(listener) => listener.backlog.map_or(Value::Absent, |backlog| {
            let number = number(&backlog).into();
            match listener.protocol.has_datagram_ports() {
                true => Value::Bytes(Bytes(number)),
                false => Value::Count(number),
            }
        }),
        _ => Value::Absent,
    }
}

/// What a listener refused or dropped.
pub(super) fn drops(entry: &Entry, _: &Context<'_>) -> Value {
    match &entry.subject {
        Subject::Listener(listener) => {
            let backlog = listener.backlog;
            backlog.map_or(Value::Absent, |it| Value::Count(it.drops.into()))
        }
        _ => Value::Absent,
    }
}

/// How long a flow or a listener is, or was, there.
pub(super) fn age(entry: &Entry, context: &Context<'_>) -> Value {
    let (opened, closed) = match &entry.subject {
        Subject::Listener(listener) => (Some(listener.opened), None),
        _ => {
            let flow = flow_of(entry);
            (
                flow.map(|it| it.opened),
                flow.and_then(|it| Some(it.closed?.0)),
            )
        }
    };
    let now = context.history.map(|(_, now)| now);
    seconds_between(opened, closed.or(now).filter(|_| now.is_some()))
}

/// How long ago a flow, or one of a listener's, last moved bytes.
pub(super) fn last_seen(entry: &Entry, context: &Context<'_>) -> Value {
    let last = match &entry.subject {
        Subject::Listener(listener) => Some(listener.last),
        _ => flow_of(entry).map(|flow| flow.last),
    };
    seconds_between(last, context.history.map(|(_, now)| now))
}

fn seconds_between(from: Option<Instant>, to: Option<Instant>) -> Value {
    match (from, to) {
        (Some(from), Some(to)) => Value::Seconds(to.since(from).as_secs()),
        _ => Value::Absent,
    }
}

/// Packets in both directions.
pub(super) fn packets(entry: &Entry, _: &Context<'_>) -> Value {
    entry.wire.map_or(Value::Absent, |wire| {
        Value::Count(wire.rx_packets.saturating_add(wire.tx_packets))
    })
}

pub(super) fn arrow(entry: &Entry, _: &Context<'_>) -> Value {
    let arrow = match (flow_of(entry), direction(entry)) {
        (_, Some(Direction::Outbound)) => "→",
        (_, Some(Direction::Inbound)) => "←",
        (Some(flow), None) if flow.key.remote.is_some() => "↔",
        (None, None) if matches!(&entry.subject, Subject::Label(_, Label::Peer(_))) => "↔",
        _ => return Value::Absent,
    };
    Value::Text(arrow.to_owned())
}

pub(super) fn direction(entry: &Entry) -> Option<Direction> {
    match &entry.subject {
        Subject::Label(_, Label::Peer(peer)) => peer.direction,
        _ => flow_of(entry).and_then(|flow| flow.direction),
    }
}

pub(super) fn remote(entry: &Entry, _: &Context<'_>) -> Value {
    match &entry.subject {
        Subject::Overflow(_) => Value::Text(Cause::TableFull.label().to_owned()),
        Subject::Label(_, group) => group_remote(group),
        // The process column names causes and the total.
        _ => flow_of(entry).map_or(Value::Absent, remote_of),
    }
}

/// What stands for the remote of an event's flow that has none, and for the arrow before it.
pub(super) fn stand_in(entry: &Entry, column: &str) -> Option<Value> {
    let flow = event_of(entry)?.flow()?;
    let local = flow.bound().filter(|_| flow.key.remote.is_none())?;
    match column {
        "remote" => Some(local.into()),
        "arrow" => Some(Value::Text("@".to_owned())),
        _ => None,
    }
}

/// What a group of flows has for a remote.
pub(super) fn group_remote(group: &Label) -> Value {
    let (ip, port) = match group {
        Label::Address(ip) => (*ip, None),
        Label::Peer(peer) if !peer.is_inbound() => (peer.address, Some(peer.port)),
        Label::Peer(peer) if peer.program.is_some() => (peer.address, None),
        label => return Value::Text(label.to_string()),
    };
    Value::Address {
        ip,
        zone: None,
        // A protocol without ports shows none.
        port: port.filter(|port| *port != 0),
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
