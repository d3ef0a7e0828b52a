//! Who is served with what the engine knows: a view, a stream, a report, a recorder.

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
    model::change::TimedChange,
};

/// Takes what it is interested in. Any number of them stand beside each other on one engine; each has
/// a bounded queue of its own, so that none waits for another.
pub trait Consumer {
    /// What it wants. Of what nobody wants nothing is made.
    fn interest(&self) -> Interest;

    /// Takes events, in order, as the model took them.
    fn events(&mut self, _events: &[Timed]) {}

    /// Takes changes of the model, in order.
    ///
    /// # Errors
    /// It can't go on.
    fn changes(&mut self, _changes: &[TimedChange]) -> Result<(), Failure> {
        Ok(())
    }

    /// Takes the state, as every counter was at a tick; without one, as it is before the first
    /// tick, or after the end of a source that it outlives. Returns whether this is its end.
    ///
    /// # Errors
    /// It can't go on.
    fn state(&mut self, _engine: &mut Engine, _tick: Option<Instant>) -> Result<Proceed, Failure> {
        Ok(ControlFlow::Continue(()))
    }

    /// Waits for something that concerns it alone, such as room for its output, and deals with it.
    /// Nothing is lost when the future is dropped.
    fn ready(&mut self) -> Ready<'_>;

    /// Whether its queue is full or nearly so. What was recorded waits for it then; what happens now does
    /// not.
    fn is_busy(&self) -> bool {
        false
    }

    /// Whether it stays when the source has ended.
    fn outlives_source(&self) -> bool {
        false
    }

    /// Takes what remains once the source has ended, where it stands beside another.
    fn finish(self: Box<Self>, _stopped: &Stopped) -> Finished<'_> {
        Box::pin(ready(Ok(())))
    }

    /// Takes a message to the user.
    fn notice(&mut self, message: &str) {
        output::complain(message);
    }
}

/// Whether a consumer goes on, or how it ends.
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
    /// Hands on what the engine has for them since the last time.
    ///
    /// # Errors
    /// The primary one can't go on.
    pub fn deliver(&mut self, engine: &mut Engine) -> Result<(), Failure> {
        let (events, changes) = (engine.take_events(), engine.take_changes());
        self.each(|consumer| {
            let interest = consumer.interest();
            if interest.events && !events.is_empty() {
                consumer.events(&events);
            }
            if interest.changes && !changes.is_empty() {
                consumer.changes(&changes)?;
            }
            Ok(ControlFlow::Continue(()))
        })
        .map(drop)
    }

    /// Hands on the state.
    ///
    /// # Errors
    /// The primary one can't go on.
    pub fn state(
        &mut self,
        engine: &mut Engine,
        tick: Option<Instant>,
    ) -> Result<Proceed, Failure> {
        self.each(|consumer| consumer.state(engine, tick))
    }

    /// Waits until one of them has dealt with something.
    ///
    /// # Errors
    /// The primary one can't go on.
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
                if !goes_on(&result) {
                    self.beside.remove(at);
                    self.ended(result);
                }
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    /// Does something with each. One beside the primary that ends, ends alone.
    fn each(
        &mut self,
        mut serve: impl FnMut(&mut dyn Consumer) -> Result<Proceed, Failure>,
    ) -> Result<Proceed, Failure> {
        let flow = serve(self.primary)?;
        let mut ended = Vec::new();
        self.beside.retain_mut(|other| {
            let result = serve(&mut **other);
            let stays = goes_on(&result);
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

    /// Reports one that ended while others go on.
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

fn goes_on(result: &Result<Proceed, Failure>) -> bool {
    matches!(result, Ok(ControlFlow::Continue(())))
}
