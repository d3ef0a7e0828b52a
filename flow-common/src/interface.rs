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

/// What a packet on an interface was. The discriminant is the index into [`InterfaceCounters`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Every packet the classifier saw, of whatever class; the sum the others must explain.
    Total = 0,
    /// Sent by, or delivered to, a socket that Flow knows.
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
    /// Buffers as the network stack handed them over; a GSO/GRO buffer is one.
    pub packets: u64,
    /// Their bytes, link header included.
    pub bytes: u64,
    /// Frames on the wire: a GSO/GRO buffer counts each of its segments.
    pub frames: u64,
    /// Bytes of the headers that segmentation repeats: `bytes + header_bytes` is what the wire carried.
    pub header_bytes: u64,
}
const _: () = assert!(size_of::<PacketCount>() == 32);

/// Counters of one interface and direction, by [`Class`]. Cumulative since Flow attached.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    pub classes: [PacketCount; Class::COUNT],
}
const _: () = assert!(size_of::<InterfaceCounters>() == 192);
plain!(InterfaceCounters);
