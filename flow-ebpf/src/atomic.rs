//! The one atomic operation that every BPF instruction set has.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

/// Adds to a counter that other CPUs add to as well.
///
/// # Safety
/// `counter` points to a live, aligned counter, such as one in a map's value.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, amount: u64) {
    // The result must stay unused: an add that fetches needs a later instruction set.
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, amount) };
}

/// As [`add`], one to a counter of 32 bits.
///
/// # Safety
/// As that of [`add`].
#[inline(always)]
pub unsafe fn increment(counter: *mut u32) {
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(counter, 1) };
}
