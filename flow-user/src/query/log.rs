//! The log of recent events.

use std::{collections::VecDeque, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    filter::Filter,
    selection::{EventTypes, Selection},
};
use crate::{
    event::{Clock, Instant, time_of_day},
    model::{
        change::{Change, TimedChange},
        snapshot::{Flow, Process},
    },
};

/// The most events.
const EVENTS: usize = 10_000;

/// The latest events, without those that report only grown numbers.
///
/// They outlive most of what they are about. So flows are kept by value, all in one place: kept as
/// the model's rows, which lie among thousands of others, they would hold on to the memory of all
/// of those.
#[derive(Clone, Debug)]
pub struct Log {
    clock: Clock,
    zone: TimeZone,
    events: VecDeque<(Timestamp, Kept)>,
    /// Number of the next event.
    next: u64,
}

/// An event as it is kept.
#[derive(Clone, Debug)]
enum Kept {
    Opened(Flow),
    Closed(Flow),
    Other(What),
}

/// An event of the log.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Counts up, without gaps.
    pub number: u64,
    pub time: Timestamp,
    /// The time zone in which it is shown.
    pub zone: TimeZone,
    pub what: What,
}

/// The content of an event.
#[derive(Clone, Debug)]
pub enum What {
    Change(Change),
    /// A process has reached the alert threshold.
    Alert(Arc<Process>),
}

impl From<What> for Kept {
    fn from(what: What) -> Self {
        match what {
            What::Change(Change::FlowOpened(flow)) => Self::Opened(Arc::unwrap_or_clone(flow)),
            What::Change(Change::FlowClosed(flow)) => Self::Closed(Arc::unwrap_or_clone(flow)),
            other => Self::Other(other),
        }
    }
}

impl From<&Kept> for What {
    fn from(kept: &Kept) -> Self {
        match kept {
            Kept::Opened(flow) => Self::Change(Change::FlowOpened(Arc::new(flow.clone()))),
            Kept::Closed(flow) => Self::Change(Change::FlowClosed(Arc::new(flow.clone()))),
            Kept::Other(other) => other.clone(),
        }
    }
}

impl Logged {
    /// Its time of day, written when it is shown: most events never are.
    pub fn time_of_day(&self) -> String {
        time_of_day(self.time, &self.zone)
    }

    /// Its flow.
    pub fn flow(&self) -> Option<&Arc<Flow>> {
        match &self.what {
            What::Change(change) => change.flow(),
            What::Alert(_) => None,
        }
    }

    /// Its process, or that of its flow.
    pub fn process(&self) -> Option<&Arc<Process>> {
        match &self.what {
            What::Change(change) => change.process(),
            What::Alert(process) => Some(process),
        }
    }
}

impl Log {
    /// An empty log of a host whose moments are shown in this time zone.
    pub fn new(clock: Clock, zone: TimeZone) -> Self {
        Self {
            clock,
            zone,
            events: VecDeque::new(),
            next: 0,
        }
    }

    /// Takes changes, in order.
    pub fn take(&mut self, changes: Vec<TimedChange>) {
        let notable = |it: &TimedChange| it.change.is_notable();
        let mut changes: Vec<TimedChange> = changes.into_iter().filter(notable).collect();
        // What a tick reports may have happened before what was reported at once.
        changes.sort_by_key(|it| it.time);
        // No more than are kept.
        let skipped = changes.len().saturating_sub(EVENTS);
        self.next += skipped as u64;
        for TimedChange { time, change } in changes.into_iter().skip(skipped) {
            self.push(time, What::Change(change));
        }
    }

    /// Takes an alert: this process reached the threshold.
    pub fn alert(&mut self, time: Instant, process: Arc<Process>) {
        self.push(time, What::Alert(process));
    }

    fn push(&mut self, time: Instant, what: What) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        let time = self.clock.timestamp(time);
        self.events.push_back((time, what.into()));
        self.next += 1;
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The events that pass the filter, the oldest first.
    pub fn passing(&self, filter: &Filter) -> impl Iterator<Item = Arc<Logged>> {
        let selection = Selection {
            filter: filter.clone(),
            types: EventTypes::all(),
        };
        let first = self.next - self.events.len() as u64;
        let events = (first..).zip(&self.events);
        events.filter_map(move |(number, (time, kept))| {
            let what = What::from(kept);
            let passes = match &what {
                What::Change(change) => selection.wants(change),
                What::Alert(process) => selection.filter.process_verdict(process) == Some(true),
            };
            passes.then(|| {
                Arc::new(Logged {
                    number,
                    time: *time,
                    zone: self.zone.clone(),
                    what,
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::Loss, query::fixture};

    fn empty() -> Log {
        let clock = Clock {
            boot: Timestamp::UNIX_EPOCH,
        };
        Log::new(clock, TimeZone::fixed(jiff::tz::offset(2)))
    }

    fn lost(count: u64) -> TimedChange {
        TimedChange {
            time: Instant(count),
            change: Change::Lost {
                cause: Loss::RingTraffic,
                count,
            },
        }
    }

    #[test]
    fn the_latest_are_kept_and_numbered() {
        let mut log = empty();
        log.take((0..EVENTS as u64 + 5).map(lost).collect());
        log.take(vec![lost(1_000_000)]);
        assert_eq!(log.len(), EVENTS);
        let last = log.passing(&Filter::all()).last().unwrap();
        assert_eq!(last.number, EVENTS as u64 + 5);
        assert_eq!(last.time_of_day(), "02:00:00.001");
    }

    #[test]
    fn what_only_grew_is_no_event_and_the_filter_chooses() {
        let curl = fixture::process(1, "/bin/curl", &[]);
        let flow = Arc::new(fixture::flow(1, &curl, "10.0.0.2:1", Some("10.0.0.3:80")));
        let timed = |change| TimedChange {
            time: Instant(0),
            change,
        };
        let mut log = empty();
        let changes = vec![
            timed(Change::FlowOpened(Arc::clone(&flow))),
            timed(Change::FlowUpdated(flow)),
            timed(Change::ProcessExec(Arc::clone(&curl))),
            timed(Change::ProcessExit {
                process: curl,
                status: None,
            }),
        ];
        log.take(changes);
        assert_eq!(log.len(), 1);
        assert_eq!(log.passing(&Filter::all()).count(), 1);
        let other = Filter::parse("port 443", &|_| None).unwrap();
        assert_eq!(log.passing(&other).count(), 0);
    }

    #[test]
    fn a_flow_of_the_log_holds_no_row_of_the_model() {
        let curl = fixture::process(1, "/bin/curl", &[]);
        let flow = Arc::new(fixture::flow(1, &curl, "10.0.0.2:1", Some("10.0.0.3:80")));
        let row = Arc::downgrade(&flow);
        let mut log = empty();
        log.take(vec![TimedChange {
            time: Instant(0),
            change: Change::FlowOpened(Arc::clone(&flow)),
        }]);
        let logged = log.passing(&Filter::all()).next().unwrap();
        assert_eq!(logged.flow(), Some(&flow));
        drop((flow, logged));
        assert!(row.upgrade().is_none());
        assert_eq!(log.len(), 1);
    }
}
