//! Standard streams that were closed when Flow started.
//!
//! Rust's runtime opens `/dev/null` in their place, so that no other file gets their descriptors.
//! Output would be lost silently, so the closed streams are recorded before the runtime starts.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Records whether standard output is closed. Runs from the program's `.init_array`, before Rust's
/// runtime.
pub extern "C" fn note() {
    // SAFETY: reads the flags of a descriptor; one that is not open is an error.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    STDOUT_CLOSED.store(flags == -1, Ordering::Relaxed);
}

/// Whether standard output can be written to.
///
/// # Errors
/// It was closed when Flow started.
pub fn check_stdout() -> io::Result<()> {
    if STDOUT_CLOSED.load(Ordering::Relaxed) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    Ok(())
}
