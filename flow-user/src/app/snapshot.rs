//! `flow snapshot`: counts for a while and writes a report.

use std::{future::pending, path::Path, time::Duration};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    End, Ending, Failure,
    engine::{Engine, Plan},
    writer::Writer,
};
use crate::{
    cli::Snapshot,
    query::names::Names,
    sink::{
        file::write_atomically,
        report::{Report, Sources},
    },
};

/// How long what ended is kept for the report: as long as anybody counts.
const HISTORY: Duration = Duration::from_secs(365 * 24 * 3600);

/// Runs the command.
///
/// # Errors
/// The kernel side fails, or the report can't be written.
pub async fn run(plan: Plan, options: &Snapshot, names: &dyn Names) -> Result<End, Failure> {
    let mut ending = Ending::listen()?;
    let mut engine = Engine::start(plan.kernel, HISTORY)?;
    // Without a reader the report has no use.
    let stream = (options.output == Path::new("-")).then(Writer::start);
    let limits = (plan.interval, options.duration);
    let end = count(&mut engine, stream.as_ref(), &mut ending, limits).await;
    let (started, clock) = (engine.started(), engine.clock());
    // Also after a failure: nothing stays in the kernel.
    let (_, snapshot) = engine.stop();
    let end = end?;
    let sources = Sources {
        host: &plan.host,
        flow_version: env!("CARGO_PKG_VERSION"),
        clock,
        started,
        filter: &plan.filter,
        names,
    };
    let text = Report::new(&snapshot, sources).to_json();
    if let Some(writer) = stream {
        writer.send(text.into_bytes()).await;
        return writer.finish_unless_told(&mut ending, end).await;
    }
    write_atomically(&options.output, text.as_bytes())?;
    Ok(end)
}

/// Counts until the time is over, the stream's reader is gone, or a signal ends it.
async fn count(
    engine: &mut Engine,
    stream: Option<&Writer>,
    ending: &mut Ending,
    (period, duration): (Duration, Duration),
) -> Result<End, Failure> {
    let unread = async {
        match stream {
            Some(writer) => writer.closed().await,
            None => pending().await,
        }
    };
    tokio::pin!(unread);
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let over = sleep(duration);
    tokio::pin!(over);
    loop {
        tokio::select! {
            biased;
            end = ending.wait() => return Ok(end),
            () = &mut over => return Ok(End::Done),
            () = &mut unread => return Ok(End::Done),
            _ = ticks.tick() => {
                engine.tick();
                drop(engine.changes());
            }
            heard = engine.next() => heard?,
        }
    }
}
