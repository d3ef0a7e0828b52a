//! Which processes were there before, as `/proc` shows them?
//!
//! **Start times.** A process is (pid, start time). Kernel programs read the start in nanoseconds;
//! `/proc/PID/stat` has it in ticks of 10 ms, rounded down, and nothing better. So that one process has
//! one identity, [`ProcessId::start`] is always a whole number of ticks: what comes from the kernel
//! passes through [`process_start`], what comes from here already is. Two processes of the same pid
//! within one tick would need the kernel to hand out every other pid in between.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use flow_common::limits::ARGS_BYTES;

use super::mountinfo::CgroupLayout;
use crate::event::{CgroupId, Instant, ProcessFact, ProcessId, Program};

/// Nanoseconds of a tick (`USER_HZ` is 100 on every machine Flow supports).
const TICK_NANOS: u64 = 10_000_000;
/// Longest file about a process that is read whole; `status` has some 1,500 bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// The start of a process as its identity has it: `start_boottime` of the kernel's task, in
/// nanoseconds since boot, rounded down to a tick.
pub const fn process_start(boottime_nanos: u64) -> Instant {
    Instant(boottime_nanos - boottime_nanos % TICK_NANOS)
}

/// The same start in ticks, as field 22 of `/proc/PID/stat` has it.
pub const fn start_ticks(start: Instant) -> u64 {
    start.0 / TICK_NANOS
}

/// A reader of `/proc`.
#[derive(Debug)]
pub struct Proc {
    root: PathBuf,
    /// Where the cgroup v2 tree is mounted.
    cgroup_root: Option<PathBuf>,
    /// Ids of cgroups by their path, for one pass: many processes share one, and later another
    /// cgroup may have the path.
    cgroups: HashMap<PathBuf, Option<CgroupId>>,
}

impl Default for Proc {
    fn default() -> Self {
        Self::new()
    }
}

impl Proc {
    /// Reads this machine's `/proc`.
    pub fn new() -> Self {
        Self::at("/proc".into(), CgroupLayout::read().v2_root)
    }

    fn at(root: PathBuf, cgroup_root: Option<PathBuf>) -> Self {
        Self {
            root,
            cgroup_root,
            cgroups: HashMap::new(),
        }
    }

    /// Every process that can be seen. One that ends meanwhile is left out, and so is one that
    /// `hidepid` hides.
    ///
    /// # Errors
    /// `/proc` itself cannot be read.
    pub fn processes(&mut self) -> io::Result<Vec<ProcessFact>> {
        self.cgroups.clear();
        let pids = self.pids()?;
        Ok(pids
            .into_iter()
            .filter_map(|pid| self.read(pid).ok())
            .collect())
    }

    /// A process by its id. What may not be read of it is absent.
    ///
    /// # Errors
    /// There is no such process, or it is hidden.
    pub fn process(&mut self, pid: u32) -> io::Result<ProcessFact> {
        self.cgroups.clear();
        self.read(pid)
    }

    fn read(&mut self, pid: u32) -> io::Result<ProcessFact> {
        let directory = self.root.join(pid.to_string());
        let stat = Stat::read(&directory)?;
        let parent = (stat.parent != 0)
            .then(|| self.id(stat.parent).ok())
            .flatten();
        let cmdline = read_bounded(&directory.join("cmdline"), ARGS_BYTES as u64 + 1);
        let cmdline_cut = cmdline
            .as_ref()
            .is_ok_and(|cmdline| cmdline.len() > ARGS_BYTES);
        Ok(ProcessFact {
            id: stat.id(pid),
            parent,
            program: Program {
                comm: Some(String::from_utf8_lossy(&stat.comm).into()),
                exe: fs::read_link(directory.join("exe")).ok().map(executable),
                cmdline: cmdline
                    .ok()
                    .filter(|cmdline| !cmdline.is_empty())
                    .map(|cmdline| arguments(&cmdline)),
                cmdline_cut,
            },
            uid: read_bounded(&directory.join("status"), MAX_FILE_BYTES)
                .ok()
                .and_then(|status| effective_user(&status)),
            cgroup: self.cgroup(&directory),
        })
    }

    /// The identity of a process, which costs the reading of one file.
    ///
    /// # Errors
    /// As [`Self::process`].
    pub fn id(&self, pid: u32) -> io::Result<ProcessId> {
        Ok(Stat::read(&self.root.join(pid.to_string()))?.id(pid))
    }

    /// Ids of every process that can be seen.
    ///
    /// # Errors
    /// `/proc` itself cannot be read.
    pub fn pids(&self) -> io::Result<Vec<u32>> {
        let names = fs::read_dir(&self.root)?.flatten();
        Ok(names
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect())
    }

    /// Inode numbers of the sockets a process holds.
    ///
    /// # Errors
    /// The process is gone, or its descriptors may not be looked at.
    pub fn socket_inodes(&self, pid: u32) -> io::Result<Vec<u32>> {
        let mut inodes = Vec::new();
        for entry in fs::read_dir(self.root.join(format!("{pid}/fd")))?.flatten() {
            match fs::read_link(entry.path()) {
                Ok(link) => inodes.extend(inode_of(&link, "socket:[")),
                // An LSM may let the list be read and deny what is in it.
                Err(why) if why.kind() == io::ErrorKind::PermissionDenied => return Err(why),
                // Closed meanwhile.
                Err(_) => {}
            }
        }
        Ok(inodes)
    }

    fn cgroup(&mut self, directory: &Path) -> Option<CgroupId> {
        let root = self.cgroup_root.as_ref()?;
        let lines = read_bounded(&directory.join("cgroup"), MAX_FILE_BYTES).ok()?;
        let path = lines
            .split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(b"0::/"))?;
        let path = root.join(OsStr::from_bytes(path));
        *self.cgroups.entry(path).or_insert_with_key(|path| {
            // The id of a cgroup is the inode number of its directory.
            Some(CgroupId(fs::metadata(path).ok()?.ino()))
        })
    }
}

/// The number in a link such as `socket:[4711]`, where `prefix` is all before the number.
pub(super) fn inode_of(link: &Path, prefix: &str) -> Option<u32> {
    let name = link.as_os_str().to_str()?;
    name.strip_prefix(prefix)?.strip_suffix(']')?.parse().ok()
}

/// What Flow takes from `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    comm: Vec<u8>,
    parent: u32,
    start_ticks: u64,
}

impl Stat {
    fn read(directory: &Path) -> io::Result<Self> {
        let text = read_bounded(&directory.join("stat"), MAX_FILE_BYTES)?;
        Self::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// `pid (comm) state ppid ...`; the name may hold anything, parentheses too.
    fn parse(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let comm = text.get(open + 1..close)?.to_vec();
        // The state is field 3.
        let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let start_ticks = fields.nth(17)?.parse().ok()?;
        Some(Self {
            comm,
            parent,
            start_ticks,
        })
    }

    fn id(&self, pid: u32) -> ProcessId {
        ProcessId {
            pid,
            start: Instant(self.start_ticks.saturating_mul(TICK_NANOS)),
        }
    }
}

fn read_bounded(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(bytes).read_to_end(&mut content)?;
    Ok(content)
}

/// Second of the four ids: real, effective, saved, file system.
fn effective_user(status: &[u8]) -> Option<u32> {
    let line = status
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"Uid:"))?;
    let ids = std::str::from_utf8(line).ok()?;
    ids.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A program that was replaced while it runs is still the program of that path.
fn executable(link: PathBuf) -> Arc<PathBuf> {
    let mut bytes = link.into_os_string().into_vec();
    if let Some(path) = bytes.strip_suffix(b" (deleted)") {
        bytes.truncate(path.len());
    }
    Arc::new(std::ffi::OsString::from_vec(bytes).into())
}

fn arguments(cmdline: &[u8]) -> Arc<[String]> {
    let bounded = &cmdline[..cmdline.len().min(ARGS_BYTES)];
    let ended = bounded.strip_suffix(&[0]).unwrap_or(bounded);
    ended
        .split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_rounded_down_to_ticks() {
        assert_eq!(process_start(1_239_999_999), Instant(1_230_000_000));
        assert_eq!(process_start(9), Instant(0));
        assert_eq!(start_ticks(process_start(1_239_999_999)), 123);
    }

    #[test]
    fn a_name_with_parentheses_and_newlines_shifts_no_field() {
        let stat = b"7 (a) (\n S 9) R 41 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2\n";
        assert_eq!(
            Stat::parse(stat),
            Some(Stat {
                comm: b"a) (\n S 9".to_vec(),
                parent: 41,
                start_ticks: 98765,
            })
        );
        assert_eq!(Stat::parse(b"7 (a"), None);
        assert_eq!(Stat::parse(b") ("), None);
        assert_eq!(Stat::parse(b"7 (a) R 1 2"), None);
    }

    #[test]
    fn hostile_command_lines_are_bounded_and_text() {
        assert_eq!(*arguments(b"a\0\xffb\0\0"), ["a", "\u{fffd}b", ""]);
        assert_eq!(*arguments(b"no end"), ["no end"]);
        let long = vec![b'x'; 100_000];
        assert_eq!(arguments(&long)[0].len(), ARGS_BYTES);
    }

    #[test]
    fn the_effective_user_is_the_second() {
        assert_eq!(
            effective_user(b"Name:\tx\nUid:\t0\t1000\t3\t4\n"),
            Some(1000)
        );
        assert_eq!(effective_user(b"Uid:\t0"), None);
    }

    #[test]
    fn a_replaced_program_keeps_its_path() {
        assert_eq!(*executable("/a b (deleted)".into()), Path::new("/a b"));
        assert_eq!(*executable("/a b".into()), Path::new("/a b"));
    }

    #[test]
    fn this_process_is_found_with_its_parent_and_sockets() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut proc = Proc::new();
        let pid = std::process::id();
        let all = proc.processes().unwrap();
        let this = all.iter().find(|process| process.id.pid == pid).unwrap();
        assert_eq!(
            this.program.exe.as_deref(),
            std::env::current_exe().ok().as_ref()
        );
        assert_eq!(this.uid, Some(nix::unistd::geteuid().as_raw()));
        assert_eq!(
            this.parent.unwrap().pid,
            std::os::unix::process::parent_id()
        );
        assert_eq!(process_start(this.id.start.0), this.id.start);
        assert!(!proc.socket_inodes(pid).unwrap().is_empty());
        drop(listener);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let error = Proc::new().process(u32::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
