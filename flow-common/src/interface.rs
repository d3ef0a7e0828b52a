//! Frame counters by interface, direction and class.

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Direction of packets through an interface.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    Ingress = 0,
    Egress = 1,
}

/// Key of the interface counters.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct InterfaceKey {
    /// Interface index in the network namespace Flow runs in.
    pub ifindex: u32,
    /// A [`Direction`].
    pub direction: u32,
}
const _: () = assert!(size_of::<InterfaceKey>() == 8);
plain!(InterfaceKey);

/// What the classifiers must know of an interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct LinkLayout {
    /// Bytes of its link header; 0 for one that carries IP packets only.
    pub header: u32,
    /// A buffer of this many bytes, link header included, or more is cut into its segments before
    /// the interface sees it (`gso_features_check` in net/core/dev.c).
    pub gso_max_size: u32,
    /// The same, for IPv4 packets.
    pub gso_ipv4_max_size: u32,
    /// A buffer of more segments is cut as well.
    pub gso_max_segments: u32,
    /// Bits of [`link`].
    pub flags: u32,
    /// Index of the bridge, bond or VRF that it is a port of; 0 without one.
    pub master: u32,
    /// Index of the one interface below it; 0 if there is none, or several.
    pub lower: u32,
    /// Bytes of the largest packet.
    pub mtu: u32,
}
const _: () = assert!(size_of::<LinkLayout>() == 32);
plain!(LinkLayout);

/// Bits of [`LinkLayout::flags`].
pub mod link {
    /// Others of the same namespace carry its packets: a bridge, VLAN, macvlan, bond, VRF.
    pub const UPPER: u32 = 1;
    /// What leaves by it comes back or is a copy (an IFB device, the target of a mirror), so it says
    /// nothing of what becomes of the packet that came in.
    pub const COPIES: u32 = 2;
    /// An upper one with a queue: its packets reach the interface below later.
    pub const QUEUED: u32 = 4;
    /// One below an interface with [`QUEUED`].
    pub const BELOW_QUEUED: u32 = 8;
    /// What comes in may be read from a device file (macvtap).
    pub const TAP: u32 = 16;
    /// What leaves by it comes in by it, and goes back to where it was (IFB).
    pub const LOOPS: u32 = 32;
    /// One with [`TAP`] by which a socket of this host has sent. The programs set it.
    pub const USED_HERE: u32 = 128;
    /// What comes in was decrypted: an interface of IPsec's.
    pub const DECRYPTS: u32 = 256;
    /// It puts headers of its own around packets and hands them on at once.
    pub const TUNNEL: u32 = 512;
    /// Its master is a VRF, which takes what comes in and has no ingress of its own.
    pub const IN_VRF: u32 = 64;
}

/// Bits of [`InterfaceCounters::kinds`].
pub mod kinds {
    /// There may be interfaces below it.
    pub const UPPER: u32 = 1;
    /// It fills packets up to a multiple of 16 bytes, and counts them so (WireGuard).
    pub const PADS: u32 = 2;
}

/// Bits of the one element of the map `SIGHTS`: what came by that most hosts never see.
pub mod sight {
    /// A fragment of an IP packet passed an interface or was sent.
    pub const FRAGMENTS: u32 = 1;
    /// A packet of IPsec passed an interface.
    pub const IPSEC: u32 = 2;
    /// A buffer of several datagrams came in by an interface.
    pub const BATCHES: u32 = 4;
}

/// Bits of the one element of the map `STACKING`: what the host has. Without any of it each packet
/// passes one interface.
pub mod stacking {
    /// Interfaces on top of others, or some whose other end is in another namespace.
    pub const STACKED: u32 = 1;
    /// A VRF device.
    pub const VRF: u32 = 2;
    /// An interface with [`super::link::TAP`].
    pub const TAP: u32 = 4;
    /// An interface with [`super::link::LOOPS`].
    pub const LOOPS: u32 = 8;
    /// An interface with [`super::link::DECRYPTS`].
    pub const DECRYPTS: u32 = 16;
}

/// Key of the map `FOREIGN`: an interface of another network namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct ForeignKey {
    /// Inode number of the namespace.
    pub netns: u32,
    pub ifindex: u32,
}
const _: () = assert!(size_of::<ForeignKey>() == 8);
plain!(ForeignKey);

/// Values of the map `FOREIGN` other than the index of the interface below, which is one of the host's.
pub mod foreign {
    /// User space has not looked yet.
    pub const NEW: u32 = 0;
    /// None of the host's interfaces carries its packets.
    pub const UNRELATED: u32 = u32::MAX;
}

/// What a packet on an interface was. The discriminant is the index into [`InterfaceCounters`].
///
/// [`Total`](Self::Total) is the last: a packet that comes in is counted there first, and the kernel
/// copies a CPU's counters to a reader one by one. So a reading hardly ever has a packet as one of a
/// class and not in the total: only if another CPU took it, in the microsecond between two copies.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Sent by, or delivered to, a socket.
    Socket = 0,
    /// Neither sent nor received by this namespace: routed through, containers' traffic among it.
    Forwarded = 1,
    /// Sent by the kernel without a full socket: RST, SYN-ACK, TIME_WAIT ACK, ICMP, neighbour discovery.
    Kernel = 2,
    /// Sent through a packet socket (`AF_PACKET`).
    PacketSocket = 3,
    /// Neither IPv4 nor IPv6: ARP, LLDP, ...
    NotIp = 4,
    /// Every packet the classifier saw, of whatever class; the sum the others must explain. The kernel
    /// side counts it for [`Direction::Ingress`] only: packets that leave have one class each.
    Total = 5,
}

impl Class {
    /// Number of classes.
    pub const COUNT: usize = 6;
    /// Every class, in order of its index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Socket,
        Self::Forwarded,
        Self::Kernel,
        Self::PacketSocket,
        Self::NotIp,
        Self::Total,
    ];
}

/// Packets and bytes of one class.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct PacketCount {
    /// Buffers as the network stack handed them to the interface, or got them from it; a GSO/GRO
    /// buffer is one.
    pub packets: u64,
    /// Their bytes, link header included.
    pub bytes: u64,
    /// Frames on the wire beyond one for each buffer: a GSO/GRO buffer counts its further segments.
    pub more_frames: u64,
    /// Bytes of the headers that segmentation repeats: `bytes + header_bytes` is what the wire carried.
    pub header_bytes: u64,
}
const _: () = assert!(size_of::<PacketCount>() == 32);

/// Counters of one interface and direction, by [`Class`]. Cumulative since Flow attached.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct InterfaceCounters {
    pub classes: [PacketCount; Class::COUNT],
    /// Where the last packet lies that was counted as [`Class::Socket`], ingress only: of the copies that further sockets
    /// take, each lies there too.
    pub delivered: u64,
    /// How many packets had come in by then, since another may lie there later.
    pub delivered_at: u64,
    /// Index of the interface below by which the last packet came, ingress only; 0 if it is the lowest.
    pub lower: u32,
    /// Bytes of VLAN tags that such a packet has there and not here.
    pub lower_tags: u32,
    /// Bytes of the link header. The loader writes it when it makes the entry.
    pub header: u32,
    /// Bits of [`kinds`]. As `header`.
    pub kinds: u32,
}
const _: () = assert!(size_of::<InterfaceCounters>() == 224);
plain!(InterfaceCounters);
