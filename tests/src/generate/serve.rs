//! The far end: does what each TCP connection's request says, and echoes datagrams.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::{
    Options,
    tcp::{self, Request},
};
use crate::truth::{Line, Tally};

/// It uses this TCP port, the same UDP port, and the following UDP ports.
pub const UDP_PORTS: u16 = 3;
/// Attempts to find that many consecutive free ports.
const ATTEMPTS: u16 = 200;

/// Serves until standard input ends, then finishes open connections.
pub fn serve(options: &Options, tally: &Tally) -> Result<()> {
    let listen = options.listen.context("the mode serve needs --listen")?;
    let (listener, datagrams) = bind(listen)?;
    Line::Listening {
        address: listener.local_addr()?,
    }
    .print()?;

    let stdin = io::stdin();
    thread::scope(|scope| {
        let echoes = datagrams
            .iter()
            .map(|socket| scope.spawn(|| echo(socket, stdin.as_fd(), tally)))
            .collect::<Vec<_>>();
        accept_until(&listener, stdin.as_fd(), tally)?;
        echoes.into_iter().try_for_each(tcp::join)
    })
}

/// Serves connections until `stop` is readable or has ended, then finishes open ones.
pub fn accept_until(listener: &TcpListener, stop: BorrowedFd<'_>, tally: &Tally) -> Result<()> {
    listener.set_nonblocking(true)?;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        loop {
            let stop = wait_for(listener.as_fd(), stop)?;
            // Also after a request to stop: accept what is already in the queue.
            while let Some(stream) = accept(listener)? {
                threads.push(scope.spawn(move || answer(stream, tally)));
            }
            // A thread that was not joined keeps its stack.
            for ended in threads.extract_if(.., |thread| thread.is_finished()) {
                tcp::join(ended)?;
            }
            if stop {
                break;
            }
        }
        threads.into_iter().try_for_each(tcp::join)
    })
}

/// Does what the connection's request says. A connection that was reset is finished too.
fn answer(mut stream: TcpStream, tally: &Tally) -> Result<()> {
    // A call that waited since before Flow started may not be seen; another test is about that.
    tcp::wait(&stream, PollFlags::POLLIN)?;
    let result = match Request::read(&mut stream, tally) {
        Ok(Some(Request::Sink)) => tcp::receive(&mut stream, tally).map_err(Into::into),
        Ok(Some(Request::Source(bytes))) => tcp::send_and_drain(&stream, bytes, tally),
        Ok(Some(Request::Reset)) => tcp::reset_on_close(&stream),
        Ok(Some(Request::Quit) | None) => Ok(()),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if is_reset(&error) => Ok(()),
        other => other,
    }
}

fn is_reset(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        )
    })
}

/// Sends every datagram back to its sender.
pub fn echo(socket: &UdpSocket, stop: BorrowedFd<'_>, tally: &Tally) -> Result<()> {
    socket.set_nonblocking(true)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let stop = wait_for(socket.as_fd(), stop)?;
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((received, from)) => {
                    tally.received_from(from, received);
                    match socket.send_to(&buffer[..received], from) {
                        Ok(sent) => tally.sent_to(from, sent),
                        Err(error) if is_cut_off(&error) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // A process that was echoed to is gone; further datagrams may still arrive.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error.into()),
            }
        }
        if stop {
            return Ok(());
        }
    }
}

/// Whether there is no route back, for example because the interface was deleted.
fn is_cut_off(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::InvalidInput
    )
}

/// Waits until `socket` is readable or `stop` has ended; returns whether it has ended.
fn wait_for(socket: BorrowedFd<'_>, stop: BorrowedFd<'_>) -> Result<bool> {
    let mut fds = [
        PollFd::new(socket, PollFlags::POLLIN),
        PollFd::new(stop, PollFlags::POLLIN),
    ];
    nix::poll::poll(&mut fds, PollTimeout::NONE).context("poll")?;
    Ok(fds[1].any() == Some(true))
}

fn accept(listener: &TcpListener) -> Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        // Reset before it was accepted.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(None),
        Err(error) => Err(error).context("accept"),
    }
}

fn bind(address: SocketAddr) -> Result<(TcpListener, Vec<UdpSocket>)> {
    if address.port() != 0 {
        return bind_row(address.ip(), address.port()).context("ports are in use");
    }
    for _ in 0..ATTEMPTS {
        let port = TcpListener::bind(address)?.local_addr()?.port();
        match bind_row(address.ip(), port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            other => return Ok(other?),
        }
    }
    bail!("found no {UDP_PORTS} free ports in a row");
}

fn bind_row(ip: IpAddr, port: u16) -> io::Result<(TcpListener, Vec<UdpSocket>)> {
    let listener = TcpListener::bind((ip, port))?;
    let sockets = (0..UDP_PORTS)
        .map(|offset| match port.checked_add(offset) {
            Some(port) => UdpSocket::bind((ip, port)),
            None => Err(io::ErrorKind::AddrInUse.into()),
        })
        .collect::<io::Result<_>>()?;
    Ok((listener, sockets))
}
