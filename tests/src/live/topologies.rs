//! Every kind of link that kernels offer: the same traffic over each, and the ledgers against the
//! interfaces' own counters.
//!
//! [`KINDS`] is the table: how a kind is created, and which part of the ledger must take the
//! traffic of which interface. The traffic is TCP in large buffers both ways, then datagrams and
//! their echoes:
//!
//! - *own*: a process of Flow's network namespace uses the link,
//! - *routed*: a third namespace's traffic is routed over it,
//! - *into*: the far end exchanges packets with a third namespace behind the link: a device that
//!   was moved there, a port of a bridge, a virtual machine's tap.
//!
//! Flow runs in a network namespace of the test's own, without other traffic.

mod kinds;
mod netlink;
mod place;
mod prepare;
mod relay;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use nix::sys::signal::Signal;

use super::{
    World, check,
    counters::{self, Counters, Readings},
    difference::{Difference, difference},
    flow::Flow,
    generator::Generator,
    report,
    stream::{Ledger, Side, Stream},
    tools::Netns,
    waiting,
};
use crate::{guest, truth::Truth};
pub use kinds::KINDS;
use place::{Kind, Part, Passing, Place};

/// Bytes of the bulk transfer in each direction, and rounds of small datagrams, three in each.
const BULK: u64 = 4_000_000;
const ROUNDS: u64 = 70;
const LEAST_ROUNDS: u64 = 10;
/// `unexplained` must be less than a packet.
const PACKET: i128 = 1514;
/// Bytes on one interface, in one direction, of packets that are the kernel's with any traffic:
/// handshakes, packets for sockets in TIME_WAIT, neighbour discovery.
const KERNELS_OWN: i128 = 4096;
/// Bytes of neighbour discovery that a bridge sends to all its ports, which forwards them.
const FLOODED: i128 = 1024;
/// Headers that segmentation repeats are less than one byte in so many.
const REPEATED_PART: i128 = 8;
/// Headers that encryption adds, on the interface where the packets arrive: less than one byte in
/// so many.
const PLAIN_SIDE: &str = "in0";
const ADDED_PART: i128 = 16;
/// How long an interface's counters must not change, and how long Flow may take to report them.
const STILL: Duration = Duration::from_millis(120);
const CATCHING_UP: Duration = Duration::from_secs(5);
/// How long `unexplained` must not change before it is accepted: several refreshes.
const LEFT: Duration = Duration::from_millis(1500);
const INTERVAL: [&str; 2] = ["--interval", "200ms"];

/// The two ends of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Own,
    Routed,
    Into,
}

/// Ledgers by interface.
type Ledgers = BTreeMap<String, Ledger>;

/// Creates the link, runs the traffic in each way, and compares.
pub fn link(world: &World, kind: &Kind) -> Result<()> {
    let place = match Place::make(kind) {
        Ok(place) => place,
        Err(error) => return lacking(kind, error),
    };
    report::print(&format!("matrix link {} tested\n", kind.link()))?;
    place.settle(world)?;
    if kind.shakes_hands {
        place.shake_hands(world, kind)?;
    }
    let near = &*place.near.name;
    let mut readings = Readings {
        before_start: counters::read_in(Some(near))?,
        ..Readings::default()
    };
    let flow = Flow::events_in(world, kind.name, &INTERVAL, near)?;
    readings.after_start = counters::read_in(Some(near))?;
    let mut differences = Vec::new();
    let mut truths = Vec::new();
    let mut before = Ledgers::new();
    for (way, passing) in [
        (Way::Own, kind.own),
        (Way::Routed, kind.routed),
        (Way::Into, kind.into),
    ] {
        if passing.is_empty() {
            continue;
        }
        let moved = traffic(world, kind, &place, way)?;
        let payload = payload(&moved);
        truths.extend(moved);
        let after = caught_up(world, kind, &flow, near, &readings)?;
        for passing in passing {
            differences.extend(passed(way, passing, &before, &after, payload));
        }
        before = after;
    }
    readings.before_stop = counters::read_in(Some(near))?;
    let ended = flow.stop(Signal::SIGINT)?;
    ended.expect_code(130)?;
    readings.after_stop = counters::read_in(Some(near))?;
    let stream = Stream::parse(&ended.stdout);
    differences.extend(check::stream(&stream, false));
    differences.extend(check::ledgers(&stream, &readings, &[]));
    differences.extend(check::processes(&stream, &truths, world.options.backend));
    for (name, ledger) in &stream.interfaces {
        for (direction, side) in [("ingress", ledger.ingress), ("egress", ledger.egress)] {
            let mut side = side;
            let added = -side.unexplained;
            if kind.adds_to_forwarded
                && (name.as_str(), direction) == (PLAIN_SIDE, "ingress")
                && (0..=side.frames / ADDED_PART).contains(&added)
            {
                side.forwarded -= added;
                side.unexplained = 0;
            }
            let subject = format!("{name} {direction} at the end");
            differences.extend(possible(&subject, &side, 0));
        }
    }
    report::expect_none(&differences)
}

/// The result for a kind that could not be created. Guests have all kinds; other machines may lack
/// some.
fn lacking(kind: &Kind, error: anyhow::Error) -> Result<()> {
    let text = format!("{error:#}");
    let unknown = [
        "Unknown device type",
        "Operation not supported",
        "Requested type not found",
        "Requested AEAD algorithm not found",
    ];
    if guest::is_here() || !unknown.iter().any(|words| text.contains(words)) {
        return Err(error.context("making the link"));
    }
    report::print(&format!("matrix link {} absent\n", kind.link()))
}

/// Runs the traffic in one way; returns what the processes moved, the near one's first.
fn traffic(world: &World, kind: &Kind, place: &Place, way: Way) -> Result<Vec<Truth>> {
    let (client, server, address) = place.ends(kind, way);
    let amounts = [
        "--bytes".to_owned(),
        world.scaled(BULK).to_string(),
        "--count".to_owned(),
        world.scaled(ROUNDS).max(LEAST_ROUNDS).to_string(),
    ];
    let name = |end: &str| format!("{}.{way:?}.{end}", kind.name);
    let start = |end: &str, mode: &str, peer: SocketAddr, netns: Netns<'_>| {
        let to = ["--peer".to_owned(), peer.to_string()];
        Generator::start_in(
            world,
            &name(end),
            mode,
            &[&to[..], &amounts].concat(),
            netns,
        )
    };
    if kind.traffic == kinds::AWAY {
        return start(
            "client",
            kind.traffic,
            SocketAddr::new(address, 9),
            Some(client),
        )?
        .finish();
    }
    let mut server = serve(world, &name("server"), address, server)?;
    let mut truths = start("client", kind.traffic, server.listening()?, Some(client))?.finish()?;
    truths.extend(server.finish()?);
    Ok(truths)
}

fn serve(world: &World, name: &str, address: IpAddr, netns: &str) -> Result<Generator> {
    let at = [
        "--listen".to_owned(),
        SocketAddr::new(address, 0).to_string(),
    ];
    Generator::start_in(world, name, "serve", &at, Some(netns))
}

/// Least bytes that passed in each direction as the client used it: sent, received.
fn payload(truths: &[Truth]) -> [i128; 2] {
    let moved = truths
        .first()
        .map(|client| client.moved)
        .unwrap_or_default();
    [moved.tx_bytes, moved.rx_bytes].map(i128::from)
}

/// Waits until all traffic has ended and Flow has reported it, as far as it will; returns its
/// ledgers.
fn caught_up(
    world: &World,
    kind: &Kind,
    flow: &Flow,
    near: &str,
    readings: &Readings,
) -> Result<Ledgers> {
    let counted = still(world, near)?;
    let given_up = Instant::now() + world.stretched(CATCHING_UP);
    let mut left = (Vec::new(), Instant::now());
    loop {
        let ledgers: Ledgers = Stream::parse(whole_lines(&flow.output()?))
            .interfaces
            .into_iter()
            .collect();
        let agree = ledgers.iter().all(|(name, ledger)| {
            // The ledger began between these two.
            let [now, early, late] = [&counted, &readings.before_start, &readings.after_start]
                .map(|counters| counters.get(name).copied().unwrap_or_default());
            let ingress = now.ingress - late.ingress..=now.ingress - early.ingress;
            let egress = now.egress - late.egress..=now.egress - early.egress;
            ingress.contains(&ledger.ingress.frames)
                && egress.contains(&ledger.egress.frames)
                && (kind.adds_to_forwarded
                    || [ledger.ingress, ledger.egress]
                        .iter()
                        .all(|side| side.unexplained.abs() < PACKET))
        });
        // The next refresh may explain it.
        let unexplained: Vec<_> = ledgers
            .values()
            .flat_map(|ledger| [ledger.ingress.unexplained, ledger.egress.unexplained])
            .collect();
        let is_explained = unexplained.iter().all(|bytes| *bytes == 0);
        if unexplained != left.0 {
            left = (unexplained, Instant::now());
        }
        let is_left = left.1.elapsed() >= world.stretched(LEFT);
        if agree && (is_explained || is_left) || Instant::now() > given_up {
            return Ok(ledgers);
        }
        thread::sleep(STILL / 4);
    }
}

/// Waits until the counters of all interfaces of a namespace do not change.
fn still(world: &World, netns: &str) -> Result<Counters> {
    let mut last: Option<(Counters, Instant)> = None;
    let needed = world.stretched(STILL);
    waiting::until(world.patience(), "the interfaces to be quiet", || {
        let now = counters::read_in(Some(netns))?;
        if let Some((counters, since)) = &last
            && *counters == now
        {
            return Ok((since.elapsed() >= needed).then_some(now));
        }
        last = Some((now, Instant::now()));
        Ok(None)
    })
}

fn whole_lines(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte == b'\n');
    end.map_or(&[], |end| &text[..=end])
}

/// Compares what passed one interface during the traffic in one way with the table.
fn passed(
    way: Way,
    passing: &Passing,
    before: &Ledgers,
    after: &Ledgers,
    payload: [i128; 2],
) -> Vec<Difference> {
    let subject = format!("{way:?} {}", passing.at);
    let Some(now) = after.get(passing.at) else {
        return vec![difference(subject, "ledger", "a record", "none")];
    };
    if !now.classified {
        return vec![difference(subject, "classified", true, false)];
    }
    let then = before.get(passing.at).cloned().unwrap_or_default();
    let [sent, received] = payload;
    let least = sent.min(received);
    let mut differences = Vec::new();
    for (direction, now, then, parts) in [
        ("ingress", &now.ingress, &then.ingress, passing.ingress),
        ("egress", &now.egress, &then.egress, passing.egress),
    ] {
        let side = since(now, then);
        let carried = then.unexplained;
        let subject = format!("{subject} {direction} {}", shown(&side));
        differences.extend(possible(&subject, &side, carried));
        // One-way traffic has outgoing payload only.
        let least = if received == 0 { sent } else { least };
        differences.extend(caused(&subject, &side, parts, least, carried));
    }
    differences
}

/// Differences that no traffic excuses. `carried` was unexplained before: a part may have it now.
fn possible(subject: &str, side: &Side, carried: i128) -> Vec<Difference> {
    let mut differences = Vec::new();
    let most = most(side, carried);
    for (part, bytes) in parts(side) {
        if part != Part::Unexplained && !(0..=most).contains(&bytes) {
            let expected = format!("0 to {most}");
            differences.push(difference(subject, part.name(), expected, bytes));
        }
    }
    let unexplained = side.unexplained + carried;
    if unexplained.abs() >= PACKET {
        differences.push(difference(
            subject,
            "unexplained",
            format!("less than {PACKET}"),
            unexplained,
        ));
    }
    differences
}

/// Most bytes that a part can have taken.
fn most(side: &Side, carried: i128) -> i128 {
    side.frames.max(0) + carried.max(0)
}

/// Whether the right parts took the bytes.
fn caused(
    subject: &str,
    side: &Side,
    expected: &[Part],
    payload: i128,
    carried: i128,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut expect = |what: &str, least: i128, most: i128, seen: i128| {
        if !(least..=most).contains(&seen) {
            let expected = format!("{least} to {most}");
            differences.push(difference(subject, what, expected, seen));
        }
    };
    if expected.is_empty() {
        expect("frames", 0, KERNELS_OWN, side.frames);
        return differences;
    }
    let mut taken = 0;
    let mut kernels_own = 0;
    for (part, bytes) in parts(side) {
        match part {
            _ if expected.contains(&part) => taken += bytes,
            Part::Kernel | Part::NotIp => kernels_own += bytes,
            Part::Offload => expect("offload", 0, side.frames / REPEATED_PART, bytes),
            Part::Unexplained => {}
            Part::Forwarded => expect(part.name(), 0, FLOODED, bytes),
            Part::Socket | Part::PacketSocket => expect(part.name(), 0, 0, bytes),
        }
    }
    expect("kernel and not_ip", 0, KERNELS_OWN, kernels_own);
    let names: Vec<_> = expected.iter().map(|part| part.name()).collect();
    expect(&names.join(" and "), payload, most(side, carried), taken);
    differences
}

fn parts(side: &Side) -> [(Part, i128); 7] {
    let Side {
        frames: _,
        socket,
        forwarded,
        kernel,
        packet_socket,
        not_ip,
        offload,
        unexplained,
    } = *side;
    [
        (Part::Socket, socket),
        (Part::Forwarded, forwarded),
        (Part::Kernel, kernel),
        (Part::PacketSocket, packet_socket),
        (Part::NotIp, not_ip),
        (Part::Offload, offload),
        (Part::Unexplained, unexplained),
    ]
}

fn shown(side: &Side) -> String {
    let named = parts(side)
        .into_iter()
        .filter(|(_, bytes)| *bytes != 0)
        .map(|(part, bytes)| format!("{} {bytes}", part.name()));
    let all: Vec<_> = std::iter::once(format!("frames {}", side.frames))
        .chain(named)
        .collect();
    format!("({})", all.join(", "))
}

fn since(now: &Side, then: &Side) -> Side {
    Side {
        frames: now.frames - then.frames,
        socket: now.socket - then.socket,
        forwarded: now.forwarded - then.forwarded,
        kernel: now.kernel - then.kernel,
        packet_socket: now.packet_socket - then.packet_socket,
        not_ip: now.not_ip - then.not_ip,
        offload: now.offload - then.offload,
        unexplained: now.unexplained - then.unexplained,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn side(frames: i128, socket: i128, forwarded: i128) -> Side {
        Side {
            frames,
            socket,
            forwarded,
            unexplained: frames - socket - forwarded,
            ..Side::default()
        }
    }

    #[test]
    fn the_right_part_takes_the_bytes_and_no_other() {
        let wrong = |side: Side, parts: &[Part]| caused("", &side, parts, 9_000, 0).len();
        let own = side(10_000, 10_000, 0);
        assert_eq!(wrong(own, &[Part::Socket]), 0);
        assert_eq!(wrong(own, &[Part::Forwarded]), 2);
        assert_eq!(wrong(own, &[]), 1);
        assert_eq!(wrong(side(10_000, 5_000, 5_000), &[Part::Socket]), 2);
        // A handshake is the kernel's, a transfer is not.
        let with_kernel = |kernel| Side {
            kernel,
            ..side(10_000 + kernel, 10_000, 0)
        };
        assert_eq!(wrong(with_kernel(KERNELS_OWN), &[Part::Socket]), 0);
        assert_eq!(wrong(with_kernel(KERNELS_OWN + 1), &[Part::Socket]), 1);
        // Less than was sent.
        assert_eq!(wrong(side(8_000, 8_000, 0), &[Part::Socket]), 1);
    }

    #[test]
    fn no_part_exceeds_the_whole() {
        let wrong = |side: Side| possible("", &side, 0).len();
        assert_eq!(wrong(side(10_000, 10_000, 0)), 0);
        assert_eq!(wrong(side(10_000, 10_001, 0)), 1);
        assert_eq!(wrong(side(10_000, 10_001, -1)), 2);
        assert_eq!(wrong(side(10_000, 10_000 - PACKET, 0)), 1);
    }

    #[test]
    fn what_was_unexplained_before_may_follow() {
        let wrong = |side: Side, carried| {
            possible("", &side, carried).len()
                + caused("", &side, &[Part::Socket], 9_000, carried).len()
        };
        let late = side(10_000, 10_686, 0);
        assert_eq!(wrong(late, 686), 0);
        assert_eq!(wrong(late, 685), 2, "more than was left");
        assert_eq!(wrong(late, 0), 2);
        assert_eq!(wrong(side(10_000, 10_000, 0), 1513), 0);
        assert_eq!(wrong(side(10_000, 10_000, 0), 1514), 1, "never explained");
    }

    #[test]
    fn each_kind_has_a_name_and_passes_something() {
        let names: BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
        for kind in KINDS {
            assert_ne!(kind.link(), kind.name);
            assert!(!kind.own.is_empty() && !kind.routed.is_empty());
        }
    }
}
