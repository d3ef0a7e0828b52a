//! What the kernel side says about itself, where it was built to: `FLOW_LOG=debug` shows it.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

/// Passes the kernel side's messages on to this program's log, as long as the runtime runs.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn follow(ebpf: &mut Ebpf) {
    let logger = match EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        Err(error) => return log::warn!("no messages of the kernel side: {error}"),
    };
    // SAFETY: the logger owns its one descriptor, and keeps it until it is dropped.
    let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = match logger {
        Ok(logger) => logger,
        Err(error) => return log::warn!("cannot wait for the kernel side's messages: {error:?}"),
    };
    tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
}
