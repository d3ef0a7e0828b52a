//! What a recorder wrote, once more.
//!
//! The ticks are those of the recording, so that every rate and every order is as it was. A file
//! whose writer was cut off ends with its last whole line.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{task::yield_now, time};

use super::{Origin, Pace, Source, SourceError, Step};
use crate::{
    event::{Event, EventSink, Instant, Timed},
    model::Keyframe,
    wire::{Entry, Header, VERSION},
};

/// Longest line that is read: a keyframe of some 500,000 flows.
const LINE_BYTES: u64 = 1 << 28;
/// Entries taken in one go, so that signals get their turn.
const BATCH: usize = 4096;
/// Longest time between two ticks: where the recorder paused for longer, nobody waits for it.
const PAUSE: Duration = Duration::from_secs(10);

/// A recording that is read.
pub struct Recording {
    file: PathBuf,
    lines: BufReader<File>,
    /// Number of the last line that was read.
    line: u64,
    origin: Origin,
    keyframe: Option<Keyframe>,
    now: Instant,
    as_recorded: bool,
    /// When the last tick was due, and its time there.
    last_tick: Option<(time::Instant, Instant)>,
    /// A tick whose time has not come yet.
    waiting: Option<Instant>,
    /// Nothing more is to come.
    ended: bool,
}

/// Why a recording can't be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("cannot read {}: {error}", file.display())]
    Read { file: PathBuf, error: io::Error },
    #[error("{} is no recording of Flow's", file.display())]
    Foreign { file: PathBuf },
    #[error("{}: a recording of another version of Flow ({version}, not {VERSION})", file.display())]
    Version { file: PathBuf, version: u32 },
    #[error("{}, line {line}: {error}", file.display())]
    Entry {
        file: PathBuf,
        line: u64,
        error: serde_json::Error,
    },
}

impl Recording {
    /// Opens a recording, and reads where it begins.
    ///
    /// # Errors
    /// The file can't be read, or is no recording.
    pub fn open(file: &Path, pace: Pace) -> Result<Self, RecordingError> {
        let foreign = || RecordingError::Foreign { file: file.into() };
        let opened = File::open(file).map_err(|error| RecordingError::Read {
            file: file.into(),
            error,
        })?;
        let mut lines = BufReader::new(opened);
        let first = read_line(&mut lines).map_err(|error| RecordingError::Read {
            file: file.into(),
            error,
        })?;
        let first = first.ok_or_else(foreign)?;
        let Ok(Entry::<Keyframe>::Header(header)) = serde_json::from_slice(&first) else {
            return Err(foreign());
        };
        let Header {
            version,
            host,
            clock,
            netns,
            started,
        } = header;
        if version != VERSION {
            return Err(RecordingError::Version {
                file: file.into(),
                version,
            });
        }
        let mut recording = Self {
            file: file.into(),
            lines,
            line: 1,
            origin: Origin {
                host,
                clock,
                netns,
                started,
                is_live: false,
            },
            keyframe: None,
            now: started,
            as_recorded: pace.as_recorded,
            last_tick: None,
            waiting: None,
            ended: false,
        };
        if let Some(Entry::Keyframe(keyframe)) = recording.entry()? {
            recording.now = keyframe.time();
            recording.keyframe = Some(keyframe);
            return Ok(recording);
        }
        Err(foreign())
    }

    /// The next entry; none at the end, and where the writer was cut off.
    fn entry(&mut self) -> Result<Option<Entry<Keyframe>>, RecordingError> {
        let line = read_line(&mut self.lines).map_err(|error| RecordingError::Read {
            file: self.file.clone(),
            error,
        })?;
        let Some(line) = line else { return Ok(None) };
        self.line += 1;
        let entry = serde_json::from_slice(&line).map_err(|error| RecordingError::Entry {
            file: self.file.clone(),
            line: self.line,
            error,
        })?;
        Ok(Some(entry))
    }

    /// When a tick is due.
    fn due(&self, tick: Instant) -> time::Instant {
        match self.last_tick {
            Some((due, last)) if self.as_recorded => due + tick.since(last).min(PAUSE),
            _ => time::Instant::now(),
        }
    }
}

impl Source for Recording {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn take_keyframe(&mut self) -> Option<Keyframe> {
        self.keyframe.take()
    }

    /// All that there was stands in the keyframe.
    fn begin(&mut self, _: &mut impl EventSink) {}

    async fn next(&mut self, out: &mut impl EventSink) -> Result<Step, SourceError> {
        // Reading never waits, and others want their turn.
        yield_now().await;
        if let Some(tick) = self.waiting {
            let due = self.due(tick);
            time::sleep_until(due).await;
            self.waiting = None;
            self.last_tick = Some((due, tick));
            return Ok(Step::Tick(tick));
        }
        for _ in 0..BATCH {
            if self.ended {
                return Ok(Step::End);
            }
            match self.entry()? {
                Some(Entry::Event(Timed { time, event })) => {
                    self.now = self.now.max(time);
                    let may_be_replaced = matches!(event, Event::Coverage(_));
                    out.event(time, event);
                    if may_be_replaced {
                        // Of several that arrive together a stream shows the newest only. These came
                        // one after the other.
                        return Ok(Step::Events);
                    }
                }
                Some(Entry::Tick(tick)) => {
                    self.now = self.now.max(tick);
                    self.waiting = Some(tick);
                    return Ok(Step::Events);
                }
                Some(Entry::Keyframe(keyframe)) => {
                    self.now = keyframe.time();
                    self.keyframe = Some(keyframe);
                    return Ok(Step::Restart);
                }
                Some(Entry::End(end)) => {
                    self.now = self.now.max(end);
                    self.ended = true;
                }
                Some(Entry::Gap | Entry::Header(_)) => {}
                None => self.ended = true,
            }
        }
        Ok(Step::Events)
    }

    fn stop(self, _: &mut impl EventSink) -> Instant {
        self.now
    }
}

/// The next whole line without its end; none where there is none.
fn read_line(lines: &mut BufReader<File>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    lines.take(LINE_BYTES).read_until(b'\n', &mut line)?;
    if line.pop() == Some(b'\n') {
        return Ok(Some(line));
    }
    if line.len() as u64 >= LINE_BYTES - 1 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a line is longer than any that Flow writes",
        ));
    }
    Ok(None)
}
