//! A thread that writes to standard output or a file, so that a slow reader never keeps the engine from
//! listening, nor a signal from being obeyed.

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

use super::{End, Ending, Failure, output, reader::Reader};

/// The way to the thread. It ends once everything is written and the value is gone, or nobody reads.
///
/// Nobody joins it: in a write that its reader never takes it ends with the program.
pub struct Writer {
    chunks: mpsc::Sender<Bytes>,
    ended: oneshot::Receiver<thread::Result<io::Result<()>>>,
    reader: Reader,
}

impl Writer {
    /// Starts the thread. One chunk at most waits while another is being written. Must be called
    /// within the runtime.
    pub fn start() -> Self {
        Self::to(Reader::of_stdout(), output::write)
    }

    /// As [`Self::start`], for another reader; `write` returns whether there still is a reader.
    pub fn to(
        reader: Reader,
        mut write: impl FnMut(&[u8]) -> io::Result<bool> + Send + 'static,
    ) -> Self {
        let (chunks, mut waiting) = mpsc::channel::<Bytes>(1);
        let (told, ended) = oneshot::channel();
        thread::spawn(move || {
            let all = || {
                while let Some(chunk) = waiting.blocking_recv() {
                    if !write(&chunk)? {
                        break;
                    }
                }
                Ok(())
            };
            // What it wrote with is not used again.
            let result = catch_unwind(AssertUnwindSafe(all));
            // The program may have ended meanwhile.
            let _ = told.send(result);
        });
        Self {
            chunks,
            ended,
            reader,
        }
    }

    /// Waits until the writer can take a chunk; `None` once nobody reads.
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
        // The signal of a terminal that hangs up comes before its end can be seen: it gets its turn
        // first.
        yield_now().await;
    }

    /// Hands over a chunk; false once nobody reads.
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
    /// It could not be.
    ///
    /// # Panics
    /// The thread did: its panic goes on here.
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
            // The wait for a remote that no longer reads would never end.
            () = reader.gone() => return Ok(()),
        };
        result(ended)
    }

    /// Waits until the thread has ended, and returns why.
    ///
    /// # Panics
    /// The thread did: its panic goes on here.
    pub async fn error(&mut self) -> io::Error {
        let ended = (&mut self.ended).await;
        let result = result(ended);
        result
            .err()
            .unwrap_or_else(|| io::Error::other("nobody reads"))
    }

    /// As [`Self::finish`], for a command that ends with `end`; told to end once more, it does not
    /// wait for a reader that does not read.
    ///
    /// # Errors
    /// Not everything could be written.
    pub async fn finish_unless_told(self, ending: &mut Ending, end: End) -> Result<End, Failure> {
        self.finish_unless(ending.wait(), end).await
    }

    async fn finish_unless(
        self,
        told: impl Future<Output = End>,
        end: End,
    ) -> Result<End, Failure> {
        tokio::select! {
            result = self.finish() => result.map(|()| end).map_err(Failure::Output),
            end = told => Ok(end),
        }
    }
}

/// What the thread ended with.
fn result(
    ended: Result<thread::Result<io::Result<()>>, oneshot::error::RecvError>,
) -> io::Result<()> {
    match ended {
        Ok(result) => result.unwrap_or_else(|panic| resume_unwind(panic)),
        Err(_) => Err(io::Error::other("the writer is gone")),
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
    async fn while_one_chunk_is_written_one_waits_and_more_find_no_place() {
        let (go, went) = blocking::channel::<()>();
        let written = Arc::new(Mutex::new(Vec::new()));
        let copy = Arc::clone(&written);
        let writer = Writer::to(Reader::none(), move |chunk| {
            let _ = went.recv();
            copy.lock().unwrap().push(chunk.to_vec());
            Ok(true)
        });
        writer.place().await.unwrap().send(vec![1].into());
        // Once there is a place again, the first is with the thread.
        writer.place().await.unwrap().send(vec![2].into());
        assert!(writer.place_now().is_none());
        drop(go);
        writer.finish().await.unwrap();
        assert_eq!(*written.lock().unwrap(), [[1], [2]]);
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_waited_for_when_told_to_end_again() {
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
    async fn the_end_of_reading_is_told_and_no_failure() {
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
    async fn a_panic_ends_the_writing_and_goes_on_where_that_is_heard() {
        let writer = Writer::to(Reader::none(), |_| panic!("of the writer"));
        writer.send(vec![1]).await;
        writer.closed().await;
        let _ = writer.finish().await;
    }

    #[tokio::test]
    async fn a_reader_that_goes_is_noticed_with_nothing_to_write() {
        let (read, write) = io::pipe().unwrap();
        let reader = Reader::of(write.as_fd());
        // Nothing is ever taken.
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
