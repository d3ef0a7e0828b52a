//! What sources do not say: paths of cgroups, titles of processes, names of users.
//!
//! An [`Enricher`] receives the events of a source and answers with events of its own. It never makes
//! the engine wait for long: what may take long is done on a thread, which reports by [`Answered`]. To
//! add one: a module with a type that implements the trait, and a row in [`all`].

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
    /// Looks at an event before the model takes it.
    fn observe(&mut self, _time: Instant, _event: &Event, _out: &mut dyn EventSink) {}

    /// Emits the answers that are there.
    fn answers(&mut self, _out: &mut dyn EventSink) {}

    /// Looks up again what could not be said before. Called at each tick.
    fn retry(&mut self, _time: Instant, _out: &mut dyn EventSink) {}

    /// Asks for what the model lacks after events.
    fn follow(&mut self, _model: &mut Model) {}

    /// Asks for what may have changed since the last tick.
    fn tick(&mut self, _model: &Model) {}
}

/// Wakes the engine: an enricher has answers.
#[derive(Clone, Debug, Default)]
pub struct Answered(Arc<Notify>);

impl Answered {
    /// There is an answer.
    pub fn notify(&self) {
        self.0.notify_one();
    }

    /// Waits for one. Nothing is lost when the future is dropped.
    pub async fn wait(&self) {
        self.0.notified().await;
    }
}

/// All that look things up on this machine; names of users only where these are wanted.
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
