//! `flow events` in a terminal: one aligned line for each event.
//!
//! ```text
//! TIME           EVENT PROTO  USER     LOCAL ... REMOTE ... STATE  RECEIVED SENT  PID  EXE  COMMAND
//! ```

use std::borrow::Cow;

use jiff::tz::TimeZone;

use super::{
    cell::{cut, cut_end, pad_left, pad_right, width},
    escape, human, ledger,
    style::{Style, paint},
    top::Screen,
};
use crate::{
    event::{Bytes, Instant},
    model::{
        change::{ChangeSubject, EventKind, TimedChange, Weight},
        snapshot::{Flow, Process},
    },
    query::names::Names,
    sink::{clock::Clock, json::LossCause},
};

const TIME: usize = 12;
const EVENT: usize = 6;
const PROTOCOL: usize = 6;
const USER: usize = 8;
const STATE: usize = 12;
const BYTES: usize = 8;
const PID: usize = 7;
const EXE: usize = 24;
/// Columns that the executable has at least, before others go.
const EXE_LEAST: usize = 12;
/// Columns left to the command line before endpoints get more than the least.
const COMMAND: usize = 30;
/// Columns of an address and port of IPv4; more where the screen has room for IPv6.
const ENDPOINT_LEAST: usize = 21;
const ENDPOINT_MOST: usize = 47;
/// Columns of what always stays, with the gaps: all but the columns that [`Layout`] tells of.
const FIXED: usize = TIME + EVENT + PROTOCOL + STATE + PID + 6;

/// How events become text.
#[derive(Clone, Debug)]
pub struct EventText {
    pub clock: Clock,
    /// Time zone the times are shown in.
    pub zone: TimeZone,
    pub screen: Screen,
}

/// The line that names the columns.
pub fn event_header(text: &EventText) -> String {
    let cells = Cells {
        event: "EVENT",
        protocol: "PROTO",
        user: "USER",
        local: "LOCAL",
        remote: "REMOTE",
        state: "STATE",
        received: "RECEIVED",
        sent: "SENT",
        pid: "PID",
        exe: "EXE",
        command: "COMMAND",
    };
    text.finish(&text.columns("TIME", &cells), Style::Accent)
}

/// An event as one line, without a line feed, at most as wide as the screen.
pub fn event_line(text: &EventText, change: &TimedChange, names: &dyn Names) -> String {
    let time = text.clock.time_of_day(change.time, &text.zone);
    let TimedChange { change, .. } = change;
    let kind = change.kind();
    let style = match kind.weight() {
        Weight::Routine | Weight::IfMoved => Style::Dim,
        Weight::Notable => Style::Plain,
        Weight::Alarm => Style::Alarm,
    };
    let note = match change.subject() {
        ChangeSubject::Flow(flow) => return text.flow(&time, kind.short(), flow, names, style),
        ChangeSubject::Process(process) => {
            let state = change.exit().map(human::exit_status).unwrap_or_default();
            return text.process(&time, kind.short(), process, state, names);
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
    text.note(&time, kind.short(), &note, style)
}

/// The line that tells a slow reader how many updates were merged into newer ones so far.
pub fn coalesced_line(text: &EventText, time: Instant, count: u64) -> String {
    let time = text.clock.time_of_day(time, &text.zone);
    let note = loss(LossCause::ReaderSlowCoalesced, count);
    text.note(&time, EventKind::Lost.short(), &note, Style::Alarm)
}

fn loss(cause: LossCause, count: u64) -> String {
    format!("{} {count}", cause.name())
}

#[derive(Default)]
struct Cells<'a> {
    event: &'a str,
    protocol: &'a str,
    user: &'a str,
    local: &'a str,
    remote: &'a str,
    state: &'a str,
    received: &'a str,
    sent: &'a str,
    pid: &'a str,
    exe: &'a str,
    command: &'a str,
}

impl EventText {
    fn flow(
        &self,
        time: &str,
        event: &str,
        flow: &Flow,
        names: &dyn Names,
        style: Style,
    ) -> String {
        let process = flow.process.as_deref();
        let remote = match flow.key.remote {
            Some(remote) => match names.host(remote.ip()) {
                Some(name) => format!("{}:{}", escape(&name), remote.port()),
                None => escape(&flow.remote_text().unwrap_or_default()).into_owned(),
            },
            None => "*".to_owned(),
        };
        let state = match flow.closed {
            Some((_, reason)) => reason.name(),
            None => flow.state.name(),
        };
        let (received, sent) = (flow.app.rx_bytes, flow.app.tx_bytes);
        let cells = Cells {
            event,
            protocol: flow.protocol.name(),
            user: &user(process, names),
            local: &flow.bound().map_or_else(unknown, |local| local.to_string()),
            remote: &remote,
            state,
            received: &bytes(received),
            sent: &bytes(sent),
            pid: &process.map_or_else(unknown, |process| process.id.pid.to_string()),
            exe: &process.map(exe).unwrap_or_default(),
            command: &process.map(command).unwrap_or_default(),
        };
        self.finish(&self.columns(time, &cells), style)
    }

    fn process(
        &self,
        time: &str,
        event: &str,
        process: &Process,
        state: String,
        names: &dyn Names,
    ) -> String {
        let cells = Cells {
            event,
            user: &user(Some(process), names),
            state: &state,
            received: &bytes(process.totals.rx_bytes),
            sent: &bytes(process.totals.tx_bytes),
            pid: &process.id.pid.to_string(),
            exe: &exe(process),
            command: &command(process),
            ..Cells::default()
        };
        self.finish(&self.columns(time, &cells), Style::Dim)
    }

    fn note(&self, time: &str, event: &str, note: &str, style: Style) -> String {
        let line = format!(
            "{} {} {note}",
            pad_right(time, TIME),
            pad_right(event, EVENT)
        );
        self.finish(&line, style)
    }

    /// All cells in their columns. What is too long for its column pushes the others on; the end
    /// of the line gives way.
    fn columns(&self, time: &str, cells: &Cells<'_>) -> String {
        let Layout {
            user,
            local,
            bytes,
            endpoint,
            exe: exe_room,
        } = Layout::of(self.screen.width);
        let mut line = vec![
            pad_right(time, TIME),
            pad_right(cells.event, EVENT),
            pad_right(cells.protocol, PROTOCOL),
        ];
        if user {
            line.push(pad_right(&cut(cells.user, USER), USER));
        }
        if local {
            line.push(pad_right(&cut(cells.local, ENDPOINT_MOST), endpoint));
        }
        line.push(pad_right(&cut(cells.remote, ENDPOINT_MOST), endpoint));
        line.push(pad_right(cells.state, STATE));
        if bytes {
            line.push(pad_left(cells.received, BYTES));
            line.push(pad_left(cells.sent, BYTES));
        }
        line.push(pad_left(cells.pid, PID));
        line.push(match exe_room {
            Some(room) => pad_right(&fit_path(cells.exe, room), room),
            None => pad_right(cells.exe, EXE),
        });
        line.push(cells.command.to_owned());
        line.join(" ")
    }

    /// `line`, cut at the screen's edge, in a style.
    fn finish(&self, line: &str, style: Style) -> String {
        let room = self.screen.width.unwrap_or(usize::MAX);
        let shown = cut_end(line.trim_end(), room);
        paint(&shown, style, self.screen.color).into_owned()
    }
}

/// Which columns a line has, and the width of those that vary.
struct Layout {
    user: bool,
    local: bool,
    bytes: bool,
    endpoint: usize,
    /// `None` cuts nothing.
    exe: Option<usize>,
}

impl Layout {
    /// On a narrow screen the bytes go first, then the user, then the local endpoint.
    fn of(width: Option<usize>) -> Self {
        let mut layout = Self {
            user: true,
            local: true,
            bytes: true,
            endpoint: ENDPOINT_LEAST,
            exe: None,
        };
        let Some(width) = width else {
            return layout;
        };
        layout.bytes = layout.width() + EXE_LEAST < width;
        layout.user = layout.width() + EXE_LEAST < width;
        layout.local = layout.width() + EXE_LEAST < width;
        let spare = width.saturating_sub(layout.width() + EXE + COMMAND);
        layout.endpoint = (ENDPOINT_LEAST + spare / 2).min(ENDPOINT_MOST);
        let room = width.saturating_sub(layout.width() + 1);
        layout.exe = Some(room.min(EXE));
        layout
    }

    /// Columns of all but the executable and the command line.
    fn width(&self) -> usize {
        let Self {
            user,
            local,
            bytes,
            endpoint,
            exe: _,
        } = self;
        let mut width = FIXED + endpoint;
        if *user {
            width += USER + 1;
        }
        if *local {
            width += endpoint + 1;
        }
        if *bytes {
            width += 2 * (BYTES + 1);
        }
        width
    }
}

/// A path where it fits, else its last part.
fn fit_path(path: &str, room: usize) -> Cow<'_, str> {
    if width(path) <= room {
        return path.into();
    }
    cut(path.rsplit('/').next().unwrap_or(path), room)
}

fn user(process: Option<&Process>, names: &dyn Names) -> String {
    match process.and_then(|process| process.uid) {
        Some(uid) => match names.user(uid) {
            Some(name) => escape(&name).into_owned(),
            None => uid.to_string(),
        },
        None => unknown(),
    }
}

/// What stands where nothing is known.
fn unknown() -> String {
    "-".to_owned()
}

fn exe(process: &Process) -> String {
    match &process.program.exe {
        Some(exe) => escape(&exe.to_string_lossy()).into_owned(),
        None => escape(process.name()).into_owned(),
    }
}

fn command(process: &Process) -> String {
    let cmdline = process.program.cmdline.as_deref().unwrap_or_default();
    let mut command = escape(&cmdline.join(" ")).into_owned();
    if process.program.cmdline_cut {
        command.push('…');
    }
    command
}

fn bytes(bytes: Bytes) -> String {
    human::bytes(bytes.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{super::cell::width, *};
    use crate::{
        event::{CloseReason, Direction, Loss, State},
        model::change::Change,
        query::{fixture, names::NoNames},
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
        event_line(&text(width), &change, &NoNames)
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
    fn other_events_tell_their_facts() {
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
        assert!(ledger.contains("ledger eth0 20 B: 100 %"), "{ledger}");
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
