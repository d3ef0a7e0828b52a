//! An interface's own counters, continued where they begin anew.
//!
//! A counter that is less than before has wrapped at 32 bits, or was reset: by its driver, or
//! because it belongs to another interface that is gone (a veth interface receives what its peer
//! sent, and its receive counter is the peer's send counter). What the interface counted between
//! the last reading and the reset cannot be read any more, but the classifier has seen it. So the
//! counter goes on from what the classifier counted since the ledger began, plus the difference
//! between the two that was there before: whatever was unexplained stays so, to the byte, and
//! nothing is added to it. What had come in and waited for its classifier at the last reading is no
//! such difference.

use super::counting::Passed;
use crate::source::interfaces::Counters;

/// A counter that was nearer to 2^32 than this and is nearer to 0 now has wrapped, if nothing else
/// shows it: without a classifier nobody knows what passed.
const NEAR_THE_EDGE: u64 = 1 << 28;
/// Where counters of 32 bits begin anew.
const EDGE: u64 = 1 << 32;
/// Bytes that may be on their way between two readings: a large buffer.
const ON_THEIR_WAY: u64 = 1 << 16;
/// Bytes that may wait for a busy CPU between an interface's counter and its classifier, at most;
/// as `BYTES_ON_THEIR_WAY` in `model/ledger.rs`.
const WAITING: i128 = 1 << 20;

/// The counters of one interface since it was first seen. None of them ever falls.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// As read last.
    read: Counters,
    /// As continued.
    counters: Counters,
    ingress: Line,
    egress: Line,
}

/// What the classifier counted since the ledger began, as the interface counts it: received, sent.
pub type Expected = [Passed; 2];

/// What is known of one direction, for when it begins anew.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// By how much the interface's counters exceed the classifier's, packets that came during the
    /// reading left out.
    latest: Difference,
    /// The same without packets that waited for the classifier.
    lasting: Difference,
    /// What was read, and how it was continued, before the last reset.
    before: Option<(Passed, Passed)>,
}

/// By how much an interface's counters exceed its classifier's.
#[derive(Clone, Copy, Debug, Default)]
struct Difference {
    bytes: i128,
    packets: i128,
}

impl Own {
    /// Counters that were just read for the first time.
    pub fn new(read: Counters) -> Self {
        Self {
            read,
            counters: read,
            ..Self::default()
        }
    }

    /// The counters, continued.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes a reading. `expected` is what the classifier has counted, if there is one.
    pub fn take(&mut self, read: Counters, expected: Option<&Expected>) {
        let before = self.read;
        let lines = [
            (Side::Ingress, &mut self.ingress),
            (Side::Egress, &mut self.egress),
        ];
        for (index, (side, line)) in lines.into_iter().enumerate() {
            let expected = expected.map(|expected| expected[index]);
            let so_far = side.of(&self.counters);
            let now = line.go_on(side.of(&before), side.of(&read), so_far, expected);
            side.set(&mut self.counters, now);
        }
        for (sum, before, now) in [
            (
                &mut self.counters.rx_errors,
                before.rx_errors,
                read.rx_errors,
            ),
            (
                &mut self.counters.rx_dropped,
                before.rx_dropped,
                read.rx_dropped,
            ),
            (
                &mut self.counters.tx_errors,
                before.tx_errors,
                read.tx_errors,
            ),
            (
                &mut self.counters.tx_dropped,
                before.tx_dropped,
                read.tx_dropped,
            ),
        ] {
            // After a reset: what was counted since.
            *sum = sum.saturating_add(now.checked_sub(before).unwrap_or(now));
        }
        self.read = read;
    }

    /// The counters of what came in are lost, and may have been read as nothing before, too: then
    /// nothing shows that they fell.
    pub fn lost(&mut self, expected: Passed) {
        let so_far = self.counters.received();
        let now = Passed {
            bytes: exceed(expected.bytes, self.ingress.lasting.bytes).max(so_far.bytes),
            packets: exceed(expected.packets, self.ingress.lasting.packets).max(so_far.packets),
        };
        Side::Ingress.set(&mut self.counters, now);
    }

    /// Notes by how much the interface's counters exceed the classifier's. `before` was counted
    /// before the last reading, `after` after it: what passed in between is no difference.
    pub fn compare(&mut self, before: &Expected, after: &Expected) {
        let lines = [
            (Side::Ingress, &mut self.ingress),
            (Side::Egress, &mut self.egress),
        ];
        for (index, (side, line)) in lines.into_iter().enumerate() {
            let own = side.of(&self.counters);
            let within = |known: i128, own: u64, before: u64, after: u64| {
                let (least, most) = (difference(own, after), difference(own, before));
                known.clamp(least.min(most), most)
            };
            let (before, after) = (before[index], after[index]);
            let latest = line.latest;
            line.latest = Difference {
                bytes: within(latest.bytes, own.bytes, before.bytes, after.bytes),
                packets: within(latest.packets, own.packets, before.packets, after.packets),
            };
            // What comes in is counted by the interface first; what goes out, by the classifier.
            let may_wait = matches!(side, Side::Ingress)
                && (0..=WAITING).contains(&(line.latest.bytes - line.lasting.bytes));
            if !may_wait {
                line.lasting = line.latest;
            }
        }
    }

    /// Confirms what the last comparison showed: nothing has passed for a while, so none of it
    /// waits.
    pub fn confirm(&mut self) {
        for line in [&mut self.ingress, &mut self.egress] {
            line.lasting = line.latest;
        }
    }

    /// Whether a reading follows that begins anew, or has wrapped.
    pub fn falls(&self, read: &Counters) -> bool {
        let before = &self.read;
        read.rx_bytes < before.rx_bytes
            || read.tx_bytes < before.tx_bytes
            || read.rx_packets < before.rx_packets
            || read.tx_packets < before.tx_packets
    }

    /// Whether nothing passed since the last reading.
    pub fn is_same(&self, read: &Counters) -> bool {
        self.read == *read
    }

    /// Whether a reading shows other differences than the last comparison did.
    pub fn differs(&self, expected: &Expected) -> bool {
        let of = |side: Side, line: &Line, expected: Passed| {
            difference(side.of(&self.counters).bytes, expected.bytes) != line.latest.bytes
        };
        of(Side::Ingress, &self.ingress, expected[0]) || of(Side::Egress, &self.egress, expected[1])
    }
}

impl Line {
    /// How a direction's counters go on when `read` follows `before`, which was continued `so_far`.
    fn go_on(
        &mut self,
        before: Passed,
        read: Passed,
        so_far: Passed,
        expected: Option<Passed>,
    ) -> Passed {
        let expected = expected.map(|expected| Passed {
            bytes: exceed(expected.bytes, self.lasting.bytes).max(so_far.bytes),
            packets: exceed(expected.packets, self.lasting.packets).max(so_far.packets),
        });
        let grown = |from: Passed, so_far: Passed| {
            Some(Passed {
                bytes: so_far
                    .bytes
                    .saturating_add(read.bytes.checked_sub(from.bytes)?),
                packets: so_far
                    .packets
                    .saturating_add(read.packets.checked_sub(from.packets)?),
            })
        };
        if let Some(plain) = grown(before, so_far) {
            // It may have been away for a moment only, and have its old counters again.
            let (Some((old, then)), Some(expected)) = (self.before, expected) else {
                return plain;
            };
            let Some(back) = grown(old, then).filter(|back| back.bytes >= so_far.bytes) else {
                return plain;
            };
            let miss = |sum: Passed| sum.bytes.abs_diff(expected.bytes);
            if miss(back) < miss(plain) {
                self.before = None;
                return Passed {
                    packets: back.packets.max(so_far.packets),
                    ..back
                };
            }
            return plain;
        }
        let packets = match read.packets.checked_sub(before.packets) {
            Some(more) => so_far.packets.saturating_add(more),
            None if is_near_the_edge(before.packets, read.packets) => so_far
                .packets
                .saturating_add(beyond(before.packets, read.packets)),
            None => expected.map_or(so_far.packets, |expected| expected.packets),
        };
        let wrapped = Passed {
            bytes: so_far
                .bytes
                .saturating_add(beyond(before.bytes, read.bytes)),
            packets,
        };
        if read.bytes >= before.bytes {
            // Only the packets fell.
            return wrapped;
        }
        let has_wrapped = before.bytes < EDGE
            && match expected {
                Some(expected) => {
                    let passed = expected.bytes.saturating_sub(so_far.bytes);
                    wrapped.bytes.abs_diff(expected.bytes) <= passed / 2 + ON_THEIR_WAY
                }
                None => is_near_the_edge(before.bytes, read.bytes),
            };
        if has_wrapped {
            return wrapped;
        }
        self.before = Some((before, so_far));
        expected.unwrap_or(Passed {
            bytes: so_far.bytes.saturating_add(read.bytes),
            packets: so_far.packets.saturating_add(read.packets),
        })
    }
}

/// Whether a counter of 32 bits was about to begin anew, and has.
fn is_near_the_edge(before: u64, read: u64) -> bool {
    (EDGE - NEAR_THE_EDGE..EDGE).contains(&before) && read < NEAR_THE_EDGE
}

/// By how much a counter of 32 bits grew.
fn beyond(before: u64, read: u64) -> u64 {
    read.checked_sub(before)
        .unwrap_or_else(|| read.saturating_add(EDGE).saturating_sub(before))
}

fn difference(own: u64, expected: u64) -> i128 {
    i128::from(own) - i128::from(expected)
}

fn exceed(expected: u64, by: i128) -> u64 {
    let sum = i128::from(expected) + by;
    u64::try_from(sum.max(0)).unwrap_or(u64::MAX)
}

#[derive(Clone, Copy)]
enum Side {
    Ingress,
    Egress,
}

impl Side {
    fn of(self, counters: &Counters) -> Passed {
        match self {
            Self::Ingress => counters.received(),
            Self::Egress => counters.sent(),
        }
    }

    fn set(self, counters: &mut Counters, passed: Passed) {
        let (bytes, packets) = match self {
            Self::Ingress => (&mut counters.rx_bytes, &mut counters.rx_packets),
            Self::Egress => (&mut counters.tx_bytes, &mut counters.tx_packets),
        };
        *bytes = passed.bytes;
        *packets = passed.packets;
    }
}

impl Counters {
    /// What came in.
    pub fn received(&self) -> Passed {
        Passed {
            bytes: self.rx_bytes,
            packets: self.rx_packets,
        }
    }

    /// What went out.
    pub fn sent(&self) -> Passed {
        Passed {
            bytes: self.tx_bytes,
            packets: self.tx_packets,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Packets of 100 bytes, received and sent.
    fn read(packets: u64) -> Counters {
        Counters {
            rx_bytes: packets * 100,
            rx_packets: packets,
            tx_bytes: packets * 100,
            tx_packets: packets,
            ..Counters::default()
        }
    }

    fn expected(packets: u64) -> Expected {
        [Passed {
            bytes: packets * 100,
            packets,
        }; 2]
    }

    /// An interface with a classifier that looks since it had counted 1000 packets.
    fn own() -> Own {
        let mut own = Own::new(read(1000));
        own.compare(&expected(0), &expected(0));
        own.confirm();
        own
    }

    /// Goes on; what was received in the end.
    fn go_on(own: &mut Own, now: u64, seen: u64) -> u64 {
        let seen = expected(seen);
        own.take(read(now), Some(&seen));
        own.compare(&seen, &seen);
        own.counters().rx_packets
    }

    #[test]
    fn a_reset_loses_nothing_that_the_classifier_saw() {
        let mut own = own();
        assert_eq!(go_on(&mut own, 1500, 500), 1500);
        assert_eq!(go_on(&mut own, 0, 510), 1510, "ten came before it");
        assert_eq!(go_on(&mut own, 7, 517), 1517);
        assert_eq!(go_on(&mut own, 3, 520), 1520, "and again");
        assert_eq!(own.counters().rx_bytes, 152_000);
        assert_eq!(own.counters().tx_bytes, 152_000);
    }

    #[test]
    fn what_was_on_its_way_at_the_last_reading_is_not_lost_with_a_reset() {
        let mut own = own();
        // Read while packets pass: eight of them only the classifier has counted.
        own.take(read(1500), Some(&expected(508)));
        own.compare(&expected(497), &expected(508));
        assert_eq!(go_on(&mut own, 0, 520), 1520);
    }

    #[test]
    fn what_was_unexplained_before_a_reset_stays_so() {
        let mut own = own();
        // A program dropped thirty before the classifier.
        assert_eq!(go_on(&mut own, 1530, 500), 1530);
        own.confirm();
        assert_eq!(go_on(&mut own, 0, 600), 1630);
    }

    #[test]
    fn what_was_unexplained_stays_so_without_a_calm_moment_if_it_is_much() {
        let mut own = own();
        assert_eq!(go_on(&mut own, 21_500, 500), 21_500);
        assert_eq!(go_on(&mut own, 0, 600), 21_600);
    }

    #[test]
    fn what_waited_for_its_classifier_at_the_last_reading_is_counted_once() {
        let mut own = own();
        assert_eq!(go_on(&mut own, 1500, 410), 1500);
        assert_eq!(go_on(&mut own, 0, 500), 1500);
    }

    #[test]
    fn what_waited_for_its_classifier_before_counters_are_lost_is_counted_once() {
        let mut own = own();
        assert_eq!(go_on(&mut own, 1500, 410), 1500);
        own.lost(expected(500)[0]);
        assert_eq!(own.counters().rx_packets, 1500);
        assert_eq!(own.counters().rx_bytes, 150_000);
    }

    #[test]
    fn a_counter_of_32_bits_wraps() {
        let near = Counters {
            rx_bytes: EDGE - 5000,
            rx_packets: 7000,
            ..Counters::default()
        };
        let after = Counters {
            rx_bytes: 5000,
            rx_packets: 7100,
            ..Counters::default()
        };
        let passed = |bytes: u64, packets: u64| {
            let received = Passed { bytes, packets };
            [received, Passed::default()]
        };
        for seen in [passed(10_000, 100), passed(9900, 99)] {
            let mut own = Own::new(near);
            own.compare(&Expected::default(), &Expected::default());
            own.take(after, Some(&seen));
            assert_eq!(own.counters().rx_bytes, EDGE + 5000);
            assert_eq!(own.counters().rx_packets, 7100);
        }
        // Nobody looked.
        let mut own = Own::new(near);
        own.take(after, None);
        assert_eq!(own.counters().rx_bytes, EDGE + 5000);
        // What passed does not fit.
        let old = Counters {
            rx_bytes: EDGE / 2,
            ..near
        };
        let mut own = Own::new(old);
        own.compare(&Expected::default(), &Expected::default());
        own.take(after, Some(&passed(5000, 50)));
        assert_eq!(own.counters().rx_bytes, EDGE / 2 + 5000);
    }

    #[test]
    fn counters_that_are_back_are_not_counted_again() {
        let mut own = own();
        assert_eq!(go_on(&mut own, 1500, 500), 1500);
        assert_eq!(go_on(&mut own, 0, 500), 1500);
        assert_eq!(go_on(&mut own, 1510, 510), 1510);
        assert_eq!(go_on(&mut own, 1520, 520), 1520);
    }

    #[test]
    fn counters_that_are_lost_before_they_were_read_once_are_what_the_classifier_saw() {
        let mut own = Own::new(read(0));
        own.compare(&expected(0), &expected(0));
        own.lost(expected(30)[0]);
        own.take(read(0), Some(&expected(30)));
        assert_eq!(own.counters().rx_packets, 30);
        assert_eq!(own.counters().rx_bytes, 3000);
    }

    #[test]
    fn without_a_classifier_a_reset_counts_from_zero() {
        let mut own = Own::new(read(1000));
        own.take(read(30), None);
        assert_eq!(own.counters().rx_packets, 1030);
        own.take(read(0), None);
        assert_eq!(own.counters().rx_packets, 1030);
    }

    proptest! {
        /// Whatever is read: nothing falls, and without jumps the ledger's difference stays.
        #[test]
        fn nothing_falls(
            steps in prop::collection::vec((any::<[u32; 8]>(), 0..99_u64), 1..20),
        ) {
            let mut own = own();
            let mut seen = 0;
            for (read, passed) in steps {
                let before = *own.counters();
                let [rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped] =
                    read.map(u64::from);
                let read = Counters {
                    rx_bytes, rx_packets, rx_errors, rx_dropped,
                    tx_bytes, tx_packets, tx_errors, tx_dropped,
                };
                seen += passed;
                own.take(read, Some(&expected(seen)));
                own.compare(&expected(seen), &expected(seen));
                let now = own.counters();
                prop_assert!(now.rx_bytes >= before.rx_bytes && now.tx_bytes >= before.tx_bytes);
                prop_assert!(now.rx_packets >= before.rx_packets);
                prop_assert!(now.tx_packets >= before.tx_packets);
                prop_assert!(now.rx_errors >= before.rx_errors && now.tx_errors >= before.tx_errors);
                prop_assert!(now.rx_dropped >= before.rx_dropped);
                prop_assert!(now.tx_dropped >= before.tx_dropped);
            }
        }

        /// Resets at any time, readings in between or not: the sum is what passed.
        #[test]
        fn resets_lose_nothing(
            steps in prop::collection::vec((0..1000_u64, prop::bool::weighted(0.2)), 1..40),
        ) {
            let mut own = own();
            let (mut now, mut seen) = (1000, 0);
            for (passed, is_reset) in steps {
                seen += passed;
                // One that leaves a counter higher than it was shows in nothing.
                let is_reset = is_reset && passed / 2 < now;
                now = if is_reset { passed / 2 } else { now + passed };
                prop_assert_eq!(go_on(&mut own, now, seen), 1000 + seen);
            }
        }
    }
}
