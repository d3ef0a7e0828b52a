//! Enrichers add what sources do not know: paths of cgroups, titles of processes, names of users.
//!
//! An [`Enricher`] receives the events of a source and emits events of its own. It never delays the
//! engine for long: slow look-ups run on a thread, which reports by [`Answered`]. To add one: a
//! module with a type that implements the trait, and a row in [`all`].

pub mod cgroup;
pub mod titles;
pub mod users;

use std::sync::Arc;

use tokio::sync::Notify;

use self::{
    cgroup::{CgroupPaths, Tree},
    titles::Titles,
    users::UserNames,
};
use crate::{
    event::{Event, EventSink, Instant},
    model::Model,
};

/// Adds events to those of a source.
pub trait Enricher {
    /// Receives an event before the model does.
    fn observe(&mut self, _time: Instant, _event: &Event, _out: &mut dyn EventSink) {}

    /// Emits the answers that have arrived.
    fn answers(&mut self, _out: &mut dyn EventSink) {}

    /// Repeats look-ups that failed. Called at each tick.
    fn retry(&mut self, _time: Instant, _out: &mut dyn EventSink) {}

    /// Requests what the model lacks. Called after events.
    fn follow(&mut self, _model: &mut Model) {}

    /// Requests what may have changed since the last tick.
    fn tick(&mut self, _model: &Model) {}
}

/// Wakes the engine: an enricher has answers.
#[derive(Clone, Debug, Default)]
pub struct Answered(Arc<Notify>);

impl Answered {
    /// Reports an answer.
    pub fn notify(&self) {
        self.0.notify_one();
    }

    /// Waits for an answer. Cancel safe.
    pub async fn wait(&self) {
        self.0.notified().await;
    }
}

/// All enrichers of a live source; names of users only if wanted.
pub fn all(answered: &Answered, user_names: bool) -> Vec<Box<dyn Enricher>> {
    let mut all: Vec<Box<dyn Enricher>> = vec![
        Box::new(CgroupPaths::of(Tree::default())),
        Box::new(Titles::start(answered.clone())),
    ];
    if user_names {
        all.push(Box::new(UserNames::start(answered.clone())));
    }
    all
}
