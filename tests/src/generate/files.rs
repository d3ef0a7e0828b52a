//! Modes where bytes pass between a socket and a file or pipe without visiting the process.

use std::{fs::File, io::Write, os::fd::AsFd};

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{SpliceFFlags, splice};

use super::{
    Options,
    tcp::{self, Request, ZEROS},
};
use crate::truth::{Tally, Way};

pub fn sendfile(options: &Options, tally: &Tally) -> Result<()> {
    let mut file = tempfile::tempfile()?;
    // Sent again and again, so that a small machine can hold it; no multiple of a page.
    let size = options.bytes.min(1_000_003);
    for start in (0..size).step_by(ZEROS.len()) {
        file.write_all(&ZEROS[..(size - start).min(ZEROS.len() as u64) as usize])?;
    }
    let stream = tcp::connect(options.peer()?, Request::Sink, tally)?;
    let mut left = options.bytes;
    while left > 0 {
        let (mut offset, wanted) = (0, left.min(size) as usize);
        let sent = nix::sys::sendfile::sendfile(&stream, &file, Some(&mut offset), wanted)
            .context("sendfile")?;
        ensure!(sent > 0, "sendfile sent nothing");
        tally.sent(sent);
        left -= sent as u64;
    }
    tcp::finish(stream, tally)
}

pub fn splice_out(options: &Options, tally: &Tally) -> Result<()> {
    let stream = tcp::connect(options.peer()?, Request::Sink, tally)?;
    let (read, write) = nix::unistd::pipe().context("pipe")?;
    let mut left = options.bytes;
    while left > 0 {
        // What a pipe holds by default.
        let wanted = left.min(65_536) as usize;
        let mut filled = nix::unistd::write(&write, &ZEROS[..wanted]).context("write to a pipe")?;
        while filled > 0 {
            let sent = splice(
                read.as_fd(),
                None,
                &stream,
                None,
                filled,
                SpliceFFlags::empty(),
            )
            .context("splice into the socket")?;
            tally.sent(sent);
            filled -= sent;
            left -= sent as u64;
        }
    }
    tcp::finish(stream, tally)
}

pub fn splice_in(options: &Options, tally: &Tally) -> Result<()> {
    let stream = tcp::connect(options.peer()?, Request::Source(options.bytes), tally)?;
    let (read, write) = nix::unistd::pipe().context("pipe")?;
    let sink = File::create("/dev/null")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    loop {
        let received = splice(&stream, None, &write, None, 65_536, SpliceFFlags::empty())
            .context("splice from the socket")?;
        tally.received_by(Way::SpliceFromSocket, received);
        if received == 0 {
            return Ok(());
        }
        let mut left = received;
        while left > 0 {
            left -= splice(&read, None, &sink, None, left, SpliceFFlags::empty())
                .context("splice into /dev/null")?;
        }
    }
}
