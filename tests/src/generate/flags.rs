//! Modes of TCP with options and flags that change how a call's bytes travel.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::fd::{AsFd, AsRawFd as _},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    poll::PollFlags,
    sched::{CloneFlags, unshare},
    sys::socket::{MsgFlags, recv, send, setsockopt, sockopt},
};
use socket2::{Domain, SockRef, Socket, Type};

use super::{
    Options,
    raw::loopback_up,
    tcp::{self, Request, ZEROS},
};
use crate::truth::Tally;

/// How long a send waits for room before it returns a partial count.
const SEND_TIMEOUT: Duration = Duration::from_millis(10);

pub fn zerocopy(options: &Options, tally: &Tally) -> Result<()> {
    let stream = tcp::connect(options.peer()?, Request::Sink, tally)?;
    set(&stream, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1).context("SO_ZEROCOPY")?;
    let socket = stream.as_raw_fd();
    let mut left = options.bytes as usize;
    while left > 0 {
        match send(
            socket,
            &ZEROS[..left.min(ZEROS.len())],
            MsgFlags::from_bits_retain(libc::MSG_ZEROCOPY),
        ) {
            Ok(sent) => {
                tally.sent(sent);
                left -= sent;
            }
            // Too many zero-copy sends are in flight.
            Err(Errno::ENOBUFS) => tcp::wait(&stream, PollFlags::POLLERR)?,
            Err(error) => return Err(error).context("a send with MSG_ZEROCOPY"),
        }
        // The error queue reports which buffers are free again; that is not data.
        match recv(
            socket,
            &mut [0; 100],
            MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(bytes) => ensure!(bytes == 0, "the error queue gave {bytes} bytes"),
            Err(Errno::EAGAIN) => {}
            Err(error) => return Err(error).context("recv of the error queue"),
        }
    }
    tcp::finish(stream, tally)
}

pub fn cork(options: &Options, tally: &Tally) -> Result<()> {
    let mut stream = tcp::connect(options.peer()?, Request::Sink, tally)?;
    let mut left = options.bytes as usize;
    while left > 0 {
        SockRef::from(&stream).set_tcp_cork(true)?;
        for size in [1, 100, 3000] {
            let sent = stream.write(&ZEROS[..left.min(size)])?;
            tally.sent(sent);
            left -= sent;
        }
        SockRef::from(&stream).set_tcp_cork(false)?;
    }
    tcp::finish(stream, tally)
}

pub fn urgent(options: &Options, tally: &Tally) -> Result<()> {
    let (near, far) = tcp::pair()?;
    for _ in 0..options.count {
        tcp::pass(&near, &far, 100, tally)?;
        let sent = send(near.as_raw_fd(), b"!", MsgFlags::MSG_OOB).context("urgent send")?;
        tally.sent(sent);
        tcp::wait(&far, PollFlags::POLLPRI)?;
        let received = recv(far.as_raw_fd(), &mut [0], MsgFlags::MSG_OOB);
        tally.received(received.context("urgent recv")?);
    }
    // Read past the last one.
    tcp::pass(&near, &far, 100, tally)
}

pub fn partial(options: &Options, tally: &Tally) -> Result<()> {
    let (mut near, far) = tcp::pair()?;
    setsockopt(&near, sockopt::SndBuf, &65_536).context("SO_SNDBUF")?;
    near.set_write_timeout(Some(SEND_TIMEOUT))?;
    let chunk = vec![0; 16 << 20];
    let mut left = options.bytes;
    let mut partial = 0;
    while left > 0 || partial == 0 {
        // Nobody reads meanwhile, so the call sends what has room and then times out.
        let sent = match near.write(&chunk) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        if sent > 0 {
            tally.sent(sent);
        }
        partial += usize::from(sent > 0 && sent < chunk.len());
        tcp::receive_exactly(&far, sent as u64, tally)?;
        left = left.saturating_sub(sent as u64);
    }
    Ok(())
}

pub fn fast_open(options: &Options, tally: &Tally) -> Result<()> {
    const BOTH_ENDS: &str = "3";
    unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
    loopback_up()?;
    let path = "/proc/sys/net/ipv4/tcp_fastopen";
    fs::write(path, BOTH_ENDS).with_context(|| format!("writing {path}"))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    set(&listener, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 16).context("TCP_FASTOPEN")?;
    let address = listener.local_addr()?.into();
    // The first connection gets a cookie; the others' bytes are in the SYN.
    for _ in 0..options.count {
        let near = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let sent = near.send_to_with_flags(&ZEROS[..500], &address, libc::MSG_FASTOPEN)?;
        tally.sent(sent);
        let (far, _) = listener.accept()?;
        tcp::receive_exactly(&far, sent as u64, tally)?;
        tcp::pass(&far, &near.into(), 700, tally)?;
    }
    Ok(())
}

pub fn many_connections(options: &Options, tally: &Tally) -> Result<()> {
    let peer = options.peer()?;
    for number in 0..options.count {
        // The far end closes first, so that no port here stays in TIME_WAIT: the kernel's search
        // for a free one would take longer than all the rest.
        let mut stream = tcp::connect(peer, Request::Source(number % 100), tally)?;
        tcp::receive(&mut stream, tally)?;
    }
    Ok(())
}

pub fn truncated(options: &Options, tally: &Tally) -> Result<()> {
    let (near, far) = tcp::pair()?;
    thread::scope(|scope| {
        let sender = scope.spawn(|| Ok(tcp::send(&mut { &near }, options.bytes, tally)?));
        let mut left = options.bytes as usize;
        while left > 0 {
            // Truncated bytes (MSG_TRUNC) were received all the same.
            let flags = MsgFlags::MSG_TRUNC;
            let mut buffer = [0; 10_000];
            let wanted = left.min(buffer.len());
            let received = recv(far.as_raw_fd(), &mut buffer[..wanted], flags).context("recv")?;
            tally.received(received);
            left -= received;
        }
        tcp::join(sender)
    })
}

/// Sets a socket option that is one integer.
pub fn set(socket: &impl AsFd, level: i32, option: i32, value: libc::c_int) -> nix::Result<()> {
    // SAFETY: the option's value is as long as it is said to be.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}
