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

use super::{
    Options,
    udp::{PATIENCE, disconnect},
};
use crate::truth::Tally;

/// Datagrams of one sender that wait together.
const BURST: usize = 5;
/// Datagrams that do not all fit in the smallest queue, and bytes of each.
const TOO_MANY: usize = 100;
const LARGE: usize = 1000;
/// Bytes of a queue that all others fit in.
const QUEUE: usize = 1 << 16;
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

    /// Receives one whose sender Flow must not name.
    fn unknown(&self, flags: MsgFlags) -> io::Result<()> {
        let (_, received) = self.receive(flags)?;
        self.tally.received(received);
        Ok(())
    }
}

pub fn recv_only(options: &Options, tally: &Tally) -> Result<()> {
    for host in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        // At an explicit port, which it keeps when its remote is removed.
        let own = UdpSocket::bind((host, 0))?.local_addr()?;
        let socket = UdpSocket::bind(own)?;
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
    let sender = |mark| Sender::new(host, mark);
    let (one, other) = (sender(b'a')?, sender(b'b')?);
    // Only these two are ever known.
    let others = [sender(b'c')?, sender(b'd')?];
    for sender in &others {
        receiver.tally.nothing_with(sender.address);
    }
    let wait_for = |senders: &[&Sender], bytes: usize| {
        senders
            .iter()
            .try_for_each(|sender| sender.send(bytes, receiver))
    };
    let [first, second] = &others;
    // The first that a socket receives shows that it does not ask, while another waits already.
    wait_for(&[first, second], 70)?;
    receiver.unknown(MsgFlags::empty())?;
    wait_for(&[first], 60)?;
    receiver.unknown(MsgFlags::empty())?;
    receiver.unknown(MsgFlags::empty())?;
    // The first that finds no other waiting.
    wait_for(&[second], 50)?;
    receiver.unknown(MsgFlags::empty())?;
    for round in 0..options.count as usize {
        for sender in [&one, &other] {
            sender.send(100 + round, receiver)?;
            let (mark, _) = receiver.receive(MsgFlags::MSG_PEEK)?;
            ensure!(mark == sender.mark, "a datagram of another sender waits");
            receiver.known(sender)?;
        }
        wait_for(&[&one; BURST], 200 + round)?;
        (0..BURST).try_for_each(|_| receiver.known(&one))?;
        wait_for(&[first], 300 + round)?;
        wait_for(&[second], 400 + round)?;
        (0..2).try_for_each(|_| receiver.unknown(MsgFlags::empty()))?;
    }
    overrun(receiver, [first, second])?;
    // After a while without any Flow counts anew, which begins with the next datagram.
    thread::sleep(QUIET);
    wait_for(&[first], 80)?;
    receiver.unknown(MsgFlags::empty())?;
    one.send(500, receiver)?;
    receiver.known(&one)?;
    reconnected(receiver, [first, second])?;
    other.send(600, receiver)?;
    receiver.known(&other)
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
        match receiver.unknown(MsgFlags::MSG_DONTWAIT) {
            Ok(()) => received += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    ensure!(received < TOO_MANY, "nothing was dropped");
    setsockopt(&receiver.socket, sockopt::RcvBuf, &QUEUE).context("SO_RCVBUF")
}

/// What came while the socket was connected waits when it no longer is.
fn reconnected(receiver: &Receiver<'_>, from: [&Sender; 2]) -> Result<()> {
    let [peer, other] = from;
    receiver.socket.connect(peer.address)?;
    peer.send(700, receiver)?;
    disconnect(&receiver.socket)?;
    other.send(800, receiver)?;
    receiver.unknown(MsgFlags::empty())?;
    Ok(receiver.unknown(MsgFlags::empty())?)
}
