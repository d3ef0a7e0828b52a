//! Numbers as people read them: bytes, rates, shares, durations. SI units.

use std::time::Duration;

use crate::event::Loss;

/// Units of quantities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Bits instead of bytes.
    pub bits: bool,
    /// Prefixes of 1024 instead of 1000.
    pub binary: bool,
}

impl Units {
    /// Each, with its name in the configuration.
    pub const ALL: [(&str, Self); 4] = [
        ("bytes", Self::new(false, false)),
        ("binary", Self::new(false, true)),
        ("bits", Self::new(true, false)),
        ("binary-bits", Self::new(true, true)),
    ];

    const fn new(bits: bool, binary: bool) -> Self {
        Self { bits, binary }
    }

    /// Bytes in these units: `3.9 GB`, `3.6 GiB`, `31 Gbit`.
    pub fn bytes(self, bytes: u64) -> String {
        self.scaled(bytes as f64, 10.0, ["B", "bit"])
    }

    /// Bytes per second in these units.
    pub fn rate(self, bytes_per_second: f64) -> String {
        self.scaled(bytes_per_second, 100.0, ["B/s", "bit/s"])
    }

    /// Bytes that may be negative, in these units.
    pub fn signed_bytes(self, number: i64) -> String {
        let sign = if number < 0 { "-" } else { "" };
        format!("{sign}{}", self.bytes(number.unsigned_abs()))
    }

    fn scaled(self, bytes: f64, decimal_below: f64, [byte, bit]: [&str; 2]) -> String {
        let base = if self.binary { 1024.0 } else { 1000.0 };
        if self.bits {
            scaled(bytes * 8.0, base, decimal_below, bit)
        } else {
            scaled(bytes, base, decimal_below, byte)
        }
    }
}

/// Bytes: `0`, `96 B`, `3.9 GB`, `212 GB`.
pub fn bytes(bytes: u64) -> String {
    Units::default().bytes(bytes)
}

/// Bytes that may be negative.
pub fn signed_bytes(number: i64) -> String {
    Units::default().signed_bytes(number)
}

/// Bytes per second: `0`, `96 B/s`, `61.2 MB/s`, `402 kB/s`.
pub fn rate(bytes_per_second: f64) -> String {
    Units::default().rate(bytes_per_second)
}

/// A part of a whole in percent: `0%`, `99.2%`. Nothing is rounded to `0%` that is more, nor to
/// `100%` that is less.
pub fn share(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0%".to_owned();
    }
    if part >= whole {
        return "100%".to_owned();
    }
    let (part, whole) = (u128::from(part), u128::from(whole));
    let tenths = ((part * 1000 + whole / 2) / whole).min(999);
    match tenths {
        0 => "<0.1%".to_owned(),
        _ => format!("{}.{}%", tenths / 10, tenths % 10),
    }
}

/// A ratio in percent, where it need not be exact: `2.5%`, `80%`.
pub fn percent(ratio: f64) -> String {
    let percent = 100.0 * ratio;
    match percent < 10.0 && percent > 0.0 {
        true => format!("{percent:.1}%"),
        false => format!("{percent:.0}%"),
    }
}

/// What a whole has over `part` of it, in percent of that: `+4.6%`, `-0.2%`, `+130%`. If it is more
/// than three times as much, how many times: `x42`. `None` where one of them is nothing.
pub fn overhead(part: u64, whole: u64) -> Option<String> {
    if part == 0 || whole == 0 {
        return None;
    }
    let times = whole as f64 / part as f64;
    let more = times * 100.0 - 100.0;
    // Smaller numbers get a decimal.
    Some(if more.abs() < 99.95 {
        format!("{more:+.1}%")
    } else if times <= 3.0 {
        format!("{more:+.0}%")
    } else if times < 9.95 {
        format!("x{times:.1}")
    } else {
        format!("x{times:.0}")
    })
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

/// A short time: `35 µs`, `0.4 ms`, `12.0 ms`, `224 ms`.
pub fn milliseconds(time: Duration) -> String {
    match time.as_micros() {
        micros @ 1..100 => format!("{micros} µs"),
        // 99.96 would be shown as 100.0.
        99_950.. => format!("{:.0} ms", time.as_secs_f64() * 1000.0),
        _ => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
    }
}

/// A number of things: `1 flow`, `3 flows`.
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Things to choose among: `a, b or c`.
pub fn one_of(names: &[&str]) -> String {
    match names {
        [names @ .., last] if !names.is_empty() => format!("{} or {last}", names.join(", ")),
        _ => names.concat(),
    }
}

/// A number of things, shortened: `1 packet`, `1.1k packets`.
pub fn short_count_of(number: u64, one: &str, many: &str) -> String {
    let count = short_count(usize::try_from(number).unwrap_or(usize::MAX));
    format!("{count} {}", if number == 1 { one } else { many })
}

/// A number of things in at most four characters: `812`, `1.2k`, `31k`.
pub fn short_count(number: usize) -> String {
    if number < 1000 {
        return number.to_string();
    }
    scaled(number as f64, 1000.0, 10.0, "").replace(' ', "")
}

/// How a process ended, from what `wait(2)` says: `code 0`, `signal 9`.
pub fn exit_status(status: Option<u32>) -> String {
    let Some(status) = status else {
        return "unknown how".to_owned();
    };
    match status & 0x7f {
        0 => format!("code {}", status >> 8 & 0xff),
        signal => format!("signal {signal}"),
    }
}

/// What was lost.
pub const fn loss(cause: Loss) -> &'static str {
    match cause {
        Loss::RingTraffic => "records of traffic, made up later",
        Loss::RingProcess => "records of processes",
        Loss::AppFull => "calls without a flow: table full",
        Loss::OverflowFullTx => "bytes sent without a process",
        Loss::OverflowFullRx => "bytes received without a process",
        Loss::SocketFull => "times the table of sockets was full",
        Loss::SocketFullTx => "wire bytes sent without a socket",
        Loss::SocketFullRx => "wire bytes received without a socket",
        Loss::CallFull => "calls: too many at once",
        Loss::ReadFault => "calls that could not be read",
        Loss::ReturnMissed => "calls whose return was not seen",
        Loss::Recursion => "runs of programs left out by the kernel",
    }
}

/// `number` with a prefix and `unit`, with one decimal below `decimal_below`.
fn scaled(number: f64, base: f64, decimal_below: f64, unit: &str) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if number.is_nan() || number < 0.5 {
        return "0".to_owned();
    }
    let mut number = number;
    let mut prefix = 0;
    // 999.5 would be shown as 1000.
    while number >= 999.5 && prefix + 1 < PREFIXES.len() {
        number /= base;
        prefix += 1;
    }
    let prefixes = if base > 1000.0 { BINARY } else { PREFIXES };
    let prefix_text = prefixes[prefix];
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
    fn units_of_every_kind() {
        let units = |bits, binary| Units { bits, binary };
        assert_eq!(units(true, false).rate(1_000_000.0), "8.0 Mbit/s");
        assert_eq!(units(false, true).bytes(3 << 30), "3.0 GiB");
        assert_eq!(units(true, true).bytes(128), "1.0 Kibit");
        assert_eq!(units(false, true).bytes(1023), "1.0 KiB");
        let counts = [999, 1_234, 31_400, 2_000_000].map(short_count);
        assert_eq!(counts, ["999", "1.2k", "31k", "2.0M"]);
        let packets = [1, 2_000].map(|it| short_count_of(it, "packet", "packets"));
        assert_eq!(packets, ["1 packet", "2.0k packets"]);
    }

    #[test]
    fn a_share_is_never_rounded_to_all_or_nothing() {
        assert_eq!(share(0, 0), "0%");
        assert_eq!(share(1, 1_000_000), "<0.1%");
        assert_eq!(share(999_999, 1_000_000), "99.9%");
        assert_eq!(share(7, 7), "100%");
        assert_eq!(share(u64::MAX - 1, u64::MAX), "99.9%");
    }

    #[test]
    fn overheads() {
        assert_eq!((overhead(0, 100), overhead(100, 0)), (None, None));
        assert_eq!(overhead(1000, 1046).as_deref(), Some("+4.6%"));
        assert_eq!(overhead(1000, 998).as_deref(), Some("-0.2%"));
        assert_eq!(overhead(100, 230).as_deref(), Some("+130%"));
        assert_eq!(overhead(100, 330).as_deref(), Some("x3.3"));
        assert_eq!(overhead(100, 4212).as_deref(), Some("x42"));
        assert_eq!(overhead(7, 7).as_deref(), Some("+0.0%"));
    }

    #[test]
    fn short_times_are_never_nothing() {
        let text = |micros| milliseconds(Duration::from_micros(micros));
        assert_eq!((text(1), text(99)), ("1 µs".into(), "99 µs".into()));
        assert_eq!(
            (text(100), text(12_000)),
            ("0.1 ms".into(), "12.0 ms".into())
        );
        assert_eq!(text(0), "0.0 ms");
        assert_eq!(text(99_940), "99.9 ms");
        assert_eq!(
            (text(99_960), text(224_400)),
            ("100 ms".into(), "224 ms".into())
        );
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
