//! The columns of every view: one entry each, from which text, JSON and order are derived.

mod value;

use std::net::SocketAddr;

pub use self::value::Value;
use super::{
    group::{Cause, Entry, Subject},
    names::Names,
    view::By,
};
use crate::{
    event::{Bytes, Direction},
    model::snapshot::{Flow, LedgerSide, Process},
};

/// A column.
#[derive(Debug)]
pub struct Column {
    /// Its name in JSON and for `--sort`.
    pub name: &'static str,
    /// What stands above it; empty where it is not shown as text.
    pub header: &'static str,
    pub align: Align,
    pub show: Show,
    pub(super) value: fn(&Entry<'_>, &Context<'_>) -> Value,
}

/// Where the text of a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text; may be cut when room is short.
    Left,
    /// Numbers; never cut.
    Right,
}

/// Which outputs have the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Text and JSON. Where room is short the column with the highest number goes first; one with 0
    /// stays.
    Both(u8),
    /// Only text: JSON has it in another form.
    Text(u8),
    Json,
    /// Only `--sort` knows it.
    Sort,
}

impl Show {
    /// Its number in text outputs, if it is in them.
    pub const fn in_text(self) -> Option<u8> {
        match self {
            Self::Both(priority) | Self::Text(priority) => Some(priority),
            Self::Json | Self::Sort => None,
        }
    }

    pub const fn in_json(self) -> bool {
        matches!(self, Self::Both(_) | Self::Json)
    }
}

/// What columns may ask besides the row.
pub(super) struct Context<'a> {
    pub names: &'a dyn Names,
}

/// The columns of a view, in order.
pub fn of(by: By) -> &'static [Column] {
    match by {
        By::Process => PROCESS,
        By::Flow => FLOW,
        By::Remote => REMOTE,
        By::Listener => LISTENER,
        By::Interface => INTERFACE,
        By::User => USER,
        By::Cgroup => CGROUP,
    }
}

static PROCESS: &[Column] = &[
    PID,
    left("process", "PROCESS", Show::Both(0), process_name),
    left("user", "USER", Show::Both(4), user),
    left("cgroup", "CGROUP", Show::Both(6), cgroup),
    number("flows", "FLOWS", Show::Both(3), flows),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    left("command", "COMMAND", Show::Text(5), command),
    json("cmdline", |entry, _| {
        let cmdline = process_of(entry).and_then(|process| process.program.cmdline.as_deref());
        cmdline.map_or(Value::Absent, |parts| Value::List(parts.to_vec()))
    }),
    json("exe", |entry, _| {
        let exe = process_of(entry).and_then(|process| process.program.exe.as_deref());
        text(exe.map(|exe| exe.to_string_lossy().into_owned()))
    }),
    json("uid", uid),
    json("exited", |entry, _| match process_of(entry) {
        Some(process) => Value::Flag(process.exited.is_some()),
        None => Value::Absent,
    }),
    RATE,
    TOTAL,
];

static FLOW: &[Column] = &[
    left("protocol", "PROTO", Show::Both(2), protocol),
    left("local", "LOCAL", Show::Both(3), local),
    left("direction", "", Show::Json, |entry, _| {
        match direction(entry) {
            Some(Direction::Outbound) => Value::Text("outbound".to_owned()),
            Some(Direction::Inbound) => Value::Text("inbound".to_owned()),
            None => Value::Absent,
        }
    }),
    left("arrow", "", Show::Text(1), |entry, _| {
        match (&entry.subject, direction(entry)) {
            (_, Some(Direction::Outbound)) => Value::Text("→".to_owned()),
            (_, Some(Direction::Inbound)) => Value::Text("←".to_owned()),
            (Subject::Flow(flow), None) if flow.key.remote.is_some() => Value::Text("↔".to_owned()),
            _ => Value::Absent,
        }
    }),
    left("remote", "REMOTE", Show::Both(0), remote),
    json("remote_name", |entry, context| {
        let remote = flow_of(entry).and_then(|flow| flow.key.remote);
        text(remote.and_then(|remote| host(context, remote.ip())))
    }),
    left("state", "STATE", Show::Both(4), |entry, _| {
        match flow_of(entry) {
            Some(flow) => Value::Text(match flow.closed {
                Some(_) => "closed".to_owned(),
                None => flow.state.name().to_owned(),
            }),
            None => Value::Absent,
        }
    }),
    number("pid", "PID", Show::Both(3), pid),
    left("process", "PROCESS", Show::Both(0), process_name),
    left("user", "USER", Show::Both(6), user),
    left("interface", "IFACE", Show::Both(8), |entry, _| {
        text(flow_of(entry).and_then(|flow| flow.interface.as_deref().map(str::to_owned)))
    }),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    number("wire_rx_bytes", "WIRE RECV", Show::Both(10), |entry, _| {
        entry
            .wire
            .map_or(Value::Absent, |wire| Value::Bytes(wire.rx_bytes))
    }),
    number("wire_tx_bytes", "WIRE SENT", Show::Both(10), |entry, _| {
        entry
            .wire
            .map_or(Value::Absent, |wire| Value::Bytes(wire.tx_bytes))
    }),
    number("rtt_us", "RTT", Show::Both(9), |entry, _| {
        let rtt = flow_of(entry)
            .and_then(|flow| flow.tcp)
            .and_then(|tcp| tcp.rtt);
        rtt.map_or(Value::Absent, |rtt| {
            Value::Microseconds(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX))
        })
    }),
    json("id", |entry, _| {
        text(flow_of(entry).map(|flow| flow.key.id()))
    }),
    json("socket", |entry, _| {
        text(flow_of(entry).map(|flow| format!("{:x}", flow.key.socket.0)))
    }),
    RATE,
    TOTAL,
];

static REMOTE: &[Column] = &[
    left(
        "remote",
        "REMOTE",
        Show::Both(0),
        |entry, context| match entry.subject {
            Subject::Remote(address) => match host(context, address) {
                Some(name) => Value::Labelled {
                    text: address.to_string(),
                    label: format!("{address} ({name})"),
                },
                None => Value::Text(address.to_string()),
            },
            _ => label(entry),
        },
    ),
    json("name", |entry, context| match entry.subject {
        Subject::Remote(address) => text(host(context, address)),
        _ => Value::Absent,
    }),
    number("processes", "PROCESSES", Show::Both(4), processes),
    number("flows", "FLOWS", Show::Both(3), flows),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    RATE,
    TOTAL,
];

static LISTENER: &[Column] = &[
    left("protocol", "PROTO", Show::Both(2), protocol),
    left("local", "LISTENS AT", Show::Both(0), local),
    number("pid", "PID", Show::Both(3), pid),
    left("process", "PROCESS", Show::Both(0), process_name),
    left("user", "USER", Show::Both(4), user),
    number("flows", "FLOWS", Show::Both(2), flows),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    RATE,
    TOTAL,
];

static INTERFACE: &[Column] = &[
    left(
        "interface",
        "INTERFACE",
        Show::Both(0),
        |entry, _| match &entry.subject {
            Subject::Interface(interface) => Value::Text(interface.name.to_string()),
            _ => label(entry),
        },
    ),
    left("state", "STATE", Show::Both(5), |entry, _| {
        match &entry.subject {
            Subject::Interface(interface) => {
                let state = match (interface.gone, interface.up) {
                    (Some(_), _) => "gone",
                    (None, true) => "up",
                    (None, false) => "down",
                };
                Value::Text(state.to_owned())
            }
            _ => Value::Absent,
        }
    }),
    number("rx_rate", "FRAMES IN/s", Show::Both(1), |entry, _| {
        Value::Rate(entry.rate.rx)
    }),
    number("tx_rate", "OUT/s", Show::Both(1), |entry, _| {
        Value::Rate(entry.rate.tx)
    }),
    number("rx_bytes", "FRAMES IN", Show::Both(2), |entry, _| {
        Value::Bytes(entry.ingress.frames)
    }),
    number("tx_bytes", "OUT", Show::Both(2), |entry, _| {
        Value::Bytes(entry.egress.frames)
    }),
    number("owned", "OWNED", Show::Both(0), |entry, _| Value::Share {
        part: entry.ingress.socket + entry.egress.socket,
        whole: entry.ingress.frames + entry.egress.frames,
    }),
    json("socket", |entry, _| both_ways(entry, |side| side.socket)),
    number("forwarded", "FORWARDED", Show::Both(3), |entry, _| {
        both_ways(entry, |side| side.forwarded)
    }),
    number("kernel", "KERNEL", Show::Both(4), |entry, _| {
        both_ways(entry, |side| side.kernel)
    }),
    number("packet_socket", "PACKET", Show::Both(6), |entry, _| {
        both_ways(entry, |side| side.packet_socket)
    }),
    number("not_ip", "NOT IP", Show::Both(6), |entry, _| {
        both_ways(entry, |side| side.not_ip)
    }),
    number("offload", "OFFLOAD", Show::Both(7), |entry, _| {
        both_ways(entry, |side| side.offload)
    }),
    number("unexplained", "UNEXPLAINED", Show::Both(1), |entry, _| {
        let sum = entry
            .ingress
            .unexplained
            .saturating_add(entry.egress.unexplained);
        Value::SignedBytes(sum)
    }),
    json("classified", |entry, _| match &entry.subject {
        Subject::Interface(interface) => Value::Flag(interface.classified),
        _ => Value::Absent,
    }),
    RATE,
    TOTAL,
];

static USER: &[Column] = &[
    left(
        "user",
        "USER",
        Show::Both(0),
        |entry, context| match entry.subject {
            Subject::User(uid) => user_named(context, uid),
            _ => label(entry),
        },
    ),
    json("uid", |entry, _| match entry.subject {
        Subject::User(uid) => Value::Id(uid.into()),
        _ => Value::Absent,
    }),
    number("processes", "PROCESSES", Show::Both(4), processes),
    number("flows", "FLOWS", Show::Both(3), flows),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    RATE,
    TOTAL,
];

static CGROUP: &[Column] = &[
    left("cgroup", "CGROUP", Show::Both(0), |entry, _| {
        match entry.subject {
            Subject::Cgroup(path) => Value::Text(path.to_owned()),
            _ => label(entry),
        }
    }),
    number("processes", "PROCESSES", Show::Both(4), processes),
    number("flows", "FLOWS", Show::Both(3), flows),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    RATE,
    TOTAL,
];

type ValueOf = fn(&Entry<'_>, &Context<'_>) -> Value;

const PID: Column = number("pid", "PID", Show::Both(1), pid);
const RX_RATE: Column = number("rx_rate", "RECEIVED/s", Show::Both(1), |entry, _| {
    Value::Rate(entry.rate.rx)
});
const TX_RATE: Column = number("tx_rate", "SENT/s", Show::Both(1), |entry, _| {
    Value::Rate(entry.rate.tx)
});
const RX_BYTES: Column = number("rx_bytes", "RECEIVED", Show::Both(1), |entry, _| {
    Value::Bytes(entry.app.rx_bytes)
});
const TX_BYTES: Column = number("tx_bytes", "SENT", Show::Both(1), |entry, _| {
    Value::Bytes(entry.app.tx_bytes)
});
const RATE: Column = number("rate", "", Show::Sort, |entry, _| {
    Value::Rate(entry.rate.rx + entry.rate.tx)
});
const TOTAL: Column = number("total", "", Show::Sort, |entry, _| {
    Value::Bytes(Bytes(entry.total()))
});

const fn left(name: &'static str, header: &'static str, show: Show, value: ValueOf) -> Column {
    Column {
        name,
        header,
        align: Align::Left,
        show,
        value,
    }
}

const fn number(name: &'static str, header: &'static str, show: Show, value: ValueOf) -> Column {
    Column {
        name,
        header,
        align: Align::Right,
        show,
        value,
    }
}

const fn json(name: &'static str, value: ValueOf) -> Column {
    left(name, "", Show::Json, value)
}

fn text(text: Option<String>) -> Value {
    text.map_or(Value::Absent, Value::Text)
}

fn flow_of<'a>(entry: &Entry<'a>) -> Option<&'a Flow> {
    match entry.subject {
        Subject::Flow(flow) => Some(flow),
        _ => None,
    }
}

/// The one process a row belongs to; of a listener the first.
fn process_of<'a>(entry: &'a Entry<'_>) -> Option<&'a Process> {
    match &entry.subject {
        Subject::Process(process) | Subject::Overflow(process) => Some(process),
        Subject::Flow(flow) => flow.process.as_deref(),
        Subject::Listener(listener) => listener.processes.first().copied(),
        _ => None,
    }
}

/// What stands in the first text column of rows that have no name.
fn label(entry: &Entry<'_>) -> Value {
    match &entry.subject {
        Subject::Cause(cause) => Value::Text(cause.label().to_owned()),
        Subject::Total => Value::Text("TOTAL".to_owned()),
        _ => Value::Absent,
    }
}

fn process_name(entry: &Entry<'_>, _: &Context<'_>) -> Value {
    let Some(process) = process_of(entry) else {
        return match &entry.subject {
            Subject::Flow(flow) => Value::Text(Cause::of_unowned(flow).label().to_owned()),
            _ => label(entry),
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

fn pid(entry: &Entry<'_>, _: &Context<'_>) -> Value {
    process_of(entry).map_or(Value::Absent, |process| Value::Id(process.id.pid.into()))
}

fn uid(entry: &Entry<'_>, _: &Context<'_>) -> Value {
    let uid = process_of(entry).and_then(|process| process.uid);
    uid.map_or(Value::Absent, |uid| Value::Id(uid.into()))
}

fn user(entry: &Entry<'_>, context: &Context<'_>) -> Value {
    let uid = process_of(entry).and_then(|process| process.uid);
    uid.map_or(Value::Absent, |uid| user_named(context, uid))
}

fn user_named(context: &Context<'_>, uid: u32) -> Value {
    Value::Text(match context.names.user(uid) {
        Some(name) => name.to_string(),
        None => uid.to_string(),
    })
}

fn cgroup(entry: &Entry<'_>, _: &Context<'_>) -> Value {
    text(process_of(entry).and_then(|process| process.cgroup_path.as_deref().map(str::to_owned)))
}

fn command(entry: &Entry<'_>, _: &Context<'_>) -> Value {
    let cmdline = process_of(entry).and_then(|process| process.program.cmdline.as_deref());
    text(cmdline.map(|arguments| arguments.join(" ")))
}

fn flows(entry: &Entry<'_>, _: &Context<'_>) -> Value {
    Value::Count(entry.flows)
}

fn processes(entry: &Entry<'_>, _: &Context<'_>) -> Value {
    Value::Count(entry.processes)
}

fn protocol(entry: &Entry<'_>, _: &Context<'_>) -> Value {
    match &entry.subject {
        Subject::Flow(flow) => Value::Text(flow.protocol.name().to_owned()),
        Subject::Listener(listener) => Value::Text(listener.protocol.name().to_owned()),
        _ => Value::Absent,
    }
}

fn local(entry: &Entry<'_>, _: &Context<'_>) -> Value {
    match &entry.subject {
        Subject::Flow(flow) => Value::Text(flow.local.to_string()),
        Subject::Listener(listener) => Value::Text(listener.local.to_string()),
        _ => Value::Absent,
    }
}

fn direction(entry: &Entry<'_>) -> Option<Direction> {
    flow_of(entry).and_then(|flow| flow.direction)
}

fn remote(entry: &Entry<'_>, context: &Context<'_>) -> Value {
    match &entry.subject {
        Subject::Flow(flow) => flow
            .key
            .remote
            .map_or(Value::Absent, |remote| endpoint(context, remote)),
        Subject::Overflow(_) => Value::Text(Cause::TableFull.label().to_owned()),
        // The process column names causes and the total.
        _ => Value::Absent,
    }
}

fn endpoint(context: &Context<'_>, address: SocketAddr) -> Value {
    match host(context, address.ip()) {
        Some(name) => Value::Labelled {
            text: address.to_string(),
            label: format!("{name}:{}", address.port()),
        },
        None => Value::Text(address.to_string()),
    }
}

fn host(context: &Context<'_>, address: std::net::IpAddr) -> Option<String> {
    context.names.host(address).map(|name| name.to_string())
}

fn both_ways(entry: &Entry<'_>, of: fn(&LedgerSide) -> Bytes) -> Value {
    Value::Bytes(of(&entry.ingress) + of(&entry.egress))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_every_view_keeps_a_column_however_narrow() {
        for by in By::ALL {
            let columns = of(by);
            let names: HashSet<_> = columns.iter().map(|column| column.name).collect();
            assert_eq!(names.len(), columns.len(), "{by}");
            assert!(
                columns
                    .iter()
                    .any(|column| column.show.in_text() == Some(0)),
                "{by}"
            );
            assert!(names.contains("rate") && names.contains("total"), "{by}");
        }
    }
}
