//! Tests of packets with unusual headers: wire bytes and ledgers against what nftables counted at
//! an interface, packet by packet.

use std::{fs::File, ops::RangeInclusive, os::fd::AsFd as _, thread, time::Duration};

use anyhow::Result;

use super::{
    World,
    causes::{Seen, far_server, finish, generate, observe},
    check::{self, Precision},
    difference::{Difference, difference},
    faults::Cgroup,
    peer::Peer,
    report,
    session::new_peer,
    stream::wires,
    tools::{self, Pinned},
    wire::{self, Packets},
};
use crate::bpf::{self, Empty, Place};

/// Bytes of a TCP packet over IPv6 with timestamps and without payload, and most bytes of selective
/// acknowledgements.
const ANSWER: u64 = 40 + 20 + 12;
const SELECTIVE: u64 = 28;

/// IPv6 extension headers before TCP, in buffers that the stack segments before the interface gets
/// them.
pub fn options(world: &World) -> Result<()> {
    let peer = new_peer(world)?;
    for (netns, device) in peer.ends() {
        tools::run(netns, &format!("ethtool -K {device} tso off gro off"))?;
    }
    let peers = [peer];
    // If they arrive as segments.
    let counted = Counted::at_far_end(&peers[0], "meta l4proto tcp")?;
    // With two processors a FIN overtakes acknowledgements that wait in the other's queue. Then the
    // near end's socket is in TIME_WAIT, answers one of these, and is nobody's.
    let _pinned = Pinned::to_one()?;
    let before = wire::sent_again(None)?;
    let seen = observe(world, "options", &peers, || {
        let (server, address) = far_server(world, "options.far", &peers[0], peers[0].far6)?;
        let bytes = world.scaled(5_000_000);
        let near = generate(world, "options.near", "tcp6-options", address, bytes, None)?;
        finish([near, server])
    })?;
    let again = SentAgain {
        near: wire::sent_again(None)? - before,
        far: seen.sent_again[&peers[0].link],
    };
    let mut differences = counted.differences(&seen, Precision::Bounds, again)?;
    differences.extend(seen.processes(world));
    let ledger = seen.ledger(&peers[0].link)?;
    for (what, side) in [("ingress", ledger.ingress), ("egress", ledger.egress)] {
        if side.unexplained != 0 {
            differences.push(difference(
                &peers[0].link,
                what,
                "unexplained 0",
                format!("{side:?}"),
            ));
        }
    }
    report::expect_none(&differences)
}

/// Datagrams in fragments, both ways, with different MTUs of interfaces and routes.
pub fn fragments(world: &World) -> Result<()> {
    let peers = [new_peer(world)?];
    // The first header is UDP's, or IPv6's before a fragment.
    let counted = Counted::on(&peers[0], "ip protocol udp")?;
    let six = Counted::on(&peers[0], "ip6 nexthdr { 17, 44 }")?;
    let seen = observe(world, "fragments", &peers, || {
        let mut truths = Vec::new();
        let Peer {
            link, far4, far6, ..
        } = &peers[0];
        let narrow = format!(
            "ip route add {far4}/32 dev {link} mtu 1000;ip route add {far6}/128 dev {link} mtu 1300"
        );
        for (mtu, also) in [(1500, ""), (1499, ""), (1280, ""), (1500, &*narrow)] {
            for (netns, device) in peers[0].ends() {
                tools::run(netns, &format!("ip link set {device} mtu {mtu}"))?;
            }
            for command in also.split_terminator(';') {
                tools::run(None, command)?;
            }
            for (family, far) in [(4, peers[0].far4), (6, peers[0].far6)] {
                let name = format!("fragments.{mtu}.{family}.{}", also.len());
                let (server, address) = far_server(world, &format!("{name}.far"), &peers[0], far)?;
                let near = generate(world, &name, "udp-sizes", address, 1, None)?;
                truths.extend(finish([near, server])?);
            }
        }
        Ok(truths)
    })?;
    let six = six.read()?;
    let mut differences =
        counted
            .and(six)
            .differences(&seen, Precision::Exact, SentAgain::default())?;
    differences.extend(seen.processes(world));
    report::expect_none(&differences)
}

/// Packets that a program of the sender's own cgroup refuses, as `IPAddressDeny=` of systemd does:
/// first outgoing ones, then incoming ones.
pub fn refused(world: &World) -> Result<()> {
    let peers = [new_peer(world)?];
    for attach in [bpf::CGROUP_EGRESS, bpf::CGROUP_INGRESS] {
        let cgroup = Cgroup::new()?;
        let directory = File::open(&cgroup.path)?;
        let _refuses = Empty::refusing(Place::Cgroup {
            kind: bpf::kind::CGROUP_SKB,
            attach,
            cgroup: directory.as_fd(),
        })?;
        let name = format!("refused.{attach}");
        let seen = observe(world, &name, &peers, || {
            let far = far_server(world, &format!("{name}.far"), &peers[0], peers[0].far4)?;
            let (server, address) = far;
            cgroup.take_in(std::process::id())?;
            let near = generate(world, &name, "stubborn", address, 1, None);
            cgroup.let_go(std::process::id())?;
            thread::sleep(world.stretched(Duration::from_secs(1)));
            finish([near?, server])
        })?;
        let link = &peers[0].link;
        let ledger = seen.ledger(link)?;
        let mut differences = check::stream(&seen.stream, false);
        let flows = seen.stream.flows.values();
        let sockets = wires(flows.filter(|flow| flow.interface.as_ref() == Some(link)));
        let (received, sent): (u64, u64) = sockets.values().fold((0, 0), |(rx, tx), wire| {
            (rx + wire.rx_packets, tx + wire.tx_packets)
        });
        let leaves = attach == bpf::CGROUP_INGRESS;
        for (what, expected, seen) in [
            ("packets received", false, received != 0),
            ("packets sent", leaves, sent != 0),
            ("ingress socket", false, ledger.ingress.socket != 0),
            ("egress socket", leaves, ledger.egress.socket != 0),
        ] {
            if expected != seen {
                differences.push(difference(&name, what, expected, seen));
            }
        }
        report::expect_none(&differences)?;
    }
    Ok(())
}

/// Retransmitted TCP segments. On a slow machine the answers to these may arrive when the near
/// end's socket is already in TIME_WAIT, and then no socket takes them.
#[derive(Clone, Copy, Debug, Default)]
struct SentAgain {
    near: u64,
    far: u64,
}

/// Packets without a socket: at most so many, of so many bytes each.
struct Untaken {
    most: u64,
    bytes: RangeInclusive<u64>,
}

impl SentAgain {
    /// Incoming: acknowledgements of duplicates, and FINs.
    fn untaken(self) -> Untaken {
        Untaken {
            most: self.near + self.far,
            bytes: ANSWER..=ANSWER + SELECTIVE,
        }
    }

    /// Outgoing: answers to FINs.
    fn answers(self) -> Untaken {
        Untaken {
            most: self.far,
            bytes: ANSWER..=ANSWER,
        }
    }
}

impl Untaken {
    /// Whether sockets account for all counted packets except these.
    fn explains(&self, counted: Packets, sockets: Packets) -> bool {
        let Some(packets) = counted.packets.checked_sub(sockets.packets) else {
            return false;
        };
        let Some(bytes) = counted.bytes.checked_sub(sockets.bytes) else {
            return false;
        };
        let (least, most) = (self.bytes.start() * packets, self.bytes.end() * packets);
        packets <= self.most && (least..=most).contains(&bytes)
    }
}

/// What passed the near end of a veth pair, counted by nftables.
struct Counted {
    link: String,
    table: wire::Table,
    /// Whether the far end counts it.
    is_far: bool,
    /// Further packets, counted by others: received, sent.
    more: [Packets; 2],
}

impl Counted {
    /// Counts packets that match these conditions at the near end.
    fn on(peer: &Peer, conditions: &str) -> Result<Self> {
        Self::install(peer, None, conditions)
    }

    /// As above, at the far end.
    fn at_far_end(peer: &Peer, conditions: &str) -> Result<Self> {
        Self::install(peer, Some(&peer.namespace), conditions)
    }

    fn install(peer: &Peer, far: Option<&str>, conditions: &str) -> Result<Self> {
        let device = if far.is_some() { wire::FAR } else { &peer.link };
        let chains = [("in", "ingress"), ("out", "egress")].map(|(chain, hook)| {
            format!(
                "chain {chain} {{ type filter hook {hook} device {device} priority 0;
                    {conditions} counter; }}"
            )
        });
        Ok(Self {
            link: peer.link.clone(),
            table: wire::Table::install(far, "netdev", &chains.join("\n"))?,
            is_far: far.is_some(),
            more: Default::default(),
        })
    }

    fn and(mut self, more: [Packets; 2]) -> Self {
        self.more = more;
        self
    }

    /// Bytes that the near end received and sent, from layer 3 on.
    fn read(&self) -> Result<[Packets; 2]> {
        let (came, mut went) = (self.table.counter("in")?, self.table.counter("out")?);
        // Outgoing packets already have the link header.
        went.bytes -= check::LINK_HEADER * went.packets;
        let mut sides = if self.is_far {
            [went, came]
        } else {
            [came, went]
        };
        for (side, more) in sides.iter_mut().zip(self.more) {
            side.bytes += more.bytes;
            side.packets += more.packets;
        }
        Ok(sides)
    }

    /// Compares the sockets' wire bytes with it.
    fn differences(
        &self,
        seen: &Seen,
        precision: Precision,
        again: SentAgain,
    ) -> Result<Vec<Difference>> {
        let link = &self.link;
        let flows = seen.stream.flows.values();
        let flows = flows.filter(|flow| flow.interface.as_ref() == Some(link));
        let sockets = wires(flows);
        let sum =
            |of: fn(&super::stream::Wire) -> Packets| sockets.values().map(of).sum::<Packets>();
        let seen_at_sockets = [sum(Packets::received_by), sum(Packets::sent_by)];
        let mut differences = check::stream(&seen.stream, false);
        let untaken = [("received", again.untaken()), ("sent", again.answers())];
        for (((what, untaken), counted), seen) in
            untaken.into_iter().zip(self.read()?).zip(seen_at_sockets)
        {
            if !untaken.explains(counted, seen) {
                differences.push(difference(
                    link,
                    what,
                    format!("{counted:?}, sent again: {again:?}"),
                    format!("{seen:?}"),
                ));
            }
        }
        differences.extend(check::interface(&seen.stream, link, precision));
        Ok(differences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_for_a_closed_socket_is_no_sockets() {
        let packets = |packets, bytes| Packets { bytes, packets };
        let again = SentAgain { near: 4, far: 1 };
        let came = |counted, seen| again.untaken().explains(counted, seen);
        assert!(came(packets(28, 2132), packets(23, 1748)));
        assert!(came(packets(23, 1748), packets(23, 1748)));
        assert!(!came(packets(29, 2204), packets(23, 1748)));
        assert!(!came(packets(28, 4000), packets(23, 1748)));
        assert!(!came(packets(23, 1749), packets(23, 1748)));
        assert!(!came(packets(23, 1748), packets(24, 1820)));
        let went = |counted, seen| again.answers().explains(counted, seen);
        assert!(went(packets(81, 113_313), packets(80, 113_241)));
        assert!(!went(packets(81, 113_314), packets(80, 113_241)));
        assert!(!went(packets(82, 113_385), packets(80, 113_241)));
        let never = SentAgain::default().untaken();
        assert!(!never.explains(packets(28, 2132), packets(27, 2060)));
    }
}
