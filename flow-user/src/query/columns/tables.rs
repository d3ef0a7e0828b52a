//! The columns of each view: one entry each.

use super::{
    cell::{
        arrow, backlog, both_ways, cgroup, change_of, command, direction, event_name, event_of,
        flow_of, flows, graph, label, local, outcome, own, pid, process_name, process_of,
        processes, protocol, remote, text, uid, user, user_named, what_happened,
    },
    column::{Align, Column, Context, Measure, Show, Width},
    value::Value,
};
use crate::{
    event::{Bytes, Direction},
    model::snapshot::LedgerSide,
    query::{
        entry::{Entry, Ledger, Subject},
        groups::{By, Label},
    },
};

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

/// The columns of events: of their log, in order, and of `flow events`.
pub(crate) static EVENT: &[Column] = &[
    left("time", "TIME", Show::Text(0), |entry, _| {
        text(event_of(entry).map(|event| event.time.clone()))
    })
    .wide(12, 12),
    left("event", "EVENT", Show::Text(0), |entry, _| {
        text(event_of(entry).map(|event| event_name(&event.what).to_owned()))
    })
    .wide(6, 6),
    left("protocol", "PROTO", Show::Text(4), protocol).wide(5, 7),
    left("user", "USER", Show::Stream, user),
    left("process", "PROCESS", Show::Text(0), process_name).wide(14, 28),
    PID,
    left("local", "LOCAL", Show::Text(5), local).wide(15, 29),
    left("arrow", "", Show::Text(5), arrow).wide(1, 1),
    left("remote", "REMOTE", Show::Text(1), remote).wide(15, 46),
    left("what", "WHAT", Show::Text(2), |entry, _| {
        text(event_of(entry).map(|event| what_happened(&event.what)))
    })
    .wide(12, 48),
    left("state", "STATE", Show::Stream, |entry, _| {
        text(change_of(entry).and_then(outcome))
    }),
    RX_BYTES,
    TX_BYTES,
    left("exe", "EXE", Show::Stream, |entry, _| {
        text(process_of(entry).map(|it| match &it.program.exe {
            Some(exe) => exe.to_string_lossy().into_owned(),
            None => it.name().to_owned(),
        }))
    }),
    left("command", "COMMAND", Show::Stream, |entry, _| {
        text(process_of(entry).map(|it| {
            let arguments = it.program.cmdline.as_deref().unwrap_or_default();
            let end = if it.program.cmdline_cut { "…" } else { "" };
            arguments.join(" ") + end
        }))
    }),
    // The latest first.
    number("number", "", Show::Sort, |entry, _| match event_of(entry) {
        Some(event) => Value::Count(event.number),
        None => Value::Absent,
    }),
];

static PROCESS: &[Column] = &[
    PID,
    left("process", "PROCESS", Show::Both(0), process_name).wide(18, 28),
    left("user", "USER", Show::Both(4), user).wide(8, 10),
    left("cgroup", "CGROUP", Show::Both(6), cgroup).wide(12, 36),
    number("flows", "FLOWS", Show::Both(3), flows).wide(6, 6),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    GRAPH,
    left("command", "COMMAND", Show::Text(5), command).wide(20, u16::MAX),
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
    left("protocol", "PROTO", Show::Both(2), protocol).wide(5, 7),
    left("local", "LOCAL", Show::Both(3), local).wide(21, 29),
    left("direction", "", Show::Json, |entry, _| {
        match direction(entry) {
            Some(Direction::Outbound) => Value::Text("outbound".to_owned()),
            Some(Direction::Inbound) => Value::Text("inbound".to_owned()),
            None => Value::Absent,
        }
    }),
    left("arrow", "", Show::Text(1), arrow).wide(1, 1),
    left("remote", "REMOTE", Show::Both(0), remote).wide(17, 46),
    json("remote_name", |_, _| Value::Absent),
    left("state", "STATE", Show::Both(4), |entry, _| {
        match flow_of(entry) {
            Some(flow) => Value::Text(match flow.closed {
                Some(_) => "closed".to_owned(),
                None => flow.state.name().to_owned(),
            }),
            None => Value::Absent,
        }
    })
    .wide(11, 12),
    number("pid", "PID", Show::Both(3), pid).wide(7, 7),
    left("process", "PROCESS", Show::Both(0), process_name).wide(13, 28),
    left("user", "USER", Show::Both(6), user).wide(8, 10),
    left("interface", "IFACE", Show::Both(8), |entry, _| {
        text(flow_of(entry).and_then(|flow| flow.interface.as_deref().map(str::to_owned)))
    })
    .wide(6, 12),
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
    })
    .wide(9, 9),
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
        |entry, context| match &entry.subject {
            Subject::Label(_, Label::Address(address)) => Value::Address {
                ip: *address,
                zone: None,
                port: None,
            },
            _ => label(entry, context),
        },
    )
    .wide(20, 48),
    json("name", |_, _| Value::Absent),
    number("processes", "PROCESSES", Show::Both(4), processes),
    number("flows", "FLOWS", Show::Both(3), flows).wide(6, 6),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    RATE,
    TOTAL,
];

/// The columns of a process's totals by protocol.
pub(crate) static PROTOCOL: &[Column] = &[
    left(
        "protocol",
        "PROTOCOL",
        Show::Both(0),
        |entry, context| match &entry.subject {
            Subject::Protocol(protocol) => Value::Text(protocol.name().to_owned()),
            _ => label(entry, context),
        },
    )
    .wide(10, 24),
    number("flows", "FLOWS", Show::Both(3), flows).wide(6, 6),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    RATE,
    TOTAL,
];

static LISTENER: &[Column] = &[
    left("protocol", "PROTO", Show::Both(2), protocol).wide(5, 7),
    left("local", "LISTENS AT", Show::Both(0), local).wide(15, 40),
    number("pid", "PID", Show::Both(3), pid).wide(7, 7),
    left("process", "PROCESS", Show::Both(0), process_name).wide(18, 28),
    left("user", "USER", Show::Both(4), user).wide(8, 10),
    number("flows", "FLOWS", Show::Both(2), flows).wide(6, 6),
    number("waiting", "WAITING", Show::Both(5), |entry, _| {
        backlog(entry, |backlog| backlog.waiting)
    })
    .wide(7, 7),
    number("backlog", "BACKLOG", Show::Both(7), |entry, _| {
        backlog(entry, |backlog| backlog.limit)
    })
    .wide(7, 7),
    number("drops", "DROPS", Show::Both(6), |entry, _| {
        backlog(entry, |backlog| backlog.drops)
    })
    .wide(6, 6),
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
        |entry, context| match &entry.subject {
            Subject::Interface(interface) => Value::Text(interface.name.to_string()),
            _ => label(entry, context),
        },
    )
    .wide(10, 16),
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
    })
    .wide(5, 5),
    number("rx_rate", "FRAMES IN/s", Show::Both(1), |entry, _| {
        Value::Rate(entry.rate.rx)
    })
    .measuring(Measure::Rate)
    .wide(12, 12),
    number("tx_rate", "OUT/s", Show::Both(1), |entry, _| {
        Value::Rate(entry.rate.tx)
    })
    .measuring(Measure::Rate)
    .wide(11, 12),
    number("rx_bytes", "FRAMES IN", Show::Both(2), |entry, _| {
        Value::Bytes(entry.ledger().ingress.frames)
    })
    .measuring(Measure::Total),
    number("tx_bytes", "OUT", Show::Both(2), |entry, _| {
        Value::Bytes(entry.ledger().egress.frames)
    })
    .measuring(Measure::Total),
    number("errors", "ERRORS", Show::Both(7), |entry, _| {
        own(entry, |side| side.errors)
    })
    .wide(6, 10),
    number("drops", "DROPS", Show::Both(7), |entry, _| {
        own(entry, |side| side.dropped)
    })
    .wide(6, 10),
    number("owned", "OWNED", Show::Lines(0), |entry, _| {
        let Ledger { ingress, egress } = entry.ledger();
        Value::Share {
            part: ingress.socket + egress.socket,
            whole: ingress.frames + egress.frames,
        }
    })
    .wide(7, 7),
    json("socket", |entry, _| both_ways(entry, |side| side.socket)),
    number("forwarded", "FORWARDED", Show::Lines(3), |entry, _| {
        both_ways(entry, |side| side.forwarded)
    }),
    number("kernel", "KERNEL", Show::Lines(4), |entry, _| {
        both_ways(entry, |side| side.kernel)
    }),
    number("packet_socket", "PACKET", Show::Lines(6), |entry, _| {
        both_ways(entry, |side| side.packet_socket)
    }),
    number("not_ip", "NOT IP", Show::Lines(6), |entry, _| {
        both_ways(entry, |side| side.not_ip)
    }),
    number("offload", "OFFLOAD", Show::Lines(7), |entry, _| {
        both_ways(entry, |side| side.offload)
    }),
    number("unexplained", "UNEXPLAINED", Show::Both(1), |entry, _| {
        let Ledger { ingress, egress } = entry.ledger();
        let sum = ingress.unexplained.saturating_add(egress.unexplained);
        Value::SignedBytes(sum)
    })
    .wide(11, 11),
    left("ledger", "WHOSE FRAMES", Show::Screen(1), |entry, _| {
        if matches!(&entry.subject, Subject::Interface(it) if !it.classified) {
            return Value::Text("not classified".to_owned());
        }
        let Ledger { ingress, egress } = entry.ledger();
        let both = |of: fn(&LedgerSide) -> Bytes| (of(&ingress) + of(&egress)).0;
        let of_ingress = ingress.unexplained.unsigned_abs();
        let unexplained = of_ingress.saturating_add(egress.unexplained.unsigned_abs());
        if ingress.frames + egress.frames == Bytes(0) {
            return Value::Absent;
        }
        Value::Parts(vec![
            ("socket", both(|side| side.socket)),
            ("forwarded", both(|side| side.forwarded)),
            ("kernel", both(|side| side.kernel)),
            ("packet", both(|side| side.packet_socket)),
            ("not IP", both(|side| side.not_ip)),
            ("offload", both(|side| side.offload)),
            ("unexplained", unexplained),
        ])
    })
    .wide(24, u16::MAX),
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
        |entry, context| match &entry.subject {
            Subject::Label(_, Label::User(uid, name)) => user_named(*uid, name.as_deref()),
            _ => label(entry, context),
        },
    )
    .wide(14, 32),
    json("uid", |entry, _| match &entry.subject {
        Subject::Label(_, Label::User(uid, _)) => Value::Id((*uid).into()),
        _ => Value::Absent,
    }),
    number("processes", "PROCESSES", Show::Both(4), processes),
    number("flows", "FLOWS", Show::Both(3), flows).wide(6, 6),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    RATE,
    TOTAL,
];

static CGROUP: &[Column] = &[
    left("cgroup", "CGROUP", Show::Both(0), label).wide(24, 64),
    number("processes", "PROCESSES", Show::Both(4), processes),
    number("flows", "FLOWS", Show::Both(3), flows).wide(6, 6),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    RATE,
    TOTAL,
];

const GRAPH: Column = left("graph", "LAST 60 s", Show::Screen(4), graph).wide(10, 10);

type ValueOf = fn(&Entry, &Context<'_>) -> Value;

const PID: Column = number("pid", "PID", Show::Both(1), pid).wide(7, 7);
const RX_RATE: Column = number("rx_rate", "RECEIVED/s", Show::Both(1), |entry, _| {
    Value::Rate(entry.rate.rx)
})
.measuring(Measure::Rate)
.wide(11, 12);
const TX_RATE: Column = number("tx_rate", "SENT/s", Show::Both(1), |entry, _| {
    Value::Rate(entry.rate.tx)
})
.measuring(Measure::Rate)
.wide(11, 12);
const RX_BYTES: Column = number("rx_bytes", "RECEIVED", Show::Both(2), |entry, _| {
    Value::Bytes(entry.app.rx_bytes)
})
.measuring(Measure::Total);
const TX_BYTES: Column = number("tx_bytes", "SENT", Show::Both(2), |entry, _| {
    Value::Bytes(entry.app.tx_bytes)
})
.measuring(Measure::Total);
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
        width: Width {
            least: 10,
            most: 16,
        },
        measure: None,
        value,
    }
}

const fn number(name: &'static str, header: &'static str, show: Show, value: ValueOf) -> Column {
    Column {
        name,
        header,
        align: Align::Right,
        show,
        width: Width { least: 9, most: 9 },
        measure: None,
        value,
    }
}

impl Column {
    const fn wide(mut self, least: u16, most: u16) -> Self {
        self.width = Width { least, most };
        self
    }

    const fn measuring(mut self, measure: Measure) -> Self {
        self.measure = Some(measure);
        self
    }
}

const fn json(name: &'static str, value: ValueOf) -> Column {
    left(name, "", Show::Json, value)
}
