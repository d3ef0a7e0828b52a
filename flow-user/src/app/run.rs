//! The loop of every command that counts.

use std::{path::Path, time::Duration};

use tokio::time::sleep;

use super::{
    End, Ending, Failure,
    consumer::{Consumer, Consumers, Proceed},
    engine::{Engine, Interest, Last, Plan},
    recorder::Recorder,
};
use crate::source::{Origin, Pace, Step};

/// A source that is open, and the recorder beside whoever is served.
pub struct Run {
    engine: Engine,
    recorder: Option<Recorder>,
}

impl Run {
    /// Opens the source of a plan and, where the plan asks for it, a recording. `history` says how long
    /// what ended is kept.
    ///
    /// # Errors
    /// The source can't be opened, or the recording can't be made.
    pub fn open(
        plan: &Plan,
        pace: Pace,
        history: Duration,
        interest: Interest,
    ) -> Result<Self, Failure> {
        let interest = interest.or(Interest {
            events: plan.record.is_some(),
            changes: false,
        });
        let mut engine = Engine::open(plan.source.clone(), pace, history, interest)?;
        let record = plan.record.as_deref();
        let create = |file: &Path| Recorder::create(file, &engine);
        let recorder = record.map(create).transpose()?;
        engine.begin();
        Ok(Self { engine, recorder })
    }

    /// Where the events come from.
    pub fn origin(&self) -> &Origin {
        self.engine.origin()
    }

    /// Serves a consumer until it ends, the source ends, the time is over or a signal comes. Then the
    /// source is stopped, also after a failure: nothing stays in the kernel.
    pub async fn serve(
        self,
        consumer: &mut impl Consumer,
        ending: &mut Ending,
        duration: Option<Duration>,
    ) -> (Result<End, Failure>, Last) {
        let Self {
            mut engine,
            mut recorder,
        } = self;
        let mut consumers = Consumers {
            primary: consumer,
            beside: Vec::new(),
        };
        if let Some(recorder) = &mut recorder {
            consumers.beside.push(Box::new(recorder));
        }
        let end = drive(&mut engine, &mut consumers, ending, duration).await;
        drop(consumers);
        let last = engine.stop();
        if let Some(recorder) = recorder {
            let finished = tokio::select! {
                finished = recorder.finish(&last) => finished,
                _ = ending.wait() => Ok(()),
            };
            if let Err(failure) = finished {
                consumer.notice(&failure.to_string());
            }
        }
        (end, last)
    }
}

async fn drive(
    engine: &mut Engine,
    consumers: &mut Consumers<'_>,
    ending: &mut Ending,
    duration: Option<Duration>,
) -> Result<End, Failure> {
    let over = sleep(duration.unwrap_or(Duration::MAX));
    tokio::pin!(over);
    let is_live = engine.origin().is_live;
    let mut has_ended = false;
    let mut proceed = consumers.state(engine, None)?;
    loop {
        if let Proceed::Break(end) = proceed {
            return Ok(end);
        }
        consumers.deliver(engine)?;
        let may_read = !has_ended && (is_live || !consumers.primary.is_busy());
        proceed = tokio::select! {
            biased;
            end = ending.wait() => return Ok(end),
            () = &mut over => return Ok(End::Done),
            proceed = consumers.ready() => proceed?,
            step = engine.next(), if may_read => match step? {
                Step::Tick(time) => {
                    consumers.deliver(engine)?;
                    consumers.state(engine, Some(time))?
                }
                Step::Events | Step::Restart => Proceed::Continue(()),
                Step::End if consumers.primary.outlives_source() => {
                    has_ended = true;
                    Proceed::Continue(())
                }
                Step::End => return Ok(End::Done),
            },
        };
    }
}
