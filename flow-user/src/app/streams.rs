//! Standard streams that were closed when Flow started.
//!
//! Rust's runtime opens `/dev/null` in the place of each, so that no file of Flow's gets its
//! number. What is written there would be lost silently, so this is recorded before the runtime
//! starts.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Records what is closed. For the program's `.init_array`: later it is too late.
pub extern "C" fn note() {
    // SAFETY: asks for the flags of a descriptor, which may be none.
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
