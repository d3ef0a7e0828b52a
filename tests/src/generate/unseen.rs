//! Modes of bytes that not every backend of Flow sees, each counted separately.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    fcntl::{SpliceFFlags, splice},
    poll::PollFlags,
    sys::socket::{MsgFlags, recv},
};

use super::{
    Options, odd,
    tcp::{self, ZEROS},
    uring,
};
use crate::truth::{Blind, Feature, Tally};

/// More simultaneous receives than a kernel with few processors has return probes for.
const WAITING: usize = 64;

pub fn zerocopy_receive(options: &Options, tally: &Tally) -> Result<()> {
    let (mut near, far) = tcp::pair()?;
    let mut buffer = vec![0; ZEROS.len()];
    for number in 0..options.count as usize {
        let size = 1000 + number;
        tally.sent(near.write(&ZEROS[..size])?);
        let mut left = size;
        while left > 0 {
            tcp::wait(&far, PollFlags::POLLIN)?;
            let received = receive_zerocopy(&far, &mut buffer)?;
            tally.received(received);
            left = left
                .checked_sub(received)
                .context("more came than was sent")?;
        }
        tcp::pass(&far, &near, 10, tally)?;
    }
    Ok(())
}

/// The part of `struct tcp_zerocopy_receive` that is used.
#[repr(C)]
#[derive(Default)]
struct ZerocopyReceive {
    address: u64,
    length: u32,
    recv_skip_hint: u32,
    inq: u32,
    err: i32,
    copybuf_address: u64,
    copybuf_len: i32,
    flags: u32,
}

/// Receives with `TCP_ZEROCOPY_RECEIVE`. The kernel copies what is not a whole page.
pub fn receive_zerocopy(socket: &TcpStream, buffer: &mut [u8]) -> Result<usize> {
    let mut request = ZerocopyReceive {
        copybuf_address: buffer.as_mut_ptr() as u64,
        copybuf_len: i32::try_from(buffer.len())?,
        ..ZerocopyReceive::default()
    };
    let mut length = size_of::<ZerocopyReceive>() as libc::socklen_t;
    // SAFETY: both lengths are correct, and the buffer outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_ZEROCOPY_RECEIVE,
            (&raw mut request).cast(),
            &raw mut length,
        )
    };
    Errno::result(result).context("TCP_ZEROCOPY_RECEIVE")?;
    ensure!(request.length == 0, "pages were mapped at no address");
    usize::try_from(request.copybuf_len)
        .map_err(|_| Errno::from_raw(-request.copybuf_len))
        .context("TCP_ZEROCOPY_RECEIVE copied nothing")
}

/// Threads that all wait in a receive when the first bytes arrive.
pub fn many_waiting(_: &Options, tally: &Tally) -> Result<()> {
    let pairs = (0..WAITING)
        .map(|_| tcp::pair())
        .collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let (sender, ids) = mpsc::channel();
        let mut readers = Vec::new();
        for (_, far) in &pairs {
            let sender = sender.clone();
            readers.push(scope.spawn(move || {
                sender.send(nix::unistd::gettid().as_raw())?;
                let received = { far }.read(&mut [0; 1000])?;
                tally.received_unseen(Blind::ReturnProbesExhausted, received);
                // Its next call reveals that the return of this one was missed.
                tcp::wait(far, PollFlags::POLLIN)?;
                tcp::receive(&mut { far }, tally)?;
                Ok(())
            }));
        }
        for _ in &pairs {
            odd::wait_until_asleep(ids.recv().context("a reader did not start")?)?;
        }
        for (number, (near, _)) in pairs.iter().enumerate() {
            tally.sent({ near }.write(&ZEROS[..100 + number])?);
        }
        for (near, far) in &pairs {
            // The waiting reader takes these before there is more.
            while unread(far)? > 0 {
                thread::yield_now();
            }
            tally.sent({ near }.write(&ZEROS[..10])?);
            near.shutdown(Shutdown::Write)?;
        }
        readers.into_iter().try_for_each(tcp::join)
    })
}

fn unread(socket: &TcpStream) -> Result<i32> {
    let mut bytes = 0;
    // SAFETY: FIONREAD writes an int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    Errno::result(result).context("FIONREAD")?;
    Ok(bytes)
}

/// A kTLS connection: received by calls, then spliced into a pipe.
pub fn ktls(options: &Options, tally: &Tally) -> Result<()> {
    if start_tls(&tcp::pair()?.0) == Err(Errno::ENOENT) {
        tally.lacks(Feature::Ktls);
        return Ok(());
    }
    let (near, far) = tcp::pair()?;
    let mut ring = uring::ring()?;
    let mut by_ring = |bytes: usize| -> Result<()> {
        tally.sent({ &near }.write(&ZEROS[..bytes])?);
        tally.received(uring::receive_some(
            &mut ring,
            far.as_raw_fd(),
            &mut vec![0; bytes],
        )?);
        Ok(())
    };
    // Before it is one of kTLS, and after.
    by_ring(100)?;
    for socket in [&near, &far] {
        start_tls(socket).context("kTLS")?;
    }
    by_ring(900)?;
    tcp::pass(&near, &far, options.bytes, tally)?;
    tcp::pass(&far, &near, options.bytes / 2, tally)?;
    let (read, write) = nix::unistd::pipe().context("pipe")?;
    let sink = File::create("/dev/null")?;
    for _ in 0..options.count {
        tally.sent({ &near }.write(&ZEROS[..2000])?);
        let mut left = 2000;
        while left > 0 {
            let received = splice(&far, None, &write, None, left, SpliceFFlags::empty())
                .context("splice from the socket")?;
            ensure!(received > 0, "the connection ended");
            tally.received_unseen(Blind::SpliceFromTls, received);
            left -= received;
            let mut filled = received;
            while filled > 0 {
                filled -= splice(&read, None, &sink, None, filled, SpliceFFlags::empty())
                    .context("splice into /dev/null")?;
            }
        }
    }
    Ok(())
}

/// Enables kTLS for a connection, with a fixed key.
fn start_tls(socket: &TcpStream) -> nix::Result<()> {
    const TLS_TX: libc::c_int = 1;
    const TLS_RX: libc::c_int = 2;
    /// `struct tls12_crypto_info_aes_gcm_128`: version, cipher, then iv, key, salt and number.
    #[repr(C)]
    struct Crypto {
        version: u16,
        cipher: u16,
        secrets: [u8; 8 + 16 + 4 + 8],
    }
    let crypto = Crypto {
        version: 0x0303,
        cipher: 51,
        secrets: [0; 36],
    };
    set(socket, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls")?;
    for direction in [TLS_TX, TLS_RX] {
        // SAFETY: the structure has no padding, so all its bytes are initialised.
        let bytes = unsafe {
            std::slice::from_raw_parts((&raw const crypto).cast::<u8>(), size_of::<Crypto>())
        };
        set(socket, libc::SOL_TLS, direction, bytes)?;
    }
    Ok(())
}

fn set(socket: &impl AsFd, level: i32, option: i32, value: &[u8]) -> nix::Result<()> {
    // SAFETY: the length is that of the option's value.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}

/// A socket whose bytes a program in the kernel takes and drops, so that no call returns them.
pub fn kernel_reader(options: &Options, tally: &Tally) -> Result<()> {
    let (near, far) = tcp::pair()?;
    tcp::pass(&near, &far, 1000, tally)?;
    let map = SocketMap::dropping()?;
    map.insert(&far)?;
    for _ in 0..options.count {
        tally.sent({ &near }.write(&ZEROS[..500])?);
        // What it acknowledged and nobody can receive, the kernel has read.
        while unsent(&near)? > 0 {
            thread::yield_now();
        }
        tally.received_unseen(Blind::KernelReaders, 500);
    }
    let left = recv(far.as_raw_fd(), &mut [0; 10], MsgFlags::MSG_DONTWAIT);
    ensure!(left == Err(Errno::EAGAIN), "the kernel left {left:?}");
    tcp::pass(&far, &near, 700, tally)
}

/// Bytes that the far end has not acknowledged.
fn unsent(socket: &TcpStream) -> Result<i32> {
    let mut bytes = 0;
    // SAFETY: SIOCOUTQ writes an int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    Errno::result(result).context("SIOCOUTQ")?;
    Ok(bytes)
}

/// A BPF map of sockets (sockmap) with a program that drops what they receive.
struct SocketMap {
    map: OwnedFd,
    _program: OwnedFd,
}

impl SocketMap {
    fn dropping() -> Result<Self> {
        const MAP_CREATE: libc::c_long = 0;
        const PROG_LOAD: libc::c_long = 5;
        const PROG_ATTACH: libc::c_long = 8;
        const SOCKMAP: u32 = 15;
        const SK_SKB: u32 = 14;
        const STREAM_VERDICT: u32 = 5;
        // return SK_DROP, which is 0
        const CODE: [u64; 2] = [0xb7, 0x95];
        let mut attributes = Attributes::default();
        attributes.put(0, &[SOCKMAP, 4, 4, 1]);
        let map = attributes.call(MAP_CREATE).context("making a sockmap")?;
        // SAFETY: the kernel has just created the descriptor for this process.
        let map = unsafe { OwnedFd::from_raw_fd(map) };
        let mut attributes = Attributes::default();
        attributes.put(0, &[SK_SKB, CODE.len() as u32]);
        attributes.put_address(8, CODE.as_ptr().cast());
        attributes.put_address(16, c"GPL".as_ptr().cast());
        let program = attributes.call(PROG_LOAD).context("loading a program")?;
        // SAFETY: as above.
        let program = unsafe { OwnedFd::from_raw_fd(program) };
        let mut attributes = Attributes::default();
        attributes.put(
            0,
            &[
                map.as_raw_fd() as u32,
                program.as_raw_fd() as u32,
                STREAM_VERDICT,
            ],
        );
        attributes
            .call(PROG_ATTACH)
            .context("attaching to a sockmap")?;
        Ok(Self {
            map,
            _program: program,
        })
    }

    fn insert(&self, socket: &TcpStream) -> Result<()> {
        const MAP_UPDATE: libc::c_long = 2;
        let (key, value) = (0_u32, socket.as_raw_fd() as u32);
        let mut attributes = Attributes::default();
        attributes.put(0, &[self.map.as_raw_fd() as u32]);
        attributes.put_address(8, (&raw const key).cast());
        attributes.put_address(16, (&raw const value).cast());
        attributes
            .call(MAP_UPDATE)
            .context("a socket into a sockmap")?;
        Ok(())
    }
}

/// `union bpf_attr`; unused fields are zero.
#[repr(C, align(8))]
struct Attributes([u8; 128]);

impl Default for Attributes {
    fn default() -> Self {
        Self([0; 128])
    }
}

impl Attributes {
    fn put(&mut self, at: usize, numbers: &[u32]) {
        for (number, place) in numbers.iter().zip(self.0[at..].chunks_exact_mut(4)) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
    }

    fn put_address(&mut self, at: usize, address: *const u8) {
        self.0[at..at + 8].copy_from_slice(&(address as u64).to_ne_bytes());
    }

    fn call(&self, command: libc::c_long) -> nix::Result<i32> {
        // SAFETY: the length is that of the attributes; what they point to outlives the call.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_ptr(), self.0.len()) };
        Errno::result(result).map(|fd| fd as i32)
    }
}
