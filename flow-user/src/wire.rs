//! The event log: what a source emitted, as text.
//!
//! A log is a file of JSON, one [`Entry`] in a line: a [`Header`], the state that a model had then (a
//! keyframe), and what followed. Where the recorder could not keep up, another keyframe follows a
//! [`Entry::Gap`]. The format is Flow's own, and may change with each version.

use serde::{Deserialize, Serialize};

use crate::event::{Clock, Host, Instant, Netns, Timed};

/// The version of the format.
pub const VERSION: u32 = 1;

/// What a log begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub version: u32,
    /// The machine its events are from.
    pub host: Host,
    /// The wall clock there.
    pub clock: Clock,
    /// The network namespace whose interfaces were followed.
    pub netns: Option<Netns>,
    /// When counting began.
    pub started: Instant,
}

/// A line of a log; `K` is a keyframe.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry<K> {
    Header(Header),
    /// The state at this moment, from which the events after it go on.
    Keyframe(K),
    Event(Timed),
    /// Every counter is as it was at this moment.
    Tick(Instant),
    /// Events are missing here, and the state that follows is not that of what was before.
    Gap,
    /// The source ended. Without this, the recorder was cut off.
    End(Instant),
}
