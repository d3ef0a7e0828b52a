//! A recorder: writes what the model takes to a file, which [`crate::source::recording`] reads.
//!
//! A thread writes. Where the disk is slower than the events, what does not fit into the buffer is
//! left out, and a keyframe after it brings the state up to date, at the latest when the source has
//! ended.

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
    engine::{Engine, Interest, Stopped},
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
    states: false,
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
    async fn close(mut self, stopped: &Stopped) -> Result<(), Failure> {
        self.record(&stopped.events);
        if self.has_gap {
            self.writer.send(self.buffer.split().freeze()).await;
            self.append(&Entry::<()>::Gap);
            self.append(&Entry::Keyframe(stopped.keyframe()));
        }
        self.append(&Entry::<()>::End(stopped.time));
        self.writer.send(self.buffer.split().freeze()).await;
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

    /// Takes an entry if there is room for it.
    fn push<K: Serialize>(&mut self, entry: &Entry<K>) {
        if self.has_gap {
            return;
        }
        self.append(entry);
        self.has_gap = self.buffer.len() > self.room;
    }

    /// Takes an entry.
    fn append<K: Serialize>(&mut self, entry: &Entry<K>) {
        let before = self.buffer.len();
        match serde_json::to_writer((&mut self.buffer).writer(), entry) {
            Ok(()) => self.buffer.put_u8(b'\n'),
            Err(error) => {
                log::error!("an event that cannot be written: {error}");
                self.buffer.truncate(before);
            }
        }
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

    fn finish(self: Box<Self>, stopped: &Stopped) -> Finished<'_> {
        Box::pin(self.close(stopped))
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
        format!("{:#?}", engine.stop().finish().snapshot)
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

    /// A disk that takes a chunk for each message, and everything once nobody can send one.
    struct SlowDisk {
        go: mpsc::Sender<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl SlowDisk {
        /// The disk, and what writes to it.
        fn new() -> (Self, Writer) {
            let written = Arc::new(Mutex::new(Vec::new()));
            let (go, went) = mpsc::channel();
            let copy = Arc::clone(&written);
            let writer = Writer::to(Reader::none(), move |chunk| {
                let _ = went.recv();
                copy.lock().unwrap().extend_from_slice(chunk);
                Ok(true)
            });
            (Self { go, written }, writer)
        }
    }

    /// Records a recording again on a slow disk that takes what waits after so many ticks, and
    /// everything at the end. Returns what it took, of which less is than of the first.
    async fn record_slowly(folder: &Path, ticks_to_write: u64) -> String {
        let [first, second] = ["first", "second"].map(|name| folder.join(name));
        write(&first, &entries(150));
        let (disk, writer) = SlowDisk::new();
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
            let proceed = consumer.state(&mut engine, Some(time)).unwrap();
            assert!(proceed.is_continue());
            ticks += 1;
            if ticks % ticks_to_write == 0 {
                assert!(consumer.ready().await.unwrap().is_continue());
                disk.go.send(()).unwrap();
            }
        }
        let SlowDisk { go, written } = disk;
        drop(go);
        recorder.close(&engine.stop()).await.unwrap();
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert!(text.len() < fs::metadata(&first).unwrap().len() as usize);
        fs::write(&second, &text).unwrap();
        assert_eq!(shown(&first).await, shown(&second).await);
        text
    }

    #[tokio::test]
    async fn what_a_slow_disk_cannot_take_is_left_out_and_the_state_is_right_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let text = record_slowly(folder.path(), 20).await;
        let (_, after) = text.split_once("\"gap\"").unwrap();
        assert!(after.contains("{\"tick\""), "it goes on: {after}");
    }

    #[tokio::test]
    async fn a_recording_with_a_gap_at_the_end_ends_with_the_last_state() {
        let folder = tempfile::tempdir().unwrap();
        let text = record_slowly(folder.path(), u64::MAX).await;
        let kinds = text.lines().map(|line| line.split('"').nth(1).unwrap());
        let kinds: Vec<_> = kinds.collect();
        assert!(kinds.ends_with(&["gap", "keyframe", "end"]), "{kinds:?}");
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
