//! The size of a packet, in the stack and on the wire.

use aya_ebpf::bindings::__sk_buff;

use crate::{
    bytes::{IPPROTO_TCP, IPPROTO_UDP, byte, load},
    network::is_ipv4,
    sight::{self, FRAGMENTS, NEXTHDR_DEST, NEXTHDR_FRAGMENT, NEXTHDR_HOP, NEXTHDR_ROUTING},
    skb::{self, TransportKind},
};

/// What WireGuard fills packets up to (`MESSAGE_PADDING_MULTIPLE`).
const PAD: u64 = 16;
const UDP_HEADER: u32 = 8;
const SCTP_HEADER: u32 = 12;
const IPV6_HEADER: u32 = 40;
/// The option and the header that buffers of more than 64 KiB have (`ipv6_has_hopopt_jumbo`).
const JUMBO_OPTION: u8 = 194;
const JUMBO_HEADER: u32 = 8;
/// The segment size of a buffer with segments of different sizes: SCTP's.
const GSO_BY_FRAGS: u32 = 0xffff;
/// IPv6's header in front of a fragment.
const FRAGMENT_HEADER: u32 = 8;
/// Options and routing headers of IPv6 that are stepped over to find where a packet is cut.
const MOST_EXTENSIONS: usize = 4;
/// The size of a packet. A GSO/GRO buffer holds several segments with one set of headers.
#[derive(Clone, Copy)]
pub struct Packet {
    /// Buffers: 1, or as many as segments once it is cut.
    pub buffers: u64,
    /// Bytes of the buffers, from the layer the hook sees.
    pub bytes: u64,
    /// Segments on the wire.
    pub frames: u64,
    /// Bytes that segmentation adds: the headers it repeats, from the same layer.
    pub header_bytes: u64,
    /// Bytes of each segment but the last, its headers included; of a buffer of several segments
    /// only.
    pub segment: u64,
    /// A buffer whose headers are more than IP's and TCP's or UDP's: not every interface that
    /// segments can do it with these.
    pub is_unusual: bool,
    /// A buffer of several datagrams of UDP.
    pub is_batch: bool,
}

/// Measures a packet. Its network header begins at `network`; that matters for buffers of several
/// segments only.
#[inline(always)]
pub fn measure(skb: *mut __sk_buff, network: u32) -> Packet {
    measure_with(skb, network, true)
}

/// The same at a socket, where a packet has no headers of a tunnel.
#[inline(always)]
pub fn measure_of_socket(skb: *mut __sk_buff) -> Packet {
    measure_with(skb, 0, false)
}

#[inline(always)]
fn measure_with(skb: *mut __sk_buff, network: u32, may_be_tunnel: bool) -> Packet {
    // SAFETY: fields that every skb program may read.
    let (len, size) = unsafe { ((*skb).len, (*skb).gso_size) };
    let mut packet = Packet {
        buffers: 1,
        bytes: u64::from(len),
        frames: 1,
        header_bytes: 0,
        segment: 0,
        is_unusual: false,
        is_batch: false,
    };
    if size == 0 {
        return packet;
    }
    let Some(headers) = headers(skb, network, may_be_tunnel) else {
        return packet;
    };
    let Headers {
        length,
        jumbo,
        is_unusual,
        is_udp,
    } = headers;
    let header = network + length;
    let payload = len.saturating_sub(header + jumbo);
    let segments = if size == GSO_BY_FRAGS {
        // SAFETY: as above.
        unsafe { (*skb).gso_segs }
    } else {
        // Not `gso_segs`: a virtual NIC may hand over a buffer without filling it in.
        payload.div_ceil(size)
    };
    packet.is_unusual = is_unusual;
    if segments > 1 {
        packet.frames = u64::from(segments);
        packet.is_batch = is_udp;
        packet.segment = u64::from(header) + u64::from(size);
        packet.header_bytes = u64::from(segments - 1) * u64::from(header) - u64::from(jumbo);
    }
    packet
}

impl Packet {
    /// The same packet once the stack has cut it into its segments.
    pub fn cut(&self) -> Self {
        Self {
            buffers: self.frames,
            bytes: self.bytes + self.header_bytes,
            frames: self.frames,
            header_bytes: 0,
            segment: 0,
            is_unusual: self.is_unusual,
            is_batch: false,
        }
    }

    /// One segment, whose headers of so many bytes are not its own but repeated: a further part of
    /// a buffer that is counted elsewhere.
    pub fn without_own_headers(&self, header: u64) -> Self {
        Self {
            buffers: 0,
            bytes: self.bytes.saturating_sub(header),
            header_bytes: header,
            ..*self
        }
    }

    /// The same packet with each segment filled up to a multiple of [`PAD`] bytes, as far as the
    /// largest packet goes (`calculate_skb_padding` of WireGuard).
    pub fn padded(&self, mtu: u32) -> Self {
        let mtu = u64::from(mtu);
        let pad = |bytes: u64| {
            let padded = (bytes + PAD - 1) & !(PAD - 1);
            padded.min(mtu).saturating_sub(bytes)
        };
        let full = self.frames - 1;
        let last = (self.bytes + self.header_bytes).saturating_sub(self.segment * full);
        Self {
            bytes: self.bytes + pad(self.segment) * full + pad(last),
            ..*self
        }
    }

    /// The same packet with so many bytes more in front of each segment.
    pub fn with_header(&self, header: u32) -> Self {
        let repeated = (self.frames - self.buffers) * u64::from(header);
        Self {
            bytes: self.bytes + u64::from(header) * self.buffers,
            header_bytes: self.header_bytes + repeated,
            segment: self.segment + u64::from(header),
            ..*self
        }
    }

    /// The same packet without its link header of so many bytes.
    pub fn without_link_header(&self, header: u32) -> Self {
        let repeated = (self.frames - self.buffers) * u64::from(header);
        Self {
            buffers: self.buffers,
            bytes: self.bytes.saturating_sub(u64::from(header) * self.buffers),
            frames: self.frames,
            header_bytes: self.header_bytes.saturating_sub(repeated),
            segment: self.segment.saturating_sub(u64::from(header)),
            is_unusual: self.is_unusual,
            is_batch: self.is_batch,
        }
    }
}

impl Packet {
    /// A packet that a socket sends, as the fragments into which the stack is about to cut it
    /// (`ip_do_fragment`, `ip6_fragment`). `is_datagram`: UDP makes what is to be cut of several
    /// parts (`__ip_append_data`), and what is in one part passes whole.
    #[inline(always)]
    pub fn fragmented(self, skb: *mut __sk_buff, is_datagram: bool) -> Self {
        // SAFETY: fields that every skb program may read.
        let (len, size, start, end) = unsafe {
            (
                (*skb).len,
                (*skb).gso_size,
                (*skb).data as usize,
                (*skb).data_end as usize,
            )
        };
        if size != 0 || is_datagram && end - start >= len as usize {
            return self;
        }
        let Some(cut) = Cut::of(skb) else {
            return self;
        };
        match skb::path_mtu(skb, cut.is_ipv4) {
            Some(mtu) if len > mtu.whole => {
                // Whoever is to receive them may be on this host as well.
                sight::note(FRAGMENTS);
                self.cut_to(len, mtu.fragment, &cut)
            }
            _ => self,
        }
    }

    /// A packet that a socket receives, as the fragments in which it came: all but the last one as
    /// large as the largest.
    #[inline(always)]
    pub fn reassembled(self, skb: *mut __sk_buff) -> Self {
        // SAFETY: fields that every skb program may read.
        let (len, size) = unsafe { ((*skb).len, (*skb).gso_size) };
        if size != 0 {
            return self;
        }
        match skb::largest_fragment(skb, is_ipv4(skb)) {
            0 => self,
            largest => match Cut::of(skb) {
                Some(cut) => self.cut_to(len, largest, &cut),
                None => self,
            },
        }
    }

    /// A packet of `len` bytes in fragments of up to `most`.
    #[inline(always)]
    fn cut_to(self, len: u32, most: u32, cut: &Cut) -> Self {
        let &Cut { header, added, .. } = cut;
        let payload = len.saturating_sub(header);
        let room = most.saturating_sub(header + added);
        // All but the last one hold a multiple of 8 bytes.
        let step = room & !7;
        if step == 0 || payload <= room {
            return self;
        }
        let fragments = u64::from((payload - room).div_ceil(step)) + 1;
        let bytes = self.bytes + (fragments - 1) * u64::from(header) + fragments * u64::from(added);
        Self {
            buffers: fragments,
            bytes,
            frames: fragments,
            header_bytes: 0,
            segment: 0,
            is_unusual: false,
            is_batch: false,
        }
    }
}

/// How fragments are made of a packet.
struct Cut {
    is_ipv4: bool,
    /// Bytes at its start that each fragment repeats.
    header: u32,
    /// Bytes that each fragment has besides.
    added: u32,
}

impl Cut {
    /// `None` of a packet that is a fragment itself, whole as it is, or that cannot be read.
    #[inline(always)]
    fn of(skb: *mut __sk_buff) -> Option<Self> {
        let first = byte(skb, 0, 0)?;
        match first >> 4 {
            4 => Some(Self {
                is_ipv4: true,
                // Options that only the first one has are replaced by padding
                // (`ip_options_fragment`).
                header: u32::from(first & 0xf) * 4,
                added: 0,
            }),
            6 => Some(Self {
                is_ipv4: false,
                header: unfragmentable(skb)?,
                added: FRAGMENT_HEADER,
            }),
            _ => None,
        }
    }
}

/// Bytes of the headers of IPv6 that each fragment repeats (`ip6_find_1stfragopt`).
#[inline(always)]
fn unfragmentable(skb: *mut __sk_buff) -> Option<u32> {
    let mut length = IPV6_HEADER;
    let mut next = byte(skb, 0, 6)?;
    let mut is_routed = false;
    for _ in 0..MOST_EXTENSIONS {
        match next {
            NEXTHDR_HOP => {}
            NEXTHDR_ROUTING => is_routed = true,
            NEXTHDR_DEST if !is_routed => {}
            NEXTHDR_FRAGMENT => return None,
            _ => break,
        }
        let mut header = [0_u8; 2];
        if !load(skb, length, &mut header) {
            return None;
        }
        let [following, words] = header;
        next = following;
        length += (u32::from(words) + 1) * 8;
    }
    Some(length)
}

/// Headers in front of a payload.
struct Headers {
    /// Bytes of the network and transport headers as segments carry them.
    length: u32,
    /// Bytes of the header that buffers of more than 64 KiB have between the two, and segments
    /// don't (`ipv6_hopopt_jumbo_remove`).
    jumbo: u32,
    /// Whether they are more than IP's and TCP's or UDP's.
    is_unusual: bool,
    /// Whether the last of them is UDP's.
    is_udp: bool,
}

/// Finds the headers of a packet of several segments. `None` if they can't be read.
#[inline(always)]
fn headers(skb: *mut __sk_buff, network: u32, may_be_tunnel: bool) -> Option<Headers> {
    let first = byte(skb, network, 0)?;
    let (length, mut protocol) = match first >> 4 {
        4 => (u32::from(first & 0xf) * 4, byte(skb, network, 9)?),
        6 => (IPV6_HEADER, byte(skb, network, 6)?),
        _ => return None,
    };
    let mut jumbo = 0;
    if first >> 4 == 6 && protocol == NEXTHDR_HOP {
        let options = network + IPV6_HEADER;
        let following = byte(skb, options, 0)?;
        if following == IPPROTO_TCP && byte(skb, options, 2)? == JUMBO_OPTION {
            protocol = following;
            jumbo = JUMBO_HEADER;
        }
    }
    let usual = match protocol {
        IPPROTO_TCP => Some(tcp_header(skb, network + length + jumbo)?),
        // Of a tunnel it is the outermost header only.
        IPPROTO_UDP if !may_be_tunnel || !skb::is_encapsulated(skb) => Some(UDP_HEADER),
        _ => None,
    };
    if let Some(transport) = usual {
        return Some(Headers {
            length: length + transport,
            jumbo,
            is_unusual: false,
            is_udp: protocol == IPPROTO_UDP,
        });
    }
    // Extension headers, or a tunnel's.
    let transport = skb::transport(skb)?;
    let header = match transport.kind {
        TransportKind::Tcp => tcp_header(skb, network + transport.offset)?,
        TransportKind::Sctp => SCTP_HEADER,
        TransportKind::Udp => UDP_HEADER,
    };
    Some(Headers {
        length: transport.offset + header,
        jumbo: 0,
        is_unusual: true,
        is_udp: matches!(transport.kind, TransportKind::Udp),
    })
}

/// Bytes of TCP's header with its options.
#[inline(always)]
fn tcp_header(skb: *mut __sk_buff, at: u32) -> Option<u32> {
    let offset = byte(skb, at, 12)? >> 4;
    Some(u32::from(offset) * 4)
}
