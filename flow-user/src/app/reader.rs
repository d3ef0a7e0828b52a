//! Detects that the reader of standard output is gone, also while there is nothing to write.

use std::{
    future::pending,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, SockType, SockaddrLike as _, SockaddrStorage, getsockname, getsockopt,
            sockopt,
        },
        stat::{SFlag, fstat},
    },
    unistd::isatty,
};
use rustix::event::{
    PollFd, PollFlags, Timespec,
    epoll::{self, CreateFlags, EventData, EventFlags},
    poll,
};
use tokio::io::{Interest, unix::AsyncFd};

/// The reader of standard output. Its end can be noticed if that is a pipe, a socket or a terminal.
#[derive(Debug)]
pub struct Reader(Option<Watched>);

/// A separate epoll: tokio's would also wake for room to write and for input, which do not mean the
/// end.
#[derive(Debug)]
struct Watched {
    epoll: AsyncFd<OwnedFd>,
    /// Another descriptor of the same file, so that nothing else closes it.
    file: OwnedFd,
    end: End,
}

/// How the end of a file's reader is noticed.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Events that wake the epoll, besides EPOLLHUP and EPOLLERR, which always do.
    wakes: EventFlags,
    /// Events of poll(2) that mean the end.
    reports: PollFlags,
}

impl Reader {
    /// The reader of standard output. Must be called within the runtime.
    pub fn of_stdout() -> Self {
        Self::of(io::stdout().as_fd())
    }

    /// The reader of a file.
    pub fn of(file: BorrowedFd<'_>) -> Self {
        Self(Watched::new(file))
    }

    /// A reader whose end cannot be noticed.
    #[cfg(test)]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Waits until the reader is gone; for ever if that cannot be noticed.
    pub async fn gone(&self) {
        match &self.0 {
            Some(watched) if watched.ended().await.is_ok() => {}
            _ => pending().await,
        }
    }
}

impl Watched {
    /// Absent if the reader's end cannot be noticed.
    fn new(file: BorrowedFd<'_>) -> Option<Self> {
        let end = End::of(file)?;
        let file = file.try_clone_to_owned().ok()?;
        let epoll = epoll::create(CreateFlags::CLOEXEC).ok()?;
        epoll::add(&epoll, &file, EventData::new_u64(0), end.wakes).ok()?;
        // SAFETY: `OwnedFd` keeps one descriptor open for as long as it lives, and nothing replaces
        // it.
        let epoll = unsafe { AsyncFd::register_with_interest(epoll, Interest::READABLE) }.ok()?;
        Some(Self { epoll, file, end })
    }

    async fn ended(&self) -> io::Result<()> {
        loop {
            let mut ready = self.epoll.readable().await?;
            // Consumes the event, so that it does not wake again.
            let mut event = [MaybeUninit::uninit()];
            epoll::wait(self.epoll.get_ref(), &mut event, Some(&Timespec::default()))?;
            if has_any(self.file.as_fd(), self.end.reports) {
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}

impl End {
    /// Absent for regular files and devices, whose readers are unknown.
    fn of(file: BorrowedFd<'_>) -> Option<Self> {
        let hangs_up = Self {
            wakes: EventFlags::empty(),
            reports: PollFlags::ERR | PollFlags::HUP,
        };
        let mode = SFlag::from_bits_truncate(fstat(file).ok()?.st_mode) & SFlag::S_IFMT;
        match mode {
            SFlag::S_IFIFO => Some(hangs_up),
            // When a serial line hangs up, the kernel wakes only waiters for EPOLLIN or EPOLLOUT
            // (tty_ldisc_hangup). Typed input wakes as well, once because of EPOLLET.
            SFlag::S_IFCHR if is_terminal(file) => Some(Self {
                wakes: EventFlags::IN | EventFlags::ET,
                ..hangs_up
            }),
            SFlag::S_IFSOCK => Self::of_socket(file, hangs_up),
            _ => None,
        }
    }

    fn of_socket(file: BorrowedFd<'_>, hangs_up: Self) -> Option<Self> {
        let kind = getsockopt(&file, sockopt::SockType).ok()?;
        let address: SockaddrStorage = getsockname(file.as_raw_fd()).ok()?;
        match (kind, address.family()) {
            // A peer that only shut down its writing side still reads; a closed one hangs up.
            (SockType::Stream | SockType::SeqPacket, Some(AddressFamily::Unix)) => Some(hangs_up),
            // TCP sends a FIN in both cases, so they cannot be distinguished.
            (SockType::Stream | SockType::SeqPacket, _) => Some(Self {
                wakes: EventFlags::RDHUP,
                reports: hangs_up.reports | PollFlags::RDHUP,
            }),
            _ => None,
        }
    }
}

/// A terminal that has hung up no longer answers.
fn is_terminal(file: BorrowedFd<'_>) -> bool {
    matches!(isatty(file), Ok(true) | Err(Errno::EIO))
}

/// Whether poll(2) reports any of these now.
fn has_any(file: BorrowedFd<'_>, flags: PollFlags) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(file, flags & PollFlags::RDHUP)];
    let result = poll(&mut polled, Some(&Timespec::default()));
    result.is_ok() && polled[0].revents().intersects(flags)
}

/// Whether a write failed because the reader is gone.
pub fn is_gone(error: &io::Error, file: BorrowedFd<'_>) -> bool {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => true,
        // A terminal that hung up reports EIO; so does a failing disk.
        _ if error.raw_os_error() == Some(libc::EIO) => has_any(file, PollFlags::HUP),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Write as _, pipe},
        net::{Shutdown, TcpListener, TcpStream},
        os::unix::net::UnixStream,
        time::Duration,
    };

    use nix::pty::openpty;
    use tokio::time::timeout;

    use super::*;

    /// Longer than any machine takes; too short for a test that waits in vain.
    const SOON: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(50);

    async fn is_gone_soon(reader: &Reader) -> bool {
        timeout(SOON, reader.gone()).await.is_ok()
    }

    async fn stays(reader: &Reader) -> bool {
        timeout(SHORT, reader.gone()).await.is_err()
    }

    #[tokio::test]
    async fn a_closed_pipe_is_noticed_before_and_while_waiting() {
        let (read, write) = pipe().unwrap();
        let reader = Reader::of(write.as_fd());
        assert!(stays(&reader).await);
        let second = read.try_clone().unwrap();
        drop(read);
        assert!(stays(&reader).await, "another still reads");
        let closes = async {
            tokio::time::sleep(SHORT).await;
            drop(second);
        };
        let (gone, ()) = tokio::join!(is_gone_soon(&reader), closes);
        assert!(gone);
        assert!(is_gone_soon(&reader).await, "asked again");
        assert!(is_gone_soon(&Reader::of(write.as_fd())).await, "found gone");
    }

    #[tokio::test]
    async fn a_full_pipe_has_a_reader() {
        let (mut read, mut write) = pipe().unwrap();
        write.write_all(&[0; 65_536]).unwrap();
        let reader = Reader::of(write.as_fd());
        assert!(stays(&reader).await);
        read.read_exact(&mut [0; 65_536]).unwrap();
        assert!(stays(&reader).await);
        drop(read);
        assert!(is_gone_soon(&reader).await);
    }

    #[tokio::test]
    async fn a_local_socket_is_read_until_it_is_closed() {
        let (mut far, near) = UnixStream::pair().unwrap();
        let reader = Reader::of(near.as_fd());
        far.write_all(b"not for Flow").unwrap();
        assert!(stays(&reader).await);
        far.shutdown(Shutdown::Write).unwrap();
        assert!(stays(&reader).await, "it sends no more, and reads on");
        drop(far);
        assert!(is_gone_soon(&reader).await);
    }

    #[tokio::test]
    async fn a_remote_that_closes_is_noticed() {
        for reset in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut far, _) = listener.accept().unwrap();
            let reader = Reader::of(near.as_fd());
            far.write_all(b"not for Flow").unwrap();
            assert!(stays(&reader).await);
            if reset {
                // Closing with unread data sends RST.
                (&near).write_all(b"x").unwrap();
                far.set_read_timeout(Some(SOON)).unwrap();
                far.peek(&mut [0]).unwrap();
            }
            drop(far);
            assert!(is_gone_soon(&reader).await, "reset: {reset}");
        }
    }

    #[tokio::test]
    async fn a_terminal_that_hangs_up_is_noticed() {
        let terminal = openpty(None, None).unwrap();
        let reader = Reader::of(terminal.slave.as_fd());
        let mut keyboard = File::from(terminal.master);
        keyboard.write_all(b"typed\n").unwrap();
        assert!(stays(&reader).await);
        drop(keyboard);
        assert!(is_gone_soon(&reader).await);
        let error = File::from(terminal.slave.try_clone().unwrap())
            .write(b"x")
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert!(is_gone(&error, terminal.slave.as_fd()));
        let found = Reader::of(terminal.slave.as_fd());
        assert!(is_gone_soon(&found).await, "found gone");
        let disk = tempfile::tempfile().unwrap();
        assert!(!is_gone(&error, disk.as_fd()), "a disk fails otherwise");
    }

    #[tokio::test]
    async fn files_and_devices_never_hang_up() {
        let file = tempfile::tempfile().unwrap();
        let null = File::options().write(true).open("/dev/null").unwrap();
        for file in [file, null] {
            assert!(stays(&Reader::of(file.as_fd())).await);
        }
    }
}
