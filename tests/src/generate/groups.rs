//! Modes of packets that several sockets take: multicast, broadcast, and copies for raw sockets.

use std::{
    io::Read as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Options, raw, tcp::ZEROS, udp::PATIENCE};
use crate::truth::{Line, Tally};

/// The all-hosts group: the kernel need not announce its members, which would fall between two
/// readings.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// Datagrams that are sent with one call at the end, and their size.
const TOGETHER: usize = 20;
const DATAGRAM: usize = 700;
/// Sockets that take each packet.
const TAKERS: usize = 3;

/// Receives what [`send`] sends, and its own, with several sockets each; then echoes of the far end
/// with two raw ones.
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

    // One of them receives datagrams of one GRO buffer together.
    setsockopt(&takers[1], sockopt::UdpGroSegment, &true).context("UDP_GRO")?;
    let sizes = sizes(options.count).sum::<usize>() + TOGETHER * DATAGRAM;
    let each = to_all(own, port).len() * sizes;
    receive(&takers, each, tally)?;
    // These return to this host's members by no interface.
    send_from(&takers[0], own, port, options.count, tally)?;
    receive(&takers, each, tally)?;

    let listening = raw::icmp_socket()?;
    listening.set_read_timeout(Some(PATIENCE))?;
    listening.connect(&SocketAddr::new(options.peer()?.ip(), 0).into())?;
    raw::icmp_raw(options, tally)?;
    for _ in 0..options.count {
        let received = (&listening).read(&mut [0; 2000]).context("too few came")?;
        tally.received(received);
    }
    Ok(())
}

/// Sends COUNT datagrams to the group and as many to the broadcast address, at the port of
/// `--peer`, and some more with one call.
pub fn send(options: &Options, tally: &Tally) -> Result<()> {
    let own = own(options)?;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.bind(&SocketAddr::from((own, 0)).into())?;
    let port = options.peer()?.port();
    send_from(&socket, own, port, options.count, tally)
}

/// Receives `each` bytes from each socket.
fn receive(sockets: &[Socket], each: usize, tally: &Tally) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    for mut socket in sockets {
        let mut left = each;
        while left > 0 {
            let received = socket.read(&mut buffer).context("too few came")?;
            tally.received(received);
            left = left
                .checked_sub(received)
                .context("more came than was sent")?;
        }
    }
    Ok(())
}

/// The sizes of the datagrams that are sent one by one.
fn sizes(count: u64) -> impl Iterator<Item = usize> {
    (0..count as usize).map(|number| 10 + number % 1000)
}

fn send_from(socket: &Socket, own: Ipv4Addr, port: u16, count: u64, tally: &Tally) -> Result<()> {
    socket.set_multicast_if_v4(&own)?;
    socket.set_broadcast(true)?;
    for size in sizes(count) {
        for address in to_all(own, port) {
            tally.sent(socket.send_to(&ZEROS[..size], &address)?);
        }
    }
    setsockopt(socket, sockopt::UdpGsoSegment, &(DATAGRAM as i32)).context("UDP_SEGMENT")?;
    for address in to_all(own, port) {
        tally.sent(socket.send_to(&ZEROS[..TOGETHER * DATAGRAM], &address)?);
    }
    setsockopt(socket, sockopt::UdpGsoSegment, &0).context("UDP_SEGMENT")
}

/// Addresses at which several sockets receive.
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
