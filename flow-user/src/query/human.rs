//! Numbers as people read them: bytes, rates, shares, durations. SI units.

use std::time::Duration;

/// Bytes: `0`, `96 B`, `3.9 GB`, `212 GB`.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, 10.0, "B")
}

/// Bytes that may be negative.
pub fn signed_bytes(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", bytes(number.unsigned_abs()))
}

/// Bytes per second: `0`, `96 B/s`, `61.2 MB/s`, `402 kB/s`.
pub fn rate(bytes_per_second: f64) -> String {
    scaled(bytes_per_second, 100.0, "B/s")
}

/// A part of a whole in percent: `0 %`, `99.2 %`. Nothing is rounded to `0 %` that is more, nor to
/// `100 %` that is less.
pub fn share(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0 %".to_owned();
    }
    if part >= whole {
        return "100 %".to_owned();
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole);
    match tenths {
        0 => "<0.1 %".to_owned(),
        _ => format!("{}.{} %", tenths / 10, tenths % 10),
    }
}

/// A duration, its largest unit only: `850 ms`, `12 s`, `5 min`, `3 h`, `4 d`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.subsec_millis()),
        1..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A number of things: `1 flow`, `3 flows`.
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// `number` with a prefix of SI and `unit`, with one decimal below `decimal_below`.
fn scaled(number: f64, decimal_below: f64, unit: &str) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    if number.is_nan() || number < 0.5 {
        return "0".to_owned();
    }
    let mut number = number;
    let mut prefix = 0;
    // 999.5 would be shown as 1000.
    while number >= 999.5 && prefix + 1 < PREFIXES.len() {
        number /= 1000.0;
        prefix += 1;
    }
    let prefix_text = PREFIXES[prefix];
    // 9.96 would be shown as 10.0.
    if prefix > 0 && number < decimal_below - 0.05 {
        format!("{number:.1} {prefix_text}{unit}")
    } else {
        format!("{number:.0} {prefix_text}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_every_size() {
        for (number, text) in [
            (0, "0"),
            (96, "96 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (9_960, "10 kB"),
            (90_400, "90 kB"),
            (999_499, "999 kB"),
            (999_600, "1.0 MB"),
            (212_000_000_000, "212 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(bytes(number), text, "{number}");
        }
        assert_eq!(signed_bytes(i64::MIN), "-9.2 EB");
    }

    #[test]
    fn rates_keep_a_decimal_longer() {
        for (number, text) in [
            (0.0, "0"),
            (0.2, "0"),
            (96.4, "96 B/s"),
            (61_200_000.0, "61.2 MB/s"),
            (99_960.0, "100 kB/s"),
            (402_000.0, "402 kB/s"),
            (f64::NAN, "0"),
            (f64::INFINITY, "inf EB/s"),
        ] {
            assert_eq!(rate(number), text, "{number}");
        }
    }

    #[test]
    fn a_share_is_never_rounded_to_all_or_nothing() {
        assert_eq!(share(0, 0), "0 %");
        assert_eq!(share(1, 1_000_000), "<0.1 %");
        assert_eq!(share(999_999, 1_000_000), "99.9 %");
        assert_eq!(share(7, 7), "100 %");
        assert_eq!(share(u64::MAX - 1, u64::MAX), "99.9 %");
    }

    #[test]
    fn durations() {
        for (milliseconds, text) in [
            (850, "850 ms"),
            (12_000, "12 s"),
            (300_000, "5 min"),
            (4 * 86_400_000, "4 d"),
        ] {
            assert_eq!(duration(Duration::from_millis(milliseconds)), text);
        }
    }
}
