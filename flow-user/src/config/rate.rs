//! Notation of rates in the configuration: `10 MB/s`, `500 kB/s`, `100 Mbit/s`, `off`.

use super::time::scaled;

/// A unit of bytes per second, and how many it is.
const UNITS: [(&str, u64); 11] = [
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
    ("KB", 1_000),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("Gbit", 125_000_000),
    ("Mbit", 125_000),
    ("kbit", 125),
];
/// Those in which a rate is written, the largest first.
const WRITTEN: usize = 4;
const OFF: &str = "off";

/// Reads bytes per second; `None` is `off`.
///
/// # Errors
/// It is neither.
pub(super) fn rate(text: &str) -> Result<Option<u64>, String> {
    const EXPECTED: &str = "expected off or a number and B/s, kB/s, MB/s, GB/s, KiB/s, MiB/s, GiB/s, kbit/s, Mbit/s or Gbit/s, such as 10 MB/s";
    if text == OFF {
        return Ok(None);
    }
    let (number, unit) = text.split_at(
        text.find(|character: char| !character.is_ascii_digit() && character != '.')
            .unwrap_or(text.len()),
    );
    let unit = unit.trim_start();
    let unit = unit.strip_suffix("/s").unwrap_or(unit);
    let bytes = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .and_then(|(_, scale)| scaled(number, u128::from(*scale)))
        .and_then(|bytes| u64::try_from(bytes).ok())
        .ok_or_else(|| EXPECTED.to_owned())?;
    Ok((bytes > 0).then_some(bytes))
}

/// A rate as [`rate`] reads it, to the byte.
pub(super) fn written(rate: Option<u64>) -> String {
    let Some(bytes) = rate else {
        return OFF.to_owned();
    };
    let whole = UNITS[..WRITTEN]
        .iter()
        .find(|(_, scale)| bytes.is_multiple_of(*scale));
    let (unit, scale) = whole.copied().unwrap_or(("B", 1));
    format!("{} {unit}/s", bytes / scale)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_have_units() {
        for (text, bytes) in [
            ("off", None),
            ("0 B/s", None),
            ("10 MB/s", Some(10_000_000)),
            ("1.5MB", Some(1_500_000)),
            ("8 kbit/s", Some(1_000)),
            ("1 KiB/s", Some(1_024)),
        ] {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "10",
            "10 mb/s",
            "-1 B/s",
            "99999999999 GB/s",
            "B/s",
            "on",
        ] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert_eq!(written(Some(1_500_000)), "1500 kB/s");
    }

    proptest! {
        #[test]
        fn a_rate_is_read_as_it_is_written(bytes: u64) {
            for rated in [Some(bytes.max(1)), Some(bytes / 2_000_000 * 1_000_000 + 1_000_000), None] {
                prop_assert_eq!(rate(&written(rated)), Ok(rated));
            }
        }
    }
}
