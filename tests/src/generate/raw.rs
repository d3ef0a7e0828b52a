//! Modes of raw, ping and packet sockets, and of SCTP.

use std::{
    fs,
    io::{self, Read as _},
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    ifaddrs::getifaddrs,
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::{Options, tcp::ZEROS, udp::PATIENCE};
use crate::truth::{Feature, Tally};

const IPV4_HEADER: usize = 20;
/// An experimental protocol number (RFC 3692).
const EXPERIMENT: i32 = 253;
/// EtherType of IPv4.
const ETH_P_IP: u16 = 0x0800;

pub fn icmp_raw(options: &Options, tally: &Tally) -> Result<()> {
    echoes(&icmp_socket()?, options, &ICMP, IPV4_HEADER, tally)
}

/// A raw socket, which gets a copy of every ICMP message.
pub fn icmp_socket() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))
}

pub fn icmp6_raw(options: &Options, tally: &Tally) -> Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    echoes(&socket, options, &ICMPV6, 0, tally)
}

pub fn icmp_ping(options: &Options, tally: &Tally) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
    loopback_up()?;
    ping(&ping_socket()?, options, tally)
}

/// A ping socket. Each network namespace lists the groups that may have one, and most list none:
/// this one, which must be the caller's own, permits all from now on.
pub fn ping_socket() -> Result<Socket> {
    let (path, everyone) = ("/proc/sys/net/ipv4/ping_group_range", "0 65535");
    fs::write(path, everyone).with_context(|| format!("writing {path}"))?;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4))?;
    Ok(socket)
}

/// Echo requests of this machine to itself.
pub fn ping(socket: &Socket, options: &Options, tally: &Tally) -> Result<()> {
    let own = Options {
        peer: Some((Ipv4Addr::LOCALHOST, 0).into()),
        ..Options::clone(options)
    };
    echoes(socket, &own, &ICMP, 0, tally)
}

pub fn ip_protocol(options: &Options, tally: &Tally) -> Result<()> {
    ip_exchange(&ip_pair(EXPERIMENT)?, options.count, tally)
}

/// Two raw sockets of a protocol on loopback that are connected to each other.
pub fn ip_pair(protocol: i32) -> Result<[Socket; 2]> {
    let ends = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
    let open = |own: usize| -> Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol.into()))?;
        socket.bind(&SocketAddr::from((ends[own], 0)).into())?;
        socket.connect(&SocketAddr::from((ends[1 - own], 0)).into())?;
        Ok(socket)
    };
    Ok([open(0)?, open(1)?])
}

/// Sends `count` packets, alternately from either end.
pub fn ip_exchange(sockets: &[Socket; 2], count: u64, tally: &Tally) -> Result<()> {
    for number in 0..count as usize {
        let (from, to) = (&sockets[number % 2], &sockets[1 - number % 2]);
        let size = 10 + number % 1000;
        tally.sent(from.send(&ZEROS[..size])?);
        let received = { to }.read(&mut [0; 2000])?;
        ensure!(received == size + IPV4_HEADER, "received {received} bytes");
        tally.received(received);
    }
    Ok(())
}

pub fn packets(options: &Options, tally: &Tally) -> Result<()> {
    let sender = FrameSender::new(&interface_towards(options.peer()?)?)?;
    sender.send(options.count, tally)
}

/// A packet socket that sends to an interface and receives nothing.
pub struct FrameSender {
    socket: Socket,
    address: SockAddr,
}

impl FrameSender {
    pub fn new(interface: &str) -> Result<Self> {
        let index = if_nametoindex(interface)?;
        // Without a protocol, so that it receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        // SAFETY: all-zero is a valid sockaddr_storage.
        let mut storage: SockAddrStorage = unsafe { std::mem::zeroed() };
        // SAFETY: the storage has room for any address, and all-zero is a valid one of this type.
        let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index as i32;
        // SAFETY: it was filled above, and is as long as it is said to be.
        let address = unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32) };
        Ok(Self { socket, address })
    }

    /// Sends one frame.
    pub fn send_frame(&self, frame: &[u8], tally: &Tally) -> Result<()> {
        tally.sent(self.socket.send_to(frame, &self.address)?);
        Ok(())
    }

    /// Sends `count` frames to a station that does not exist, so that nobody answers.
    pub fn send(&self, count: u64, tally: &Tally) -> Result<()> {
        for number in 0..count as usize {
            let mut frame = vec![0; 60 + number % 1000];
            frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
            frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
            frame[12..14].copy_from_slice(&ETH_P_IP.to_be_bytes());
            frame[14] = 0x45;
            self.send_frame(&frame, tally)?;
        }
        Ok(())
    }
}

pub fn sctp(options: &Options, tally: &Tally) -> Result<()> {
    let Some((near, far)) = sctp_pair()? else {
        tally.lacks(Feature::Sctp);
        return Ok(());
    };
    sctp_pass(&near, &far, options.bytes, tally)?;
    sctp_pass(&far, &near, options.bytes / 2, tally)
}

/// Two ends of an association on loopback; `None` if the kernel has no SCTP.
pub fn sctp_pair() -> Result<Option<(Socket, Socket)>> {
    let new = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::SCTP));
    let listener = match new() {
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(None),
        other => other?,
    };
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    listener.listen(1)?;
    let near = new()?;
    near.connect(&listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    Ok(Some((near, far)))
}

/// Moves `bytes` bytes between two ends of this process.
pub fn sctp_pass(from: &Socket, to: &Socket, bytes: u64, tally: &Tally) -> Result<()> {
    const MESSAGE: usize = 8000;
    let mut buffer = vec![0; 2 * MESSAGE];
    let mut left = bytes as usize;
    while left > 0 {
        let sent = from.send(&ZEROS[..left.min(MESSAGE)])?;
        tally.sent(sent);
        left -= sent;
        let received = { to }.read(&mut buffer)?;
        tally.received(received);
        ensure!(received == sent, "{sent} bytes came as {received}");
    }
    Ok(())
}

/// ICMP types of an echo.
pub struct Echo {
    pub request: u8,
    pub reply: u8,
}

pub const ICMP: Echo = Echo {
    request: 8,
    reply: 0,
};
pub const ICMPV6: Echo = Echo {
    request: 128,
    reply: 129,
};

/// Sends echo requests and receives until the reply, which is `header` bytes longer.
fn echoes(
    socket: &Socket,
    options: &Options,
    types: &Echo,
    header: usize,
    tally: &Tally,
) -> Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(&SocketAddr::new(options.peer()?.ip(), 0).into())?;
    let mut buffer = [MaybeUninit::uninit(); 2000];
    for number in 0..options.count as usize {
        let request = echo_request(types.request, number as u16, 20 + number % 1000);
        let sent = socket.send(&request)?;
        tally.sent(sent);
        loop {
            let received = socket.recv(&mut buffer).context("no echo reply")?;
            tally.received(received);
            // SAFETY: one byte that was just received, if there are that many.
            let kind = (received > header).then(|| unsafe { buffer[header].assume_init() });
            if kind == Some(types.reply) && received == sent + header {
                break;
            }
        }
    }
    Ok(())
}

/// An echo request with `size` bytes of data, all zero.
pub fn echo_request(kind: u8, sequence: u16, size: usize) -> Vec<u8> {
    // A ping socket sets its own identifier.
    let identifier = std::process::id() as u16;
    let mut message = vec![0; 8 + size];
    message[0] = kind;
    message[4..6].copy_from_slice(&identifier.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    // IPv4's checksum; the kernel computes that of IPv6.
    let sum = u32::from(kind) * 256 + u32::from(identifier) + u32::from(sequence);
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// Name of the interface that leads to `peer`.
fn interface_towards(peer: SocketAddr) -> Result<String> {
    let own = own_address_towards(peer)?;
    getifaddrs()?
        .find(|address| {
            let address = address.address.as_ref();
            let ip = address
                .and_then(|address| address.as_sockaddr_in())
                .map(|address| address.ip());
            ip.map(IpAddr::V4) == Some(own)
        })
        .map(|address| address.interface_name)
        .with_context(|| format!("no interface has the address {own}"))
}

fn own_address_towards(peer: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // Connecting a UDP socket sends nothing.
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}

/// Sets it up: in a new network namespace it is down.
pub fn loopback_up() -> Result<()> {
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    let status = status.context("running ip, of iproute2")?;
    ensure!(status.success(), "ip link set lo up: {status}");
    Ok(())
}
