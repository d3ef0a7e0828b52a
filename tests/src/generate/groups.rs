//! Modes of packets that several sockets take: to a group, to everyone on the network, and copies for raw sockets.

use std::{
    io::Read as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Options, raw, tcp::ZEROS, udp::PATIENCE};
use crate::truth::{Line, Tally};

/// Of all hosts: the kernel need not tell anybody who joins it, which would fall between two counts.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// Sockets that take each packet.
const TAKERS: usize = 3;

/// Takes what [`send`] sends, and its own, with several sockets each; then echoes of the far end with two raw ones.
pub fn take(options: &Options, tally: &Tally) -> Result<()> {
    let own = own(options)?;
    let mut port = 0;
    let mut takers = Vec::new();
    for _ in 0..TAKERS {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        socket.join_multicast_v4(&GROUP, &own)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        port = socket.local_addr()?.as_socket().context("no port")?.port();
        takers.push(socket);
    }
    Line::Listening {
        address: (own, port).into(),
    }
    .print()?;

    let each = to_all(own, port).len() as u64 * options.count;
    receive(&takers, each, tally)?;
    // These come back to this host's members by no interface.
    send_from(&takers[0], own, port, options.count, tally)?;
    receive(&takers, each, tally)?;

    let listening = raw::icmp_socket()?;
    listening.set_read_timeout(Some(PATIENCE))?;
    listening.connect(&SocketAddr::new(options.peer()?.ip(), 0).into())?;
    raw::icmp_raw(options, tally)?;
    receive(&[listening], options.count, tally)
}

/// Sends COUNT datagrams to the group and as many to everyone on the network, at the port of `--peer`.
pub fn send(options: &Options, tally: &Tally) -> Result<()> {
    let own = own(options)?;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.bind(&SocketAddr::from((own, 0)).into())?;
    let port = options.peer()?.port();
    send_from(&socket, own, port, options.count, tally)
}

/// Receives `each` datagrams from each socket.
fn receive(sockets: &[Socket], each: u64, tally: &Tally) -> Result<()> {
    for mut socket in sockets {
        for _ in 0..each {
            let received = socket.read(&mut [0; 2000]).context("too few came")?;
            tally.received(received);
        }
    }
    Ok(())
}

fn send_from(socket: &Socket, own: Ipv4Addr, port: u16, count: u64, tally: &Tally) -> Result<()> {
    socket.set_multicast_if_v4(&own)?;
    socket.set_broadcast(true)?;
    for number in 0..count as usize {
        for address in to_all(own, port) {
            tally.sent(socket.send_to(&ZEROS[..10 + number % 1000], &address)?);
        }
    }
    Ok(())
}

/// Where several sockets take what is sent there.
fn to_all(own: Ipv4Addr, port: u16) -> [SockAddr; 2] {
    let [a, b, c, _] = own.octets();
    [GROUP, Ipv4Addr::new(a, b, c, u8::MAX)].map(|ip| SocketAddr::from((ip, port)).into())
}

fn own(options: &Options) -> Result<Ipv4Addr> {
    match options.listen.context("this mode needs --listen")?.ip() {
        IpAddr::V4(own) => Ok(own),
        IpAddr::V6(own) => bail!("{own} is no IPv4 address"),
    }
}
