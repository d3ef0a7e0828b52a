//! Time since boot -> time of day.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::Instant;

/// When the machine booted, by the wall clock. One value serves a whole stream, so that the same
/// moment is always written the same way, even while the wall clock is being set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    pub boot: Timestamp,
}

impl Clock {
    /// The wall clock's time of `instant`.
    pub fn timestamp(&self, instant: Instant) -> Timestamp {
        let since_boot = SignedDuration::from_secs((instant.0 / 1_000_000_000).cast_signed())
            + SignedDuration::from_nanos((instant.0 % 1_000_000_000).cast_signed());
        self.boot.checked_add(since_boot).unwrap_or(Timestamp::MAX)
    }

    /// RFC 3339 in UTC with nanoseconds.
    pub fn rfc3339(&self, instant: Instant) -> String {
        format!("{:.9}", self.timestamp(instant))
    }

    /// Time of day with milliseconds, in `zone`.
    pub fn time_of_day(&self, instant: Instant, zone: &TimeZone) -> String {
        time_of_day(self.timestamp(instant), zone)
    }
}

/// Time of day with milliseconds, in `zone`.
pub fn time_of_day(time: Timestamp, zone: &TimeZone) -> String {
    let zoned = time.to_zoned(zone.clone());
    zoned.strftime("%H:%M:%S%.3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_are_kept_and_always_written() {
        let clock = Clock {
            boot: "2026-05-01T10:00:00.000000001Z".parse().unwrap(),
        };
        assert_eq!(
            clock.rfc3339(Instant(1_500_000_000)),
            "2026-05-01T10:00:01.500000001Z"
        );
        assert_eq!(
            clock.rfc3339(Instant(999_999_999)),
            "2026-05-01T10:00:01.000000000Z"
        );
        assert!(clock.rfc3339(Instant(u64::MAX)).ends_with('Z'));
        assert_eq!(
            clock.time_of_day(
                Instant(1_234_000_000),
                &TimeZone::fixed(jiff::tz::offset(2))
            ),
            "12:00:01.234"
        );
    }
}
