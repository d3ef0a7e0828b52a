//! What the kernel side and the user side must agree on: map keys and values, ring buffer
//! records, limits and causes of loss.
//!
//! Every struct here crosses the boundary as raw bytes. So each is `repr(C)`, has its padding
//! spelled out (map keys compare bytewise), and its size is asserted beside it.
#![no_std]

/// Declares types as [`Plain`], and to the loader's library as its kind of plain data.
macro_rules! plain {
    ($($type:ty),* $(,)?) => {$(
        // SAFETY: each type named is repr(C), of integers only, with its padding spelled out; the
        // size assertion beside it proves that there is no other.
        unsafe impl crate::Plain for $type {}
        #[cfg(feature = "user")]
        // SAFETY: as above.
        unsafe impl aya::Pod for $type {}
    )*};
}

pub mod interface;
pub mod limits;
pub mod loss;
mod members;
pub mod protocol;
pub mod record;
pub mod socket_id;
pub mod tcp_state;
pub mod traffic;

pub use interface::{
    Class, Direction, ForeignKey, InterfaceCounters, InterfaceKey, LinkLayout, PacketCount,
};
pub use loss::Loss;
pub use record::{RecordHeader, RecordKind};
pub use traffic::{AppCounters, AppKey, IpAddress, ProcessKey, SocketEntry};

/// A type that may be copied to and from the kernel byte by byte.
///
/// # Safety
/// The type is `repr(C)`, has no implicit padding, and every bit pattern of its size is a valid
/// value.
pub unsafe trait Plain: Copy + 'static {}
