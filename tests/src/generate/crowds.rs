//! Modes with many processes, or that continue while their environment is removed.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{pipe, read, write},
};

use super::{
    Options,
    processes::{in_child, wait_for},
    tcp::{self, ZEROS, join, pair, pass, reset_on_close},
};
use crate::truth::Tally;

/// Datagrams that each process of `crowd` sends.
const DATAGRAMS: usize = 3;
/// Bytes each way of a connection of `storm`; the first one is the server's request to continue or
/// end.
const MESSAGE: usize = 16;
const QUIT: u8 = 1;
/// Clients of `storm`, and loops of `churn`, that run at the same time.
const AT_ONCE: usize = 2;
/// Most bytes of a datagram here, so that none is fragmented.
const DATAGRAM: u64 = 1400;
/// Milliseconds between two datagrams of `stubborn`.
const PAUSE: u8 = 1;
/// Bytes that the first connection of `kept` sends at a time, and milliseconds between two times.
const KEPT_BYTES: u64 = 500;
const KEPT_PAUSE: u8 = 50;

pub fn crowd(options: &Options, tally: &Tally) -> Result<()> {
    let exchange = |peer, tally: &Tally| {
        let socket = connected(peer)?;
        exchange(
            options.bytes,
            |datagram| socket.send(datagram),
            |buffer| socket.recv(buffer),
            tally,
        )?;
        Ok(socket)
    };
    all_there(options, tally, exchange)
}

pub fn addressing_crowd(options: &Options, tally: &Tally) -> Result<()> {
    let exchange = |peer, tally: &Tally| {
        let socket = bound(peer)?;
        exchange(
            options.bytes,
            |datagram| socket.send_to(datagram, peer),
            |buffer| socket.recv_from(buffer).map(|(length, _)| length),
            tally,
        )?;
        Ok(socket)
    };
    all_there(options, tally, exchange)
}

/// Processes that each exchange bytes with the peer and then keep their sockets until all have.
fn all_there(
    options: &Options,
    tally: &Tally,
    talk: impl Fn(SocketAddr, &Tally) -> Result<UdpSocket>,
) -> Result<()> {
    let peer = options.peer()?;
    // Otherwise the first datagrams of all would wait for the neighbour's address, with room for
    // only some of them.
    talk(peer, tally)?;
    let (done, tell_done) = pipe().context("pipe")?;
    let (end, tell_end) = pipe().context("pipe")?;
    let children = (0..options.count)
        .map(|_| {
            in_child(&options.mode, |tally| {
                // The socket stays open until every process has one.
                let _socket = talk(peer, tally)?;
                write(&tell_done, &[0])?;
                ensure!(read(&end, &mut [0])? == 1, "nobody sent the request to end");
                Ok(())
            })
        })
        .collect::<Result<Vec<_>>>()?;
    for _ in &children {
        ensure!(read(&done, &mut [0])? == 1, "a process ended early");
    }
    for _ in &children {
        write(&tell_end, &[0])?;
    }
    children.into_iter().try_for_each(wait_for)
}

fn connected(peer: SocketAddr) -> Result<UdpSocket> {
    let socket = bound(peer)?;
    socket.connect(peer)?;
    Ok(socket)
}

fn bound(peer: SocketAddr) -> Result<UdpSocket> {
    let here: SocketAddr = if peer.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    UdpSocket::bind(here).context("bind")
}

fn exchange(
    bytes: u64,
    send: impl Fn(&[u8]) -> io::Result<usize>,
    receive: impl Fn(&mut [u8]) -> io::Result<usize>,
    tally: &Tally,
) -> Result<()> {
    let mut buffer = [0; 2000];
    for _ in 0..DATAGRAMS {
        tally.sent(send(datagram(bytes))?);
        tally.received(receive(&mut buffer)?);
    }
    Ok(())
}

fn datagram(bytes: u64) -> &'static [u8] {
    &ZEROS[..bytes.min(DATAGRAM) as usize]
}

pub fn storm(options: &Options, tally: &Tally) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let server = in_child(&options.mode, |tally| answer_all(&listener, tally))?;
    until_input_ends(|stop| {
        while !stop.load(Relaxed) {
            call(address, 0, tally)?;
        }
        Ok(())
    })?;
    call(address, QUIT, tally)?;
    wait_for(server)
}

/// A connection of its own for a few bytes each way. It ends with a RST, so that its port is free
/// at once.
fn call(address: SocketAddr, word: u8, tally: &Tally) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    tally.sent(stream.write(&[word; MESSAGE])?);
    tcp::receive_exactly(&stream, MESSAGE as u64, tally)?;
    reset_on_close(&stream)
}

fn answer_all(listener: &TcpListener, tally: &Tally) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut message = [0; MESSAGE];
        let received = stream.read(&mut message)?;
        tally.received(received);
        ensure!(received == MESSAGE, "a message came in parts");
        tally.sent(stream.write(&message)?);
        if message[0] == QUIT {
            return Ok(());
        }
    }
}

pub fn churn(_: &Options, tally: &Tally) -> Result<()> {
    let program = std::env::current_exe()?;
    until_input_ends(|stop| {
        loop {
            let started = Instant::now();
            let status = Command::new(&program)
                .arg("--version")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status()
                .context("starting a process")?;
            ensure!(status.success(), "a process failed: {status}");
            let (near, far) = pair()?;
            pass(&near, &far, 1000, tally)?;
            if stop.load(Relaxed) {
                return Ok(());
            }
            // A quarter of the time is enough to disturb; on a small machine the rest is for the
            // observers.
            thread::sleep(3 * started.elapsed());
        }
    })
}

pub fn stubborn(options: &Options, tally: &Tally) -> Result<()> {
    let socket = connected(options.peer()?)?;
    let stdin = io::stdin();
    loop {
        // Continues whatever fails.
        match socket.send(datagram(options.bytes)) {
            Ok(sent) => tally.sent(sent),
            Err(_) => tally.send_failed(),
        }
        let mut input = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if poll(&mut input, PollTimeout::from(PAUSE))? > 0 {
            return Ok(());
        }
    }
}

/// The connections stay until standard input has ended; the later ones send more.
pub fn kept(options: &Options, tally: &Tally) -> Result<()> {
    let peer = options.peer()?;
    let mut streams = (0..options.count)
        .map(|_| tcp::connect(peer, tcp::Request::Sink, tally))
        .collect::<Result<Vec<_>>>()?;
    let stdin = io::stdin();
    loop {
        for (stream, number) in streams.iter_mut().zip(1..) {
            tcp::send(stream, number * KEPT_BYTES, tally)?;
        }
        let mut input = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if poll(&mut input, PollTimeout::from(KEPT_PAUSE))? > 0 {
            break;
        }
    }
    let mut streams = streams.into_iter();
    streams.try_for_each(|stream| tcp::finish(stream, tally))
}

/// Runs a job several times in parallel, each until standard input has ended.
fn until_input_ends(job: impl Fn(&AtomicBool) -> Result<()> + Sync) -> Result<()> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let jobs: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| job(&stop))).collect();
        let input = io::copy(&mut io::stdin(), &mut io::sink());
        stop.store(true, Relaxed);
        jobs.into_iter().try_for_each(join)?;
        input.context("waiting for the end of standard input")?;
        Ok(())
    })
}
