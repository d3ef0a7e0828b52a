//! `flow events --json`: the event stream, version 1, one object a line.
//!
//! [`record`] holds its types, from which the schema under `docs/json-schema` is generated.

mod line;
pub mod record;
pub(super) mod schema;
mod top;

use bytes::BytesMut;

use self::{
    line::write_line,
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
    clock: Clock,
    seq: u64,
}

impl Encoder {
    pub const fn new(clock: Clock) -> Self {
        Self { clock, seq: 0 }
    }

    /// Appends a change to a buffer, as one line without a line feed.
    pub fn encode(&mut self, change: &TimedChange, buffer: &mut BytesMut) {
        let body = Body::new(&change.change, self.clock);
        self.line(change.time, body, buffer);
    }

    /// Appends the line that reports to a slow reader how many updates were merged into newer ones so
    /// far.
    pub fn coalesced(&mut self, time: Instant, count: u64, buffer: &mut BytesMut) {
        let body = LostBody {
            cause: LossCause::ReaderSlowCoalesced,
            count,
        };
        self.line(time, Body::Lost(body), buffer);
    }

    fn line(&mut self, time: Instant, body: Body<'_>, buffer: &mut BytesMut) {
        self.seq += 1;
        let record = Record {
            v: VERSION,
            seq: self.seq,
            time: self.clock.rfc3339(time),
            body,
        };
        write_line(buffer, &record);
    }
}

/// The JSON Schema of one line.
pub fn schema() -> serde_json::Value {
    schema::of::<Record<'_>>()
}

#[cfg(test)]
mod tests;
