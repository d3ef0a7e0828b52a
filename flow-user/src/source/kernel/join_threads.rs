//! Two things at once, where one waits in the kernel for most of its time.

use std::{panic::resume_unwind, thread};

/// Does one thing on a thread of its own while the other is done here. A panic of either goes on
/// here.
pub fn join_threads<A: Send, B>(
    there: impl FnOnce() -> A + Send,
    here: impl FnOnce() -> B,
) -> (A, B) {
    thread::scope(|scope| {
        let there = scope.spawn(there);
        let here = here();
        (
            there.join().unwrap_or_else(|panic| resume_unwind(panic)),
            here,
        )
    })
}
