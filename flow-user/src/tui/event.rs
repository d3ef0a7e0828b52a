//! Events of the screen.

use std::sync::Arc;

use super::key::Input;
use crate::{
    event::{Bytes, Instant},
    model::{
        change::{StateChange, TimedChange},
        snapshot::Snapshot,
    },
};

/// Something that happened to the screen.
#[derive(Clone, Debug)]
pub enum Event {
    /// The user did something, at this time.
    Input(Input, Instant),
    /// The terminal has this many columns and rows now.
    Resize(u16, u16),
    /// The new state, the changes since the last one, and Flow's own resource use.
    Snapshot {
        snapshot: Arc<Snapshot>,
        changes: Vec<TimedChange>,
        /// Of connections, since then.
        states: Vec<StateChange>,
        own: OwnUse,
    },
    /// A message for the last line: the result of an effect, or another notice.
    Status(String),
    /// The content of the terminal is unknown: redraw all of it.
    Redraw,
}

/// Flow's own resource use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OwnUse {
    /// Of one core, since the last snapshot; 1.0 is all of it.
    pub cpu: f64,
    /// Resident memory.
    pub memory: Bytes,
}
