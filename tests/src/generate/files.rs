//! Modes in which bytes pass between a socket and a file or pipe without visiting the process.

use std::{fs::File, io::Write, os::fd::AsFd, thread};

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{SpliceFFlags, splice};

use super::{
    Options, mptcp,
    tcp::{self, Request, ZEROS},
    udp,
};
use crate::truth::Tally;

pub fn sendfile(options: &Options, tally: &Tally) -> Result<()> {
    let stream = tcp::connect(options.peer()?, Request::Sink, tally)?;
    send_file(&stream, options.bytes, tally)?;
    tcp::finish(stream, tally)
}

pub fn sendfile_mptcp(options: &Options, tally: &Tally) -> Result<()> {
    let (near, far) = mptcp::pair()?;
    thread::scope(|scope| {
        let receiver = scope.spawn(|| tcp::receive_exactly(&far, options.bytes, tally));
        send_file(&near, options.bytes, tally)?;
        tcp::join(receiver)
    })?;
    mptcp::close(near, far)
}

pub fn sendfile_udp(options: &Options, tally: &Tally) -> Result<()> {
    let socket = udp::connect(options.peer()?)?;
    let mut buffer = vec![0; 1 << 16];
    for size in [1, 1000, 5000, 12_000] {
        send_file(&socket, size, tally)?;
        // The kernel decides whether a call makes one datagram or several.
        let mut left = size as usize;
        while left > 0 {
            let received = socket.recv(&mut buffer).context("no echo")?;
            ensure!(received > 0, "an empty datagram");
            tally.received(received);
            left = left
                .checked_sub(received)
                .context("more came back than was sent")?;
        }
    }
    Ok(())
}

fn send_file(socket: &impl AsFd, bytes: u64, tally: &Tally) -> Result<()> {
    let mut file = tempfile::tempfile()?;
    // Sent repeatedly, so that it fits a small machine; not a multiple of a page.
    let size = bytes.min(1_000_003);
    for start in (0..size).step_by(ZEROS.len()) {
        file.write_all(&ZEROS[..(size - start).min(ZEROS.len() as u64) as usize])?;
    }
    let mut left = bytes;
    while left > 0 {
        let (mut offset, wanted) = (0, left.min(size) as usize);
        let sent = nix::sys::sendfile::sendfile(socket, &file, Some(&mut offset), wanted)
            .context("sendfile")?;
        ensure!(sent > 0, "sendfile sent nothing");
        tally.sent(sent);
        left -= sent as u64;
    }
    Ok(())
}

pub fn splice_out(options: &Options, tally: &Tally) -> Result<()> {
    let stream = tcp::connect(options.peer()?, Request::Sink, tally)?;
    let (read, write) = nix::unistd::pipe().context("pipe")?;
    let mut left = options.bytes;
    while left > 0 {
        // The default capacity of a pipe.
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
        tally.received(received);
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
