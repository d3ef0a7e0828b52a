//! What flows, processes and interfaces tell: their names, addresses and text.

use std::net::SocketAddr;

use super::{pattern::Pattern, text::Text};
use crate::model::snapshot::{Flow, Interface, Process, Snapshot, zone_index};

/// What an expression is asked of.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    Flow(&'a Flow),
    Process(&'a Process),
    Interface(&'a Interface),
}

/// Whether the pattern is of one of the names of a process.
pub(super) fn is_named(process: &Process, pattern: &Pattern) -> bool {
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

/// Whether the text is in what the subject says of itself; `None` where it may be in an address of a
/// process's flows.
pub(super) fn has_text(of: Subject<'_>, text: &Text) -> Option<bool> {
    match of {
        Subject::Interface(interface) => Some(text.is_in(&interface.name)),
        Subject::Process(process) => match tells_of(process, text) {
            false if text.may_be_in_address() => None,
            is_told => Some(is_told),
        },
        Subject::Flow(flow) => {
            let process = flow.process.as_deref();
            let is_in = |end: SocketAddr| text.is_in(&canonical(end).to_string());
            let in_address = || {
                [flow.bound(), flow.key.remote]
                    .into_iter()
                    .flatten()
                    .any(is_in)
            };
            Some(
                process.is_some_and(|it| tells_of(it, text))
                    || text.may_be_in_address() && in_address(),
            )
        }
    }
}

/// Whether the text is in one of the names of a process, in its command line, user or cgroup. In
/// the path of its executable only where it speaks of a path.
fn tells_of(process: &Process, text: &Text) -> bool {
    let program = &process.program;
    let names = [
        program.comm.as_deref(),
        process.file_name(),
        process.user.as_deref(),
        process.cgroup_path.as_deref(),
    ];
    let exe = || program.exe.as_deref().map(|exe| exe.to_string_lossy());
    names.into_iter().flatten().any(|name| text.is_in(name))
        || program
            .cmdline
            .as_deref()
            .is_some_and(|it| text.is_in_words(it))
        || text.has_slash() && exe().is_some_and(|exe| text.is_in(&exe))
}

/// Without a scope, and as IPv4 where it is that.
pub(super) fn canonical(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}

/// Whether an end of a flow is in the zone of this name or index. For this machine's end the
/// interface of the last packet decides.
pub(super) fn is_in_zone(flow: &Flow, end: SocketAddr, zone: &str) -> bool {
    if flow.key.remote == Some(end) {
        let index = zone_index(end);
        return index.is_some()
            && (flow.zone.as_deref() == Some(zone) || zone.parse().ok() == index);
    }
    flow.interface.as_deref() == Some(zone)
}

/// Both ends of every flow that is shown.
pub(super) fn ends(shown: &Snapshot) -> impl Iterator<Item = SocketAddr> {
    let flows = shown.flows.iter();
    flows
        .flat_map(|flow| [flow.bound(), flow.key.remote])
        .flatten()
}
