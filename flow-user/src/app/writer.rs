//! A thread that writes to standard output or a file, so that a slow reader delays neither the
//! engine nor the handling of signals.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
};

use super::{End, EndSignals, Failure, output, reader::Reader};

/// The handle of the thread, which ends when this is dropped and everything is written, or when the
/// reader is gone.
///
/// The thread is not joined: one that is blocked in a write ends with the program.
pub struct Writer {
    chunks: mpsc::Sender<Bytes>,
    ended: oneshot::Receiver<thread::Result<io::Result<()>>>,
    reader: Reader,
}

impl Writer {
    /// Starts the thread for standard output. At most one chunk waits while another is being
    /// written. Must be called within the runtime.
    pub fn start() -> Self {
        Self::to(Reader::of_stdout(), output::write)
    }

    /// As [`Self::start`], for any output; `write` returns whether it still has a reader.
    pub fn to(
        reader: Reader,
        mut write: impl FnMut(&[u8]) -> io::Result<bool> + Send + 'static,
    ) -> Self {
        let (chunks, mut waiting) = mpsc::channel::<Bytes>(1);
        let (report, ended) = oneshot::channel();
        thread::spawn(move || {
            let all = || {
                while let Some(chunk) = waiting.blocking_recv() {
                    if !write(&chunk)? {
                        break;
                    }
                }
                Ok(())
            };
            // Unwind safe: `write` is not used again.
            let result = catch_unwind(AssertUnwindSafe(all));
            // The program may have ended meanwhile.
            let _ = report.send(result);
        });
        Self {
            chunks,
            ended,
            reader,
        }
    }

    /// Waits until the writer can take a chunk; `None` if the reader is gone.
    pub async fn place(&self) -> Option<mpsc::Permit<'_, Bytes>> {
        self.chunks.reserve().await.ok()
    }

    /// A place for a chunk if there is one now.
    pub fn place_now(&self) -> Option<mpsc::Permit<'_, Bytes>> {
        self.chunks.try_reserve().ok()
    }

    /// Whether the writer can take a chunk now.
    pub fn has_place(&self) -> bool {
        self.chunks.capacity() > 0
    }

    /// Waits until the reader is gone, also while there is nothing to write, or until writing
    /// failed; [`Self::finish`] returns which.
    pub async fn closed(&self) {
        tokio::select! {
            () = self.chunks.closed() => {}
            () = self.reader.gone() => {}
        }
        // A terminal that hangs up sends SIGHUP before its end is visible here: handle that first.
        yield_now().await;
    }

    /// Sends a chunk; false if the reader is gone.
    pub async fn send(&self, chunk: impl Into<Bytes>) -> bool {
        tokio::select! {
            biased;
            sent = self.chunks.send(chunk.into()) => sent.is_ok(),
            () = self.reader.gone() => false,
        }
    }

    /// Waits until everything is written, or the reader is gone.
    ///
    /// # Errors
    /// Writing failed.
    ///
    /// # Panics
    /// The thread panicked: its panic continues here.
    pub async fn finish(self) -> io::Result<()> {
        let Self {
            chunks,
            ended,
            reader,
        } = self;
        drop(chunks);
        let ended = tokio::select! {
            biased;
            ended = ended => ended,
            // A write to a remote that no longer reads may block for ever.
            () = reader.gone() => return Ok(()),
        };
        result(ended)
    }

    /// Waits until the thread has ended, and returns why.
    ///
    /// # Panics
    /// The thread panicked: its panic continues here.
    pub async fn error(&mut self) -> io::Error {
        let ended = (&mut self.ended).await;
        let result = result(ended);
        result
            .err()
            .unwrap_or_else(|| io::Error::other("the reader is gone"))
    }

    /// As [`Self::finish`], for a command that ends with `end`. Another signal ends the wait for a
    /// slow reader.
    ///
    /// # Errors
    /// Not everything could be written.
    pub async fn finish_unless_ended(
        self,
        signals: &mut EndSignals,
        end: End,
    ) -> Result<End, Failure> {
        self.finish_unless(signals.wait(), end).await
    }

    async fn finish_unless(
        self,
        signal: impl Future<Output = End>,
        end: End,
    ) -> Result<End, Failure> {
        tokio::select! {
            result = self.finish() => result.map(|()| end).map_err(Failure::Output),
            end = signal => Ok(end),
        }
    }
}

/// How the thread ended.
fn result(
    ended: Result<thread::Result<io::Result<()>>, oneshot::error::RecvError>,
) -> io::Result<()> {
    match ended {
        Ok(result) => result.unwrap_or_else(|panic| resume_unwind(panic)),
        Err(_) => Err(io::Error::other("the writing thread has ended")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        os::fd::AsFd as _,
        sync::{Arc, Mutex, mpsc as blocking},
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn one_chunk_waits_while_another_is_written() {
        let (go, went) = blocking::channel::<()>();
        let written = Arc::new(Mutex::new(Vec::new()));
        let copy = Arc::clone(&written);
        let writer = Writer::to(Reader::none(), move |chunk| {
            let _ = went.recv();
            copy.lock().unwrap().push(chunk.to_vec());
            Ok(true)
        });
        writer.place().await.unwrap().send(vec![1].into());
        // Once there is room again, the thread has the first.
        writer.place().await.unwrap().send(vec![2].into());
        assert!(writer.place_now().is_none());
        drop(go);
        writer.finish().await.unwrap();
        assert_eq!(*written.lock().unwrap(), [[1], [2]]);
    }

    #[tokio::test]
    async fn a_second_signal_ends_the_wait_for_a_reader_that_stalls() {
        let writer = Writer::to(Reader::none(), |_| {
            thread::sleep(Duration::from_secs(3600));
            Ok(true)
        });
        writer.send(vec![1]).await;
        let end = writer.finish_unless(ready(End::HungUp), End::Interrupted);
        let end = tokio::time::timeout(Duration::from_secs(60), end).await;
        assert_eq!(end.unwrap().unwrap(), End::HungUp);
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_reported_and_no_failure() {
        let writer = Writer::to(Reader::none(), |_| Ok(false));
        writer.send(vec![1]).await;
        writer.closed().await;
        assert!(writer.place_now().is_none());
        writer.finish().await.unwrap();
        let writer = Writer::to(Reader::none(), |_| Err(io::ErrorKind::StorageFull.into()));
        writer.send(vec![1]).await;
        writer.closed().await;
        let error = writer.finish().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[tokio::test]
    #[should_panic(expected = "of the writer")]
    async fn a_panic_of_the_thread_continues_in_finish() {
        let writer = Writer::to(Reader::none(), |_| panic!("of the writer"));
        writer.send(vec![1]).await;
        writer.closed().await;
        let _ = writer.finish().await;
    }

    #[tokio::test]
    async fn a_reader_that_leaves_is_noticed_without_anything_to_write() {
        let (read, write) = io::pipe().unwrap();
        let reader = Reader::of(write.as_fd());
        // A write that never ends.
        let writer = Writer::to(reader, |_| {
            loop {
                thread::park();
            }
        });
        assert!(writer.send(vec![1]).await && writer.send(vec![2]).await);
        drop(read);
        let end = async {
            writer.closed().await;
            assert!(!writer.send(vec![3]).await);
            writer.finish().await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(60), end)
            .await
            .unwrap();
    }
}
