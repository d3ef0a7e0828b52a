//! Lists the sockets of one network namespace, through sock_diag.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    ops::Range,
};

use flow_common::{IpAddress, protocol, tcp_state};

use super::{
    netlink::{Netlink, attributes, push_attribute, u32_at},
    numbers,
};
use crate::event::{Backlog, Protocol, RoundTrip, SocketCookie, State, TcpFacts};

/// A listed socket. Its cookie is the one that BPF programs see; listing a socket assigns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub cookie: SocketCookie,
    /// Its inode number, as in `/proc/PID/fd`; 0 if no process has it open any more.
    pub inode: u32,
    pub protocol: Protocol,
    pub local: SocketAddr,
    /// Fixed peer, if it has one.
    pub remote: Option<SocketAddr>,
    pub state: State,
    /// Effective user of its creator.
    pub uid: u32,
    /// Interface it is bound to; 0 for none.
    pub ifindex: u32,
    pub tcp: Option<TcpFacts>,
    /// Bytes of its stream that were read so far, for TCP.
    pub read: Option<u64>,
}

/// A kind of sockets that can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub name: &'static str,
    family: u8,
    pub(crate) protocol: u16,
    /// Whether every kernel has it, so that its absence is reported.
    pub usual: bool,
}

/// The kinds of sockets that Flow lists.
pub const KINDS: [Kind; 13] = [
    ip("tcp", libc::AF_INET, protocol::TCP, true),
    ip("tcp6", libc::AF_INET6, protocol::TCP, true),
    ip("udp", libc::AF_INET, protocol::UDP, true),
    ip("udp6", libc::AF_INET6, protocol::UDP, true),
    ip("raw", libc::AF_INET, protocol::RAW, true),
    ip("raw6", libc::AF_INET6, protocol::RAW, true),
    ip("packet", libc::AF_PACKET, 0, true),
    ip("mptcp", libc::AF_INET, protocol::MPTCP, false),
    ip("mptcp6", libc::AF_INET6, protocol::MPTCP, false),
    ip("sctp", libc::AF_INET, protocol::SCTP, false),
    ip("sctp6", libc::AF_INET6, protocol::SCTP, false),
    ip("udplite", libc::AF_INET, protocol::UDPLITE, false),
    ip("udplite6", libc::AF_INET6, protocol::UDPLITE, false),
];

/// Those of TCP.
pub const TCP_KINDS: &[Kind] = KINDS.split_at(2).0;

/// Whether TCP sockets can be listed here, without listing any.
///
/// # Errors
/// The error of the kernel.
pub fn available() -> io::Result<()> {
    let mut netlink = Netlink::open(libc::NETLINK_SOCK_DIAG, 0)?;
    let request = inet_request(KINDS[0], 0);
    netlink
        .dump(SOCK_DIAG_BY_FAMILY, &request, |_| None::<()>)
        .map(drop)
}

/// Opens a netlink socket for [`list`], in the calling thread's network namespace.
///
/// # Errors
/// The kernel has no sock_diag, or descriptors have run out.
pub fn open() -> io::Result<Netlink> {
    Netlink::open(libc::NETLINK_SOCK_DIAG, 0)
}

/// Lists the sockets of one kind, except those in TIME_WAIT, which nobody owns any more.
///
/// # Errors
/// The error of the kernel; `ENOENT` when it does not have this kind.
pub fn list(netlink: &mut Netlink, kind: Kind) -> io::Result<Vec<Listed>> {
    if i32::from(kind.family) == libc::AF_PACKET {
        let mut request = vec![kind.family, 0, 0, 0];
        request.extend_from_slice(&[0; 4]);
        request.extend_from_slice(&PACKET_SHOW_INFO.to_ne_bytes());
        request.extend_from_slice(&[0; 8]);
        netlink.dump(SOCK_DIAG_BY_FAMILY, &request, |message| {
            packet_socket(message.body)
        })
    } else {
        let request = inet_request(kind, OWNED);
        netlink.dump(SOCK_DIAG_BY_FAMILY, &request, |message| {
            inet_socket(kind.protocol, message.body)
        })
    }
}

/// Lists the sockets of all [`TCP_KINDS`] at once: for each list the kernel walks its whole table of
/// connections (`inet_diag_dump_icsk`), which takes 10 ms where that has 262,144 places. Only the
/// request that came before those by family asks for all families.
///
/// # Errors
/// The error of the kernel.
pub fn list_tcp(netlink: &mut Netlink) -> io::Result<Vec<Listed>> {
    netlink.dump(TCPDIAG_GETSOCK, &tcp_request(0), |message| {
        inet_socket(protocol::TCP, message.body)
    })
}

/// `struct inet_diag_req` for TCP sockets of any family, with these further attributes.
pub(super) fn tcp_request(extensions: u8) -> Vec<u8> {
    let extensions = extensions | 1 << (INET_DIAG_INFO - 1);
    let mut request = vec![libc::AF_UNSPEC as u8, 0, 0, extensions];
    // As in the newer request.
    request.extend_from_slice(&[0; 48]);
    request.extend_from_slice(&OWNED.to_ne_bytes());
    request.extend_from_slice(&0_u32.to_ne_bytes());
    request
}

/// The queues of listeners: the accept queues of TCP's, and the receive queues of UDP sockets
/// without a peer.
///
/// # Errors
/// The error of the kernel.
pub fn backlogs(netlink: &mut Netlink) -> io::Result<Vec<(SocketCookie, Backlog)>> {
    let mut found = Vec::new();
    for kind in KINDS {
        let states = match kind.protocol {
            protocol::TCP => 1 << tcp_state::LISTEN,
            protocol::UDP => 1 << tcp_state::CLOSE,
            _ => continue,
        };
        let mut request = inet_request(kind, states);
        request[EXTENSIONS] |= 1 << (INET_DIAG_SKMEMINFO - 1);
        let listed = netlink.dump(SOCK_DIAG_BY_FAMILY, &request, |message| {
            backlog(kind, message.body)
        });
        match listed {
            Ok(listed) => found.extend(listed),
            // A kernel without IPv6.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Reads an `inet_diag_msg` of a listening socket; `None` if it is truncated.
fn backlog(kind: Kind, body: &[u8]) -> Option<(SocketCookie, Backlog)> {
    let fixed: &[u8; INET_DIAG_BYTES] = body.first_chunk()?;
    let memory =
        attributes(body.get(INET_DIAG_BYTES..)?).find(|(kind, _)| *kind == INET_DIAG_SKMEMINFO);
    let memory = |index: usize| {
        let (_, memory) = memory?;
        u32_at(memory, 4 * index)
    };
    let limit = match kind.protocol {
        protocol::UDP => memory(SK_MEMINFO_RCVBUF).unwrap_or(0),
        _ => u32_at(fixed, 60)?,
    };
    let backlog = Backlog {
        waiting: u32_at(fixed, RECEIVE_QUEUE)?,
        limit,
        drops: memory(SK_MEMINFO_DROPS).unwrap_or(0),
    };
    Some((cookie(u32_at(fixed, 44)?, u32_at(fixed, 48)?), backlog))
}

pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
pub(super) const TCPDIAG_GETSOCK: u16 = 18;
const PACKET_SHOW_INFO: u32 = 1;
/// States of sockets that a process may own.
pub(super) const OWNED: u32 = !(1 << tcp_state::TIME_WAIT);
/// Attribute of a request: the protocol, if that needs more than eight bits.
const INET_DIAG_REQ_PROTOCOL: u16 = 3;
/// Attributes of an answer: `tcp_info`, and a raw socket's protocol.
pub(super) const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_PROTOCOL: u16 = 10;
/// Attribute of an answer: counters of a socket's memory, and the indices of the size of its receive
/// buffer and of its drops.
const INET_DIAG_SKMEMINFO: u16 = 7;
const SK_MEMINFO_RCVBUF: usize = 1;
const SK_MEMINFO_DROPS: usize = 8;
/// Offset of the requested attributes in an `inet_diag_req_v2`.
pub(super) const EXTENSIONS: usize = 2;
/// The name of the congestion control: as an attribute of an answer, and as an extension.
pub(super) const INET_DIAG_CONG: u16 = 4;
pub(super) const CONGESTION: u8 = 1 << (INET_DIAG_CONG - 1);
/// Bytes of `inet_diag_req_v2` before the `inet_diag_sockid`.
pub(super) const REQUEST_HEAD: usize = 8;
/// Bytes of `inet_diag_msg` and `packet_diag_msg`, after which attributes follow.
pub(super) const INET_DIAG_BYTES: usize = 72;
const PACKET_DIAG_BYTES: usize = 16;
/// Offset of `inet_diag_sockid` in an `inet_diag_msg`: identifies a socket, its cookie last.
pub(super) const INET_ID: Range<usize> = 4..52;
/// Where an `inet_diag_msg` has what waits to be received, or accepted.
pub(super) const RECEIVE_QUEUE: usize = 56;
/// Attributes of a packet socket: `packet_diag_info`, whose first field is the interface; its user.
const PACKET_DIAG_INFO: u16 = 0;
const PACKET_DIAG_UID: u16 = 5;

const fn ip(name: &'static str, family: i32, protocol: u16, usual: bool) -> Kind {
    Kind {
        name,
        family: family as u8,
        protocol,
        usual,
    }
}

/// `inet_diag_req_v2` for any addresses, in the states of the mask.
pub(super) fn inet_request(kind: Kind, states: u32) -> Vec<u8> {
    let protocol = u8::try_from(kind.protocol);
    let wants_tcp_info = kind.protocol == protocol::TCP;
    let extensions = if wants_tcp_info {
        1 << (INET_DIAG_INFO - 1)
    } else {
        0
    };
    let mut request = vec![kind.family, protocol.unwrap_or(u8::MAX), extensions, 0];
    request.extend_from_slice(&states.to_ne_bytes());
    request.extend_from_slice(&[0; 48]);
    if protocol.is_err() {
        push_attribute(
            &mut request,
            INET_DIAG_REQ_PROTOCOL,
            &u32::from(kind.protocol).to_ne_bytes(),
        );
    }
    request
}

/// Reads an `inet_diag_msg`. `None` if it is truncated, or of an unknown protocol or state.
pub(crate) fn inet_socket(protocol: u16, body: &[u8]) -> Option<Listed> {
    let attributes = || attributes(body.get(INET_DIAG_BYTES..).unwrap_or_default());
    let attribute = |kind| attributes().find(|(other, _)| *other == kind);
    let fixed: &[u8; INET_DIAG_BYTES] = body.first_chunk()?;
    let [family, state, ..] = *fixed;
    let is_raw = protocol == protocol::RAW;
    let protocol = if is_raw {
        let number = attribute(INET_DIAG_PROTOCOL).and_then(|(_, value)| value.first().copied());
        let named = number.and_then(|number| numbers::protocol(number.into()));
        named
            .filter(|protocol| matches!(protocol, Protocol::Icmp | Protocol::Icmp6))
            .unwrap_or(Protocol::Raw)
    } else {
        numbers::protocol(protocol)?
    };
    // A raw socket's "port" is its protocol.
    let port = |offset: usize| {
        if is_raw {
            0
        } else {
            u16::from_be_bytes([fixed[offset], fixed[offset + 1]])
        }
    };
    let local = SocketAddr::new(address(family, fixed.get(8..24)?)?, port(4));
    let ifindex = u32_at(fixed, 40)?;
    let remote = zoned(address(family, fixed.get(24..40)?)?, port(6), ifindex);
    let has_remote = remote.port() != 0 || (is_raw && !remote.ip().is_unspecified());
    let state = numbers::state(protocol, state)?;
    let info = attribute(INET_DIAG_INFO).filter(|_| protocol == Protocol::Tcp);
    let waiting = u32_at(fixed, RECEIVE_QUEUE)?;
    Some(Listed {
        cookie: cookie(u32_at(fixed, 44)?, u32_at(fixed, 48)?),
        inode: u32_at(fixed, 68)?,
        protocol,
        local,
        remote: has_remote.then_some(remote),
        state,
        uid: u32_at(fixed, 64)?,
        ifindex,
        tcp: info.map(|(_, info)| tcp_facts(info)),
        read: info.and_then(|(_, info)| bytes_read(info, waiting, state)),
    })
}

/// Reads a `packet_diag_msg`.
pub(crate) fn packet_socket(body: &[u8]) -> Option<Listed> {
    let attribute = |kind| {
        attributes(body.get(PACKET_DIAG_BYTES..)?)
            .find(|(other, _)| *other == kind)
            .and_then(|(_, value)| u32_at(value, 0))
    };
    Some(Listed {
        cookie: cookie(u32_at(body, 8)?, u32_at(body, 12)?),
        inode: u32_at(body, 4)?,
        protocol: Protocol::Packet,
        local: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        remote: None,
        state: State::Unconnected,
        uid: attribute(PACKET_DIAG_UID).unwrap_or(0),
        ifindex: attribute(PACKET_DIAG_INFO).unwrap_or(0),
        tcp: None,
        read: None,
    })
}

/// The cookie in an `inet_diag_msg`.
pub(super) fn socket_cookie(fixed: &[u8; INET_DIAG_BYTES]) -> SocketCookie {
    let part = |at: usize| u32_at(fixed, at).unwrap_or(0);
    cookie(part(44), part(48))
}

fn cookie(low: u32, high: u32) -> SocketCookie {
    SocketCookie(u64::from(high) << 32 | u64::from(low))
}

/// An address of 16 bytes, of which IPv4 uses the first four. IPv4-mapped IPv6 is shown as IPv4.
fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        libc::AF_INET6 => {
            Some(IpAddr::from(Ipv6Addr::from(*bytes.first_chunk::<16>()?)).to_canonical())
        }
        _ => None,
    }
}

/// A remote endpoint. A socket whose peer's address needs a zone is bound to that interface.
fn zoned(ip: IpAddr, port: u16, bound_to: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(v6) if IpAddress::from_octets(v6.octets()).has_zone() => {
            SocketAddrV6::new(v6, port, 0, bound_to).into()
        }
        _ => SocketAddr::new(ip, port),
    }
}

/// Reads the fields of `tcp_info` that Flow shows; older kernels have a shorter one.
fn tcp_facts(info: &[u8]) -> TcpFacts {
    let micros = |offset| {
        let value = u32_at(info, offset).filter(|value| *value != u32::MAX);
        value.and_then(RoundTrip::from_micros)
    };
    TcpFacts {
        rtt: micros(68),
        min_rtt: micros(148),
        retransmits: u32_at(info, 100).unwrap_or(0),
    }
}

/// Bytes of a TCP stream that were read, from `tcp_info` and the length of the receive queue. Both
/// count the other side's FIN as a byte.
fn bytes_read(info: &[u8], waiting: u32, state: State) -> Option<u64> {
    const BYTES_RECEIVED: usize = 128;
    let received = info.get(BYTES_RECEIVED..)?.first_chunk()?;
    let has_fin = matches!(state, State::CloseWait | State::LastAck | State::Closing);
    let fin = u64::from(has_fin && waiting == 0);
    u64::from_ne_bytes(*received).checked_sub(u64::from(waiting) + fin)
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;

    use proptest::prelude::*;

    use super::*;

    fn listed(name: &str) -> Vec<Listed> {
        let kind = *KINDS.iter().find(|kind| kind.name == name).unwrap();
        list(&mut open().unwrap(), kind).unwrap()
    }

    pub(in crate::source) fn cookie_of(socket: &impl AsRawFd) -> SocketCookie {
        let mut cookie = 0_u64;
        let mut length = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the value and its length live through the call and belong together.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        };
        assert_eq!(result, 0);
        SocketCookie(cookie)
    }

    #[test]
    fn accept_queues_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let of_it = || {
            let all = backlogs(&mut open().unwrap()).unwrap();
            let cookie = cookie_of(&listener);
            all.into_iter().find(|(it, _)| *it == cookie).unwrap().1
        };
        let empty = of_it();
        assert_eq!(empty.waiting, 0);
        assert!(empty.limit > 0, "{empty:?}");
        let address = listener.local_addr().unwrap();
        let _clients: [TcpStream; 2] = [(); 2].map(|()| TcpStream::connect(address).unwrap());
        let two = Backlog {
            waiting: 2,
            ..empty
        };
        assert_eq!(of_it(), two);
        listener.accept().unwrap();
        assert_eq!(of_it().waiting, 1);
    }

    #[test]
    fn receive_queues_of_datagrams_are_read() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let of = |socket: &UdpSocket| {
            let all = backlogs(&mut open().unwrap()).unwrap();
            let cookie = cookie_of(socket);
            let found = all.into_iter().find(|(it, _)| *it == cookie);
            found.map(|(_, backlog)| backlog)
        };
        let empty = of(&server).unwrap();
        assert_eq!((empty.waiting, empty.drops), (0, 0));
        assert!(empty.limit > 0, "{empty:?}");
        client.send(&[0; 1000]).unwrap();
        let waits = of(&server).unwrap().waiting;
        assert!((1000..=empty.limit).contains(&waits), "{waits}");
        // It has a peer.
        assert_eq!(of(&client), None);
    }

    #[test]
    fn tcp_sockets_are_listed_with_the_cookie_the_kernel_gives_them() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let all = listed("tcp");
        let find = |cookie| all.iter().find(|socket| socket.cookie == cookie).unwrap();
        let server = find(cookie_of(&listener));
        assert_eq!((server.local, server.remote), (address, None));
        assert_eq!(server.state, State::Listen);
        assert_ne!(server.inode, 0);
        let client_socket = find(cookie_of(&client));
        assert_eq!(client_socket.local, client.local_addr().unwrap());
        assert_eq!(client_socket.remote, Some(address));
        assert_eq!(client_socket.state, State::Established);
        assert!(client_socket.tcp.unwrap().rtt.is_some());
    }

    #[test]
    fn one_list_of_tcp_has_what_those_by_family_have() {
        let mut sockets = Vec::new();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let accepted = listener.accept().unwrap().0;
            sockets.push((listener, client, accepted));
        }
        let all = list_tcp(&mut open().unwrap()).unwrap();
        let by_family = [listed("tcp"), listed("tcp6")].concat();
        let mut cookies = Vec::new();
        for (listener, client, accepted) in &sockets {
            cookies.extend([cookie_of(listener), cookie_of(client), cookie_of(accepted)]);
        }
        for cookie in cookies {
            let find = |list: &[Listed]| {
                let mut found = list.iter().filter(|it| it.cookie == cookie);
                let found = (found.next().cloned(), found.next());
                assert_eq!(found.1, None, "twice: {:?}", found.0);
                found.0.unwrap()
            };
            assert_eq!(find(&all), find(&by_family));
        }
    }

    #[test]
    fn connected_udp_sockets_have_a_remote() {
        let one = UdpSocket::bind("[::1]:0").unwrap();
        let two = UdpSocket::bind("[::1]:0").unwrap();
        two.connect(one.local_addr().unwrap()).unwrap();
        let all = listed("udp6");
        let find = |socket: &UdpSocket| {
            let cookie = cookie_of(socket);
            all.iter().find(|other| other.cookie == cookie).unwrap()
        };
        assert_eq!(find(&one).state, State::Unconnected);
        assert_eq!(find(&one).remote, None);
        assert_eq!(find(&two).state, State::Established);
        assert_eq!(find(&two).remote, Some(one.local_addr().unwrap()));
        assert_eq!(find(&two).local, two.local_addr().unwrap());
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
        let family = libc::AF_INET6 as u8;
        assert_eq!(address(family, &mapped), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(address(family, &mapped[..8]), None);
        assert_eq!(address(99, &mapped), None);
    }

    #[test]
    fn mptcp_is_asked_for_by_an_attribute() {
        let kind = *KINDS.iter().find(|kind| kind.name == "mptcp").unwrap();
        let request = inet_request(kind, u32::MAX);
        let asked: Vec<_> = attributes(&request[56..]).collect();
        assert_eq!(
            asked,
            [(INET_DIAG_REQ_PROTOCOL, &262_u32.to_ne_bytes()[..])]
        );
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..160), protocol in 0_u16..300) {
            let _ = inet_socket(protocol, &bytes);
            let _ = inet_socket(255, &bytes);
            let _ = packet_socket(&bytes);
            let _ = tcp_facts(&bytes);
        }
    }
}
