//! Modes of datagrams whose calls do not name the peer, or not completely. Each has a network
//! namespace of its own.

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd as _,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    Options,
    raw::{self, FrameSender, ICMP, ICMPV6, loopback_up, ping_socket},
    tcp::ZEROS,
    udp::PATIENCE,
};
use crate::truth::Tally;

const V4_ENDS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
/// An experimental protocol number (RFC 3692).
const EXPERIMENT: i32 = 253;
const IPV4_HEADER: usize = 20;
/// From `linux/icmp.h` and `linux/icmpv6.h`.
const SOL_RAW: i32 = 255;
const ICMP_FILTER: i32 = 1;
const ICMPV6_FILTER: i32 = 1;
/// Address of the interfaces of [`links`], in [`zones`] and [`unspecified`].
const NEAR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x11);
const NEAR4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

fn own_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
    loopback_up()
}

/// Echoes through raw and ping sockets, connected and not.
pub fn portless(options: &Options, tally: &Tally) -> Result<()> {
    own_namespace()?;
    // Permits ping sockets of both families.
    drop(ping_socket()?);
    for connected in [false, true] {
        for peer in V4_ENDS {
            let socket = raw::icmp_socket()?;
            only_replies(&socket, &ICMP)?;
            echoes(&socket, peer.into(), connected, options, tally)?;
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4))?;
            echoes(&socket, peer.into(), connected, options, tally)?;
        }
        for kind in [Type::RAW, Type::DGRAM] {
            let socket = Socket::new(Domain::IPV6, kind, Some(Protocol::ICMPV6))?;
            if kind == Type::RAW {
                only_replies(&socket, &ICMPV6)?;
            }
            echoes(
                &socket,
                Ipv6Addr::LOCALHOST.into(),
                connected,
                options,
                tally,
            )?;
        }
    }
    several(options, tally)?;
    raw_udp(tally)
}

/// One socket, and two peers in turn.
fn several(options: &Options, tally: &Tally) -> Result<()> {
    let socket = raw::icmp_socket()?;
    only_replies(&socket, &ICMP)?;
    for number in 0..options.count {
        let once = Options {
            count: 1,
            ..options.clone()
        };
        let peer = V4_ENDS[(number % 2) as usize];
        echoes(&socket, peer.into(), false, &once, tally)?;
    }
    Ok(())
}

/// A raw socket of a protocol that has ports.
fn raw_udp(tally: &Tally) -> Result<()> {
    const UDP: i32 = 17;
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(UDP.into()))?;
    let peer = SocketAddr::from((V4_ENDS[1], 0));
    // To port 9, where nothing listens.
    let datagram = [0, 9, 0, 9, 0, 8, 0, 0];
    tally.sent_to(peer, socket.send_to(&datagram, &peer.into())?);
    Ok(())
}

fn echoes(
    socket: &Socket,
    peer: IpAddr,
    connected: bool,
    options: &Options,
    tally: &Tally,
) -> Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let peer = SocketAddr::new(peer, 0);
    if connected {
        socket.connect(&peer.into())?;
    }
    let types = if peer.is_ipv4() { &ICMP } else { &ICMPV6 };
    for number in 0..options.count {
        let request = raw::echo_request(types.request, number as u16, 20);
        let sent = match connected {
            true => socket.send(&request)?,
            false => socket.send_to(&request, &peer.into())?,
        };
        tally.sent_to(peer, sent);
        let mut buffer = [MaybeUninit::uninit(); 2000];
        let (received, from) = socket.recv_from(&mut buffer).context("no echo reply")?;
        let from = from.as_socket().context("an address of another family")?;
        ensure!(from.ip() == peer.ip(), "{peer} was asked, {from} answered");
        tally.received_from(peer, received);
    }
    Ok(())
}

/// Lets a raw socket receive nothing but replies.
fn only_replies(socket: &Socket, types: &raw::Echo) -> io::Result<()> {
    let set = |level, name, filter: &[u32]| {
        let length = size_of_val(filter) as u32;
        // SAFETY: the system call reads so many bytes.
        let status = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                name,
                filter.as_ptr().cast(),
                length,
            )
        };
        match status {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // A bit for each blocked type.
    if types.reply == ICMP.reply {
        set(SOL_RAW, ICMP_FILTER, &[!(1 << types.reply)])
    } else {
        let mut blocked = [u32::MAX; 8];
        blocked[usize::from(types.reply / 32)] &= !(1 << (types.reply % 32));
        set(libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &blocked)
    }
}

/// Datagrams of two senders wait at a raw socket before it reads the first.
pub fn mixed(options: &Options, tally: &Tally) -> Result<()> {
    own_namespace()?;
    let open = |own: Ipv4Addr| -> Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(EXPERIMENT.into()))?;
        socket.bind(&SocketAddr::from((own, 0)).into())?;
        Ok(socket)
    };
    let target = Ipv4Addr::new(127, 0, 0, 3);
    let reader = open(target)?;
    reader.set_read_timeout(Some(PATIENCE))?;
    let senders = [open(V4_ENDS[0])?, open(V4_ENDS[1])?];
    let target = SocketAddr::from((target, 0));
    let send = |sender: &Socket, size| -> Result<()> {
        tally.sent_to(target, sender.send_to(&ZEROS[..size], &target.into())?);
        Ok(())
    };
    let read = || -> Result<(usize, SocketAddr)> {
        let mut buffer = [MaybeUninit::uninit(); 2000];
        let (received, from) = reader.recv_from(&mut buffer)?;
        let from = from.as_socket().context("an address of another family")?;
        Ok((received, SocketAddr::new(from.ip(), 0)))
    };
    for number in 0..options.count as usize {
        for sender in &senders {
            send(sender, 10 + number)?;
        }
        for _ in &senders {
            let (received, from) = read()?;
            ensure!(received == IPV4_HEADER + 10 + number);
            tally.received_mixed(from, received);
        }
        // A single sender again.
        send(&senders[number % 2], 500)?;
        let (received, from) = read()?;
        tally.received_from(from, received);
    }
    Ok(())
}

/// UDP to the unspecified address: the kernel chooses one.
pub fn unspecified(options: &Options, tally: &Tally) -> Result<()> {
    own_namespace()?;
    links()?;
    let v4 = |address| IpAddr::V4(address);
    let any = v4(Ipv4Addr::UNSPECIFIED);
    let other = Ipv4Addr::new(127, 0, 0, 5);
    let mapped = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
    let any6 = Ipv6Addr::UNSPECIFIED;
    let home6 = Ipv6Addr::LOCALHOST.into();
    // Sender, destination, and the remote that this reaches.
    let cases = [
        (any, any, v4(Ipv4Addr::LOCALHOST)),
        (v4(other), any, v4(other)),
        (v4(NEAR4), any, v4(NEAR4)),
        (any6.into(), any6.into(), home6),
        (any6.into(), mapped.into(), v4(Ipv4Addr::LOCALHOST)),
    ];
    for (own, target, reached) in cases {
        for connected in [false, true] {
            let far = UdpSocket::bind((reached, 0))?;
            let near = UdpSocket::bind((own, 0))?;
            let target = SocketAddr::new(target, far.local_addr()?.port());
            if connected {
                near.connect(target)?;
            }
            for socket in [&near, &far] {
                socket.set_read_timeout(Some(PATIENCE))?;
            }
            for _ in 0..options.count {
                let sent = match connected {
                    true => near.send(&ZEROS[..100])?,
                    false => near.send_to(&ZEROS[..100], target)?,
                };
                tally.sent_to(far.local_addr()?, sent);
                answer(&far, tally)?;
                let (received, from) = near.recv_from(&mut [0; 200])?;
                tally.received_from(from, received);
            }
        }
    }
    // The address of an interface.
    let far = UdpSocket::bind((NEAR4, 0))?;
    let near = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    near.bind_device(Some(LINKS[0].as_bytes()))?;
    let target = SocketAddr::new(any, far.local_addr()?.port());
    let sent = near.send_to(&ZEROS[..100], &target.into())?;
    tally.sent_to(far.local_addr()?, sent);
    let (received, from) = far.recv_from(&mut [0; 200])?;
    tally.received_from(from, received);
    Ok(())
}

/// Datagrams from hosts that have no address yet, as DHCP servers get them; received with their
/// senders and without.
pub fn addressless(options: &Options, tally: &Tally) -> Result<()> {
    const CLIENT: u16 = 68;
    own_namespace()?;
    links()?;
    let sender = FrameSender::new(LINKS[0])?;
    let server = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    server.set_read_timeout(Some(PATIENCE))?;
    let frame = broadcast(CLIENT, server.local_addr()?.port());
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, CLIENT));
    for _ in 0..options.count {
        sender.send_frame(&frame, tally)?;
        let (received, from) = server.recv_from(&mut [0; 200])?;
        ensure!(from == nobody, "a datagram from {from}");
        tally.received_from(from, received);
        sender.send_frame(&frame, tally)?;
        tally.received_unasked(nobody, server.recv(&mut [0; 200])?);
    }
    // What would be taken for the sender otherwise.
    tally.nothing_with((Ipv4Addr::LOCALHOST, CLIENT).into());
    Ok(())
}

/// A frame from a host without an address to all others, with a datagram between these ports.
fn broadcast(source: u16, target: u16) -> Vec<u8> {
    const PAYLOAD: usize = 50;
    let length = 8 + PAYLOAD;
    let mut ip = vec![0_u8; IPV4_HEADER];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((IPV4_HEADER + length) as u16).to_be_bytes());
    ip[8] = 64;
    ip[9] = libc::IPPROTO_UDP as u8;
    ip[16..20].fill(0xff);
    let words = ip.chunks_exact(2);
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 2]);
    frame.extend((libc::ETH_P_IP as u16).to_be_bytes());
    frame.extend(ip);
    for word in [source, target, length as u16, 0] {
        frame.extend(word.to_be_bytes());
    }
    frame.extend([0; PAYLOAD]);
    frame
}

fn answer(socket: &UdpSocket, tally: &Tally) -> Result<()> {
    let (received, from) = socket.recv_from(&mut [0; 200])?;
    tally.received_from(from, received);
    tally.sent_to(from, socket.send_to(&ZEROS[..50], from)?);
    Ok(())
}

const LINKS: [&str; 2] = ["z0", "z1"];

/// Two interfaces with the same link-local address.
fn links() -> Result<()> {
    let near = format!("{NEAR}/64");
    let near4 = format!("{NEAR4}/24");
    let [first, second] = LINKS;
    for line in [
        vec!["link", "add", first, "type", "veth", "peer", "name", second],
        vec!["link", "set", first, "up"],
        vec!["link", "set", second, "up"],
        vec!["addr", "add", &near, "dev", first, "nodad"],
        vec!["addr", "add", &near, "dev", second, "nodad"],
        vec!["addr", "add", &near4, "dev", first],
    ] {
        let status = Command::new("ip").args(&line).status();
        let status = status.context("running ip, of iproute2")?;
        ensure!(status.success(), "ip {}: {status}", line.join(" "));
    }
    Ok(())
}

/// Peers that have the same address on two interfaces.
pub fn zones(options: &Options, tally: &Tally) -> Result<()> {
    own_namespace()?;
    links()?;
    let far = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x99);
    let one = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    let raw = Socket::new(Domain::IPV6, Type::RAW, Some(EXPERIMENT.into()))?;
    for (number, name) in LINKS.iter().enumerate() {
        let zone = if_nametoindex(*name)?;
        let at = |ip, port, zone| SocketAddr::from(SocketAddrV6::new(ip, port, 0, zone));
        let size = 10 + number;
        for _ in 0..options.count {
            let peer = at(far, 7005, zone);
            tally.sent_to(peer, one.send_to(&ZEROS[..size], &peer.into())?);
            let peer = at(far, 0, zone);
            tally.sent_to(peer, raw.send_to(&ZEROS[..size], &peer.into())?);
            // Here the socket has the interface, not the call.
            one.set_multicast_if_v6(zone)?;
            let sent = one.send_to(&ZEROS[..size], &at(group, 7006, 0).into())?;
            tally.sent_to(at(group, 7006, zone), sent);
        }
        let connected = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
        let peer = at(far, 7007, zone);
        connected.connect(&peer.into())?;
        tally.sent_to(peer, connected.send(&ZEROS[..size])?);

        // To itself, and back.
        let server = UdpSocket::bind(at(NEAR, 0, zone))?;
        let client = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        client.set_read_timeout(Some(PATIENCE))?;
        let peer = server.local_addr()?;
        for _ in 0..options.count {
            tally.sent_to(peer, client.send_to(&ZEROS[..100], peer)?);
            answer(&server, tally)?;
            let (received, from) = client.recv_from(&mut [0; 200])?;
            tally.received_from(from, received);
        }
    }
    Ok(())
}
