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
        columns::{Align, Column, Context, EVENT},
        entry::Entry,
        log::{Logged, What},
    },
    sink::json::LossCause,
};

/// The columns of a line, by name, with the text of an unknown value.
static LINE: [(&str, Room, &str); 12] = [
    ("time", Room::Least(TIME), ""),
    ("event", Room::Least(KIND), ""),
    ("protocol", Room::Least(6), ""),
    ("user", Room::Cut(8), "-"),
    ("local", Room::Endpoint, "-"),
    ("remote", Room::Endpoint, "*"),
    ("state", Room::Least(12), ""),
    ("rx_bytes", Room::Least(8), ""),
    ("tx_bytes", Room::Least(8), ""),
    ("pid", Room::Least(7), "-"),
    ("exe", Room::Path, ""),
    ("command", Room::Rest, ""),
];

/// The room of a cell. A longer text pushes the others on; the end of the line is cut.
#[derive(Clone, Copy)]
enum Room {
    Least(usize),
    Cut(usize),
    /// Of an address and port, which only flows have.
    Endpoint,
    /// Of a path, of which the last part says most.
    Path,
    Rest,
}

/// Columns that are dropped on a narrow screen, the first ones first.
const DISPENSABLE: [&[&str]; 3] = [&["rx_bytes", "tx_bytes"], &["user"], &["local"]];

const TIME: usize = 12;
const KIND: usize = 6;
const EXE: usize = 24;
/// Columns that the executable has at least, before others go.
const EXE_LEAST: usize = 12;
/// Columns left to the command line before endpoints get more than the least.
const COMMAND: usize = 30;
/// Columns of an address and port of IPv4; more where the screen has room for IPv6.
const ENDPOINT_LEAST: usize = 21;
const ENDPOINT_MOST: usize = 47;

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
                    let limits = match it.limits.as_str() {
                        "" => String::new(),
                        limits => format!(" (not seen: {limits})"),
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
        let line = self.line(|slot| {
            let text = (slot.column.value)(&entry, &context).text();
            match (text.is_empty(), slot.room) {
                (false, _) => escape(&text).into_owned(),
                (true, Room::Endpoint) if change.flow().is_none() => text,
                (true, _) => slot.unknown.to_owned(),
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
        let layout = Layout::of(self.screen.width);
        let cell = |slot: &Slot| {
            let text = text_of(slot);
            let pad = match slot.column.align {
                Align::Left => pad_right,
                Align::Right => pad_left,
            };
            match (slot.room, layout.exe) {
                (Room::Least(room), _) => pad(&text, room),
                (Room::Cut(room), _) => pad(&cut(&text, room), room),
                (Room::Endpoint, _) => pad(&cut(&text, ENDPOINT_MOST), layout.endpoint),
                (Room::Path, Some(room)) => pad(&fit_path(&text, room), room),
                (Room::Path, None) => pad(&text, EXE),
                (Room::Rest, _) => text,
            }
        };
        let cells: Vec<String> = layout.slots.iter().map(cell).collect();
        cells.join(" ")
    }

    /// `line`, cut at the screen's edge, in a style.
    fn finish(&self, line: &str, style: Style) -> String {
        let room = self.screen.width.unwrap_or(usize::MAX);
        let shown = cut_end(line.trim_end(), room);
        paint(&shown, style, self.screen.color).into_owned()
    }
}

/// A column of a line.
struct Slot {
    column: &'static Column,
    room: Room,
    unknown: &'static str,
}

/// Which columns a line has, and the width of those that vary.
struct Layout {
    slots: Vec<Slot>,
    endpoint: usize,
    /// `None` cuts nothing.
    exe: Option<usize>,
}

impl Layout {
    fn of(width: Option<usize>) -> Self {
        let slot = |&(name, room, unknown)| {
            let column = EVENT.iter().find(|column| column.name == name)?;
            Some(Slot {
                column,
                room,
                unknown,
            })
        };
        let mut layout = Self {
            slots: LINE.iter().filter_map(slot).collect(),
            endpoint: ENDPOINT_LEAST,
            exe: None,
        };
        let Some(width) = width else {
            return layout;
        };
        for names in DISPENSABLE {
            if layout.width() + EXE_LEAST >= width {
                layout.slots.retain(|it| !names.contains(&it.column.name));
            }
        }
        let spare = width.saturating_sub(layout.width() + EXE + COMMAND);
        layout.endpoint = (ENDPOINT_LEAST + spare / 2).min(ENDPOINT_MOST);
        let room = width.saturating_sub(layout.width() + 1);
        layout.exe = Some(room.min(EXE));
        layout
    }

    /// Columns of all but the executable and the command line, with the gap after each.
    fn width(&self) -> usize {
        let room = |slot: &Slot| match slot.room {
            Room::Least(room) | Room::Cut(room) => room + 1,
            Room::Endpoint => self.endpoint + 1,
            Room::Path | Room::Rest => 0,
        };
        self.slots.iter().map(room).sum()
    }
}

/// A path where it fits, else its last part.
fn fit_path(path: &str, room: usize) -> Cow<'_, str> {
    if width(path) <= room {
        return path.into();
    }
    cut(path.rsplit('/').next().unwrap_or(path), room)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{super::cell::width, *};
    use crate::{
        event::{CloseReason, Direction, Loss, State},
        model::change::Change,
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
                color: false,
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

    #[test]
    fn flows_stand_under_their_header() {
        let curl = fixture::process(41007, "/usr/bin/curl", &["curl", "-O", "https://x/y"]);
        let mut flow = fixture::flow(1, &curl, "10.0.3.7:50514", Some("198.51.100.9:443"));
        flow.direction = Some(Direction::Outbound);
        let opened = line(Some(160), Change::FlowOpened(Arc::new(flow.clone())));
        flow.closed = Some((Instant(3), CloseReason::Reset));
        let closed = line(Some(160), Change::FlowClosed(Arc::new(flow.clone())));
        flow.closed = None;
        flow.state = State::Listen;
        flow.key.remote = None;
        flow.process = None;
        let listening = line(Some(160), Change::FlowOpened(Arc::new(flow)));
        assert_eq!(
            [event_header(&text(Some(160))), opened, closed, listening].join("\n"),
            "\
TIME         EVENT  PROTO  USER     LOCAL                 REMOTE                STATE        RECEIVED     SENT     PID EXE                      COMMAND
14:02:31.123 open   tcp    1000     10.0.3.7:50514        198.51.100.9:443      established    1.0 kB    100 B   41007 /usr/bin/curl            curl -O https:/…
14:02:31.123 close  tcp    1000     10.0.3.7:50514        198.51.100.9:443      reset          1.0 kB    100 B   41007 /usr/bin/curl            curl -O https:/…
14:02:31.123 open   tcp    -        10.0.3.7:50514        *                     listen         1.0 kB    100 B       -"
        );
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
        assert!(ledger.contains("ledger eth0 20 B: 100%"), "{ledger}");
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
