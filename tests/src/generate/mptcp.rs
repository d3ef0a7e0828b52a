//! Modes of MPTCP: connections that share what their listener had, its cookie among it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Options, tcp};
use crate::truth::Tally;

/// Longer than Flow keeps what it was told that a socket ended.
const FORGOTTEN_AFTER: Duration = Duration::from_millis(400);

pub fn two_connections(_: &Options, tally: &Tally) -> Result<()> {
    let listener = listen()?;
    let (near, far) = connect(&listener)?;
    let (second_near, second_far) = connect(&listener)?;
    tcp::pass(&far, &near, 1000, tally)?;
    tcp::pass(&near, &far, 1001, tally)?;
    tcp::pass(&second_far, &second_near, 20, tally)?;
    drop((second_near, second_far));
    // Nothing tells this process when Flow has put the second connection away.
    thread::sleep(FORGOTTEN_AFTER);
    tcp::pass(&far, &near, 500, tally)?;
    tcp::pass(&near, &far, 501, tally)
}

pub fn both(options: &Options, tally: &Tally) -> Result<()> {
    let (near, far) = pair()?;
    tcp::pass(&near, &far, options.bytes, tally)?;
    tcp::pass(&far, &near, options.bytes, tally)
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
