//! The log of recent events.

use std::{collections::VecDeque, sync::Arc};

use super::{
    filter::Filter,
    selection::{EventTypes, Selection},
};
use crate::{
    event::Instant,
    model::{
        change::{Change, TimedChange},
        snapshot::{Flow, Process},
    },
};

/// The most events.
const EVENTS: usize = 10_000;

/// The latest events, without those that report only grown numbers.
#[derive(Clone, Debug, Default)]
pub struct Log {
    events: VecDeque<Arc<Logged>>,
    /// Number of the next event.
    next: u64,
}

/// An event of the log.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Counts up, without gaps.
    pub number: u64,
    /// Time of day.
    pub time: String,
    pub what: What,
}

/// The content of an event.
#[derive(Clone, Debug)]
pub enum What {
    Change(Change),
    /// A process has reached the alert threshold.
    Alert(Arc<Process>),
}

impl Logged {
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
    /// Takes changes, in order. `time_of_day` writes a moment for people.
    pub fn take(&mut self, changes: Vec<TimedChange>, time_of_day: &dyn Fn(Instant) -> String) {
        let notable = |it: &TimedChange| it.change.is_notable();
        let changes: Vec<TimedChange> = changes.into_iter().filter(notable).collect();
        // Only as many as are kept get their time written.
        let skipped = changes.len().saturating_sub(EVENTS);
        self.next += skipped as u64;
        for TimedChange { time, change } in changes.into_iter().skip(skipped) {
            self.push(time_of_day(time), What::Change(change));
        }
    }

    /// Takes an alert: this process reached the threshold at this time of day.
    pub fn alert(&mut self, time: String, process: Arc<Process>) {
        self.push(time, What::Alert(process));
    }

    fn push(&mut self, time: String, what: What) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Arc::new(Logged {
            number: self.next,
            time,
            what,
        }));
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
    pub fn passing(&self, filter: &Filter) -> impl Iterator<Item = &Arc<Logged>> {
        let selection = Selection {
            filter: filter.clone(),
            types: EventTypes::all(),
        };
        self.events.iter().filter(move |event| match &event.what {
            What::Change(change) => selection.wants(change),
            What::Alert(process) => selection.filter.process_verdict(process) == Some(true),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::Loss, query::fixture};

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
        let mut log = Log::default();
        log.take((0..EVENTS as u64 + 5).map(lost).collect(), &|_| {
            String::new()
        });
        log.take(vec![lost(1)], &|time| time.0.to_string());
        assert_eq!(log.len(), EVENTS);
        let last = log.events.back().unwrap();
        assert_eq!((last.number, last.time.as_str()), (EVENTS as u64 + 5, "1"));
    }

    #[test]
    fn what_only_grew_is_no_event_and_the_filter_chooses() {
        let curl = fixture::process(1, "/bin/curl", &[]);
        let flow = Arc::new(fixture::flow(1, &curl, "10.0.0.2:1", Some("10.0.0.3:80")));
        let timed = |change| TimedChange {
            time: Instant(0),
            change,
        };
        let mut log = Log::default();
        let changes = vec![
            timed(Change::FlowOpened(Arc::clone(&flow))),
            timed(Change::FlowUpdated(flow)),
            timed(Change::ProcessExec(Arc::clone(&curl))),
            timed(Change::ProcessExit {
                process: curl,
                status: None,
            }),
        ];
        log.take(changes, &|_| String::new());
        assert_eq!(log.len(), 1);
        assert_eq!(log.passing(&Filter::all()).count(), 1);
        let other = Filter::parse("port 443", &|_| None).unwrap();
        assert_eq!(log.passing(&other).count(), 0);
    }
}
