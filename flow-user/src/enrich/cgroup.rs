//! What is the path of a cgroup?

use std::{
    collections::HashMap,
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    event::CgroupId,
    source::cgroups::{CgroupLayout, open_by_id, path_of},
};

/// Most paths remembered; beyond it all are looked up anew.
const MAX_PATHS: usize = 4096;
/// Most directories that a walk of the tree visits.
const MAX_WALK: usize = 20_000;
/// Least time between two walks.
const WALK_PAUSE: Duration = Duration::from_secs(2);

/// Paths of cgroups, each asked for once.
#[derive(Debug)]
pub struct Cgroups {
    /// Where the v2 tree, or the part that is mounted, begins, and its directory; absent when there is none.
    root: Option<(PathBuf, File)>,
    paths: HashMap<CgroupId, Arc<str>>,
    walked: Option<Instant>,
}

impl Default for Cgroups {
    fn default() -> Self {
        Self::new()
    }
}

impl Cgroups {
    /// Of this machine's v2 tree.
    pub fn new() -> Self {
        let layout = CgroupLayout::read();
        let root = layout.top().and_then(|root| {
            let directory = File::open(root).ok()?;
            // As the kernel calls it, whatever way leads there.
            let root = fs::read_link(path_of(&directory)).ok()?;
            Some((root, directory))
        });
        Self {
            root,
            paths: HashMap::new(),
            walked: None,
        }
    }

    /// The cgroup's path below the root of the v2 tree, such as `/system.slice/nginx.service`. Bytes
    /// that are no UTF-8 are replaced; it may hold control characters. `None` when the cgroup is gone
    /// and was never asked for before, or the tree is not mounted.
    pub fn path(&mut self, id: CgroupId) -> Option<Arc<str>> {
        if let Some(path) = self.paths.get(&id) {
            return Some(path.clone());
        }
        if self.paths.len() >= MAX_PATHS {
            self.paths.clear();
        }
        let (root, directory) = self.root.as_ref()?;
        let path = match open_by_id(directory, id) {
            Ok(opened) => below(root, &fs::read_link(path_of(&opened)).ok()?)?,
            // ESTALE: there is no such cgroup.
            Err(error) if error.raw_os_error() == Some(libc::ESTALE) => return None,
            // Without CAP_DAC_READ_SEARCH only a walk tells.
            Err(_) => return self.walk(id),
        };
        self.paths.insert(id, path.clone());
        Some(path)
    }

    fn walk(&mut self, wanted: CgroupId) -> Option<Arc<str>> {
        if self.walked.is_some_and(|time| time.elapsed() < WALK_PAUSE) {
            return None;
        }
        self.walked = Some(Instant::now());
        let (_, directory) = self.root.as_ref()?;
        let root = &path_of(directory);
        let mut directories = vec![root.clone()];
        let mut found = None;
        for _ in 0..MAX_WALK {
            let Some(directory) = directories.pop() else {
                break;
            };
            if let Ok(metadata) = fs::metadata(&directory)
                && let Some(path) = below(root, &directory)
            {
                let id = CgroupId(metadata.ino());
                if id == wanted {
                    found = Some(path.clone());
                }
                if self.paths.len() < MAX_PATHS {
                    self.paths.insert(id, path);
                }
            }
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.push(entry.path());
                }
            }
        }
        found
    }
}

/// The path below the root, with a slash before it; the root itself is `/`.
fn below(root: &Path, path: &Path) -> Option<Arc<str>> {
    let path = path.strip_prefix(root).ok()?;
    Some(format!("/{}", path.to_string_lossy()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_at_the_root_of_the_tree() {
        let root = Path::new("/sys/fs/cgroup/unified");
        let path = |path| below(root, Path::new(path));
        assert_eq!(path("/sys/fs/cgroup/unified").as_deref(), Some("/"));
        assert_eq!(
            path("/sys/fs/cgroup/unified/docker/ab").as_deref(),
            Some("/docker/ab")
        );
        assert_eq!(path("/elsewhere"), None);
    }

    #[test]
    fn the_root_is_found_by_its_id() {
        let mut cgroups = Cgroups::new();
        let Some((root, _)) = &cgroups.root else {
            assert_eq!(cgroups.path(CgroupId(1)), None);
            return;
        };
        let id = CgroupId(fs::metadata(root).unwrap().ino());
        assert_eq!(cgroups.path(id).as_deref(), Some("/"));
        assert_eq!(cgroups.walk(id).as_deref(), Some("/"));
        assert_eq!(cgroups.path(CgroupId(u64::MAX - 7)), None);
    }
}
