//! Whether an expression is true of something.
//!
//! Flows answer every question. A process cannot say by itself which port it talks to, nor an
//! interface who used it: there the answer is "that depends", and the logic is Kleene's, in which
//! `false and unknown` is false.

use std::net::SocketAddr;

use super::ast::{Expr, Primitive, Side};
use super::pattern::Pattern;
use crate::{
    event::Direction,
    model::snapshot::{Flow, Interface, Process, zone_index},
};

/// What the question is about.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    Flow(&'a Flow),
    Process(&'a Process),
    Interface(&'a Interface),
}

/// Whether `expr` is true of `subject`; `None` where it alone cannot tell.
pub(super) fn holds(expr: &Expr, subject: Subject<'_>) -> Option<bool> {
    match expr {
        Expr::And(parts) => decide(parts, subject, false),
        Expr::Or(parts) => decide(parts, subject, true),
        Expr::Not(inner) => holds(inner, subject).map(|held| !held),
        Expr::Is(primitive) => match subject {
            Subject::Flow(flow) => Some(flow_is(primitive, flow)),
            Subject::Process(process) => process_is(primitive, process),
            Subject::Interface(interface) => match primitive {
                Primitive::Interface(pattern) => Some(pattern.matches(&interface.name)),
                _ => None,
            },
        },
    }
}

/// One part with the answer `decisive` decides; else the answer is the other one, if all know it.
fn decide(parts: &[Expr], subject: Subject<'_>, decisive: bool) -> Option<bool> {
    let mut answer = Some(!decisive);
    for part in parts {
        match holds(part, subject) {
            Some(held) if held == decisive => return Some(decisive),
            Some(_) => {}
            None => answer = None,
        }
    }
    answer
}

fn process_is(primitive: &Primitive, process: &Process) -> Option<bool> {
    Some(match primitive {
        Primitive::Process(pattern) => is_named(process, pattern),
        Primitive::Pid(pid) => process.id.pid == *pid,
        Primitive::User { uid, .. } => process.uid == Some(*uid),
        Primitive::Cgroup(pattern) => process
            .cgroup_path
            .as_deref()
            .is_some_and(|path| pattern.matches_path(path)),
        Primitive::Protocol(_)
        | Primitive::Ip4
        | Primitive::Ip6
        | Primitive::Host(..)
        | Primitive::Net(..)
        | Primitive::Port(..)
        | Primitive::State(_)
        | Primitive::Interface(_)
        | Primitive::Direction(_) => return None,
    })
}

fn is_named(process: &Process, pattern: &Pattern) -> bool {
    let program = &process.program;
    let comm = program.comm.as_deref();
    let names = [Some(process.name()), comm, process.file_name()];
    let is_one_of = |name: &str| pattern.matches(name);
    if names.into_iter().flatten().any(is_one_of)
        || process
            .title()
            .is_some_and(|title| pattern.matches_words(title))
    {
        return true;
    }
    let exe = || {
        program
            .exe
            .as_deref()
            .is_some_and(|exe| pattern.matches(&exe.to_string_lossy()))
    };
    let command_line = || {
        program
            .cmdline
            .as_deref()
            .is_some_and(|arguments| pattern.matches(&arguments.join(" ")))
    };
    if pattern.is_regex() {
        exe() || command_line()
    } else {
        pattern.has_slash() && exe()
    }
}

fn flow_is(primitive: &Primitive, flow: &Flow) -> bool {
    match primitive {
        Primitive::Protocol(protocol) => flow.protocol == *protocol,
        Primitive::Ip4 => flow.local.ip().to_canonical().is_ipv4(),
        Primitive::Ip6 => flow.local.ip().to_canonical().is_ipv6(),
        Primitive::Host(side, address, zone) => any_end(flow, *side, |end| {
            end.ip().to_canonical() == *address
                && zone
                    .as_deref()
                    .is_none_or(|zone| is_in_zone(flow, end, zone))
        }),
        Primitive::Net(side, net) => {
            any_end(flow, *side, |end| net.contains(end.ip().to_canonical()))
        }
        Primitive::Port(side, ports) => any_end(flow, *side, |end| ports.contains(&end.port())),
        Primitive::State(state) => flow.state == *state,
        Primitive::Interface(pattern) => flow
            .interface
            .as_deref()
            .is_some_and(|name| pattern.matches(name)),
        Primitive::Direction(direction) => flow.direction == Some(*direction),
        Primitive::Process(_)
        | Primitive::Pid(_)
        | Primitive::User { .. }
        | Primitive::Cgroup(_) => flow
            .process
            .as_deref()
            .and_then(|process| process_is(primitive, process))
            .unwrap_or(false),
    }
}

/// Whether an end of a flow is in the zone of this name or index. For this machine's end the
/// interface of the last packet decides.
fn is_in_zone(flow: &Flow, end: SocketAddr, zone: &str) -> bool {
    if flow.key.remote == Some(end) {
        let index = zone_index(end);
        return index.is_some()
            && (flow.zone.as_deref() == Some(zone) || zone.parse().ok() == index);
    }
    flow.interface.as_deref() == Some(zone)
}

fn any_end(flow: &Flow, side: Side, is: impl Fn(SocketAddr) -> bool) -> bool {
    let local = Some(flow.local);
    let remote = flow.key.remote;
    let remote_opened = flow.direction == Some(Direction::Inbound);
    let ends = match side {
        Side::Any => [local, remote],
        Side::Local => [local, None],
        Side::Remote => [remote, None],
        Side::Source if remote_opened => [remote, None],
        Side::Source => [local, None],
        Side::Destination if remote_opened => [local, None],
        Side::Destination => [remote, None],
    };
    ends.into_iter().flatten().any(is)
}
