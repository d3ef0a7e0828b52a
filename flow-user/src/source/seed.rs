//! Sockets that existed before Flow started, and the processes that have them open.
//!
//! sock_diag lists the sockets of every network namespace; `/proc/PID/fd` shows their processes. A
//! listed socket's cookie is the one that BPF programs see from then on.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::SocketAddr,
};

use super::{
    netns,
    proc::Proc,
    sock_diag::{self, Kind},
};
use crate::event::{
    Direction, EphemeralPorts, Netns, ProcessId, Protocol, SocketCookie, SocketFact, State,
    TcpFacts,
};

/// A socket that existed, and the processes that have it open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedSocket {
    pub cookie: SocketCookie,
    /// Its inode number; 0 if no process has it open any more.
    pub inode: u32,
    pub protocol: Protocol,
    pub local: SocketAddr,
    /// Fixed peer, if it has one.
    pub remote: Option<SocketAddr>,
    pub state: State,
    /// Inbound if a socket listens at its local port, so a connection whose listener is gone counts
    /// as outbound. Absent without a connection.
    pub direction: Option<Direction>,
    /// Effective user of its creator.
    pub uid: u32,
    pub netns: Option<Netns>,
    /// Interface it is bound to.
    pub ifindex: Option<u32>,
    /// The processes that have it open, by ascending pid; empty if that could not be read.
    pub owners: Vec<ProcessId>,
    pub tcp: Option<TcpFacts>,
    /// Bytes of its stream that were read so far, for TCP.
    pub read: Option<u64>,
}

/// The sockets found, and what could not be read.
#[derive(Debug, Default)]
pub struct Seed {
    pub sockets: Vec<SeedSocket>,
    /// The ports that each namespace gives to sockets which ask for none.
    pub ephemeral_ports: Vec<(Netns, EphemeralPorts)>,
    pub unread: Vec<Unread>,
}

/// Something that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what}: {why}")]
pub struct Unread {
    pub what: String,
    pub why: io::Error,
    /// Whether sockets are missing from the list because of it, which a later list may contain.
    pub hides_sockets: bool,
}

impl SeedSocket {
    /// The socket as a fact of an event. Its owner is the process with the lowest pid, which among
    /// forked workers is nearly always the one that created it.
    pub fn fact(&self) -> SocketFact {
        SocketFact {
            cookie: self.cookie,
            protocol: self.protocol,
            local: self.local,
            remote: self.remote,
            state: self.state,
            direction: self.direction,
            netns: self.netns,
            ifindex: self.ifindex,
            owner: self.owners.first().copied(),
            wire: None,
            tcp: self.tcp,
        }
    }
}

/// Lists the sockets of every network namespace, with their processes and directions.
pub fn seed(proc: &Proc) -> Seed {
    let (mut seed, pids) = list_with_pids(proc, &sock_diag::KINDS);
    seed.find_owners(proc, &pids);
    set_directions(&mut seed.sockets);
    seed
}

impl Seed {
    /// Compares with a later list, and forgets how much was read from the sockets that have moved
    /// since: it will be more by the time that it is asked for.
    pub fn forget_reads_of_moving(&mut self, later: &Self) {
        let later: HashMap<_, _> = later
            .sockets
            .iter()
            .map(|it| (it.cookie, it.read))
            .collect();
        for socket in &mut self.sockets {
            if later.get(&socket.cookie) != Some(&socket.read) {
                socket.read = None;
            }
        }
    }
}

/// Lists the sockets of every network namespace, without owners and directions.
pub fn list(proc: &Proc) -> Seed {
    list_with_pids(proc, &sock_diag::KINDS).0
}

/// The same, of TCP only.
pub fn list_tcp(proc: &Proc) -> Seed {
    list_with_pids(proc, sock_diag::TCP_KINDS).0
}

fn list_with_pids(proc: &Proc, kinds: &[Kind]) -> (Seed, Vec<u32>) {
    let mut seed = Seed::default();
    let mut pids = proc.pids().unwrap_or_else(|why| {
        seed.cannot_read("/proc".into(), why);
        Vec::new()
    });
    pids.sort_unstable();
    let namespaces = netns::Namespaces::find(&pids);
    match sockets_here(kinds) {
        Ok(listed) => seed.add(namespaces.own, listed),
        Err(why) => seed.cannot_read("sockets of this network namespace".into(), why),
    }
    match netns::inside(&namespaces.others, |_| sockets_here(kinds)) {
        Ok(visited) => {
            for (netns, result) in visited {
                match result {
                    Ok(listed) => seed.add(Some(netns), listed),
                    Err(why) => {
                        seed.cannot_read(format!("sockets of network namespace {}", netns.0), why);
                    }
                }
            }
        }
        Err(why) => seed.cannot_read("sockets of other network namespaces".into(), why),
    }
    if namespaces.left_out() > 0 {
        let what = format!(
            "sockets of {} more network namespaces",
            namespaces.left_out()
        );
        seed.cannot_read(what, io::Error::other("too many namespaces"));
    }
    (seed, pids)
}

/// What was found in one namespace.
struct ListedHere {
    sockets: Vec<sock_diag::Listed>,
    /// Kinds that could not be listed.
    failed: Vec<(&'static str, io::Error)>,
    ephemeral_ports: Option<EphemeralPorts>,
}

/// Lists the sockets of the calling thread's network namespace.
fn sockets_here(kinds: &[Kind]) -> io::Result<ListedHere> {
    let mut netlink = sock_diag::open()?;
    let mut failed = Vec::new();
    let of_tcp = kinds.strip_prefix(sock_diag::TCP_KINDS).and_then(|others| {
        let listed = sock_diag::list_tcp(&mut netlink).ok()?;
        Some((listed, others))
    });
    let (mut sockets, kinds) = of_tcp.unwrap_or_else(|| (Vec::new(), kinds));
    for kind in kinds {
        match sock_diag::list(&mut netlink, *kind) {
            Ok(listed) => sockets.extend(listed),
            // Kinds whose module is not loaded have no sockets.
            Err(why) if !kind.usual && is_unknown(&why) => {}
            Err(why) => failed.push((kind.name, why)),
        }
    }
    Ok(ListedHere {
        sockets,
        failed,
        ephemeral_ports: ephemeral_ports_here(),
    })
}

/// The ephemeral ports of the calling thread's network namespace, which this file follows; absent
/// where `/proc` does not say.
fn ephemeral_ports_here() -> Option<EphemeralPorts> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    parse_ports(&text)
}

fn parse_ports(text: &str) -> Option<EphemeralPorts> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(EphemeralPorts { first, last })
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT)
    )
}

impl Seed {
    fn cannot_read(&mut self, what: String, why: io::Error) {
        self.unread.push(Unread {
            what,
            why,
            hides_sockets: true,
        });
    }

    fn add(&mut self, netns: Option<Netns>, here: ListedHere) {
        let ListedHere {
            sockets: listed,
            failed,
            ephemeral_ports,
        } = here;
        self.ephemeral_ports.extend(netns.zip(ephemeral_ports));
        for (name, why) in failed {
            let is_unknown = is_unknown(&why);
            let what = if is_unknown {
                // The same in every namespace, so reported once.
                format!("{name} sockets, which need a kernel module or option")
            } else {
                let place = netns.map_or(0, |netns| netns.0);
                format!("{name} sockets of network namespace {place}")
            };
            if self.unread.iter().all(|unread| unread.what != what) {
                self.unread.push(Unread {
                    what,
                    why,
                    hides_sockets: !is_unknown,
                });
            }
        }
        self.sockets.extend(listed.into_iter().map(|socket| {
            let sock_diag::Listed {
                cookie,
                inode,
                protocol,
                local,
                remote,
                state,
                uid,
                ifindex,
                tcp,
                read,
            } = socket;
            SeedSocket {
                cookie,
                inode,
                protocol,
                local,
                remote,
                state,
                direction: None,
                uid,
                netns,
                ifindex: (ifindex != 0).then_some(ifindex),
                owners: Vec::new(),
                tcp,
                read,
            }
        }));
    }

    /// Joins the sockets to the processes that have them open. Inode numbers of sockets are unique
    /// on the whole host, whatever the namespace.
    fn find_owners(&mut self, proc: &Proc, pids: &[u32]) {
        // An MPTCP socket and those of its subflows share one inode.
        let mut by_inode: HashMap<u32, Vec<usize>> = HashMap::new();
        for (index, socket) in self.sockets.iter().enumerate() {
            if socket.inode != 0 {
                by_inode.entry(socket.inode).or_default().push(index);
            }
        }
        let mut hidden = 0_usize;
        let mut reason = None;
        for pid in pids {
            let mut held = match proc.socket_inodes(*pid) {
                Ok(inodes) => inodes,
                Err(why) if why.kind() == io::ErrorKind::PermissionDenied => {
                    hidden += 1;
                    reason = Some(why);
                    continue;
                }
                // It ended meanwhile.
                Err(_) => continue,
            };
            // Duplicated descriptors refer to the same socket.
            held.sort_unstable();
            held.dedup();
            let mut sockets = held
                .iter()
                .filter_map(|inode| by_inode.get(inode))
                .flatten()
                .peekable();
            if sockets.peek().is_none() {
                continue;
            }
            let Ok(owner) = proc.id(*pid) else {
                continue;
            };
            for index in sockets {
                self.sockets[*index].owners.push(owner);
            }
        }
        if let Some(why) = reason {
            self.unread.push(Unread {
                what: format!("descriptors of processes, {hidden} of them"),
                why,
                hides_sockets: false,
            });
        }
    }
}

fn set_directions(sockets: &mut [SeedSocket]) {
    let listening: HashSet<_> = sockets
        .iter()
        .filter(|socket| socket.state == State::Listen)
        .map(|socket| (socket.netns, socket.protocol, socket.local.port()))
        .collect();
    for socket in sockets {
        let is_connection = socket.protocol.has_tcp_states()
            && socket.remote.is_some()
            && socket.state != State::Listen;
        if is_connection {
            let place = (socket.netns, socket.protocol, socket.local.port());
            socket.direction = Some(if listening.contains(&place) {
                Direction::Inbound
            } else {
                Direction::Outbound
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn both_ends_of_a_connection_are_found_with_owner_and_direction() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        let seed = seed(&Proc::new());
        let find = |local, remote| {
            seed.sockets
                .iter()
                .find(|socket| socket.local == local && socket.remote == remote)
                .unwrap()
        };
        let client_address = client.local_addr().unwrap();
        let outbound = find(client_address, Some(address));
        let inbound = find(address, Some(client_address));
        let listening = find(address, None);
        assert_eq!(outbound.direction, Some(Direction::Outbound));
        assert_eq!(inbound.direction, Some(Direction::Inbound));
        assert_eq!(listening.direction, None);
        for socket in [outbound, inbound, listening] {
            let owner = socket.fact().owner.unwrap();
            assert_eq!(owner, Proc::new().id(std::process::id()).unwrap());
            assert!(socket.netns.is_some());
        }
        drop(server);
    }

    #[test]
    fn what_was_read_of_a_stream_is_known_until_it_moves() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut streams = [(); 2].map(|()| {
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (near, listener.accept().unwrap().0)
        });
        for (near, far) in &mut streams {
            near.write_all(&[0; 100]).unwrap();
            far.read_exact(&mut [0; 60]).unwrap();
        }
        let reads = |seed: &Seed, streams: &[(TcpStream, TcpStream); 2]| {
            streams.each_ref().map(|(_, far)| {
                let local = far.local_addr().unwrap();
                let remote = far.peer_addr().unwrap();
                let mut sockets = seed.sockets.iter();
                sockets
                    .find(|socket| socket.local == local && socket.remote == Some(remote))
                    .unwrap()
                    .read
            })
        };
        let mut seed = list(&Proc::new());
        assert_eq!(reads(&seed, &streams), [Some(60); 2]);
        let [(near, far), ended] = &mut streams;
        far.read_exact(&mut [0; 10]).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        ended.0.shutdown(Shutdown::Write).unwrap();
        ended.1.read_to_end(&mut Vec::new()).unwrap();
        let later = list_tcp(&Proc::new());
        // The end of the stream is not one of its bytes.
        assert_eq!(reads(&later, &streams), [Some(70), Some(100)]);
        seed.forget_reads_of_moving(&later);
        assert_eq!(reads(&seed, &streams), [None; 2]);
    }

    #[test]
    fn the_ephemeral_ports_of_a_namespace_are_read() {
        let ports = |first, last| Some(EphemeralPorts { first, last });
        assert_eq!(parse_ports("32768\t60999\n"), ports(32_768, 60_999));
        assert_eq!(parse_ports("32768"), None);
        assert_eq!(parse_ports("1 70000"), None);
        let seed = list(&Proc::new());
        let own = netns::Namespaces::find(&[]).own.unwrap();
        assert!(seed.ephemeral_ports.iter().any(|(netns, _)| *netns == own));
    }

    #[test]
    fn what_may_not_be_read_is_reported() {
        let mut seed = Seed::default();
        seed.cannot_read(
            "sockets of network namespace 7".into(),
            libc_error(libc::EPERM),
        );
        assert!(seed.unread[0].to_string().contains("namespace 7: "));
        assert!(is_unknown(&libc_error(libc::ENOENT)));
        assert!(!is_unknown(&libc_error(libc::EPERM)));
    }

    fn libc_error(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }
}
