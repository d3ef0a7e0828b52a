//! `flow events --json`: the event stream, version 1, one object a line.
//!
//! [`record`] holds its types, from which the schema under `docs/json-schema` is generated.

mod line;
mod processes;
pub mod record;
pub(super) mod schema;
pub mod tcp;
mod top;

use bytes::BytesMut;

use self::{
    line::write_line,
    processes::Processes,
    record::{Body, LostBody, Record},
};
pub use self::{
    line::{to_line, to_pretty},
    record::LossCause,
    top::top_line,
};
use crate::{
    event::{Clock, Instant},
    model::change::TimedChange,
};

/// Version of the stream, in each line's `v`. Facts may be added within a version.
pub const VERSION: u32 = 1;

/// Writes one stream: numbers its lines from 1 without a gap. So what the reader does not want
/// must be left out before it comes here.
#[derive(Debug)]
pub struct Encoder {
    lines: Lines,
    processes: Processes,
}

/// The lines, and what the next one has in common with the last.
#[derive(Debug)]
struct Lines {
    clock: Clock,
    seq: u64,
    /// A second since 1970, and how it is written up to the decimal point.
    second: (i64, String),
    /// The memory of a line.
    line: Vec<u8>,
}

impl Encoder {
    pub fn new(clock: Clock) -> Self {
        Self {
            lines: Lines {
                clock,
                seq: 0,
                second: (0, String::new()),
                line: Vec::new(),
            },
            processes: Processes::default(),
        }
    }

    /// Appends a change to a buffer, as one line without a line feed.
    pub fn encode(&mut self, change: &TimedChange, buffer: &mut BytesMut) {
        let Self { lines, processes } = self;
        let TimedChange { time, change } = change;
        let process = change.flow().and_then(|flow| flow.process.as_ref());
        let process = process.map(|process| processes.text(process, lines.clock));
        let body = Body::new(change, process, lines.clock);
        lines.write(*time, body, buffer);
    }

    /// Appends the line that reports to a slow reader how many updates were merged into newer ones so
    /// far.
    pub fn coalesced(&mut self, time: Instant, count: u64, buffer: &mut BytesMut) {
        let body = LostBody {
            cause: LossCause::ReaderSlowCoalesced,
            count,
        };
        self.lines.write(time, Body::Lost(body), buffer);
    }
}

impl Lines {
    fn write(&mut self, time: Instant, body: Body<'_>, buffer: &mut BytesMut) {
        self.seq += 1;
        let record = Record {
            v: VERSION,
            seq: self.seq,
            time: self.time(time),
            body,
        };
        self.line.clear();
        write_line(&mut self.line, &record);
        buffer.extend_from_slice(&self.line);
    }

    /// As [`Clock::rfc3339`]: thousands of lines are of the same second.
    fn time(&mut self, time: Instant) -> String {
        let timestamp = self.clock.timestamp(time);
        let (second, known) = &mut self.second;
        if known.is_empty() || *second != timestamp.as_second() {
            let whole = self.clock.rfc3339(time);
            let (before, _) = whole.split_once('.').unwrap_or((&whole, ""));
            (*second, *known) = (timestamp.as_second(), format!("{before}."));
        }
        let nanosecond = timestamp.subsec_nanosecond().unsigned_abs();
        format!("{known}{nanosecond:09}Z")
    }
}

/// The JSON Schema of one line.
pub fn schema() -> serde_json::Value {
    schema::of::<Record<'_>>()
}

#[cfg(test)]
mod tests;
