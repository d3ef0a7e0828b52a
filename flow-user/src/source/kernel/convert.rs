//! The kernel's layouts as facts of the vocabulary.

use std::{
    ffi::OsStr,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    sync::Arc,
};

use flow_common::{
    AppCounters, AppKey, IpAddress, ProcessKey, SocketEntry, record::ForkRecord, traffic::direction,
};

use super::ring::Exec;
use crate::{
    event::{
        AppFact, AppTotals, Bytes, CgroupId, CloseReason, Direction, Event, Instant, Netns,
        ProcessFact, ProcessId, Program, Protocol, RoundTrip, SocketCookie, SocketFact, State,
        TcpFacts, WireTotals,
    },
    source::{numbers, proc::process_start, seed::SeedSocket},
};

/// A process's identity; the kernel's start time rounded to the precision of `/proc`.
pub fn process_id(key: ProcessKey) -> Option<ProcessId> {
    (key.tgid != 0).then(|| ProcessId {
        pid: key.tgid,
        start: process_start(key.start),
    })
}

/// An address of the kernel's one form: IPv4 is v4-mapped there. One that means another host on
/// each interface has the index of its interface as its scope.
pub fn endpoint(address: IpAddress, port: u16, zone: u32) -> SocketAddr {
    let v6 = Ipv6Addr::from(address.octets());
    match v6.to_ipv4_mapped() {
        Some(v4) => SocketAddr::new(IpAddr::V4(v4), port),
        None => {
            let zone = if address.has_zone() { zone } else { 0 };
            SocketAddrV6::new(v6, port, 0, zone).into()
        }
    }
}

/// An entry of the app counters. `None` for one without a process, which the kernel never makes.
pub fn app(key: &AppKey, counters: &AppCounters, comm: Option<&[u8]>) -> Option<AppFact> {
    Some(AppFact {
        socket: SocketCookie(key.cookie),
        process: process_id(key.process())?,
        remote: (key.remote_known != 0).then(|| endpoint(key.remote, key.remote_port, key.zone)),
        totals: app_totals(counters),
        uid: (counters.epoch != 0).then_some(counters.uid),
        cgroup: (counters.epoch != 0).then_some(CgroupId(counters.cgroup)),
        comm: comm.and_then(text),
    })
}

/// The bytes and calls of an entry.
pub fn app_totals(counters: &AppCounters) -> AppTotals {
    AppTotals {
        tx_bytes: Bytes(counters.tx_bytes),
        rx_bytes: Bytes(counters.rx_bytes),
        tx_calls: counters.tx_calls,
        rx_calls: counters.rx_calls,
    }
}

/// A socket's entry. `None` for a family or protocol that Flow does not show.
pub fn socket(cookie: u64, socket: &SocketEntry) -> Option<SocketFact> {
    let protocol = protocol(socket)?;
    let has_remote = socket.remote_port != 0
        || (!has_ports(protocol) && socket.state == 1 && !socket.remote.is_unspecified());
    let remote_port = if has_ports(protocol) {
        socket.remote_port
    } else {
        0
    };
    let local = if i32::from(socket.family) == libc::AF_INET && socket.local == IpAddress::NONE {
        SocketAddr::new(IpAddr::V4([0; 4].into()), socket.local_port)
    } else {
        endpoint(socket.local, socket.local_port, 0)
    };
    Some(SocketFact {
        cookie: SocketCookie(cookie),
        protocol,
        local,
        remote: has_remote.then(|| endpoint(socket.remote, remote_port, socket.zone)),
        state: numbers::state(protocol, socket.state).unwrap_or(State::Closed),
        direction: match socket.direction {
            direction::OUTBOUND => Some(Direction::Outbound),
            direction::INBOUND => Some(Direction::Inbound),
            _ => None,
        },
        netns: (socket.netns != 0).then_some(Netns(socket.netns)),
        ifindex: (socket.ifindex != 0).then_some(socket.ifindex),
        owner: process_id(socket.owner),
        wire: Some(WireTotals {
            tx_bytes: Bytes(socket.wire_tx_bytes),
            rx_bytes: Bytes(socket.wire_rx_bytes),
            tx_packets: socket.wire_tx_packets,
            rx_packets: socket.wire_rx_packets,
        }),
        tcp: (protocol == Protocol::Tcp).then(|| TcpFacts {
            rtt: RoundTrip::from_micros(socket.rtt_us),
            // The kernel's initial value means that none was measured.
            min_rtt: RoundTrip::from_micros(socket.min_rtt_us)
                .filter(|_| socket.min_rtt_us != u32::MAX),
            retransmits: socket.retransmits,
        }),
    })
}

/// The entry for a socket that was there before.
pub fn seed_state(socket: &SeedSocket, now: Instant) -> SocketEntry {
    let (local, local_port) = plain_endpoint(socket.local);
    let (remote, remote_port) = socket.remote.map_or((IpAddress::NONE, 0), plain_endpoint);
    let family = match (socket.protocol, socket.local) {
        (Protocol::Packet, _) => libc::AF_PACKET,
        (_, SocketAddr::V4(_)) => libc::AF_INET,
        (_, SocketAddr::V6(_)) => libc::AF_INET6,
    };
    let owner = socket
        .owners
        .first()
        .map_or(ProcessKey::default(), |id| ProcessKey {
            start: id.start.0,
            tgid: id.pid,
            padding: 0,
        });
    SocketEntry {
        seen: now.0,
        owner,
        uncounted_rx_bytes: socket.read.unwrap_or(SocketEntry::NOT_KNOWN),
        local,
        remote,
        local_port,
        remote_port,
        zone: match socket.remote {
            Some(SocketAddr::V6(remote)) => remote.scope_id(),
            _ => 0,
        },
        family: family as u8,
        protocol: numbers::protocol_number(socket.protocol),
        netns: socket.netns.map_or(0, |netns| netns.0),
        ifindex: socket.ifindex.unwrap_or(0),
        // It counts as reported: its event is made beside this entry.
        epoch: 1,
        state: numbers::state_number(socket.state),
        direction: match socket.direction {
            Some(Direction::Outbound) => direction::OUTBOUND,
            Some(Direction::Inbound) => direction::INBOUND,
            None => direction::UNKNOWN,
        },
        // What no process holds was released before; its last state change ends it.
        released: u8::from(socket.inode == 0 && is_closing(socket.state)),
        ..SocketEntry::default()
    }
}

const fn is_closing(state: State) -> bool {
    matches!(
        state,
        State::FinWait1 | State::FinWait2 | State::LastAck | State::Closing
    )
}

fn plain_endpoint(address: SocketAddr) -> (IpAddress, u16) {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    (IpAddress::from_octets(ip.octets()), address.port())
}

/// Whether a protocol's packets name ports.
const fn has_ports(protocol: Protocol) -> bool {
    !matches!(
        protocol,
        Protocol::Icmp | Protocol::Icmp6 | Protocol::Raw | Protocol::Packet
    )
}

fn protocol(socket: &SocketEntry) -> Option<Protocol> {
    if i32::from(socket.family) == libc::AF_PACKET {
        return Some(Protocol::Packet);
    }
    if socket.family == 0 {
        return None;
    }
    Some(numbers::protocol(socket.protocol).unwrap_or(Protocol::Raw))
}

/// Why a socket ended, from its last error.
pub fn close_reason(socket: &SocketEntry) -> CloseReason {
    match i32::from(socket.error) {
        libc::ECONNRESET | libc::EPIPE => CloseReason::Reset,
        libc::ECONNREFUSED => CloseReason::Refused,
        libc::ETIMEDOUT => CloseReason::Timeout,
        libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN => CloseReason::Unreachable,
        libc::ECONNABORTED => CloseReason::Aborted,
        _ => CloseReason::Closed,
    }
}

/// A process that became another program.
pub fn executed(exec: &Exec<'_>) -> Option<ProcessFact> {
    let exe = (!exec.exe.is_empty()).then(|| Arc::new(program_path(exec.exe)));
    let cmdline = (!exec.args.is_empty()).then(|| arguments(exec.args));
    Some(ProcessFact {
        id: process_id(exec.fixed.process)?,
        parent: process_id(exec.fixed.parent),
        program: Program {
            comm: text(&exec.fixed.comm),
            exe,
            cmdline,
            cmdline_cut: exec.args_cut,
        },
        uid: Some(exec.fixed.uid),
        cgroup: Some(CgroupId(exec.fixed.cgroup)),
    })
}

/// The path whose names are given from its end to the root, each ended by a zero byte.
fn program_path(names: &[u8]) -> PathBuf {
    let names = names.strip_suffix(b"\0").unwrap_or(names);
    let mut path = PathBuf::from("/");
    for name in names.rsplit(|byte| *byte == 0) {
        path.push(OsStr::from_bytes(name));
    }
    path
}

/// A process that was made; its program is its parent's.
pub fn forked(fork: &ForkRecord) -> Option<ProcessFact> {
    Some(ProcessFact {
        id: process_id(fork.process)?,
        parent: process_id(fork.parent),
        program: Program {
            comm: text(&fork.comm),
            ..Program::default()
        },
        uid: Some(fork.uid),
        cgroup: Some(CgroupId(fork.cgroup)),
    })
}

/// The name that a process has now.
pub fn named(id: ProcessId, comm: &[u8]) -> Option<Event> {
    let comm = Some(text(comm)?);
    let program = Program {
        comm,
        ..Program::default()
    };
    Some(Event::ProcessNamed { id, program })
}

/// Arguments that each end with a zero byte; the last may be cut.
fn arguments(bytes: &[u8]) -> Arc<[String]> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    bytes
        .split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// A name that ends at its first zero byte.
fn text(bytes: &[u8]) -> Option<Arc<str>> {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    (end != 0).then(|| String::from_utf8_lossy(&bytes[..end]).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_is_shown_as_such() {
        let address = IpAddress::mapped(u32::from_ne_bytes([192, 0, 2, 1]));
        assert_eq!(endpoint(address, 80, 3).to_string(), "192.0.2.1:80");
        let mut octets = [0; 16];
        octets[10..].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
        assert_eq!(IpAddress::from_octets(octets), address);
        assert_eq!(address.octets(), octets);
    }

    #[test]
    fn an_unbound_ipv4_socket_has_the_ipv4_wildcard() {
        let state = SocketEntry {
            family: 2,
            protocol: 6,
            local_port: 80,
            ..SocketEntry::default()
        };
        let fact = socket(1, &state).expect("a TCP socket");
        assert_eq!(fact.local.to_string(), "0.0.0.0:80");
        assert_eq!(fact.remote, None);
    }

    #[test]
    fn addresses_of_a_link_have_a_zone_and_others_have_none() {
        let shown = |address: &str| {
            let octets = address.parse::<Ipv6Addr>().unwrap().octets();
            endpoint(IpAddress::from_octets(octets), 80, 3).to_string()
        };
        assert_eq!(shown("fe80::1"), "[fe80::1%3]:80");
        assert_eq!(shown("febf::1"), "[febf::1%3]:80");
        assert_eq!(shown("ff01::1"), "[ff01::1%3]:80");
        assert_eq!(shown("ff02::fb"), "[ff02::fb%3]:80");
        assert_eq!(shown("ff32::1"), "[ff32::1%3]:80");
        assert_eq!(shown("ff05::1"), "[ff05::1]:80");
        assert_eq!(shown("fec0::1"), "[fec0::1]:80");
        assert_eq!(shown("2001:db8::1"), "[2001:db8::1]:80");
        assert_eq!(shown("::1"), "[::1]:80");
    }

    #[test]
    fn a_raw_socket_has_a_remote_while_it_is_connected() {
        let connected = SocketEntry {
            family: 2,
            protocol: 1,
            local_port: 1,
            state: 1,
            remote: IpAddress::mapped(u32::from_ne_bytes([192, 0, 2, 1])),
            remote_port: 1025,
            ..SocketEntry::default()
        };
        let remote = |state: &SocketEntry| socket(1, state).expect("an ICMP socket").remote;
        let peer = Some("192.0.2.1:0".parse().unwrap());
        assert_eq!(remote(&connected), peer);
        let no_port = SocketEntry {
            remote_port: 0,
            ..connected
        };
        assert_eq!(remote(&no_port), peer);
        // An address may stay when the peer is given up.
        assert_eq!(
            remote(&SocketEntry {
                state: 7,
                ..no_port
            }),
            None
        );
        let udp = SocketEntry {
            protocol: 17,
            ..no_port
        };
        assert_eq!(remote(&udp), None);
    }

    #[test]
    fn a_path_is_put_together_from_its_end() {
        let path = |names: &[u8]| program_path(names).display().to_string();
        assert_eq!(path(b"curl\0bin\0usr\0"), "/usr/bin/curl");
        assert_eq!(path(b"memfd:x\0"), "/memfd:x");
    }

    #[test]
    fn arguments_may_hold_anything() {
        assert_eq!(*arguments(b"a\0\0b\xff\0"), ["a", "", "b\u{fffd}"]);
        assert_eq!(*arguments(b"cut"), ["cut"]);
    }
}
