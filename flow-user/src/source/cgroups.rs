//! The cgroup v2 tree: its root, and the directories of cgroups in it.
//!
//! In a cgroup namespace (Docker's default on cgroup v2) the mounted tree begins at the namespace's
//! own cgroup, and looks like the whole: its root is `/` in `/proc/self/mountinfo`. Programs
//! attached there see that part only. The root of the whole tree has the id [`ROOT_ID`], which is
//! its inode number. Flow searches for it
//!
//! 1. among the mounts of Flow's own mount namespace;
//! 2. among the mounts of process 1, through `/proc/1/root`;
//! 3. by its id, whatever part of the tree is mounted (`open_by_handle_at`), and through a detached
//!    mount of that directory, which ends with Flow (`open_tree`).

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{MetadataExt as _, OpenOptionsExt as _},
        },
    },
    path::{Component, Path, PathBuf},
    sync::OnceLock,
};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::mountinfo::{self, Mount};
use crate::event::CgroupId;

/// The id of the root (`CGROUP_ROOT_ID`).
const ROOT_ID: CgroupId = CgroupId(1);
/// The type of file handles that contain the id of a cgroup (`FILEID_KERNFS`).
const FILEID_KERNFS: libc::c_int = 0xfe;
/// The inode number of the initial cgroup namespace (`PROC_CGROUP_INIT_INO`).
const INITIAL: &str = "cgroup:[4026531835]";

/// Mount points of the cgroup v2 tree, and whether v1 controllers are in use as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupLayout {
    /// The root of the v2 tree; absent if it can't be reached.
    pub v2_root: Option<PathBuf>,
    /// The mount point of a part of the tree, if the root can't be reached.
    pub v2_part: Option<PathBuf>,
    /// Whether v1 hierarchies are mounted.
    pub v1: bool,
}

impl CgroupLayout {
    /// The layout of this host; empty if `/proc` is not mounted.
    pub fn read() -> Self {
        Self::of(&mountinfo::mounts().unwrap_or_default(), is_root, reach)
    }

    fn of(
        mounts: &[Mount],
        is_root: impl Fn(&Path) -> bool,
        reach: impl FnOnce(&[&Path]) -> Option<PathBuf>,
    ) -> Self {
        let mut v2: Vec<&Mount> = mounts.iter().filter(|it| it.fs_type == "cgroup2").collect();
        // Prefer a mount of the namespace's whole tree to one of a part, then the earliest.
        v2.sort_by_key(|mount| mount.root != Path::new("/"));
        let points: Vec<&Path> = v2.iter().map(|mount| mount.point.as_path()).collect();
        let v2_root = match points.iter().find(|point| is_root(point)) {
            Some(point) => Some((*point).to_owned()),
            None if points.is_empty() => None,
            None => reach(&points),
        };
        let part = points.first().filter(|_| v2_root.is_none());
        Self {
            v2_part: part.map(|point| (*point).to_owned()),
            v2_root,
            v1: mounts.iter().any(|mount| mount.fs_type == "cgroup"),
        }
    }

    /// The root of the whole tree, else of the part that is mounted.
    pub fn top(&self) -> Option<&Path> {
        self.v2_root.as_deref().or(self.v2_part.as_deref())
    }
}

/// Maps paths of `/proc/PID/cgroup` to directories of the tree.
#[derive(Debug)]
pub struct CgroupDirectories {
    top: PathBuf,
    /// The root of Flow's cgroup namespace, relative to the top: paths in `/proc/PID/cgroup` begin
    /// there. Absent if unknown.
    base: Option<PathBuf>,
}

impl CgroupDirectories {
    /// Of this host's v2 tree, if it is mounted.
    pub fn read() -> Option<Self> {
        let layout = CgroupLayout::read();
        let base = match &layout.v2_root {
            Some(root) => namespace_base(root),
            None => Some(PathBuf::new()),
        };
        let top = layout.top()?.to_owned();
        Some(Self { top, base })
    }

    #[cfg(test)]
    pub fn at(top: PathBuf, base: &str) -> Self {
        let base = Some(base.into());
        Self { top, base }
    }

    /// The directory of a cgroup; `path` is that in `/proc/PID/cgroup`, without its first slash.
    pub fn directory(&self, path: &[u8]) -> Option<PathBuf> {
        let mut below = self.base.clone()?;
        for component in Path::new(OsStr::from_bytes(path)).components() {
            match component {
                Component::Normal(name) => below.push(name),
                // A cgroup outside of the namespace is shown relative to it: `/../system.slice/x`.
                Component::ParentDir if below.pop() => {}
                Component::ParentDir => return None,
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Some(self.top.join(below))
    }
}

/// Opens a cgroup's directory by its id, which needs `CAP_DAC_READ_SEARCH`. `directory` is any
/// directory of the tree, not opened with `O_PATH`.
///
/// # Errors
/// `ESTALE` if there is no such cgroup.
pub fn open_by_id(directory: impl AsFd, id: CgroupId) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Handle {
        bytes: libc::c_uint,
        kind: libc::c_int,
        id: [u8; 8],
    }
    let mut handle = Handle {
        bytes: 8,
        kind: FILEID_KERNFS,
        id: id.0.to_ne_bytes(),
    };
    // SAFETY: the handle is laid out as `struct file_handle` with eight bytes of its own, and lives
    // through the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            directory.as_fd().as_raw_fd(),
            &raw mut handle,
            libc::O_PATH | libc::O_CLOEXEC,
        )
    };
    match i32::try_from(fd) {
        // SAFETY: the system call has just returned this descriptor, and nobody else owns it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A path to the file of a descriptor, valid while that is open.
pub fn path_of(fd: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into()
}

/// Whether a directory is the root of the whole cgroup v2 tree.
fn is_root(directory: &Path) -> bool {
    open(directory).is_ok_and(|directory| leads_to_root(&directory))
}

fn leads_to_root(directory: &File) -> bool {
    let is_cgroup = fstatfs(directory).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC);
    is_cgroup && directory.metadata().is_ok_and(|it| it.ino() == ROOT_ID.0)
}

fn open(directory: &Path) -> io::Result<File> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let mut options = File::options();
    options.read(true).custom_flags(flags).open(directory)
}

/// The root of the tree, if only parts of it are mounted.
fn reach(parts: &[&Path]) -> Option<PathBuf> {
    // Kept open: the mount lasts as long as its descriptor.
    static REACHED: OnceLock<Option<File>> = OnceLock::new();
    of_process(Path::new("/proc/1")).or_else(|| {
        let reached = REACHED.get_or_init(|| by_id(parts));
        reached.as_ref().map(path_of)
    })
}

/// The root of the tree, through the mounts of a process. If `/proc` is of another PID namespace,
/// process 1 is another one.
fn of_process(process: &Path) -> Option<PathBuf> {
    let mounts = mountinfo::parse(&fs::read(process.join("mountinfo")).ok()?);
    let mut v2 = mounts.iter().filter(|mount| mount.fs_type == "cgroup2");
    v2.find_map(|mount| {
        let point = mount.point.strip_prefix("/").ok()?;
        let directory = process.join("root").join(point);
        is_root(&directory).then_some(directory)
    })
}

/// The root of the tree by its id. Its descriptor alone suffices to attach programs, but not to
/// name cgroups below: the kernel shows what is outside of a mount as `/` (`prepend_path`).
fn by_id(parts: &[&Path]) -> Option<File> {
    parts.iter().find_map(|part| {
        let root = File::from(open_by_id(File::open(part).ok()?, ROOT_ID).ok()?);
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let mount = open_tree(&root, "", flags).ok()?;
        let mount = File::from(mount);
        leads_to_root(&mount).then_some(mount)
    })
}

/// The cgroup at which Flow's cgroup namespace begins, below the root of the whole tree.
fn namespace_base(root: &Path) -> Option<PathBuf> {
    match fs::read_link("/proc/self/ns/cgroup") {
        Ok(namespace) if namespace.as_os_str() != INITIAL => {}
        // The initial namespace, or a kernel without cgroup namespaces.
        _ => return Some(PathBuf::new()),
    }
    let directory = File::open(root).ok()?;
    let mounts = mountinfo::mounts().ok()?;
    // Roots of mounts are relative to the namespace as well.
    let own = mounts
        .iter()
        .find(|mount| mount.fs_type == "cgroup2" && mount.root == Path::new("/"))?;
    let id = CgroupId(fs::metadata(&own.point).ok()?.ino());
    let base = open_by_id(&directory, id).ok()?;
    let top = fs::read_link(path_of(&directory)).ok()?;
    let base = fs::read_link(path_of(&base)).ok()?;
    Some(base.strip_prefix(top).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mounts as a container's mount and cgroup namespaces show them.
    fn mounts(text: &str) -> Vec<Mount> {
        mountinfo::parse(text.as_bytes())
    }

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        40 31 0:38 /a /mnt/part rw shared:9 master:2 - cgroup2 cgroup2 rw\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_hybrid_layout_has_its_v2_root_below() {
        let unified = Path::new("/sys/fs/cgroup/unified");
        let layout = CgroupLayout::of(&mounts(HYBRID), |it| it == unified, |_| None);
        let expected = CgroupLayout {
            v2_root: Some(unified.into()),
            v2_part: None,
            v1: true,
        };
        assert_eq!(layout, expected);
    }

    #[test]
    fn a_part_of_the_tree_is_no_root() {
        let container = "40 31 0:38 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n\
            41 31 0:38 /../.. /host/cgroup rw - cgroup2 cgroup2 rw\n";
        let none = |_: &Path| false;
        // The part looks like the whole, and another mount shows the whole.
        let host = Path::new("/host/cgroup");
        let layout = CgroupLayout::of(&mounts(container), |it| it == host, |_| None);
        assert_eq!(layout.v2_root.as_deref(), Some(host));
        // The root can be reached only by other means.
        let reached = Path::new("/proc/self/fd/9");
        let layout = CgroupLayout::of(&mounts(container), none, |parts| {
            assert_eq!(parts, [Path::new("/sys/fs/cgroup"), host]);
            Some(reached.into())
        });
        assert_eq!(layout.v2_root.as_deref(), Some(reached));
        assert_eq!(layout.v2_part, None);
        // The root cannot be reached.
        let layout = CgroupLayout::of(&mounts(container), none, |_| None);
        assert_eq!(layout.v2_root, None);
        assert_eq!(layout.top(), Some(Path::new("/sys/fs/cgroup")));
        // Nothing is mounted: no search.
        let layout = CgroupLayout::of(&[], none, |_| Some(reached.into()));
        assert_eq!(layout.top(), None);
    }

    #[test]
    fn paths_outside_of_the_namespace_begin_with_parents() {
        let cgroup_directories = CgroupDirectories::at("/top".into(), "docker/ab");
        let directory = |path: &str| cgroup_directories.directory(path.as_bytes());
        assert_eq!(directory(""), Some("/top/docker/ab".into()));
        assert_eq!(directory("x/y"), Some("/top/docker/ab/x/y".into()));
        assert_eq!(directory("../cd"), Some("/top/docker/cd".into()));
        assert_eq!(
            directory("../../init.scope"),
            Some("/top/init.scope".into())
        );
        assert_eq!(directory("../../.."), None);
        // Below a part, nothing outside of it is known.
        let part = CgroupDirectories::at("/part".into(), "");
        assert_eq!(part.directory(b"../cd"), None);
        let unknown = CgroupDirectories { base: None, ..part };
        assert_eq!(unknown.directory(b"x"), None);
    }

    #[test]
    fn the_root_of_this_host_is_found_or_absent() {
        let layout = CgroupLayout::read();
        match &layout.v2_root {
            Some(root) => {
                assert!(is_root(root));
                if root.starts_with("/proc") {
                    return;
                }
                let same = of_process(Path::new("/proc/self"));
                assert!(same.is_some_and(|root| is_root(&root)));
            }
            None => assert!(!layout.top().is_some_and(is_root)),
        }
    }
}
