//! The kernel's time since boot, from inside a time namespace.
//!
//! A time namespace shifts `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC` for the processes in it.
//! `/proc/PID/stat` shifts the start of a process by the *reader's* offset
//! (`timens_add_boottime_ns` in `do_task_stat`), whatever namespace the process is in. The kernel's
//! records and tasks have the time of the initial namespace, and so does every [`Instant`].

use std::{fs, io, path::Path, sync::OnceLock, time::Duration};

use nix::time::{ClockId, clock_gettime};

use crate::event::Instant;

/// Nanoseconds of a tick (`USER_HZ` is 100 on every machine Flow supports).
pub const TICK_NANOS: u64 = 10_000_000;
/// The inode number of the initial time namespace (`PROC_TIME_INIT_INO`).
const INITIAL: &str = "time:[4026531834]";

/// How far a time namespace is ahead of the initial one, in nanoseconds; negative if it is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift(i64);

/// Time since boot, sleep included: the clock of the kernel's records.
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Shift::own().to_initial(nanos)
}

impl Shift {
    /// The shift of Flow's own time namespace, which a process with threads cannot leave.
    pub fn own() -> Self {
        static OWN: OnceLock<Shift> = OnceLock::new();
        *OWN.get_or_init(|| {
            Self::read(Path::new("/proc/self")).unwrap_or_else(|error| {
                log::debug!("cannot read the offsets of the time namespace: {error}");
                Self::default()
            })
        })
    }

    fn read(process: &Path) -> io::Result<Self> {
        let own = fs::read_link(process.join("ns/time"))?;
        if own.as_os_str() == INITIAL {
            return Ok(Self::default());
        }
        // The file has the offsets of the namespace that children will be in
        // (`proc_timens_show_offsets`).
        if own != fs::read_link(process.join("ns/time_for_children"))? {
            log::warn!(
                "cannot read the offset of this time namespace: start times are shifted by it"
            );
            return Ok(Self::default());
        }
        let text = fs::read(process.join("timens_offsets"))?;
        Self::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Lines such as `boottime  100000  0`: the clock, seconds, nanoseconds.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("boottime"))?;
        let mut fields = line.split_ascii_whitespace();
        let seconds: i64 = fields.next()?.parse().ok()?;
        let nanos: i64 = fields.next()?.parse().ok()?;
        let whole = seconds.checked_mul(1_000_000_000)?;
        Some(Self(whole.checked_add(nanos)?))
    }

    /// Converts a time of this namespace's clock to the initial namespace. Wraps as the kernel's
    /// own sums do, for times before this namespace's zero.
    const fn to_initial(self, nanos: u64) -> Instant {
        let nanos = nanos.wrapping_sub(self.0.cast_unsigned());
        Instant(if nanos.cast_signed() < 0 { 0 } else { nanos })
    }

    /// Converts a start in ticks, as `/proc/PID/stat` shows it to a reader in this namespace.
    pub const fn start_of_ticks(self, ticks: u64) -> Instant {
        self.to_initial(ticks.wrapping_mul(TICK_NANOS))
    }

    /// Rounds a start in nanoseconds, as the kernel's tasks have it, to the ticks that a reader in
    /// this namespace sees: the result is that of [`Self::start_of_ticks`] for the same process.
    pub const fn start_of_nanos(self, boottime: u64) -> Instant {
        let shown = boottime.wrapping_add(self.0.cast_unsigned());
        self.start_of_ticks(shown / TICK_NANOS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn offsets_are_read_from_their_lines() {
        let parse = |text: &str| Shift::parse(text.as_bytes());
        let shift = parse("monotonic           7         0\nboottime       100000         5\n");
        assert_eq!(shift, Some(Shift(100_000_000_000_005)));
        let behind = parse("monotonic 0 0\nboottime -3 500000000\n");
        assert_eq!(behind, Some(Shift(-2_500_000_000)));
        assert_eq!(parse("monotonic 0 0\n"), None);
        assert_eq!(parse("boottime x 0\n"), None);
        assert_eq!(parse("boottime 9223372036854775807 0\n"), None);
    }

    #[test]
    fn starts_are_those_of_the_initial_namespace() {
        let ahead = Shift(100_000_000_000_000);
        // Started 12.34 s after boot, which `/proc` shows as 100012.34 s.
        assert_eq!(
            ahead.start_of_nanos(12_345_678_901),
            Instant(12_340_000_000)
        );
        assert_eq!(ahead.start_of_ticks(10_001_234), Instant(12_340_000_000));
        let none = Shift::default();
        assert_eq!(none.start_of_nanos(1_239_999_999), Instant(1_230_000_000));
        assert_eq!(none.start_of_nanos(9), Instant(0));
    }

    proptest! {
        /// Computes ticks as the kernel does, for any offset.
        #[test]
        fn a_process_has_one_start(boottime in 0..1_u64 << 60, shift in -(1_i64 << 60)..1_i64 << 60) {
            let ticks = boottime.wrapping_add(shift.cast_unsigned()) / TICK_NANOS;
            let shift = Shift(shift);
            prop_assert_eq!(shift.start_of_ticks(ticks), shift.start_of_nanos(boottime));
            let start = shift.start_of_nanos(boottime).0;
            prop_assert!(start <= boottime && boottime - start < TICK_NANOS);
        }

        #[test]
        fn any_text_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Shift::parse(&text);
        }
    }
}
