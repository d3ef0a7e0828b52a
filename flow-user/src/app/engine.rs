//! The one task that owns the model: hears the source, asks for names, ticks.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{Output, failure::Failure};
use crate::{
    enrich::cgroup::{CgroupPaths, Tree},
    event::{Event, EventSink, Instant},
    model::{Config, Model, change::TimedChange, snapshot::Snapshot},
    query::filter::Filter,
    sink::{Host, clock::Clock},
    source::{
        kernel::{self, Kernel},
        titles::Titles,
    },
};

/// What a command is to do with what the engine knows.
#[derive(Debug)]
pub struct Plan {
    pub kernel: kernel::Options,
    pub interval: Duration,
    pub host: Host,
    pub filter: Filter,
    pub output: Output,
}

/// The source and the model.
pub struct Engine {
    kernel: Kernel,
    titles: Titles,
    state: State,
    started: Instant,
    clock: Clock,
}

/// The model, and what it needs from outside.
struct State {
    model: Model,
    cgroups: CgroupPaths,
}

impl Engine {
    /// Attaches, and learns what there was before.
    ///
    /// # Errors
    /// The kernel refuses what there is no substitute for.
    pub fn start(options: kernel::Options, history: Duration) -> Result<Self, Failure> {
        let clock = clock();
        let mut kernel = Kernel::start(options)?;
        let started = kernel::now();
        let config = Config {
            history,
            host_netns: kernel::host_netns().ok(),
        };
        let mut state = State {
            model: Model::new(config, started),
            cgroups: CgroupPaths::of(Tree::default()),
        };
        kernel.begin(&mut state);
        Ok(Self {
            kernel,
            titles: Titles::start(),
            state,
            started,
            clock,
        })
    }

    /// When counting began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The wall clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Waits for something to happen, and takes it. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The kernel can't be listened to any more.
    pub async fn next(&mut self) -> Result<(), Failure> {
        let answer = tokio::select! {
            read = self.kernel.next(&mut self.state) => {
                read.map_err(Failure::Kernel)?;
                None
            }
            answer = self.titles.next() => Some(answer),
        };
        if let Some(answer) = answer {
            self.titles.take(answer, &mut self.state);
        }
        self.titles.ask(self.state.model.untitled());
        Ok(())
    }

    /// Brings every number up to this moment.
    pub fn tick(&mut self) {
        self.kernel.tick(&mut self.state);
        self.titles.ready(&mut self.state);
        self.state.tick();
        self.titles.ask(self.state.model.untitled());
        self.titles.tick(self.state.model.living());
        self.state.model.tick(kernel::now());
    }

    /// What changed since this was last asked, in order.
    pub fn changes(&mut self) -> Vec<TimedChange> {
        self.state.model.changes()
    }

    /// The state as of the last tick.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        self.state.model.snapshot()
    }

    /// Detaches. What remains is told in the changes and the snapshot returned.
    pub fn stop(self) -> (Vec<TimedChange>, Arc<Snapshot>) {
        let Self {
            kernel,
            mut titles,
            mut state,
            ..
        } = self;
        kernel.stop(&mut state);
        titles.ready(&mut state);
        state.model.finish(kernel::now());
        (state.model.changes(), state.model.snapshot())
    }
}

impl State {
    /// Asks again for what could not be said before.
    fn tick(&mut self) {
        let Self { model, cgroups } = self;
        cgroups.tick(kernel::now(), model);
    }
}

impl EventSink for State {
    fn event(&mut self, time: Instant, event: Event) {
        let Self { model, cgroups } = self;
        cgroups.observe(time, &event, model);
        model.event(time, event);
    }
}

/// The wall clock's time at boot, as of now: later steps of the clock do not tear a stream apart.
fn clock() -> Clock {
    let since_boot = i64::try_from(kernel::now().0).unwrap_or(i64::MAX);
    let boot = Timestamp::now().checked_sub(jiff::SignedDuration::from_nanos(since_boot));
    Clock {
        boot: boot.unwrap_or(Timestamp::UNIX_EPOCH),
    }
}
