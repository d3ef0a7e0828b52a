//! Notation of times on the command line and in the configuration: `250ms`, `10s`, `1.5m`, `1h`.

use std::{ops::RangeInclusive, time::Duration};

/// The shortest and the longest sampling interval.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3600);
/// Digits behind a point that are read; the rest is less than a nanosecond.
const DIGITS: usize = 14;

/// Reads a time with its unit.
///
/// # Errors
/// It is not a time, or longer than a clock can show.
pub fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a number and ms, s, m or h, such as 30s";
    let digits = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let nanoseconds: u128 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(EXPECTED.to_owned()),
    };
    let total = scaled(number, nanoseconds).ok_or_else(|| EXPECTED.to_owned())?;
    let seconds =
        u64::try_from(total / 1_000_000_000).map_err(|_| "expected a shorter time".to_owned())?;
    let rest = u32::try_from(total % 1_000_000_000).unwrap_or(0);
    Ok(Duration::new(seconds, rest))
}

/// Reads a time from 50 ms to an hour.
///
/// # Errors
/// It is none of these.
pub fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if INTERVALS.contains(&interval) {
        Ok(interval)
    } else {
        Err("expected a time from 50ms to 1h".into())
    }
}

/// As [`interval`]; a number without a unit is milliseconds, as other monitors take it.
///
/// # Errors
/// As there.
pub fn milliseconds(text: &str) -> Result<Duration, String> {
    without_unit(text, "ms")
}

/// As [`interval`]; a number without a unit is seconds, as other tops take it.
///
/// # Errors
/// As there.
pub fn seconds(text: &str) -> Result<Duration, String> {
    without_unit(text, "s")
}

/// A time as [`duration`] reads it, to the nanosecond.
pub fn written(duration: Duration) -> String {
    let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
    match nanoseconds {
        0 => format!("{seconds}s"),
        _ if seconds == 0 && nanoseconds % 1_000_000 == 0 => {
            format!("{}ms", nanoseconds / 1_000_000)
        }
        _ => {
            let text = format!("{seconds}.{nanoseconds:09}");
            format!("{}s", text.trim_end_matches('0'))
        }
    }
}

fn without_unit(text: &str, unit: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(_) => interval(&format!("{text}{unit}")),
        Err(_) => interval(text),
    }
}

/// A number with or without a point, times `scale`; what is less than one goes.
pub(super) fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let read = |digits: &str| match digits {
        "" => Some(0),
        digits => digits.parse::<u128>().ok(),
    };
    let fraction = &fraction[..fraction.len().min(DIGITS)];
    let parts = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction = read(fraction)?.checked_mul(scale)? / parts;
    read(whole)?.checked_mul(scale)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_need_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration(".5s"), Ok(Duration::from_millis(500)));
        for bad in [
            "",
            "5",
            "s",
            ".s",
            "1.2.3s",
            "5 s",
            "-1s",
            "1e300h",
            "5d",
            "99999999999999999999h",
            "340282366920938463463374607431768211456s",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(interval("1ms").is_err());
        assert_eq!(milliseconds("500"), Ok(Duration::from_millis(500)));
        assert_eq!(milliseconds("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(seconds("2"), Ok(Duration::from_secs(2)));
    }

    proptest! {
        #[test]
        fn a_time_is_read_as_it_is_written(seconds: u64, nanoseconds in 0..1_000_000_000_u32) {
            for time in [
                Duration::new(seconds, nanoseconds),
                Duration::new(seconds, nanoseconds / 1_000_000 * 1_000_000),
                Duration::new(seconds % 2, nanoseconds),
            ] {
                prop_assert_eq!(duration(&written(time)), Ok(time));
            }
        }

        #[test]
        fn no_text_breaks_it(text in "[0-9.]{0,60}(ms|s|m|h|.)") {
            let _ = duration(&text);
        }
    }
}
