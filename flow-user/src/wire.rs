//! The format of recordings: the events that a model took, as lines of JSON.
//!
//! A recording is a file with one [`Entry`] in a line: a [`Header`], the state that a model had then (a
//! keyframe), and what followed. Where the recorder could not keep up, another keyframe follows a
//! [`Entry::Gap`]. The format is Flow's own, and may change with each version.

use serde::{Deserialize, Serialize};

use crate::event::{Clock, Host, Instant, Netns, Timed};

/// The version of the format.
pub const VERSION: u32 = 5;

/// What a recording begins with.
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

/// A line of a recording; `K` is a keyframe.
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
