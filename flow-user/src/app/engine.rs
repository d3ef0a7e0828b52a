//! The one task that owns the model. It reads the source, passes its events through the enrichers
//! to the model, and provides events, changes and snapshots.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::failure::Failure;
use crate::{
    cli::Global,
    enrich::{self, Answered, Enricher},
    event::{Event, EventSink, Instant, Timed},
    model::{
        Config, Model,
        change::{StateChange, TimedChange},
        snapshot::Snapshot,
    },
    query::filter::Filter,
    source::{
        self, AnySource, Origin, Pace, Source as _, Spec, Step,
        tcp_info::{self, Wanted},
    },
};

/// What a command counts, and how.
#[derive(Debug)]
pub struct Plan {
    pub options: Global,
    pub filter: Filter,
}

impl Plan {
    /// The ages of rows for a command that keeps closed flows and exited processes so long.
    pub fn ages(&self, history: Duration) -> Ages {
        Ages {
            history,
            udp_idle: self.options.udp_idle(),
        }
    }
}

/// What consumers receive from the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    pub events: bool,
    pub changes: bool,
    /// New states of connections.
    pub states: bool,
}

impl Interest {
    /// What at least one of the two wants.
    pub fn or(self, other: Self) -> Self {
        Self {
            events: self.events || other.events,
            changes: self.changes || other.changes,
            states: self.states || other.states,
        }
    }
}

/// Times after which rows end or go.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    /// How long closed flows and exited processes are kept.
    pub history: Duration,
    /// How long a datagram flow may move nothing before it is over.
    pub udp_idle: Duration,
}

/// The source, the enrichers and the model.
pub struct Engine {
    source: AnySource,
    answered: Answered,
    stage: Stage,
    config: Config,
    /// Connections of which TCP's own view is read at each tick, of a live source.
    wanted: Wanted,
    reader: tcp_info::Reader,
}

/// The enrichers and the model, through which each event passes.
struct Stage {
    enrichers: Vec<Box<dyn Enricher>>,
    intake: Intake,
}

/// The model, and the events that it applied, if a consumer wants them.
struct Intake {
    model: Model,
    events: Option<Vec<Timed>>,
}

/// What remains after the end of the source.
pub struct Stopped {
    /// The last events, as the model applied them.
    pub events: Vec<Timed>,
    /// When the source ended.
    pub time: Instant,
    model: Model,
}

/// What consumers of changes and states have not received before the end of the source.
pub struct Last {
    pub changes: Vec<TimedChange>,
    pub snapshot: Arc<Snapshot>,
}

impl Engine {
    /// Opens the source. `user_names` says whether names of users are looked up.
    ///
    /// # Errors
    /// The source can't be opened.
    pub fn open(
        spec: Spec,
        pace: Pace,
        ages: Ages,
        interest: Interest,
        user_names: bool,
    ) -> Result<Self, Failure> {
        let mut source = source::open(spec, pace)?;
        let origin = source.origin();
        let config = Config {
            history: ages.history,
            udp_idle: ages.udp_idle,
            host_netns: origin.netns,
            user_names,
            changes: interest.changes,
            states: interest.states,
        };
        let (started, is_live) = (origin.started, origin.is_live);
        let model = match source.take_keyframe() {
            Some(keyframe) => keyframe.resume(config.clone()),
            None => Model::new(config.clone(), started),
        };
        let answered = Answered::default();
        Ok(Self {
            source,
            stage: Stage {
                // A recording contains the answers of the enrichers.
                enrichers: if is_live {
                    enrich::all(&answered, user_names)
                } else {
                    Vec::new()
                },
                intake: Intake {
                    model,
                    events: interest.events.then(Vec::new),
                },
            },
            answered,
            config,
            wanted: Wanted::None,
            reader: tcp_info::Reader::default(),
        })
    }

    /// Takes what existed before the start. To be called once, before [`Self::next`].
    pub fn begin(&mut self) {
        self.source.begin(&mut self.stage);
        self.stage.follow();
    }

    /// Where the events come from.
    pub fn origin(&self) -> &Origin {
        self.source.origin()
    }

    /// Waits for the next step of the source, and applies its events. Cancel safe.
    ///
    /// # Errors
    /// The source can't be read any more.
    pub async fn next(&mut self) -> Result<Step, Failure> {
        let step = tokio::select! {
            step = self.source.next(&mut self.stage) => step?,
            () = self.answered.wait() => {
                self.stage.answers();
                Step::Events
            }
        };
        match step {
            Step::Tick(time) => {
                self.read_tcp_info(time);
                self.stage.tick(time);
            }
            Step::Restart => {
                if let Some(keyframe) = self.source.take_keyframe() {
                    self.stage.intake.model = keyframe.resume(self.config.clone());
                }
            }
            Step::Events | Step::End => {}
        }
        self.stage.follow();
        Ok(step)
    }

    /// Says of which connections TCP's own view is read at each tick from here on. A recording has
    /// that of those that were asked for then.
    pub fn want_tcp_info(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    fn read_tcp_info(&mut self, time: Instant) {
        if !self.origin().is_live {
            return;
        }
        for (cookie, info) in self.reader.read(&self.wanted) {
            let info = Box::new(info);
            self.stage.event(time, Event::TcpInfo { cookie, info });
        }
    }

    /// The events that the model applied since the last call, in order.
    pub fn take_events(&mut self) -> Vec<Timed> {
        self.stage.intake.take_events()
    }

    /// The changes since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<TimedChange> {
        self.stage.intake.model.changes()
    }

    /// The new states of connections since the last call, in order.
    pub fn take_states(&mut self) -> Vec<StateChange> {
        self.stage.intake.model.states()
    }

    /// The state as of the last tick.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        self.stage.intake.model.snapshot()
    }

    /// The state, as a model can resume from it.
    pub fn keyframe(&self) -> &impl Serialize {
        self.stage.intake.model.keyframe()
    }

    /// Ends the source. Returns what remains.
    pub fn stop(self) -> Stopped {
        let Self {
            source, mut stage, ..
        } = self;
        let time = source.stop(&mut stage);
        stage.answers();
        Stopped {
            events: stage.intake.take_events(),
            time,
            model: stage.intake.model,
        }
    }
}

impl Stopped {
    /// The state after the last event, to go on from.
    pub fn keyframe(&self) -> &impl Serialize {
        self.model.keyframe()
    }

    /// Ends the model.
    pub fn finish(self) -> Last {
        let Self {
            time, mut model, ..
        } = self;
        model.finish(time);
        Last {
            changes: model.changes(),
            snapshot: model.snapshot(),
        }
    }
}

impl Stage {
    fn tick(&mut self, time: Instant) {
        let Self { enrichers, intake } = self;
        for enricher in &mut *enrichers {
            enricher.answers(intake);
            enricher.retry(time, intake);
            enricher.follow(&mut intake.model);
            enricher.tick(&intake.model);
        }
        intake.model.tick(time);
    }

    fn answers(&mut self) {
        for enricher in &mut self.enrichers {
            enricher.answers(&mut self.intake);
        }
    }

    fn follow(&mut self) {
        for enricher in &mut self.enrichers {
            enricher.follow(&mut self.intake.model);
        }
    }
}

impl Intake {
    fn take_events(&mut self) -> Vec<Timed> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl EventSink for Stage {
    fn event(&mut self, time: Instant, event: Event) {
        for enricher in &mut self.enrichers {
            enricher.observe(time, &event, &mut self.intake);
        }
        self.intake.event(time, event);
    }
}

impl EventSink for Intake {
    fn event(&mut self, time: Instant, event: Event) {
        if let Some(events) = &mut self.events {
            events.push(Timed {
                time,
                event: event.clone(),
            });
        }
        self.model.event(time, event);
    }
}
