//! Buffers of several datagrams: each datagram gets to its socket by itself, and the interface counted one set of headers
//! for all. Something else comes in that is the kernel's own, so that no sum can hide what goes wrong.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    World,
    causes::{Arriving, CLOSED, finish, generate, observe, quiet_peer},
    check,
    difference::difference,
    generator::Generator,
    report,
    tools::Pinned,
    wire,
};

/// A port that is another one at the socket.
const PUBLISHED: u16 = 4433;
/// Buffers of each kind, and of packets that the kernel answers.
const BUFFERS: u64 = 20;
const KNOCKS: u64 = 60;
/// Bytes of a receive queue that is soon full, and of one that is not. The kernel makes them somewhat larger.
const SMALL_QUEUE: usize = 4096;
const LARGE_QUEUE: usize = 16 << 20;

/// Buffers to an address that is translated on the way, and to a socket whose queue is full; without a raw socket, and with
/// one that takes a copy of each.
pub fn buffers(world: &World) -> Result<()> {
    let _pinned = Pinned::to_one()?;
    let mut differences = Vec::new();
    for beside_raw in [false, true] {
        let name = if beside_raw { "raw" } else { "alone" };
        let peers = [quiet_peer(world)?];
        let (near, link) = (peers[0].near4(), &peers[0].link);
        let far = Some(&peers[0]);
        let unread = UdpSocket::bind((near, 0))?;
        setsockopt(&unread, sockopt::RcvBuf, &SMALL_QUEUE).context("SO_RCVBUF")?;
        let listen = ["--listen".to_owned(), SocketAddr::new(near, 0).to_string()];
        let mut server =
            Generator::start(world, &format!("datagrams.{name}"), "serve", &listen, None)?;
        let _translated = translate(link, server.listening()?)?;
        let to_unread = unread.local_addr()?;
        let of_sockets = if beside_raw {
            "meta l4proto udp counter"
        } else {
            &format!("udp dport {{ {PUBLISHED}, {} }} counter", to_unread.port())
        };
        let counted = Arriving::by(link, of_sockets)?;
        let seen = observe(world, &format!("datagrams.{name}"), &peers, || {
            let _raw = beside_raw.then(raw_socket).transpose()?;
            let mut truths = Vec::new();
            for (what, mode, port, count) in [
                ("knock", "knock", CLOSED, KNOCKS),
                // A buffer that is translated is known by its place, behind a packet that a socket took.
                ("one", "udp-connected", PUBLISHED, 1),
                ("published", "udp-segments", PUBLISHED, BUFFERS),
                ("unread", "udp-buffers", to_unread.port(), BUFFERS),
                // The dropped datagrams' memory is free: the next ones may lie at the same place.
                ("again", "udp-segments", PUBLISHED, BUFFERS),
            ] {
                let name = format!("datagrams.{name}.{what}");
                let address = SocketAddr::new(near, port);
                truths.extend(finish([generate(
                    world, &name, mode, address, count, far,
                )?])?);
            }
            Ok(truths)
        })?;
        server.finish()?;
        let counted = counted.counted()?;
        let of_sockets = i128::from(counted.bytes + check::LINK_HEADER * counted.packets);
        differences.extend(seen.differences(|ledger| {
            let side = ledger.ingress;
            let sent = ledger.egress;
            [side.socket + side.kernel, sent.socket + sent.kernel]
        }));
        let ledger = seen.ledger(link)?;
        for (what, expected, seen) in [
            ("ingress socket", of_sockets, ledger.ingress.socket),
            ("ingress offload", 0, ledger.ingress.offload),
        ] {
            if expected != seen {
                differences.push(difference(format!("{name} {link}"), what, expected, seen));
            }
        }
    }
    report::expect_none(&differences)
}

/// A socket that gets a copy of every datagram that comes.
fn raw_socket() -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP))?;
    setsockopt(&socket, sockopt::RcvBufForce, &LARGE_QUEUE).context("SO_RCVBUFFORCE")?;
    Ok(socket)
}

/// Rules by which what comes by a link for [`PUBLISHED`] goes to another port.
fn translate(link: &str, server: SocketAddr) -> Result<wire::Table> {
    let chain = format!(
        "chain in {{ type nat hook prerouting priority -100;
            iifname {link} udp dport {PUBLISHED} dnat to {server}; }}"
    );
    wire::Table::install(None, "ip", &chain)
}
