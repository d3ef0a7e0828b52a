//! The program behind a tun or tap: passes each packet to another such device, as a VPN or a
//! virtual machine does.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, PipeWriter, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::Path,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout},
    sys::stat::{Mode, SFlag, makedev, mknod},
};

use crate::live::tools;

/// The largest packet, and the header before it.
const LARGEST: usize = (1 << 17) + 64;
/// Offloads that the device may use: packets without checksums, and buffers of several segments.
const OFFLOADS: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;

/// A tun or tap that a program reads and writes.
#[derive(Clone, Copy, Debug)]
pub enum Device<'a> {
    Tun {
        netns: &'a str,
        name: &'a str,
    },
    Tap {
        netns: &'a str,
        name: &'a str,
    },
    /// It exists already.
    Macvtap {
        netns: &'a str,
        name: &'a str,
    },
}

/// Relays packets between two devices in both directions. Ends on drop.
#[derive(Debug)]
pub struct Relay {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    pub fn start(one: Device<'_>, other: Device<'_>) -> Result<Self> {
        let devices = [one.open()?, other.open()?];
        let (stopped, stop) = io::pipe().context("making a pipe")?;
        let carry = move || {
            let mut buffer = vec![0; LARGEST];
            // Its end is that of a device, which the test has removed.
            while wait(&devices, stopped.as_fd()).is_ok_and(|goes_on| goes_on)
                && pass(&devices[0], &devices[1], &mut buffer).is_ok()
                && pass(&devices[1], &devices[0], &mut buffer).is_ok()
            {}
        };
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread::spawn(carry)),
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It does not panic, and the test has its own result.
            let _ = thread.join();
        }
    }
}

/// Waits for a packet; returns whether to continue.
fn wait(devices: &[File; 2], stopped: BorrowedFd<'_>) -> Result<bool> {
    let mut fds = [devices[0].as_fd(), devices[1].as_fd(), stopped]
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    nix::poll::poll(&mut fds, PollTimeout::NONE).context("poll")?;
    let is_over = fds[2].any() == Some(true);
    let has_failed = fds.iter().any(|fd| {
        fd.revents()
            .is_some_and(|events| events.contains(PollFlags::POLLERR))
    });
    Ok(!is_over && !has_failed)
}

/// Relays what can be read.
fn pass(mut from: &File, mut to: &File, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        match from.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            // If the other device is not up yet, the packet is lost, as on any link.
            Ok(bytes) => drop(to.write(&buffer[..bytes])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

impl Device<'_> {
    fn open(self) -> Result<File> {
        let (file, name, kind) = match self {
            Self::Tun { netns, name } => {
                (open(netns, Path::new("/dev/net/tun"))?, name, libc::IFF_TUN)
            }
            Self::Tap { netns, name } => {
                (open(netns, Path::new("/dev/net/tun"))?, name, libc::IFF_TAP)
            }
            Self::Macvtap { netns, name } => (open_macvtap(netns, name)?, name, libc::IFF_TAP),
        };
        let flags = kind | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        // SAFETY: integers and pointers, for which zero is valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        ensure!(name.len() < request.ifr_name.len(), "{name} is too long");
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: the call reads and writes a request of this type.
        ensure_done("TUNSETIFF", unsafe {
            libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request)
        })?;
        // SAFETY: the call takes a number.
        ensure_done("TUNSETOFFLOAD", unsafe {
            libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, OFFLOADS)
        })?;
        Ok(file)
    }
}

fn ensure_done(call: &str, result: libc::c_int) -> Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()).context(call.to_owned()),
        _ => Ok(()),
    }
}

/// Opens a file for reading and writing as a process of a network namespace.
fn open(netns: &str, path: &Path) -> Result<File> {
    tools::within(Some(netns), || {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK);
        options
            .open(path)
            .with_context(|| format!("opening {}", path.display()))
    })
}

/// Opens the character device of a macvtap, by a device node of its own: names in `/dev` are shared
/// by all namespaces.
fn open_macvtap(netns: &str, name: &str) -> Result<File> {
    let show = format!("cat /sys/class/net/{name}/macvtap/*/dev");
    let text = tools::with_sysfs(netns, &show)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (major, minor) = text
        .trim()
        .split_once(':')
        .with_context(|| format!("{show} printed {text:?}"))?;
    let directory = tempfile::Builder::new().prefix("flow-live-").tempdir()?;
    let node = directory.path().join(name);
    let number = makedev(major.parse()?, minor.parse()?);
    mknod(&node, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, number).context("mknod")?;
    let file = open(netns, &node)?;
    fs::remove_file(&node).context("removing a device node")?;
    Ok(file)
}
