//! `flow events`: one line for each thing that happens.
//!
//! A thread of its own writes, so that a slow reader never keeps the engine from listening. What the
//! reader has not taken yet waits in a backlog.

use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    End, Ending, Failure,
    engine::{Engine, Plan},
    writer::Writer,
};
use crate::{
    cli::Events,
    model::change::TimedChange,
    query::{
        names::Names,
        selection::{EventTypes, Selection},
    },
    sink::{
        backlog::{Backlog, Delivery},
        json::Encoder,
        text::{EventText, coalesced_line, event_header, event_line},
    },
};

/// How long closed flows are kept, though their close was told at once: bytes of another process or
/// remote that are reported after it still become a flow of the stream. Once dropped, a socket's late
/// bytes count for their process only.
const HISTORY: Duration = Duration::from_secs(2);
/// Bytes handed to the writer at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Runs the command.
///
/// # Errors
/// The kernel side fails, standard output can't be written, or its reader stalls.
pub async fn run(plan: Plan, options: &Events, names: &dyn Names) -> Result<End, Failure> {
    let mut ending = Ending::listen()?;
    let sockets = plan.kernel.sizes.sockets as usize;
    let mut engine = Engine::start(plan.kernel, HISTORY)?;
    let mut stream = Stream {
        selection: Selection {
            filter: plan.filter,
            types: options.only.clone().unwrap_or_else(EventTypes::all),
        },
        backlog: Backlog::for_sockets(sockets),
        format: Format::new(plan.output, &engine),
        names,
    };
    let writer = Writer::start();
    if let Some(header) = stream.format.header() {
        writer.send(header).await;
    }
    let end = stream
        .follow(&mut engine, &writer, &mut ending, plan.interval, options)
        .await;
    // Detached first, also after a failure: a reader that does not read keeps nothing in the kernel.
    let (changes, _) = engine.stop();
    let end = end?;
    stream.take(changes)?;
    while !stream.backlog.is_empty() {
        let chunk = stream.chunk();
        tokio::select! {
            sent = writer.send(chunk) => if !sent { break },
            // Asked again: whoever reads does not read to the end.
            end = ending.wait() => return Ok(end),
        }
    }
    writer.finish_unless_told(&mut ending, end).await
}

/// From changes to lines.
struct Stream<'a> {
    selection: Selection,
    backlog: Backlog,
    format: Format,
    names: &'a dyn Names,
}

impl Stream<'_> {
    /// Hands what happens to the writer until something ends it.
    async fn follow(
        &mut self,
        engine: &mut Engine,
        writer: &Writer,
        ending: &mut Ending,
        period: Duration,
        options: &Events,
    ) -> Result<End, Failure> {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let over = sleep(options.duration.unwrap_or(Duration::MAX));
        let unread = writer.closed();
        tokio::pin!(over, unread);
        loop {
            self.take(engine.changes())?;
            tokio::select! {
                biased;
                end = ending.wait() => return Ok(end),
                () = &mut over => return Ok(End::Done),
                () = &mut unread => return Ok(End::Done),
                place = writer.place(), if !self.backlog.is_empty() => match place {
                    Some(place) => place.send(self.chunk()),
                    None => return Ok(End::Done),
                },
                _ = ticks.tick() => engine.tick(),
                heard = engine.next() => heard?,
            }
        }
    }

    fn take(&mut self, changes: Vec<TimedChange>) -> Result<(), Failure> {
        for change in changes {
            if self.selection.wants(&change.change) {
                self.backlog.push(change)?;
            }
        }
        Ok(())
    }

    /// Lines for the writer, as many as it takes at once.
    fn chunk(&mut self) -> Vec<u8> {
        let mut text = String::new();
        while text.len() < CHUNK_BYTES
            && let Some(delivery) = self.backlog.pop()
        {
            text.push_str(&self.format.line(&delivery, self.names));
            text.push('\n');
        }
        text.into_bytes()
    }
}

/// How a line looks.
enum Format {
    Json(Encoder),
    Text(EventText),
}

impl Format {
    fn new(output: super::Output, engine: &Engine) -> Self {
        if output.json {
            Self::Json(Encoder::new(engine.clock()))
        } else {
            Self::Text(EventText {
                clock: engine.clock(),
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

    fn line(&mut self, delivery: &Delivery, names: &dyn Names) -> String {
        match (self, delivery) {
            (Self::Json(encoder), Delivery::Change(change)) => encoder.encode(change, names),
            (Self::Json(encoder), Delivery::Coalesced { time, count }) => {
                encoder.coalesced(*time, *count)
            }
            (Self::Text(text), Delivery::Change(change)) => event_line(text, change, names),
            (Self::Text(text), Delivery::Coalesced { time, count }) => {
                coalesced_line(text, *time, *count)
            }
        }
    }
}
