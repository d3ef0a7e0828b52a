//! Consumers of the engine: a view, a stream, a report, a recorder.

use std::{
    future::{poll_fn, ready},
    ops::ControlFlow,
    pin::Pin,
    task::Poll,
};

use super::{
    End, Failure,
    engine::{Engine, Interest, Stopped},
    output,
};
use crate::{
    event::{Instant, Timed},
    model::change::{StateChange, TimedChange},
};

/// Receives events, changes or states, as its [`Interest`] says. One engine serves any number of
/// consumers; each has a bounded queue of its own, so none waits for another.
pub trait Consumer {
    /// What it receives. The engine makes nothing that no consumer wants.
    fn interest(&self) -> Interest;

    /// Receives events, in the order in which the model applied them.
    fn events(&mut self, _events: &[Timed]) {}

    /// Receives changes of the model, in order.
    ///
    /// # Errors
    /// It can't continue.
    fn changes(&mut self, _changes: &[TimedChange]) -> Result<(), Failure> {
        Ok(())
    }

    /// Receives new states of connections, in order.
    fn states(&mut self, _states: &[StateChange]) {}

    /// Receives the state as of a tick; without one, the state before the first tick, or after the
    /// end of a source that it outlives. Returns whether it continues.
    ///
    /// # Errors
    /// It can't continue.
    fn state(&mut self, _engine: &mut Engine, _tick: Option<Instant>) -> Result<Proceed, Failure> {
        Ok(ControlFlow::Continue(()))
    }

    /// Waits for something of its own, such as room for its output, and handles it. Cancel safe.
    fn ready(&mut self) -> Ready<'_>;

    /// Whether its queue is full or nearly so. A replay waits for it then; live events do not.
    fn is_busy(&self) -> bool {
        false
    }

    /// Whether it continues after the end of the source.
    fn outlives_source(&self) -> bool {
        false
    }

    /// Receives what remains after the end of the source, if it is not the primary one.
    fn finish(self: Box<Self>, _stopped: &Stopped) -> Finished<'_> {
        Box::pin(ready(Ok(())))
    }

    /// Shows a message to the user.
    fn notice(&mut self, message: &str) {
        output::print_message(message);
    }
}

/// Whether a consumer continues, or how it ends.
pub type Proceed = ControlFlow<End>;

/// See [`Consumer::ready`].
pub type Ready<'a> = Pin<Box<dyn Future<Output = Result<Proceed, Failure>> + 'a>>;

/// See [`Consumer::finish`].
pub type Finished<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

/// A consumer whose end is that of the command, and others beside it.
pub struct Consumers<'a> {
    pub primary: &'a mut dyn Consumer,
    pub beside: Vec<Box<dyn Consumer>>,
    /// The first failure of one beside the primary.
    pub failed: Option<Failure>,
}

impl Consumers<'_> {
    /// Delivers the events and changes since the last call.
    ///
    /// # Errors
    /// The primary one can't continue.
    pub fn deliver(&mut self, engine: &mut Engine) -> Result<(), Failure> {
        let (events, changes) = (engine.take_events(), engine.take_changes());
        let states = engine.take_states();
        self.each(|consumer| {
            let interest = consumer.interest();
            if interest.events && !events.is_empty() {
                consumer.events(&events);
            }
            if interest.states && !states.is_empty() {
                consumer.states(&states);
            }
            if interest.changes && !changes.is_empty() {
                consumer.changes(&changes)?;
            }
            Ok(ControlFlow::Continue(()))
        })
        .map(drop)
    }

    /// Delivers the state.
    ///
    /// # Errors
    /// The primary one can't continue.
    pub fn state(
        &mut self,
        engine: &mut Engine,
        tick: Option<Instant>,
    ) -> Result<Proceed, Failure> {
        self.each(|consumer| consumer.state(engine, tick))
    }

    /// Waits until one of them has handled something of its own.
    ///
    /// # Errors
    /// The primary one can't continue.
    pub async fn ready(&mut self) -> Result<Proceed, Failure> {
        let Self {
            primary, beside, ..
        } = self;
        let (at, result) = {
            let mut own = primary.ready();
            let mut others: Vec<_> = beside.iter_mut().map(|other| other.ready()).collect();
            poll_fn(|context| {
                if let Poll::Ready(result) = own.as_mut().poll(context) {
                    return Poll::Ready((None, result));
                }
                for (at, other) in others.iter_mut().enumerate() {
                    if let Poll::Ready(result) = other.as_mut().poll(context) {
                        return Poll::Ready((Some(at), result));
                    }
                }
                Poll::Pending
            })
            .await
        };
        match at {
            None => result,
            Some(at) => {
                if !continues(&result) {
                    self.beside.remove(at);
                    self.ended(result);
                }
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    /// Serves each. If one other than the primary ends, the rest continue.
    fn each(
        &mut self,
        mut serve: impl FnMut(&mut dyn Consumer) -> Result<Proceed, Failure>,
    ) -> Result<Proceed, Failure> {
        let flow = serve(self.primary)?;
        let mut ended = Vec::new();
        self.beside.retain_mut(|other| {
            let result = serve(&mut **other);
            let stays = continues(&result);
            if !stays {
                ended.push(result);
            }
            stays
        });
        for result in ended {
            self.ended(result);
        }
        Ok(flow)
    }

    /// Reports one that ended while others continue.
    fn ended(&mut self, result: Result<Proceed, Failure>) {
        match result {
            Ok(_) => self.primary.notice("an output beside this one has ended"),
            Err(failure) => {
                self.primary.notice(&failure.to_string());
                self.failed.get_or_insert(failure);
            }
        }
    }
}

fn continues(result: &Result<Proceed, Failure>) -> bool {
    matches!(result, Ok(ControlFlow::Continue(())))
}
