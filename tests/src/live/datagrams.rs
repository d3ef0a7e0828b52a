//! Buffers of several datagrams: each datagram is delivered to its socket by itself, and the
//! interface counted one set of headers for all. Other packets that are the kernel's arrive as
//! well, so that no sum can hide errors.

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

/// A published port, which DNAT translates to the socket's.
const PUBLISHED: u16 = 4433;
/// Number of buffers of each kind, and of packets that the kernel answers.
const BUFFERS: u64 = 20;
const KNOCKS: u64 = 60;
/// Sizes of a receive queue that fills up, and of one that does not. The kernel makes them somewhat
/// larger.
const SMALL_QUEUE: usize = 4096;
const LARGE_QUEUE: usize = 16 << 20;

/// Buffers to an address that is translated, and to a socket with a full queue; without a raw
/// socket, and with one that takes a copy of each.
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
                // A translated buffer is recognised by its place after a packet that a socket took.
                ("one", "udp-connected", PUBLISHED, 1),
                ("published", "udp-segments", PUBLISHED, BUFFERS),
                ("unread", "udp-buffers", to_unread.port(), BUFFERS),
                // The memory of the dropped datagrams is free: the next ones may have the same
                // address.
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

/// A socket that gets a copy of every datagram that arrives.
fn raw_socket() -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP))?;
    setsockopt(&socket, sockopt::RcvBufForce, &LARGE_QUEUE).context("SO_RCVBUFFORCE")?;
    Ok(socket)
}

/// Rules that translate packets of a link for [`PUBLISHED`] to another port.
fn translate(link: &str, server: SocketAddr) -> Result<wire::Table> {
    let chain = format!(
        "chain in {{ type nat hook prerouting priority -100;
            iifname {link} udp dport {PUBLISHED} dnat to {server}; }}"
    );
    wire::Table::install(None, "ip", &chain)
}
