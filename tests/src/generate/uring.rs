//! Modes of io_uring: the kernel may send and receive after the call that requested it has
//! returned.

use std::{
    io,
    net::Shutdown,
    os::fd::{AsRawFd as _, RawFd},
};

use anyhow::{Context as _, Result};
use io_uring::{IoUring, cqueue, opcode, squeue, types::Fd};

use super::{
    Options,
    tcp::{self, Request, ZEROS},
};
use crate::truth::Tally;

/// Most bytes of one operation.
const CHUNK: usize = 64 << 10;

pub fn tcp(options: &Options, tally: &Tally) -> Result<()> {
    let stream = tcp::connect(options.peer()?, Request::Source(options.bytes), tally)?;
    let mut ring = ring()?;
    let socket = stream.as_raw_fd();
    let mut ways = [Way::AtOnce, Way::ByWorker, Way::ZeroCopy]
        .into_iter()
        .cycle();
    let mut left = options.bytes as usize;
    while left > 0 {
        let way = ways.next().unwrap_or(Way::AtOnce);
        let sent = send(&mut ring, socket, left.min(CHUNK), way)?;
        tally.sent(sent);
        left -= sent;
    }
    stream.shutdown(Shutdown::Write)?;
    loop {
        let way = ways.next().unwrap_or(Way::AtOnce);
        let received = receive(&mut ring, socket, way)?;
        tally.received(received);
        if received == 0 {
            return Ok(());
        }
    }
}

/// How an operation runs.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// During submission.
    AtOnce,
    /// In a worker thread of the kernel.
    ByWorker,
    /// Zero copy; a receive copies all the same.
    ZeroCopy,
}

impl Way {
    fn flags(self) -> squeue::Flags {
        match self {
            Self::ByWorker => squeue::Flags::ASYNC,
            Self::AtOnce | Self::ZeroCopy => squeue::Flags::empty(),
        }
    }
}

fn send(ring: &mut IoUring, socket: RawFd, bytes: usize, way: Way) -> Result<usize> {
    let (socket, data, bytes) = (Fd(socket), ZEROS.as_ptr(), bytes as u32);
    let operation = match way {
        Way::ZeroCopy => opcode::SendZc::new(socket, data, bytes).build(),
        Way::AtOnce | Way::ByWorker => opcode::Send::new(socket, data, bytes).build(),
    };
    // SAFETY: the sent bytes are static.
    unsafe { run(ring, operation.flags(way.flags())) }.context("a send of io_uring")
}

fn receive(ring: &mut IoUring, socket: RawFd, way: Way) -> Result<usize> {
    let mut buffer = vec![0; CHUNK];
    let operation = opcode::Recv::new(Fd(socket), buffer.as_mut_ptr(), CHUNK as u32).build();
    // SAFETY: the buffer outlives the operation, which has ended when the call returns.
    unsafe { run(ring, operation.flags(way.flags())) }.context("a receive of io_uring")
}

/// A queue of operations.
pub fn ring() -> Result<IoUring> {
    IoUring::new(8).context("io_uring_setup")
}

/// Receives what fits in a buffer, while it is submitted.
pub fn receive_some(ring: &mut IoUring, socket: RawFd, buffer: &mut [u8]) -> Result<usize> {
    let operation = opcode::Recv::new(Fd(socket), buffer.as_mut_ptr(), buffer.len() as u32).build();
    // SAFETY: the buffer outlives the operation, which is over when the call returns.
    unsafe { run(ring, operation) }.context("a receive of io_uring")
}

/// Splices from a socket into a pipe, which a worker thread of the kernel's does.
pub fn splice(ring: &mut IoUring, socket: RawFd, pipe: RawFd, bytes: usize) -> Result<usize> {
    let operation = opcode::Splice::new(Fd(socket), -1, Fd(pipe), -1, bytes as u32).build();
    // SAFETY: it points to nothing.
    unsafe { run(ring, operation) }.context("a splice of io_uring")
}

/// Runs one operation to its end and returns its result.
///
/// # Safety
/// What the operation points to must live until then.
unsafe fn run(ring: &mut IoUring, operation: squeue::Entry) -> Result<usize> {
    // SAFETY: guaranteed by the caller.
    unsafe { ring.submission().push(&operation) }.context("no room in the queue")?;
    let mut result = None;
    let mut is_over = false;
    while !is_over {
        ring.submit_and_wait(1).context("io_uring_enter")?;
        for entry in ring.completion() {
            // The result of a zero-copy send is followed by a notification that the buffer is free.
            if !cqueue::notif(entry.flags()) {
                result = Some(entry.result());
            }
            is_over = !cqueue::more(entry.flags());
        }
    }
    let result = result.context("an operation without a result")?;
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result).into())
}
