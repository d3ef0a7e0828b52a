//! Samples of one row in steps of the same length, and the span of a graph of them.

use smallvec::SmallVec;

use crate::{
    event::Instant,
    model::snapshot::{Flow, Rate},
};

/// Steps of one second, and of ten, remembered of each process and flow.
pub(super) const STEPS: usize = 60;

/// The measurements of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Bytes per second.
    pub tx: f32,
    pub rx: f32,
    /// Smoothed round trip time in seconds; zero where it is unknown.
    pub rtt: f32,
    /// Segments sent again in the time of the step; in what is measured, since the beginning.
    pub again: f32,
}

impl Sample {
    pub(super) fn of(rate: Rate) -> Self {
        Self {
            tx: rate.tx as f32,
            rx: rate.rx as f32,
            ..Self::default()
        }
    }

    pub(super) fn of_flow(flow: &Flow) -> Self {
        let rtt = flow.tcp.and_then(|tcp| tcp.rtt);
        Self {
            rtt: rtt.map_or(0.0, |rtt| rtt.duration().as_secs_f32()),
            again: flow.retransmits().map_or(0.0, |again| again as f32),
            ..Self::of(flow.rate)
        }
    }

    pub(super) fn moves(self) -> bool {
        self.tx + self.rx > 0.0
    }

    /// The larger of each; what is counted adds up.
    fn most(self, other: Self) -> Self {
        Self {
            tx: self.tx.max(other.tx),
            rx: self.rx.max(other.rx),
            rtt: self.rtt.max(other.rtt),
            again: self.again + other.again,
        }
    }
}

/// The span of a graph, from the shortest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::EnumIter, strum::IntoStaticStr)]
#[strum(const_into_str)]
pub enum Span {
    #[strum(serialize = "10 s")]
    TenSeconds,
    #[default]
    #[strum(serialize = "1 min")]
    Minute,
    #[strum(serialize = "10 min")]
    TenMinutes,
}

impl Span {
    pub const fn name(self) -> &'static str {
        self.into_str()
    }

    /// The next longer one; after the longest the shortest.
    pub const fn next(self) -> Self {
        match self {
            Self::TenSeconds => Self::Minute,
            Self::Minute => Self::TenMinutes,
            Self::TenMinutes => Self::TenSeconds,
        }
    }

    /// The length of a step.
    pub const fn step(self) -> &'static str {
        match self {
            Self::TenSeconds | Self::Minute => "1 s",
            Self::TenMinutes => "10 s",
        }
    }

    /// The number of steps in a graph of this span.
    pub const fn steps(self) -> usize {
        match self {
            Self::TenSeconds => 10,
            Self::Minute | Self::TenMinutes => STEPS,
        }
    }
}

/// The sum of several rows, step by step; each ends with the latest step.
pub(super) fn sum(rows: impl Iterator<Item = Vec<Sample>>) -> Vec<Sample> {
    let mut sum: Vec<Sample> = Vec::new();
    for row in rows {
        let missing = row.len().saturating_sub(sum.len());
        sum.splice(..0, std::iter::repeat_n(Sample::default(), missing));
        for (sum, sample) in sum.iter_mut().rev().zip(row.iter().rev()) {
            sum.tx += sample.tx;
            sum.rx += sample.rx;
        }
    }
    sum
}

/// Measurements of one row in steps of the same length. A step is the largest of its measurements.
#[derive(Clone, Debug)]
pub struct Steps {
    /// Seconds of each.
    each: u64,
    most: usize,
    /// Those of short connections, which are the most, need no memory of their own.
    pub(super) values: SmallVec<[Sample; 4]>,
    /// Number of the last step, counted from boot.
    end: u64,
}

impl Steps {
    pub(super) fn new(each: u64, most: usize) -> Self {
        Self {
            each,
            most,
            values: SmallVec::new(),
            end: 0,
        }
    }

    pub(super) fn push(&mut self, time: Instant, sample: Sample) {
        let step = self.step(time);
        let passed = match self.values.last_mut() {
            None => 1,
            Some(last) if step <= self.end => {
                *last = last.most(sample);
                return;
            }
            // A longer interval: the measurement counts for each of its steps.
            Some(_) => usize::try_from(step - self.end).unwrap_or(usize::MAX),
        };
        let passed = passed.min(self.most);
        for step in 1..=passed {
            if self.values.len() == self.most {
                self.values.remove(0);
            }
            // What is counted is there once.
            let again = if step == passed { sample.again } else { 0.0 };
            self.values.push(Sample { again, ..sample });
        }
        self.end = step;
    }

    /// Begins with these, of which the last is of this moment.
    pub(super) fn fill(&mut self, time: Instant, values: Vec<Sample>) {
        self.end = self.step(time);
        self.values = values.into();
    }

    /// The last `count` steps up to a moment, the latest last. Fewer where it does not go back so
    /// far; nothing moved in those that are still to come.
    pub fn until(&self, time: Instant, count: usize) -> Vec<Sample> {
        let step = self.step(time);
        let number = |steps: u64| usize::try_from(steps).unwrap_or(usize::MAX);
        let later = number(self.end.saturating_sub(step));
        let missing = number(step.saturating_sub(self.end)).min(count);
        let end = self.values.len().saturating_sub(later);
        let start = end.saturating_sub(count - missing);
        let mut steps: Vec<Sample> = self.values[start..end].to_vec();
        steps.resize(steps.len() + missing, Sample::default());
        steps
    }

    fn step(&self, time: Instant) -> u64 {
        time.0 / 1_000_000_000 / self.each
    }
}
