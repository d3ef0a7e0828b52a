//! What happens to the screen.

use std::sync::Arc;

use super::key::Input;
use crate::{
    event::{Bytes, Instant},
    model::{change::TimedChange, snapshot::Snapshot},
};

/// Something that happened to the screen.
#[derive(Clone, Debug)]
pub enum Event {
    /// The user did something, at this time.
    Input(Input, Instant),
    /// The terminal has this many columns and rows now.
    Resize(u16, u16),
    /// The state of everything, what changed since the last one, and what Flow itself needs.
    Snapshot {
        snapshot: Arc<Snapshot>,
        changes: Vec<TimedChange>,
        own: OwnUse,
    },
    /// What came of something that was to be done outside, or another word for the foot of the
    /// screen.
    Told(String),
    /// Whatever is on the screen may be something else: draw all of it.
    Redraw,
}

/// What Flow itself takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OwnUse {
    /// Of one core, since the last snapshot; 1.0 is all of it.
    pub cpu: f64,
    /// Resident memory.
    pub memory: Bytes,
}
