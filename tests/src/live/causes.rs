//! Tests of the ledger's causes: one kind of traffic on an interface of its own, and the ledger
//! against what nftables counted at the far end.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result};

use super::{
    World, check,
    counters::Readings,
    difference::{Difference, difference},
    generator::Generator,
    peer::{Peer, patient},
    report,
    session::new_peer,
    stream::{Ledger, Side, Stream},
    tools,
    watched::Watched,
    wire::{self, Packets},
};
use crate::{
    generate::{DROPPED_ON_ARRIVAL, ECHOED, TOO_LARGE},
    truth::Truth,
};

/// A closed port.
pub(super) const CLOSED: u16 = 1;
/// Bytes of an ARP request or reply, and of all headers around a frame's layer 3 in the tunnel.
const ARP: i128 = 28;
const TUNNELED: i128 = 14 + 20 + 8 + 8 + 14;
/// Packets that are the kernel's at the ends of two connections, and bytes of the largest: a socket
/// may be in TIME_WAIT when the far end's FIN arrives, and again when that is retransmitted.
const ANSWERS: i128 = 6;
const LARGEST_ANSWER: i128 = 20 + 60;
/// The network inside of the tunnel.
const TUNNEL: &str = "10.203.17";

/// From one veth pair to another, routed by this namespace.
pub fn forwarded(world: &World) -> Result<()> {
    let peers = [quiet_peer(world)?, quiet_peer(world)?];
    for peer in &peers {
        let forwarding = format!("ipv4/conf/{}/forwarding", peer.link);
        tools::set(None, &forwarding, "1")?;
        let route = format!("ip route add default via {}", peer.near4());
        tools::run(Some(&peer.namespace), &route)?;
    }
    let seen = observe(world, "forwarded", &peers, || {
        let (server, address) = far_server(world, "forwarded.far", &peers[1], peers[1].far4)?;
        let bytes = world.scaled(20_000_000);
        let near = generate(
            world,
            "forwarded.near",
            "tcp-both",
            address,
            bytes,
            Some(&peers[0]),
        )?;
        finish([near, server])
    })?;
    let mut differences =
        seen.differences(|ledger| [ledger.ingress.forwarded, ledger.egress.forwarded]);
    differences.extend(seen.processes(world));
    report::expect_none(&differences)
}

/// Segments to closed ports, datagrams to closed ports, echo requests: the kernel itself answers.
pub fn kernel_replies(world: &World) -> Result<()> {
    let peers = [quiet_peer(world)?];
    let seen = observe(world, "replies", &peers, || {
        let near = SocketAddr::new(peers[0].near4(), CLOSED);
        let knocks = generate(world, "replies.near", "knock", near, 20, Some(&peers[0]))?;
        finish([knocks])
    })?;
    report::expect_none(&seen.differences(|ledger| [ledger.ingress.kernel, ledger.egress.kernel]))
}

/// Packets that several sockets take are counted once. Copies of what this host sends to its own
/// groups reach its members by no interface.
pub fn several_takers(world: &World) -> Result<()> {
    let peers = [quiet_peer(world)?];
    let (near, far) = (peers[0].near4(), peers[0].far4);
    let of = |own: IpAddr, peer: SocketAddr| {
        let own = SocketAddr::new(own, 0).to_string();
        [
            "--listen",
            &own,
            "--peer",
            &peer.to_string(),
            "--count",
            "25",
        ]
        .map(str::to_owned)
    };
    let seen = observe(world, "several_takers", &peers, || {
        let arguments = of(near, SocketAddr::new(far, 0));
        let mut takers = Generator::start(world, "takers.near", "group-take", &arguments, None)?;
        let arguments = of(far, takers.listening()?);
        let sender = Generator::start(
            world,
            "takers.far",
            "group-send",
            &arguments,
            Some(&peers[0]),
        )?;
        finish([sender, takers])
    })?;
    let mut differences = seen.differences(|ledger| [ledger.ingress.socket, ledger.egress.socket]);
    differences.extend(seen.processes(world));
    report::expect_none(&differences)
}

/// Packets that are dropped after the classifier. Incoming ones reach no socket; outgoing ones
/// never reach the interface, which the ledger shows with a minus.
pub fn dropped(world: &World) -> Result<()> {
    let peers = [quiet_peer(world)?];
    let link = &peers[0].link;
    // Frames larger than the bucket are dropped.
    tools::run(
        None,
        &format!("tc qdisc add dev {link} root tbf rate 100mbit burst 1200 limit 1000000"),
    )?;
    let dropping = Arriving::by(link, &format!("meta length >= {DROPPED_ON_ARRIVAL} drop"))?;
    let seen = observe(world, "dropped", &peers, || {
        let (server, address) = far_server(world, "dropped.far", &peers[0], peers[0].far4)?;
        let count = world.scaled(100);
        let near = generate(world, "dropped.near", "udp-dropped", address, count, None)?;
        finish([near, server])
    })?;
    drop(dropping);
    let ledger = seen.ledger(link)?;
    let near = seen.truths.iter().find(|truth| truth.mode == "udp-dropped");
    let rounds = near.context("no truth")?.moved.rx_calls - 1;
    let frames = |payload: usize, count: u64| i128::from((payload as u64 + 42) * count);
    let echoed = frames(ECHOED, rounds + 1);
    let lost_here = frames(TOO_LARGE, rounds);
    let lost_there = frames(DROPPED_ON_ARRIVAL, rounds);
    let [arp_in, arp_out] = seen.arp(link);
    let mut differences = check::stream(&seen.stream, false);
    differences.extend(check::ledgers(&seen.stream, &seen.readings, &[]));
    for (what, expected, seen) in [
        (
            "egress frames",
            echoed + lost_there + arp_out,
            ledger.egress.frames,
        ),
        (
            "egress socket",
            echoed + lost_there + lost_here,
            ledger.egress.socket,
        ),
        ("egress unexplained", -lost_here, ledger.egress.unexplained),
        (
            "ingress frames",
            echoed + lost_there + arp_in,
            ledger.ingress.frames,
        ),
        ("ingress socket", echoed, ledger.ingress.socket),
        ("ingress kernel", lost_there, ledger.ingress.kernel),
        ("ingress unexplained", 0, ledger.ingress.unexplained),
    ] {
        if expected != seen {
            differences.push(difference(link, what, expected, seen));
        }
    }
    report::expect_none(&differences)
}

/// A tunnel whose packets a UDP socket of the kernel itself sends and receives.
pub fn tunnel(world: &World) -> Result<()> {
    let peers = [quiet_peer(world)?];
    let Peer {
        namespace, link, ..
    } = &peers[0];
    let tunnel = format!("{link}v");
    let make = |name: &str, device: &str, local: IpAddr, remote: IpAddr, own: u8| {
        [
            format!(
                "link add {name} type vxlan id 17 dev {device} local {local} remote {remote} dstport 4789"
            ),
            format!("addr add {TUNNEL}.{own}/24 dev {name}"),
            format!("link set {name} addrgenmode none"),
            format!("link set {name} up"),
            patient(&format!("{TUNNEL}.0/24 dev {name}")),
        ]
    };
    let (near, far) = (peers[0].near4(), peers[0].far4);
    tools::ip_batch(Some(namespace), &make("tunnel0", wire::FAR, far, near, 2))?;
    tools::ip_batch(None, &make(&tunnel, link, near, far, 1))?;
    never_ask_again([(None, &tunnel), (Some(namespace), "tunnel0")])?;
    let arriving = Arriving::by(&tunnel, "counter")?;
    let seen = observe(world, "tunnel", &peers, || {
        let inside: IpAddr = format!("{TUNNEL}.2").parse()?;
        let bytes = world.scaled(5_000_000);
        let mut truths = Vec::new();
        // The near end merges received segments after its tunnel counted them.
        let far_cuts = "ethtool -K tunnel0 tso off gso off";
        // The interface below takes large buffers, but not in a tunnel: the stack segments those
        // first.
        let near_cuts = format!(
            "ethtool -K {link} tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off"
        );
        for (name, netns, cut) in [
            ("tunnel.buffers", None, "true"),
            ("tunnel.segments", Some(&**namespace), far_cuts),
            ("tunnel.cut", None, &near_cuts),
        ] {
            tools::run(netns, cut)?;
            let (server, address) = far_server(world, &format!("{name}.far"), &peers[0], inside)?;
            let near = generate(
                world,
                &format!("{name}.near"),
                "tcp-both",
                address,
                bytes,
                None,
            )?;
            truths.extend(finish([near, server])?);
        }
        Ok(truths)
    })?;
    // Outgoing packets belong to the socket inside, except the tunnel's ARP; incoming ones to the
    // kernel's own socket.
    let mut differences = seen.differences(|ledger| {
        let Side { socket, kernel, .. } = ledger.egress;
        [ledger.ingress.kernel, socket + kernel]
    });
    differences.extend(seen.processes(world));
    let inner = seen.ledger(&tunnel)?;
    let questions = inner.egress.not_ip / ARP;
    let of_no_socket = seen.ledger(link)?.egress.kernel;
    let inside = questions * ARP + inner.egress.kernel;
    let around = of_no_socket - inside - questions * TUNNELED;
    let answers = around / TUNNELED;
    let again = i128::from(seen.sent_again[link]);
    let is_right = around % TUNNELED == 0
        && (0..=ANSWERS + again).contains(&answers)
        && (answers == 0) == (inner.egress.kernel == 0);
    if !is_right {
        let expected = format!("{inside} and {TUNNELED} around each packet");
        differences.push(difference(link, "egress kernel", expected, of_no_socket));
    }
    let arrived = i128::from(arriving.counted()?.bytes);
    let repeated = inner.ingress.frames - arrived;
    if inner.ingress.offload != repeated || repeated == 0 {
        let expected = format!("more than 0, {repeated}");
        differences.push(difference(
            &tunnel,
            "offload",
            expected,
            inner.ingress.offload,
        ));
    }
    for (what, side) in [("ingress", inner.ingress), ("egress", inner.egress)] {
        let Side {
            frames,
            socket,
            kernel,
            not_ip,
            offload,
            ..
        } = side;
        let late = ANSWERS * LARGEST_ANSWER + wire::ETHERNET_MTU as i128 * again;
        let has_ended = (0..=late).contains(&kernel);
        if frames != socket + kernel + not_ip + offload || !has_ended {
            differences.push(difference(
                &tunnel,
                what,
                format!("{frames} of sockets"),
                format!("{side:?}"),
            ));
        }
    }
    report::expect_none(&differences)
}

/// A peer without IPv6, whose interfaces would send packets of their own.
pub fn quiet_peer(world: &World) -> Result<Peer> {
    let peer = new_peer(world)?;
    for (netns, device) in peer.ends() {
        let silent = format!("ipv6/conf/{device}/disable_ipv6");
        tools::set(netns, &silent, "1")?;
    }
    never_ask_again(peer.ends())?;
    Ok(peer)
}

/// Disables neighbour probes at both ends, which would fall between two readings.
fn never_ask_again(ends: [(tools::Netns<'_>, &str); 2]) -> Result<()> {
    ends.into_iter().try_for_each(|(netns, device)| {
        let seconds = format!("ipv4/neigh/{device}/delay_first_probe_time");
        tools::set(netns, &seconds, "600")
    })
}

/// A far end that serves at an address in the peer's namespace.
pub fn far_server(
    world: &World,
    name: &str,
    peer: &Peer,
    address: IpAddr,
) -> Result<(Generator, SocketAddr)> {
    let listen = [
        "--listen".to_owned(),
        SocketAddr::new(address, 0).to_string(),
    ];
    let mut server = Generator::start(world, name, "serve", &listen, Some(peer))?;
    let address = server.listening()?;
    Ok((server, address))
}

/// A mode that moves so many bytes, and so many counts.
pub fn generate(
    world: &World,
    name: &str,
    mode: &str,
    peer: SocketAddr,
    amount: u64,
    netns: Option<&Peer>,
) -> Result<Generator> {
    let amount = amount.to_string();
    let arguments = [
        "--peer",
        &peer.to_string(),
        "--bytes",
        &amount,
        "--count",
        &amount,
    ];
    Generator::start(world, name, mode, &arguments.map(str::to_owned), netns)
}

/// Lets them run to their ends, the first one first.
pub fn finish<const N: usize>(generators: [Generator; N]) -> Result<Vec<Truth>> {
    let mut truths = Vec::new();
    for generator in generators {
        truths.extend(generator.finish()?);
    }
    Ok(truths)
}

/// A rule for packets that arrive by a link, after the link and the classifier counted them.
pub(super) struct Arriving {
    table: wire::Table,
}

impl Arriving {
    pub fn by(link: &str, rule: &str) -> Result<Self> {
        let chain =
            format!("chain in {{ type filter hook ingress device {link} priority 0; {rule}; }}");
        let table = wire::Table::install(None, "netdev", &chain)?;
        Ok(Self { table })
    }

    /// The value of the rule's counter.
    pub fn counted(&self) -> Result<Packets> {
        self.table.counter("in")
    }
}

/// Results that are known after Flow ended.
pub(super) struct Seen {
    pub stream: Stream,
    readings: Readings,
    truths: Vec<Truth>,
    /// What passed the far ends meanwhile, by link: received, sent.
    frames: BTreeMap<String, [BTreeMap<String, Packets>; 2]>,
    /// Retransmitted segments of the far ends, by link.
    pub sent_again: BTreeMap<String, u64>,
}

/// Runs `traffic` over `peers` under Flow, with no other traffic there.
pub(super) fn observe(
    world: &World,
    name: &str,
    peers: &[Peer],
    traffic: impl FnOnce() -> Result<Vec<Truth>>,
) -> Result<Seen> {
    let watched = Watched::start(world, name, &[])?;
    let count = |peer: &Peer| {
        let again = wire::sent_again(Some(&peer.namespace))?;
        Ok((wire::frames(&peer.namespace)?, again))
    };
    let before = peers.iter().map(count).collect::<Result<Vec<_>>>()?;
    let truths = traffic()?;
    let (mut frames, mut sent_again) = (BTreeMap::new(), BTreeMap::new());
    for (peer, (frames_before, again_before)) in peers.iter().zip(before) {
        let (after, again) = count(peer)?;
        frames.insert(peer.link.clone(), after.since(&frames_before));
        sent_again.insert(peer.link.clone(), again - again_before);
    }
    let (stream, readings) = watched.end()?;
    Ok(Seen {
        stream,
        readings,
        truths,
        frames,
        sent_again,
    })
}

impl Seen {
    pub fn ledger(&self, link: &str) -> Result<&Ledger> {
        let ledger = self.stream.interfaces.get(link);
        ledger.with_context(|| format!("no ledger of {link}"))
    }

    /// Bytes of ARP frames on a link: received, sent.
    fn arp(&self, link: &str) -> [i128; 2] {
        let bytes = |side: &BTreeMap<String, Packets>| {
            side.get("arp")
                .map_or(0, |packets| i128::from(packets.bytes))
        };
        self.frames[link].each_ref().map(bytes)
    }

    /// Checks each link's ledger, in which `cause` must be the only cause of IP packets: received,
    /// sent.
    pub fn differences(&self, cause: impl Fn(&Ledger) -> [i128; 2]) -> Vec<Difference> {
        let mut differences = check::stream(&self.stream, false);
        let links: Vec<_> = self.frames.keys().map(String::as_str).collect();
        differences.extend(check::ledgers(&self.stream, &self.readings, &links));
        for (link, counted) in &self.frames {
            let Some(ledger) = self.stream.interfaces.get(link) else {
                continue;
            };
            let [received, sent] = cause(ledger);
            let sides = [
                ("ingress", ledger.ingress, received),
                ("egress", ledger.egress, sent),
            ];
            for ((direction, side, caused), counted) in sides.into_iter().zip(counted) {
                let bytes = |kind: &str| {
                    counted
                        .get(kind)
                        .map_or(0, |packets| i128::from(packets.bytes))
                };
                for (what, expected, seen) in [
                    ("frames", bytes("arp") + bytes("ip"), side.frames),
                    ("not_ip", bytes("arp"), side.not_ip),
                    ("the cause", bytes("ip"), caused),
                    ("unexplained", 0, side.unexplained),
                ] {
                    if expected != seen {
                        let subject = format!("{link} {direction} {side:?}");
                        differences.push(difference(subject, what, expected, seen));
                    }
                }
                if bytes("ip") == 0 {
                    differences.push(difference(link, direction, "some packets", "none"));
                }
            }
        }
        differences
    }

    /// Checks the processes' bytes.
    pub fn processes(&self, world: &World) -> Vec<Difference> {
        check::processes(&self.stream, &self.truths, world.options.backend)
    }
}
