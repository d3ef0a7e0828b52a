//! The last minutes of rates and round trip times.
//!
//! Of the sum, of each interface, and of each process and flow that moved bytes lately or is open in
//! a detail; of a group of processes or flows only while it is. The number of tracks is bounded.

mod steps;

use std::{hash::Hash, time::Duration};

use foldhash::HashMap;

use self::steps::STEPS;
pub use self::steps::{Sample, Span, Steps};
use super::{entry::Id, members::Members};
use crate::{
    event::{Instant, ProcessId},
    model::snapshot::{FlowKey, Interface, Rate, Snapshot},
    room::Room as _,
};

/// Seconds kept of the sum.
pub const SECONDS: usize = 600;
/// The most tracks; each takes some 2 kB.
const PROCESSES: usize = 4096;
const FLOWS: usize = 2048;
const INTERFACES: usize = 256;
/// A track without traffic for so long is dropped; earlier where others need its room.
const IDLE: Duration = Duration::from_secs(600);
const IDLE_IN_THE_WAY: Duration = Duration::from_secs(60);
/// The end of a row is known at the next snapshot, whatever the interval.
const HEARD_WITHIN: Duration = Duration::from_secs(60);

/// Rows in open details: they are kept whatever they move.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    pub processes: Vec<ProcessId>,
    pub flows: Vec<FlowKey>,
    pub interfaces: Vec<u32>,
    pub groups: Vec<Members>,
}

/// The past.
#[derive(Clone, Debug)]
pub struct History {
    total: Steps,
    processes: Tracks<ProcessId>,
    flows: Tracks<FlowKey>,
    interfaces: Tracks<u32>,
    /// Those that are watched.
    groups: HashMap<Id, Track>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            total: Steps::new(1, SECONDS),
            processes: Tracks::new(PROCESSES),
            flows: Tracks::new(FLOWS),
            interfaces: Tracks::new(INTERFACES),
            groups: HashMap::default(),
        }
    }
}

impl History {
    /// Takes the measurements of a snapshot. Snapshots come in order of time.
    pub fn remember(&mut self, snapshot: &Snapshot, watched: &Watched) {
        let time = snapshot.time;
        self.total.push(time, Sample::of(snapshot.totals.rate));
        let processes = snapshot.processes.iter().map(|process| Seen {
            key: process.id,
            sample: Sample::of(process.rate),
            ended: process.exited,
        });
        self.processes.take(time, processes, &watched.processes);
        let flows = snapshot.flows.iter().map(|flow| Seen {
            key: flow.key,
            sample: Sample::of_flow(flow),
            ended: flow.closed.map(|(closed, _)| closed),
        });
        self.flows.take(time, flows, &watched.flows);
        let interfaces = snapshot.interfaces.iter().map(|interface| Seen {
            key: interface.ifindex,
            sample: Sample::of(frames_of(interface)),
            ended: None,
        });
        self.interfaces.take(time, interfaces, &watched.interfaces);
        let is_watched = |id: &Id| watched.groups.iter().any(|group| group.id() == *id);
        self.groups.retain(|id, _| is_watched(id));
        self.groups.give_back();
        for group in &watched.groups {
            match self.groups.get_mut(&group.id()) {
                Some(track) => track.push(time, Sample::of(group.rate(snapshot))),
                None => self.begin(group, snapshot),
            }
        }
    }

    /// Begins the track of a group with what is known of its members.
    pub fn begin(&mut self, group: &Members, snapshot: &Snapshot) {
        let tracks: Vec<&Track> = match group.are_flows() {
            true => {
                let flows = snapshot.flows.iter();
                let members = flows.filter(|flow| group.have_flow(flow));
                members.filter_map(|flow| self.flow(flow.key)).collect()
            }
            false => {
                let processes = snapshot.processes.iter();
                let members = processes.filter(|process| group.have_process(process));
                members.filter_map(|it| self.process(it.id)).collect()
            }
        };
        let track = Track::together(snapshot.time, &tracks, Sample::of(group.rate(snapshot)));
        self.groups.entry(group.id()).or_insert(track);
    }

    /// Of the sum, by the second.
    pub fn total(&self) -> &Steps {
        &self.total
    }

    /// Of a process, if it has a track.
    pub fn process(&self, id: ProcessId) -> Option<&Track> {
        self.processes.tracks.get(&id)
    }

    /// Of a flow, if it has a track.
    pub fn flow(&self, key: FlowKey) -> Option<&Track> {
        self.flows.tracks.get(&key)
    }

    /// Of an interface, if it has a track: frame bytes.
    pub fn interface(&self, ifindex: u32) -> Option<&Track> {
        self.interfaces.tracks.get(&ifindex)
    }

    /// Of a group, while it is watched.
    pub fn group(&self, group: &Members) -> Option<&Track> {
        self.groups.get(&group.id())
    }
}

/// What an interface moves; one that is gone moves nothing.
fn frames_of(interface: &Interface) -> Rate {
    match interface.gone {
        Some(_) => Rate::default(),
        None => interface.rate,
    }
}

/// The track of one row; an ended one gets no more samples.
#[derive(Clone, Debug)]
pub struct Track {
    seconds: Steps,
    tens: Steps,
    moved: Instant,
    last: Instant,
    over: bool,
    /// Segments that were sent again by the last sample.
    again: Option<f64>,
}

impl Track {
    fn new(time: Instant) -> Self {
        Self {
            seconds: Steps::new(1, STEPS),
            tens: Steps::new(10, STEPS),
            moved: time,
            last: time,
            over: false,
            again: None,
        }
    }

    /// The sum of tracks up to a moment, with its last sample.
    fn together(time: Instant, tracks: &[&Self], last: Sample) -> Self {
        let steps = |of: fn(&Self) -> &Steps| {
            let parts = tracks.iter().map(|track| of(track).until(time, STEPS));
            steps::sum(parts)
        };
        let mut track = Self::new(time);
        track.seconds.fill(time, steps(|track| &track.seconds));
        track.tens.fill(time, steps(|track| &track.tens));
        track.push(time, last);
        track
    }

    fn push(&mut self, time: Instant, sample: Sample) {
        let sample = self.since_last(sample);
        self.seconds.push(time, sample);
        self.tens.push(time, sample);
        self.last = time;
        if sample.moves() {
            self.moved = time;
        }
    }

    /// A sample with the segments that were sent again since the last one. What came before the
    /// first is not of its time.
    fn since_last(&mut self, sample: Sample) -> Sample {
        let now = f64::from(sample.again);
        let before = self.again.replace(now).unwrap_or(now);
        Sample {
            again: (now - before).max(0.0) as f32,
            ..sample
        }
    }

    /// It moved nothing since the last sample.
    fn pause(&mut self, time: Instant) {
        let rtt = self.seconds.values.last().map_or(0.0, |last| last.rtt);
        let still = Sample {
            rtt,
            again: self.again.map_or(0.0, |again| again as f32),
            ..Sample::default()
        };
        self.push(time, still);
    }

    /// The seconds before a moment; an ended row is zero since its end.
    pub fn until(&self, time: Instant, seconds: usize) -> Vec<Sample> {
        self.seconds.until(time, seconds)
    }

    /// The steps of a graph, up to now; of an ended row, up to its end.
    pub fn span(&self, span: Span) -> Vec<Sample> {
        let steps = match span {
            Span::TenSeconds | Span::Minute => &self.seconds,
            Span::TenMinutes => &self.tens,
        };
        steps.until(self.last, span.steps())
    }
}

/// Tracks of rows of one kind.
#[derive(Clone, Debug)]
struct Tracks<K> {
    tracks: HashMap<K, Track>,
    most: usize,
}

/// One of them in a snapshot.
struct Seen<K> {
    key: K,
    sample: Sample,
    ended: Option<Instant>,
}

impl<K: Copy + Eq + Hash> Tracks<K> {
    fn new(most: usize) -> Self {
        Self {
            tracks: HashMap::default(),
            most,
        }
    }

    fn take(&mut self, time: Instant, seen: impl Iterator<Item = Seen<K>>, watched: &[K]) {
        let mut cleared = false;
        for Seen { key, sample, ended } in seen {
            // Most rows are still: they are not even looked up.
            let ends = ended.is_some_and(|ended| time.since(ended) < HEARD_WITHIN);
            let is_watched = watched.contains(&key);
            if !(sample.moves() || ends || is_watched) {
                continue;
            }
            if let Some(track) = self.tracks.get_mut(&key) {
                if !track.over {
                    track.push(time, sample);
                    track.over = ended.is_some();
                }
                continue;
            }
            if self.tracks.len() >= self.most && !std::mem::replace(&mut cleared, true) {
                self.forget(time, IDLE_IN_THE_WAY, watched);
            }
            if is_watched || (self.tracks.len() < self.most && sample.moves()) {
                let mut track = Track::new(time);
                track.push(time, sample);
                track.over = ended.is_some();
                self.tracks.insert(key, track);
            }
        }
        for track in self.tracks.values_mut() {
            if track.last != time && !track.over {
                track.pause(time);
            }
        }
        self.forget(time, IDLE, watched);
    }

    fn forget(&mut self, time: Instant, idle: Duration, watched: &[K]) {
        self.tracks
            .retain(|key, track| time.since(track.moved) < idle || watched.contains(key));
        self.tracks.give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use strum::IntoEnumIterator as _;

    use super::*;
    use crate::{
        event::TcpFacts,
        model::snapshot::Process,
        query::{
            fixture,
            groups::{By, Label},
        },
    };

    /// Of one process for each rate, at this time.
    fn at(milliseconds: u64, rates: &[f64]) -> Snapshot {
        let process = |(pid, rate): (u32, &f64)| {
            let mut process = Process::clone(&fixture::process(pid, "/bin/a", &[]));
            process.rate = Rate { tx: 0.0, rx: *rate };
            Arc::new(process)
        };
        let processes = (1..).zip(rates).map(process).collect();
        let mut snapshot = fixture::snapshot(processes, Vec::new(), Vec::new());
        snapshot.time = Instant(milliseconds * 1_000_000);
        snapshot
    }

    fn id(pid: u32) -> ProcessId {
        fixture::process(pid, "/bin/a", &[]).id
    }

    fn received(samples: Vec<Sample>) -> Vec<f32> {
        samples.iter().map(|sample| sample.rx).collect()
    }

    #[test]
    fn one_sample_for_each_second_whatever_the_interval() {
        let mut history = History::default();
        let last = Instant(5_100_000_000);
        for (time, rate) in [(1_000, 1.0), (1_500, 2.0), (2_000, 3.0), (5_100, 4.0)] {
            history.remember(&at(time, &[rate]), &Watched::default());
        }
        let all = history.total().until(last, SECONDS);
        assert_eq!(received(all), [2.0, 3.0, 4.0, 4.0, 4.0]);
        let track = history.process(id(1)).unwrap();
        assert_eq!(received(track.until(Instant(3_900_000_000), 2)), [3.0, 4.0]);
        let later = track.until(Instant(7_000_000_000), 3);
        assert_eq!(received(later), [4.0, 0.0, 0.0]);
        assert_eq!(received(track.until(Instant(90_000_000_000), 2)), [0.0; 2]);
        assert_eq!(received(track.span(Span::TenMinutes)), [4.0]);
    }

    #[test]
    fn each_span_has_its_steps_and_no_more() {
        let mut history = History::default();
        for second in 0..2_000 {
            history.remember(&at(second * 1_000, &[second as f64]), &Watched::default());
        }
        let track = history.process(id(1)).unwrap();
        let spans = Span::iter().map(|span| received(track.span(span)));
        let spans: Vec<_> = spans.collect();
        assert_eq!(
            spans[0],
            [
                1990., 1991., 1992., 1993., 1994., 1995., 1996., 1997., 1998., 1999.
            ]
        );
        assert_eq!((spans[1].len(), spans[1][0]), (60, 1940.0));
        assert_eq!(
            (spans[2].len(), spans[2][0], spans[2][59]),
            (60, 1409.0, 1999.0)
        );
    }

    #[test]
    fn who_is_still_for_long_is_forgotten_unless_it_is_looked_at() {
        let mut history = History::default();
        let watched = Watched {
            processes: vec![id(2), id(3)],
            ..Watched::default()
        };
        history.remember(&at(1_000, &[1.0, 1.0, 0.0, 0.0]), &watched);
        assert!(history.process(id(3)).is_some());
        assert!(history.process(id(4)).is_none(), "it never moved");
        history.remember(&at(300_000, &[0.0; 4]), &watched);
        assert_eq!(
            received(history.process(id(1)).unwrap().span(Span::Minute)),
            [0.0; 60]
        );
        history.remember(&at(601_000, &[0.0; 4]), &watched);
        assert!(history.process(id(1)).is_none());
        assert!(history.process(id(2)).is_some());
    }

    #[test]
    fn what_is_over_keeps_its_last_graph() {
        let mut history = History::default();
        history.remember(&at(1_000, &[5.0]), &Watched::default());
        let mut ended = at(2_000, &[6.0]);
        let mut process = Process::clone(&ended.processes[0]);
        process.exited = Some(Instant(1_500_000_000));
        ended.processes = vec![Arc::new(process)];
        history.remember(&ended, &Watched::default());
        history.remember(&at(20_000, &[]), &Watched::default());
        let track = history.process(id(1)).unwrap();
        assert_eq!(received(track.span(Span::TenSeconds)), [5.0, 6.0]);
        assert_eq!(received(track.until(Instant(20_000_000_000), 2)), [0.0; 2]);
    }

    /// The only flow, which has sent so many segments again by this time.
    fn again_at(seconds: u64, retransmits: u32) -> Snapshot {
        let process = fixture::process(1, "/bin/a", &[]);
        let mut flow = fixture::flow(1, &process, "10.0.0.2:1", Some("10.0.0.9:80"));
        flow.tcp = Some(TcpFacts {
            retransmits,
            ..TcpFacts::default()
        });
        let mut snapshot = fixture::snapshot(vec![process], vec![flow], Vec::new());
        snapshot.time = Instant(seconds * 1_000_000_000);
        snapshot
    }

    #[test]
    fn segments_sent_again_are_counted_in_the_step_they_were_seen_in() {
        let mut history = History::default();
        for (seconds, retransmits) in [(100, 40), (101, 40), (102, 43), (106, 45), (109, 45)] {
            history.remember(&again_at(seconds, retransmits), &Watched::default());
        }
        let key = again_at(0, 0).flows[0].key;
        let of = |span| {
            let samples = history.flow(key).unwrap().span(span).into_iter();
            samples.map(|sample| sample.again).collect::<Vec<_>>()
        };
        // Those of before the first sample are not of its time.
        let seconds = [0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0];
        assert_eq!(of(Span::TenSeconds), seconds);
        assert_eq!(of(Span::TenMinutes), [5.0]);
    }

    #[test]
    fn a_group_begins_with_its_members_and_goes_when_nobody_looks() {
        let mut history = History::default();
        for second in 1..=5 {
            history.remember(&at(second * 1_000, &[1.0, 2.0]), &Watched::default());
        }
        let user = Members::of(By::User, &Label::User(1000, None)).unwrap();
        let watched = Watched {
            groups: vec![user.clone()],
            ..Watched::default()
        };
        history.begin(&user, &at(5_000, &[1.0, 2.0]));
        history.remember(&at(6_000, &[5.0, 0.0]), &watched);
        let of_user = history.group(&user).unwrap();
        let expected = [3.0, 3.0, 3.0, 3.0, 3.0, 5.0];
        assert_eq!(received(of_user.span(Span::Minute)), expected);
        history.remember(&at(7_000, &[5.0, 0.0]), &Watched::default());
        assert!(history.group(&user).is_none());
        assert!(history.groups.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_who_is_still_makes_room() {
        let mut history = History::default();
        let many = vec![1.0; 50_000];
        let watched = Watched {
            processes: vec![id(50_000)],
            ..Watched::default()
        };
        history.remember(&at(1_000, &many), &watched);
        assert_eq!(history.processes.tracks.len(), PROCESSES + 1);
        assert!(history.process(id(50_000)).is_some());
        // Others begin to move when those have been still for a while.
        let mut others = vec![0.0; 50_000];
        others[40_000..].fill(2.0);
        history.remember(&at(70_000, &others), &watched);
        assert!(history.process(id(40_001)).is_some());
        assert!(history.process(id(1)).is_none());
        assert!(history.processes.tracks.len() <= PROCESSES + 1);
        // Nothing is kept of a burst that is long over.
        history.remember(&at(700_000, &[]), &Watched::default());
        assert!(history.processes.tracks.capacity() < 512);
    }
}
