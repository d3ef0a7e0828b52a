//! Modes in which the owner of a socket or of its bytes is hard to determine.

use std::{
    fs,
    io::{IoSlice, IoSliceMut, Read as _, pipe},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    cmsg_space,
    sched::{CloneFlags, unshare},
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};
use socket2::{Domain, SockRef, Socket, Type};

use super::{
    Options,
    processes::{end_child, in_child, wait_for},
    raw::loopback_up,
    tcp::{self, FORGOTTEN_AFTER, Request, ZEROS},
    wait_for_go,
};
use crate::truth::Tally;

/// `udp-heirs`: remotes of each process but the last, and of the last, which are more than Flow
/// counts one by one.
pub const REMOTES_OF_HEIR: u16 = 300;
const REMOTES_OF_LAST: u16 = 3000;
/// Both ports of the connection that exists twice.
const SAME_PORTS: (u16, u16) = (40_000, 40_001);

pub fn handed_over(options: &Options, tally: &Tally) -> Result<()> {
    let (giver, taker) = UnixStream::pair()?;
    let heir = in_child("heir", |tally| {
        let mut stream = take(&taker)?;
        tcp::send(&mut stream, options.bytes / 2, tally)?;
        tcp::finish(stream, tally)
    })?;
    let mut stream = tcp::connect(options.peer()?, Request::Source(options.bytes), tally)?;
    tcp::send(&mut stream, options.bytes, tally)?;
    tcp::receive_exactly(&stream, options.bytes / 3, tally)?;
    give(&giver, &stream)?;
    drop(stream);
    wait_for(heir)
}

/// A process that ends before the one that inherited its connection uses it.
pub fn inherited(options: &Options, tally: &Tally) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let first = in_child("first", |tally| {
        let mut near = TcpStream::connect(address)?;
        tcp::send(&mut near, options.bytes, tally)?;
        in_child("heir", |tally| {
            tcp::receive_exactly(&near, 1, tally)?;
            Ok(tcp::send(&mut &near, options.bytes / 2, tally)?)
        })
        .map(drop)
    })?;
    let (mut far, _) = listener.accept()?;
    tcp::receive_exactly(&far, options.bytes, tally)?;
    wait_for(first)?;
    // This process cannot know when Flow would remove the connection.
    thread::sleep(FORGOTTEN_AFTER);
    tcp::send(&mut far, 1, tally)?;
    tcp::receive_exactly(&far, options.bytes / 2, tally)?;
    // It ends after the heir has printed its counts.
    Ok(tcp::receive(&mut far, tally)?)
}

/// Processes that use one UDP socket, each after the former has ended and with remotes of its own.
/// Before each but the first it waits for the word to go on.
pub fn udp_heirs(options: &Options, _: &Tally) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let receiver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let own = socket.local_addr()?;
    let port = receiver.local_addr()?.port();
    let remotes = |heir: u64, number: u16| {
        let [high, low] = number.to_be_bytes();
        SocketAddr::from(([127, heir as u8 + 1, high, low], port))
    };
    let mut buffer = [0; 1000];
    for heir in 0..options.count {
        let child = in_child(&options.mode, |tally| {
            for number in 0..REMOTES_OF_HEIR {
                let remote = remotes(heir, number);
                tally.sent_to(remote, socket.send_to(&ZEROS[..100], remote)?);
                tally.received_from(own, receiver.recv_from(&mut buffer)?.0);
            }
            Ok(())
        })?;
        wait_for(child)?;
        wait_for_go()?;
    }
    let last = in_child(&options.mode, |tally| {
        for number in 0..REMOTES_OF_LAST {
            tally.sent(socket.send_to(&ZEROS[..100], remotes(options.count, number))?);
            tally.received(receiver.recv(&mut buffer)?);
        }
        Ok(())
    })?;
    wait_for(last)
}

/// Connections of one listener, while another program requests their cookies, as `ss` does.
pub fn asked_for(options: &Options, tally: &Tally) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (near, far) = tcp::pair_of(&listener)?;
    tcp::pass(&near, &far, options.bytes, tally)?;
    for socket in [
        SockRef::from(&listener),
        SockRef::from(&near),
        SockRef::from(&far),
    ] {
        socket.cookie().context("SO_COOKIE")?;
    }
    tcp::pass(&far, &near, options.bytes, tally)?;
    let (near, far) = tcp::pair_of(&listener)?;
    tcp::pass(&near, &far, options.bytes, tally)
}

pub fn two_namespaces(options: &Options, _: &Tally) -> Result<()> {
    let (go_read, go_write) = pipe()?;
    let mut children = Vec::new();
    for number in 1..=2 {
        let (open_read, open_write) = pipe()?;
        children.push(in_child("namespace", |tally| {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
            loopback_up()?;
            let (near, far) = same_connection()?;
            nix::unistd::write(&open_write, b"!")?;
            { &go_read }.read_exact(&mut [0])?;
            tcp::pass(&near, &far, number * options.bytes, tally)?;
            tcp::pass(&far, &near, number * options.bytes / 3, tally)
        })?);
        drop(open_write);
        let open = { &open_read }.read(&mut [0])?;
        ensure!(open == 1, "a child ended early");
    }
    nix::unistd::write(&go_write, b"!!")?;
    children.into_iter().try_for_each(wait_for)
}

pub fn thread_exits(options: &Options, tally: &Tally) -> Result<()> {
    let mut stream = tcp::connect(options.peer()?, Request::Sink, tally)?;
    for _ in 0..options.count {
        let brief = || Ok(tcp::send(&mut &stream, 1000, tally)?);
        thread::scope(|scope| tcp::join(scope.spawn(brief)))?;
        tcp::send(&mut stream, options.bytes, tally)?;
    }
    tcp::finish(stream, tally)
}

pub fn first_thread_exits(options: &Options, _: &Tally) -> Result<()> {
    const MODE: &str = "leaderless";
    let peer = options.peer()?;
    let child = in_child(MODE, |tally| {
        let mut stream = tcp::connect(peer, Request::Sink, tally)?;
        tcp::send(&mut stream, 1000, tally)?;
        thread::scope(|scope| {
            scope.spawn(|| {
                let result = wait_until_alone().and_then(|()| {
                    tcp::send(&mut stream, options.bytes, tally)?;
                    tcp::finish(stream, tally)
                });
                end_child(MODE, tally, result)
            });
            // SAFETY: ends this thread only: its stack, which the other one uses, stays.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
            unreachable!("exit does not return")
        })
    })?;
    wait_for(child)
}

/// Waits until the process's first thread has ended.
fn wait_until_alone() -> Result<()> {
    let path = "/proc/thread-self/../../stat";
    loop {
        let stat = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        if stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
        {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A connection on loopback between fixed ports.
fn same_connection() -> Result<(TcpStream, TcpStream)> {
    let (listening, connecting) = SAME_PORTS;
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into();
    let new = || Socket::new(Domain::IPV4, Type::STREAM, None);
    let (listener, near) = (new()?, new()?);
    listener.bind(&address(listening))?;
    listener.listen(1)?;
    near.bind(&address(connecting))?;
    near.connect(&address(listening))?;
    let (far, _) = listener.accept()?;
    Ok((near.into(), far.into()))
}

/// Passes a socket to the process at the other end.
fn give(to: &UnixStream, socket: &TcpStream) -> Result<()> {
    let sockets = [socket.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&sockets)];
    let data = [IoSlice::new(b"!")];
    sendmsg::<()>(to.as_raw_fd(), &data, &rights, MsgFlags::empty(), None).context("sendmsg")?;
    Ok(())
}

fn take(from: &UnixStream) -> Result<TcpStream> {
    let mut data = [0];
    let mut slices = [IoSliceMut::new(&mut data)];
    let mut space = cmsg_space!(RawFd);
    let flags = MsgFlags::empty();
    let message = recvmsg::<()>(from.as_raw_fd(), &mut slices, Some(&mut space), flags);
    for control in message.context("recvmsg")?.cmsgs()? {
        if let ControlMessageOwned::ScmRights(sockets) = control
            && let [socket] = sockets.as_slice()
        {
            // SAFETY: the kernel has just created the descriptor for this process.
            return Ok(unsafe { OwnedFd::from_raw_fd(*socket) }.into());
        }
    }
    bail!("a message without a socket")
}
