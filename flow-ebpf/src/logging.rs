//! Messages for debugging the kernel side, where it is built with the feature `log`; nothing
//! otherwise.

/// As `aya_log_ebpf::debug`.
#[cfg(feature = "log")]
macro_rules! debug {
    ($($argument:tt)*) => { aya_log_ebpf::debug!((), $($argument)*) };
}

/// Only takes note that the arguments are used.
#[cfg(not(feature = "log"))]
macro_rules! debug {
    ($format:literal $(, $argument:expr)* $(,)?) => { $(let _ = &$argument;)* };
}

pub(crate) use debug;
