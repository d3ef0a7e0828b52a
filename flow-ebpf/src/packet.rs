//! The size of a packet, as the stack holds it and as the wire carries it.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};

const IPPROTO_TCP: u8 = 6;
const UDP_HEADER: u32 = 8;
const IPV6_HEADER: u32 = 40;
/// The hop-by-hop options. Among buffers of several segments only the large ones have them.
const NEXTHDR_HOP: u8 = 0;
const JUMBO_HEADER: u32 = 8;
/// Bytes of IPv4's header and of TCP's, without options.
const SHORTEST_HEADER: usize = 20;
/// Where the last header begins at most: behind those of the link and of IPv4 with options, or of IPv6 with one extension.
/// All ones, as a mask that the verifier understands.
const HEADERS_WITHIN: u32 = 0xff;

/// The size of a packet. A GSO/GRO buffer holds several segments with one set of headers.
pub struct Packet {
    /// Buffers: 1, or as many as segments once it is cut.
    pub buffers: u64,
    /// Bytes of the buffers, from the layer the hook sees.
    pub bytes: u64,
    /// Segments on the wire.
    pub frames: u64,
    /// Bytes that segmentation adds: the headers it repeats, from the same layer.
    pub header_bytes: u64,
}

/// Measures a packet. Its network header begins at `network`; that matters for buffers of several segments only.
#[inline(always)]
pub fn measure(skb: *mut __sk_buff, network: u32) -> Packet {
    // SAFETY: fields that every skb program may read.
    let (len, size) = unsafe { ((*skb).len, (*skb).gso_size) };
    let mut packet = Packet {
        buffers: 1,
        bytes: u64::from(len),
        frames: 1,
        header_bytes: 0,
    };
    if size == 0 {
        return packet;
    }
    let Some(Headers { length, jumbo }) = headers(skb, network) else {
        return packet;
    };
    let header = network + length;
    let payload = len.saturating_sub(header + jumbo);
    // Not `gso_segs`: a virtual NIC may hand over a buffer without filling it in.
    let segments = payload.div_ceil(size);
    if segments > 1 {
        packet.frames = u64::from(segments);
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
        }
    }

    /// The same packet with so many bytes more in front of each segment.
    pub fn with_header(&self, header: u32) -> Self {
        let repeated = (self.frames - self.buffers) * u64::from(header);
        Self {
            bytes: self.bytes + u64::from(header) * self.buffers,
            header_bytes: self.header_bytes + repeated,
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
        }
    }
}

/// Headers in front of a payload.
struct Headers {
    /// Bytes of the network and transport headers as segments carry them.
    length: u32,
    /// Bytes of the header that buffers of more than 64 KiB have between the two, and segments don't
    /// (`ipv6_hopopt_jumbo_remove`).
    jumbo: u32,
}

/// Finds the headers of a packet. `None` if they can't be read.
#[inline(always)]
fn headers(skb: *mut __sk_buff, network: u32) -> Option<Headers> {
    let first = byte(skb, network, 0)?;
    let (length, mut protocol) = match first >> 4 {
        4 => (u32::from(first & 0xf) * 4, byte(skb, network, 9)?),
        6 => (IPV6_HEADER, byte(skb, network, 6)?),
        _ => return None,
    };
    let mut jumbo = 0;
    if first >> 4 == 6 && protocol == NEXTHDR_HOP {
        protocol = byte(skb, network + IPV6_HEADER, 0)?;
        jumbo = JUMBO_HEADER;
    }
    let transport = if protocol == IPPROTO_TCP {
        let offset = byte(skb, network + length + jumbo, 12)? >> 4;
        u32::from(offset) * 4
    } else {
        UDP_HEADER
    };
    Some(Headers {
        length: length + transport,
        jumbo,
    })
}

/// A header's byte. Where the whole header may be read without a call, as nearly always, it is.
#[inline(always)]
pub fn byte(skb: *mut __sk_buff, header: u32, index: u32) -> Option<u8> {
    // SAFETY: fields that the programs of the cgroup and the classifier may read.
    let (start, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    let at = start + (header & HEADERS_WITHIN) as usize;
    if header <= HEADERS_WITHIN && at + SHORTEST_HEADER <= end {
        // SAFETY: the verifier has seen the comparison.
        return Some(unsafe { *((at + index as usize) as *const u8) });
    }
    let mut value = 0u8;
    // SAFETY: the helper checks the offset; one byte fits.
    let status = unsafe {
        bpf_skb_load_bytes(
            skb.cast::<core::ffi::c_void>(),
            header + index,
            (&raw mut value).cast(),
            1,
        )
    };
    (status == 0).then_some(value)
}
