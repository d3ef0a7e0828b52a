//! Counters of bytes by (socket, process, remote), and what is known of a socket.

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A process: its id and when it started, so that a reused id is another process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct ProcessKey {
    /// `task_struct.start_boottime` of the thread group's leader, nanoseconds since boot.
    pub start: u64,
    /// Thread group id as the initial PID namespace numbers it; what users call the pid.
    pub tgid: u32,
    pub padding: u32,
}
const _: () = assert!(size_of::<ProcessKey>() == 16);
plain!(ProcessKey);

/// An IP address, IPv4 as v4-mapped IPv6 (`::ffff:a.b.c.d`): the bytes as on the wire, in two words, so
/// that programs move it with two instructions.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct IpAddress([u64; 2]);

impl IpAddress {
    /// All zeroes: none.
    pub const NONE: Self = Self([0; 2]);

    /// From its words, each in native byte order.
    #[inline(always)]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self(words)
    }

    /// The v4-mapped form of an IPv4 address in network byte order.
    #[inline(always)]
    pub const fn mapped(address: u32) -> Self {
        // The upper half of the second word, as the bytes stand in memory.
        let [a, b, c, d] = address.to_ne_bytes();
        Self([0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])])
    }

    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self([
            u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        ])
    }

    /// Whether it stands for no host: `::`, or `0.0.0.0` v4-mapped.
    #[inline(always)]
    pub const fn is_unspecified(self) -> bool {
        let [first, second] = self.0;
        first == 0 && (second == 0 || second == Self::mapped(0).0[1])
    }

    /// Whether it means another host on each interface, as the kernel decides
    /// (`__ipv6_addr_needs_scope_id`): link-local, or multicast that stays on the interface or link.
    /// IPv4 has no such addresses: its sockets name no interface beside one.
    #[inline(always)]
    pub const fn has_zone(self) -> bool {
        let [first, second, ..] = self.0[0].to_ne_bytes();
        match first {
            0xfe => second & 0xc0 == 0x80,
            0xff => matches!(second & 0xf, 1 | 2),
            _ => false,
        }
    }

    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.0[0].to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.0[1].to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }
}

/// Key of the app counters: who moved bytes over which socket to or from whom.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct AppKey {
    /// Socket cookie; for a socket without one of its own a number with the highest bit set.
    pub cookie: u64,
    /// See [`ProcessKey::start`].
    pub start: u64,
    /// See [`ProcessKey::tgid`].
    pub tgid: u32,
    /// Remote port, host byte order; 0 when the remote is not known, or its protocol has no ports.
    pub remote_port: u16,
    /// 1 when `remote`, `remote_port` and `zone` are known, else 0 and all are zero.
    pub remote_known: u16,
    pub remote: IpAddress,
    /// Index of the interface where `remote` is, if that [needs one](IpAddress::has_zone); else 0.
    pub zone: u32,
    pub padding: u32,
}
const _: () = assert!(size_of::<AppKey>() == 48);
plain!(AppKey);

impl AppKey {
    /// The process part of the key.
    pub const fn process(&self) -> ProcessKey {
        ProcessKey {
            start: self.start,
            tgid: self.tgid,
            padding: 0,
        }
    }
}

/// App bytes of one [`AppKey`]: what send and receive calls returned. Cumulative.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct AppCounters {
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    pub tx_calls: u64,
    pub rx_calls: u64,
    /// cgroup v2 id of the process when the entry was last emitted.
    pub cgroup: u64,
    /// Effective user id of the process when the entry was last emitted.
    pub uid: u32,
    /// Epoch of the last record sent for this entry: one record per entry and epoch.
    pub epoch: u32,
    /// See [`socket_kind`].
    pub kind: u32,
    /// 1 when the key is one of its socket's [`SocketEntry::remotes`].
    pub counted: u16,
    /// 1 when the process is not the first that moved bytes over its socket, a TCP stream's.
    pub shared: u8,
    /// 1 once bytes of the stream were counted as they left the receive queue, not as a call returned
    /// them.
    pub at_queue: u8,
}
const _: () = assert!(size_of::<AppCounters>() == 56);
plain!(AppCounters);

/// What the kernel side need not ask of a socket at the next call. Values of [`AppCounters::kind`].
pub mod socket_kind {
    /// Everything is to be asked.
    pub const UNKNOWN: u32 = 0;
    /// Its bytes have no boundaries, and one peer.
    pub const STREAM: u32 = 1;
    /// Each call may have a peer of its own.
    pub const DATAGRAM: u32 = 2;
    /// The same, of a protocol without ports.
    pub const PORTLESS: u32 = 3;
}

/// Who opened a connection. Values of [`SocketEntry::direction`].
pub mod direction {
    pub const UNKNOWN: u8 = 0;
    pub const OUTBOUND: u8 = 1;
    pub const INBOUND: u8 = 2;
}

/// What is known of a socket, and its wire counters. Keyed by socket cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct SocketEntry {
    /// Layer-3 bytes of packets sent, retransmits and pure ACKs included; cumulative.
    pub wire_tx_bytes: u64,
    pub wire_rx_bytes: u64,
    pub wire_tx_packets: u64,
    pub wire_rx_packets: u64,
    /// When the kernel side first saw it, nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub seen: u64,
    /// Process that created, connected or accepted it; tgid 0 when nobody did yet.
    pub owner: ProcessKey,
    /// First process that moved bytes of its stream; tgid 0 when none did yet.
    pub user: ProcessKey,
    /// Bytes of its stream that other processes have read, or that found no room in the app counters.
    pub others_rx_bytes: u64,
    /// Bytes of its stream that were read and not counted; [`NOT_KNOWN`](Self::NOT_KNOWN) when that is
    /// not known.
    pub uncounted_rx_bytes: u64,
    pub local: IpAddress,
    pub remote: IpAddress,
    /// Ports, host byte order.
    pub local_port: u16,
    pub remote_port: u16,
    /// Address family: `AF_INET`, `AF_INET6` or `AF_PACKET`.
    pub family: u8,
    /// 1 once a datagram was received without asking for its sender, which the kernel side then
    /// notes of each packet that comes.
    pub unasked: u8,
    /// `IPPROTO_*` of the socket; MPTCP is 262, hence 16 bits.
    pub protocol: u16,
    /// Inode number of its network namespace; 0 when not known.
    pub netns: u32,
    /// Interface of its last packet; 0 when none was seen.
    pub ifindex: u32,
    /// Epoch of the last record sent for this entry.
    pub epoch: u32,
    /// Smoothed and minimal round trip time, microseconds; 0 when not known.
    pub rtt_us: u32,
    pub min_rtt_us: u32,
    /// Segments retransmitted since the connection began.
    pub retransmits: u32,
    /// Keys of the app counters that name a remote of this socket, those that user space has deleted
    /// included: it counts them in a map of its own. Wraps around.
    pub remotes: u32,
    /// `sk_err` when it closed: an errno, 0 for an orderly close.
    pub error: u16,
    /// Whether other programs of the cgroups look at its packets before Flow does: the kernel side's
    /// own.
    pub guarded: u16,
    /// As [`AppKey::zone`].
    pub zone: u32,
    /// TCP state as in `include/net/tcp_states.h`; for other protocols 1 connected, 7 not.
    pub state: u8,
    /// See [`direction`].
    pub direction: u8,
    /// 1 once the last file descriptor was closed.
    pub released: u8,
    /// 1 once a TCP socket reached `TCP_CLOSE` after having been open.
    pub closed: u8,
}
const _: () = assert!(size_of::<SocketEntry>() == 168);
plain!(SocketEntry);

impl SocketEntry {
    /// Value of [`SocketEntry::uncounted_rx_bytes`].
    pub const NOT_KNOWN: u64 = u64::MAX;
}
