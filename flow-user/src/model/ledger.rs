//! The ledger of one direction of an interface: the parts always add up to `frames`.
//!
//! The interface's own counter and the classifier's are read one after the other, so a packet
//! between the two reads shows as `unexplained`, of either sign, until the next read. What stays
//! there when nothing moves is a real difference.
//!
//! [`reading`] makes a ledger of one reading. An [`Account`] makes reports of successive readings,
//! in which only `unexplained` may fall.

mod reading;

use std::{ops::Add, time::Duration};

use serde::{Deserialize, Serialize};

use self::reading::{TakenTwice, is_beyond_doubt, side};
use super::snapshot::LedgerSide;
use crate::event::{Bytes, Class, Instant, InterfaceSide};

pub(super) use self::reading::Side;

/// How long a remainder stands before it is reported: a packet that the classifier has seen may
/// still be in transit to its socket, or to the interface through which it is forwarded. On a busy
/// host a virtual CPU may pause for more than 100 ms.
const IN_TRANSIT: Duration = Duration::from_millis(500);

/// One direction of an interface over time. What it reports never falls, whatever the readings are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Account {
    /// What was reported before the counters restarted.
    base: LedgerSide,
    /// The last report.
    shown: LedgerSide,
    /// The last reading.
    reading: LedgerSide,
    kernel: Remainder,
    /// Of the repeated headers, the share that the interface counts.
    offload: Remainder,
    twice: TakenTwice,
    calm: Calm,
}

/// Whether no packet has passed for a while: then none is in transit.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Calm {
    /// What the interface and its classifier had counted at the last reading, and since when.
    since: Option<(Instant, [u64; 4])>,
}

impl Calm {
    fn take(&mut self, counted: &InterfaceSide, time: Instant) -> bool {
        let total = counted.classes[Class::Total as usize];
        let now = [
            counted.bytes.0,
            counted.packets,
            total.bytes.0,
            total.packets,
        ];
        match self.since {
            Some((since, before)) if before == now => time.since(since) >= IN_TRANSIT,
            _ => {
                self.since = Some((time, now));
                false
            }
        }
    }
}

impl Account {
    /// Takes a reading of counters, and reports. The parts that are remainders follow once they are
    /// certain; until then they count as `unexplained`.
    pub(super) fn take(
        &mut self,
        counted: &InterfaceSide,
        since: Bytes,
        direction: Side,
        time: Instant,
    ) -> LedgerSide {
        let is_calm = self.calm.take(counted, time);
        let reading = side(counted, since, direction, &mut self.twice);
        self.reading = reading;
        let mut certain = reading;
        if direction == Side::Ingress {
            certain.kernel = Bytes(self.kernel.take(reading.kernel.0, time));
        }
        let repeated = counted.classes[Class::Total as usize].header_bytes;
        let read = share(reading.offload, repeated);
        let share = if is_calm {
            self.offload.settle(read)
        } else if is_beyond_doubt(reading.frames, counted) {
            self.offload.take(read, time)
        } else {
            self.offload.take(0, time)
        };
        certain.offload = part(share, repeated).min(reading.offload);
        self.report(certain)
    }

    /// The last report: no packet is in transit any more.
    pub(super) fn close(&mut self) -> LedgerSide {
        self.report(self.reading)
    }

    /// The next readings are of counters that restarted.
    pub(super) fn restart(&mut self) {
        *self = Self {
            base: self.shown,
            shown: self.shown,
            ..Self::default()
        };
    }

    /// Goes on from what another account had reported, where that is more.
    pub(super) fn rise_to(&mut self, other: &Self) {
        let lacking = other.shown.combine(&self.shown, Bytes::since);
        for side in [&mut self.base, &mut self.shown] {
            *side = side.combine(&lacking, Add::add);
        }
    }

    pub(super) fn shown(&self) -> &LedgerSide {
        &self.shown
    }

    fn report(&mut self, certain: LedgerSide) -> LedgerSide {
        let now = self.base.combine(&certain, Add::add);
        self.shown = self.shown.combine(&now, Ord::max);
        self.shown
    }
}

/// A remainder. What was left of one reading may turn out to be something else, but nothing that
/// turned out so comes back: the least of all readings since is certain.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Remainder {
    certain: u64,
    /// The oldest reading that is not certain: when it was taken, and the least of it and all
    /// since.
    open: Option<(Instant, u64)>,
}

impl Remainder {
    /// Takes a reading; what is certain now.
    fn take(&mut self, reading: u64, time: Instant) -> u64 {
        let (since, least) = self.open.unwrap_or((time, reading));
        let least = least.min(reading);
        self.open = if time.since(since) < IN_TRANSIT {
            Some((since, least))
        } else {
            self.certain = self.certain.max(least);
            Some((time, reading))
        };
        self.certain
    }

    /// Takes a reading that is certain.
    fn settle(&mut self, reading: u64) -> u64 {
        *self = Self {
            certain: reading,
            open: None,
        };
        reading
    }
}

/// A whole, of which [`share`] is a part.
const WHOLE: u64 = 1 << 40;

/// The share that `part` is of `all`.
fn share(part: Bytes, all: Bytes) -> u64 {
    let share = u128::from(part.0) * u128::from(WHOLE) / u128::from(all.0.max(1));
    u64::try_from(share).unwrap_or(WHOLE).min(WHOLE)
}

/// The reverse.
fn part(share: u64, all: Bytes) -> Bytes {
    let part = u128::from(all.0) * u128::from(share) / u128::from(WHOLE);
    Bytes(u64::try_from(part).unwrap_or(all.0))
}

#[cfg(test)]
mod tests {
    use super::{
        reading::tests::{count, large_buffers, sides},
        *,
    };
    use crate::event::Class;

    fn at(milliseconds: u64) -> Instant {
        Instant(milliseconds * 1_000_000)
    }

    /// What an account reports of readings of ingress: total, taken by sockets, and the interface's
    #[test]
    fn what_comes_while_counters_are_read_is_no_header() {
        // A packet of 1500 bytes, after a large buffer.
        let mut account = Account::default();
        let mut take = |own: (u64, u64), meanwhile: u64, seconds: u64| {
            let mut counted = large_buffers(1, own);
            counted.meanwhile = count(meanwhile, 0);
            let ledger = account.take(&counted, Bytes(0), Side::Ingress, at(1000 * seconds));
            ledger.offload.0
        };
        assert_eq!(take((65_500, 2), 1500, 0), 0);
        assert_eq!(take((65_500, 2), 1500, 1), 0);
        assert_eq!(take((65_500, 2), 1500, 2), 0);
        assert_eq!(take((66_800, 51), 0, 3), 0, "not certain yet");
        assert_eq!(take((66_800, 51), 0, 4), 2800);
    }

    #[test]
    fn what_has_not_reached_its_classifier_is_no_header() {
        // At each reading a buffer or an acknowledgement waits for a busy CPU.
        for (bytes, packets) in [(2700, 1), (9000, 1), (60_000, 1), (56, 1), (56 * 40, 40)] {
            let mut account = Account::default();
            let mut take = |more: bool, passed: u64, seconds: u64| {
                let more = u64::from(more);
                let own = (64_000 + passed + bytes * more, 2 + packets * more);
                let mut counted = large_buffers(1, own);
                counted.classes[Class::Total as usize].bytes.0 += passed;
                counted.classes[Class::Total as usize].packets += 1;
                counted.classes[Class::Total as usize].frames += 1;
                let time = at(1000 * seconds);
                account
                    .take(&counted, Bytes(0), Side::Ingress, time)
                    .offload
                    .0
            };
            for second in 0..10 {
                assert_eq!(take(true, second * 60, second), 0, "{bytes} {packets}");
            }
            assert_eq!(take(false, 600, 10), 0);
            assert_eq!(take(false, 600, 11), 0);
        }
    }

    /// had taken and what had been forwarded: bytes of both in the last ledger.
    fn taken_after(readings: &[[u64; 4]]) -> [u64; 2] {
        let mut account = Account::default();
        for (tick, [total, headers, socket, forwarded]) in readings.iter().enumerate() {
            let classes = [
                (Class::Total, *total, *headers),
                (Class::Socket, *socket, 0),
                (Class::Forwarded, *forwarded, 0),
            ];
            let mut counted = sides(*total, &classes);
            counted.classes[Class::Socket as usize].packets = socket / 100;
            counted.classes[Class::Forwarded as usize].packets = forwarded / 100;
            account.take(&counted, Bytes(0), Side::Ingress, at(1000 * tick as u64));
        }
        let LedgerSide {
            socket, forwarded, ..
        } = account.shown();
        [socket.0, forwarded.0]
    }

    #[test]
    fn a_buffer_on_its_way_takes_no_headers_from_what_others_had() {
        let own = [1028, 252, 1280, 0];
        // The second buffer has come in, and half of it has been forwarded in segments.
        let on_its_way = [2056, 504, 1280, 640];
        let all = [2056, 504, 1280, 1280];
        assert_eq!(taken_after(&[own, own, on_its_way, all]), [1028, 1028]);
        assert_eq!(taken_after(&[own, own, all]), [1028, 1028]);
    }

    #[test]
    fn headers_that_a_reading_saw_too_early_are_given_back() {
        // Segments of a buffer that came in during the reading.
        let early = [1028, 252, 1280, 0];
        let then = [1128, 252, 1280, 0];
        assert_eq!(taken_after(&[early, then]), [1128, 0]);
    }

    #[test]
    fn both_have_their_part_of_headers_that_were_repeated_at_once() {
        assert_eq!(taken_after(&[[2000, 600, 1200, 1200]]), [1000, 1000]);
    }

    /// own.
    fn reported(readings: &[(u64, u64, u64)]) -> Account {
        let mut account = Account::default();
        for (tick, (total, socket, own)) in readings.iter().enumerate() {
            let classes = [(Class::Total, *total, 0), (Class::Socket, *socket, 0)];
            let counted = sides(*own, &classes);
            account.take(&counted, Bytes(0), Side::Ingress, at(1000 * tick as u64));
        }
        account
    }

    #[test]
    fn a_packet_on_its_way_to_its_socket_is_never_the_kernels() {
        let mut account = reported(&[(0, 0, 0), (1000, 900, 1000)]);
        assert_eq!(account.shown().kernel, Bytes(0));
        assert_eq!(account.shown().unexplained, 100);
        let classes = [(Class::Total, 1000, 0), (Class::Socket, 1000, 0)];
        let counted = sides(1000, &classes);
        let ledger = account.take(&counted, Bytes(0), Side::Ingress, at(2000));
        assert_eq!((ledger.kernel, ledger.unexplained), (Bytes(0), 0));
    }

    #[test]
    fn what_no_socket_took_until_the_next_reading_is_the_kernels() {
        let account = reported(&[(0, 0, 0), (1000, 900, 1000), (2000, 1800, 2000)]);
        assert_eq!(account.shown().kernel, Bytes(100));
        assert_eq!(account.shown().unexplained, 100);
        let mut account = reported(&[(0, 0, 0), (1000, 900, 1000)]);
        assert_eq!(account.close().kernel, Bytes(100));
        assert_eq!(account.shown().unexplained, 0);
    }

    #[test]
    fn readings_that_follow_at_once_make_nothing_certain() {
        let mut held = Remainder::default();
        for (reading, milliseconds, certain) in [
            (0, 0, 0),
            (100, 1000, 0),
            (100, 1001, 0),
            (70, 1300, 0),
            (90, 1500, 70),
            (90, 2000, 90),
        ] {
            let seen = held.take(reading, at(milliseconds));
            assert_eq!(seen, certain, "{reading} after {milliseconds} ms");
        }
    }

    #[test]
    fn headers_that_the_interface_is_known_to_count_are_reported_at_once() {
        let mut account = Account::default();
        let mut take = |large: u64, seconds: u64| {
            let counted = large_buffers(large, (large * 66_800, large * 51));
            let ledger = account.take(&counted, Bytes(0), Side::Egress, at(1000 * seconds));
            (ledger.offload.0, ledger.unexplained)
        };
        assert_eq!(take(2, 0), (0, 5600));
        assert_eq!(take(3, 1), (8400, 0));
        assert_eq!(take(9, 2), (25_200, 0));
    }

    #[test]
    fn few_headers_are_reported_once_nothing_passes() {
        let mut account = Account::default();
        let mut take = |milliseconds: u64| {
            let counted = large_buffers(1, (66_800, 51));
            let ledger = account.take(&counted, Bytes(0), Side::Egress, at(milliseconds));
            (ledger.offload.0, ledger.unexplained)
        };
        assert_eq!(take(0), (0, 2800));
        assert_eq!(take(200), (0, 2800));
        assert_eq!(take(500), (2800, 0));
        assert_eq!(account.close().offload, Bytes(2800));
    }

    #[test]
    fn a_ledger_that_begins_anew_goes_on_from_what_was_reported() {
        let mut account = reported(&[(0, 0, 0), (1000, 900, 1000), (1000, 900, 1000)]);
        account.restart();
        let classes = [(Class::Total, 50, 0), (Class::Socket, 50, 0)];
        let ledger = account.take(&sides(50, &classes), Bytes(0), Side::Ingress, at(9000));
        assert_eq!((ledger.frames, ledger.socket), (Bytes(1050), Bytes(950)));
        assert_eq!((ledger.kernel, ledger.unexplained), (Bytes(100), 0));
    }
}
