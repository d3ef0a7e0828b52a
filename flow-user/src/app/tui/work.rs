//! What the screen asks for that may take a moment: done on a thread of its own, one thing at a time, so that
//! drawing never waits.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

use tokio::sync::mpsc;

/// Does one thing at a time, and says what came of it.
pub struct Work {
    told: mpsc::Sender<thread::Result<String>>,
    heard: mpsc::Receiver<thread::Result<String>>,
    busy: bool,
}

/// Why a thing was not begun.
#[derive(Debug, thiserror::Error)]
pub enum NotBegun {
    #[error("still busy with the last one; try again")]
    Busy,
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

impl Work {
    pub fn new() -> Self {
        let (told, heard) = mpsc::channel(1);
        Self {
            told,
            heard,
            busy: false,
        }
    }

    /// Begins a thing. Nobody joins its thread: one that hangs ends with the program.
    ///
    /// # Errors
    /// Something else is being done, or there is no thread for it.
    pub fn begin(&mut self, job: impl FnOnce() -> String + Send + 'static) -> Result<(), NotBegun> {
        if self.busy {
            return Err(NotBegun::Busy);
        }
        let told = self.told.clone();
        thread::Builder::new()
            .name("work".into())
            .spawn(move || {
                // Nothing of a job that panicked is used again.
                let result = catch_unwind(AssertUnwindSafe(job));
                // The program may have ended meanwhile.
                let _ = told.blocking_send(result);
            })
            .map_err(NotBegun::Thread)?;
        self.busy = true;
        Ok(())
    }

    /// Waits for what came of it; forever while there is nothing to do. Nothing is lost when the future is dropped.
    ///
    /// # Panics
    /// The thing did: its panic goes on here, since the terminal is given back by then.
    pub async fn told(&mut self) -> String {
        match self.heard.recv().await {
            Some(result) => {
                self.busy = false;
                result.unwrap_or_else(|panic| resume_unwind(panic))
            }
            // This value holds a sender itself.
            None => std::future::pending().await,
        }
    }

    /// Waits until nothing is being done.
    pub async fn finish(mut self) {
        if self.busy {
            self.told().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as blocking;

    use super::*;

    #[tokio::test]
    async fn one_thing_at_a_time_and_each_is_told() {
        let (go, went) = blocking::channel::<()>();
        let mut work = Work::new();
        let slow = move || {
            let _ = went.recv();
            "done".to_owned()
        };
        work.begin(slow).unwrap();
        let second = work.begin(|| "never".to_owned());
        assert!(matches!(second, Err(NotBegun::Busy)));
        drop(go);
        assert_eq!(work.told().await, "done");
        work.begin(|| "again".to_owned()).unwrap();
        work.finish().await;
    }

    #[tokio::test]
    #[should_panic(expected = "of the job")]
    async fn a_panic_goes_on_where_it_is_heard() {
        let mut work = Work::new();
        work.begin(|| panic!("of the job")).unwrap();
        work.told().await;
    }
}
