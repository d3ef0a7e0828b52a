//! Reads of the kernel's memory without a call, where the kernel has `bpf_rdonly_cast` (from 6.2).
//!
//! Programs call a helper that no kernel has; here those calls become calls of the kernel's
//! function, which the verifier replaces by a move. aya does not link functions of the kernel.

use flow_common::CAST_CALL;
use zerocopy::IntoBytes as _;

use super::{
    btf::Btf,
    trial::{self, KERNEL_FUNCTION, Outcome, call, set},
};

/// The kernel's function that casts an address, and the types to which it casts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    function: u32,
    /// BTF id of a structure of 16 bytes.
    pub pair: u32,
    /// BTF id of `struct sock_common`.
    pub socket: u32,
}

impl Cast {
    /// `None` where the kernel has no such function, or refuses programs that call it.
    pub fn of(btf: &Btf) -> Option<Self> {
        let cast = Self {
            function: btf.function("bpf_rdonly_cast")?.type_id,
            pair: btf.structure("in6_addr")?,
            socket: btf.structure("sock_common")?,
        };
        let is_whole = btf.member("in6_addr", "in6_u.u6_addr8")?.byte_size == 16;
        let outcome = trial::casts(cast.function, cast.pair);
        if outcome != Outcome::Works {
            log::info!("the kernel's memory is read by calls: {outcome:?}");
        }
        (is_whole && outcome == Outcome::Works).then_some(cast)
    }
}

/// The object with calls of the kernel's function in place of those of [`CAST_CALL`], in words: its
/// headers must be aligned.
pub fn linked(object: &[u8], cast: Option<Cast>) -> Vec<u64> {
    let placeholder = call(0, CAST_CALL);
    // The verifier sees that programs do not come to a call of nothing.
    let linked = cast.map_or(set(0, 0), |cast| {
        call(KERNEL_FUNCTION, cast.function.cast_signed())
    });
    let mut words = vec![0; object.len().div_ceil(size_of::<u64>())];
    words.as_mut_bytes()[..object.len()].copy_from_slice(object);
    for word in &mut words {
        if *word == placeholder {
            *word = linked;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAST: Cast = Cast {
        function: 0x0102_0304,
        pair: 7,
        socket: 8,
    };

    #[test]
    fn only_the_placeholder_is_replaced() {
        let mut object = vec![0x85, 0, 0, 0, 1, 0, 0, 0];
        object.extend(call(0, CAST_CALL).to_ne_bytes());
        object.extend([1, 2, 3]);
        let words = linked(&object, Some(CAST));
        let expected = call(KERNEL_FUNCTION, 0x0102_0304).to_ne_bytes();
        assert_eq!(words.as_bytes()[..8], object[..8]);
        assert_eq!(words.as_bytes()[8..16], expected);
        assert_eq!(words.as_bytes()[16..], [1, 2, 3, 0, 0, 0, 0, 0]);
        assert_eq!(linked(&object, None)[1], set(0, 0));
    }
}
