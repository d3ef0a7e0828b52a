//! Modes of special situations: calls that fail, slow traffic, and sockets that exist before Flow.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use super::{
    Options, flags, raw, tcp,
    tcp::{Request, ZEROS},
    udp, wait_for_go,
};
use crate::truth::{Blind, Tally};

/// A few bytes a second, by TCP and UDP.
pub fn drip(options: &Options, tally: &Tally) -> Result<()> {
    let peer = options.peer()?;
    let mut stream = tcp::connect(peer, Request::Sink, tally)?;
    let socket = udp::connect(peer)?;
    for _ in 0..options.count {
        tcp::send(&mut stream, 7, tally)?;
        udp::exchange(&socket, 3, tally)?;
        // The mode is about slow traffic.
        thread::sleep(Duration::from_secs(1));
    }
    tcp::finish(stream, tally)
}

pub fn failing(options: &Options, tally: &Tally) -> Result<()> {
    let mut buffer = [0; 100];

    let unconnected = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    must_fail(
        unconnected.send(&ZEROS[..10]),
        "a send without a destination",
    )?;
    let too_long = unconnected.send_to(&[0; 70_000], (Ipv4Addr::LOCALHOST, 9));
    must_fail(too_long, "a datagram that is too long")?;
    must_fail(send_unmapped(&unconnected), "a datagram from nowhere")?;
    let peer = options.peer()?;
    // On loopback there is room for all.
    if !peer.ip().is_loopback() {
        let whole = udp::connect(peer)?;
        let never_cut = libc::IP_PMTUDISC_DO;
        flags::set(&whole, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, never_cut)?;
        let larger = whole.send(&ZEROS[..3000]);
        must_fail(larger, "a datagram larger than the way")?;
    }
    unconnected.set_nonblocking(true)?;
    must_fail(
        unconnected.recv(&mut buffer),
        "a receive without a datagram",
    )?;

    let mut nowhere = TcpStream::from(Socket::new(Domain::IPV4, Type::STREAM, None)?);
    must_fail(nowhere.write(&ZEROS[..10]), "a write before connect")?;

    let mut stream = tcp::connect(peer, Request::Sink, tally)?;
    must_fail(send_unmapped(&stream), "a write from nowhere")?;
    stream.set_nonblocking(true)?;
    must_fail(stream.read(&mut buffer), "a read with nothing to read")?;
    stream.set_nonblocking(false)?;
    tcp::send(&mut stream, options.bytes, tally)?;
    stream.shutdown(Shutdown::Write)?;
    must_fail(stream.write(&ZEROS[..10]), "a write after shutdown")?;
    Ok(tcp::receive(&mut stream, tally)?)
}

pub fn opened_before(options: &Options, tally: &Tally) -> Result<()> {
    let (near, far) = tcp::pair()?;
    let (one, other) = udp_pair()?;
    let uncounted = Tally::default();
    both_ways(&near, &far, 1000, &uncounted)?;
    datagrams(&one, &other, 3, &uncounted)?;

    wait_for_go()?;
    both_ways(&near, &far, options.bytes, tally)?;
    datagrams(&one, &other, options.count, tally)
}

pub fn opened_before_peer(options: &Options, tally: &Tally) -> Result<()> {
    let peer = options.peer()?;
    let mut stream = TcpStream::connect(peer)?;
    let socket = udp::connect(peer)?;

    wait_for_go()?;
    let request = Request::Source(options.bytes).encode();
    let sent = stream.write(&request)?;
    ensure!(
        sent == request.len(),
        "a request of which only a part was sent"
    );
    tally.sent(sent);
    tcp::send_and_drain(&stream, options.bytes, tally)?;
    (0..options.count).try_for_each(|_| udp::exchange(&socket, 700, tally))
}

pub fn waiting_reader(options: &Options, tally: &Tally) -> Result<()> {
    let (mut near, mut far) = tcp::pair()?;
    thread::scope(|scope| {
        let (sender, ids) = std::sync::mpsc::channel();
        let reader = scope.spawn(move || {
            sender.send(nix::unistd::gettid())?;
            let mut buffer = [0; 1000];
            let received = far.read(&mut buffer)?;
            tally.received_unseen(Blind::CallsUnderWay, received);
            tcp::receive(&mut far, tally)?;
            Ok(())
        });
        let thread = ids.recv().context("the reader did not start")?;
        wait_until_asleep(thread.as_raw())?;

        wait_for_go()?;
        let sent = near.write(&ZEROS[..1000])?;
        tally.sent(sent);
        tcp::send(&mut near, options.bytes, tally)?;
        near.shutdown(Shutdown::Write)?;
        tcp::join(reader)
    })
}

/// The far end's kernel refuses connections and datagrams, and answers echo requests.
pub fn knock(options: &Options, tally: &Tally) -> Result<()> {
    let closed = options.peer()?;
    for _ in 0..options.count {
        match TcpStream::connect(closed) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            other => bail!("expected the connection to be refused, got {other:?}"),
        }
        let socket = udp::connect(closed)?;
        tally.sent(socket.send(&ZEROS[..100])?);
    }
    raw::icmp_raw(options, tally)
}

/// Sends from an unmapped address.
fn send_unmapped(socket: &impl AsRawFd) -> std::io::Result<usize> {
    // SAFETY: the kernel rejects the address, and nothing else reads it.
    let sent = unsafe { libc::send(socket.as_raw_fd(), std::ptr::dangling(), 100, 0) };
    nix::errno::Errno::result(sent)?;
    Ok(sent.unsigned_abs())
}

fn must_fail(result: std::io::Result<usize>, what: &str) -> Result<()> {
    match result {
        Err(_) => Ok(()),
        Ok(bytes) => bail!("{what} did not fail but returned {bytes}"),
    }
}

/// Two sockets that know each other's address; the second is not connected.
pub fn udp_pair() -> Result<(UdpSocket, UdpSocket)> {
    let one = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    one.connect(other.local_addr()?)?;
    Ok((one, other))
}

pub fn both_ways(near: &TcpStream, far: &TcpStream, bytes: u64, tally: &Tally) -> Result<()> {
    tcp::pass(near, far, bytes, tally)?;
    tcp::pass(far, near, bytes, tally)
}

pub fn datagrams(one: &UdpSocket, other: &UdpSocket, count: u64, tally: &Tally) -> Result<()> {
    let mut buffer = [0; 1000];
    for _ in 0..count {
        tally.sent(one.send(&ZEROS[..300])?);
        let (received, from): (usize, SocketAddr) = other.recv_from(&mut buffer)?;
        tally.received(received);
        tally.sent(other.send_to(&ZEROS[..200], from)?);
        tally.received(one.recv(&mut buffer)?);
    }
    Ok(())
}

/// Waits until the thread sleeps in the kernel.
pub fn wait_until_asleep(thread: i32) -> Result<()> {
    loop {
        let path = format!("/proc/self/task/{thread}/stat");
        let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        // The state follows the name, which is in parentheses and may contain anything.
        let state = stat
            .rsplit_once(") ")
            .map(|(_, rest)| rest.starts_with('S'));
        if state == Some(true) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
}
