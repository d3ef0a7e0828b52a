//! `flow snapshot`: counts for a while and writes a report.

use std::{future::pending, ops::ControlFlow, path::Path, time::Duration};

use super::{
    End, EndSignals, Failure,
    consumer::{Consumer, Ready},
    engine::{Interest, Plan},
    run::{Run, Served},
    writer::Writer,
};
use crate::{
    cli::Snapshot,
    sink::{
        file::write_atomically,
        report::{Report, Sources},
    },
    source::Pace,
};

/// The report has every flow and process, also those that ended: longer than any command runs.
const HISTORY: Duration = Duration::from_secs(365 * 24 * 3600);

/// Runs the command.
///
/// # Errors
/// The source fails, or the report can't be written.
pub async fn run(plan: Plan, options: &Snapshot) -> Result<End, Failure> {
    let mut signals = EndSignals::listen()?;
    let pace = Pace {
        interval: plan.options.interval(),
        at_once: true,
        as_recorded: false,
    };
    let ages = plan.ages(HISTORY);
    let run = Run::open(&plan, pace, ages, Interest::default())?;
    let origin = run.origin().clone();
    let mut count = Count {
        // The command ends when the reader of the report is gone.
        stream: (options.output == Path::new("-")).then(Writer::start),
    };
    let Served { end, last, beside } = run
        .serve(&mut count, &mut signals, Some(options.duration))
        .await;
    let mut end = end?;
    let sources = Sources {
        host: &origin.host,
        flow_version: env!("CARGO_PKG_VERSION"),
        clock: origin.clock,
        started: origin.started,
        filter: &plan.filter,
    };
    let text = Report::new(&last.snapshot, sources).to_json();
    if let Some(writer) = count.stream {
        writer.send(text.into_bytes()).await;
        end = writer.finish_unless_ended(&mut signals, end).await?;
    } else {
        write_atomically(&options.output, text.as_bytes())?;
    }
    beside.map(|()| end)
}

/// Takes nothing until the end, and ends early if the report's reader is gone.
struct Count {
    stream: Option<Writer>,
}

impl Consumer for Count {
    fn interest(&self) -> Interest {
        Interest::default()
    }

    fn ready(&mut self) -> Ready<'_> {
        Box::pin(async {
            match &self.stream {
                Some(writer) => writer.closed().await,
                None => pending().await,
            }
            Ok(ControlFlow::Break(End::Done))
        })
    }
}
