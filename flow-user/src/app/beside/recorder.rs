//! A recorder: writes what the model takes to a file, which [`crate::source::recording`] reads.
//!
//! A thread writes. Where the disk is slower than the events, what does not fit into the buffer is
//! left out, and a keyframe after it brings the state up to date.

use std::{
    fs::OpenOptions,
    io::Write as _,
    ops::ControlFlow,
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bytes::{BufMut as _, BytesMut};
use serde::Serialize;

use crate::app::{
    Failure,
    consumer::{Consumer, Finished, Proceed, Ready},
    engine::{Engine, Interest, Last},
    reader::Reader,
    writer::Writer,
};
use crate::{
    event::{Instant, Timed},
    source::Origin,
    wire::{Entry, Header, VERSION},
};

/// What it wants of the engine.
pub const EVENTS: Interest = Interest {
    events: true,
    changes: false,
};

/// Bytes that wait for the disk at most.
const BUFFER_BYTES: usize = 64 << 20;

/// Writes a recording.
pub struct Recorder {
    file: PathBuf,
    writer: Writer,
    buffer: BytesMut,
    /// Bytes that may wait in it, before events are left out.
    room: usize,
    /// Whether events were left out since the last keyframe.
    has_gap: bool,
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
        let writer = Writer::to(reader, move |chunk| opened.write_all(chunk).map(|()| true));
        Ok(Self::to(writer, file, engine))
    }

    fn to(writer: Writer, file: &Path, engine: &Engine) -> Self {
        let mut recorder = Self {
            file: file.into(),
            writer,
            buffer: BytesMut::new(),
            room: BUFFER_BYTES,
            has_gap: false,
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
        recorder
    }

    /// Writes what remains, and waits for the disk.
    async fn close(mut self, last: &Last) -> Result<(), Failure> {
        self.record(&last.events);
        self.push(&Entry::<()>::End(last.time));
        let buffer = self.buffer.split().freeze();
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
        match serde_json::to_writer((&mut self.buffer).writer(), entry) {
            Ok(()) => self.buffer.put_u8(b'\n'),
            Err(error) => {
                log::error!("an event that cannot be written: {error}");
                self.buffer.truncate(before);
            }
        }
        self.has_gap = self.buffer.len() > self.room;
    }

    async fn flush(&mut self) -> Result<Proceed, Failure> {
        if self.buffer.is_empty() {
            self.writer.closed().await;
        } else if let Some(place) = self.writer.place().await {
            place.send(self.buffer.split().freeze());
            return Ok(ControlFlow::Continue(()));
        }
        Err(Failure::Recording {
            file: self.file.clone(),
            error: self.writer.error().await,
        })
    }
}

impl Consumer for Recorder {
    fn interest(&self) -> Interest {
        EVENTS
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

    fn finish(self: Box<Self>, last: &Last) -> Finished<'_> {
        Box::pin(self.close(last))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::{Arc, Mutex, mpsc},
        time::Duration,
    };

    use super::*;
    use crate::{
        app::run::tests::{cut_off, entries, open, write},
        source::Step,
    };

    /// All that an engine shows at the end of a recording.
    async fn shown(file: &Path) -> String {
        let mut engine = open(file);
        while engine.next().await.unwrap() != Step::End {}
        format!("{:#?}", engine.stop().snapshot)
    }

    /// Records what an engine reads from a file.
    async fn record(engine: &mut Engine, recorder: &mut Recorder) {
        let consumer = recorder;
        loop {
            let step = engine.next().await.unwrap();
            consumer.events(&engine.take_events());
            match step {
                Step::Tick(time) => {
                    let proceed = consumer.state(engine, Some(time)).unwrap();
                    assert!(proceed.is_continue());
                }
                Step::End => break,
                Step::Events | Step::Restart => {}
            }
        }
    }

    #[tokio::test]
    async fn what_is_recorded_again_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        write(&first, &entries(50));
        let mut engine = open(&first);
        let mut recorder = Recorder::create(&second, &engine).unwrap();
        record(&mut engine, &mut recorder).await;
        recorder.close(&engine.stop()).await.unwrap();
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
        // What is there is left alone.
        assert!(Recorder::create(&first, &open(&second)).is_err());
        assert_eq!(shown(&first).await, shown(&second).await);
    }

    #[tokio::test]
    async fn what_a_slow_disk_cannot_take_is_left_out_and_the_state_is_right_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        write(&first, &entries(50));
        let written = Arc::new(Mutex::new(Vec::new()));
        let (go, went) = mpsc::channel::<()>();
        let copy = Arc::clone(&written);
        let writer = Writer::to(Reader::none(), move |chunk| {
            let _ = went.recv();
            copy.lock().unwrap().extend_from_slice(chunk);
            Ok(true)
        });
        let mut engine = open(&first);
        let mut recorder = Recorder::to(writer, &second, &engine);
        recorder.room = 4096;
        let mut ticks = 0;
        let consumer = &mut recorder;
        loop {
            let step = engine.next().await.unwrap();
            consumer.events(&engine.take_events());
            let Step::Tick(time) = step else {
                if step == Step::End {
                    break;
                }
                continue;
            };
            assert!(
                consumer
                    .state(&mut engine, Some(time))
                    .unwrap()
                    .is_continue()
            );
            ticks += 1;
            // The disk takes what waits only now and then.
            if ticks % 20 == 0 {
                assert!(consumer.ready().await.unwrap().is_continue());
                go.send(()).unwrap();
            }
        }
        drop(go);
        recorder.close(&engine.stop()).await.unwrap();
        let text = written.lock().unwrap().clone();
        assert!(text.len() < fs::metadata(&first).unwrap().len() as usize);
        let gaps = String::from_utf8(text.clone()).unwrap();
        assert!(gaps.contains("\"gap\""), "{gaps}");
        fs::write(&second, text).unwrap();
        assert_eq!(shown(&first).await, shown(&second).await);
    }

    #[tokio::test]
    async fn a_recorder_that_was_cut_off_leaves_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cut");
        write(&file, &entries(5));
        cut_off(&file);
        let mut engine = open(&file);
        let mut ticks = 0;
        let end = async {
            loop {
                match engine.next().await.unwrap() {
                    Step::Tick(_) => ticks += 1,
                    Step::End => break,
                    Step::Events | Step::Restart => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), end)
            .await
            .unwrap();
        assert_eq!(ticks, 4);
    }
}
