//! The clock of records: nanoseconds since boot (`CLOCK_BOOTTIME`).

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;

/// Nanoseconds since boot.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}
