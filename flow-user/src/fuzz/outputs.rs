//! What people and machines read, of names that others chose.

use bytes::BytesMut;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use super::scene::{Scene, Texts};
use crate::{
    event::{Clock, Host},
    model::{change::TimedChange, snapshot::Snapshot},
    query::{
        table::Table,
        view::{By, View},
    },
    sink::{
        json::{Encoder, top_line},
        text::{EventText, Screen, event_line, is_hostile, render_top, width},
    },
};

/// Columns of the terminal.
const COLUMNS: usize = 80;

/// Names are separated by bytes of 0xff, which no text holds.
pub fn run(bytes: &[u8]) {
    let mut texts: Texts<'_> = [b""; 6];
    for (text, bytes) in texts.iter_mut().zip(bytes.split(|byte| *byte == 0xff)) {
        *text = bytes;
    }
    let scene = Scene::of(texts);
    check(&scene.changes, &scene.snapshot);
}

/// Whatever happened: a machine gets valid JSON, numbered without a gap; a terminal gets lines that
/// fit and that it only shows.
pub fn check(changes: &[TimedChange], snapshot: &Snapshot) {
    let clock = Clock {
        boot: Timestamp::UNIX_EPOCH,
    };
    let screen = Screen {
        width: Some(COLUMNS),
        ..Screen::default()
    };
    let text = EventText {
        clock,
        zone: TimeZone::UTC,
        screen,
    };
    let mut encoder = Encoder::new(clock);
    for (seq, change) in (1_u64..).zip(changes) {
        let mut line = BytesMut::new();
        encoder.encode(change, &mut line);
        let line = json(str::from_utf8(&line).expect("JSON is text"));
        assert_eq!(line["seq"], Value::from(seq));
        shown(&event_line(&text, change));
    }
    let host = Host::default();
    for by in By::ALL {
        let view = View {
            by,
            ..View::default()
        };
        let table = Table::build(snapshot, &view);
        json(&top_line(&table, snapshot, clock));
        render_top(&table, snapshot, &host, screen)
            .lines()
            .for_each(shown);
    }
}

fn json(line: &str) -> Value {
    assert!(!line.chars().any(is_hostile), "{line:?}");
    serde_json::from_str(line).expect("a line is JSON")
}

fn shown(line: &str) {
    assert!(!line.chars().any(is_hostile), "{line:?}");
    assert!(width(line) <= COLUMNS, "{line:?}");
}
