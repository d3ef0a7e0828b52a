//! Several things at once, where they wait in the kernel for most of their time.

use std::{
    panic::resume_unwind,
    thread::{self, ScopedJoinHandle},
};

/// Does one thing on a thread of its own while the other is done here. A panic of either goes on
/// here.
pub fn join_threads<A: Send, B>(
    there: impl FnOnce() -> A + Send,
    here: impl FnOnce() -> B,
) -> (A, B) {
    thread::scope(|scope| {
        let there = scope.spawn(there);
        let here = here();
        (joined(there), here)
    })
}

/// What a thread made. Its panic goes on here.
pub fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}
