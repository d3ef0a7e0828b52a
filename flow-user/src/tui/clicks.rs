//! Detection of double clicks.

use std::time::Duration;

use crate::event::Instant;

/// Two clicks within this time are one double click.
const DOUBLE: Duration = Duration::from_millis(400);

/// The last click: its time and its target.
#[derive(Clone, Debug)]
pub(super) struct Clicked<T>(Option<(Instant, T)>);

impl<T: PartialEq> Clicked<T> {
    /// Takes a click. Returns whether it is the second of two on the same target; otherwise it may
    /// be the first.
    pub fn is_second(&mut self, time: Instant, on: T) -> bool {
        let last = self.0.take();
        let again = last.is_some_and(|(before, it)| it == on && time.since(before) <= DOUBLE);
        if !again {
            self.0 = Some((time, on));
        }
        again
    }
}

impl<T> Default for Clicked<T> {
    fn default() -> Self {
        Self(None)
    }
}
