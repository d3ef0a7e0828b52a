//! Names and command lines of processes that are there, read again.
//!
//! The kernel side tells the name with each record. A title that a process writes over its arguments is
//! memory of its own, of which no hook tells: it is only seen by looking. To read it may take as
//! long as the process likes (`get_mm_cmdline` waits for the lock of its memory, and for pages), so a
//! thread does that, and nobody waits for it. While one process makes the thread wait, the other titles
//! stay as they are.
//!
//! Each tick asks for one part in [`SHARE`] of the time that has passed at most, by what a reading took so
//! far: some hundred processes in each second. Until the next one as many more may be asked for in between. Three of four places are for those that moved bytes, in turn,
//! the others for those that only have sockets, in turn. So with N that move each comes once in
//! N / 200 seconds or so, and with less than that at each tick.

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

/// One part in so many of the time may go into reading.
const SHARE: u32 = 100;
/// Most processes of one request, and least of a tick's.
const MOST: usize = 512;
const LEAST: usize = 16;
/// What a reading takes before any was measured.
const USUAL: Duration = Duration::from_micros(50);

/// Reads names on a thread of its own.
pub struct Titles {
    asked: Sender<Vec<ProcessId>>,
    answers: Receiver<Answer>,
    /// Whether an answer is to come.
    busy: bool,
    /// Those to be asked for once the thread has time: before any others, and those of the last tick.
    first: Vec<ProcessId>,
    due: Vec<ProcessId>,
    /// How many more may be asked for before the next tick.
    spare: usize,
    turn: Turn,
    /// When the last tick was.
    ticked: Moment,
}

/// Names that were read.
struct Answer {
    names: Vec<Timed>,
    read: usize,
    took: Duration,
}

impl Titles {
    /// Without a thread, if none can be had: then names stay as other sources tell them.
    pub fn start(answered: Answered) -> Self {
        let (asked, requests) = mpsc::channel::<Vec<ProcessId>>();
        let (answer, answers) = mpsc::channel();
        let reader = thread::Builder::new().name("titles".into()).spawn(move || {
            let proc = Proc::new();
            // Until the program ends.
            while let Ok(ids) = requests.recv() {
                if answer.send(read(&proc, &ids)).is_err() {
                    break;
                }
                answered.notify();
            }
        });
        if let Err(error) = reader {
            log::warn!("cannot start a thread that reads titles of processes: {error}");
        }
        Self {
            asked,
            answers,
            busy: false,
            first: Vec::new(),
            due: Vec::new(),
            spare: MOST,
            turn: Turn::default(),
            ticked: Moment::now(),
        }
    }

    /// Asks for these at once, or as soon as the thread has time. Where they are too many, the others have to wait for
    /// their turn.
    fn ask(&mut self, ids: Vec<ProcessId>) {
        let taken = ids.len().min(self.spare);
        self.spare -= taken;
        self.first.extend(ids.into_iter().take(taken));
        self.send();
    }

    /// Asks for those whose turn it is, of those that moved bytes and of the others, each in order.
    fn take_turns(&mut self, [moving, still]: [Vec<ProcessId>; 2]) {
        let elapsed = self.ticked.elapsed();
        self.ticked = Moment::now();
        // Those of an earlier tick whose turn did not come have it again after a while.
        let room = self.turn.room(elapsed);
        self.spare = room.saturating_sub(self.first.len());
        self.due = self.turn.next(room, &moving, &still);
        self.send();
    }

    fn send(&mut self) {
        if self.busy || self.first.is_empty() && self.due.is_empty() {
            return;
        }
        let mut ids = std::mem::take(&mut self.first);
        ids.append(&mut self.due);
        self.busy = self.asked.send(ids).is_ok();
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
        self.ask(model.untitled());
    }

    fn tick(&mut self, model: &Model) {
        self.take_turns(model.living());
    }
}

fn read(proc: &Proc, ids: &[ProcessId]) -> Answer {
    let began = Moment::now();
    let names = ids.iter().filter_map(|id| {
        // Before it is read: what the process does from here on may not be in it.
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

/// Whose turn it is.
#[derive(Debug)]
struct Turn {
    /// What it takes to read one.
    each: Duration,
    /// The last that was asked for, of those that moved bytes and of the others.
    last: [Option<ProcessId>; 2],
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            each: USUAL,
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

    /// How many may be read in this time.
    fn room(&self, elapsed: Duration) -> usize {
        let room = elapsed.as_nanos() / u128::from(SHARE) / self.each.as_nanos().max(1);
        usize::try_from(room).unwrap_or(MOST).clamp(LEAST, MOST)
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

/// Up to `most`, those after `last` first and then from the beginning.
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
    fn everyone_has_a_turn_whoever_comes_and_goes() {
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
        // Those that move first.
        let chosen = turn.next(200, &ids(0..150), &still);
        assert_eq!(chosen.iter().filter(|id| id.pid < 1000).count(), 150);
    }

    #[test]
    fn few_are_asked_for_at_each_tick() {
        let mut turn = Turn::default();
        for _ in 0..3 {
            let chosen = turn.next(LEAST, &ids(0..5), &ids(10..20));
            assert_eq!(chosen.len(), 15);
        }
        assert!(turn.next(LEAST, &[], &[]).is_empty());
    }

    #[test]
    fn where_reading_takes_long_less_is_read() {
        let mut turn = Turn::default();
        for _ in 0..20 {
            turn.took(10, SECOND);
        }
        assert_eq!(turn.room(SECOND), LEAST);
        for _ in 0..60 {
            turn.took(100, Duration::from_millis(1));
        }
        assert_eq!(turn.room(SECOND), MOST);
    }

    #[tokio::test]
    async fn names_come_from_the_thread() {
        let answered = Answered::default();
        let mut titles = Titles::start(answered.clone());
        let own = Proc::new().id(std::process::id()).expect("this process");
        titles.ask(vec![own, ProcessId { pid: 0, ..own }]);
        titles.ask(vec![own]);
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
