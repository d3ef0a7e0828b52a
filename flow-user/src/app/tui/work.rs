//! Effects of the screen that may take time: each runs on a thread of its own, one at a time, so
//! that drawing never waits.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

use tokio::sync::mpsc;

/// Runs one job at a time, and returns its message.
pub struct Work {
    sender: mpsc::Sender<thread::Result<String>>,
    results: mpsc::Receiver<thread::Result<String>>,
    busy: bool,
}

/// Why a job was not started.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    #[error("still busy with the last action; try again")]
    Busy,
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

impl Work {
    pub fn new() -> Self {
        let (sender, results) = mpsc::channel(1);
        Self {
            sender,
            results,
            busy: false,
        }
    }

    /// Starts a job. Its thread is not joined: one that hangs ends with the program.
    ///
    /// # Errors
    /// Another job is running, or no thread can be started.
    pub fn start(
        &mut self,
        job: impl FnOnce() -> String + Send + 'static,
    ) -> Result<(), NotStarted> {
        if self.busy {
            return Err(NotStarted::Busy);
        }
        let sender = self.sender.clone();
        thread::Builder::new()
            .name("work".into())
            .spawn(move || {
                // Unwind safe: the job is not used again.
                let result = catch_unwind(AssertUnwindSafe(job));
                // The program may have ended meanwhile.
                let _ = sender.blocking_send(result);
            })
            .map_err(NotStarted::Thread)?;
        self.busy = true;
        Ok(())
    }

    /// Waits for the message of the job; for ever while none runs. Cancel safe.
    ///
    /// # Panics
    /// The job panicked: its panic continues here, so that the terminal is restored first.
    pub async fn result(&mut self) -> String {
        match self.results.recv().await {
            Some(result) => {
                self.busy = false;
                result.unwrap_or_else(|panic| resume_unwind(panic))
            }
            // Unreachable: `self` has a sender.
            None => std::future::pending().await,
        }
    }

    /// Waits until no job runs.
    pub async fn finish(mut self) {
        if self.busy {
            self.result().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as blocking;

    use super::*;

    #[tokio::test]
    async fn one_job_runs_at_a_time_and_each_returns_its_message() {
        let (go, went) = blocking::channel::<()>();
        let mut work = Work::new();
        let slow = move || {
            let _ = went.recv();
            "done".to_owned()
        };
        work.start(slow).unwrap();
        let second = work.start(|| "never".to_owned());
        assert!(matches!(second, Err(NotStarted::Busy)));
        drop(go);
        assert_eq!(work.result().await, "done");
        work.start(|| "again".to_owned()).unwrap();
        work.finish().await;
    }

    #[tokio::test]
    #[should_panic(expected = "of the job")]
    async fn a_panic_of_the_job_continues_where_its_result_is_awaited() {
        let mut work = Work::new();
        work.start(|| panic!("of the job")).unwrap();
        work.result().await;
    }
}
