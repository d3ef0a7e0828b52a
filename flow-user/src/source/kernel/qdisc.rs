//! The clsact qdisc that kernels without TCX need: what is on it, and taking it away.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    unistd::geteuid,
};

use crate::source::netlink::{Netlink, attributes, push_attribute, u32_at};

/// Taken by each running Flow that has filters on a clsact qdisc.
const LOCK_FILE: &str = "/run/flow-classifiers.lock";
/// Nobody else may open it: whoever can may also lock it.
const LOCK_MODE: u32 = 0o600;
/// How long another Flow's start is waited for, and how often it is asked for.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Bytes of notes in the file at most, some thousands of interfaces.
const MOST_NOTES: usize = 64 << 10;

/// `TC_H_CLSACT`, and the handle that such a qdisc always has.
pub(super) const CLSACT: u32 = 0xffff_fff1;
pub(super) const CLSACT_HANDLE: u32 = 0xffff_0000;
/// Its sides: `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`, and the same of egress.
pub(super) const CLSACT_INGRESS: u32 = 0xffff_fff2;
const CLSACT_EGRESS: u32 = 0xffff_fff3;

/// Bytes of `tcmsg`, after which attributes follow.
const TC_BYTES: usize = 20;
pub(super) const TCA_KIND: u16 = 1;

/// Shared by every Flow whose filters are in place, held alone by the first: only then are all
/// filters that bear our programs' names left behind by a killed Flow.
///
/// The file notes which qdiscs a Flow has made: whichever uses one last removes it, though another
/// made it, or one that was killed. The notes go with the machine, as the qdiscs do.
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

    /// Notes that the qdisc of an interface in this network namespace, a number, is of a Flow's
    /// making. To be called before it is made.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note(&self, netns: u32, ifindex: u32) -> io::Result<()> {
        let Some(mut file) = self.file.as_deref() else {
            return Ok(());
        };
        let notes = notes(file)?;
        let note = note(netns, ifindex);
        if notes.len() + note.len() > MOST_NOTES || has_note(&notes, &note) {
            return Ok(());
        }
        // The file is open for appending: another Flow may write its notes just now.
        file.write_all(note.as_bytes())
    }

    /// Drops the notes of qdiscs of this network namespace that are no more; `is_there` knows by
    /// interface. Only who is alone may call it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn forget_others(&self, netns: u32, is_there: impl Fn(u32) -> bool) -> io::Result<()> {
        let Some(mut file) = self.file.as_deref() else {
            return Ok(());
        };
        let before = notes(file)?;
        let holds = |line: &&[u8]| match parsed(line) {
            Some((its, ifindex)) => its != netns || is_there(ifindex),
            None => false,
        };
        let lines = before.split_inclusive(|byte| *byte == b'\n');
        let after: Vec<u8> = lines.filter(holds).flatten().copied().collect();
        if after != before {
            file.set_len(0)?;
            file.write_all(&after)?;
        }
        Ok(())
    }

    /// Whether that is noted.
    pub fn is_noted(&self, netns: u32, ifindex: u32) -> bool {
        let notes = self.file.as_deref().and_then(|file| notes(file).ok());
        notes.is_some_and(|notes| has_note(&notes, &note(netns, ifindex)))
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

fn note(netns: u32, ifindex: u32) -> String {
    format!("{netns} {ifindex}\n")
}

/// A line of the notes: the network namespace and the interface.
fn parsed(line: &[u8]) -> Option<(u32, u32)> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (netns, ifindex) = line.split_once(' ')?;
    Some((netns.parse().ok()?, ifindex.parse().ok()?))
}

fn has_note(notes: &[u8], note: &str) -> bool {
    let mut lines = notes.split_inclusive(|byte| *byte == b'\n');
    lines.any(|line| line == note.as_bytes())
}

fn notes(file: &File) -> io::Result<Vec<u8>> {
    let mut notes = vec![0; MOST_NOTES];
    let read = file.read_at(&mut notes, 0)?;
    notes.truncate(read);
    Ok(notes)
}

/// Opens the lock's file so that nobody else can, whoever made it before.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
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

/// The interfaces that have a clsact qdisc.
///
/// # Errors
/// What the kernel answered instead.
pub fn interfaces() -> io::Result<HashSet<u32>> {
    let mut netlink = Netlink::open(libc::NETLINK_ROUTE, 0)?;
    // The kernel lists all, whichever is asked for.
    let found = netlink.dump(libc::RTM_GETQDISC, &request(0, 0), |message| {
        clsact_of(message.body)
    })?;
    Ok(found.into_iter().collect())
}

/// Whether an interface has a clsact qdisc. Unlike [`interfaces`] it asks for that interface alone.
///
/// # Errors
/// What the kernel answered instead.
pub fn has_clsact(ifindex: u32) -> io::Result<bool> {
    let mut message = request(ifindex, CLSACT).to_vec();
    push_attribute(&mut message, TCA_KIND, b"clsact\0");
    let answer = Netlink::open(libc::NETLINK_ROUTE, 0)?.request(libc::RTM_GETQDISC, 0, &message);
    match answer {
        Ok(()) => Ok(true),
        // There is none there, or one of another kind (`tc_get_qdisc`).
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Reads a `tcmsg`: the interface whose clsact qdisc it reports, if it does.
pub(crate) fn clsact_of(body: &[u8]) -> Option<u32> {
    let (_, kind) = attributes(body.get(TC_BYTES..)?).find(|(kind, _)| *kind == TCA_KIND)?;
    kind.starts_with(b"clsact").then(|| u32_at(body, 4))?
}

/// Removes an interface's clsact qdisc if nobody's filter is on it.
///
/// # Errors
/// What the kernel answered instead.
pub fn remove_if_empty(ifindex: u32) -> io::Result<()> {
    let mut netlink = Netlink::open(libc::NETLINK_ROUTE, 0)?;
    for side in [CLSACT_INGRESS, CLSACT_EGRESS] {
        let filters = netlink.dump(libc::RTM_GETTFILTER, &request(ifindex, side), |_| Some(()))?;
        if !filters.is_empty() {
            return Ok(());
        }
    }
    netlink.request(libc::RTM_DELQDISC, 0, &request(ifindex, CLSACT))
}

/// A `struct tcmsg`.
fn request(ifindex: u32, parent: u32) -> [u8; TC_BYTES] {
    let mut message = [0; TC_BYTES];
    message[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    message[12..16].copy_from_slice(&parent.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_clsact_qdisc_is_told_from_others() {
        let qdisc = |kind: &[u8]| {
            let mut body = request(7, CLSACT).to_vec();
            push_attribute(&mut body, 2, b"options");
            push_attribute(&mut body, TCA_KIND, kind);
            body
        };
        assert_eq!(clsact_of(&qdisc(b"clsact\0")), Some(7));
        assert_eq!(clsact_of(&qdisc(b"fq_codel\0")), None);
        assert_eq!(clsact_of(&request(7, CLSACT)), None);
    }

    #[test]
    fn one_interface_is_asked_for_as_all_are() {
        let all = interfaces().unwrap();
        // The loopback interface.
        assert_eq!(has_clsact(1).unwrap(), all.contains(&1));
        let error = has_clsact(i32::MAX as u32).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = clsact_of(&bytes);
        }
    }

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
    fn a_qdisc_that_a_killed_flow_made_is_known_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let take = || Lock::take_from(&path, Duration::ZERO).unwrap();
        let first = take();
        assert!(!first.is_noted(7, 1));
        first.note(7, 1).unwrap();
        first.note(7, 12).unwrap();
        first.note(7, 1).unwrap();
        drop(first);
        let next = take();
        assert!(next.is_noted(7, 1) && next.is_noted(7, 12));
        assert!(!next.is_noted(7, 2) && !next.is_noted(8, 1) && !next.is_noted(77, 1));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "7 1\n7 12\n");
        for ifindex in 0..10_000 {
            next.note(7, ifindex).unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= MOST_NOTES as u64);
    }

    #[test]
    fn notes_of_qdiscs_that_are_gone_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::take_from(&path, Duration::ZERO).unwrap();
        for (netns, ifindex) in [(7, 1), (7, 2), (8, 1)] {
            lock.note(netns, ifindex).unwrap();
        }
        lock.forget_others(7, |ifindex| ifindex == 2).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "7 2\n8 1\n");
        lock.note(7, 3).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "7 2\n8 1\n7 3\n");
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
