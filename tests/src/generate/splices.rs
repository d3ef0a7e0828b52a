//! Modes of streams that are read with receive calls and without.

use std::{
    fs::File,
    io::{Write as _, pipe},
    net::{Shutdown, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    fcntl::{SpliceFFlags, splice},
    poll::PollFlags,
    sys::socket::{MsgFlags, recv, send},
};

use super::{
    Options,
    processes::{in_child, wait_for},
    tcp::{self, Request, ZEROS},
    unseen::receive_zerocopy,
    uring, wait_for_go,
};
use crate::truth::Tally;

/// So many bytes find room in a socket's buffers.
const FITS_BUFFERS: usize = 30_000;

/// How bytes are taken from a stream.
#[derive(Clone, Copy, Debug)]
enum Way {
    Receive,
    /// Looked at first.
    Peek,
    Splice,
    ZeroCopy,
    Uring,
    /// Spliced by a worker thread of io_uring.
    UringSplice,
}

const WAYS: [Way; 6] = [
    Way::Splice,
    Way::Receive,
    Way::UringSplice,
    Way::Peek,
    Way::Uring,
    // Takes all that waits.
    Way::ZeroCopy,
];
/// Those that take a part of what waits.
const PARTLY: &[Way] = WAYS.split_at(5).0;

/// Reads from streams in any way.
struct Reader {
    read: OwnedFd,
    write: OwnedFd,
    sink: File,
    ring: io_uring::IoUring,
    buffer: Vec<u8>,
}

impl Reader {
    fn new() -> Result<Self> {
        let (read, write) = pipe()?;
        Ok(Self {
            read: read.into(),
            write: write.into(),
            sink: File::create("/dev/null")?,
            ring: uring::ring()?,
            buffer: vec![0; ZEROS.len()],
        })
    }

    /// Takes at most `wanted` bytes; 0 at the end.
    fn take(&mut self, from: &TcpStream, way: Way, wanted: usize, tally: &Tally) -> Result<usize> {
        let wanted = wanted.min(65_536);
        let socket = from.as_raw_fd();
        let buffer = &mut self.buffer[..wanted];
        let taken = match way {
            Way::Receive => recv(socket, buffer, MsgFlags::empty())?,
            Way::Peek => {
                recv(socket, buffer, MsgFlags::MSG_PEEK)?;
                recv(socket, buffer, MsgFlags::empty())?
            }
            Way::ZeroCopy => {
                tcp::wait(from, PollFlags::POLLIN)?;
                receive_zerocopy(from, buffer)?
            }
            Way::Uring => uring::receive_some(&mut self.ring, socket, buffer)?,
            Way::Splice => splice(from, None, &self.write, None, wanted, SpliceFFlags::empty())?,
            Way::UringSplice => {
                uring::splice(&mut self.ring, socket, self.write.as_raw_fd(), wanted)?
            }
        };
        tally.received(taken);
        if matches!(way, Way::Splice | Way::UringSplice) {
            let mut left = taken;
            while left > 0 {
                left -= splice(
                    &self.read,
                    None,
                    &self.sink,
                    None,
                    left,
                    SpliceFFlags::empty(),
                )?;
            }
        }
        Ok(taken)
    }

    /// Takes `bytes` bytes.
    fn take_all(&mut self, from: &TcpStream, way: Way, bytes: usize, tally: &Tally) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            let taken = self.take(from, way, left, tally)?;
            ensure!(taken > 0, "the connection ended");
            left -= taken;
        }
        Ok(())
    }
}

fn write_all(mut to: &TcpStream, bytes: usize, tally: &Tally) -> Result<()> {
    let sent = to.write(&ZEROS[..bytes])?;
    ensure!(sent == bytes, "a write of which only a part was sent");
    tally.sent(sent);
    Ok(())
}

/// Every way in turn, on connections of which each begins with another and ends with another.
pub fn mixed(options: &Options, tally: &Tally) -> Result<()> {
    let mut reader = Reader::new()?;
    for (first, last) in WAYS.into_iter().enumerate() {
        let (near, far) = tcp::pair()?;
        let ways = WAYS.iter().cycle().skip(first);
        for (number, way) in ways.take(options.count as usize).enumerate() {
            write_all(&near, 1000 + number, tally)?;
            reader
                .take_all(&far, *way, 1000 + number, tally)
                .with_context(|| format!("{way:?}"))?;
        }
        near.shutdown(Shutdown::Write)?;
        let end = match last {
            // It fails where there is nothing to map.
            Way::ZeroCopy => Way::Splice,
            way => way,
        };
        ensure!(
            reader.take(&far, end, 10, tally)? == 0,
            "more than was sent"
        );
    }
    Ok(())
}

/// The same in bulk, from the far end.
pub fn bulk(options: &Options, tally: &Tally) -> Result<()> {
    let mut reader = Reader::new()?;
    let stream = tcp::connect(options.peer()?, Request::Source(options.bytes), tally)?;
    stream.shutdown(Shutdown::Write)?;
    for way in [Way::Splice, Way::Receive, Way::Uring, Way::UringSplice]
        .iter()
        .cycle()
    {
        if reader.take(&stream, *way, 65_536, tally)? == 0 {
            return Ok(());
        }
    }
    bail!("the ways came to an end")
}

/// Connections that several processes read, one after the other and each in any way.
pub fn shared(options: &Options, tally: &Tally) -> Result<()> {
    let (near, far) = tcp::pair()?;
    let mut reader = Reader::new()?;
    for round in 0..options.count as usize {
        let way = |step: usize| PARTLY[(round + step) % PARTLY.len()];
        write_all(&near, 3000, tally)?;
        reader.take_all(&far, way(0), 500, tally)?;
        let child = in_child(&options.mode, |tally| {
            let mut reader = Reader::new()?;
            reader.take_all(&far, way(1), 700, tally)?;
            reader.take_all(&far, way(2), 800, tally)
        })?;
        wait_for(child)?;
        reader.take_all(&far, way(3), 1000, tally)?;
    }
    Ok(())
}

/// Connections that were opened, and read in part, before Flow started.
pub fn before(options: &Options, tally: &Tally) -> Result<()> {
    let mut reader = Reader::new()?;
    let uncounted = Tally::default();
    let mut pairs = Vec::new();
    for (number, way) in PARTLY.iter().enumerate() {
        let (near, far) = tcp::pair()?;
        write_all(&near, 5000, &uncounted)?;
        reader.take_all(&far, *way, 3000 + number, &uncounted)?;
        // The end has come, and waits behind the rest.
        let is_over = number % 2 == 1;
        if is_over {
            near.shutdown(Shutdown::Write)?;
        }
        pairs.push((near, far, 2000 - number, is_over));
    }
    wait_for_go()?;
    for (near, far, waiting, is_over) in pairs {
        reader.take_all(&far, Way::Splice, waiting, tally)?;
        let mut left = if is_over { 0 } else { options.bytes as usize };
        while left > 0 {
            let part = left.min(FITS_BUFFERS);
            write_all(&near, part, tally)?;
            reader.take_all(&far, Way::UringSplice, part, tally)?;
            left -= part;
        }
    }
    Ok(())
}

/// Urgent bytes between splices, all of which somebody receives.
pub fn urgent(options: &Options, tally: &Tally) -> Result<()> {
    let (near, far) = tcp::pair()?;
    let mut reader = Reader::new()?;
    for _ in 0..options.count {
        write_all(&near, 100, tally)?;
        reader.take_all(&far, Way::Splice, 60, tally)?;
        tally.sent(send(near.as_raw_fd(), b"!", MsgFlags::MSG_OOB).context("urgent send")?);
        tcp::wait(&far, PollFlags::POLLPRI)?;
        let received = recv(far.as_raw_fd(), &mut [0], MsgFlags::MSG_OOB);
        tally.received(received.context("urgent recv")?);
        write_all(&near, 100, tally)?;
        reader.take_all(&far, Way::Splice, 40, tally)?;
        // A splice does not read past the urgent byte.
        reader.take_all(&far, Way::Receive, 50, tally)?;
        reader.take_all(&far, Way::Splice, 50, tally)?;
    }
    Ok(())
}
