//! Modes about accepting: nobody accepts, one process only accepts, one of several accepts.

use std::{
    io::{ErrorKind, Read as _, pipe},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
};

use anyhow::{Context as _, Result, bail};
use nix::poll::PollFlags;
use socket2::{Domain, Socket, Type};

use super::{
    Options,
    processes::{WORKERS, in_child, wait_for},
    serve,
    tcp::{self, Request},
    udp,
};
use crate::truth::{Blind, Tally};

pub fn idle(options: &Options, _: &Tally) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let acceptor = in_child("acceptor", |tally| {
        let (stream, _) = listener.accept()?;
        tally.received_unseen(Blind::Acceptors, 0);
        tcp::wait(&stream, PollFlags::from_bits_retain(libc::POLLRDHUP))
    })?;
    let client = in_child("client", |tally| {
        let mut stream = TcpStream::connect(address)?;
        // Nobody reads it, so it must fit the buffers.
        tcp::send(&mut stream, options.bytes.min(10_000), tally)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        tcp::wait(&stream, PollFlags::POLLHUP)
    })?;
    wait_for(acceptor)?;
    wait_for(client)
}

pub fn never(options: &Options, tally: &Tally) -> Result<()> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    // Its queue has room for all of them.
    listener.listen(i32::try_from(options.count)?)?;
    let address = listener.local_addr()?.as_socket().context("no address")?;
    let mut streams = (0..options.count)
        .map(|number| {
            let mut stream = TcpStream::connect(address)?;
            tcp::send(&mut stream, 100 + number, tally)?;
            Ok(stream)
        })
        .collect::<Result<Vec<_>>>()?;
    // Some of them end before their listener, some after.
    streams.truncate(streams.len() / 2 + 1);
    drop(listener);
    for mut stream in streams {
        match stream.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => bail!("expected the connection to be reset, got {other:?}"),
        }
    }
    Ok(())
}

pub fn reuseport(options: &Options, tally: &Tally) -> Result<()> {
    let (stop_read, stop_write) = pipe()?;
    // Holds the port, but never listens, so it gets no connection.
    let holder = reusing((Ipv4Addr::LOCALHOST, 0).into())?;
    let address = holder.local_addr()?.as_socket().context("no address")?;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let (ready_read, ready_write) = pipe()?;
        workers.push(in_child("reuseport-worker", |tally| {
            let socket = reusing(address)?;
            socket.listen(1024)?;
            nix::unistd::write(&ready_write, b"!")?;
            serve::accept_until(&socket.into(), stop_read.as_fd(), tally)
        })?);
        drop(ready_write);
        let read = { &ready_read }.read(&mut [0])?;
        anyhow::ensure!(read == 1, "a worker ended early");
    }
    for number in 0..options.count {
        let bytes = options.bytes + number;
        let stream = tcp::connect(address, Request::Source(bytes), tally)?;
        tcp::send_and_drain(&stream, bytes / 2, tally)?;
    }
    // One byte that nobody reads wakes all of them.
    nix::unistd::write(&stop_write, b"!")?;
    workers.into_iter().try_for_each(wait_for)
}

pub fn udp_workers(options: &Options, tally: &Tally) -> Result<()> {
    let (stop_read, stop_write) = pipe()?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let workers = (0..WORKERS)
        .map(|_| {
            in_child("udp-worker", |tally| {
                serve::echo(&socket, stop_read.as_fd(), tally)
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let near = udp::connect(socket.local_addr()?)?;
    for number in 0..options.count {
        udp::exchange(&near, 100 + number as usize % 900, tally)?;
    }
    nix::unistd::write(&stop_write, b"!")?;
    workers.into_iter().try_for_each(wait_for)
}

/// A socket at an address that others may use as well (SO_REUSEPORT).
fn reusing(address: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
