//! Finds network namespaces, and runs code inside them.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    panic::resume_unwind,
    path::PathBuf,
    thread,
};

use nix::sched::{CloneFlags, setns};

use super::{mountinfo, proc};
use crate::event::Netns;

/// Most namespaces that are visited.
const MAX_NAMESPACES: usize = 4096;

/// Network namespaces, each with a path through which it can be entered.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// The one Flow runs in.
    pub own: Option<Netns>,
    /// Every other.
    pub others: BTreeMap<Netns, PathBuf>,
    /// Those beyond [`MAX_NAMESPACES`].
    left_out: HashSet<Netns>,
}

impl Namespaces {
    /// Finds the namespaces of the given processes, and those mounted somewhere (`ip netns`, the
    /// container engines).
    pub fn find(pids: &[u32]) -> Self {
        let mut found = Self {
            own: inode("/proc/self/ns/net".into()),
            ..Self::default()
        };
        for pid in pids {
            let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
            if let Some(netns) = inode(path.clone()) {
                found.add(netns, path);
            }
        }
        for mount in mountinfo::mounts().unwrap_or_default() {
            if mount.fs_type == "nsfs"
                && let Some(netns) = proc::inode_of(&mount.root, "net:[")
            {
                found.add(Netns(netns), mount.point);
            }
        }
        found
    }

    fn add(&mut self, netns: Netns, path: PathBuf) {
        if Some(netns) == self.own || self.others.contains_key(&netns) {
            return;
        }
        if self.others.len() < MAX_NAMESPACES {
            self.others.insert(netns, path);
        } else {
            // A set, as many processes may lead to the same one.
            self.left_out.insert(netns);
        }
    }

    /// How many were left out, beyond [`MAX_NAMESPACES`].
    pub fn left_out(&self) -> usize {
        self.left_out.len()
    }
}

/// Runs `action` in each of the namespaces in turn, on a thread of its own that ends afterwards.
/// The results are in the same order, with an error for a namespace that could not be entered.
///
/// # Errors
/// The thread could not be started.
pub fn inside<T: Send>(
    namespaces: &BTreeMap<Netns, PathBuf>,
    action: impl Fn(Netns) -> io::Result<T> + Sync,
) -> io::Result<Vec<(Netns, io::Result<T>)>> {
    if namespaces.is_empty() {
        return Ok(Vec::new());
    }
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, || {
                namespaces
                    .iter()
                    .map(|(netns, path)| {
                        let result = File::open(path)
                            .and_then(|file| Ok(setns(file, CloneFlags::CLONE_NEWNET)?))
                            .and_then(|()| action(*netns));
                        (*netns, result)
                    })
                    .collect()
            })?;
        Ok(worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// The inode number of a namespace, which always fits 32 bits.
fn inode(path: PathBuf) -> Option<Netns> {
    let number = fs::metadata(path).ok()?.ino();
    u32::try_from(number).ok().map(Netns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_is_not_among_the_others() {
        let found = Namespaces::find(&[std::process::id()]);
        let own = found.own.unwrap();
        assert_ne!(own.0, 0);
        assert!(!found.others.contains_key(&own));
    }

    #[test]
    fn each_namespace_that_is_left_out_counts_once() {
        let mut found = Namespaces::default();
        for number in 0..MAX_NAMESPACES as u32 + 2 {
            for process in 0..3 {
                found.add(Netns(number), format!("/proc/{process}/ns/net").into());
            }
        }
        assert_eq!((found.others.len(), found.left_out()), (MAX_NAMESPACES, 2));
    }

    #[test]
    fn a_namespace_that_cannot_be_entered_is_reported() {
        let gone = BTreeMap::from([(Netns(7), PathBuf::from("/proc/self/no such thing"))]);
        let visited = inside(&gone, |_| Ok(())).unwrap();
        assert_eq!(visited[0].0, Netns(7));
        assert_eq!(
            visited[0].1.as_ref().unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
