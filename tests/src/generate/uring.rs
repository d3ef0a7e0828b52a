//! Modes of io_uring: the kernel sends and receives when the call that asked for it may be over.

use std::{
    net::Shutdown,
    os::fd::{AsRawFd as _, RawFd},
};

use anyhow::{Context as _, Result, ensure};
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
    let mut ring = IoUring::new(8).context("io_uring_setup")?;
    let socket = stream.as_raw_fd();
    // Some run while they are submitted, some in a worker thread of the kernel's.
    let mut by_worker = [squeue::Flags::empty(), squeue::Flags::ASYNC]
        .into_iter()
        .cycle();
    let mut left = options.bytes as usize;
    while left > 0 {
        let flags = by_worker.next().unwrap_or(squeue::Flags::empty());
        let sent = send(&mut ring, socket, left.min(CHUNK), flags)?;
        tally.sent(sent);
        left -= sent;
    }
    stream.shutdown(Shutdown::Write)?;
    loop {
        let flags = by_worker.next().unwrap_or(squeue::Flags::empty());
        let received = receive(&mut ring, socket, flags)?;
        tally.received(received);
        if received == 0 {
            return Ok(());
        }
    }
}

fn send(ring: &mut IoUring, socket: RawFd, bytes: usize, flags: squeue::Flags) -> Result<usize> {
    let operation = opcode::Send::new(Fd(socket), ZEROS.as_ptr(), bytes as u32);
    // SAFETY: what it sends is static.
    unsafe { run(ring, operation.build().flags(flags)) }.context("a send of io_uring")
}

fn receive(ring: &mut IoUring, socket: RawFd, flags: squeue::Flags) -> Result<usize> {
    let mut buffer = vec![0; CHUNK];
    let operation = opcode::Recv::new(Fd(socket), buffer.as_mut_ptr(), CHUNK as u32);
    // SAFETY: the buffer outlives the operation, which is over when the call returns.
    unsafe { run(ring, operation.build().flags(flags)) }.context("a receive of io_uring")
}

/// Runs one operation to its end; what it returned.
///
/// # Safety
/// What the operation points to must live until then.
unsafe fn run(ring: &mut IoUring, operation: squeue::Entry) -> Result<usize> {
    // SAFETY: the caller's promise.
    unsafe { ring.submission().push(&operation) }.context("no room in the queue")?;
    ring.submit_and_wait(1).context("io_uring_enter")?;
    let done: Vec<_> = ring
        .completion()
        .map(|entry: cqueue::Entry| entry.result())
        .collect();
    ensure!(done.len() == 1, "{} operations ended", done.len());
    let result = nix::errno::Errno::result(done[0].max(-1));
    match result {
        Ok(bytes) => Ok(usize::try_from(bytes)?),
        Err(_) => Err(std::io::Error::from_raw_os_error(-done[0]).into()),
    }
}
