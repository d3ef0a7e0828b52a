//! The clsact qdisc that kernels without TCX need: what is on it, and taking it away.

use std::{fs::File, io};

use nix::fcntl::{Flock, FlockArg};

use crate::source::netlink::{Netlink, attributes};

/// Taken by each running Flow that has filters on a clsact qdisc.
const LOCK_FILE: &str = "/run/flow-classifiers.lock";

/// `TC_H_CLSACT`, and its ingress and egress sides.
const CLSACT: u32 = 0xffff_fff1;
const SIDES: [u32; 2] = [0xffff_fff2, 0xffff_fff3];

const TCA_KIND: u16 = 1;

/// Shared by every Flow whose filters are in place, held alone by the first: only then are all
/// filters that bear our programs' names left behind by a killed Flow.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
    /// Whether no other Flow runs.
    pub alone: bool,
}

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// The file cannot be made or locked.
    pub fn take() -> io::Result<Self> {
        let file = File::create(LOCK_FILE)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self {
                _file: file,
                alone: true,
            }),
            Err((file, _)) => Flock::lock(file, FlockArg::LockSharedNonblock)
                .map(|file| Self {
                    _file: file,
                    alone: false,
                })
                .or_else(|(file, _)| {
                    // The first one still holds it alone, for the moments of its start.
                    Flock::lock(file, FlockArg::LockShared)
                        .map(|file| Self {
                            _file: file,
                            alone: false,
                        })
                        .map_err(|(_, errno)| errno.into())
                }),
        }
    }

    /// Lets others start, once what was left behind is cleaned.
    ///
    /// # Errors
    /// The kernel refuses the lock.
    pub fn share(&mut self) -> io::Result<()> {
        self.alone = false;
        self._file
            .relock(FlockArg::LockSharedNonblock)
            .map_err(io::Error::from)
    }
}

/// Whether an interface has a clsact qdisc.
///
/// # Errors
/// What the kernel answered instead.
pub fn exists(ifindex: u32) -> io::Result<bool> {
    let mut netlink = Netlink::open(libc::NETLINK_ROUTE, 0)?;
    let found = netlink.dump(libc::RTM_GETQDISC, &request(ifindex, 0), |message| {
        let index = crate::source::netlink::u32_at(message.body, 4)?;
        let kind = attributes(message.body.get(20..)?)
            .find_map(|(kind, value)| (kind == TCA_KIND).then_some(value))?;
        (index == ifindex && kind.starts_with(b"clsact")).then_some(())
    })?;
    Ok(!found.is_empty())
}

/// Removes an interface's clsact qdisc if nobody's filter is on it.
///
/// # Errors
/// What the kernel answered instead.
pub fn remove_if_empty(ifindex: u32) -> io::Result<()> {
    let mut netlink = Netlink::open(libc::NETLINK_ROUTE, 0)?;
    for side in SIDES {
        let filters = netlink.dump(libc::RTM_GETTFILTER, &request(ifindex, side), |_| Some(()))?;
        if !filters.is_empty() {
            return Ok(());
        }
    }
    netlink.request(libc::RTM_DELQDISC, 0, &request(ifindex, CLSACT))
}

/// A `struct tcmsg`.
fn request(ifindex: u32, parent: u32) -> [u8; 20] {
    let mut message = [0; 20];
    message[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    message[12..16].copy_from_slice(&parent.to_ne_bytes());
    message
}
