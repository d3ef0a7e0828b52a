//! The columns of each view: one entry each.

use super::{
    cell::{
        age, arrow, both_directions, cgroup, change_of, command, direction, drops, event_name,
        event_of, flow_of, flows, graph, group_remote, how_it_is, label, last_seen, local, outcome,
        own_counter, packets, pid, process_name, process_of, processes, protocol, queue, remote,
        text, uid, user, user_named, what_happened,
    },
    column::{Align, Column, Context, Loses, Measure, Show, Width},
    value::Value,
};
use crate::{
    event::{Bytes, Direction},
    model::snapshot::LedgerSide,
    query::{
        entry::{Entry, Ledger, Subject},
        groups::{By, Label},
        log::Logged,
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
        By::Program => PROGRAM,
    }
}

/// The columns of the view Events, in order, and of `flow events`.
pub(crate) static EVENT: &[Column] = &[
    left_aligned("time", "TIME", Show::Text(0), |entry, _| {
        text(event_of(entry).map(Logged::time_of_day))
    })
    .width(12, 12),
    left_aligned("event", "EVENT", Show::Text(0), |entry, _| {
        text(event_of(entry).map(|event| event_name(&event.what).to_owned()))
    })
    .width(6, 6),
    left_aligned("protocol", "PROTO", Show::Text(4), protocol).width(5, 7),
    left_aligned("user", "USER", Show::Stream, user),
    left_aligned("process", "PROCESS", Show::Text(0), process_name)
        .width(12, 28)
        .naming(),
    right_aligned("pid", "PID", Show::Both(3), pid).width(7, 7),
    left_aligned("local", "LOCAL", Show::Text(5), local)
        .width(ENDPOINT, 29)
        .cut_in_the_middle(),
    left_aligned("arrow", "", Show::Text(1), arrow).width(1, 1),
    left_aligned("remote", "REMOTE", Show::Text(1), remote)
        .width(ENDPOINT, 46)
        .cut_in_the_middle()
        .naming(),
    left_aligned("what", "WHAT", Show::Text(2), |entry, _| {
        text(event_of(entry).map(|event| what_happened(&event.what)))
    })
    .width(12, 48),
    left_aligned("state", "STATE", Show::Stream, |entry, _| {
        text(change_of(entry).and_then(outcome))
    }),
    RX_BYTES,
    TX_BYTES,
    left_aligned("exe", "EXE", Show::Stream, |entry, _| {
        text(process_of(entry).map(|it| match &it.program.exe {
            Some(exe) => exe.to_string_lossy().into_owned(),
            None => it.name().to_owned(),
        }))
    }),
    left_aligned("command", "COMMAND", Show::Stream, |entry, _| {
        text(process_of(entry).map(|it| {
            let arguments = it.program.cmdline.as_deref().unwrap_or_default();
            let end = if it.program.cmdline_cut { "…" } else { "" };
            arguments.join(" ") + end
        }))
    }),
    // The latest first.
    right_aligned("number", "", Show::Sort, |entry, _| match event_of(entry) {
        Some(event) => Value::Count(event.number),
        None => Value::Absent,
    }),
];

static PROCESS: &[Column] = &[
    PID,
    left_aligned("process", "PROCESS", Show::Both(0), process_name)
        .width(18, 28)
        .naming(),
    left_aligned("user", "USER", Show::Both(4), user).width(8, 10),
    left_aligned("cgroup", "CGROUP", Show::Both(6), cgroup)
        .width(12, 36)
        .cut_in_the_middle(),
    right_aligned("flows", "FLOWS", Show::Both(3), flows).width(6, 6),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    GRAPH,
    left_aligned("command", "COMMAND", Show::Text(5), command)
        .width(20, u16::MAX)
        .cut_in_the_middle(),
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
    left_aligned("protocol", "PROTO", Show::Both(2), protocol).width(5, 7),
    left_aligned("local", "LOCAL", Show::Both(3), local)
        .width(ENDPOINT, 29)
        .cut_in_the_middle(),
    left_aligned("direction", "", Show::Json, |entry, _| {
        match direction(entry) {
            Some(Direction::Outbound) => Value::Text("outbound".to_owned()),
            Some(Direction::Inbound) => Value::Text("inbound".to_owned()),
            None => Value::Absent,
        }
    }),
    left_aligned("arrow", "", Show::Text(1), arrow).width(1, 1),
    left_aligned("remote", "REMOTE", Show::Both(0), remote)
        .width(ENDPOINT, 46)
        .cut_in_the_middle()
        .naming(),
    json("remote_name", |_, _| Value::Absent),
    left_aligned("state", "STATE", Show::Both(5), |entry, _| {
        match flow_of(entry) {
            Some(flow) => Value::Text(how_it_is(flow).to_owned()),
            None => Value::Absent,
        }
    })
    .width(11, 12),
    right_aligned("pid", "PID", Show::Both(7), pid).width(7, 7),
    left_aligned("process", "PROCESS", Show::Both(0), process_name)
        .width(12, 28)
        .naming(),
    left_aligned("user", "USER", Show::Both(6), user).width(8, 10),
    left_aligned("interface", "IFACE", Show::Both(8), |entry, _| {
        text(flow_of(entry).and_then(|flow| flow.interface.as_deref().map(str::to_owned)))
    })
    .width(6, 15),
    RX_RATE,
    TX_RATE,
    // What says why it is slow comes first.
    RX_BYTES.shown(Show::Both(6)),
    TX_BYTES.shown(Show::Both(6)),
    right_aligned("wire_rx_bytes", "WIRE RECV", Show::Both(10), |entry, _| {
        entry
            .wire
            .map_or(Value::Absent, |wire| Value::Bytes(wire.rx_bytes))
    }),
    right_aligned("wire_tx_bytes", "WIRE SENT", Show::Both(10), |entry, _| {
        entry
            .wire
            .map_or(Value::Absent, |wire| Value::Bytes(wire.tx_bytes))
    }),
    right_aligned("rtt_us", "RTT", Show::Both(4), |entry, _| {
        let rtt = flow_of(entry)
            .and_then(|flow| flow.tcp)
            .and_then(|tcp| tcp.rtt);
        rtt.map_or(Value::Absent, |rtt| {
            Value::Microseconds(rtt.micros().into())
        })
    })
    .width(7, 9),
    right_aligned("queue_bytes", "QUEUE", Show::Both(4), |entry, _| {
        let path = flow_of(entry).and_then(|flow| flow.path.as_deref());
        path.map_or(Value::Absent, |path| {
            let waits = path.info.send_queue.saturating_add(path.info.receive_queue);
            Value::Bytes(Bytes(waits.into()))
        })
    })
    .width(8, 10),
    right_aligned("retransmits", "RETRANS", Show::Both(4), |entry, _| {
        let again = flow_of(entry).and_then(|flow| flow.retransmits());
        again.map_or(Value::Absent, |again| Value::Count(again.into()))
    })
    .width(8, 8),
    AGE,
    LAST_SEEN,
    PACKETS,
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
    left_aligned(
        "remote",
        "REMOTE",
        Show::Both(0),
        |entry, context| match &entry.subject {
            Subject::Label(_, group) => group_remote(group),
            _ => label(entry, context),
        },
    )
    .width(20, 48)
    .cut_in_the_middle()
    .naming(),
    json("name", |_, _| Value::Absent),
    right_aligned("processes", "PROCESSES", Show::Both(4), processes),
    right_aligned("flows", "FLOWS", Show::Both(3), flows).width(6, 6),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    RATE,
    TOTAL,
];

/// The columns of a process's totals by protocol.
pub(crate) static PROTOCOL: &[Column] = &[
    left_aligned(
        "protocol",
        "PROTOCOL",
        Show::Both(0),
        |entry, context| match &entry.subject {
            Subject::Protocol(protocol) => Value::Text(protocol.name().to_owned()),
            _ => label(entry, context),
        },
    )
    .width(10, 24)
    .naming(),
    right_aligned("flows", "FLOWS", Show::Both(3), flows).width(6, 6),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    RATE,
    TOTAL,
];

static LISTENER: &[Column] = &[
    left_aligned("protocol", "PROTO", Show::Both(2), protocol).width(5, 7),
    left_aligned("local", "LISTENS AT", Show::Both(0), local)
        .width(ENDPOINT, 40)
        .cut_in_the_middle()
        .naming(),
    right_aligned("pid", "PID", Show::Both(3), pid).width(7, 7),
    left_aligned("process", "PROCESS", Show::Both(0), process_name)
        .width(12, 28)
        .naming(),
    left_aligned("user", "USER", Show::Both(4), user).width(8, 10),
    right_aligned("flows", "FLOWS", Show::Both(2), flows).width(6, 6),
    right_aligned("waiting", "WAITING", Show::Both(5), |entry, _| {
        queue(entry, |backlog| backlog.waiting)
    })
    .width(7, 8),
    right_aligned("backlog", "BACKLOG", Show::Both(7), |entry, _| {
        queue(entry, |backlog| backlog.limit)
    })
    .width(7, 8),
    right_aligned("drops", "DROPS", Show::Both(6), drops).width(6, 6),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    AGE,
    LAST_SEEN,
    PACKETS,
    RATE,
    TOTAL,
];

static INTERFACE: &[Column] = &[
    left_aligned(
        "interface",
        "INTERFACE",
        Show::Both(0),
        |entry, context| match &entry.subject {
            Subject::Interface(interface) => Value::Text(interface.name.to_string()),
            _ => label(entry, context),
        },
    )
    .width(10, 16)
    .naming(),
    left_aligned("state", "STATE", Show::Both(5), |entry, _| {
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
    .width(5, 5),
    right_aligned("rx_rate", "IN/s", Show::Both(1), |entry, _| {
        Value::Rate(entry.rate.rx)
    })
    .with_measure(Measure::Rate)
    .width(9, 12),
    right_aligned("tx_rate", "OUT/s", Show::Both(1), |entry, _| {
        Value::Rate(entry.rate.tx)
    })
    .with_measure(Measure::Rate)
    .width(9, 12),
    right_aligned("rx_bytes", "IN", Show::Both(2), |entry, _| {
        Value::Bytes(entry.ledger().ingress.frames)
    })
    .with_measure(Measure::Total),
    right_aligned("tx_bytes", "OUT", Show::Both(2), |entry, _| {
        Value::Bytes(entry.ledger().egress.frames)
    })
    .with_measure(Measure::Total),
    right_aligned("errors", "ERRORS", Show::Both(7), |entry, _| {
        own_counter(entry, |side| side.errors)
    })
    .width(6, 10),
    right_aligned("drops", "DROPS", Show::Both(7), |entry, _| {
        own_counter(entry, |side| side.dropped)
    })
    .width(6, 10),
    right_aligned("owned", "OWNED", Show::Lines(0), |entry, _| {
        let Ledger { ingress, egress } = entry.ledger();
        Value::Share {
            part: ingress.socket + egress.socket,
            whole: ingress.frames + egress.frames,
        }
    })
    .width(7, 7),
    json("socket", |entry, _| {
        both_directions(entry, |side| side.socket)
    }),
    right_aligned("forwarded", "FORWARDED", Show::Lines(3), |entry, _| {
        both_directions(entry, |side| side.forwarded)
    }),
    right_aligned("kernel", "KERNEL", Show::Lines(4), |entry, _| {
        both_directions(entry, |side| side.kernel)
    }),
    right_aligned("packet_socket", "PACKET", Show::Lines(6), |entry, _| {
        both_directions(entry, |side| side.packet_socket)
    }),
    right_aligned("not_ip", "NOT IP", Show::Lines(6), |entry, _| {
        both_directions(entry, |side| side.not_ip)
    }),
    right_aligned("offload", "OFFLOAD", Show::Lines(7), |entry, _| {
        both_directions(entry, |side| side.offload)
    }),
    right_aligned("unexplained", "UNEXPLAINED", Show::Both(1), |entry, _| {
        let Ledger { ingress, egress } = entry.ledger();
        let sum = ingress.unexplained.saturating_add(egress.unexplained);
        Value::SignedBytes(sum)
    })
    .width(9, 11),
    left_aligned("ledger", "FRAMES BY CAUSE", Show::Screen(1), |entry, _| {
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
    .width(24, u16::MAX),
    json("classified", |entry, _| match &entry.subject {
        Subject::Interface(interface) => Value::Flag(interface.classified),
        _ => Value::Absent,
    }),
    RATE,
    TOTAL,
];

static USER: &[Column] = &[
    left_aligned(
        "user",
        "USER",
        Show::Both(0),
        |entry, context| match &entry.subject {
            Subject::Label(_, Label::User(uid, name)) => user_named(*uid, name.as_deref()),
            _ => label(entry, context),
        },
    )
    .width(14, 32)
    .naming(),
    json("uid", |entry, _| match &entry.subject {
        Subject::Label(_, Label::User(uid, _)) => Value::Id((*uid).into()),
        _ => Value::Absent,
    }),
    right_aligned("processes", "PROCESSES", Show::Both(4), processes),
    right_aligned("flows", "FLOWS", Show::Both(3), flows).width(6, 6),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    RATE,
    TOTAL,
];

static CGROUP: &[Column] = &[
    left_aligned("cgroup", "CGROUP", Show::Both(0), label)
        .width(24, 64)
        .cut_in_the_middle()
        .naming(),
    right_aligned("processes", "PROCESSES", Show::Both(4), processes),
    right_aligned("flows", "FLOWS", Show::Both(3), flows).width(6, 6),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    RATE,
    TOTAL,
];

static PROGRAM: &[Column] = &[
    left_aligned(
        "program",
        "PROGRAM",
        Show::Both(0),
        |entry, context| match &entry.subject {
            Subject::Program(program) => Value::name(&*program.name),
            _ => label(entry, context),
        },
    )
    .width(18, 28),
    right_aligned("processes", "PROCESSES", Show::Both(3), processes),
    right_aligned(
        "running",
        "RUNNING",
        Show::Both(4),
        |entry, _| match &entry.subject {
            Subject::Program(program) => Value::Count(program.running()),
            _ => Value::Absent,
        },
    ),
    left_aligned("user", "USER", Show::Both(5), user).width(8, 10),
    right_aligned("flows", "FLOWS", Show::Both(3), flows).width(6, 6),
    RX_RATE,
    TX_RATE,
    RX_BYTES,
    TX_BYTES,
    RATE,
    TOTAL,
];

/// Columns of an IPv4 address with its port, which is never cut.
const ENDPOINT: u16 = 21;

const GRAPH: Column = left_aligned("graph", "LAST 60 s", Show::Screen(4), graph).width(10, 10);

type ValueOf = fn(&Entry, &Context<'_>) -> Value;

const PID: Column = right_aligned("pid", "PID", Show::Both(1), pid).width(7, 7);
const RX_RATE: Column = right_aligned("rx_rate", "RECEIVED/s", Show::Both(1), |entry, _| {
    Value::Rate(entry.rate.rx)
})
.with_measure(Measure::Rate)
.width(9, 12);
const TX_RATE: Column = right_aligned("tx_rate", "SENT/s", Show::Both(1), |entry, _| {
    Value::Rate(entry.rate.tx)
})
.with_measure(Measure::Rate)
.width(9, 12);
const RX_BYTES: Column = right_aligned("rx_bytes", "RECEIVED", Show::Both(2), |entry, _| {
    Value::Bytes(entry.app.rx_bytes)
})
.with_measure(Measure::Total);
const TX_BYTES: Column = right_aligned("tx_bytes", "SENT", Show::Both(2), |entry, _| {
    Value::Bytes(entry.app.tx_bytes)
})
.with_measure(Measure::Total);
const AGE: Column = right_aligned("age", "AGE", Show::Choice(7), age).width(7, 7);
const LAST_SEEN: Column =
    right_aligned("last", "LAST SEEN", Show::Choice(8), last_seen).width(9, 9);
const PACKETS: Column = right_aligned("packets", "PACKETS", Show::Choice(8), packets).width(8, 12);
const RATE: Column = right_aligned("rate", "", Show::Sort, |entry, _| {
    Value::Rate(entry.rate.rx + entry.rate.tx)
});
const TOTAL: Column = right_aligned("total", "", Show::Sort, |entry, _| {
    Value::Bytes(Bytes(entry.total()))
});

/// A column of text. [`Column::width`] overrides the default width.
const fn left_aligned(
    name: &'static str,
    header: &'static str,
    show: Show,
    value: ValueOf,
) -> Column {
    Column {
        name,
        header,
        align: Align::Left,
        show,
        width: Width { min: 10, max: 16 },
        loses: Loses::End,
        names: false,
        measure: None,
        value,
    }
}

/// A column of numbers.
const fn right_aligned(
    name: &'static str,
    header: &'static str,
    show: Show,
    value: ValueOf,
) -> Column {
    Column {
        name,
        header,
        align: Align::Right,
        show,
        width: Width { min: 9, max: 11 },
        loses: Loses::End,
        names: false,
        measure: None,
        value,
    }
}

impl Column {
    /// Sets the width in the full-screen view.
    const fn width(mut self, min: u16, max: u16) -> Self {
        self.width = Width { min, max };
        self
    }

    /// Cells that are too long lose their middle.
    const fn cut_in_the_middle(mut self) -> Self {
        self.loses = Loses::Middle;
        self
    }

    /// It says what a row is.
    const fn naming(mut self) -> Self {
        self.names = true;
        self
    }

    const fn shown(mut self, show: Show) -> Self {
        self.show = show;
        self
    }

    const fn with_measure(mut self, measure: Measure) -> Self {
        self.measure = Some(measure);
        self
    }
}

/// A column of JSON only.
const fn json(name: &'static str, value: ValueOf) -> Column {
    left_aligned(name, "", Show::Json, value)
}
