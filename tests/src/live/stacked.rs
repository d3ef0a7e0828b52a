//! Tests of stacked interfaces, and of interfaces that are removed, moved, renamed and restacked
//! while bytes pass: their ledgers match their own counters, and no ledger ever falls (which the
//! stream's reader checks).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context as _, Result, bail};

use super::{
    World,
    causes::{far_server, finish, generate, quiet_peer},
    check, counters,
    difference::{Difference, difference},
    flow::Flow,
    generator::Generator,
    peer::Peer,
    report,
    stream::{Ledger, Side, Stream, records},
    tools::{self, ip, ip_batch},
    waiting,
    watched::Watched,
    wire,
};

/// The network of a pair of upper interfaces, and the far end's address in it.
const INSIDE: &str = "10.203.18";
/// Bytes of a datagram, of the datagram with headers, and of the largest packet that may be on its
/// way.
const DATAGRAM: &str = "700";
const DATAGRAM_FRAME: i128 = 700 + 8 + 20 + 14;
const PACKET: i128 = 1514;
/// A closed port.
const CLOSED_PORT: u16 = 9;

/// The link is a port of a bridge, which has the address.
pub fn bridge(world: &World) -> Result<()> {
    let peer = quiet_peer(world)?;
    let (link, upper) = (&peer.link, upper(&peer));
    let near = [
        format!("addr flush dev {link}"),
        format!("link add {upper} type bridge"),
        format!("link set {link} master {upper}"),
        format!("addr add {}/24 dev {upper}", peer.near4()),
    ];
    above(world, "bridge", &peer, &near, &[], None)
}

/// The far end of a veth pair is removed, in three ways: the near end's counters depend on it, and
/// are zero before the link is down.
pub fn peer_gone(world: &World) -> Result<()> {
    for way in ["namespace", "far", "near"] {
        let peer = quiet_peer(world)?;
        let link = peer.link.clone();
        let watched = Watched::start(world, &format!("gone-{way}"), &[])?;
        let before = counters::read()?;
        let (server, address) = far_server(world, &format!("gone-{way}.far"), &peer, peer.far4)?;
        let bytes = world.scaled(3_000_000);
        let name = format!("gone-{way}.near");
        let near = generate(world, &name, "tcp-both", address, bytes, None)?;
        finish([near, server])?;
        let after = counters::read()?;
        match way {
            "namespace" => peer.delete_namespace()?,
            "far" => tools::run(Some(&peer.namespace), "ip link del far0")?,
            _ => peer.delete_link()?,
        }
        is_gone(world, &watched.flow, &link)?;
        let (stream, _) = watched.end()?;
        let mut differences = check::stream(&stream, false);
        differences.extend(explained(&stream, &link)?);
        let ledger = ledger(&stream, &link)?;
        let (before, after) = (before[&link], after[&link]);
        for (what, least, seen) in [
            ("ingress", after.ingress - before.ingress, ledger.ingress),
            ("egress", after.egress - before.egress, ledger.egress),
        ] {
            // The end of the connection may come after the reading.
            if !(least..=least + PACKET).contains(&seen.frames) {
                let what = format!("{way}: {what} frames");
                differences.push(difference(&link, what, least, seen.frames));
            }
        }
        report::expect_none(&differences)?;
    }
    Ok(())
}

/// A link is deleted while packets pass it both ways.
pub fn gone_under_traffic(world: &World) -> Result<()> {
    let peer = quiet_peer(world)?;
    let link = peer.link.clone();
    under_traffic(world, "gone-busy", &peer, |flow| {
        peer.delete_link()?;
        is_gone(world, flow, &link)
    })
}

/// A link moves to another network namespace for a while, and comes back unchanged.
pub fn moved(world: &World) -> Result<()> {
    let peer = quiet_peer(world)?;
    let link = peer.link.clone();
    under_traffic(world, "moved", &peer, |flow| {
        let here = std::process::id();
        for _ in 0..3 {
            let there = &peer.namespace;
            ip(&format!("link set {link} netns {there}"))?;
            is_gone(world, flow, &link)?;
            let back = format!("ip link set {link} netns {here}");
            tools::run(Some(there), &back)?;
            ip_batch(
                None,
                &[
                    format!("addr replace {}/24 dev {link}", peer.near4()),
                    format!("link set {link} up"),
                ],
            )?;
            passes(world, flow, &link)?;
        }
        Ok(())
    })
}

/// A link is renamed, and gets its old name again.
pub fn renamed_under_traffic(world: &World) -> Result<()> {
    let peer = quiet_peer(world)?;
    let (link, other) = (peer.link.clone(), upper(&peer));
    under_traffic(world, "renamed-busy", &peer, |flow| {
        for (old, new) in [
            (&link, &other),
            (&other, &link),
            (&link, &other),
            (&other, &link),
        ] {
            ip_batch(
                None,
                &[
                    format!("link set {old} down"),
                    format!("link set {old} name {new}"),
                    format!("link set {new} up"),
                ],
            )?;
            passes(world, flow, new)?;
        }
        Ok(())
    })
}

/// A link becomes a port of a bridge, then of another, then of none.
pub fn master_changes(world: &World) -> Result<()> {
    let peer = quiet_peer(world)?;
    let link = peer.link.clone();
    let bridges = [0, 1].map(|number| format!("{}{number}", upper(&peer)));
    let make = |name: &String| {
        [
            format!("link add {name} type bridge"),
            format!("link set {name} up"),
        ]
    };
    ip_batch(None, &bridges.each_ref().map(make).concat())?;
    let done = under_traffic(world, "master", &peer, |flow| {
        for master in &bridges {
            ip(&format!("link set {link} master {master}"))?;
            passes(world, flow, &link)?;
        }
        ip(&format!("link set {link} nomaster"))?;
        passes(world, flow, &link)
    });
    for bridge in &bridges {
        ip(&format!("link del {bridge}"))?;
    }
    done
}

/// Datagrams that arrive at one port of a bridge and are routed wait for a neighbour's address,
/// while others arrive at another port: the waiting ones are never credited to that port.
pub fn neighbour_waits(world: &World) -> Result<()> {
    // The programs remember earlier packets by CPU.
    let _pinned = tools::Pinned::to_one()?;
    let [sender, other, out] = [quiet_peer(world)?, quiet_peer(world)?, quiet_peer(world)?];
    let bridge = upper(&sender);
    let quiet = format!("link set {bridge} addrgenmode none");
    let mut near = vec![format!("link add {bridge} type bridge"), quiet];
    for (number, peer) in (2..).zip([&sender, &other]) {
        near.push(format!("addr flush dev {}", peer.link));
        near.push(format!("link set {} master {bridge}", peer.link));
        let far = wire::FAR;
        let far = [
            format!("addr flush dev {far}"),
            format!("addr add {INSIDE}.{number}/24 dev {far}"),
            format!("route add default via {INSIDE}.1"),
        ];
        ip_batch(Some(&peer.namespace), &far)?;
    }
    near.push(format!("addr add {INSIDE}.1/24 dev {bridge}"));
    near.push(format!("link set {bridge} up"));
    ip_batch(None, &near)?;
    let _bridge = Upper(bridge.clone());
    for link in [&bridge, &out.link] {
        tools::set(None, &format!("ipv4/conf/{link}/forwarding"), "1")?;
    }

    let watched = Watched::start(world, "neighbour-waits", &["--interval", "200ms"])?;
    let absent = SocketAddr::new(absent(out.far4)?, CLOSED_PORT);
    let datagrams = |peer: &Peer, to| {
        tools::within(Some(&peer.namespace), || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            (0..3).try_for_each(|_| socket.send_to(&[0; 700], to).map(drop))?;
            Ok(())
        })
    };
    datagrams(&sender, absent)?;
    let server = UdpSocket::bind((format!("{INSIDE}.1").parse::<Ipv4Addr>()?, 0))?;
    datagrams(&other, server.local_addr()?)?;
    server.set_read_timeout(Some(world.patience()))?;
    (0..3).try_for_each(|_| server.recv(&mut [0; 1000]).map(drop))?;
    let there = format!("addr add {}/24 dev {}", absent.ip(), wire::FAR);
    ip_batch(Some(&out.namespace), &[there])?;
    waiting::until(world.patience(), "datagrams to leave", || {
        let records = records(&watched.flow.output()?)?;
        let mut ledgers = records.iter().filter(|record| record["type"] == "ledger");
        let has_left = ledgers.any(|record| {
            let forwarded = record["egress"]["forwarded"].as_u64().map(i128::from);
            record["interface"]["name"] == out.link && forwarded >= Some(3 * DATAGRAM_FRAME)
        });
        Ok(has_left.then_some(()))
    })?;

    let (stream, _) = watched.end()?;
    let mut differences = check::stream(&stream, false);
    for link in [&sender.link, &other.link, &out.link] {
        differences.extend(explained(&stream, link)?);
    }
    // What waits for more than half a second is first counted as the kernel's.
    differences.extend(unexplained(&stream, &bridge, [3 * DATAGRAM_FRAME, 0])?);
    let forwarded = ledger(&stream, &other.link)?.ingress.forwarded;
    if forwarded != 0 {
        differences.push(difference(&other.link, "ingress forwarded", 0, forwarded));
    }
    report::expect_none(&differences)
}

/// An address in a network without hosts.
fn absent(in_network_of: IpAddr) -> Result<IpAddr> {
    match in_network_of {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ok(Ipv4Addr::new(a, b, c, 77).into())
        }
        IpAddr::V6(address) => bail!("{address} is of IPv6"),
    }
}

/// A name for an interface on top of a peer's link; it is removed with the link, or like stale
/// links.
fn upper(peer: &Peer) -> String {
    format!("{}u", peer.link)
}

fn make_upper(peer: &Peer, near: &[String], far: &[String], far_name: Option<&str>) -> Result<()> {
    let quiet = |name: &str| {
        [
            format!("link set {name} addrgenmode none"),
            format!("link set {name} up"),
        ]
    };
    if let Some(name) = far_name {
        let commands = [far, &quiet(name)].concat();
        ip_batch(Some(&peer.namespace), &commands)?;
    }
    ip_batch(None, &[near, &quiet(&upper(peer))].concat())
}

/// Traffic of this host over an interface on top of the link: datagrams, large buffers, and what
/// the kernel answers.
fn above(
    world: &World,
    name: &str,
    peer: &Peer,
    near: &[String],
    far: &[String],
    far_name: Option<&str>,
) -> Result<()> {
    let upper = upper(peer);
    make_upper(peer, near, far, far_name)?;
    let gone = Upper(upper.clone());
    let watched = Watched::start(world, name, &[])?;
    let inside = |own: u8| format!("{INSIDE}.{own}").parse();
    let (here, there) = match far_name {
        Some(_) => (inside(1)?, inside(2)?),
        None => (peer.near4(), peer.far4),
    };
    let (server, address) = far_server(world, &format!("{name}.far"), peer, there)?;
    for (mode, amount) in [("udp-connected", 300), ("tcp-both", 5_000_000)] {
        let name = format!("{name}.{mode}");
        let amount = world.scaled(amount);
        finish([generate(world, &name, mode, address, amount, None)?])?;
    }
    finish([server])?;
    echoes(world, name, peer, here.to_string())?;
    let (stream, readings) = watched.end()?;
    let mut differences = check::stream(&stream, false);
    differences.extend(check::ledgers(&stream, &readings, &[&upper]));
    differences.extend(explained(&stream, &upper)?);
    drop(gone);
    report::expect_none(&differences)
}

/// An interface. Removed on drop.
struct Upper(String);

impl Drop for Upper {
    fn drop(&mut self) {
        let _ = ip(&format!("link del {}", self.0));
    }
}

/// The far end sends echo requests, which the kernel answers.
fn echoes(world: &World, name: &str, peer: &Peer, to: String) -> Result<()> {
    let to = SocketAddr::new(to.parse()?, 1);
    let name = format!("{name}.echoes");
    let count = world.scaled(100);
    finish([generate(world, &name, "icmp-raw", to, count, Some(peer))?]).map(drop)
}

/// Runs `change` under Flow, while datagrams pass a link both ways, or fail to.
fn under_traffic(
    world: &World,
    name: &str,
    peer: &Peer,
    change: impl FnOnce(&Flow) -> Result<()>,
) -> Result<()> {
    let link = peer.link.clone();
    let watched = Watched::start(world, name, &["--interval", "200ms"])?;
    let (server, address) = far_server(world, &format!("{name}.far"), peer, peer.far4)?;
    let arguments = ["--peer", &address.to_string(), "--bytes", DATAGRAM].map(str::to_owned);
    let sender = Generator::start(world, &format!("{name}.near"), "stubborn", &arguments, None)?;
    passes(world, &watched.flow, &link)?;
    change(&watched.flow)?;
    let truths = finish([sender])?;
    finish([server])?;
    let (stream, _) = watched.end()?;
    let mut differences = check::stream(&stream, false);
    let sent = truths.iter().map(|truth| {
        let sends = truth.moved.tx_calls + truth.failed_sends;
        DATAGRAM_FRAME * i128::from(sends)
    });
    // What is sent while the link goes down is dropped after its classifier.
    let lost = (sent.sum::<i128>() - ledger(&stream, &link)?.egress.frames).max(0);
    differences.extend(unexplained(
        &stream,
        &link,
        [PACKET - 1, PACKET - 1 + lost],
    )?);
    report::expect_none(&differences)
}

/// Checks that the last ledger of a link is fully explained, as no packet was on its way.
fn explained(stream: &Stream, link: &str) -> Result<Vec<Difference>> {
    unexplained(stream, link, [0, 0])
}

/// Checks that the last ledger of a link leaves at most so many bytes of ingress and egress
/// unexplained.
fn unexplained(stream: &Stream, link: &str, most: [i128; 2]) -> Result<Vec<Difference>> {
    let ledger = ledger(stream, link)?;
    let [received, sent] = most;
    let mut differences = Vec::new();
    for (direction, side, most) in [
        ("ingress", ledger.ingress, received),
        ("egress", ledger.egress, sent),
    ] {
        let Side {
            unexplained,
            frames,
            ..
        } = side;
        if unexplained.abs() > most || frames == 0 {
            let subject = format!("{link} {direction}");
            let expected = format!("at most {most} unexplained");
            differences.push(difference(subject, "ledger", expected, format!("{side:?}")));
        }
    }
    Ok(differences)
}

fn ledger<'a>(stream: &'a Stream, link: &str) -> Result<&'a Ledger> {
    let ledger = stream.interfaces.get(link);
    ledger.with_context(|| format!("no ledger of {link}"))
}

/// Waits until bytes are reported that arrive at a link from now on.
fn passes(world: &World, flow: &Flow, link: &str) -> Result<()> {
    let frames = || -> Result<u64> {
        let mut last = 0;
        for record in records(&flow.output()?)? {
            if record["type"] == "ledger" && record["interface"]["name"] == link {
                last = record["ingress"]["frames"].as_u64().context("frames")?;
            }
        }
        Ok(last)
    };
    let before = frames()?;
    waiting::until(world.patience(), &format!("packets by {link}"), || {
        Ok((frames()? > before + 10_000).then_some(()))
    })
}

/// Waits until a link's last ledger is reported.
fn is_gone(world: &World, flow: &Flow, link: &str) -> Result<()> {
    waiting::until(world.patience(), &format!("{link} to be gone"), || {
        let records = records(&flow.output()?)?;
        let last = records
            .iter()
            .rfind(|record| record["type"] == "ledger" && record["interface"]["name"] == link);
        let last = last.map(|record| &record["interface"]["up"]);
        Ok((last.is_some_and(|up| up == false)).then_some(()))
    })
}
