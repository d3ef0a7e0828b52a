//! Targets of actions: the process, connection or text of a row.

use std::sync::Arc;

use crate::{
    event::{Netns, ProcessId, Protocol, SocketCookie, State as SocketEntry},
    model::snapshot::{Flow, Process},
    query::{entry::Subject, groups::Label},
    sink::text::escape,
};

/// A process to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub id: ProcessId,
    /// Pid and name, for people. Not escaped yet.
    pub name: String,
}

/// A socket to close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub socket: SocketCookie,
    pub protocol: Protocol,
    pub netns: Option<Netns>,
    /// Protocol and addresses, for people.
    pub name: String,
}

/// The one process that a row represents or belongs to.
pub(super) fn process(subject: &Subject) -> Option<&Arc<Process>> {
    match subject {
        Subject::Process(process) | Subject::Overflow(process) => Some(process),
        Subject::Flow(flow) => flow.process.as_ref(),
        Subject::Listener(listener) => match listener.processes.as_slice() {
            [one] => Some(one),
            _ => None,
        },
        Subject::Program(program) => program.sole(),
        Subject::Event(event) => event.process(),
        _ => None,
    }
}

/// Whether a row represents one process or belongs to one, alive or not.
pub(super) fn has_process(subject: &Subject) -> bool {
    matches!(subject, Subject::Ancestor(..)) || process(subject).is_some()
}

/// Whether a row is a flow, closed or not.
pub(super) fn is_flow(subject: &Subject) -> bool {
    matches!(subject, Subject::Flow(_))
}

/// The process to act on, and its command line.
pub(super) fn target(subject: &Subject) -> Result<(Target, String), String> {
    if let Subject::Ancestor(id, name) = subject {
        return Ok((Target::new(*id, name), String::new()));
    }
    let Some(process) = process(subject) else {
        return Err(NO_PROCESS.to_owned());
    };
    let target = Target::new(process.id, process.name());
    if process.exited.is_some() {
        return Err(format!("{} has already exited", target.name));
    }
    Ok((target, command(process)))
}

/// The connection to close, and the consequences.
pub(super) fn connection(subject: &Subject) -> Result<(Connection, Vec<String>), String> {
    let flow = match subject {
        Subject::Flow(flow) => Some(flow),
        Subject::Event(event) => event.flow(),
        _ => None,
    };
    let Some(flow) = flow else {
        return Err("select a connection to close it".to_owned());
    };
    let name = endpoints(flow);
    if flow.closed.is_some() {
        return Err(format!("{name} is already closed"));
    }
    if flow.state == SocketEntry::Listen {
        return Err("this socket listens; it is not a connection".to_owned());
    }
    if !matches!(flow.protocol, Protocol::Tcp | Protocol::Udp) {
        return Err(format!(
            "the kernel can close only TCP and UDP sockets, not {}",
            flow.protocol
        ));
    }
    let mut text = vec![name.clone()];
    text.extend(flow.process.as_ref().map(|process| {
        let target = Target::new(process.id, process.name());
        format!("of {}", target.name)
    }));
    if flow.state == SocketEntry::Unconnected {
        text.push(
            "Its socket has no fixed remote: closing it ends its traffic with others too."
                .to_owned(),
        );
    }
    let connection = Connection {
        socket: flow.key.socket,
        protocol: flow.protocol,
        netns: flow.netns,
        name,
    };
    Ok((connection, text))
}

/// Such as `tcp 10.0.3.7:50514 198.51.100.9:443`.
fn endpoints(flow: &Flow) -> String {
    let ends = [flow.bound(), flow.key.remote].into_iter().flatten();
    ends.fold(flow.protocol.to_string(), |text, end| {
        format!("{text} {end}")
    })
}

/// The text of a row for the clipboard, with a word for its kind. Nothing is left in it that a
/// terminal or a shell would interpret.
pub(super) fn copied(subject: &Subject) -> Result<(&'static str, String), String> {
    let (what, text) = match subject {
        Subject::Process(process) | Subject::Overflow(process) => match command(process) {
            command if command.is_empty() => ("the name", process.name().to_owned()),
            command => ("the command line", command),
        },
        Subject::Ancestor(_, name) => ("the name", name.to_string()),
        Subject::Flow(flow) => ("the endpoints", endpoints(flow)),
        Subject::Program(program) => ("the name", program.name.to_string()),
        Subject::Label(_, label @ Label::Network(..)) => ("the network", label.to_string()),
        Subject::Label(by, label) => (by.def().noun, label.to_string()),
        Subject::Protocol(protocol) => ("the name", protocol.to_string()),
        Subject::Listener(it) => ("the address", format!("{} {}", it.protocol, it.local)),
        Subject::Interface(interface) => ("the name", interface.name.to_string()),
        Subject::Event(event) => match (event.flow(), event.process()) {
            (Some(flow), _) => ("the endpoints", endpoints(flow)),
            (None, Some(process)) => return copied(&Subject::Process(Arc::clone(process))),
            (None, None) => return nothing(),
        },
        Subject::Cause(_) | Subject::Total => return nothing(),
    };
    Ok((what, bounded(&escape(&text)).to_owned()))
}

/// The pid of the process that a row represents or belongs to.
pub(super) fn pid(subject: &Subject) -> Result<(&'static str, String), String> {
    let pid = match subject {
        Subject::Ancestor(id, _) => Some(id.pid),
        subject => process(subject).map(|process| process.id.pid),
    };
    let pid = pid.ok_or_else(|| NO_PROCESS.to_owned())?;
    Ok(("the pid", pid.to_string()))
}

fn nothing<T>() -> Result<T, String> {
    Err("this row has nothing to copy".to_owned())
}

/// The most bytes of text for the clipboard; some terminals accept no more than 100 kB, encoded.
const LONGEST: usize = 16 << 10;

fn bounded(text: &str) -> &str {
    match text
        .char_indices()
        .find(|(at, it)| at + it.len_utf8() > LONGEST)
    {
        Some((at, _)) => &text[..at],
        None => text,
    }
}

const NO_PROCESS: &str = "this row is not a single process";

fn command(process: &Process) -> String {
    process
        .program
        .cmdline
        .as_deref()
        .unwrap_or_default()
        .join(" ")
}

impl Target {
    fn new(id: ProcessId, name: &str) -> Self {
        Self {
            id,
            name: format!("{} {name}", id.pid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_has_an_end_between_characters() {
        assert_eq!(bounded("täg"), "täg");
        let long = "é".repeat(LONGEST);
        assert_eq!(bounded(&long).len(), LONGEST);
        let odd = format!("x{long}");
        assert_eq!(bounded(&odd).len(), LONGEST - 1);
    }
}
