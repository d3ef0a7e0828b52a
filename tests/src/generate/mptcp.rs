//! Modes of MPTCP: connections that share what their listener had, including its cookie.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Options, tcp, udp::PATIENCE};
use crate::truth::{Blind, Tally};

pub fn two_connections(_: &Options, tally: &Tally) -> Result<()> {
    let listener = listen()?;
    let (near, far) = connect(&listener)?;
    let (second_near, second_far) = connect(&listener)?;
    tcp::pass(&far, &near, 1000, tally)?;
    tcp::pass(&near, &far, 1001, tally)?;
    tcp::pass(&second_far, &second_near, 20, tally)?;
    drop((second_near, second_far));
    // This process cannot know when Flow has removed the second connection.
    thread::sleep(tcp::FORGOTTEN_AFTER);
    tcp::pass(&far, &near, 500, tally)?;
    tcp::pass(&near, &far, 501, tally)?;
    close(near, far)
}

pub fn both(options: &Options, tally: &Tally) -> Result<()> {
    let (near, far) = pair()?;
    tally.received_unseen(Blind::MptcpDirection, 0);
    tcp::pass(&near, &far, options.bytes, tally)?;
    tcp::pass(&far, &near, options.bytes, tally)?;
    close(near, far)
}

pub fn late_reader(options: &Options, tally: &Tally) -> Result<()> {
    let (near, far) = pair()?;
    tcp::read_late(&near, far, options, tally)
}

/// Closes both ends and waits until the kernel has closed the subflows, which it does later.
pub fn close(near: TcpStream, far: TcpStream) -> Result<()> {
    const TIME_WAIT: &str = "06";
    let ports = [near.local_addr()?, far.local_addr()?];
    let ends = ports.map(|end| format!("0100007F:{:04X}", end.port()));
    drop((near, far));
    let path = "/proc/net/tcp";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sockets = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        let is_open = sockets.lines().any(|line| {
            let fields: Vec<_> = line.split_ascii_whitespace().take(4).collect();
            matches!(fields[..], [_, local, remote, state]
                if state != TIME_WAIT && ends.iter().any(|end| end == local)
                    && ends.iter().any(|end| end == remote))
        });
        if !is_open {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "paths of MPTCP stay open");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Two ends of a connection on loopback.
pub fn pair() -> Result<(TcpStream, TcpStream)> {
    connect(&listen()?)
}

fn listen() -> Result<TcpListener> {
    let socket = socket()?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(10)?;
    Ok(socket.into())
}

fn connect(listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let near = socket()?;
    near.connect(&listener.local_addr()?.into())?;
    let (far, _) = listener.accept()?;
    Ok((near.into(), far))
}

fn socket() -> Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).context("an MPTCP socket")
}
