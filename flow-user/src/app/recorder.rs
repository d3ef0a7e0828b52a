//! A recorder: writes what the source emits to a file, which [`crate::source::recording`] reads.
//!
//! A thread writes. Where the disk is slower than the events, what does not fit into the buffer is
//! left out, and a keyframe after it brings the state up to date.

use std::{
    fs::OpenOptions,
    io::Write as _,
    mem,
    ops::ControlFlow,
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    Failure,
    consumer::{Consumer, Proceed, Ready},
    engine::{Engine, Interest, Last},
    reader::Reader,
    writer::Writer,
};
use crate::{
    event::{Instant, Timed},
    source::Origin,
    wire::{Entry, Header, VERSION},
};

/// Bytes that wait for the disk at most, before events are left out.
const BUFFER_BYTES: usize = 64 << 20;

/// Writes a recording.
pub struct Recorder {
    file: PathBuf,
    writer: Writer,
    buffer: Vec<u8>,
    /// Whether events were left out since the last keyframe.
    has_gap: bool,
    /// Whether it was said that nothing more can be written.
    has_failed: bool,
}

impl Recorder {
    /// Makes the file, which must be a new one: what is there is never written over. To be called before
    /// the engine begins.
    ///
    /// # Errors
    /// It can't be made.
    pub fn create(file: &Path, engine: &Engine) -> Result<Self, Failure> {
        let failed = |error| Failure::Recording {
            file: file.into(),
            error,
        };
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(file);
        let mut opened = opened.map_err(failed)?;
        let reader = Reader::of(opened.as_fd());
        let mut recorder = Self {
            file: file.into(),
            writer: Writer::to(reader, move |chunk| opened.write_all(chunk).map(|()| true)),
            buffer: Vec::new(),
            has_gap: false,
            has_failed: false,
        };
        let Origin {
            host,
            clock,
            netns,
            started,
            is_live: _,
        } = engine.origin().clone();
        recorder.push(&Entry::<()>::Header(Header {
            version: VERSION,
            host,
            clock,
            netns,
            started,
        }));
        recorder.push(&Entry::Keyframe(engine.keyframe()));
        Ok(recorder)
    }

    /// Writes what remains, and waits for the disk.
    ///
    /// # Errors
    /// Not everything could be written.
    pub async fn finish(mut self, last: &Last) -> Result<(), Failure> {
        if self.has_failed {
            return Ok(());
        }
        self.record(&last.events);
        self.push(&Entry::<()>::End(last.time));
        let buffer = mem::take(&mut self.buffer);
        self.writer.send(buffer).await;
        let finished = self.writer.finish().await;
        finished.map_err(|error| Failure::Recording {
            file: self.file,
            error,
        })
    }

    fn record(&mut self, events: &[Timed]) {
        for timed in events {
            self.push(&Entry::<()>::Event(timed.clone()));
        }
    }

    fn push<K: Serialize>(&mut self, entry: &Entry<K>) {
        if self.has_gap {
            return;
        }
        let before = self.buffer.len();
        match serde_json::to_writer(&mut self.buffer, entry) {
            Ok(()) => self.buffer.push(b'\n'),
            Err(error) => {
                log::error!("an event that cannot be written: {error}");
                self.buffer.truncate(before);
            }
        }
        self.has_gap = self.buffer.len() > BUFFER_BYTES;
    }

    async fn flush(&mut self) -> Result<Proceed, Failure> {
        if self.buffer.is_empty() {
            self.writer.closed().await;
        } else if let Some(place) = self.writer.place().await {
            place.send(mem::take(&mut self.buffer));
            return Ok(ControlFlow::Continue(()));
        }
        self.has_failed = true;
        Err(Failure::Recording {
            file: self.file.clone(),
            error: self.writer.error().await,
        })
    }
}

impl Consumer for &mut Recorder {
    fn interest(&self) -> Interest {
        Interest {
            events: true,
            changes: false,
        }
    }

    fn events(&mut self, events: &[Timed]) {
        self.record(events);
    }

    fn state(&mut self, engine: &mut Engine, tick: Option<Instant>) -> Result<Proceed, Failure> {
        let Some(time) = tick else {
            return Ok(ControlFlow::Continue(()));
        };
        self.push(&Entry::<()>::Tick(time));
        if self.has_gap && self.buffer.is_empty() {
            self.has_gap = false;
            self.push(&Entry::<()>::Gap);
            self.push(&Entry::Keyframe(engine.keyframe()));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn ready(&mut self) -> Ready<'_> {
        Box::pin(self.flush())
    }
}
