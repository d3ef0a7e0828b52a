//! Processes as `/proc` shows them.
//!
//! **Start times.** A process is (pid, start time). BPF programs read the start in nanoseconds;
//! `/proc/PID/stat` has it in ticks of 10 ms, rounded down, and nothing more precise. So that one
//! process has one identity, [`ProcessId::start`] is always a whole number of ticks: the kernel's
//! starts pass through [`process_start`]. Two processes could share a pid within one tick only if
//! the kernel assigned every other pid in between. In a time namespace both are converted to the
//! clock of the initial one, see [`super::boottime`].

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use flow_common::limits::ARGS_BYTES;
use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};

use super::{
    boottime::{Shift, TICK_NANOS},
    cgroups::CgroupDirectories,
};
use crate::event::{CgroupId, Instant, ProcessFact, ProcessId, Program};

/// Bytes that are read of a file of a process; `status` has some 1,500.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// The link `/proc/PID/ns/pid` of the initial PID namespace: its inode is `PROC_PID_INIT_INO`.
pub const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// The start of a process as its identity has it: `start_boottime` of its task, in nanoseconds
/// since boot, rounded down to a tick.
pub fn process_start(boottime_nanos: u64) -> Instant {
    Shift::own().start_of_nanos(boottime_nanos)
}

/// The same start in ticks, as field 22 of `/proc/PID/stat` has it in the initial time namespace.
pub const fn start_ticks(start: Instant) -> u64 {
    start.0 / TICK_NANOS
}

/// A reader of `/proc`.
#[derive(Debug)]
pub struct Proc {
    root: PathBuf,
    /// Directories of cgroups in the v2 tree; absent if that is not mounted.
    cgroup_directories: Option<CgroupDirectories>,
    /// Ids of cgroups by path, cached for one pass: many processes share one, and later another
    /// cgroup may have that path.
    cgroups: HashMap<PathBuf, Option<CgroupId>>,
}

impl Default for Proc {
    fn default() -> Self {
        Self::new()
    }
}

impl Proc {
    /// Reads `/proc`.
    pub fn new() -> Self {
        Self::at("/proc".into(), CgroupDirectories::read())
    }

    fn at(root: PathBuf, cgroup_directories: Option<CgroupDirectories>) -> Self {
        Self {
            root,
            cgroup_directories,
            cgroups: HashMap::new(),
        }
    }

    /// All visible processes, without those that end meanwhile or that `hidepid` hides.
    ///
    /// # Errors
    /// `/proc` itself cannot be read.
    pub fn processes(&mut self) -> io::Result<Vec<ProcessFact>> {
        self.cgroups.clear();
        let pids = self.pids()?;
        Ok(pids
            .into_iter()
            .filter_map(|pid| Some(self.read(pid).ok()?.0))
            .collect())
    }

    /// All processes that have not ended; any other process has.
    ///
    /// # Errors
    /// `/proc`, or a file of a process that has not ended, cannot be read.
    pub fn living(&mut self) -> io::Result<Vec<ProcessFact>> {
        self.cgroups.clear();
        let mut living = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match self.read(pid) {
                Ok((_, Life::Ended)) => {}
                Ok((fact, Life::Lives)) => living.push(fact),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(living)
    }

    /// Whether this `/proc` is that of the initial PID namespace, and hides no process: one that is
    /// not in it has ended.
    pub fn shows_every_process(&self) -> bool {
        let namespace = fs::read_link(self.root.join("self/ns/pid"));
        let is_initial = namespace.is_ok_and(|link| link.as_os_str() == INITIAL_PID_NAMESPACE);
        // With `hidepid`, process 1 is hidden as well, unless it belongs to this user.
        let may_see = |pid: &str| fs::read_dir(self.root.join(pid).join("task")).is_ok();
        is_initial && nix::unistd::geteuid().is_root() && may_see("1")
    }

    /// A process by its pid. Files that may not be read are absent in the result.
    ///
    /// # Errors
    /// There is no such process, or it is hidden.
    pub fn process(&mut self, pid: u32) -> io::Result<ProcessFact> {
        self.cgroups.clear();
        Ok(self.read(pid)?.0)
    }

    fn read(&mut self, pid: u32) -> io::Result<(ProcessFact, Life)> {
        let directory = Directory::open(&self.root, pid)?;
        let stat = Stat::read(&directory)?;
        let parent = (stat.parent != 0)
            .then(|| self.id(stat.parent).ok())
            .flatten();
        let (cmdline, cmdline_cut) = command_line(&directory);
        let fact = ProcessFact {
            id: stat.id(pid),
            parent,
            program: Program {
                comm: Some(stat.name()),
                exe: directory.link("exe").ok().map(executable),
                cmdline,
                cmdline_cut,
            },
            uid: directory
                .read("status")
                .ok()
                .and_then(|status| effective_user(&status)),
            cgroup: self.cgroup(&directory),
        };
        Ok((fact, stat.life))
    }

    /// The current name and command line of a process, without the path of the executable. May
    /// block: `get_mm_cmdline` takes `mmap_lock`, and pages may be swapped out.
    ///
    /// # Errors
    /// The process is gone, or another one has its pid.
    pub fn names(&self, id: ProcessId) -> io::Result<Program> {
        let directory = Directory::open(&self.root, id.pid)?;
        let stat = Stat::read(&directory)?;
        if stat.id(id.pid) != id {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (cmdline, cmdline_cut) = command_line(&directory);
        Ok(Program {
            comm: Some(stat.name()),
            exe: None,
            cmdline,
            cmdline_cut,
        })
    }

    /// The identity of a process, from one file.
    ///
    /// # Errors
    /// As [`Self::process`].
    pub fn id(&self, pid: u32) -> io::Result<ProcessId> {
        Ok(Stat::read(&Directory::open(&self.root, pid)?)?.id(pid))
    }

    /// The pids of all visible processes.
    ///
    /// # Errors
    /// `/proc` itself cannot be read.
    pub fn pids(&self) -> io::Result<Vec<u32>> {
        let names = fs::read_dir(&self.root)?.flatten();
        Ok(names
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect())
    }

    /// Inode numbers of the sockets that a process has open.
    ///
    /// # Errors
    /// The process is gone, or its descriptors may not be read.
    pub fn socket_inodes(&self, pid: u32) -> io::Result<Vec<u32>> {
        let mut inodes = Vec::new();
        for entry in fs::read_dir(self.root.join(format!("{pid}/fd")))?.flatten() {
            match fs::read_link(entry.path()) {
                Ok(link) => inodes.extend(inode_of(&link, "socket:[")),
                // An LSM may permit the directory and deny its entries.
                Err(why) if why.kind() == io::ErrorKind::PermissionDenied => return Err(why),
                // Closed meanwhile.
                Err(_) => {}
            }
        }
        Ok(inodes)
    }

    fn cgroup(&mut self, directory: &Directory) -> Option<CgroupId> {
        let cgroup_directories = self.cgroup_directories.as_ref()?;
        let lines = directory.read("cgroup").ok()?;
        let path = cgroup_directories.directory(cgroup_path(&lines)?)?;
        *self.cgroups.entry(path).or_insert_with_key(|path| {
            // The id of a cgroup is the inode number of its directory.
            Some(CgroupId(fs::metadata(path).ok()?.ino()))
        })
    }
}

/// The number in a link such as `socket:[4711]`; `prefix` is everything before it.
pub(crate) fn inode_of(link: &Path, prefix: &str) -> Option<u32> {
    let name = link.as_os_str().to_str()?;
    name.strip_prefix(prefix)?.strip_suffix(']')?.parse().ok()
}

/// Whether a process that `/proc` shows has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Lives,
    /// A zombie: its parent has not waited for it yet.
    Ended,
}

/// Whether a file in `/proc` could not be read because its process is gone.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// The open directory of a process. Once the process is gone nothing can be read there, even if
/// another process has its pid.
#[derive(Debug)]
struct Directory(OwnedFd);

impl Directory {
    fn open(root: &Path, pid: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = root.join(pid.to_string());
        Ok(Self(openat(CWD, path, flags, Mode::empty())?))
    }

    fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(openat(&self.0, name, flags, Mode::empty())?.into())
    }

    /// Reads a file whose content the kernel generates at the first read.
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let file = self.open_file(name)?;
        file.take(MAX_FILE_BYTES).read_to_end(&mut content)?;
        Ok(content)
    }

    fn link(&self, name: &str) -> io::Result<PathBuf> {
        let target = readlinkat(&self.0, name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }
}

/// What Flow takes from `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub comm: Vec<u8>,
    pub parent: u32,
    pub life: Life,
    pub start_ticks: u64,
}

impl Stat {
    fn read(directory: &Directory) -> io::Result<Self> {
        let text = directory.read("stat")?;
        Self::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// `pid (comm) state ppid ...`; the name may contain anything, also parentheses.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let comm = text.get(open + 1..close)?.to_vec();
        // The state is field 3.
        let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let threads: i64 = fields.nth(15)?.parse().ok()?;
        let start_ticks = fields.nth(1)?.parse().ok()?;
        // The state is that of the first thread, which may have ended while others run.
        let has_ended = matches!(state, "Z" | "X") && threads <= 1;
        Some(Self {
            comm,
            parent,
            life: if has_ended { Life::Ended } else { Life::Lives },
            start_ticks,
        })
    }

    fn name(&self) -> Arc<str> {
        String::from_utf8_lossy(&self.comm).into()
    }

    fn id(&self, pid: u32) -> ProcessId {
        ProcessId {
            pid,
            start: Shift::own().start_of_ticks(self.start_ticks),
        }
    }
}

/// The command line of a process, if it has one and it may be read, and whether it was truncated.
fn command_line(directory: &Directory) -> (Option<Arc<[String]>>, bool) {
    match directory.open_file("cmdline").and_then(read_arguments) {
        Ok(text) if !text.is_empty() => (Some(arguments(&text)), text.len() > ARGS_BYTES),
        _ => (None, false),
    }
}

/// Reads what is kept and one byte more, in one call: if the process ends before a second call,
/// that returns nothing, and the first part would look complete.
fn read_arguments(mut file: impl Read) -> io::Result<Vec<u8>> {
    let mut text = vec![0; ARGS_BYTES + 1];
    let length = file.read(&mut text)?;
    text.truncate(length);
    Ok(text)
}

/// The path in the v2 tree, without the slash before it, from the lines of `/proc/PID/cgroup`.
pub(crate) fn cgroup_path(lines: &[u8]) -> Option<&[u8]> {
    lines
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"0::/"))
}

/// The effective user id, second of four: real, effective, saved, file system.
pub(crate) fn effective_user(status: &[u8]) -> Option<u32> {
    let line = status
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"Uid:"))?;
    let ids = std::str::from_utf8(line).ok()?;
    ids.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Removes the ` (deleted)` of a program that was replaced while it runs.
fn executable(link: PathBuf) -> Arc<PathBuf> {
    let mut bytes = link.into_os_string().into_vec();
    if let Some(path) = bytes.strip_suffix(b" (deleted)") {
        bytes.truncate(path.len());
    }
    Arc::new(OsString::from_vec(bytes).into())
}

/// Splits arguments that each end with a zero byte, bounded as the kernel side bounds them. A
/// process that writes a title over them fills the rest with zero bytes, so several empty arguments
/// at the end are dropped.
pub(crate) fn arguments(cmdline: &[u8]) -> Arc<[String]> {
    let bounded = &cmdline[..cmdline.len().min(ARGS_BYTES)];
    let ended = match bounded.iter().rposition(|byte| *byte != 0) {
        Some(last) if bounded[last + 1..].len() > 2 => &bounded[..=last],
        _ => bounded.strip_suffix(&[0]).unwrap_or(bounded),
    };
    ended
        .split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        os::unix::{ffi::OsStrExt as _, fs::symlink},
    };

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn starts_are_converted_to_ticks() {
        assert_eq!(start_ticks(Instant(1_239_999_999)), 123);
    }

    #[test]
    fn a_process_has_ended_when_all_its_threads_have() {
        let life = |state: &str, threads: u32| {
            let stat = format!(
                "7 (a) {state} 41 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 {threads} 0 98765 1 2\n"
            );
            Stat::parse(stat.as_bytes()).map(|stat| stat.life)
        };
        assert_eq!(life("S", 1), Some(Life::Lives));
        assert_eq!(life("Z", 2), Some(Life::Lives));
        assert_eq!(life("Z", 1), Some(Life::Ended));
        assert_eq!(life("X", 0), Some(Life::Ended));
    }

    #[test]
    fn a_directory_stays_that_of_its_process() {
        let root = tempfile::tempdir().unwrap();
        let make = |exe: &str| {
            let directory = root.path().join("7");
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("cmdline"), format!("{exe}\0")).unwrap();
            symlink(exe, directory.join("exe")).unwrap();
            directory
        };
        let first = make("first");
        let directory = Directory::open(root.path(), 7).unwrap();
        // Another process has its pid now.
        fs::rename(first, root.path().join("gone")).unwrap();
        make("second");
        let (cmdline, _) = command_line(&directory);
        assert_eq!(cmdline.as_deref(), Some(&["first".to_owned()][..]));
        assert_eq!(directory.link("exe").unwrap(), Path::new("first"));
    }

    #[test]
    fn a_living_process_is_listed_and_a_zombie_is_not() {
        let mut ended = std::process::Command::new("true")
            .spawn()
            .expect("the program true");
        let pid = ended.id();
        let is_listed = || {
            let living = Proc::new().living().expect("/proc can be read");
            living.iter().any(|process| process.id.pid == pid)
        };
        // Waits until it has ended, without reaping it.
        let id = nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(pid as i32));
        let flags = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(id, flags).expect("its end");
        assert!(!is_listed(), "a zombie has ended");
        assert!(Proc::new().process(pid).is_ok(), "it is still there");
        ended.wait().expect("its status");
        let own = std::process::id();
        let living = Proc::new().living().expect("/proc can be read");
        assert!(living.iter().any(|process| process.id.pid == own));
    }

    #[test]
    fn names_are_current_and_of_no_other_process() {
        let mut named = std::process::Command::new("sh")
            .args([
                "-c",
                "printf renamed > /proc/self/comm; echo; exec 1>&-; read x",
            ])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("the program sh");
        let proc = Proc::new();
        let id = proc.id(named.id()).expect("it lives");
        let mut line = String::new();
        let mut stdout = named.stdout.take().expect("a pipe");
        stdout.read_to_string(&mut line).expect("its word");
        let names = proc.names(id).expect("it lives");
        let other = ProcessId {
            start: Instant(id.start.0 + TICK_NANOS),
            ..id
        };
        assert!(proc.names(other).is_err(), "another process of this pid");
        drop(named.stdin.take());
        named.wait().expect("its status");
        assert_eq!(names.comm.as_deref(), Some("renamed"));
        assert_eq!(names.cmdline.expect("arguments")[..2], ["sh", "-c"]);
        assert!(proc.names(id).is_err(), "it is gone");
    }

    #[test]
    fn a_command_line_is_read_whole_or_not_at_all() {
        /// The command line of a process that is gone after the first call.
        struct Ending(Option<Vec<u8>>);
        impl Read for Ending {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let text = self.0.take().unwrap_or_default();
                let length = text.len().min(buffer.len());
                buffer[..length].copy_from_slice(&text[..length]);
                Ok(length)
            }
        }
        for length in [0, 1, 33, ARGS_BYTES, ARGS_BYTES + 1] {
            let text = vec![b'a'; length];
            assert_eq!(read_arguments(Ending(Some(text.clone()))).unwrap(), text);
        }
        let longer = Ending(Some(vec![b'a'; 2 * ARGS_BYTES]));
        assert_eq!(read_arguments(longer).unwrap().len(), ARGS_BYTES + 1);
    }

    #[test]
    fn a_name_with_parentheses_and_newlines_shifts_no_field() {
        let stat = b"7 (a) (\n S 9) R 41 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2\n";
        assert_eq!(
            Stat::parse(stat),
            Some(Stat {
                comm: b"a) (\n S 9".to_vec(),
                parent: 41,
                life: Life::Lives,
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
        assert_eq!(*arguments(b"nginx: worker\0\0\0\0"), ["nginx: worker"]);
        assert_eq!(*arguments(b"\0\0\0\0"), ["", "", "", ""]);
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
        // Its file may have been replaced since it started.
        let own = executable(std::env::current_exe().unwrap());
        assert_eq!(this.program.exe.as_deref(), Some(&*own));
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
    fn the_cgroup_of_the_v2_tree_is_the_one_without_controllers() {
        let lines = b"12:cpu:/x\n1:name=systemd:/init\n0::/user.slice/a b\n";
        assert_eq!(cgroup_path(lines), Some(&b"user.slice/a b"[..]));
        assert_eq!(cgroup_path(b"0::/\n"), Some(&b""[..]));
        assert_eq!(cgroup_path(b"12:cpu:/0::/x\n"), None);
    }

    proptest! {
        #[test]
        fn no_name_shifts_a_field(comm in prop::collection::vec(any::<u8>(), 0..40), parent: u32, start_ticks: u64) {
            let after = format!(") R {parent} {} {start_ticks} 1 2\n", "-1 ".repeat(17));
            let text = [b"7 (", &*comm, after.as_bytes()].concat();
            prop_assert_eq!(Stat::parse(&text), Some(Stat { comm, parent, life: Life::Lives, start_ticks }));
        }

        #[test]
        fn no_file_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _read = (Stat::parse(&bytes), effective_user(&bytes), cgroup_path(&bytes));
            let _read = inode_of(Path::new(OsStr::from_bytes(&bytes)), "socket:[");
        }
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let error = Proc::new().process(u32::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
