//! Packets that IPsec decrypted. Wire bytes are of what the wire carried, so these count as they
//! came.
//!
//! On the way out cgroup_skb sees a packet once it is encrypted (`xfrm_output` comes before
//! `ip_finish_output`), on the way in once it is decrypted. What its headers and padding had been
//! follows from the state that decrypted it.

use aya_ebpf::bindings::__sk_buff;

use crate::{
    bytes,
    kernel::{
        AEAD_ICV_BITS, AUTH_ICV_BITS, Address, EXTENSIONS_OFFSET, READS_SEC_PATH,
        SEC_PATH_EXTENSION, SEC_PATH_LENGTH, SEC_PATH_STATES, SKB_ACTIVE_EXTENSIONS,
        SKB_EXTENSIONS, XFRM_AEAD, XFRM_AUTH, XFRM_HEADER, XFRM_MODE, XFRM_TRAILER, follow, read,
    },
    packet::Packet,
};

/// `XFRM_MODE_TRANSPORT`
const TRANSPORT: u8 = 0;
/// Bytes of ESP's trailer: how long the padding is, and the next header.
const TRAILER: u32 = 2;
const POINTER: u64 = 8;
/// Extensions of a packet are placed in units of so many bytes (`SKB_EXT_ALIGN_VALUE`).
const EXTENSION_UNIT: u64 = 8;
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;

/// The path of states that decrypted a packet; `None` of one that was not encrypted.
#[inline(always)]
fn sec_path(skb: *mut __sk_buff) -> Option<Address> {
    if READS_SEC_PATH.load() == 0 {
        return None;
    }
    let base = skb as Address;
    let number = u64::from(SEC_PATH_EXTENSION.load());
    let active = read::<u8>(base, &SKB_ACTIVE_EXTENSIONS)?;
    if active >> (number & 7) & 1 == 0 {
        return None;
    }
    let extensions = follow(base, &SKB_EXTENSIONS)?;
    let offset = read::<u8>(extensions.wrapping_add(number), &EXTENSIONS_OFFSET)?;
    Some(extensions.wrapping_add(u64::from(offset) * EXTENSION_UNIT))
}

/// Whether a packet was decrypted.
#[inline(always)]
pub fn is_decrypted(skb: *mut __sk_buff) -> bool {
    sec_path(skb).is_some()
}

/// A packet that a socket receives, as it came: encrypted.
#[inline(always)]
pub fn as_it_came(skb: *mut __sk_buff, packet: Packet) -> Packet {
    let Some(path) = sec_path(skb) else {
        return packet;
    };
    let length = read::<u32>(path, &SEC_PATH_LENGTH).unwrap_or(0);
    let is_ipv4 = bytes::byte(skb, 0, 0).unwrap_or(0) >> 4 == 4;
    let header = if is_ipv4 { IPV4_HEADER } else { IPV6_HEADER };
    // The buffer's segments, of which all but the last are as long as the first.
    let (frames, bytes) = (packet.frames, packet.bytes + packet.header_bytes);
    // SAFETY: a field that the program may read.
    let size = u64::from(unsafe { (*skb).gso_size });
    let (mut first, mut last) = if frames > 1 {
        let repeated = packet.header_bytes / (frames - 1);
        let first = repeated + size;
        (first, bytes.saturating_sub(first * (frames - 1)))
    } else {
        (bytes, bytes)
    };
    // Of several transformations, such as ESP within AH, the innermost.
    let state = path.wrapping_add(u64::from(length.saturating_sub(1)) * POINTER);
    let cover = follow(state, &SEC_PATH_STATES).and_then(Cover::of);
    if let Some(cover) = cover {
        first = cover.around(first, header);
        last = cover.around(last, header);
    }
    Packet {
        buffers: frames,
        bytes: first * (frames - 1) + last,
        frames,
        header_bytes: 0,
        segment: 0,
        is_unusual: packet.is_unusual,
        is_batch: false,
    }
}

/// What a state puts around a packet.
struct Cover {
    is_transport: bool,
    /// Bytes in front: of the outer IP header, of ESP's or AH's, and of what comes with it.
    front: u32,
    /// Bytes behind the padding; 0 of AH, which has none.
    icv: u32,
    /// What the payload and ESP's trailer are padded to a multiple of; 0 of AH.
    block: u32,
}

impl Cover {
    #[inline(always)]
    fn of(state: Address) -> Option<Self> {
        let trailer = read::<u32>(state, &XFRM_TRAILER)?;
        let icv = if trailer == 0 {
            0
        } else if let Some(aead) = follow(state, &XFRM_AEAD) {
            read::<u32>(aead, &AEAD_ICV_BITS)? / 8
        } else if let Some(auth) = follow(state, &XFRM_AUTH) {
            read::<u32>(auth, &AUTH_ICV_BITS)? / 8
        } else {
            0
        };
        Some(Self {
            is_transport: read::<u8>(state, &XFRM_MODE)? == TRANSPORT,
            front: read::<u32>(state, &XFRM_HEADER)?,
            icv,
            // `esp_init_aead`: the trailer is at most a block, less one, and two bytes, and the
            // check value.
            block: if trailer == 0 {
                0
            } else {
                trailer.saturating_sub(icv + 1)
            },
        })
    }

    /// Bytes of a packet of so many once it is within this; its own IP header has `header` bytes.
    #[inline(always)]
    fn around(&self, bytes: u64, header: u32) -> u64 {
        let mut length = bytes;
        if self.block != 0 {
            let block = u64::from(self.block);
            let outside = if self.is_transport {
                u64::from(header)
            } else {
                0
            };
            let inside = bytes.saturating_sub(outside) + u64::from(TRAILER);
            // A power of two, as all of the kernel's ciphers have.
            let padded = (inside + block - 1) & !(block - 1);
            length = outside + padded;
        }
        length + u64::from(self.front) + u64::from(self.icv)
    }
}
