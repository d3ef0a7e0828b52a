//! Modes of UDP. The far end echoes, so every datagram is waited for and none is lost.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    poll::{PollFd, PollFlags},
    sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg},
};

use super::{Options, serve::UDP_PORTS, tcp::ZEROS};
use crate::truth::Tally;

/// Largest datagram of IPv4.
const LARGEST: usize = 65_507;
/// How long chatter waits for an echo before it goes on without: kernels without TCX may drop what
/// is sent at the moment in which Flow's qdisc comes or goes.
const CHATTER_PATIENCE: Duration = Duration::from_secs(1);
/// How long an echo may take, also on a slow emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);

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
    let sizes = [0, 1, 2, 3, 1471, 1472, 1473, 8000, LARGEST, 0, 0, 512];
    sizes
        .into_iter()
        .try_for_each(|size| exchange(&socket, size, tally))
}

pub fn mmsg(options: &Options, tally: &Tally) -> Result<()> {
    const BATCH: usize = 8;
    let socket = connect(options.peer()?)?;
    for _ in 0..options.count {
        let out: Vec<_> = (0..BATCH)
            .map(|n| [IoSlice::new(&ZEROS[..n * 100])])
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
        let mut outstanding = 0;
        for result in results {
            tally.sent(result.bytes);
            outstanding += 1;
        }
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
    }
    Ok(())
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

fn bind_for(peer: SocketAddr) -> Result<UdpSocket> {
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}
