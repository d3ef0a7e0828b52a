//! What an interface counts of each packet, found out from its counters and the classifier's.
//!
//! Interfaces do not agree on it, and many count otherwise what they receive than what they send: a
//! bridge, a VLAN and a VRF device count received packets without their link header (they take it
//! off first), a GRE tap device those it sends. Others count four bytes more for each, a checksum
//! or a tag. No list of kinds is ever complete, so [`Counting::take`] compares: so many packets, so
//! many bytes in the one and in the other. What is known of a kind counts until there is evidence.

use crate::event::ClassCount;

/// Bytes that an interface counts more of each packet, at most.
const MOST: i64 = 64;
/// Packets that must agree before a difference is believed that is neither none nor the link
/// header.
const SOME: u64 = 16;

/// Bytes and packets of one direction, as the interface counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub bytes: u64,
    pub packets: u64,
}

/// The total of a direction, as its classifier counted it: before and after the interface's own
/// counters were read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub before: ClassCount,
    pub after: ClassCount,
}

impl Passed {
    pub fn since(self, begun: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(begun.bytes),
            packets: self.packets.saturating_sub(begun.packets),
        }
    }
}

/// What a comparison showed: so many bytes more of each of so many packets.
#[derive(Clone, Copy, Debug)]
struct Shown {
    more: i64,
    packets: u64,
}

/// How an interface counts in one direction.
#[derive(Clone, Debug)]
pub struct Counting {
    /// Bytes of the link header.
    header: u32,
    /// Bytes that it counts of each packet more than the classifier does.
    more: i64,
    /// Packets that showed it; 0 if it is presumed.
    evidence: u64,
    /// What it may be as well, while it is presumed.
    less: Option<i64>,
    /// What a comparison showed that is not believed yet. One alone proves nothing: a packet may have
    /// waited for its classifier where the comparison began, and another where it ended.
    shown_once: Option<i64>,
    /// Where the comparison begins.
    mark: (Passed, ClassCount),
    /// Where it begins between moments when nothing passes: see [`Self::take_calm`].
    calm: (Passed, ClassCount),
}

impl Counting {
    /// A presumption.
    pub fn presumed(header: u32, more: i64) -> Self {
        Self {
            header,
            more,
            evidence: 0,
            less: None,
            shown_once: None,
            mark: Default::default(),
            calm: Default::default(),
        }
    }

    /// The same, but it may leave the link header out.
    pub fn or_without_header(self) -> Self {
        Self {
            less: Some(-i64::from(self.header)),
            ..self
        }
    }

    /// The least that it may count: of what is reported nothing must fall.
    pub fn least(&self) -> Self {
        let doubts = self.doubts().into_iter().flatten();
        Self {
            more: doubts.fold(self.more, i64::min),
            ..self.clone()
        }
    }

    /// What it may count as well.
    fn doubts(&self) -> [Option<i64>; 2] {
        let less = self.less.filter(|_| !self.is_shown());
        [less, self.shown_once]
    }

    /// Nothing more will pass. Of what is in doubt, that counts which fits best all that passed
    /// since the ledger began.
    pub fn end(&mut self, own: Passed, total: &ClassCount) {
        let distance = |more: &i64| {
            let counting = Self {
                more: *more,
                ..self.clone()
            };
            let mut counted = *total;
            counting.apply(&mut counted);
            let as_buffers = counted.bytes.0.abs_diff(own.bytes);
            let as_segments = (counted.bytes + counted.header_bytes).0.abs_diff(own.bytes);
            as_buffers.min(as_segments)
        };
        let doubts = self.doubts().into_iter().flatten();
        let all = [self.more].into_iter().chain(doubts);
        self.more = all.min_by_key(distance).unwrap_or(self.more);
        self.less = None;
        self.shown_once = None;
    }

    /// Whether the packets seen so far showed it.
    pub fn is_shown(&self) -> bool {
        self.evidence > 0
    }

    /// The comparison begins here.
    pub fn begin(&mut self, own: Passed, total: &ClassCount) {
        self.mark = (own, *total);
        self.calm = self.mark;
    }

    /// Compares. What was shown by more packets stands against what fewer show, and against what is
    /// shown only once.
    pub fn take(&mut self, own: Passed, seen: &Seen) {
        let gap = seen.after.since(&seen.before).bytes.0;
        if let Some(shown) = self.compare(&self.mark, own, &seen.after, gap) {
            let is_in_doubt = self.doubts().into_iter().flatten().count() > 0;
            let is_known = shown.more == self.more && !is_in_doubt;
            if is_known || self.shown_once == Some(shown.more) {
                self.believe(shown);
            } else {
                self.shown_once = Some(shown.more);
            }
        }
        if gap == 0 {
            // A packet that was lost shall spoil no further comparison.
            self.mark = (own, seen.after);
        }
    }

    /// Compares at a moment when nothing has passed for a while. A device that waits for more
    /// packets before it hands up some (`gro_flush_timeout`) agrees with its classifier only then.
    pub fn take_calm(&mut self, own: Passed, total: &ClassCount) {
        // No packet waits, neither now nor where the comparison began: once is enough.
        if let Some(shown) = self.compare(&self.calm, own, total, 0)
            && (shown.more != self.more || !self.is_shown())
        {
            self.believe(shown);
        }
        self.begin(own, total);
    }

    fn believe(&mut self, shown: Shown) {
        if shown.more != self.more {
            log::debug!(
                "an interface counts {} bytes more of each packet",
                shown.more
            );
            self.more = shown.more;
            self.evidence = 0;
        }
        self.evidence += shown.packets;
        self.shown_once = None;
    }

    /// Compares what has passed since `mark`, `gap` bytes of it during the reading. `None` if that
    /// shows nothing, or otherwise than more packets did.
    fn compare(
        &self,
        (own_mark, seen_mark): &(Passed, ClassCount),
        own: Passed,
        seen: &ClassCount,
        gap: u64,
    ) -> Option<Shown> {
        let passed = own.since(*own_mark);
        let total = seen.since(seen_mark);
        if total.packets == 0 {
            return None;
        }
        let more = more_of_each(passed, &total, gap, self.header)?;
        let is_enough = more == self.more || passed.packets > self.evidence.saturating_mul(2);
        is_enough.then_some(Shown {
            more,
            packets: passed.packets,
        })
    }

    /// What the classifier counted, as the interface counts it.
    pub fn apply(&self, count: &mut ClassCount) {
        let change = |bytes: u64, packets: u64| {
            let more = i128::from(self.more) * i128::from(packets);
            let sum = i128::from(bytes) + more;
            u64::try_from(sum.max(0)).unwrap_or(u64::MAX)
        };
        count.bytes.0 = change(count.bytes.0, count.packets);
        let repeated = count.frames.saturating_sub(count.packets);
        count.header_bytes.0 = change(count.header_bytes.0, repeated);
    }
}

/// How many bytes more of each packet the interface counted, if that shows. `gap` is what passed
/// between two readings of the classifier with the interface's between them.
///
/// An interface counts buffers or segments, or some of them so and some so; its packets show how
/// many headers were repeated for it. More packets than segments or fewer than buffers means that
/// the two did not see the same packets.
fn more_of_each(own: Passed, total: &ClassCount, gap: u64, header: u32) -> Option<i64> {
    let further = total.frames.saturating_sub(total.packets);
    let apart = own.packets.checked_sub(total.packets)?;
    if own.packets == 0 || apart > further {
        return None;
    }
    let repeated =
        u128::from(total.header_bytes.0) * u128::from(apart) / u128::from(further.max(1));
    let plain = i128::from(total.bytes.0) + i128::try_from(repeated).ok()?;
    let difference = i64::try_from(i128::from(own.bytes) - plain).ok()?;
    let packets = i64::try_from(own.packets).ok()?;
    let gap = i64::try_from(gap).ok()?;
    // All by the same: a checksum, a tag, a link header.
    let each = difference.checked_add(difference.signum() * (packets / 2))? / packets;
    let is_each = |more: i64, doubt: i64| {
        let rest = difference.checked_sub(more.checked_mul(packets)?)?;
        (rest.checked_abs()? <= doubt).then_some(more)
    };
    let is_whole = apart == 0 || apart == further;
    if is_whole && own.packets >= SOME && is_usual(each, header) && gap <= packets / 8 {
        let doubt = if gap == 0 { 0 } else { packets / 8 };
        if let Some(more) = is_each(each, doubt) {
            return Some(more);
        }
    }
    // With the link header or without, by far.
    let header = i64::from(header);
    if gap > packets.checked_mul(header)? / 8 {
        return None;
    }
    let doubt = if is_whole && packets < 4 {
        0
    } else {
        packets.checked_mul(header)? / 4
    };
    is_each(0, doubt).or_else(|| is_each(-header, doubt))
}

/// Whether there may be a reason to count so many bytes more of each packet: headers, tags and
/// checksums have multiples of four, with the link header or without. Two bytes each are four of
/// every second.
fn is_usual(each: i64, header: u32) -> bool {
    let is_more = |more: i64, most: i64| (0..=most).contains(&more) && more % 4 == 0;
    is_more(each, MOST) || is_more(each + i64::from(header), 8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Bytes;

    const ETHERNET: u32 = 14;

    fn count(packets: u64, bytes: u64, frames: u64, header_bytes: u64) -> ClassCount {
        ClassCount {
            packets,
            bytes: Bytes(bytes),
            frames,
            header_bytes: Bytes(header_bytes),
        }
    }

    fn passed(packets: u64, bytes: u64) -> Passed {
        Passed { bytes, packets }
    }

    fn shown(own: Passed, total: ClassCount) -> Option<i64> {
        more_of_each(own, &total, 0, ETHERNET)
    }

    #[test]
    fn the_first_packet_shows_whether_its_link_header_counts() {
        let total = count(1, 74, 1, 0);
        assert_eq!(shown(passed(1, 74), total), Some(0));
        assert_eq!(shown(passed(1, 60), total), Some(-14));
        assert_eq!(shown(passed(1, 78), total), None, "one packet is too few");
        assert_eq!(shown(passed(0, 0), total), None, "it is on its way");
        assert_eq!(shown(passed(2, 150), total), None, "another was not seen");
    }

    #[test]
    fn the_least_is_reported_until_packets_show_it_or_no_more_come() {
        let total = count(10, 740, 10, 0);
        let seen = Seen {
            before: total,
            after: total,
        };
        let mut counting = Counting::presumed(ETHERNET, 0).or_without_header();
        assert_eq!(counting.least().more, -14);
        for (own, more) in [(740, 0), (739, 0), (600, -14), (601, -14)] {
            let mut ended = counting.clone();
            ended.end(passed(10, own), &total);
            assert_eq!(ended.least().more, more, "{own}");
        }
        counting.take(passed(10, 740), &seen);
        assert_eq!(counting.least().more, -14, "shown once");
        let total = count(20, 1480, 20, 0);
        let seen = Seen {
            before: total,
            after: total,
        };
        counting.take(passed(20, 1480), &seen);
        assert_eq!(counting.least().more, 0);
        assert_eq!(Counting::presumed(ETHERNET, 32).least().more, 32);
    }

    #[test]
    fn a_device_that_holds_packets_back_shows_it_when_nothing_passes() {
        // At each reading it has counted some packets that it has not handed up.
        let mut counting = Counting::presumed(ETHERNET, 0).or_without_header();
        let seen = |packets: u64| {
            let total = count(packets, packets * 1000, packets, 0);
            Seen {
                before: total,
                after: total,
            }
        };
        let own = |packets: u64| passed(packets, packets * 986);
        for (packets, held) in [(0, 1), (20, 3), (40, 2), (60, 5), (65, 0)] {
            counting.take(own(packets + held), &seen(packets));
            assert!(!counting.is_shown());
        }
        counting.take_calm(own(65), &seen(65).after);
        assert!(counting.is_shown());
        assert_eq!(counting.least().more, -14);
    }

    #[test]
    fn a_checksum_or_a_tag_of_each_packet_counts() {
        let total = count(100, 7400, 100, 0);
        assert_eq!(shown(passed(100, 7800), total), Some(4));
        assert_eq!(shown(passed(100, 6400), total), Some(-10));
        // Of some packets only: nothing that is the same for each.
        assert_eq!(shown(passed(100, 7600), total), Some(0));
        assert_eq!(shown(passed(100, 9300), total), None);
    }

    #[test]
    fn buffers_and_segments_are_told_by_the_packets() {
        // Two buffers of 40 segments and one of 10.
        let total = count(3, 128_000, 90, 87 * 66);
        assert_eq!(shown(passed(3, 128_000), total), Some(0));
        assert_eq!(shown(passed(3, 128_000 - 3 * 14), total), Some(-14));
        let all = 128_000 + 87 * 66;
        assert_eq!(shown(passed(90, all), total), Some(0));
        assert_eq!(shown(passed(90, all - 90 * 14), total), Some(-14));
        // The buffer of 10 had come one by one.
        let some = 128_000 + 9 * 66;
        assert_eq!(shown(passed(12, some), total), Some(0));
        assert_eq!(shown(passed(12, some - 12 * 14), total), Some(-14));
    }

    #[test]
    fn what_passes_between_the_readings_must_be_little() {
        let total = count(1000, 74_000, 1000, 0);
        let of = |own: u64, gap: u64| more_of_each(passed(1000, own), &total, gap, ETHERNET);
        assert_eq!(of(60_000, 0), Some(-14));
        assert_eq!(of(60_100, 1500), Some(-14));
        assert_eq!(of(74_000, 1500), Some(0));
        assert_eq!(of(60_000, 15_000), None);
    }

    #[test]
    fn what_many_packets_showed_a_few_do_not_change() {
        let mut counting = Counting::presumed(ETHERNET, 0);
        let mut take = |packets: u64, own: u64| {
            let total = count(packets, packets * 74, packets, 0);
            let seen = Seen {
                before: total,
                after: total,
            };
            counting.take(passed(packets, own), &seen);
            counting.more
        };
        assert_eq!(take(1, 60), 0, "shown once");
        assert_eq!(take(2, 120), -14);
        assert_eq!(take(200, 200 * 60), -14);
        // Another packet came than the one that was seen.
        assert_eq!(take(201, 200 * 60 + 74), -14);
        assert_eq!(take(1500, 200 * 60 + 1300 * 74), -14, "shown once");
        let changed = 200 * 60 + 2800 * 74;
        assert_eq!(take(3000, changed), 0, "it counts otherwise now");
    }

    /// At each reading one packet waits for its classifier, of these sizes in turn, and so many of
    /// 86 bytes have passed in between.
    fn with_one_waiting(truth: i64, waiting: &[u64], between: u64) -> Counting {
        let mut counting = Counting::presumed(ETHERNET, 0).or_without_header();
        let (mut packets, mut bytes) = (0, 0);
        for (index, size) in waiting.iter().enumerate() {
            let seen = count(packets, bytes, packets, 0);
            let own = (bytes + size).checked_add_signed(truth * (packets as i64 + 1));
            let own = passed(packets + 1, own.unwrap());
            if index == 0 {
                counting.begin(own, &seen);
            } else {
                let seen = Seen {
                    before: seen,
                    after: seen,
                };
                counting.take(own, &seen);
            }
            packets += 1 + between;
            bytes += size + between * 86;
        }
        counting
    }

    #[test]
    fn packets_that_waited_where_a_comparison_began_and_ended_do_not_mislead() {
        // Two packets look 14 bytes shorter each than they are, or as long as they are.
        let mut counting = with_one_waiting(0, &[114, 86], 1);
        assert_eq!((counting.more, counting.least().more), (0, -14));
        counting.end(passed(3, 286), &count(3, 286, 3, 0));
        assert_eq!(counting.least().more, 0);
        let mut counting = with_one_waiting(-14, &[86, 114], 1);
        assert_eq!(counting.least().more, -14);
        counting.end(passed(3, 286 - 42), &count(3, 286, 3, 0));
        assert_eq!(counting.least().more, -14);
    }

    #[test]
    fn a_packet_that_was_lost_spoils_one_comparison_only() {
        let mut counting = Counting::presumed(ETHERNET, 0);
        let mut take = |seen: u64, own: u64| {
            let total = count(seen, seen * 74, seen, 0);
            let seen = Seen {
                before: total,
                after: total,
            };
            counting.take(passed(own, own * 60), &seen);
            counting.more
        };
        assert_eq!(take(10, 9), 0);
        assert_eq!(take(20, 19), 0);
        assert_eq!(take(30, 29), -14);
    }

    #[test]
    fn counts_become_what_the_interface_counts() {
        let mut total = count(3, 128_000, 90, 87 * 66);
        Counting::presumed(ETHERNET, -14).apply(&mut total);
        assert_eq!(total, count(3, 128_000 - 3 * 14, 90, 87 * 52));
        let mut nothing = ClassCount::default();
        Counting::presumed(ETHERNET, -14).apply(&mut nothing);
        assert_eq!(nothing, ClassCount::default());
    }

    proptest! {
        /// Packets of any sizes, of which a few are on their way when the counters are read.
        #[test]
        fn no_packet_on_its_way_misleads(
            sizes in prop::collection::vec(60..9000_u64, 1..200),
            on_their_way in 0..4_usize,
            more in prop::sample::select(vec![0_i64, -14]),
        ) {
            let counted = sizes.len().saturating_sub(on_their_way);
            let own: u64 = sizes[..counted].iter().sum();
            let own = own.checked_add_signed(more * counted as i64).unwrap();
            let total = count(sizes.len() as u64, sizes.iter().sum(), sizes.len() as u64, 0);
            let shown = shown(passed(counted as u64, own), total);
            prop_assert!(shown.is_none_or(|shown| shown == more), "{shown:?}");
            prop_assert!(on_their_way > 0 || shown.is_some());
        }

        /// Readings of a stream of packets, at each of which a few wait for the classifier, the first
        /// one included.
        #[test]
        fn what_waits_at_every_reading_does_not_mislead(
            readings in prop::collection::vec(
                (prop::collection::vec(prop::sample::select(vec![66_u64, 86, 94, 114, 1514]), 1..40),
                0..3_usize),
                2..8,
            ),
            truth in prop::sample::select(vec![0_i64, -14]),
        ) {
            let sizes: Vec<u64> = readings.iter().flat_map(|(sizes, _)| sizes).copied().collect();
            let own = |packets: usize| {
                let bytes: u64 = sizes[..packets].iter().sum();
                let bytes = bytes.checked_add_signed(truth * packets as i64).unwrap();
                passed(packets as u64, bytes)
            };
            let seen = |packets: usize| {
                let bytes = sizes[..packets].iter().sum();
                count(packets as u64, bytes, packets as u64, 0)
            };
            let mut counting = Counting::presumed(ETHERNET, 0).or_without_header();
            let mut passed = 0;
            for (index, (more, waiting)) in readings.iter().enumerate() {
                passed += more.len();
                let total = seen(passed.saturating_sub(*waiting));
                if index == 0 {
                    counting.begin(own(passed), &total);
                } else {
                    counting.take(own(passed), &Seen { before: total, after: total });
                    let least = counting.least().more;
                    prop_assert!(truth == 0 || least == -14, "more is reported than is counted");
                }
            }
            counting.end(own(passed), &seen(passed));
            prop_assert_eq!(counting.least().more, truth);
        }

        #[test]
        fn no_counters_panic(
            own in any::<[u64; 2]>(),
            total in any::<[u64; 4]>(),
            gap: u64,
            header in 0..64_u32,
        ) {
            let [packets, bytes, frames, header_bytes] = total;
            let mut total = count(packets, bytes, frames, header_bytes);
            let more = more_of_each(passed(own[0], own[1]), &total, gap, header);
            Counting::presumed(header, more.unwrap_or(-14)).apply(&mut total);
        }
    }
}
