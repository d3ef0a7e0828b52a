//! Bytes per second, from totals and the time between ticks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::snapshot::Rate;
use crate::event::Bytes;

/// Remembers the totals of the last tick.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Meter {
    tx: Bytes,
    rx: Bytes,
}

impl Meter {
    /// A meter whose next rate counts only what comes beyond these totals.
    pub(super) fn starting_at(tx: Bytes, rx: Bytes) -> Self {
        Self { tx, rx }
    }

    /// The rate since the last tick. `elapsed` must not be zero.
    pub(super) fn tick(&mut self, tx: Bytes, rx: Bytes, elapsed: Duration) -> Rate {
        let seconds = elapsed.as_secs_f64();
        let rate = Rate {
            tx: tx.since(self.tx).0 as f64 / seconds,
            rx: rx.since(self.rx).0 as f64 / seconds,
        };
        *self = Self { tx, rx };
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_bytes_over_the_real_time_between_ticks() {
        let mut meter = Meter::default();
        let rate = meter.tick(Bytes(500), Bytes(100), Duration::from_millis(500));
        assert_eq!(
            rate,
            Rate {
                tx: 1000.0,
                rx: 200.0
            }
        );
        let rate = meter.tick(Bytes(500), Bytes(400), Duration::from_secs(3));
        assert_eq!(rate, Rate { tx: 0.0, rx: 100.0 });
    }

    #[test]
    fn totals_that_fell_are_a_rate_of_zero() {
        let mut meter = Meter::starting_at(Bytes(500), Bytes(0));
        let rate = meter.tick(Bytes(3), Bytes(0), Duration::from_secs(1));
        assert_eq!(rate, Rate::default());
    }
}
