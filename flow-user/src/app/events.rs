//! `flow events`: one line for each thing that happens.
//!
//! A thread of its own writes, so that a slow reader does not delay the engine. What the reader has
//! not taken yet waits in a backlog.

use std::{ops::ControlFlow, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use jiff::tz::TimeZone;

use super::{
    End, EndSignals, Failure,
    consumer::{Consumer, Proceed, Ready},
    engine::{Interest, Last, Plan},
    run::{Run, Served},
    writer::Writer,
};
use crate::{
    cli::{Events, Output},
    event::Clock,
    model::change::TimedChange,
    query::selection::{EventTypes, Selection},
    sink::{
        backlog::{Backlog, Delivery},
        json::Encoder,
        text::{EventText, coalesced_line, event_header, event_line},
    },
    source::Pace,
};

/// How long closed flows are kept, although their close is reported at once: late bytes of another
/// process or remote of the same socket still become a flow. Once the socket is dropped, late bytes
/// count only for their process.
const HISTORY: Duration = Duration::from_secs(2);
/// Bytes handed to the writer at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Runs the command.
///
/// # Errors
/// The source fails, standard output can't be written, or its reader stalls.
pub async fn run(plan: Plan, options: &Events) -> Result<End, Failure> {
    let mut signals = EndSignals::listen()?;
    let sockets = plan.options.sizes().sockets as usize;
    let pace = Pace {
        interval: plan.options.interval(),
        at_once: true,
        as_recorded: false,
    };
    let ages = plan.ages(HISTORY);
    let run = Run::open(&plan, pace, ages, CHANGES)?;
    let mut stream = Stream {
        lines: Lines {
            selection: Selection {
                filter: plan.filter,
                types: options.only.clone().unwrap_or_else(EventTypes::all),
            },
            backlog: Backlog::for_sockets(sockets),
            format: Format::new(plan.options.output(), run.origin().clock),
            buffer: BytesMut::new(),
        },
        writer: Writer::start(),
    };
    if let Some(header) = stream.lines.format.header() {
        stream.writer.send(header).await;
    }
    // Detaches first: a reader that stalls keeps nothing in the kernel.
    let Served { end, last, beside } = run.serve(&mut stream, &mut signals, options.duration).await;
    let end = stream.finish(&last, &mut signals, end?).await?;
    beside.map(|()| end)
}

const CHANGES: Interest = Interest {
    events: false,
    changes: true,
    states: false,
};

/// Lines on their way to the writer.
struct Stream {
    lines: Lines,
    writer: Writer,
}

/// From changes to lines.
struct Lines {
    selection: Selection,
    backlog: Backlog,
    format: Format,
    buffer: BytesMut,
}

impl Consumer for Stream {
    fn interest(&self) -> Interest {
        CHANGES
    }

    fn changes(&mut self, changes: &[TimedChange]) -> Result<(), Failure> {
        self.lines.take(changes)
    }

    fn ready(&mut self) -> Ready<'_> {
        Box::pin(self.write())
    }

    fn is_busy(&self) -> bool {
        !self.lines.backlog.is_empty()
    }
}

impl Stream {
    /// Writes what remains.
    async fn finish(self, last: &Last, signals: &mut EndSignals, end: End) -> Result<End, Failure> {
        let Self { mut lines, writer } = self;
        lines.take(&last.changes)?;
        while !lines.backlog.is_empty() {
            let chunk = lines.chunk();
            tokio::select! {
                sent = writer.send(chunk) => if !sent { break },
                // A second signal: do not wait for the reader.
                end = signals.wait() => return Ok(end),
            }
        }
        writer.finish_unless_ended(signals, end).await
    }

    /// Sends a chunk as soon as the writer has room.
    async fn write(&mut self) -> Result<Proceed, Failure> {
        let Self { lines, writer } = self;
        tokio::select! {
            biased;
            () = writer.closed() => Ok(ControlFlow::Break(End::Done)),
            place = writer.place(), if !lines.backlog.is_empty() => match place {
                Some(place) => {
                    place.send(lines.chunk());
                    Ok(ControlFlow::Continue(()))
                }
                None => Ok(ControlFlow::Break(End::Done)),
            },
        }
    }
}

impl Lines {
    fn take(&mut self, changes: &[TimedChange]) -> Result<(), Failure> {
        for change in changes {
            if self.selection.wants(&change.change) {
                self.backlog.push(change.clone())?;
            }
        }
        Ok(())
    }

    /// The next lines for the writer, about [`CHUNK_BYTES`].
    fn chunk(&mut self) -> Bytes {
        while self.buffer.len() < CHUNK_BYTES
            && let Some(delivery) = self.backlog.pop()
        {
            self.format.line(&delivery, &mut self.buffer);
            self.buffer.put_u8(b'\n');
        }
        self.buffer.split().freeze()
    }
}

/// How a line looks.
enum Format {
    Json(Encoder),
    Text(EventText),
}

impl Format {
    fn new(output: Output, clock: Clock) -> Self {
        if output.json {
            Self::Json(Encoder::new(clock))
        } else {
            Self::Text(EventText {
                clock,
                zone: TimeZone::system(),
                screen: output.screen(),
            })
        }
    }

    fn header(&self) -> Option<Vec<u8>> {
        match self {
            Self::Json(_) => None,
            Self::Text(text) => Some(format!("{}\n", event_header(text)).into_bytes()),
        }
    }

    /// Appends a line without its line feed.
    fn line(&mut self, delivery: &Delivery, buffer: &mut BytesMut) {
        match (self, delivery) {
            (Self::Json(encoder), Delivery::Change(change)) => encoder.encode(change, buffer),
            (Self::Json(encoder), Delivery::Coalesced { time, count }) => {
                encoder.coalesced(*time, *count, buffer);
            }
            (Self::Text(text), Delivery::Change(change)) => {
                buffer.put_slice(event_line(text, change).as_bytes());
            }
            (Self::Text(text), Delivery::Coalesced { time, count }) => {
                buffer.put_slice(coalesced_line(text, *time, *count).as_bytes());
            }
        }
    }
}
