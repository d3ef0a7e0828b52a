//! Bytes of a packet.

use core::ptr;

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};
use flow_common::protocol;

/// Protocols, as headers of IP name them.
pub const IPPROTO_TCP: u8 = protocol::TCP as u8;
pub const IPPROTO_UDP: u8 = protocol::UDP as u8;
/// Bytes of IPv4's header and of TCP's, without options.
const SHORTEST_HEADER: usize = 20;
/// Where the last header begins at most: behind those of the link and of IPv4 with options, or of
/// IPv6 with one extension. All ones, as a mask that the verifier understands.
const HEADERS_WITHIN: u32 = 0xff;

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
    let mut value = 0_u8;
    load(skb, header + index, &mut value).then_some(value)
}

/// What any bytes of a packet may be read as.
///
/// # Safety
/// Any bit pattern is a valid value, and all bytes are of it.
pub unsafe trait Plain {}

// SAFETY: an integer.
unsafe impl Plain for u8 {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an array has no padding between its items.
unsafe impl<T: Plain, const COUNT: usize> Plain for [T; COUNT] {}

/// Reads a packet from an offset on, wherever its bytes are, in the packet's byte order. Returns
/// whether it is long enough. Not an `Option`: of one that is `None` the compiler reads the bytes
/// nevertheless, which the verifier refuses.
#[inline(always)]
pub fn load<T: Plain>(skb: *mut __sk_buff, offset: u32, value: &mut T) -> bool {
    // SAFETY: the helper checks the offset; so many bytes fit, and any of them are a value.
    let status = unsafe {
        bpf_skb_load_bytes(
            skb.cast::<core::ffi::c_void>(),
            offset,
            ptr::from_mut(value).cast(),
            size_of::<T>() as u32,
        )
    };
    status == 0
}
