//! Sources of events.
//!
//! A [`Source`] emits events into an [`EventSink`]. At its ticks every counter is up to date.
//! [`open`] opens the source that a [`Spec`] names. To add one: a module with a type that
//! implements the trait, and a row in [`Spec`], [`AnySource`] and [`OpenError`].

pub mod boottime;
pub mod cgroups;
pub mod interfaces;
pub mod kernel;
pub mod mountinfo;
pub mod netlink;
pub mod netns;
pub mod numbers;
pub mod proc;
pub mod recording;
pub mod seed;
pub mod sock_destroy;
pub mod sock_diag;
pub mod tcp_info;

use std::{io, path::PathBuf, time::Duration};

use self::{
    kernel::{Kernel, StartError},
    recording::{Recording, RecordingError},
};
use crate::{
    event::{Clock, EventSink, Host, Instant, Netns},
    model::Keyframe,
};

/// Emits events.
pub trait Source {
    /// The host, the clock and the start of its events.
    fn origin(&self) -> &Origin;

    /// The state from which its events continue; `None` if they begin from nothing.
    fn take_keyframe(&mut self) -> Option<Keyframe> {
        None
    }

    /// Emits what existed before it began. To be called once.
    fn begin(&mut self, out: &mut impl EventSink);

    /// Waits for events or a tick, and emits the events. Cancel safe.
    ///
    /// # Errors
    /// The source can't be read any more.
    fn next(&mut self, out: &mut impl EventSink)
    -> impl Future<Output = Result<Step, SourceError>>;

    /// Emits all final totals, and ends. Returns the time of these.
    fn stop(self, out: &mut impl EventSink) -> Instant;
}

/// What is known of a source before its first event.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The host of its events.
    pub host: Host,
    /// The wall clock of that host.
    pub clock: Clock,
    /// The network namespace whose interfaces its events report.
    pub netns: Option<Netns>,
    /// When its counting began.
    pub started: Instant,
    /// Whether its events happen now on this host, so that enrichers can look things up.
    pub is_live: bool,
}

/// The result of [`Source::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Events, or none.
    Events,
    /// Every counter is as of this time.
    Tick(Instant),
    /// Its events continue from another state, which [`Source::take_keyframe`] returns.
    Restart,
    /// There are no more events.
    End,
}

/// Why a source can't be read any more.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot read from the kernel any more: {0}")]
    Kernel(io::Error),
    #[error(transparent)]
    Recording(#[from] RecordingError),
}

/// When a source ticks.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Time between two ticks of a live source.
    pub interval: Duration,
    /// Whether the first tick comes at once.
    pub at_once: bool,
    /// Whether a recording is replayed as fast as it was recorded, instead of as fast as it can be
    /// read.
    pub as_recorded: bool,
}

/// Which source to open.
#[derive(Clone, Debug)]
pub enum Spec {
    /// BPF programs in this host's kernel.
    Kernel(kernel::Options),
    /// A file that a recorder wrote.
    Recording(PathBuf),
}

/// Why a source could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Kernel(#[from] StartError),
    #[error(transparent)]
    Recording(#[from] RecordingError),
}

/// Opens a source.
///
/// # Errors
/// The kernel refuses something essential, or the file is no recording.
pub fn open(spec: Spec, pace: Pace) -> Result<AnySource, OpenError> {
    Ok(match spec {
        Spec::Kernel(options) => AnySource::Kernel(Box::new(Kernel::start(options, pace)?)),
        Spec::Recording(file) => AnySource::Recording(Box::new(Recording::open(&file, pace)?)),
    })
}

/// Any of the sources.
pub enum AnySource {
    Kernel(Box<Kernel>),
    Recording(Box<Recording>),
}

/// Evaluates an expression for whichever source it is.
macro_rules! each {
    ($any:expr, $source:ident => $result:expr) => {
        match $any {
            AnySource::Kernel($source) => $result,
            AnySource::Recording($source) => $result,
        }
    };
}

impl Source for AnySource {
    fn origin(&self) -> &Origin {
        each!(self, source => source.origin())
    }

    fn take_keyframe(&mut self) -> Option<Keyframe> {
        each!(self, source => source.take_keyframe())
    }

    fn begin(&mut self, out: &mut impl EventSink) {
        each!(self, source => source.begin(out));
    }

    async fn next(&mut self, out: &mut impl EventSink) -> Result<Step, SourceError> {
        each!(self, source => source.next(out).await)
    }

    fn stop(self, out: &mut impl EventSink) -> Instant {
        each!(self, source => source.stop(out))
    }
}
