//! The queue of a slow reader of the event stream.
//!
//! Opens, closes, execs and exits wait in order until they are read; none is dropped. A change that
//! only brings newer totals (an update of a flow, a ledger, a loss counter, a status) replaces the
//! older one that still waits, and the reader receives the number of replacements.
//!
//! **Memory.** Of updates at most one waits for each flow, ledger and loss cause the model has, so
//! they are bounded by the model itself. What may not be dropped is bounded by
//! [`Backlog::for_sockets`]'s limit; past it [`Backlog::push`] refuses. Then the stream has to end
//! with an error, which the reader sees, rather than with a gap, which it might not. A waiting
//! change is an [`Arc`](std::sync::Arc) to a row, some 600 bytes with its place here, and a
//! process's rows share the process.

use std::collections::VecDeque;

use foldhash::HashMap;

use crate::{
    event::Instant,
    model::change::{CoalesceKey, Coalescing, TimedChange},
};

/// The most changes that must not be dropped, besides those of one sweep over the kernel's maps:
/// some 40 MB when all are new rows.
const LIMIT: usize = 65_536;
/// The most changes that such a sweep brings of a socket, after losses: an open and a close.
const CHANGES_PER_SOCKET: usize = 2;
/// A reader that never catches up gets the number of merged updates after this many changes.
const REPORT_EVERY: u64 = 1024;

/// A queue of changes for one reader.
#[derive(Debug)]
pub struct Backlog {
    queue: VecDeque<Option<TimedChange>>,
    /// Number of the queue's first place, counted from the beginning of the stream.
    first: u64,
    /// Numbers of the places of changes that a newer one may replace.
    replaceable: HashMap<CoalesceKey, u64>,
    /// Changes waiting that may not be dropped, and the most there may be.
    kept: usize,
    limit: usize,
    /// Changes replaced since the stream began, and how many of them the last report counted.
    coalesced: u64,
    reported: u64,
    /// Changes read since the last such report, and the time of the last one.
    read_since: u64,
    time: Instant,
}

/// The next item for a reader.
#[derive(Clone, Debug)]
pub enum Delivery {
    Change(TimedChange),
    /// So many changes were replaced by newer ones since the stream began, because the reader was
    /// slow.
    Coalesced {
        time: Instant,
        count: u64,
    },
}

/// The reader has read nothing for so long that no more may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the reader of the events is too slow: {waiting} events that must not be lost wait for it; read faster, \
     or select less with --only or --filter"
)]
pub struct ReaderStalled {
    pub waiting: usize,
}

impl Backlog {
    /// An empty backlog for what happens to so many sockets at once.
    pub fn for_sockets(sockets: usize) -> Self {
        Self::new(LIMIT + CHANGES_PER_SOCKET * sockets)
    }

    /// An empty backlog, in which at most `limit` changes may wait that must not be dropped.
    fn new(limit: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            first: 0,
            replaceable: HashMap::default(),
            kept: 0,
            limit,
            coalesced: 0,
            reported: 0,
            read_since: 0,
            time: Instant::default(),
        }
    }

    /// Takes a change. Fails, taking nothing, when too much waits that must not be dropped.
    ///
    /// A newer update takes the place of the older one in the order, so that no flow waits forever
    /// behind others; its own time may then be later than the next change's.
    pub fn push(&mut self, change: TimedChange) -> Result<(), ReaderStalled> {
        let next = self.first + self.queue.len() as u64;
        let coalescing = change.change.coalescing();
        if let Coalescing::Newest(key) = coalescing {
            let place = *self.replaceable.entry(key).or_insert(next);
            match self.waiting_at(place) {
                Some(older) => {
                    *older = Some(change);
                    self.coalesced += 1;
                }
                None => self.queue.push_back(Some(change)),
            }
            return Ok(());
        }
        if self.kept >= self.limit {
            return Err(ReaderStalled { waiting: self.kept });
        }
        if let Coalescing::First(key) | Coalescing::Last(key) = coalescing
            && let Some(place) = self.replaceable.remove(&key)
            && matches!(coalescing, Coalescing::Last(_))
            && let Some(older) = self.waiting_at(place)
        {
            *older = None;
            self.coalesced += 1;
        }
        self.kept += 1;
        self.queue.push_back(Some(change));
        Ok(())
    }

    /// The next item for the reader; `None` while there is none.
    pub fn pop(&mut self) -> Option<Delivery> {
        let is_due = self.coalesced > self.reported;
        if is_due && self.read_since >= REPORT_EVERY {
            return Some(self.report());
        }
        while let Some(change) = self.queue.pop_front() {
            self.first += 1;
            let Some(change) = change else { continue };
            match change.change.coalescing() {
                Coalescing::Newest(key) => self.forget(key),
                Coalescing::Never | Coalescing::First(_) | Coalescing::Last(_) => self.kept -= 1,
            }
            self.read_since += 1;
            self.time = self.time.max(change.time);
            return Some(Delivery::Change(change));
        }
        is_due.then(|| self.report())
    }

    /// Whether the reader has read everything.
    pub fn is_empty(&self) -> bool {
        self.queue.iter().all(Option::is_none) && self.coalesced == self.reported
    }

    /// Changes replaced by newer ones since the stream began.
    pub const fn coalesced(&self) -> u64 {
        self.coalesced
    }

    fn waiting_at(&mut self, place: u64) -> Option<&mut Option<TimedChange>> {
        let index = usize::try_from(place.checked_sub(self.first)?).ok()?;
        self.queue.get_mut(index)
    }

    /// Removes this key from the replaceable ones, if it refers to the place just read.
    fn forget(&mut self, key: CoalesceKey) {
        // A later update of a reopened flow waits at another place, and remains replaceable.
        if self.replaceable.get(&key) == Some(&(self.first - 1)) {
            self.replaceable.remove(&key);
        }
    }

    fn report(&mut self) -> Delivery {
        self.reported = self.coalesced;
        self.read_since = 0;
        Delivery::Coalesced {
            time: self.time,
            count: self.coalesced,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{change::Change, snapshot::Flow},
        query::fixture,
    };

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Open(u64),
        Update(u64),
        Close(u64),
        Exec,
        Ledger,
        Read(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..4_u64).prop_map(Step::Open),
            (0..4_u64).prop_map(Step::Update),
            (0..4_u64).prop_map(Step::Update),
            (0..4_u64).prop_map(Step::Close),
            Just(Step::Exec),
            Just(Step::Ledger),
            (0..5_usize).prop_map(Step::Read),
        ]
    }

    fn flow(cookie: u64, bytes: u64) -> Arc<Flow> {
        let process = fixture::process(1, "/bin/x", &[]);
        Arc::new(Flow {
            app: fixture::totals(bytes, 0),
            ..fixture::flow(cookie, &process, "10.0.0.1:1", Some("10.0.0.2:2"))
        })
    }

    fn timed(change: Change, time: u64) -> TimedChange {
        TimedChange {
            time: Instant(time),
            change,
        }
    }

    fn describe(change: &Change) -> (&'static str, u64, u64) {
        let of = |kind, flow: &Flow| (kind, flow.key.socket.0, flow.app.tx_bytes.0);
        match change {
            Change::FlowOpened(flow) => of("open", flow),
            Change::FlowUpdated(flow) => of("update", flow),
            Change::FlowClosed(flow) => of("close", flow),
            Change::ProcessExec(_) => ("exec", 0, 0),
            _ => ("other", 0, 0),
        }
    }

    fn drain(backlog: &mut Backlog) -> Vec<(&'static str, u64, u64)> {
        std::iter::from_fn(|| backlog.pop())
            .map(|delivery| match delivery {
                Delivery::Change(change) => describe(&change.change),
                Delivery::Coalesced { count, .. } => ("coalesced", count, 0),
            })
            .collect()
    }

    #[test]
    fn a_newer_update_takes_the_place_of_the_older() {
        let mut backlog = Backlog::for_sockets(0);
        for (time, change) in [
            Change::FlowOpened(flow(1, 0)),
            Change::FlowUpdated(flow(1, 10)),
            Change::FlowUpdated(flow(2, 5)),
            Change::FlowUpdated(flow(1, 20)),
            Change::FlowUpdated(flow(3, 7)),
            Change::FlowClosed(flow(3, 8)),
        ]
        .into_iter()
        .enumerate()
        {
            backlog.push(timed(change, time as u64)).unwrap();
        }
        assert_eq!(
            drain(&mut backlog),
            [
                ("open", 1, 0),
                ("update", 1, 20),
                ("update", 2, 5),
                ("close", 3, 8),
                ("coalesced", 2, 0)
            ]
        );
        assert!(backlog.is_empty());
    }

    #[test]
    fn a_fast_reader_gets_every_change_and_no_report() {
        let mut backlog = Backlog::for_sockets(0);
        for bytes in 0..5_000 {
            let change = Change::FlowUpdated(flow(1, bytes));
            backlog.push(timed(change, bytes)).unwrap();
            assert_eq!(drain(&mut backlog), [("update", 1, bytes)]);
        }
    }

    #[test]
    fn a_stalled_reader_is_an_error_not_a_gap() {
        let mut backlog = Backlog::new(2);
        let open = |cookie| timed(Change::FlowOpened(flow(cookie, 0)), 0);
        backlog.push(open(1)).unwrap();
        backlog.push(open(2)).unwrap();
        assert_eq!(backlog.push(open(3)), Err(ReaderStalled { waiting: 2 }));
        let update = timed(Change::FlowUpdated(flow(1, 1)), 0);
        backlog.push(update).unwrap();
        assert!(backlog.pop().is_some());
        backlog.push(open(3)).unwrap();
    }

    #[test]
    fn a_reader_that_never_catches_up_gets_reports_too() {
        let mut backlog = Backlog::for_sockets(0);
        let mut reports = 0;
        for round in 0..3_000 {
            for cookie in 0..2 {
                let change = Change::FlowUpdated(flow(cookie, round));
                backlog.push(timed(change, round)).unwrap();
            }
            let update = timed(Change::FlowUpdated(flow(1, round)), round);
            backlog.push(update).unwrap();
            reports += usize::from(matches!(backlog.pop(), Some(Delivery::Coalesced { .. })));
            assert!(!backlog.is_empty());
        }
        assert_eq!(reports, 2);
    }

    proptest! {
        /// Against a queue that drops nothing: the same opens, closes and execs in the same order,
        /// and for each flow the newest totals at the end.
        #[test]
        fn nothing_that_matters_is_lost(steps in prop::collection::vec(step(), 0..200)) {
            let mut backlog = Backlog::for_sockets(0);
            let (mut pushed, mut read) = (Vec::new(), Vec::new());
            let mut updates = 0_u64;
            for (time, step) in steps.into_iter().enumerate() {
                let time = time as u64;
                let change = match step {
                    Step::Open(cookie) => Change::FlowOpened(flow(cookie, time)),
                    Step::Update(cookie) => Change::FlowUpdated(flow(cookie, time)),
                    Step::Close(cookie) => Change::FlowClosed(flow(cookie, time)),
                    Step::Exec => Change::ProcessExec(fixture::process(1, "/bin/x", &[])),
                    Step::Ledger => Change::Ledger(fixture::interface("lo", 1, 1)),
                    Step::Read(count) => {
                        for _ in 0..count {
                            if let Some(Delivery::Change(change)) = backlog.pop() {
                                read.push(change.change);
                            }
                        }
                        continue;
                    }
                };
                updates += u64::from(matches!(
                    change,
                    Change::FlowUpdated(_) | Change::Ledger(_)
                ));
                pushed.push(change.clone());
                backlog.push(timed(change, time)).unwrap();
                prop_assert!(backlog.replaceable.len() <= 5);
            }
            while let Some(delivery) = backlog.pop() {
                if let Delivery::Change(change) = delivery {
                    read.push(change.change);
                }
            }
            prop_assert!(backlog.is_empty() && backlog.replaceable.is_empty());
            let kept = |changes: &[Change]| -> Vec<_> {
                let kept = |kind| matches!(kind, "open" | "close" | "exec");
                changes.iter().map(describe).filter(|(kind, ..)| kept(*kind)).collect()
            };
            prop_assert_eq!(kept(&read), kept(&pushed));
            let read_updates = read
                .iter()
                .filter(|it| matches!(it, Change::FlowUpdated(_) | Change::Ledger(_)))
                .count() as u64;
            prop_assert_eq!(read_updates + backlog.coalesced(), updates);
            for cookie in 0..4 {
                let of_flow = |changes: &[Change]| -> Vec<_> {
                    let of_flow = changes.iter().map(describe);
                    of_flow.filter(|it| it.0 != "exec" && it.0 != "other" && it.1 == cookie).collect()
                };
                // Totals of a flow never go backwards, and the last is the last that was pushed.
                let (read, pushed) = (of_flow(&read), of_flow(&pushed));
                prop_assert!(read.is_sorted_by_key(|it| it.2), "{:?}", read);
                prop_assert_eq!(read.last(), pushed.last());
            }
        }
    }
}
