//! What the kernel side and the user side must agree on: map keys and values, ring buffer
//! records, limits and causes of loss.
//!
//! Every struct here crosses the boundary as raw bytes. So each is `repr(C)`, has its padding
//! spelled out (map keys compare bytewise), and its size is asserted beside it.
#![no_std]

/// Declares types as plain data for the loader's library. The derived traits prove that they are:
/// without padding, and any bytes are a value.
macro_rules! plain {
    ($($type:ty),* $(,)?) => {$(
        #[cfg(feature = "user")]
        const _: () = {
            const fn is_plain<T: zerocopy::FromBytes + zerocopy::IntoBytes + Copy + 'static>() {}
            is_plain::<$type>();
        };
        #[cfg(feature = "user")]
        // SAFETY: as proven above.
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

/// The number of a helper that no kernel has: programs call it where the loader puts a call of the
/// kernel's function that casts an address to a pointer (`bpf_rdonly_cast`), or nothing.
pub const CAST_CALL: i32 = 0x0ca5_7000;
