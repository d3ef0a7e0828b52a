//! Frame counters by interface, direction and class.

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
}
const _: () = assert!(size_of::<LinkLayout>() == 16);
plain!(LinkLayout);

/// What a packet on an interface was. The discriminant is the index into [`InterfaceCounters`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Every packet the classifier saw, of whatever class; the sum the others must explain. The kernel
    /// side counts it for [`Direction::Ingress`] only: packets that leave have one class each.
    Total = 0,
    /// Sent by, or delivered to, a socket.
    Socket = 1,
    /// Neither sent nor received by this namespace: routed through, containers' traffic among it.
    Forwarded = 2,
    /// Sent by the kernel without a full socket: RST, SYN-ACK, TIME_WAIT ACK, ICMP, neighbour discovery.
    Kernel = 3,
    /// Sent through a packet socket (`AF_PACKET`).
    PacketSocket = 4,
    /// Neither IPv4 nor IPv6: ARP, LLDP, ...
    NotIp = 5,
}

impl Class {
    /// Number of classes.
    pub const COUNT: usize = 6;
    /// Every class, in order of its index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Total,
        Self::Socket,
        Self::Forwarded,
        Self::Kernel,
        Self::PacketSocket,
        Self::NotIp,
    ];
}

/// Packets and bytes of one class.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
pub struct InterfaceCounters {
    pub classes: [PacketCount; Class::COUNT],
    /// Where the last packet lies that was counted as [`Class::Socket`], ingress only: of the copies that further sockets
    /// take, each lies there too.
    pub delivered: u64,
    /// How many packets had come in by then, since another may lie there later.
    pub delivered_at: u64,
}
const _: () = assert!(size_of::<InterfaceCounters>() == 208);
plain!(InterfaceCounters);
