//! The size of a packet, as the stack holds it and as the wire carries it.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};

const IPPROTO_TCP: u8 = 6;
const UDP_HEADER: u32 = 8;
const IPV6_HEADER: u32 = 40;

/// The size of a packet. A GSO/GRO buffer holds several segments with one set of headers.
pub struct Packet {
    /// Bytes of the buffer, from the layer the hook sees.
    pub bytes: u64,
    /// Segments on the wire.
    pub frames: u64,
    /// Bytes of the headers that segmentation repeats, from the same layer.
    pub header_bytes: u64,
}

/// Measures a packet whose network header begins `network` bytes into it.
#[inline(always)]
pub fn measure(skb: *mut __sk_buff, network: u32) -> Packet {
    // SAFETY: fields that every skb program may read.
    let (len, segments, size) = unsafe { ((*skb).len, (*skb).gso_segs, (*skb).gso_size) };
    let mut packet = Packet {
        bytes: u64::from(len),
        frames: 1,
        header_bytes: 0,
    };
    if size == 0 {
        return packet;
    }
    let Some(transport) = headers(skb, network) else {
        return packet;
    };
    let header = network + transport;
    let payload = len.saturating_sub(header);
    // A virtual NIC may hand over a buffer without saying how many segments it holds.
    let segments = if segments != 0 {
        segments
    } else {
        payload.div_ceil(size)
    };
    if segments > 1 {
        packet.frames = u64::from(segments);
        packet.header_bytes = u64::from(segments - 1) * u64::from(header);
    }
    packet
}

/// Length of the network and transport headers. `None` if they can't be read.
#[inline(always)]
fn headers(skb: *mut __sk_buff, network: u32) -> Option<u32> {
    let first = byte(skb, network)?;
    let (length, protocol) = match first >> 4 {
        4 => (u32::from(first & 0xf) * 4, byte(skb, network + 9)?),
        6 => (IPV6_HEADER, byte(skb, network + 6)?),
        _ => return None,
    };
    if protocol == IPPROTO_TCP {
        let offset = byte(skb, network + length + 12)? >> 4;
        Some(length + u32::from(offset) * 4)
    } else {
        Some(length + UDP_HEADER)
    }
}

#[inline(always)]
fn byte(skb: *mut __sk_buff, offset: u32) -> Option<u8> {
    let mut value = 0u8;
    // SAFETY: the helper checks the offset; one byte fits.
    let status = unsafe {
        bpf_skb_load_bytes(
            skb.cast::<core::ffi::c_void>(),
            offset,
            (&raw mut value).cast(),
            1,
        )
    };
    (status == 0).then_some(value)
}
