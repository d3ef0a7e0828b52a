//! What TCP knows of connections, through sock_diag: of those that are asked for, or of all.

use std::{collections::BTreeMap, io, net::SocketAddr, time::Duration};

use super::{
    netlink::{Netlink, attributes, u32_at},
    netns::{self, Namespaces},
    proc::Proc,
    sock_diag::{
        self, INET_DIAG_BYTES, INET_DIAG_INFO, OWNED, RECEIVE_QUEUE, SOCK_DIAG_BY_FAMILY,
        TCP_KINDS, inet_request, socket_cookie, tcp_request,
    },
};
use crate::event::{Netns, SocketCookie, TcpInfo};

/// A connection that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub cookie: SocketCookie,
    /// Its network namespace, if it is known: else Flow's own.
    pub netns: Option<Netns>,
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// Which connections are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    #[default]
    None,
    These(Vec<Connection>),
    All,
}

/// What was found.
pub type Found = Vec<(SocketCookie, TcpInfo)>;

/// Asks the kernel.
#[derive(Default)]
pub struct Reader {
    own: Option<Netlink>,
    /// Those of other network namespaces, as long as they are asked for: a socket there keeps a
    /// namespace alive.
    others: BTreeMap<Netns, Netlink>,
    /// The namespace of `own`.
    own_netns: Option<Netns>,
}

impl Reader {
    /// What TCP knows of the connections that are asked for, as far as they are there.
    pub fn read(&mut self, wanted: &Wanted) -> Found {
        match wanted {
            Wanted::None => {
                *self = Self::default();
                Vec::new()
            }
            Wanted::These(connections) => self.read_these(connections),
            Wanted::All => {
                *self = Self::default();
                all()
            }
        }
    }

    fn read_these(&mut self, connections: &[Connection]) -> Found {
        if self.own_netns.is_none() {
            self.own_netns = Namespaces::find(&[]).own;
        }
        let own = self.own_netns;
        let elsewhere = |it: &Connection| it.netns.filter(|netns| Some(*netns) != own);
        self.others
            .retain(|netns, _| connections.iter().any(|it| elsewhere(it) == Some(*netns)));
        let is_missing = |netns: &Netns| !self.others.contains_key(netns);
        let mut missing: Vec<Netns> = connections.iter().filter_map(elsewhere).collect();
        missing.retain(is_missing);
        if !missing.is_empty() {
            self.open(&missing);
        }
        let mut found = Vec::new();
        for connection in connections {
            let netlink = match elsewhere(connection) {
                Some(netns) => self.others.get_mut(&netns),
                None => match &mut self.own {
                    Some(netlink) => Some(netlink),
                    none => sock_diag::open().ok().map(|netlink| none.insert(netlink)),
                },
            };
            // One that has ended meanwhile is not there.
            if let Some(netlink) = netlink
                && let Ok(Some(info)) = one(netlink, connection)
            {
                found.push((connection.cookie, info));
            }
        }
        found
    }

    /// Opens sockets in other network namespaces.
    fn open(&mut self, missing: &[Netns]) {
        let pids = Proc::new().pids().unwrap_or_default();
        let mut namespaces = Namespaces::find(&pids);
        namespaces.others.retain(|netns, _| missing.contains(netns));
        match netns::inside(&namespaces.others, |_| sock_diag::open()) {
            Ok(opened) => {
                for (netns, netlink) in opened {
                    if let Ok(netlink) = netlink {
                        self.others.insert(netns, netlink);
                    }
                }
            }
            Err(error) => log::debug!("no thread for other network namespaces: {error}"),
        }
    }
}

/// What TCP knows of one connection, which the kernel finds by its addresses.
fn one(netlink: &mut Netlink, connection: &Connection) -> io::Result<Option<TcpInfo>> {
    let Connection {
        cookie,
        local,
        remote,
        ..
    } = *connection;
    let [v4, v6] = TCP_KINDS else {
        return Ok(None);
    };
    let local_ip = local.ip().to_canonical();
    let kind = if local_ip.is_ipv4() { v4 } else { v6 };
    let mut request = inet_request(*kind, OWNED);
    request[sock_diag::EXTENSIONS] |= sock_diag::CONGESTION;
    let id = sock_diag::REQUEST_HEAD;
    request[id..id + 2].copy_from_slice(&local.port().to_be_bytes());
    request[id + 2..id + 4].copy_from_slice(&remote.port().to_be_bytes());
    write_address(&mut request[id + 4..id + 20], local_ip);
    write_address(&mut request[id + 20..id + 36], remote.ip().to_canonical());
    let zone = match remote {
        SocketAddr::V6(remote) => remote.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    request[id + 36..id + 40].copy_from_slice(&zone.to_ne_bytes());
    let [low, high] = [cookie.0 as u32, (cookie.0 >> 32) as u32];
    request[id + 40..id + 44].copy_from_slice(&low.to_ne_bytes());
    request[id + 44..id + 48].copy_from_slice(&high.to_ne_bytes());
    netlink.get(SOCK_DIAG_BY_FAMILY, &request, |message| {
        parse(message.body).map(|(_, info)| info)
    })
}

fn write_address(room: &mut [u8], address: std::net::IpAddr) {
    match address {
        std::net::IpAddr::V4(v4) => room[..4].copy_from_slice(&v4.octets()),
        std::net::IpAddr::V6(v6) => room.copy_from_slice(&v6.octets()),
    }
}

/// What TCP knows of every connection, in every network namespace.
fn all() -> Found {
    let pids = Proc::new().pids().unwrap_or_default();
    let namespaces = Namespaces::find(&pids);
    let mut found = here().unwrap_or_default();
    match netns::inside(&namespaces.others, |_| here()) {
        Ok(visited) => {
            for (_, there) in visited {
                found.extend(there.unwrap_or_default());
            }
        }
        Err(error) => log::debug!("no thread for other network namespaces: {error}"),
    }
    found
}

fn here() -> io::Result<Found> {
    let mut netlink = sock_diag::open()?;
    let request = tcp_request(sock_diag::CONGESTION);
    netlink.dump(sock_diag::TCPDIAG_GETSOCK, &request, |message| {
        parse(message.body)
    })
}

/// Reads an `inet_diag_msg` of a connection; `None` if it is truncated, or no connection.
fn parse(body: &[u8]) -> Option<(SocketCookie, TcpInfo)> {
    let fixed: &[u8; INET_DIAG_BYTES] = body.first_chunk()?;
    let mut attributes = attributes(&body[INET_DIAG_BYTES..]);
    let (mut info, mut congestion) = (None, None);
    attributes.by_ref().for_each(|(kind, value)| match kind {
        INET_DIAG_INFO => info = Some(value),
        sock_diag::INET_DIAG_CONG => congestion = Some(value),
        _ => {}
    });
    let state = fixed[1];
    if state == flow_common::tcp_state::LISTEN {
        return None;
    }
    let name = congestion.map(|name| {
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into()
    });
    let info = info?;
    let u64_at = |offset: usize| {
        let bytes = info.get(offset..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    };
    let time = |offset| u64_at(offset).map(Duration::from_micros);
    /// `TCP_INFINITE_SSTHRESH`: no loss was seen yet.
    const INFINITE: u32 = 0x7fff_ffff;
    let info = TcpInfo {
        congestion: name,
        mss: u32_at(info, 16)?,
        unacknowledged: u32_at(info, 24)?,
        lost: u32_at(info, 32)?,
        slow_start_threshold: u32_at(info, 76).filter(|it| *it < INFINITE),
        congestion_window: u32_at(info, 80)?,
        send_queue: u32_at(fixed, RECEIVE_QUEUE + 4)?,
        receive_queue: u32_at(fixed, RECEIVE_QUEUE)?,
        pacing_rate: u64_at(104).filter(|rate| *rate != u64::MAX),
        delivery_rate: u64_at(160),
        busy: time(168),
        receiver_limited: time(176),
        buffer_limited: time(184),
        send_window: u32_at(info, 228),
    };
    Some((socket_cookie(fixed), info))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        thread,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::source::sock_diag::tests::cookie_of;

    fn pair(address: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(address).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn connection(stream: &TcpStream) -> Connection {
        Connection {
            cookie: cookie_of(stream),
            netns: None,
            local: stream.local_addr().unwrap(),
            remote: stream.peer_addr().unwrap(),
        }
    }

    fn read(connections: &[Connection]) -> Found {
        Reader::default().read(&Wanted::These(connections.to_vec()))
    }

    #[test]
    fn what_waits_at_both_ends_is_read() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (mut client, mut server) = pair(address);
            client.set_nonblocking(true).unwrap();
            let mut sent = 0;
            // Until neither end has room.
            while let Ok(more) = client.write(&[0; 1 << 16]) {
                sent += more;
            }
            let ends = [connection(&client), connection(&server)];
            let [(first, at_client), (second, at_server)] = &read(&ends)[..] else {
                panic!("both are there");
            };
            assert_eq!([*first, *second], ends.map(|it| it.cookie));
            assert!(at_client.send_queue > 0 && at_server.receive_queue > 0);
            // What arrived and is not acknowledged yet is at both.
            let waiting = u64::from(at_client.send_queue) + u64::from(at_server.receive_queue);
            assert!(waiting >= sent as u64, "{at_client:?} {at_server:?}");
            assert!(at_client.congestion.is_some());
            assert!(at_client.mss > 0 && at_client.congestion_window > 0);
            let limited = at_client.receiver_limited.unwrap() + at_client.buffer_limited.unwrap();
            assert!(limited <= at_client.busy.unwrap(), "{at_client:?}");
            drop(client);
            server.read_to_end(&mut Vec::new()).unwrap();
        }
    }

    #[test]
    fn an_ipv4_connection_of_an_ipv6_socket_is_found() {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let server = listener.accept().unwrap().0;
        assert_eq!(read(&[connection(&server)]).len(), 1);
    }

    #[test]
    fn another_socket_with_the_same_addresses_is_not_taken_for_it() {
        let (client, _server) = pair("127.0.0.1:0");
        let stranger = Connection {
            cookie: SocketCookie(cookie_of(&client).0 | 1 << 60),
            ..connection(&client)
        };
        assert_eq!(read(&[stranger]), []);
    }

    #[test]
    fn all_connections_are_among_all() {
        let ends: Vec<_> = ["127.0.0.1:0", "[::1]:0"].map(pair).into();
        let found = thread::spawn(|| here().unwrap()).join().unwrap();
        for (client, server) in &ends {
            for end in [client, server] {
                assert!(found.iter().any(|(cookie, _)| *cookie == cookie_of(end)));
            }
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }
    }
}
