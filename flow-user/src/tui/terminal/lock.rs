//! Serialises writes to the terminal: pages while Flow has taken it over, other output while it has
//! not.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Whether the terminal is taken over, for all threads.
pub struct ScreenLock {
    state: Mutex<State>,
    written: Condvar,
}

struct State {
    phase: Phase,
    /// A page is being written.
    writes: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Free,
    /// Switching to the alternate screen; no page may be written yet.
    Entering,
    Taken,
}

impl ScreenLock {
    pub const fn new() -> Self {
        let state = State {
            phase: Phase::Free,
            writes: false,
        };
        Self {
            state: Mutex::new(state),
            written: Condvar::new(),
        }
    }

    pub fn is_taken(&self) -> bool {
        self.state().phase != Phase::Free
    }

    /// Takes over the terminal by calling `enter`; pages may be written after it.
    pub fn take<T>(&self, enter: impl FnOnce() -> T) -> T {
        self.state().phase = Phase::Entering;
        let entered = enter();
        let mut state = self.state();
        // Another thread may have panicked meanwhile.
        if state.phase == Phase::Entering {
            state.phase = Phase::Taken;
        }
        entered
    }

    /// Writes a page; `None` where the terminal has been given back: the page would land on the
    /// shell's screen.
    pub fn write<T>(&self, write: impl FnOnce() -> T) -> Option<T> {
        {
            let mut state = self.state();
            if state.phase != Phase::Taken {
                return None;
            }
            state.writes = true;
        }
        let written = write();
        self.state().writes = false;
        self.written.notify_all();
        Some(written)
    }

    /// Releases the terminal: no page is begun from here on, and one in progress is waited for, no
    /// longer than `patience`. False if it was not taken.
    pub fn release(&self, patience: Duration) -> bool {
        let mut state = self.state();
        let was_taken = state.phase != Phase::Free;
        state.phase = Phase::Free;
        if was_taken {
            // A terminal that accepts no output gets the rest of a page when it resumes.
            drop(
                self.written
                    .wait_timeout_while(state, patience, |state| state.writes),
            );
        }
        was_taken
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn pages_are_written_only_on_a_screen_of_their_own() {
        let lock = ScreenLock::new();
        assert_eq!(lock.write(|| 1), None);
        lock.take(|| {
            assert!(lock.is_taken());
            assert_eq!(lock.write(|| 2), None);
        });
        assert_eq!(lock.write(|| 3), Some(3));
        assert!(lock.release(LONG));
        assert!(!lock.release(LONG));
        assert_eq!(lock.write(|| 4), None);
        // A thread that panics gives it back while another takes it.
        lock.take(|| assert!(lock.release(LONG)));
        assert_eq!(lock.write(|| 5), None);
    }

    #[test]
    fn a_page_on_its_way_is_waited_for_before_the_terminal_is_given_back() {
        let lock = ScreenLock::new();
        lock.take(|| ());
        let (begun, begins) = mpsc::channel();
        let (go, went) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let page = scope.spawn(|| {
                lock.write(move || {
                    begun.send(()).unwrap();
                    // Until the sender is dropped.
                    let _ = went.recv();
                })
            });
            begins.recv().unwrap();
            // A page that is never accepted delays the release only for a limited time.
            assert!(lock.release(Duration::from_millis(1)));
            lock.take(|| ());
            let (released, releases) = mpsc::channel();
            let lock = &lock;
            let given_back = scope.spawn(move || {
                assert!(lock.release(LONG));
                released.send(()).unwrap();
            });
            while lock.is_taken() {
                thread::yield_now();
            }
            assert_eq!(releases.try_recv(), Err(mpsc::TryRecvError::Empty));
            drop(go);
            assert_eq!(page.join().unwrap(), Some(()));
            given_back.join().unwrap();
            releases.recv().unwrap();
        });
    }
}
