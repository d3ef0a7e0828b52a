//! Where events come from.
//!
//! A [`Source`] emits events into an [`EventSink`], and says when every counter is up to date: at its
//! ticks. [`open`] opens the one that a [`Spec`] names. To add a source: a module with a type that
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
    /// Where it stands.
    fn origin(&self) -> &Origin;

    /// The state that its events go on from; none where they begin with nothing.
    fn take_keyframe(&mut self) -> Option<Keyframe> {
        None
    }

    /// Emits what there was before it began. To be called once.
    fn begin(&mut self, out: &mut impl EventSink);

    /// Waits for something to happen, and emits it. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The source can't be read any more.
    fn next(&mut self, out: &mut impl EventSink)
    -> impl Future<Output = Result<Step, SourceError>>;

    /// Emits the last total of everything, and ends. Returns when that was.
    fn stop(self, out: &mut impl EventSink) -> Instant;
}

/// What there is to know of a source before its first event.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The machine its events are from.
    pub host: Host,
    /// The wall clock there.
    pub clock: Clock,
    /// The network namespace whose interfaces it follows.
    pub netns: Option<Netns>,
    /// When its counting began.
    pub started: Instant,
    /// Whether its events happen now, on this machine: then more can be looked up here.
    pub is_live: bool,
}

/// What a source brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Events, or none.
    Events,
    /// Every counter is as it was at this moment.
    Tick(Instant),
    /// Its events go on from another state: [`Source::take_keyframe`] returns that.
    Restart,
    /// There is nothing more to come.
    End,
}

/// Why a source can't be read any more.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("the kernel can't be listened to any more: {0}")]
    Kernel(io::Error),
    #[error(transparent)]
    Recording(#[from] RecordingError),
}

/// When a source ticks.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Time between two ticks of a live source.
    pub interval: Duration,
    /// Whether the first one comes at once.
    pub at_once: bool,
    /// Whether what was recorded comes as fast as it was recorded; else as fast as it is read.
    pub as_recorded: bool,
}

/// Which source to open.
#[derive(Clone, Debug)]
pub enum Spec {
    /// Programs in this machine's kernel.
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
/// The kernel refuses what there is no substitute for; the file is no recording.
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

/// Does the same with whichever source it is.
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
