//! Datagrams received by calls that do not ask for their senders. Each sender's are marked, so that
//! the receiver knows them nevertheless.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};

use super::{Options, udp::PATIENCE};
use crate::truth::Tally;

/// Datagrams of one sender that wait together.
const BURST: usize = 5;
/// Datagrams that do not all fit in the smallest queue, and bytes of each.
const TOO_MANY: usize = 100;
const LARGE: usize = 1000;
/// More than the time after which Flow no longer expects datagrams that were dropped.
const QUIET: Duration = Duration::from_millis(1200);

/// A sender, and what its datagrams begin with.
struct Sender {
    socket: UdpSocket,
    address: SocketAddr,
    mark: u8,
}

/// A socket that receives from several.
struct Receiver<'a> {
    socket: UdpSocket,
    address: SocketAddr,
    tally: &'a Tally,
}

impl Sender {
    fn new(host: IpAddr, mark: u8) -> Result<Self> {
        let socket = UdpSocket::bind((host, 0))?;
        let address = socket.local_addr()?;
        Ok(Self {
            socket,
            address,
            mark,
        })
    }

    fn send(&self, bytes: usize, to: &Receiver<'_>) -> Result<()> {
        let datagram = vec![self.mark; bytes];
        let sent = self.socket.send_to(&datagram, to.address)?;
        to.tally.sent_to(to.address, sent);
        Ok(())
    }
}

impl Receiver<'_> {
    /// Receives a datagram; returns what it begins with, and its length.
    fn receive(&self, flags: MsgFlags) -> io::Result<(u8, usize)> {
        let mut buffer = [0; 2 * LARGE];
        let received = recv(self.socket.as_raw_fd(), &mut buffer, flags)?;
        Ok((buffer[0], received))
    }

    /// Receives one of this sender's, when no other sender's waits.
    fn known(&self, from: &Sender) -> Result<()> {
        let (mark, received) = self.receive(MsgFlags::empty())?;
        ensure!(mark == from.mark, "a datagram of another sender");
        self.tally.received_from(from.address, received);
        Ok(())
    }

    /// Receives one of these senders, when those of both wait or it cannot be known how many.
    fn mixed(&self, from: [&Sender; 2], flags: MsgFlags) -> io::Result<()> {
        let (mark, received) = self.receive(flags)?;
        let sender = from.into_iter().find(|sender| sender.mark == mark);
        let sender = sender.ok_or_else(|| io::Error::other("a datagram of another sender"))?;
        self.tally.received_unasked(sender.address, received);
        Ok(())
    }
}

pub fn recv_only(options: &Options, tally: &Tally) -> Result<()> {
    for host in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        let socket = UdpSocket::bind((host, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let receiver = Receiver {
            address: socket.local_addr()?,
            socket,
            tally,
        };
        rounds(host, &receiver, options)?;
    }
    Ok(())
}

fn rounds(host: IpAddr, receiver: &Receiver<'_>, options: &Options) -> Result<()> {
    // The first that a socket receives shows that it does not ask.
    let first = Sender::new(host, b'1')?;
    first.send(70, receiver)?;
    receiver.mixed([&first; 2], MsgFlags::empty())?;
    let (one, other) = (Sender::new(host, b'a')?, Sender::new(host, b'b')?);
    let together = [Sender::new(host, b'c')?, Sender::new(host, b'd')?];
    let together = [&together[0], &together[1]];
    for round in 0..options.count as usize {
        for sender in [&one, &other] {
            sender.send(100 + round, receiver)?;
            let (mark, _) = receiver.receive(MsgFlags::MSG_PEEK)?;
            ensure!(mark == sender.mark, "a datagram of another sender waits");
            receiver.known(sender)?;
        }
        for _ in 0..BURST {
            one.send(200 + round, receiver)?;
        }
        (0..BURST).try_for_each(|_| receiver.known(&one))?;
        for sender in together {
            sender.send(300 + round, receiver)?;
        }
        for _ in together {
            receiver.mixed(together, MsgFlags::empty())?;
        }
    }
    overrun(receiver, together)?;
    one.send(400, receiver)?;
    receiver.known(&one)
}

/// Sends more than has room; what is dropped is never read.
fn overrun(receiver: &Receiver<'_>, from: [&Sender; 2]) -> Result<()> {
    setsockopt(&receiver.socket, sockopt::RcvBuf, &0).context("SO_RCVBUF")?;
    for _ in 0..TOO_MANY {
        for sender in from {
            sender.send(LARGE, receiver)?;
        }
    }
    let mut received = 0;
    loop {
        match receiver.mixed(from, MsgFlags::MSG_DONTWAIT) {
            Ok(()) => received += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    ensure!(received < TOO_MANY, "nothing was dropped");
    thread::sleep(QUIET);
    Ok(())
}
