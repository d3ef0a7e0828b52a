//! Where a ledger begins, and which of the packets that were on their way then are in it.

use flow_common::Class;

use super::{classifier::Counts, counting::Counting};
use crate::{event::ClassCount, source::interfaces::Counters};

/// What was counted when an interface's ledger began: by itself, and by its classifiers.
#[derive(Default, PartialEq)]
pub(super) struct CounterBaseline {
    pub own: Counters,
    pub ingress: Counts,
    pub egress: Counts,
}

impl CounterBaseline {
    /// Takes in or leaves out the packets that were on their way. What counts a packet later knows
    /// of more than what counts it earlier only if the ledger began between the two: packets that
    /// come in are counted by interface, classifier and socket, those that go out by classifier and
    /// interface. `own` was read after `before`, and before `after`: the counts of ingress and
    /// egress. Packets must show it, not bytes alone: an interface may add a tag to each, which is
    /// not known of the first ones.
    pub fn settle(
        &mut self,
        before: &(Counts, Counts),
        own: &Counters,
        after: &(Counts, Counts),
        counting: &[Counting; 2],
    ) {
        let [received, sent] = counting;
        let since = |counts: Counts, before: &Counts, counting: &Counting| {
            as_counted(since(counts, before), counting)
        };
        let bytes = |counts: &Counts, class: Class| counts[class as usize].bytes;
        // Headers that were repeated, for the interface or a socket, make no packet.
        let with_headers = |counts: &Counts| {
            bytes(counts, Class::Total) + counts[Class::Total as usize].header_bytes
        };

        let passed = since(before.0, &self.ingress, received);
        // One reading hardly ever has a packet of a class that is not in the total ([`Class`]), so it
        // is looked at alone: what comes between two would cover what is looked for. Forwarded
        // packets may be more than came in: a bridge makes copies.
        let taken_in = since(after.0, &self.ingress, received);
        let taken = bytes(&taken_in, Class::Socket) + bytes(&taken_in, Class::NotIp);
        let late = taken.since(with_headers(&taken_in));
        let total = &mut self.ingress[Class::Total as usize].bytes;
        *total = total.since(late);
        // What was classified by then the interface had counted.
        let rx = &mut self.own.rx_bytes;
        *rx = rx.saturating_sub(late.0);
        let ClassCount {
            packets, frames, ..
        } = passed[Class::Total as usize];
        let counted = if received.is_shown() { frames } else { packets };
        let came_in = own.rx_packets.saturating_sub(self.own.rx_packets);
        if came_in < counted {
            let passed = bytes(&passed, Class::Total) + late;
            *rx = (*rx).min(own.rx_bytes.saturating_sub(passed.0));
        }

        let passed = since(after.1, &self.egress, sent);
        let ClassCount {
            packets, frames, ..
        } = passed[Class::Total as usize];
        let counted = if sent.is_shown() { packets } else { frames };
        let went_out = own.tx_packets.saturating_sub(self.own.tx_packets);
        if went_out > counted {
            let tx = &mut self.own.tx_bytes;
            *tx = (*tx).max(own.tx_bytes.saturating_sub(with_headers(&passed).0));
        }
    }
}

/// What was counted after `before`.
pub(super) fn since(mut counts: Counts, before: &Counts) -> Counts {
    for (count, before) in counts.iter_mut().zip(before) {
        *count = count.since(before);
    }
    counts
}

/// The same as the interface counts it.
pub(super) fn as_counted(mut counts: Counts, counting: &Counting) -> Counts {
    counts.iter_mut().for_each(|count| counting.apply(count));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Bytes;

    /// Bytes of each packet.
    const PACKET: u64 = 4;

    fn plain() -> [Counting; 2] {
        [Counting::presumed(14, 0), Counting::presumed(14, 0)]
    }

    /// Counts of so many bytes in all and for sockets.
    fn counts(total: u64, socket: u64) -> Counts {
        let mut counts = Counts::default();
        counts[Class::Total as usize] = ClassCount {
            packets: total / PACKET,
            bytes: Bytes(total),
            frames: total / PACKET,
            header_bytes: Bytes(0),
        };
        counts[Class::Socket as usize].bytes = Bytes(socket);
        counts
    }

    fn own(bytes: u64) -> Counters {
        Counters {
            rx_bytes: bytes,
            rx_packets: bytes / PACKET,
            tx_bytes: bytes,
            tx_packets: bytes / PACKET,
            ..Counters::default()
        }
    }

    /// A ledger that began when everything had counted 1000 bytes.
    fn begun() -> CounterBaseline {
        CounterBaseline {
            own: own(1000),
            ingress: counts(1000, 1000),
            egress: counts(1000, 1000),
        }
    }

    /// What came in since a ledger began by the interface's own counter, in all, and for sockets,
    /// if it settles when they have counted so much.
    fn came_in(now: u64, counted: Counts) -> (u64, u64, u64) {
        let mut baseline = begun();
        let read = (counted, counts(1000, 1000));
        baseline.settle(&read, &own(now), &read, &plain());
        let counted = since(counted, &baseline.ingress);
        let of = |class: Class| counted[class as usize].bytes.0;
        (
            now - baseline.own.rx_bytes,
            of(Class::Total),
            of(Class::Socket),
        )
    }

    #[test]
    fn what_came_in_before_its_classifier_saw_it_is_in_the_ledger() {
        assert_eq!(came_in(1500, counts(1628, 1628)), (628, 628, 628));
        assert_eq!(came_in(1000, counts(1128, 1000)), (128, 128, 0));
    }

    #[test]
    fn what_was_classified_before_a_socket_took_it_is_in_the_ledger() {
        assert_eq!(came_in(1500, counts(1500, 1628)), (628, 628, 628));
        assert_eq!(came_in(1500, counts(1300, 1350)), (550, 350, 350));
    }

    #[test]
    fn what_came_between_two_readings_does_not_hide_what_was_on_its_way() {
        let mut baseline = begun();
        let idle = counts(1000, 1000);
        // A socket takes 128 bytes that were classified before; then as many come in as a whole.
        let (before, after) = ((counts(1500, 1628), idle), (counts(1628, 1756), idle));
        baseline.settle(&before, &own(1628), &after, &plain());
        assert_eq!(baseline.ingress[Class::Total as usize].bytes.0, 872);
        assert_eq!(baseline.own.rx_bytes, 872);
    }

    #[test]
    fn what_nobody_took_yet_moves_no_beginning() {
        assert_eq!(came_in(1700, counts(1600, 1500)), (700, 600, 500));
    }

    #[test]
    fn headers_repeated_for_sockets_move_no_beginning() {
        let mut counted = counts(1500, 1580);
        counted[Class::Total as usize].header_bytes = Bytes(100);
        assert_eq!(came_in(1500, counted), (500, 500, 580));
    }

    #[test]
    fn what_was_classified_before_it_went_out_is_not_in_the_ledger() {
        let went_out = |now: u64, egress: Counts| {
            let mut baseline = begun();
            let read = (counts(1000, 1000), egress);
            baseline.settle(&read, &own(now), &read, &plain());
            now - baseline.own.tx_bytes
        };
        assert_eq!(went_out(1628, counts(1500, 1500)), 500);
        assert_eq!(went_out(1500, counts(1500, 1500)), 500);
        // What a queue still holds, or has dropped.
        assert_eq!(went_out(1500, counts(1628, 1628)), 500);
        // The interface counts the headers of segments.
        let mut counted = counts(1500, 1500);
        counted[Class::Total as usize].header_bytes = Bytes(100);
        assert_eq!(went_out(1600, counted), 600);
    }

    /// Ten packets each way, of which the interface counts four bytes more, or a link header less.
    #[test]
    fn what_an_interface_counts_otherwise_moves_no_beginning() {
        for each in [4, -14] {
            let mut baseline = begun();
            let counted = counts(1500, 1500);
            let read = (counted, counted);
            let mut own = own(1500);
            for bytes in [&mut own.rx_bytes, &mut own.tx_bytes] {
                *bytes = bytes.strict_add_signed(each * 10);
            }
            baseline.settle(&read, &own, &read, &plain());
            assert_eq!(baseline.own.rx_bytes, 1000, "{each} more");
            assert_eq!(baseline.own.tx_bytes, 1000, "{each} more");
        }
    }
}
