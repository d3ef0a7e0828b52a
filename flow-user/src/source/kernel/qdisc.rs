//! The clsact qdisc that kernels without TCX need: what is on it, and taking it away.

use std::{
    fs::{File, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    unistd::geteuid,
};

use crate::source::netlink::{Netlink, attributes};

/// Taken by each running Flow that has filters on a clsact qdisc.
const LOCK_FILE: &str = "/run/flow-classifiers.lock";
/// Nobody else may open it: whoever can may also lock it.
const LOCK_MODE: u32 = 0o600;
/// How long another Flow's start is waited for, and how often it is asked for.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// `TC_H_CLSACT`, and its ingress and egress sides.
const CLSACT: u32 = 0xffff_fff1;
const SIDES: [u32; 2] = [0xffff_fff2, 0xffff_fff3];

const TCA_KIND: u16 = 1;

/// Shared by every Flow whose filters are in place, held alone by the first: only then are all
/// filters that bear our programs' names left behind by a killed Flow.
#[derive(Debug)]
pub struct Lock {
    /// Absent if somebody kept it alone for longer than any start takes.
    file: Option<Flock<File>>,
    /// Whether no other Flow runs.
    pub alone: bool,
}

impl Lock {
    /// Takes the lock. If somebody keeps it, Flow goes on without: it cleans nothing then.
    ///
    /// # Errors
    /// The file cannot be made, or is somebody else's.
    pub fn take() -> io::Result<Self> {
        Self::take_from(Path::new(LOCK_FILE), LOCK_PATIENCE)
    }

    fn take_from(path: &Path, patience: Duration) -> io::Result<Self> {
        let mut file = open(path)?;
        let started = Instant::now();
        loop {
            for (how, alone) in [
                (FlockArg::LockExclusiveNonblock, true),
                (FlockArg::LockSharedNonblock, false),
            ] {
                match Flock::lock(file, how) {
                    Ok(file) => {
                        let file = Some(file);
                        return Ok(Self { file, alone });
                    }
                    Err((back, _)) => file = back,
                }
            }
            // The first one holds it alone for the moments of its start, no longer.
            if started.elapsed() >= patience {
                log::warn!(
                    "{} has been locked for {patience:?}: what a killed Flow left on interfaces stays there, \
                     and another Flow may take this one's filters for such",
                    path.display()
                );
                return Ok(Self {
                    file: None,
                    alone: false,
                });
            }
            std::thread::sleep(LOCK_PAUSE);
        }
    }

    /// Lets others start, once what was left behind is cleaned.
    ///
    /// # Errors
    /// The kernel refuses the lock.
    pub fn share(&mut self) -> io::Result<()> {
        self.alone = false;
        let Some(file) = &self.file else {
            return Ok(());
        };
        Ok(file.relock(FlockArg::LockSharedNonblock)?)
    }
}

/// Opens the lock's file so that nobody else can, whoever made it before.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(LOCK_MODE)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() {
        let message = format!(
            "{} is not a file of this user; remove it: rm {0}",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    if metadata.mode() & 0o7777 != LOCK_MODE {
        file.set_permissions(Permissions::from_mode(LOCK_MODE))?;
    }
    Ok(file)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_alone_until_it_shares() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let take = || Lock::take_from(&path, Duration::ZERO).unwrap();
        let mut first = take();
        assert!(first.alone);
        // As long as that one starts, another goes on without the lock.
        assert!(take().file.is_none());
        first.share().unwrap();
        let second = take();
        assert!(second.file.is_some() && !second.alone);
        drop((first, second));
        assert!(take().alone);
    }

    #[test]
    fn a_lock_that_somebody_keeps_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let kept = Flock::lock(File::create(&path).unwrap(), FlockArg::LockExclusive).unwrap();
        let started = Instant::now();
        let lock = Lock::take_from(&path, Duration::from_millis(50)).unwrap();
        assert!(!lock.alone);
        assert!(started.elapsed() >= Duration::from_millis(50));
        drop(kept);
    }

    #[test]
    fn nobody_else_can_open_the_file_even_if_it_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let mode = || std::fs::metadata(&path).unwrap().mode() & 0o7777;
        drop(Lock::take_from(&path, Duration::ZERO).unwrap());
        assert_eq!(mode(), LOCK_MODE);
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        drop(Lock::take_from(&path, Duration::ZERO).unwrap());
        assert_eq!(mode(), LOCK_MODE);
    }

    #[test]
    fn a_file_of_somebody_else_or_a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("lock"), folder.path().join("link"));
        File::create(&path).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        Lock::take_from(&link, Duration::ZERO).unwrap_err();
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            let error = Lock::take_from(&path, Duration::ZERO).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
    }
}
