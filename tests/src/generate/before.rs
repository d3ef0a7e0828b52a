//! Modes of sockets that exist before Flow: of all kinds, in several network namespaces.

use std::{
    io::{Read as _, pipe},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::write,
};
use socket2::{Domain, Socket, Type};

use super::{
    Options, mptcp, odd,
    processes::{in_child, wait_for},
    raw, tcp, wait_for_go,
};
use crate::truth::{Blind, Idle, Tally};

/// An experimental protocol number (RFC 3692), different from that of another mode that runs at the
/// same time.
const EXPERIMENT: i32 = 254;

pub fn every_kind(options: &Options, _: &Tally) -> Result<()> {
    in_namespaces("kinds-before", |is_own, tally, wait| {
        let kinds = Kinds::open(is_own)?;
        kinds.use_all(
            &Options {
                bytes: 1000,
                count: 3,
                ..options.clone()
            },
            &Tally::default(),
        )?;
        wait()?;
        kinds.use_all(options, tally)
    })
}

pub fn idle(_: &Options, _: &Tally) -> Result<()> {
    in_namespaces("idle-before", |is_own, tally, wait| {
        let kinds = Kinds::open(is_own)?;
        kinds.report_idle(tally)?;
        wait()
    })
}

/// Sockets whose process has left their network namespace, as programs do that create sockets for
/// containers. Flow first sees them when they are bound or connected.
pub fn left_namespace(options: &Options, tally: &Tally) -> Result<()> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(any)?;
    let server = UdpSocket::bind(any)?;
    let stream = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let connected = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let bound = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;

    wait_for_go()?;
    stream.connect(&listener.local_addr()?.into())?;
    let (accepted, _) = listener.accept()?;
    odd::both_ways(&stream.into(), &accepted, options.bytes, tally)?;
    bound.bind(&any.into())?;
    for datagrams in [connected, bound] {
        datagrams.connect(&server.local_addr()?.into())?;
        let datagrams = UdpSocket::from(datagrams);
        server.connect(datagrams.local_addr()?)?;
        odd::datagrams(&datagrams, &server, options.count, tally)?;
    }
    Ok(())
}

/// Runs `job` in a child in the namespace of this process, and in two children in namespaces of
/// their own; each waits in the middle until Flow has started.
fn in_namespaces(
    mode: &str,
    job: impl Fn(bool, &Tally, &dyn Fn() -> Result<()>) -> Result<()>,
) -> Result<()> {
    let (go_read, go_write) = pipe()?;
    let mut children = Vec::new();
    for is_own in [false, true, true] {
        let (open_read, open_write) = pipe()?;
        children.push(in_child(mode, |tally| {
            if is_own {
                unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
                raw::loopback_up()?;
            }
            job(is_own, tally, &|| {
                write(open_write.as_fd(), b"!")?;
                { &go_read }.read_exact(&mut [0])?;
                Ok(())
            })
        })?);
        drop(open_write);
        let open = { &open_read }.read(&mut [0])?;
        ensure!(open == 1, "a child ended early");
    }
    wait_for_go()?;
    write(go_write.as_fd(), &vec![b'!'; children.len()])?;
    children.into_iter().try_for_each(wait_for)
}

/// Sockets of every kind, all on loopback.
struct Kinds {
    tcp: (TcpStream, TcpStream),
    listener: TcpListener,
    /// Bound but not used.
    bound: Socket,
    udp: (UdpSocket, UdpSocket),
    raw: [Socket; 2],
    packet: raw::FrameSender,
    mptcp: (TcpStream, TcpStream),
    sctp: Option<(Socket, Socket)>,
    /// Only in a namespace of its own.
    ping: Option<Socket>,
}

impl Kinds {
    fn open(is_own: bool) -> Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        bound.bind(&any.into())?;
        Ok(Self {
            tcp: tcp::pair()?,
            listener: TcpListener::bind(any)?,
            bound,
            udp: odd::udp_pair()?,
            raw: raw::ip_pair(EXPERIMENT)?,
            packet: raw::FrameSender::new("lo")?,
            mptcp: mptcp::pair()?,
            sctp: raw::sctp_pair()?,
            ping: is_own.then(raw::ping_socket).transpose()?,
        })
    }

    fn use_all(&self, options: &Options, tally: &Tally) -> Result<()> {
        let Self {
            tcp: (near, far),
            listener,
            bound: _,
            udp: (one, other),
            raw,
            packet,
            mptcp: (mptcp_near, mptcp_far),
            sctp,
            ping,
        } = self;
        let bytes = options.bytes;
        odd::both_ways(near, far, bytes, tally)?;
        let late = TcpStream::connect(listener.local_addr()?)?;
        let (accepted, _) = listener.accept()?;
        odd::both_ways(&late, &accepted, bytes / 2, tally)?;
        odd::datagrams(one, other, options.count, tally)?;
        raw::ip_exchange(raw, options.count, tally)?;
        packet.send(options.count, tally)?;
        odd::both_ways(mptcp_near, mptcp_far, bytes / 3, tally)?;
        if let Some((near, far)) = sctp {
            raw::sctp_pass(near, far, bytes / 4, tally)?;
            raw::sctp_pass(far, near, bytes / 5, tally)?;
        }
        match ping {
            Some(ping) => raw::ping(ping, options, tally),
            None => Ok(()),
        }
    }

    /// Records those that a listing of sockets could have.
    fn report_idle(&self, tally: &Tally) -> Result<()> {
        let Self {
            tcp: (near, far),
            listener,
            bound,
            udp: (one, other),
            raw: _,
            packet: _,
            mptcp: (mptcp_near, _),
            sctp: _,
            ping,
        } = self;
        let mut idle = vec![
            Idle::new("tcp", near.local_addr()?, None),
            Idle::new("tcp", far.local_addr()?, None),
            Idle::new("tcp", listener.local_addr()?, None),
            Idle::new("udp", one.local_addr()?, None),
            Idle::new("udp", other.local_addr()?, None),
            Idle::new("tcp", address(bound)?, Some(Blind::BoundOnly)),
            Idle::new("mptcp", mptcp_near.local_addr()?, Some(Blind::OldMptcp)),
        ];
        if let Some(ping) = ping {
            ping.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
            idle.push(Idle::new("icmp", address(ping)?, Some(Blind::PingSockets)));
        }
        tally.idle(idle);
        Ok(())
    }
}

fn address(socket: &Socket) -> Result<SocketAddr> {
    socket.local_addr()?.as_socket().context("no address")
}
