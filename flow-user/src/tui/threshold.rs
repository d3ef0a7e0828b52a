//! The alert threshold: the rate from which on a row is marked.

use crate::model::snapshot::Rate;

/// The rate, both directions together, in bytes per second; none at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Threshold(Option<u64>);

/// The steps of the key.
const STEPS: [Option<u64>; 5] = [
    None,
    Some(100_000),
    Some(1_000_000),
    Some(10_000_000),
    Some(100_000_000),
];

impl Threshold {
    /// So many bytes per second.
    pub fn of(rate: Option<u64>) -> Self {
        Self(rate)
    }

    /// The next higher step; none after the highest.
    pub fn next(self) -> Self {
        let mut steps = STEPS.into_iter();
        Self(steps.find(|step| *step > self.0).flatten())
    }

    /// The setting that makes it.
    pub fn setting(self) -> Option<u64> {
        self.0
    }

    /// Bytes per second, if there is a threshold.
    pub fn rate(self) -> Option<f64> {
        self.0.map(|rate| rate as f64)
    }

    /// Whether a rate reaches it.
    pub fn is_reached(self, rate: Rate) -> bool {
        self.rate().is_some_and(|least| rate.tx + rate.rx >= least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_reached_by_both_ways_together_and_goes_round() {
        let rate = Rate {
            tx: 40_000.0,
            rx: 60_000.0,
        };
        let mut threshold = Threshold::default();
        let mut reached = Vec::new();
        for _ in STEPS {
            reached.push(threshold.is_reached(rate));
            threshold = threshold.next();
        }
        assert_eq!(reached, [false, true, false, false, false]);
        assert_eq!(threshold, Threshold::default());
        // One of the user's own goes to the next of them.
        assert_eq!(Threshold::of(Some(150_000)).next().rate(), Some(1e6));
        assert_eq!(Threshold::of(Some(u64::MAX)).next(), Threshold::default());
    }
}
