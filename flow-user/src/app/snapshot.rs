//! `flow snapshot`: counts for a while and writes a report.

use std::{path::Path, time::Duration};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    End, Ending, Failure,
    engine::{Engine, Plan},
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
    let mut ticks = interval(plan.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let over = sleep(options.duration);
    tokio::pin!(over);
    let end = loop {
        tokio::select! {
            biased;
            end = ending.wait() => break end,
            () = &mut over => break End::Done,
            _ = ticks.tick() => {
                engine.tick();
                drop(engine.changes());
            }
            heard = engine.next() => heard?,
        }
    };
    let (started, clock) = (engine.started(), engine.clock());
    let (_, snapshot) = engine.stop();
    let sources = Sources {
        host: &plan.host,
        flow_version: env!("CARGO_PKG_VERSION"),
        clock,
        started,
        filter: &plan.filter,
        names,
    };
    let text = Report::new(&snapshot, sources).to_json();
    if options.output == Path::new("-") {
        plan.output.write(&text)?;
    } else {
        write_atomically(&options.output, text.as_bytes())?;
    }
    Ok(end)
}
