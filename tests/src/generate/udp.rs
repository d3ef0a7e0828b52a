//! Modes of UDP. The far end echoes, so every datagram is awaited and none is lost.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    poll::{PollFd, PollFlags},
    sys::socket::{
        MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt, sockopt,
    },
};

use super::{
    Options,
    serve::UDP_PORTS,
    tcp::{self, ZEROS},
};
use crate::truth::Tally;

/// `dropped`: sizes of a datagram that is echoed; of one whose echo does not arrive; of one that is
/// not sent.
pub const ECHOED: usize = 100;
pub const DROPPED_ON_ARRIVAL: usize = 900;
pub const TOO_LARGE: usize = 1300;

/// Largest datagram of IPv4.
const LARGEST: usize = 65_507;
/// More remotes than Flow counts separately for a socket.
const REMOTES: u16 = 3000;
/// Remotes of one socket, each of which answers.
const PEERS: usize = 200;
/// How long `chatter` waits for an echo before it continues without: kernels without TCX may drop
/// what is sent at the moment in which Flow's qdisc is added or removed.
const CHATTER_PATIENCE: Duration = Duration::from_secs(1);
/// How long an echo may take, also on a slow emulated machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn connected(options: &Options, tally: &Tally) -> Result<()> {
    let socket = connect(options.peer()?)?;
    (0..options.count).try_for_each(|_| exchange(&socket, 1000, tally))
}

pub fn many(options: &Options, tally: &Tally) -> Result<()> {
    let peer = options.peer()?;
    let socket = bind_for(peer)?;
    let mut buffer = [0; 2000];
    for round in 0..options.count {
        for offset in 0..UDP_PORTS {
            let remote = SocketAddr::new(peer.ip(), peer.port() + offset);
            let size = 100 * (usize::from(offset) + 1) + round as usize % 7;
            let sent = socket.send_to(&ZEROS[..size], remote)?;
            tally.sent_to(remote, sent);
            let (received, from) = socket.recv_from(&mut buffer).context("no echo")?;
            tally.received_from(from, received);
            ensure!(from == remote, "echo of {remote} came from {from}");
        }
    }
    Ok(())
}

pub fn sizes(options: &Options, tally: &Tally) -> Result<()> {
    let socket = connect(options.peer()?)?;
    // About what fits an MTU of 1,280 and of 1,500 bytes, for IPv6 and IPv4.
    let sizes = [
        0, 1, 2, 3, 1231, 1232, 1233, 1252, 1253, 1451, 1452, 1453, 1471, 1472, 1473, 8000,
        LARGEST, 0, 0, 512,
    ];
    sizes
        .into_iter()
        .try_for_each(|size| exchange(&socket, size, tally))
}

pub fn mmsg(options: &Options, tally: &Tally) -> Result<()> {
    let socket = connect(options.peer()?)?;
    for _ in 0..options.count {
        let sent = send_burst(&socket, tally)?;
        receive_burst(&socket, sent, tally)?;
    }
    Ok(())
}

/// As [`mmsg`], by several sockets at once.
pub fn bursts(options: &Options, tally: &Tally) -> Result<()> {
    const SOCKETS: usize = 3;
    let sockets: Vec<_> = (0..SOCKETS)
        .map(|_| connect(options.peer()?))
        .collect::<Result<_>>()?;
    for _ in 0..options.count.div_ceil(SOCKETS as u64) {
        let sent: Vec<_> = sockets
            .iter()
            .map(|socket| send_burst(socket, tally))
            .collect::<Result<_>>()?;
        for (socket, sent) in sockets.iter().zip(sent) {
            receive_burst(socket, sent, tally)?;
        }
    }
    Ok(())
}

/// Sends several datagrams with one call; returns how many.
fn send_burst(socket: &UdpSocket, tally: &Tally) -> Result<usize> {
    const BATCH: usize = 8;
    // One is empty. Several consecutive others have the same size, as GRO requires.
    let out: Vec<_> = (0..BATCH)
        .map(|n| [IoSlice::new(&ZEROS[..n.div_ceil(4) * 300])])
        .collect();
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let none = [None; BATCH];
    let results = sendmmsg(
        socket.as_raw_fd(),
        &mut headers,
        &out,
        none,
        [],
        MsgFlags::empty(),
    )
    .context("sendmmsg")?;
    let mut sent = 0;
    for result in results {
        tally.sent(result.bytes);
        sent += 1;
    }
    Ok(sent)
}

/// Receives as many datagrams, several with one call.
fn receive_burst(socket: &UdpSocket, mut outstanding: usize, tally: &Tally) -> Result<()> {
    while outstanding > 0 {
        let mut buffers = vec![[0; 2000]; outstanding];
        let mut slices: Vec<_> = buffers
            .iter_mut()
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(outstanding, None);
        let results = recvmmsg(
            socket.as_raw_fd(),
            &mut headers,
            &mut slices,
            MsgFlags::MSG_WAITFORONE,
            None,
        )
        .context("recvmmsg")?;
        for result in results {
            tally.received(result.bytes);
            outstanding -= 1;
        }
    }
    Ok(())
}

pub fn failed_send(options: &Options, tally: &Tally) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    let broadcast = (Ipv4Addr::new(127, 255, 255, 255), 9).into();
    let mut buffer = [0; 1000];
    for _ in 0..options.count {
        tally.sent_to(address, other.send_to(&ZEROS[..300], address)?);
        match socket.send_to(&ZEROS[..100], broadcast) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            other => bail!("a broadcast without SO_BROADCAST returned {other:?}"),
        }
        // Without an address, so that only the failed call named one.
        tally.received_unasked(other.local_addr()?, socket.recv(&mut buffer)?);
    }
    tally.nothing_with(broadcast);
    Ok(())
}

pub fn disconnected(options: &Options, tally: &Tally) -> Result<()> {
    let first = options.peer()?;
    let second = SocketAddr::new(first.ip(), first.port() + 1);
    let third = SocketAddr::new(first.ip(), first.port() + 2);
    // At an explicit port, which it keeps when its remote is removed.
    let own = bind_for(first)?.local_addr()?;
    let socket = UdpSocket::bind(own)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 1000];
    for _ in 0..options.count {
        socket.connect(first)?;
        tally.sent_to(first, socket.send(&ZEROS[..100])?);
        tally.received_from(first, socket.recv(&mut buffer).context("no echo")?);
        disconnect(&socket)?;
        for (remote, size) in [(first, 200), (second, 300)] {
            tally.sent_to(remote, socket.send_to(&ZEROS[..size], remote)?);
            let (received, from) = socket.recv_from(&mut buffer).context("no echo")?;
            ensure!(from == remote, "echo of {remote} came from {from}");
            tally.received_from(remote, received);
        }
        // Received without an address, its source is unknown: it must not be taken from an earlier
        // datagram.
        tally.sent_to(third, socket.send_to(&ZEROS[..400], third)?);
        let received = socket.recv(&mut buffer).context("no echo")?;
        tally.received_unasked(third, received);
    }
    Ok(())
}

pub fn error_queue(options: &Options, tally: &Tally) -> Result<()> {
    let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let socket = connect(closed)?;
    setsockopt(&socket, sockopt::Ipv4RecvErr, &true).context("IP_RECVERR")?;
    let mut buffer = [0; 1000];
    for _ in 0..options.count {
        tally.sent(socket.send(&ZEROS[..200])?);
        tcp::wait(&socket, PollFlags::POLLERR)?;
        // The error queue returns the sent bytes: nobody else sent these.
        let returned = nix::sys::socket::recv(
            socket.as_raw_fd(),
            &mut buffer,
            MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT,
        );
        let returned = returned.context("recv of the error queue")?;
        ensure!(returned == 200, "the error queue gave {returned} bytes");
    }
    Ok(())
}

pub fn truncated(options: &Options, tally: &Tally) -> Result<()> {
    let socket = connect(options.peer()?)?;
    let mut buffer = [0; 100];
    for round in 0..options.count {
        tally.sent(socket.send(&ZEROS[..1000])?);
        tcp::wait(&socket, PollFlags::POLLIN)?;
        // With MSG_TRUNC the call returns the datagram's length, not the buffer's.
        let (flags, expected) = match round % 2 {
            0 => (MsgFlags::MSG_TRUNC, 1000),
            _ => (MsgFlags::empty(), 100),
        };
        let received = nix::sys::socket::recv(socket.as_raw_fd(), &mut buffer, flags);
        let received = received.context("recv")?;
        ensure!(received == expected, "recv returned {received}");
        tally.received(received);
    }
    Ok(())
}

pub fn corked(options: &Options, tally: &Tally) -> Result<()> {
    let socket = connect(options.peer()?)?;
    let mut buffer = [0; 2000];
    for _ in 0..options.count {
        let more = MsgFlags::from_bits_retain(libc::MSG_MORE);
        for flags in [more, more, MsgFlags::empty()] {
            let sent = nix::sys::socket::send(socket.as_raw_fd(), &ZEROS[..250], flags);
            tally.sent(sent.context("send")?);
        }
        tally.received(socket.recv(&mut buffer).context("no echo")?);
    }
    Ok(())
}

/// Datagrams of one call, and their size.
const SEGMENTS: usize = 10;
const SEGMENT: usize = 500;

/// Number of buffers of unanswered datagrams.
pub fn buffers(options: &Options, tally: &Tally) -> Result<()> {
    let socket = connect(options.peer()?)?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &(SEGMENT as i32)).context("UDP_SEGMENT")?;
    for _ in 0..options.count {
        tally.sent(socket.send(&ZEROS[..SEGMENTS * SEGMENT])?);
    }
    Ok(())
}

pub fn segments(options: &Options, tally: &Tally) -> Result<()> {
    let socket = connect(options.peer()?)?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &(SEGMENT as i32)).context("UDP_SEGMENT")?;
    setsockopt(&socket, sockopt::UdpGroSegment, &true).context("UDP_GRO")?;
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..options.count {
        // One call sends many datagrams; the echoes may be merged again.
        tally.sent(socket.send(&ZEROS[..SEGMENTS * SEGMENT])?);
        let mut left = SEGMENTS * SEGMENT;
        while left > 0 {
            let received = socket.recv(&mut buffer).context("no echo")?;
            tally.received(received);
            left = left
                .checked_sub(received)
                .context("more came back than was sent")?;
        }
    }
    Ok(())
}

pub fn many_remotes(_: &Options, tally: &Tally) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let receiver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = receiver.local_addr()?.port();
    let mut buffer = [0; 1000];
    for number in 0..REMOTES {
        let [high, low] = number.to_be_bytes();
        let remote = (Ipv4Addr::new(127, 1, high, low), port);
        tally.sent(socket.send_to(&ZEROS[..100], remote)?);
        tally.received(receiver.recv(&mut buffer)?);
    }
    Ok(())
}

pub fn peers(options: &Options, tally: &Tally) -> Result<()> {
    for any in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ] {
        let socket = UdpSocket::bind((any, 0))?;
        let own = socket.local_addr()?;
        let peers = (0..PEERS)
            .map(|_| UdpSocket::bind((any, 0)))
            .collect::<io::Result<Vec<_>>>()?;
        let mut buffer = [0; 2000];
        for (number, peer) in (0..options.count).flat_map(|_| peers.iter().enumerate()) {
            let remote = peer.local_addr()?;
            tally.sent_to(remote, socket.send_to(&ZEROS[..100 + number], remote)?);
            let (received, from) = peer.recv_from(&mut buffer)?;
            tally.received_from(from, received);
            tally.sent_to(own, peer.send_to(&ZEROS[..2 * received], from)?);
            let (received, from) = socket.recv_from(&mut buffer)?;
            tally.received_from(from, received);
            ensure!(from == remote, "an answer of {remote} came from {from}");
        }
    }
    Ok(())
}

pub fn peek(options: &Options, tally: &Tally) -> Result<()> {
    let socket = connect(options.peer()?)?;
    let mut buffer = [0; 1000];
    for number in 0..options.count as usize {
        let size = 100 + number % 800;
        tally.sent(socket.send(&ZEROS[..size])?);
        // Peeked bytes are not moved, so they are not counted.
        let seen = socket.peek(&mut buffer).context("no echo")?;
        socket.peek_from(&mut buffer[..size / 2])?;
        let (received, _) = socket.recv_from(&mut buffer)?;
        ensure!(
            received == seen && seen == size,
            "{size} bytes came back as {received}"
        );
        tally.received(received);
    }
    Ok(())
}

pub fn dropped(options: &Options, tally: &Tally) -> Result<()> {
    let socket = connect(options.peer()?)?;
    for _ in 0..options.count {
        exchange(&socket, ECHOED, tally)?;
        for size in [TOO_LARGE, DROPPED_ON_ARRIVAL] {
            tally.sent(socket.send(&ZEROS[..size])?);
        }
    }
    // The echo of this one comes after all others.
    exchange(&socket, ECHOED, tally)
}

pub fn chatter(options: &Options, tally: &Tally) -> Result<()> {
    let socket = connect(options.peer()?)?;
    socket.set_read_timeout(Some(CHATTER_PATIENCE))?;
    let stdin = io::stdin();
    let mut buffer = [0; 100];
    loop {
        tally.sent(socket.send(&ZEROS[..buffer.len()])?);
        match socket.recv(&mut buffer) {
            Ok(received) => tally.received(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("no echo"),
        }
        let mut input = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if nix::poll::poll(&mut input, 20_u8).context("poll")? > 0 {
            return Ok(());
        }
    }
}

/// A socket connected to `peer`.
pub fn connect(peer: SocketAddr) -> Result<UdpSocket> {
    let socket = bind_for(peer)?;
    socket
        .connect(peer)
        .with_context(|| format!("connecting to {peer}"))?;
    Ok(socket)
}

/// Sends a datagram through a connected socket and receives its echo.
pub fn exchange(socket: &UdpSocket, size: usize, tally: &Tally) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let sent = socket.send(&ZEROS[..size])?;
    tally.sent(sent);
    let received = socket.recv(&mut buffer).context("no echo")?;
    tally.received(received);
    ensure!(received == size, "{size} bytes came back as {received}");
    Ok(())
}

/// Disconnects a connected socket.
pub fn disconnect(socket: &UdpSocket) -> Result<()> {
    // SAFETY: all-zero is a valid address, of the family AF_UNSPEC.
    let nobody: libc::sockaddr = unsafe { std::mem::zeroed() };
    let length = size_of_val(&nobody) as libc::socklen_t;
    // SAFETY: the length is that of the address.
    let result = unsafe { libc::connect(socket.as_raw_fd(), &nobody, length) };
    nix::errno::Errno::result(result).context("connecting to nobody")?;
    Ok(())
}

fn bind_for(peer: SocketAddr) -> Result<UdpSocket> {
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}
