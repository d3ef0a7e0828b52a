//! Paths of cgroups, as events of their own.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    mem,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::Enricher;
use crate::{
    event::{CgroupId, Event, EventSink, Instant as Time},
    source::cgroups::{CgroupLayout, open_by_id, path_of},
};

/// Cgroups cached at most; when the cache is full, it is cleared.
const MAX_CACHED: usize = 65_536;
/// Most directories that a walk of the tree visits.
const MAX_WALK: usize = 20_000;
/// Least time between two walks.
const WALK_PAUSE: Duration = Duration::from_secs(2);

/// What a look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The path below the root of the v2 tree, such as `/system.slice/nginx.service`. Invalid UTF-8
    /// is replaced; it may contain control characters.
    Path(Arc<str>),
    /// There is no such cgroup any more, or no v2 tree.
    Nothing,
    /// The look-up failed for now.
    Unknown,
}

/// Where cgroups are looked up.
pub trait LookUp {
    fn look_up(&mut self, id: CgroupId) -> Found;
}

/// Adds the path of each cgroup that events name.
#[derive(Debug)]
pub struct CgroupPaths<L = Tree> {
    tree: L,
    /// Those that need no further look-up.
    known: HashSet<CgroupId>,
    /// Those that are looked up again at the next tick.
    unknown: HashSet<CgroupId>,
}

impl<L: LookUp> Enricher for CgroupPaths<L> {
    /// Looks up a new cgroup at once: later it may be gone.
    fn observe(&mut self, time: Time, event: &Event, out: &mut dyn EventSink) {
        let cgroup = match event {
            Event::App(fact) => fact.cgroup,
            Event::ProcessSeen(fact) | Event::ProcessExec(fact) | Event::ProcessFork(fact) => {
                fact.cgroup
            }
            _ => None,
        };
        if let Some(id) = cgroup
            && !self.known.contains(&id)
            && !self.unknown.contains(&id)
        {
            self.resolve(id, time, out);
        }
    }

    /// Repeats look-ups that failed.
    fn retry(&mut self, time: Time, out: &mut dyn EventSink) {
        for id in mem::take(&mut self.unknown) {
            self.resolve(id, time, out);
        }
    }
}

impl<L: LookUp> CgroupPaths<L> {
    pub fn of(tree: L) -> Self {
        Self {
            tree,
            known: HashSet::new(),
            unknown: HashSet::new(),
        }
    }

    fn resolve(&mut self, id: CgroupId, time: Time, out: &mut dyn EventSink) {
        let found = self.tree.look_up(id);
        let ids = match found {
            Found::Unknown => &mut self.unknown,
            Found::Path(_) | Found::Nothing => &mut self.known,
        };
        if ids.len() >= MAX_CACHED {
            ids.clear();
        }
        ids.insert(id);
        if let Found::Path(path) = found {
            out.event(time, Event::Cgroup { id, path });
        }
    }
}

/// The v2 tree of this host.
#[derive(Debug)]
pub struct Tree {
    /// Path and open directory of its root, or of the root of the part that is mounted; absent
    /// without v2.
    root: Option<(PathBuf, File)>,
    /// Time and result of the last walk.
    walked: Option<(Instant, HashMap<CgroupId, Arc<str>>)>,
}

impl Default for Tree {
    fn default() -> Self {
        let layout = CgroupLayout::read();
        let root = layout.top().and_then(|root| {
            let directory = File::open(root).ok()?;
            // The kernel's name for it, whatever path it was opened by.
            let root = fs::read_link(path_of(&directory)).ok()?;
            Some((root, directory))
        });
        Self { root, walked: None }
    }
}

impl LookUp for Tree {
    fn look_up(&mut self, id: CgroupId) -> Found {
        let Some((root, directory)) = &self.root else {
            return Found::Nothing;
        };
        match open_by_id(directory, id) {
            Ok(opened) => {
                let path = fs::read_link(path_of(&opened));
                let path = path.ok().and_then(|path| below(root, &path));
                path.map_or(Found::Nothing, Found::Path)
            }
            // There is no such cgroup.
            Err(error) if error.raw_os_error() == Some(libc::ESTALE) => Found::Nothing,
            // Without CAP_DAC_READ_SEARCH only a walk finds it.
            Err(_) => self.walk(id),
        }
    }
}

impl Tree {
    /// Finds a cgroup by a walk of the tree. If the last walk was less than [`WALK_PAUSE`] ago and
    /// did not find it, it is unknown: it may be newer than that walk.
    fn walk(&mut self, id: CgroupId) -> Found {
        if let Some((time, paths)) = &self.walked {
            if let Some(path) = paths.get(&id) {
                return Found::Path(path.clone());
            }
            if time.elapsed() < WALK_PAUSE {
                return Found::Unknown;
            }
        }
        let paths = self.paths();
        let found = paths.get(&id).cloned();
        self.walked = Some((Instant::now(), paths));
        found.map_or(Found::Nothing, Found::Path)
    }

    /// All cgroups of the tree, up to [`MAX_WALK`] directories.
    fn paths(&self) -> HashMap<CgroupId, Arc<str>> {
        let mut paths = HashMap::new();
        let Some((_, directory)) = &self.root else {
            return paths;
        };
        let root = &path_of(directory);
        let mut directories = vec![root.clone()];
        for _ in 0..MAX_WALK {
            let Some(directory) = directories.pop() else {
                break;
            };
            if let Ok(metadata) = fs::metadata(&directory)
                && let Some(path) = below(root, &directory)
            {
                paths.insert(CgroupId(metadata.ino()), path);
            }
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.push(entry.path());
                }
            }
        }
        paths
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
    use crate::event::{ProcessFact, ProcessId, Program, Timed};

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
        let mut tree = Tree::default();
        let Some((root, _)) = &tree.root else {
            assert_eq!(tree.look_up(CgroupId(1)), Found::Nothing);
            return;
        };
        let id = CgroupId(fs::metadata(root).unwrap().ino());
        let path = Found::Path("/".into());
        assert_eq!(tree.look_up(id), path);
        assert_eq!(tree.look_up(CgroupId(u64::MAX - 7)), Found::Nothing);
        assert_eq!(tree.walk(id), path);
        assert_eq!(tree.walk(CgroupId(u64::MAX - 7)), Found::Unknown);
    }

    /// Gives these answers, one for each call.
    struct Answers(Vec<Found>);

    impl LookUp for Answers {
        fn look_up(&mut self, _: CgroupId) -> Found {
            self.0.remove(0)
        }
    }

    fn seen_in(id: u64) -> Event {
        Event::ProcessSeen(ProcessFact {
            id: ProcessId {
                pid: 7,
                start: Time(1),
            },
            parent: None,
            program: Program::default(),
            uid: None,
            cgroup: Some(CgroupId(id)),
        })
    }

    #[test]
    fn a_cgroup_is_looked_up_until_there_is_an_answer() {
        let answers = vec![Found::Unknown, Found::Unknown, Found::Path("/a".into())];
        let mut paths = CgroupPaths::of(Answers(answers));
        let mut out = Vec::new();
        paths.observe(Time(1), &seen_in(5), &mut out);
        // Not again before the next tick.
        paths.observe(Time(2), &seen_in(5), &mut out);
        paths.retry(Time(3), &mut out);
        assert_eq!(out, []);
        paths.retry(Time(4), &mut out);
        let event = Event::Cgroup {
            id: CgroupId(5),
            path: "/a".into(),
        };
        let expected = [Timed {
            time: Time(4),
            event,
        }];
        assert_eq!(out, expected);
        // No more.
        paths.retry(Time(5), &mut out);
        paths.observe(Time(6), &seen_in(5), &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn a_cgroup_that_is_gone_is_looked_up_once() {
        let mut paths = CgroupPaths::of(Answers(vec![Found::Nothing]));
        let mut out = Vec::new();
        for time in 1..4 {
            paths.observe(Time(time), &seen_in(5), &mut out);
            paths.retry(Time(time), &mut out);
        }
        assert_eq!(out, []);
    }
}
