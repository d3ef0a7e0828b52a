//! Reads names and command lines of running processes again, as programs change them.
//!
//! The kernel side reports the name with each record. A title that a process writes over its
//! arguments is in its own memory, and no hook reports it. The process can delay a read of it for
//! as long as it likes (`get_mm_cmdline` waits for `mmap_lock` and for page faults), so a thread
//! reads. While one process blocks the thread, the titles of others are not updated.
//!
//! The reads that a tick requests take at most one part in [`SHARE`] of the time since the last
//! tick, estimated from earlier reads: some 200 processes a second. As many more may be requested
//! between two ticks. Three quarters are for processes that moved bytes, the rest for those that
//! only have sockets, each group in turn. So with N moving processes each is read every N / 150
//! seconds, or at each tick if they are few.

use std::{
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant as Moment},
};

use super::{Answered, Enricher};
use crate::{
    event::{Event, EventSink, ProcessId, Timed},
    model::Model,
    source::{boottime, proc::Proc},
};

/// At most one part in so many of the time is spent reading.
const SHARE: u32 = 100;
/// Most processes of one request, and least of a tick's request.
const MAX_REQUEST: usize = 512;
const MIN_REQUEST: usize = 16;
/// Time of a read before any was measured.
const INITIAL_TIME: Duration = Duration::from_micros(50);

/// Reads names on a thread of its own.
pub struct Titles {
    requests: Sender<Vec<ProcessId>>,
    answers: Receiver<Answer>,
    /// Whether a request is being answered.
    busy: bool,
    /// Processes without a title, to be requested before others.
    untitled: Vec<ProcessId>,
    /// Processes that the last tick chose.
    due: Vec<ProcessId>,
    /// How many more may be requested before the next tick.
    spare: usize,
    turn: Turn,
    /// Time of the last tick.
    ticked: Moment,
}

/// Names that were read.
struct Answer {
    names: Vec<Timed>,
    read: usize,
    took: Duration,
}

impl Titles {
    /// If no thread can be started, titles are not updated.
    pub fn start(answered: Answered) -> Self {
        let (requests, incoming) = mpsc::channel::<Vec<ProcessId>>();
        let (answer, answers) = mpsc::channel();
        let reader = thread::Builder::new().name("titles".into()).spawn(move || {
            let proc = Proc::new();
            // Until the program ends.
            while let Ok(ids) = incoming.recv() {
                if answer.send(read(&proc, &ids)).is_err() {
                    break;
                }
                answered.notify();
            }
        });
        if let Err(error) = reader {
            log::warn!("titles of processes are not updated: cannot start a thread: {error}");
        }
        Self {
            requests,
            answers,
            busy: false,
            untitled: Vec::new(),
            due: Vec::new(),
            spare: MAX_REQUEST,
            turn: Turn::default(),
            ticked: Moment::now(),
        }
    }

    /// Requests these at once, or as soon as the thread is idle. What exceeds the limit waits for
    /// its turn at a tick.
    fn request(&mut self, ids: Vec<ProcessId>) {
        let taken = ids.len().min(self.spare);
        self.spare -= taken;
        self.untitled.extend(ids.into_iter().take(taken));
        self.send();
    }

    /// Requests the next processes of each group.
    fn take_turns(&mut self, [moving, still]: [Vec<ProcessId>; 2]) {
        let elapsed = self.ticked.elapsed();
        self.ticked = Moment::now();
        // Those of the last tick that were not requested get another turn later.
        let room = self.turn.room(elapsed);
        self.spare = room.saturating_sub(self.untitled.len());
        self.due = self.turn.next(room, &moving, &still);
        self.send();
    }

    fn send(&mut self) {
        if self.busy || self.untitled.is_empty() && self.due.is_empty() {
            return;
        }
        let mut ids = std::mem::take(&mut self.untitled);
        ids.append(&mut self.due);
        self.busy = self.requests.send(ids).is_ok();
    }
}

impl Enricher for Titles {
    fn answers(&mut self, out: &mut dyn EventSink) {
        while let Ok(answer) = self.answers.try_recv() {
            for Timed { time, event } in answer.names {
                out.event(time, event);
            }
            self.turn.took(answer.read, answer.took);
            self.busy = false;
            self.send();
        }
    }

    fn follow(&mut self, model: &mut Model) {
        self.request(model.untitled());
    }

    fn tick(&mut self, model: &Model) {
        self.take_turns(model.living());
    }
}

fn read(proc: &Proc, ids: &[ProcessId]) -> Answer {
    let began = Moment::now();
    let names = ids.iter().filter_map(|id| {
        // The time before the read: later changes may not be in it.
        let time = boottime::now();
        let program = proc.names(*id).ok()?;
        let event = Event::ProcessNamed { id: *id, program };
        Some(Timed { time, event })
    });
    Answer {
        names: names.collect(),
        read: ids.len(),
        took: began.elapsed(),
    }
}

/// Chooses which processes are read next, round robin.
#[derive(Debug)]
struct Turn {
    /// Average time of one read.
    each: Duration,
    /// The last one chosen of those that moved bytes, and of the others.
    last: [Option<ProcessId>; 2],
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            each: INITIAL_TIME,
            last: [None; 2],
        }
    }
}

impl Turn {
    fn took(&mut self, read: usize, took: Duration) {
        if let Ok(read @ 1..) = u32::try_from(read) {
            self.each = (3 * self.each + took / read) / 4;
        }
    }

    /// How many may be read after so much time.
    fn room(&self, elapsed: Duration) -> usize {
        let room = elapsed.as_nanos() / u128::from(SHARE) / self.each.as_nanos().max(1);
        usize::try_from(room)
            .unwrap_or(MAX_REQUEST)
            .clamp(MIN_REQUEST, MAX_REQUEST)
    }

    fn next(&mut self, room: usize, moving: &[ProcessId], still: &[ProcessId]) -> Vec<ProcessId> {
        let [last_moving, last_still] = &mut self.last;
        let for_still = still
            .len()
            .min((room / 4).max(room.saturating_sub(moving.len())));
        let mut ids = in_turn(moving, last_moving, room - for_still);
        ids.extend(in_turn(still, last_still, for_still));
        ids
    }
}

/// Up to `most` of `ids`: those after `last`, then from the beginning.
fn in_turn(ids: &[ProcessId], last: &mut Option<ProcessId>, most: usize) -> Vec<ProcessId> {
    let begin = last.map_or(0, |last| ids.partition_point(|id| *id <= last));
    let (before, after) = ids.split_at(begin);
    let chosen: Vec<_> = after.iter().chain(before).take(most).copied().collect();
    *last = chosen.last().copied().or(*last);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Instant;

    fn ids(pids: std::ops::Range<u32>) -> Vec<ProcessId> {
        let start = Instant(7);
        pids.map(|pid| ProcessId { pid, start }).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn every_process_gets_a_turn() {
        let mut turn = Turn::default();
        let (moving, still) = (ids(0..1000), ids(1000..3000));
        let mut asked = std::collections::BTreeSet::new();
        let mut ticks = 0;
        while asked.len() < 3000 {
            let chosen = turn.next(turn.room(SECOND), &moving, &still);
            assert_eq!(chosen.len(), 200, "50 µs each of 10 ms");
            asked.extend(chosen);
            ticks += 1;
            assert!(ticks <= 40, "{} of 3000 after {ticks} ticks", asked.len());
        }
        // Those that move bytes come first.
        let chosen = turn.next(200, &ids(0..150), &still);
        assert_eq!(chosen.iter().filter(|id| id.pid < 1000).count(), 150);
    }

    #[test]
    fn few_processes_are_all_read_at_each_tick() {
        let mut turn = Turn::default();
        for _ in 0..3 {
            let chosen = turn.next(MIN_REQUEST, &ids(0..5), &ids(10..20));
            assert_eq!(chosen.len(), 15);
        }
        assert!(turn.next(MIN_REQUEST, &[], &[]).is_empty());
    }

    #[test]
    fn slow_reads_reduce_the_number_of_reads() {
        let mut turn = Turn::default();
        for _ in 0..20 {
            turn.took(10, SECOND);
        }
        assert_eq!(turn.room(SECOND), MIN_REQUEST);
        for _ in 0..60 {
            turn.took(100, Duration::from_millis(1));
        }
        assert_eq!(turn.room(SECOND), MAX_REQUEST);
    }

    #[tokio::test]
    async fn names_come_from_the_thread() {
        let answered = Answered::default();
        let mut titles = Titles::start(answered.clone());
        let own = Proc::new().id(std::process::id()).expect("this process");
        titles.request(vec![own, ProcessId { pid: 0, ..own }]);
        titles.request(vec![own]);
        let mut out = Vec::new();
        while out.len() < 2 {
            answered.wait().await;
            titles.answers(&mut out);
        }
        let named =
            |timed: &Timed| matches!(&timed.event, Event::ProcessNamed { id, .. } if *id == own);
        assert_eq!(out.iter().filter(|timed| named(timed)).count(), 2);
        assert_eq!(out.len(), 2);
        assert!(!titles.busy);
    }
}
