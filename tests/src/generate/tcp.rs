//! Modes of plain TCP, and functions that other modes use.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd as _},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout},
    sys::socket::{setsockopt, sockopt},
};
use socket2::{Domain, Socket, Type};

use super::Options;
use crate::truth::Tally;

/// Most bytes moved by one call of the plain modes.
const CHUNK: usize = 128 << 10;
/// So few bytes always fit a socket's buffers, whether or not somebody reads.
const FITS_BUFFERS: u64 = 1000;
/// Longer than Flow keeps an ended socket.
pub const FORGOTTEN_AFTER: Duration = Duration::from_millis(400);
/// The payload of every mode; its content does not matter.
pub static ZEROS: [u8; CHUNK] = [0; CHUNK];

pub fn up(options: &Options, tally: &Tally) -> Result<()> {
    let mut stream = connect(options.peer()?, Request::Sink, tally)?;
    send(&mut stream, options.bytes, tally)?;
    finish(stream, tally)
}

pub fn down(options: &Options, tally: &Tally) -> Result<()> {
    let stream = connect(options.peer()?, Request::Source(options.bytes), tally)?;
    finish(stream, tally)
}

pub fn both(options: &Options, tally: &Tally) -> Result<()> {
    let stream = connect(options.peer()?, Request::Source(options.bytes), tally)?;
    send_and_drain(&stream, options.bytes, tally)
}

/// IPv6 hop-by-hop and destination options: headers of 8 and of 16 bytes.
pub fn options6(options: &Options, tally: &Tally) -> Result<()> {
    let mut stream = connect(options.peer()?, Request::Sink, tally)?;
    let hops: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];
    let mut destination = [0_u8; 16];
    // An experimental option (RFC 4727), as padding is 7 bytes at most.
    destination[..4].copy_from_slice(&[0, 1, 0x1e, 12]);
    for (option, header) in [
        (libc::IPV6_HOPOPTS, &hops[..]),
        (libc::IPV6_DSTOPTS, &destination[..]),
    ] {
        // SAFETY: the kernel copies as many bytes as are there.
        let status = unsafe {
            libc::setsockopt(
                stream.as_raw_fd(),
                libc::IPPROTO_IPV6,
                option,
                header.as_ptr().cast(),
                header.len() as libc::socklen_t,
            )
        };
        Errno::result(status).context("setsockopt")?;
    }
    send(&mut stream, options.bytes, tally)?;
    finish(stream, tally)
}

pub fn vectored(options: &Options, tally: &Tally) -> Result<()> {
    let mut stream = connect(options.peer()?, Request::Source(options.bytes), tally)?;
    let mut left = options.bytes as usize;
    while left > 0 {
        let part = (left / 3).clamp(1, 10_000).min(left);
        let parts = [
            IoSlice::new(&ZEROS[..part]),
            IoSlice::new(&[]),
            IoSlice::new(&ZEROS[..(left - part).min(part)]),
        ];
        let sent = stream.write_vectored(&parts)?;
        tally.sent(sent);
        left -= sent;
    }
    stream.shutdown(Shutdown::Write)?;
    let (mut first, mut second) = ([0; 1000], [0; 5000]);
    loop {
        let mut parts = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        let received = stream.read_vectored(&mut parts)?;
        tally.received(received);
        if received == 0 {
            return Ok(());
        }
    }
}

pub fn peek(options: &Options, tally: &Tally) -> Result<()> {
    let mut stream = connect(options.peer()?, Request::Source(options.bytes), tally)?;
    stream.shutdown(Shutdown::Write)?;
    let mut buffer = vec![0; 10_000];
    loop {
        // Peeked bytes are not moved, so they are not counted.
        let seen = stream.peek(&mut buffer)?;
        stream.peek(&mut buffer[..seen / 2])?;
        let received = stream.read(&mut buffer)?;
        ensure!(received >= seen, "read less than was seen by peeking");
        tally.received(received);
        if received == 0 {
            return Ok(());
        }
    }
}

pub fn nonblocking(options: &Options, tally: &Tally) -> Result<()> {
    let mut stream = connect(options.peer()?, Request::Sink, tally)?;
    setsockopt(&stream, sockopt::SndBuf, &16_384).context("SO_SNDBUF")?;
    stream.set_nonblocking(true)?;
    let chunk = vec![0; 1 << 20];
    let mut left = options.bytes.max(1 << 20) as usize;
    let (mut partial, mut failed) = (0, 0);
    // A fast far end makes room before the next call: then more calls are needed until one fails.
    while left > 0 || partial == 0 || failed == 0 {
        let wanted = if left == 0 {
            chunk.len()
        } else {
            left.min(chunk.len())
        };
        match stream.write(&chunk[..wanted]) {
            Ok(sent) => {
                tally.sent(sent);
                left = left.saturating_sub(sent);
                partial += usize::from(sent < wanted);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                failed += 1;
                wait(&stream, PollFlags::POLLOUT)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    stream.set_nonblocking(false)?;
    finish(stream, tally)
}

pub fn threads(options: &Options, tally: &Tally) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..options.count)
            .map(|_| scope.spawn(|| both(options, tally)))
            .collect();
        threads.into_iter().try_for_each(join)
    })
}

pub fn reset(options: &Options, tally: &Tally) -> Result<()> {
    let mut stream = connect(options.peer()?, Request::Sink, tally)?;
    send(&mut stream, options.bytes, tally)?;
    reset_on_close(&stream)
}

pub fn reset_by_peer(options: &Options, tally: &Tally) -> Result<()> {
    let mut stream = connect(options.peer()?, Request::Reset, tally)?;
    match receive(&mut stream, tally) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        other => bail!("expected the connection to be reset, got {other:?}"),
    }
}

pub fn refused(options: &Options, _: &Tally) -> Result<()> {
    let closed = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    for _ in 0..options.count {
        match TcpStream::connect(closed) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            other => bail!("expected the connection to be refused, got {other:?}"),
        }
    }
    Ok(())
}

/// Connections that fail: refused, from ports that the kernel or the program chose, and one that
/// nobody answers.
pub fn failed(options: &Options, tally: &Tally) -> Result<()> {
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let here = SocketAddr::new(ip, 0);
        let closed = TcpListener::bind(here)?.local_addr()?;
        for number in 0..options.count {
            let socket = Socket::new(Domain::for_address(here), Type::STREAM, None)?;
            if number % 2 == 1 {
                socket.bind(&here.into())?;
            }
            match socket.connect(&closed.into()) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                other => bail!("expected the connection to be refused, got {other:?}"),
            }
            // A failed call resets the address, but not the port.
            let port = local_of(&socket)?.port();
            tally.attempted(SocketAddr::new(ip, port), closed);
        }
        unanswered(here, tally)?;
    }
    Ok(())
}

/// The queue of a listener is full: it drops further requests.
fn unanswered(here: SocketAddr, tally: &Tally) -> Result<()> {
    let listener = Socket::new(Domain::for_address(here), Type::STREAM, None)?;
    listener.bind(&here.into())?;
    listener.listen(0)?;
    let full = local_of(&listener)?;
    let _first = TcpStream::connect(full)?;
    let second = Socket::new(Domain::for_address(here), Type::STREAM, None)?;
    second.set_nonblocking(true)?;
    match second.connect(&full.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        other => bail!("expected the connection to wait, got {other:?}"),
    }
    tally.attempted(local_of(&second)?, full);
    thread::sleep(FORGOTTEN_AFTER);
    Ok(())
}

fn local_of(socket: &Socket) -> Result<SocketAddr> {
    let local = socket.local_addr()?;
    local.as_socket().context("an address of another family")
}

/// What the near end requests of the far end for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read until its end.
    Sink,
    /// Send so many bytes while reading until its end.
    Source(u64),
    /// Reset it.
    Reset,
    /// End the worker that reads this.
    Quit,
}

impl Request {
    pub const BYTES: usize = 9;

    pub fn encode(self) -> [u8; Self::BYTES] {
        let (kind, amount) = match self {
            Self::Sink => (0, 0),
            Self::Source(bytes) => (1, bytes),
            Self::Reset => (2, 0),
            Self::Quit => (3, 0),
        };
        let mut bytes = [kind; Self::BYTES];
        bytes[1..].copy_from_slice(&u64::to_le_bytes(amount));
        bytes
    }

    /// Reads a request from a connection; `None` if that ended before.
    pub fn read(stream: &mut impl Read, tally: &Tally) -> Result<Option<Self>> {
        let mut bytes = [0; Self::BYTES];
        let mut filled = 0;
        while filled < bytes.len() {
            let received = stream.read(&mut bytes[filled..])?;
            tally.received(received);
            if received == 0 {
                return Ok(None);
            }
            filled += received;
        }
        let [kind, amount @ ..] = bytes;
        Ok(Some(match kind {
            0 => Self::Sink,
            1 => Self::Source(u64::from_le_bytes(amount)),
            2 => Self::Reset,
            3 => Self::Quit,
            _ => bail!("a request of unknown kind {kind}"),
        }))
    }
}

/// Connects and sends the request.
pub fn connect(peer: SocketAddr, request: Request, tally: &Tally) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(peer).with_context(|| format!("connecting to {peer}"))?;
    send_slice(&mut stream, &request.encode(), tally)?;
    Ok(stream)
}

/// Sends `bytes` bytes.
pub fn send(stream: &mut impl Write, bytes: u64, tally: &Tally) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let wanted = left.min(CHUNK as u64) as usize;
        let sent = stream.write(&ZEROS[..wanted])?;
        tally.sent(sent);
        left -= sent as u64;
    }
    Ok(())
}

fn send_slice(stream: &mut impl Write, slice: &[u8], tally: &Tally) -> io::Result<()> {
    let mut rest = slice;
    while !rest.is_empty() {
        let sent = stream.write(rest)?;
        tally.sent(sent);
        rest = &rest[sent..];
    }
    Ok(())
}

/// A socket that is refused first, and then connects.
pub fn again(options: &Options, tally: &Tally) -> Result<()> {
    let here = (Ipv4Addr::LOCALHOST, 0);
    let closed = TcpListener::bind(here)?.local_addr()?;
    let listener = TcpListener::bind(here)?;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    match socket.connect(&closed.into()) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        other => bail!("expected the connection to be refused, got {other:?}"),
    }
    socket.connect(&listener.local_addr()?.into())?;
    let (near, (far, _)) = (socket.into(), listener.accept()?);
    pass(&near, &far, options.bytes, tally)?;
    pass(&far, &near, options.bytes, tally)
}

/// Two ends of a connection on loopback.
pub fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    pair_of(&listener)
}

/// Two ends of a further connection of a listener.
pub fn pair_of(listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    Ok((near, far))
}

/// A connection on loopback whose bytes are read after its end.
pub fn late_reader(options: &Options, tally: &Tally) -> Result<()> {
    let (near, far) = pair()?;
    read_late(&near, far, options, tally)
}

/// Reads what the far end sent long after both ends have closed the connection.
pub fn read_late(
    near: &TcpStream,
    mut far: TcpStream,
    options: &Options,
    tally: &Tally,
) -> Result<()> {
    let bytes = options.bytes.min(FITS_BUFFERS);
    send(&mut far, bytes, tally)?;
    near.shutdown(Shutdown::Write)?;
    receive(&mut far, tally)?;
    drop(far);
    wait(near, PollFlags::POLLHUP)?;
    // This process cannot know when Flow would remove the connection.
    thread::sleep(FORGOTTEN_AFTER);
    receive_exactly(near, bytes, tally)
}

/// Moves `bytes` bytes between two ends of this process.
pub fn pass(mut from: &TcpStream, to: &TcpStream, bytes: u64, tally: &Tally) -> Result<()> {
    thread::scope(|scope| {
        let sender = scope.spawn(move || Ok(send(&mut from, bytes, tally)?));
        receive_exactly(to, bytes, tally)?;
        join(sender)
    })
}

/// Reads `bytes` bytes; an error if the stream ends before.
pub fn receive_exactly(mut stream: &TcpStream, bytes: u64, tally: &Tally) -> Result<()> {
    let (mut left, mut buffer) = (bytes, vec![0; CHUNK]);
    while left > 0 {
        let wanted = left.min(CHUNK as u64) as usize;
        let received = stream.read(&mut buffer[..wanted])?;
        ensure!(received > 0, "the connection ended");
        tally.received(received);
        left -= received as u64;
    }
    Ok(())
}

/// Reads until the end.
pub fn receive(stream: &mut impl Read, tally: &Tally) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let received = stream.read(&mut buffer)?;
        tally.received(received);
        if received == 0 {
            return Ok(());
        }
    }
}

/// Shuts down sending and reads until the far end has read everything and closed.
pub fn finish(mut stream: TcpStream, tally: &Tally) -> Result<()> {
    stream.shutdown(Shutdown::Write)?;
    receive(&mut stream, tally)?;
    Ok(())
}

/// Sends `bytes` bytes and reads until the end, both at once.
pub fn send_and_drain(stream: &TcpStream, bytes: u64, tally: &Tally) -> Result<()> {
    if bytes <= FITS_BUFFERS {
        send(&mut { stream }, bytes, tally)?;
        stream.shutdown(Shutdown::Write)?;
        return Ok(receive(&mut { stream }, tally)?);
    }
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            send(&mut { stream }, bytes, tally)?;
            stream.shutdown(Shutdown::Write)?;
            Ok(())
        });
        receive(&mut { stream }, tally)?;
        join(sender)
    })
}

/// Makes the next close send a RST instead of a FIN.
pub fn reset_on_close(stream: &TcpStream) -> Result<()> {
    let now = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(stream, sockopt::Linger, &now).context("SO_LINGER")
}

/// Waits until the descriptor is ready.
pub fn wait(fd: &impl AsFd, flags: PollFlags) -> Result<()> {
    nix::poll::poll(&mut [PollFd::new(fd.as_fd(), flags)], PollTimeout::NONE).context("poll")?;
    Ok(())
}

/// Result of a thread.
pub fn join(thread: thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
