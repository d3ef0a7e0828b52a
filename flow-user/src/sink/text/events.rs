//! `flow events` in a terminal: one aligned line for each event.
//!
//! The content of a cell is defined in [`EVENT`]; here is its room in a line.

use std::{borrow::Cow, sync::Arc};

use jiff::tz::TimeZone;

use super::{
    cell::{cut, cut_end, pad_left, pad_right, width},
    escape, ledger,
    style::{Style, paint},
    top::Screen,
};
use crate::{
    event::{Clock, Instant},
    model::change::{Change, ChangeSubject, EventKind, TimedChange, Weight},
    query::{
        columns::{Align, Column, Context, EVENT, Value},
        entry::Entry,
        log::{Logged, What},
    },
    sink::json::LossCause,
};

/// The columns of a line in order: name, cells in a pipe, and the text of an unknown value.
static LINE: [(&str, usize, &str); 14] = [
    ("time", TIME, ""),
    ("event", KIND, ""),
    ("protocol", PROTOCOL, ""),
    (LOCAL, ENDPOINT, "-"),
    ("arrow", 1, ""),
    (REMOTE, ENDPOINT, "*"),
    ("state", STATE, ""),
    ("rx_bytes", 8, ""),
    ("tx_bytes", 6, ""),
    ("pid", 7, "-"),
    ("process", NAME, ""),
    ("user", LEAST, "-"),
    (EXE, 24, ""),
    ("command", LEAST, ""),
];

const LOCAL: &str = "local";
const REMOTE: &str = "remote";
const EXE: &str = "exe";

const TIME: usize = 12;
const KIND: usize = 6;
const PROTOCOL: usize = 6;
const STATE: usize = 11;
/// An IPv4 address and port, which are never cut; then a usual IPv6 address, and any.
const ENDPOINT: usize = 21;
const ENDPOINT_IPV6: usize = 29;
const ENDPOINT_MOST: usize = 47;
/// The longest name that the kernel keeps of a process.
const NAME: usize = 15;
/// Less of a text says nothing.
const LEAST: usize = 8;
const COMMAND: usize = 30;

/// A use of a terminal's columns.
enum Wish {
    /// These columns with as many cells, all of them or none.
    Show(&'static [(&'static str, usize)]),
    /// Up to as many cells for a column, if it is shown.
    Grow(&'static str, usize),
}

/// How a terminal's columns are spent, the most important first.
static WISHES: [Wish; 18] = [
    Wish::Show(&[("time", TIME), ("event", KIND)]),
    Wish::Show(&[(REMOTE, ENDPOINT)]),
    Wish::Show(&[("process", LEAST)]),
    Wish::Show(&[("arrow", 1)]),
    Wish::Show(&[("rx_bytes", 8), ("tx_bytes", 6)]),
    Wish::Show(&[("state", STATE)]),
    Wish::Show(&[("pid", 7)]),
    Wish::Show(&[("protocol", PROTOCOL)]),
    Wish::Show(&[(LOCAL, ENDPOINT)]),
    Wish::Grow("process", NAME),
    Wish::Show(&[("user", LEAST)]),
    Wish::Show(&[("command", LEAST)]),
    Wish::Grow("command", COMMAND),
    Wish::Grow(REMOTE, ENDPOINT_IPV6),
    Wish::Grow(LOCAL, ENDPOINT_IPV6),
    Wish::Show(&[(EXE, 24)]),
    Wish::Grow(REMOTE, ENDPOINT_MOST),
    Wish::Grow(LOCAL, ENDPOINT_MOST),
];

/// The format of events as text.
#[derive(Clone, Debug)]
pub struct EventText {
    pub clock: Clock,
    /// Time zone the times are shown in.
    pub zone: TimeZone,
    pub screen: Screen,
}

/// The line that names the columns.
pub fn event_header(text: &EventText) -> String {
    text.finish(
        &text.line(|slot| slot.column.header.to_owned()),
        Style::Accent,
    )
}

/// An event as one line, without a line feed, at most as wide as the screen.
pub fn event_line(text: &EventText, change: &TimedChange) -> String {
    let TimedChange { time, change } = change;
    let style = match change.kind().weight() {
        Weight::Routine | Weight::IfMoved => Style::Dim,
        Weight::Notable => Style::Plain,
        Weight::Alarm => Style::Alarm,
    };
    let note = match change.subject() {
        ChangeSubject::Flow(_) | ChangeSubject::Process(_) => {
            return text.event(*time, change, style);
        }
        ChangeSubject::Interface(interface) => ledger::sentence(interface),
        ChangeSubject::Loss(cause, count) => loss(LossCause::from(cause), count),
        ChangeSubject::Coverage(coverage) => {
            let parts: Vec<String> = coverage
                .iter()
                .map(|it| {
                    let backend = it.backend.as_deref().unwrap_or("none");
                    let limits = match (it.limits.as_str(), text.screen.width) {
                        ("", _) => String::new(),
                        // The limits of one capability would take the whole line.
                        (_, Some(_)) if it.backend.is_some() => " (partial)".to_owned(),
                        (_, Some(_)) => String::new(),
                        (limits, None) => format!(" (not seen: {limits})"),
                    };
                    format!("{}: {backend}{limits}", it.capability)
                })
                .collect();
            escape(&parts.join("; ")).into_owned()
        }
    };
    text.note(*time, change.kind(), &note, style)
}

/// The line that reports to a slow reader how many updates were merged into newer ones so far.
pub fn coalesced_line(text: &EventText, time: Instant, count: u64) -> String {
    let note = loss(LossCause::ReaderSlowCoalesced, count);
    text.note(time, EventKind::Lost, &note, Style::Alarm)
}

fn loss(cause: LossCause, count: u64) -> String {
    format!("{} {count}", cause.name())
}

impl EventText {
    /// What happened to a flow or a process.
    fn event(&self, time: Instant, change: &Change, style: Style) -> String {
        let entry = Entry::of_event(&Arc::new(Logged {
            number: 0,
            time: self.clock.timestamp(time),
            zone: self.zone.clone(),
            what: What::Change(change.clone()),
        }));
        let context = Context::default();
        let shown = slots(self.screen.width);
        let shows_local = shown.iter().any(|slot| slot.column.name == LOCAL);
        let line = self.line(|slot| {
            let text = match entry.value(slot.column, &context, shows_local) {
                // The event says that a process has exited.
                Value::Name { name, .. } => name,
                value => value.text(),
            };
            let is_endpoint = [LOCAL, REMOTE].contains(&slot.column.name);
            match text.is_empty() {
                false => escape(&text).into_owned(),
                true if is_endpoint && change.flow().is_none() => text,
                true => slot.unknown.to_owned(),
            }
        });
        self.finish(&line, style)
    }

    fn note(&self, time: Instant, kind: EventKind, note: &str, style: Style) -> String {
        let time = pad_right(&self.clock.time_of_day(time, &self.zone), TIME);
        let line = format!("{time} {} {note}", pad_right(kind.short(), KIND));
        self.finish(&line, style)
    }

    /// All cells in their columns.
    fn line(&self, text_of: impl Fn(&Slot) -> String) -> String {
        let slots = slots(self.screen.width);
        let cell = |slot: &Slot| {
            let text = text_of(slot);
            let shown = match self.screen.width {
                // A longer text pushes the others on.
                None => text.into(),
                Some(_) => slot.cut(&text),
            };
            match slot.column.align {
                Align::Left => pad_right(&shown, slot.cells),
                Align::Right => pad_left(&shown, slot.cells),
            }
        };
        let cells: Vec<String> = slots.iter().map(cell).collect();
        cells.join(" ")
    }

    /// `line`, cut at the screen's edge, in a style.
    fn finish(&self, line: &str, style: Style) -> String {
        let room = self.screen.width.unwrap_or(usize::MAX);
        let shown = cut_end(line.trim_end(), room);
        let shown = self.screen.symbols.text(&shown);
        paint(&shown, style, self.screen.color).into_owned()
    }
}

/// A column of a line, with its cells.
struct Slot {
    column: &'static Column,
    cells: usize,
    unknown: &'static str,
}

impl Slot {
    fn cut<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.column.name {
            // The ends of an address say most.
            LOCAL | REMOTE => cut(text, self.cells),
            // The file's name stays, if no more.
            EXE if width(text) > self.cells => {
                let name = text.rsplit('/').next().unwrap_or(text);
                cut_end(name, self.cells)
            }
            _ => cut_end(text, self.cells),
        }
    }
}

/// The columns of a line of this width; without one all of them.
fn slots(room: Option<usize>) -> Vec<Slot> {
    let widths = room.map(spend);
    let slot = |&(name, in_pipe, unknown)| {
        let cells = match &widths {
            None => in_pipe,
            Some(widths) => widths.iter().find(|it| it.0 == name)?.1,
        };
        Some(Slot {
            column: EVENT.iter().find(|column| column.name == name)?,
            cells,
            unknown,
        })
    };
    LINE.iter().filter_map(slot).collect()
}

/// The columns that have room, with their cells.
fn spend(room: usize) -> Vec<(&'static str, usize)> {
    let mut shown: Vec<(&str, usize)> = Vec::new();
    // There is a blank between columns, and none behind the last.
    let mut left = room + 1;
    for wish in &WISHES {
        match wish {
            Wish::Show(columns) => {
                let needed: usize = columns.iter().map(|(_, cells)| cells + 1).sum();
                // The first ones are there in any case.
                if needed <= left || shown.is_empty() {
                    left = left.saturating_sub(needed);
                    shown.extend(*columns);
                }
            }
            Wish::Grow(name, most) => {
                if let Some((_, cells)) = shown.iter_mut().find(|it| it.0 == *name) {
                    let more = most.saturating_sub(*cells).min(left);
                    *cells += more;
                    left -= more;
                }
            }
        }
    }
    // The command line takes what remains.
    if let Some((_, cells)) = shown.iter_mut().find(|it| it.0 == "command") {
        *cells += left;
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{super::cell::width, *};
    use crate::{
        event::{CloseReason, Direction, Loss, State},
        model::{change::Change, snapshot::Process},
        query::fixture,
    };

    fn text(width: Option<usize>) -> EventText {
        EventText {
            clock: Clock {
                boot: "2026-05-01T14:00:00Z".parse().unwrap(),
            },
            zone: TimeZone::UTC,
            screen: Screen {
                width,
                ..Screen::default()
            },
        }
    }

    fn line(width: Option<usize>, change: Change) -> String {
        let change = TimedChange {
            time: Instant(151_123_456_789),
            change,
        };
        event_line(&text(width), &change)
    }

    /// The header, an open, a close, a listener and an exit.
    fn page(width: usize) -> String {
        let width = Some(width);
        let curl = fixture::process(41007, "/usr/bin/curl", &["curl", "-O", "https://x/y"]);
        let mut flow = fixture::flow(1, &curl, "10.0.3.7:50514", Some("198.51.100.199:50443"));
        flow.direction = Some(Direction::Outbound);
        let opened = line(width, Change::FlowOpened(Arc::new(flow.clone())));
        flow.direction = Some(Direction::Inbound);
        flow.closed = Some((Instant(3), CloseReason::Reset));
        let closed = line(width, Change::FlowClosed(Arc::new(flow.clone())));
        flow.closed = None;
        flow.direction = None;
        flow.state = State::Listen;
        flow.key.remote = None;
        flow.process = None;
        let listening = line(width, Change::FlowOpened(Arc::new(flow)));
        let mut process = Process::clone(&curl);
        process.exited = Some(Instant(4));
        let exit = Change::ProcessExit {
            process: Arc::new(process),
            status: Some(0),
        };
        let lines = [
            event_header(&text(width)),
            opened,
            closed,
            listening,
            line(width, exit),
        ];
        lines.join("\n")
    }

    #[test]
    fn bytes_and_the_name_come_before_paths_and_command_lines() {
        assert_eq!(
            page(160),
            "\
TIME         EVENT  PROTO  LOCAL                   REMOTE                STATE       RECEIVED   SENT     PID PROCESS         USER     COMMAND
14:02:31.123 open   tcp    10.0.3.7:50514        → 198.51.100.199:50443  established   1.0 kB  100 B   41007 curl            1000     curl -O https://x/y
14:02:31.123 close  tcp    10.0.3.7:50514        ← 198.51.100.199:50443  reset         1.0 kB  100 B   41007 curl            1000     curl -O https://x/y
14:02:31.123 open   tcp    10.0.3.7:50514          *                     listen        1.0 kB  100 B       -                 -
14:02:31.123 exit                                                        code 0             0      0   41007 curl            1000     curl -O https://x/y"
        );
        assert_eq!(
            page(120),
            "\
TIME         EVENT  PROTO  LOCAL                   REMOTE                STATE       RECEIVED   SENT     PID PROCESS
14:02:31.123 open   tcp    10.0.3.7:50514        → 198.51.100.199:50443  established   1.0 kB  100 B   41007 curl
14:02:31.123 close  tcp    10.0.3.7:50514        ← 198.51.100.199:50443  reset         1.0 kB  100 B   41007 curl
14:02:31.123 open   tcp    10.0.3.7:50514          *                     listen        1.0 kB  100 B       -
14:02:31.123 exit                                                        code 0             0      0   41007 curl"
        );
    }

    #[test]
    fn a_narrow_terminal_keeps_the_remote_the_bytes_and_the_name() {
        assert_eq!(
            page(80),
            "\
TIME         EVENT    REMOTE                STATE       RECEIVED   SENT PROCESS
14:02:31.123 open   → 198.51.100.199:50443  established   1.0 kB  100 B curl
14:02:31.123 close  ← 198.51.100.199:50443  reset         1.0 kB  100 B curl
14:02:31.123 open   @ 10.0.3.7:50514        listen        1.0 kB  100 B
14:02:31.123 exit                           code 0             0      0 curl"
        );
        assert_eq!(
            page(60).lines().nth(1),
            Some("14:02:31.123 open   → 198.51.100.199:50443    41007 curl")
        );
        assert_eq!(
            page(60).lines().nth(3),
            Some("14:02:31.123 open   @ 10.0.3.7:50514              -")
        );
    }

    #[test]
    fn no_column_is_too_narrow_to_be_of_use() {
        let short = ["event", "protocol", "arrow", "tx_bytes", "pid"];
        for room in 0..300 {
            let shown = spend(room);
            for (name, cells) in &shown {
                assert!(*cells >= LEAST || short.contains(name), "{name} in {room}");
                let is_endpoint = [LOCAL, REMOTE].contains(name);
                assert!(!is_endpoint || *cells >= ENDPOINT, "{name} in {room}");
            }
            let taken: usize = shown.iter().map(|(_, cells)| cells + 1).sum();
            assert!(taken <= room + 1 || shown.len() == 2, "{room}: {shown:?}");
        }
        let lines = LINE.map(|(name, ..)| name);
        assert!(spend(300).iter().all(|(name, _)| lines.contains(name)));
        assert_eq!(spend(300).len(), LINE.len());
    }

    #[test]
    fn a_status_fits_into_a_terminal() {
        let status = fixture::snapshot(Vec::new(), Vec::new(), Vec::new()).coverage;
        let line = line(Some(80), Change::Status(status));
        assert!(line.contains("tracepoint (partial)"), "{line}");
    }

    #[test]
    fn other_events_show_their_facts() {
        let sh = fixture::process(7, "/bin/sh", &["sh", "-c", "a\nb"]);
        let exec = line(None, Change::ProcessExec(Arc::clone(&sh)));
        assert!(exec.ends_with("sh -c a\\nb"), "{exec}");
        let exit = |status| {
            let process = Arc::clone(&sh);
            line(None, Change::ProcessExit { process, status })
        };
        assert!(exit(Some(0x0300)).contains("code 3"));
        assert!(exit(Some(9)).contains("signal 9"));
        assert!(exit(None).contains("unknown"));
        let lost = Change::Lost {
            cause: Loss::RingProcess,
            count: 4,
        };
        assert_eq!(line(None, lost), "14:02:31.123 lost   ring_process 4");
        assert_eq!(
            coalesced_line(&text(None), Instant(0), 9),
            "14:00:00.000 lost   reader_slow_coalesced 9"
        );
        let status = fixture::snapshot(Vec::new(), Vec::new(), Vec::new()).coverage;
        assert!(line(None, Change::Status(status)).contains("tracepoint (not seen: bytes"));
        let ledger = line(None, Change::Ledger(fixture::interface("eth0", 10, 10)));
        assert!(ledger.contains("ledger eth0 20 B: 100"), "{ledger}");
    }

    proptest! {
        #[test]
        fn one_line_no_wider_than_the_screen(room in 0..300_usize, name in any::<String>()) {
            let process = fixture::process(1, &name, &[&name]);
            let flow = fixture::flow(1, &process, "[2001:db8::ffff:1]:65535", Some("[::1]:1"));
            for change in [Change::FlowOpened(Arc::new(flow)), Change::ProcessExec(process)] {
                let line = line(Some(room), change);
                prop_assert!(width(&line) <= room, "{}", line);
                prop_assert!(!line.chars().any(super::super::is_hostile));
            }
        }
    }
}
