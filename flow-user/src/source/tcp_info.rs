//! What TCP knows of connections, through sock_diag: of those that are asked for, or of all.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

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

/// How long network namespaces are taken to be the same, and how long one that could not be entered
/// is left alone: to look for them walks `/proc`.
const NAMESPACES_FOR: Duration = Duration::from_secs(10);

/// Asks the kernel.
#[derive(Default)]
pub struct Reader {
    /// A socket in Flow's own network namespace, and that namespace.
    own: Option<(Netlink, Option<Netns>)>,
    /// Those of other network namespaces, as long as they are asked for: a socket there keeps a
    /// namespace alive.
    others: BTreeMap<Netns, Netlink>,
    /// The namespaces that there are, when they were last looked for.
    found: Option<(Instant, Namespaces)>,
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
            Wanted::All => self.read_all(),
        }
    }

    fn read_these(&mut self, connections: &[Connection]) -> Found {
        let Some((_, own)) = self.own() else {
            return Vec::new();
        };
        let own = *own;
        let elsewhere = |it: &Connection| it.netns.filter(|netns| Some(*netns) != own);
        self.others
            .retain(|netns, _| connections.iter().any(|it| elsewhere(it) == Some(*netns)));
        let mut missing: Vec<Netns> = connections.iter().filter_map(elsewhere).collect();
        missing.retain(|netns| !self.others.contains_key(netns));
        if !missing.is_empty() {
            self.open(&missing);
        }
        let mut found = Vec::new();
        for connection in connections {
            let netlink = match elsewhere(connection) {
                Some(netns) => self.others.get_mut(&netns),
                None => self.own().map(|(netlink, _)| netlink),
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

    /// Those of every network namespace.
    fn read_all(&mut self) -> Found {
        self.others.clear();
        let mut found = match self.own() {
            Some((netlink, _)) => list(netlink).unwrap_or_default(),
            None => Vec::new(),
        };
        match netns::inside(&self.namespaces().others, |_| list(&mut sock_diag::open()?)) {
            Ok(visited) => {
                for (_, there) in visited {
                    found.extend(there.unwrap_or_default());
                }
            }
            Err(error) => log::debug!("no thread for other network namespaces: {error}"),
        }
        found
    }

    fn own(&mut self) -> Option<&mut (Netlink, Option<Netns>)> {
        match &mut self.own {
            Some(own) => Some(own),
            none => {
                let netlink = sock_diag::open().ok()?;
                Some(none.insert((netlink, Namespaces::find(&[]).own)))
            }
        }
    }

    fn namespaces(&mut self) -> &Namespaces {
        let is_new = |it: &mut (Instant, Namespaces)| it.0.elapsed() < NAMESPACES_FOR;
        let known = self.found.take_if(is_new);
        let (_, namespaces) = self.found.insert(known.unwrap_or_else(|| {
            let pids = Proc::new().pids().unwrap_or_default();
            (Instant::now(), Namespaces::find(&pids))
        }));
        namespaces
    }

    /// Opens sockets in other network namespaces, if these have not just been looked for in vain.
    fn open(&mut self, missing: &[Netns]) {
        if let Some((time, _)) = &self.found
            && time.elapsed() < NAMESPACES_FOR
        {
            return;
        }
        let namespaces = self.namespaces().others.clone();
        let mut wanted = namespaces;
        wanted.retain(|netns, _| missing.contains(netns));
        match netns::inside(&wanted, |_| sock_diag::open()) {
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

fn write_address(room: &mut [u8], address: IpAddr) {
    match address {
        IpAddr::V4(v4) => room[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => room.copy_from_slice(&v6.octets()),
    }
}

/// What TCP knows of every connection in the network namespace of `netlink`.
fn list(netlink: &mut Netlink) -> io::Result<Found> {
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
    /// `TCP_INFINITE_SSTHRESH`: never set.
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
        let found = Reader::default().read(&Wanted::All);
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
