//! Who may write to the terminal: pages while it is taken over, everybody else while it is not.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Whether the terminal is taken over, for all threads.
pub struct Hold {
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
    /// On the way to a screen of its own, where no page belongs yet.
    Entering,
    Taken,
}

impl Hold {
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

    /// Takes the terminal, with what that needs; pages may be written after it.
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

    /// Writes a page; `None` where there is no screen for it by now, since it would stand on the
    /// shell's.
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

    /// Lets go of the terminal: from here on no page begins to be written, and one that is being
    /// written is waited for, but not for longer than `patience`. False if it was not taken.
    pub fn release(&self, patience: Duration) -> bool {
        let mut state = self.state();
        let was_taken = state.phase != Phase::Free;
        state.phase = Phase::Free;
        if was_taken {
            // What is left of a page after that, a terminal that takes nothing gets when it goes
            // on.
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
        let hold = Hold::new();
        assert_eq!(hold.write(|| 1), None);
        hold.take(|| {
            assert!(hold.is_taken());
            assert_eq!(hold.write(|| 2), None);
        });
        assert_eq!(hold.write(|| 3), Some(3));
        assert!(hold.release(LONG));
        assert!(!hold.release(LONG));
        assert_eq!(hold.write(|| 4), None);
        // A thread that panics gives it back while another takes it.
        hold.take(|| assert!(hold.release(LONG)));
        assert_eq!(hold.write(|| 5), None);
    }

    #[test]
    fn a_page_on_its_way_is_waited_for_before_the_terminal_is_given_back() {
        let hold = Hold::new();
        hold.take(|| ());
        let (begun, begins) = mpsc::channel();
        let (go, went) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let page = scope.spawn(|| {
                hold.write(move || {
                    begun.send(()).unwrap();
                    // Until the sender is dropped.
                    let _ = went.recv();
                })
            });
            begins.recv().unwrap();
            // A page that is never taken keeps nobody for long.
            assert!(hold.release(Duration::from_millis(1)));
            hold.take(|| ());
            let (released, releases) = mpsc::channel();
            let hold = &hold;
            let given_back = scope.spawn(move || {
                assert!(hold.release(LONG));
                released.send(()).unwrap();
            });
            while hold.is_taken() {
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
