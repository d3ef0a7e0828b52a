//! The ledger of one reading of an interface's counters.

use serde::{Deserialize, Serialize};

use crate::{
    event::{Bytes, Class, ClassCount, InterfaceSide},
    model::snapshot::LedgerSide,
};

/// Direction of packets through the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) enum Side {
    Ingress,
    Egress,
}

/// The most that may be in transit between an interface's own counter and its classifier. A packet
/// that waits there for a busy CPU must not be taken for repeated headers: acknowledgements are as
/// long as they are, and a large buffer is as long as many of them.
const PACKETS_IN_TRANSIT: u64 = 64;
const BYTES_IN_TRANSIT: Bytes = Bytes(1 << 20);

/// Bytes that are no part of what came in, and that were counted for whatever took the packets: of
/// each reading, for what took packets since the last one.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct TakenTwice {
    /// Headers that were repeated after the interface.
    headers: Share,
    /// Packets that several took.
    packets: Share,
    /// The last reading: what sockets had taken, and what had been forwarded.
    before: [ClassCount; 2],
}

/// Bytes of sockets and of what was forwarded.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Share {
    known: [Bytes; 2],
    /// The part of the last reading alone: no other has confirmed it.
    latest: [Bytes; 2],
}

impl Share {
    /// Takes a reading, by which it is so many bytes; `of_sockets` says which part of further ones
    /// is of sockets.
    ///
    /// That may be too few: a buffer in transit hides as much. And too many, where packets moved
    /// during the reading; the next one shows that.
    fn take(&mut self, all: Bytes, of_sockets: impl FnOnce(Bytes) -> Bytes) {
        let [sockets, forwarded] = self.known;
        let more = all.since(sockets + forwarded);
        let less = (sockets + forwarded).since(all);
        if less == Bytes(0) {
            let of_sockets = of_sockets(more);
            self.latest = [of_sockets, more.since(of_sockets)];
            self.known = [sockets + self.latest[0], forwarded + self.latest[1]];
        } else {
            let of_sockets = less.min(self.latest[0]);
            let of_forwarded = less.since(of_sockets).min(self.latest[1]);
            self.known = [sockets.since(of_sockets), forwarded.since(of_forwarded)];
            self.latest = [Bytes(0); 2];
        }
    }
}

impl TakenTwice {
    /// Takes a reading of what came in and what was taken of it. Returns what sockets took, and
    /// what was forwarded, without these bytes.
    fn take_off(&mut self, class: impl Fn(Class) -> ClassCount) -> [Bytes; 2] {
        let now = [Class::Socket, Class::Forwarded].map(&class);
        let since: [ClassCount; 2] =
            std::array::from_fn(|taker| now[taker].since(&self.before[taker]));
        self.before = now;
        let headers = repeated(class(Class::Total), &[now[0], now[1], class(Class::NotIp)]);
        self.headers.take(headers, |more| {
            let [by_sockets, forwarded] = since.map(|count| u128::from(count.packets));
            match by_sockets + forwarded {
                0 => more,
                all => Bytes((u128::from(more.0) * by_sockets / all) as u64),
            }
        });
        let [socket, forwarded] =
            std::array::from_fn(|taker| now[taker].bytes.since(self.headers.known[taker]));
        let others = [Class::PacketSocket, Class::NotIp].map(|of| class(of).bytes);
        let taken = socket + forwarded + others[0] + others[1];
        let packets = taken.since(class(Class::Total).bytes);
        self.packets
            .take(packets, |more| more.since(since[1].bytes));
        let [of_sockets, of_forwarded] = self.packets.known;
        [socket.since(of_sockets), forwarded.since(of_forwarded)]
    }
}

/// The ledger of a direction. `since` is the interface's own counter when Flow began.
///
/// On egress every packet is classified as it leaves. On ingress the classifier runs before the
/// owner of a packet is known: it counts all packets and those that are not IP. Packets delivered
/// are counted at their socket, forwarded ones when they leave through another interface. The rest
/// is the kernel's: no socket took it, so the kernel answered or dropped it. The parts never exceed
/// what came in: where several takers counted the same packets unnoticed, the excess is taken off
/// `forwarded`, then off `socket`.
pub(super) fn side(
    side: &InterfaceSide,
    since: Bytes,
    direction: Side,
    twice: &mut TakenTwice,
) -> LedgerSide {
    let class = |class: Class| side.classes[class as usize];
    let bytes = |of: Class| class(of).bytes;
    let frames = side.bytes.since(since);
    let [packet_socket, not_ip] = [Class::PacketSocket, Class::NotIp].map(bytes);
    let ([socket, forwarded], kernel) = match direction {
        Side::Egress => {
            let taken = [Class::Socket, Class::Forwarded].map(bytes);
            (taken, bytes(Class::Kernel))
        }
        Side::Ingress => {
            let [socket, forwarded] = twice.take_off(class);
            let taken = socket + forwarded + packet_socket + not_ip;
            ([socket, forwarded], bytes(Class::Total).since(taken))
        }
    };
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

/// Bytes of headers that the stack repeated between the interface and the sockets, where the kernel
/// side could not know it: a shaper behind an IFB device cuts buffers, and UDP cuts those that did
/// not reach it at once. The buffer was counted with one set of headers, the segments at their
/// socket, or where they left, with one each. Bytes without a taker can hide it.
fn repeated(total: ClassCount, taken: &[ClassCount]) -> Bytes {
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
/// An interface may count both ways at once: a tunnel counts what comes in before the stack puts
/// segments together (GRO), and large buffers among it as they are. Then it counts more packets
/// than buffers passed the classifier, but not as many as there are segments, and so many headers
/// more.
///
/// What came while the interface's counters were read is not for headers.
fn offload(frames: Bytes, side: &InterfaceSide) -> Bytes {
    let total = side.classes[Class::Total as usize];
    let repeated = total.header_bytes;
    let segments = total.frames.saturating_sub(total.packets);
    let (excess, apart) = excess(frames, side);
    if (1..segments).contains(&apart) && excess <= repeated {
        // Headers differ in length, by less than half. Whole packets that the interface counted
        // and the classifier did not see, or the reverse, are longer.
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
    let are_segments = apart > segments / 2 || as_segments == 0 || excess > BYTES_IN_TRANSIT;
    if as_segments < as_buffers && are_segments {
        repeated
    } else {
        Bytes(0)
    }
}

/// Whether the interface counted so much more than its classifier that most of it cannot be in
/// transit between the two.
pub(super) fn is_beyond_doubt(frames: Bytes, side: &InterfaceSide) -> bool {
    let (excess, apart) = excess(frames, side);
    apart > PACKETS_IN_TRANSIT || excess > BYTES_IN_TRANSIT
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
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::model::ledger) fn count(bytes: u64, header_bytes: u64) -> ClassCount {
        ClassCount {
            packets: 1,
            bytes: Bytes(bytes),
            frames: 1,
            header_bytes: Bytes(header_bytes),
        }
    }

    fn side_of(counted: &InterfaceSide, since: Bytes, direction: Side) -> LedgerSide {
        side(counted, since, direction, &mut TakenTwice::default())
    }

    pub(in crate::model::ledger) fn sides(
        own: u64,
        classes: &[(Class, u64, u64)],
    ) -> InterfaceSide {
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
        let ledger = side_of(&sides(1500, &classes), Bytes(500), Side::Egress);
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
        let ledger = side_of(&sides(1000, &classes), Bytes(0), Side::Ingress);
        assert_eq!(ledger.kernel, Bytes(110));
        assert_eq!(ledger.unexplained, 0);
    }

    /// What sockets took and what was forwarded in the last of successive readings of ingress: of
    /// each, bytes that came in, and that both took.
    fn taken(readings: &[[u64; 3]]) -> [u64; 2] {
        let mut twice = TakenTwice::default();
        let mut last = [0; 2];
        for [total, socket, forwarded] in readings {
            let classes = [
                (Class::Total, *total, 0),
                (Class::Socket, *socket, 0),
                (Class::Forwarded, *forwarded, 0),
            ];
            let ledger = side(
                &sides(*total, &classes),
                Bytes(0),
                Side::Ingress,
                &mut twice,
            );
            let parts = [ledger.socket, ledger.forwarded, ledger.kernel];
            assert_eq!(parts.into_iter().sum::<Bytes>(), Bytes(*total));
            last = [ledger.socket.0, ledger.forwarded.0];
        }
        last
    }

    #[test]
    fn what_several_took_is_counted_once() {
        // Routed to two interfaces; a copy forwarded; in two places for two sockets.
        assert_eq!(taken(&[[1000, 0, 2000]]), [0, 1000]);
        assert_eq!(taken(&[[1000, 1000, 1000]]), [1000, 0]);
        assert_eq!(taken(&[[1000, 2000, 0]]), [1000, 0]);
        // What was forwarded before stays so.
        assert_eq!(taken(&[[1000, 600, 400], [1100, 800, 400]]), [700, 400]);
        // What has no taker comes after.
        let readings = [[1000, 0, 2000], [1000, 0, 2000], [1500, 0, 2000]];
        assert_eq!(taken(&readings), [0, 1000]);
    }

    #[test]
    fn what_moved_during_a_reading_is_given_back() {
        assert_eq!(taken(&[[1000, 1040, 0], [1140, 1140, 0]]), [1140, 0]);
        assert_eq!(taken(&[[1000, 900, 140], [1140, 1000, 140]]), [1000, 140]);
    }

    /// Large buffers of 51 segments, and what the interface counted of them: bytes, packets.
    pub(in crate::model::ledger) fn large_buffers(number: u64, own: (u64, u64)) -> InterfaceSide {
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
            let ledger = side_of(&large_buffers(1, own), Bytes(0), Side::Egress);
            assert_eq!(ledger.offload, Bytes(offload), "own counters {own:?}");
            assert_eq!(ledger.unexplained, unexplained, "own counters {own:?}");
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
            let ledger = side_of(&side, Bytes(0), Side::Ingress);
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
        let ledger = side_of(&sides(1028, &classes), Bytes(0), Side::Ingress);
        assert_eq!(ledger.socket, Bytes(1028));
        assert_eq!((ledger.kernel, ledger.unexplained), (Bytes(0), 0));
    }

    #[test]
    fn headers_repeated_before_packets_left_are_of_those() {
        // Ten datagrams in one buffer for a socket, then ten that a shaper cut before they left.
        let mut cut = TakenTwice::default();
        let classes = [(Class::Total, 1028, 252), (Class::Socket, 1280, 0)];
        side(&sides(1028, &classes), Bytes(0), Side::Ingress, &mut cut);
        let classes = [
            (Class::Total, 2056, 504),
            (Class::Socket, 1280, 0),
            (Class::Forwarded, 1280, 0),
        ];
        let ledger = side(&sides(2056, &classes), Bytes(0), Side::Ingress, &mut cut);
        assert_eq!(ledger.socket, Bytes(1028));
        assert_eq!(ledger.forwarded, Bytes(1028));
        assert_eq!((ledger.kernel, ledger.unexplained), (Bytes(0), 0));
    }

    /// Successive readings of ingress, by the bytes of all packets and their repeated headers, and
    /// what sockets had taken and what had been forwarded: bytes of both in the last ledger.
    #[test]
    fn a_counter_that_was_reset_is_no_frames() {
        let ledger = side_of(&sides(10, &[]), Bytes(500), Side::Egress);
        assert_eq!(ledger, LedgerSide::default());
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
            let direction = if ingress { Side::Ingress } else { Side::Egress };
            let ledger = side_of(&counted, Bytes(since), direction);
            let parts = ledger.parts().map(|part| i128::from(part.0));
            let sum = parts.iter().sum::<i128>() + i128::from(ledger.unexplained);
            prop_assert_eq!(i128::from(ledger.frames.0), sum);
            prop_assert_eq!(ledger.frames.0, own.saturating_sub(since));
        }
    }
}
