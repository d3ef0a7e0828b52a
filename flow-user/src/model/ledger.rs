//! Where the bytes of one direction of an interface went. The parts always add up to `frames`.
//!
//! The interface's own counter and the classifier's are read one after the other, so a packet between
//! the two reads shows as `unexplained`, of either sign, until the next read. What stays there when
//! nothing moves is a real difference.
//!
//! [`side`] draws one reading up. An [`Account`] makes reports of successive readings: of what they
//! report nothing but `unexplained` ever falls.

use std::time::Duration;

use super::snapshot::LedgerSide;
use crate::event::{Bytes, Class, ClassCount, Instant, InterfaceSide};

/// Direction of packets through the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Ingress,
    Egress,
}

/// How long a remainder stands before it is reported: a packet that the classifier has seen may
/// still be on its way to its socket, or to the interface through which it is forwarded. On a virtual
/// machine whose host is busy a CPU stands still for more than 100 ms now and then.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// What may be on its way between an interface's own counter and its classifier, at most. A packet
/// that waits there for a busy CPU must not be taken for repeated headers: acknowledgements are as
/// long as they are, and a large buffer is as long as many of them.
const PACKETS_ON_THEIR_WAY: u64 = 64;
const BYTES_ON_THEIR_WAY: Bytes = Bytes(1 << 20);

/// One direction of an interface over time. What it reports never falls, whatever the readings are.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    /// What was reported before the readings began anew.
    base: LedgerSide,
    /// The last report.
    shown: LedgerSide,
    /// The last reading.
    reading: LedgerSide,
    kernel: Held,
    /// Of the repeated headers, the share that the interface counts.
    offload: Held,
    cut: Cut,
    calm: Calm,
}

/// Whether nothing has passed for a while: then nothing is on its way.
#[derive(Clone, Copy, Debug, Default)]
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
            Some((since, before)) if before == now => time.since(since) >= ON_ITS_WAY,
            _ => {
                self.since = Some((time, now));
                false
            }
        }
    }
}

/// Headers that were repeated on the way from the interface to whatever took the packets, by what took
/// them: of each reading, what took packets since the last one.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    of_sockets: Bytes,
    of_forwarded: Bytes,
    /// The same two, of the last reading alone: no other has confirmed it.
    latest: [Bytes; 2],
    /// Packets that sockets had taken, and that had been forwarded.
    packets: [u64; 2],
}

impl Cut {
    /// Takes a reading, by which so many bytes are of repeated headers.
    ///
    /// That may be too few: a buffer on its way hides as much. And too many, where packets moved during the
    /// reading; the next one shows that.
    fn take(&mut self, repeated: Bytes, packets: [u64; 2]) {
        let known = self.of_sockets + self.of_forwarded;
        let more = repeated.since(known);
        let less = known.since(repeated);
        if less == Bytes(0) {
            let [by_sockets, forwarded] =
                [0, 1].map(|taker| u128::from(packets[taker].saturating_sub(self.packets[taker])));
            let all = by_sockets + forwarded;
            let of_sockets = match all {
                0 => more,
                _ => Bytes((u128::from(more.0) * by_sockets / all) as u64),
            };
            self.latest = [of_sockets, more.since(of_sockets)];
            self.of_sockets += self.latest[0];
            self.of_forwarded += self.latest[1];
        } else {
            let of_sockets = less.min(self.latest[0]);
            let of_forwarded = less.since(of_sockets).min(self.latest[1]);
            self.of_sockets = self.of_sockets.since(of_sockets);
            self.of_forwarded = self.of_forwarded.since(of_forwarded);
            self.latest = [Bytes(0); 2];
        }
        self.packets = packets;
    }
}

impl Account {
    /// Takes a reading of counters, and reports. The parts that are remainders follow once they are
    /// certain; until then they stand under `unexplained`.
    pub(super) fn take(
        &mut self,
        counted: &InterfaceSide,
        since: Bytes,
        way: Way,
        time: Instant,
    ) -> LedgerSide {
        let is_calm = self.calm.take(counted, time);
        let reading = side(counted, since, way, &mut self.cut);
        self.reading = reading;
        let mut certain = reading;
        if way == Way::Ingress {
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

    /// The last report: no packet is on its way any more.
    pub(super) fn close(&mut self) -> LedgerSide {
        self.report(self.reading)
    }

    /// The next readings are of counters that begin anew.
    pub(super) fn restart(&mut self) {
        *self = Self {
            base: self.shown,
            shown: self.shown,
            ..Self::default()
        };
    }

    /// Goes on from what another account had reported, where that is more.
    pub(super) fn rise_to(&mut self, other: &Self) {
        let (shown, other) = (self.shown, other.shown);
        let more = |part: fn(&LedgerSide) -> Bytes| part(&other).since(part(&shown));
        let lacking = LedgerSide {
            frames: more(|side| side.frames),
            socket: more(|side| side.socket),
            forwarded: more(|side| side.forwarded),
            kernel: more(|side| side.kernel),
            packet_socket: more(|side| side.packet_socket),
            not_ip: more(|side| side.not_ip),
            offload: more(|side| side.offload),
            unexplained: 0,
        };
        for side in [&mut self.base, &mut self.shown] {
            *side = side.plus(&lacking);
        }
    }

    pub(super) fn shown(&self) -> &LedgerSide {
        &self.shown
    }

    fn report(&mut self, certain: LedgerSide) -> LedgerSide {
        let Self { base, shown, .. } = self;
        let now = base.plus(&certain);
        let most = |part: fn(&LedgerSide) -> Bytes| part(shown).max(part(&now));
        *shown = LedgerSide {
            frames: most(|side| side.frames),
            socket: most(|side| side.socket),
            forwarded: most(|side| side.forwarded),
            kernel: most(|side| side.kernel),
            packet_socket: most(|side| side.packet_socket),
            not_ip: most(|side| side.not_ip),
            offload: most(|side| side.offload),
            unexplained: 0,
        }
        .balanced();
        *shown
    }
}

/// A remainder. What was left of one reading may turn out to be something else, but nothing that
/// turned out so comes back: the least of all readings since is certain.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    certain: u64,
    /// The oldest reading that is not certain: when it was taken, and the least of it and all since.
    open: Option<(Instant, u64)>,
}

impl Held {
    /// Takes a reading; what is certain now.
    fn take(&mut self, reading: u64, time: Instant) -> u64 {
        let (since, least) = self.open.unwrap_or((time, reading));
        let least = least.min(reading);
        self.open = if time.since(since) < ON_ITS_WAY {
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

impl LedgerSide {
    fn plus(&self, other: &Self) -> Self {
        Self {
            frames: self.frames + other.frames,
            socket: self.socket + other.socket,
            forwarded: self.forwarded + other.forwarded,
            kernel: self.kernel + other.kernel,
            packet_socket: self.packet_socket + other.packet_socket,
            not_ip: self.not_ip + other.not_ip,
            offload: self.offload + other.offload,
            unexplained: 0,
        }
        .balanced()
    }

    /// The same, with what the parts lack as `unexplained`.
    fn balanced(self) -> Self {
        let Self {
            frames,
            socket,
            forwarded,
            kernel,
            packet_socket,
            not_ip,
            offload,
            unexplained: _,
        } = self;
        let parts = [socket, forwarded, kernel, packet_socket, not_ip, offload];
        let explained: i128 = parts.iter().map(|part| i128::from(part.0)).sum();
        let unexplained = i128::from(frames.0) - explained;
        Self {
            unexplained: i64::try_from(unexplained).unwrap_or(if unexplained < 0 {
                i64::MIN
            } else {
                i64::MAX
            }),
            ..self
        }
    }
}

/// The ledger of a direction. `since` is what the interface's own counter said when Flow began to
/// look.
///
/// On egress every packet is classified as it leaves. On ingress the classifier runs before
/// anybody knows whose a packet is: it counts all packets and those that are not IP. Packets
/// delivered are counted at their socket, forwarded ones when they leave through another interface.
/// The rest is the kernel's: no socket took it, so the kernel answered or dropped it.
fn side(side: &InterfaceSide, since: Bytes, way: Way, cut: &mut Cut) -> LedgerSide {
    let class = |class: Class| side.classes[class as usize];
    let bytes = |of: Class| class(of).bytes;
    let frames = side.bytes.since(since);
    let [mut socket, mut forwarded, packet_socket, not_ip] = [
        bytes(Class::Socket),
        bytes(Class::Forwarded),
        bytes(Class::PacketSocket),
        bytes(Class::NotIp),
    ];
    let kernel = match way {
        Way::Egress => bytes(Class::Kernel),
        Way::Ingress => {
            let taken = socket + forwarded + packet_socket + not_ip;
            bytes(Class::Total).since(taken)
        }
    };
    if way == Way::Ingress {
        let taken = [Class::Socket, Class::Forwarded, Class::NotIp].map(class);
        let packets = [Class::Socket, Class::Forwarded].map(|of| class(of).packets);
        cut.take(split(class(Class::Total), &taken), packets);
        socket = socket.since(cut.of_sockets);
        forwarded = forwarded.since(cut.of_forwarded);
    }
    let offload = offload(frames, side);
    LedgerSide {
        frames,
        socket,
        forwarded,
        kernel,
        packet_socket,
        not_ip,
        offload,
        unexplained: 0,
    }
    .balanced()
}

/// Bytes of headers that the stack repeated on the way from the interface to the sockets, where the kernel side
/// could not know it: a shaper behind an IFB device cuts buffers, and UDP cuts those that did not reach it at
/// once. The buffer was counted with one set of headers, the segments at their socket, or where they left, with
/// one each. Bytes that nobody took can hide it.
fn split(total: ClassCount, taken: &[ClassCount]) -> Bytes {
    let sum = |part: fn(&ClassCount) -> Bytes| -> Bytes {
        taken
            .iter()
            .map(part)
            .fold(Bytes(0), |sum, part| sum + part)
    };
    let excess = sum(|count| count.bytes).since(total.bytes);
    let repeated = total.header_bytes.since(sum(|count| count.header_bytes));
    Bytes(excess.0.min(repeated.0))
}

/// Bytes of repeated headers that the interface counts.
///
/// The stack hands over one large buffer for many segments. An interface without hardware (veth,
/// lo) counts the buffer; one with segmentation in hardware counts each segment with its own
/// headers. Which one this is shows in its counter: the nearer of the two sums is what it does.
///
/// Some packets may be counted one way and some the other: a tunnel counts what comes in before the stack puts
/// segments together (GRO), and large buffers among it as they are. Then it counts more packets than buffers passed the
/// classifier, but not as many as there are segments, and so many headers more.
///
/// What came while the interface's counters were read is not for headers.
fn offload(frames: Bytes, side: &InterfaceSide) -> Bytes {
    let total = side.classes[Class::Total as usize];
    let repeated = total.header_bytes;
    let segments = total.frames.saturating_sub(total.packets);
    let (excess, apart) = excess(frames, side);
    if (1..segments).contains(&apart) && excess <= repeated {
        // Headers differ in length, by less than half. Whole packets that the interface counted
        // and the classifier did not see, or the other way round, are longer.
        let is_headers = |bytes: Bytes, count: u64| {
            let usual = u128::from(repeated.0) * u128::from(count) / u128::from(segments);
            (usual / 2..=usual * 3 / 2).contains(&u128::from(bytes.0))
        };
        let not_counted = repeated.since(excess);
        if is_headers(excess, apart) && is_headers(not_counted, segments - apart) {
            return excess;
        }
    }
    let seen = seen(side).bytes;
    let as_buffers = seen.0.abs_diff(frames.0);
    let as_segments = (seen + repeated).0.abs_diff(frames.0);
    // One that counts segments in its bytes does so in its packets.
    let are_segments = apart > segments / 2 || as_segments == 0 || excess > BYTES_ON_THEIR_WAY;
    if as_segments < as_buffers && are_segments {
        repeated
    } else {
        Bytes(0)
    }
}

/// Whether the interface counted so much more than its classifier that most of it cannot be on its
/// way from the one to the other.
fn is_beyond_doubt(frames: Bytes, side: &InterfaceSide) -> bool {
    let (excess, apart) = excess(frames, side);
    apart > PACKETS_ON_THEIR_WAY || excess > BYTES_ON_THEIR_WAY
}

/// Bytes and packets that the interface counted and its classifier did not.
fn excess(frames: Bytes, side: &InterfaceSide) -> (Bytes, u64) {
    let ClassCount { packets, bytes, .. } = seen(side);
    let own = side.packets.saturating_sub(side.packets_at_attach);
    (frames.since(bytes), own.saturating_sub(packets))
}

/// What the classifier had counted when the interface's counters had been read.
fn seen(side: &InterfaceSide) -> ClassCount {
    let mut seen = side.classes[Class::Total as usize];
    seen.bytes += side.meanwhile.bytes;
    seen.packets += side.meanwhile.packets;
    seen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(bytes: u64, header_bytes: u64) -> ClassCount {
        ClassCount {
            packets: 1,
            bytes: Bytes(bytes),
            frames: 1,
            header_bytes: Bytes(header_bytes),
        }
    }

    fn side_of(counted: &InterfaceSide, since: Bytes, way: Way) -> LedgerSide {
        side(counted, since, way, &mut Cut::default())
    }

    fn sides(own: u64, classes: &[(Class, u64, u64)]) -> InterfaceSide {
        let mut side = InterfaceSide {
            bytes: Bytes(own),
            ..InterfaceSide::default()
        };
        for (class, bytes, header_bytes) in classes {
            side.classes[*class as usize] = count(*bytes, *header_bytes);
        }
        side
    }

    #[test]
    fn egress_takes_each_class_as_counted() {
        let classes = [
            (Class::Total, 1000, 0),
            (Class::Socket, 700, 0),
            (Class::Forwarded, 100, 0),
            (Class::Kernel, 50, 0),
            (Class::PacketSocket, 60, 0),
            (Class::NotIp, 90, 0),
        ];
        let ledger = side_of(&sides(1500, &classes), Bytes(500), Way::Egress);
        assert_eq!(
            ledger,
            LedgerSide {
                frames: Bytes(1000),
                socket: Bytes(700),
                forwarded: Bytes(100),
                kernel: Bytes(50),
                packet_socket: Bytes(60),
                not_ip: Bytes(90),
                offload: Bytes(0),
                unexplained: 0,
            }
        );
    }

    #[test]
    fn on_ingress_what_nobody_took_is_the_kernels() {
        let classes = [
            (Class::Total, 1000, 0),
            (Class::Socket, 700, 0),
            (Class::Forwarded, 100, 0),
            (Class::NotIp, 90, 0),
        ];
        let ledger = side_of(&sides(1000, &classes), Bytes(0), Way::Ingress);
        assert_eq!(ledger.kernel, Bytes(110));
        assert_eq!(ledger.unexplained, 0);
    }

    #[test]
    fn more_taken_than_came_in_is_unexplained() {
        let classes = [(Class::Total, 1000, 0), (Class::Socket, 1040, 0)];
        let ledger = side_of(&sides(1000, &classes), Bytes(0), Way::Ingress);
        assert_eq!(ledger.kernel, Bytes(0));
        assert_eq!(ledger.unexplained, -40);
    }

    /// Large buffers of 51 segments, and what the interface counted of them: bytes, packets.
    fn large_buffers(number: u64, own: (u64, u64)) -> InterfaceSide {
        let mut side = sides(own.0, &[]);
        side.packets = own.1;
        for class in [Class::Total, Class::Socket] {
            side.classes[class as usize] = ClassCount {
                packets: number,
                bytes: Bytes(number * 64_000),
                frames: number * 51,
                header_bytes: Bytes(number * 2800),
            };
        }
        side
    }

    #[test]
    fn repeated_headers_count_where_the_interface_counts_them() {
        for (own, offload, unexplained) in [
            ((64_000, 1), 0, 0),
            ((66_800, 51), 2800, 0),
            // A packet came between the two reads.
            ((66_900, 52), 2800, 100),
            ((64_100, 2), 0, 100),
            // A large one.
            ((66_500, 2), 0, 2500),
        ] {
            let ledger = side_of(&large_buffers(1, own), Bytes(0), Way::Egress);
            assert_eq!(ledger.offload, Bytes(offload), "own counters {own:?}");
            assert_eq!(ledger.unexplained, unexplained, "own counters {own:?}");
        }
    }

    #[test]
    fn what_comes_while_counters_are_read_is_no_header() {
        // A packet of 1500 bytes, after a large buffer.
        let mut account = Account::default();
        let mut take = |own: (u64, u64), meanwhile: u64, seconds: u64| {
            let mut counted = large_buffers(1, own);
            counted.meanwhile = count(meanwhile, 0);
            let ledger = account.take(&counted, Bytes(0), Way::Ingress, at(1000 * seconds));
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
                    .take(&counted, Bytes(0), Way::Ingress, time)
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

    #[test]
    fn headers_may_be_counted_of_some_packets_only() {
        // Two buffers of 40 segments, and one of 10 that the interface had counted one by one.
        let ledger_of = |own_bytes: u64, own_packets: u64| {
            let mut side = sides(own_bytes, &[]);
            side.packets = 7 + own_packets;
            side.packets_at_attach = 7;
            side.classes[Class::Total as usize] = ClassCount {
                packets: 3,
                bytes: Bytes(128_000),
                frames: 90,
                header_bytes: Bytes(87 * 52),
            };
            let ledger = side_of(&side, Bytes(0), Way::Ingress);
            (ledger.offload.0, ledger.unexplained)
        };
        assert_eq!(ledger_of(128_000, 3), (0, 0), "all as buffers");
        assert_eq!(ledger_of(128_000 + 87 * 52, 90), (87 * 52, 0), "none");
        assert_eq!(ledger_of(128_000 + 9 * 52, 12), (9 * 52, 0), "two");
        assert_eq!(ledger_of(128_000 + 52, 4), (52, 0), "one more");
        assert_eq!(ledger_of(128_000 + 1500, 4), (0, 1500), "a packet");
        assert_eq!(ledger_of(128_000 + 9 * 52, 3), (0, 9 * 52), "no packet");
        let all = 128_000 + 87 * 52;
        assert_eq!(ledger_of(all - 1452, 89), (87 * 52, -1452), "one dropped");
        assert_eq!(
            ledger_of(all - 40 * 1452, 50),
            (0, 87 * 52 - 40 * 1452),
            "a buffer dropped: which of the two it counts is not clear any more"
        );
    }

    #[test]
    fn headers_repeated_for_a_socket_are_not_the_interfaces() {
        // Ten datagrams of 100 bytes in one buffer, cut before their socket.
        let classes = [(Class::Total, 1028, 252), (Class::Socket, 1280, 0)];
        let ledger = side_of(&sides(1028, &classes), Bytes(0), Way::Ingress);
        assert_eq!(ledger.socket, Bytes(1028));
        assert_eq!((ledger.kernel, ledger.unexplained), (Bytes(0), 0));
    }

    #[test]
    fn headers_repeated_before_packets_left_are_of_those() {
        // Ten datagrams in one buffer for a socket, then ten that a shaper cut before they left.
        let mut cut = Cut::default();
        let classes = [(Class::Total, 1028, 252), (Class::Socket, 1280, 0)];
        side(&sides(1028, &classes), Bytes(0), Way::Ingress, &mut cut);
        let classes = [
            (Class::Total, 2056, 504),
            (Class::Socket, 1280, 0),
            (Class::Forwarded, 1280, 0),
        ];
        let ledger = side(&sides(2056, &classes), Bytes(0), Way::Ingress, &mut cut);
        assert_eq!(ledger.socket, Bytes(1028));
        assert_eq!(ledger.forwarded, Bytes(1028));
        assert_eq!((ledger.kernel, ledger.unexplained), (Bytes(0), 0));
    }

    /// Successive readings of ingress, by the bytes of all packets and their repeated headers, and what sockets
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
            account.take(&counted, Bytes(0), Way::Ingress, at(1000 * tick as u64));
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

    #[test]
    fn a_counter_that_was_reset_is_no_frames() {
        let ledger = side_of(&sides(10, &[]), Bytes(500), Way::Egress);
        assert_eq!(ledger, LedgerSide::default());
    }

    fn at(milliseconds: u64) -> Instant {
        Instant(milliseconds * 1_000_000)
    }

    /// What an account reports of readings of ingress: total, taken by sockets, and the interface's
    /// own.
    fn reported(readings: &[(u64, u64, u64)]) -> Account {
        let mut account = Account::default();
        for (tick, (total, socket, own)) in readings.iter().enumerate() {
            let classes = [(Class::Total, *total, 0), (Class::Socket, *socket, 0)];
            let counted = sides(*own, &classes);
            account.take(&counted, Bytes(0), Way::Ingress, at(1000 * tick as u64));
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
        let ledger = account.take(&counted, Bytes(0), Way::Ingress, at(2000));
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
        let mut held = Held::default();
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
            let ledger = account.take(&counted, Bytes(0), Way::Egress, at(1000 * seconds));
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
            let ledger = account.take(&counted, Bytes(0), Way::Egress, at(milliseconds));
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
        let ledger = account.take(&sides(50, &classes), Bytes(0), Way::Ingress, at(9000));
        assert_eq!((ledger.frames, ledger.socket), (Bytes(1050), Bytes(950)));
        assert_eq!((ledger.kernel, ledger.unexplained), (Bytes(100), 0));
    }

    proptest! {
        #[test]
        fn the_parts_add_up_to_the_frames(
            own in 0..1_u64 << 50,
            since in 0..1_u64 << 50,
            counts in prop::array::uniform6((0..1_u64 << 50, 0..1_u64 << 45)),
            packets in 0..10_u64,
            frames in 0..10_u64,
            ingress: bool,
        ) {
            let classes: Vec<_> = Class::ALL
                .iter()
                .zip(counts)
                .map(|(class, (bytes, headers))| (*class, bytes, headers))
                .collect();
            let mut counted = sides(own, &classes);
            counted.packets = packets;
            counted.classes[Class::Total as usize].frames = frames;
            let way = if ingress { Way::Ingress } else { Way::Egress };
            let LedgerSide {
                frames,
                socket,
                forwarded,
                kernel,
                packet_socket,
                not_ip,
                offload,
                unexplained,
            } = side_of(&counted, Bytes(since), way);
            let parts = [socket, forwarded, kernel, packet_socket, not_ip, offload];
            let sum: i128 = parts.iter().map(|part| i128::from(part.0)).sum();
            prop_assert_eq!(i128::from(frames.0), sum + i128::from(unexplained));
            prop_assert_eq!(frames.0, own.saturating_sub(since));
        }
    }
}
