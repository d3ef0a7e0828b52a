//! Runs the system's tools and changes settings, here or in a network namespace. Starting a program
//! takes a quarter of a second on an emulated machine, so each start does as much as possible.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns},
    unistd::Pid,
};

/// The directory of the names of `ip netns`.
pub const NAMESPACES: &str = "/run/netns";

/// A network namespace by name, or the test's own.
pub type Netns<'a> = Option<&'a str>;

/// Opens a network namespace, for `setns(2)`.
pub fn open(namespace: &str) -> Result<File> {
    let path = Path::new(NAMESPACES).join(namespace);
    File::open(&path).with_context(|| format!("opening {}", path.display()))
}

/// Runs a program; its arguments are separated by single spaces.
pub fn run(netns: Netns<'_>, command: &str) -> Result<()> {
    let mut words = command.split(' ');
    let program = words.next().context("no program")?;
    output(netns, Command::new(program).args(words)).map(drop)
}

/// Runs one command of `ip`.
pub fn ip(arguments: &str) -> Result<()> {
    run(None, &format!("ip {arguments}"))
}

/// Runs commands of `ip`, until one fails.
pub fn ip_batch(netns: Netns<'_>, commands: &[String]) -> Result<()> {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]);
    run_with_input(netns, &mut ip, &commands.join("\n"))
        .map(drop)
        .with_context(|| commands.join("; "))
}

/// Runs a program to its end, and returns its output.
pub fn output(netns: Netns<'_>, command: &mut Command) -> Result<Vec<u8>> {
    run_with_input(netns, command, "")
}

/// As [`output`], with `input` as its standard input.
fn run_with_input(netns: Netns<'_>, command: &mut Command, input: &str) -> Result<Vec<u8>> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(namespace) = netns {
        let namespace = open(namespace)?;
        // SAFETY: only a system call between fork and exec.
        unsafe {
            command.pre_exec(move || Ok(setns(&namespace, CloneFlags::CLONE_NEWNET)?));
        }
    }
    let ran = command.spawn().and_then(|mut child| {
        // It fits the pipe, and none of these programs prints much before it has read its input.
        let stdin = child.stdin.take();
        let written = stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
        Ok((written, child.wait_with_output()?))
    });
    let (written, ended) = ran.with_context(|| format!("running {command:?}"))?;
    let Output {
        status,
        stdout,
        stderr,
    } = ended;
    if !status.success() {
        let error = String::from_utf8_lossy(&stderr);
        bail!("{command:?}: {}", error.trim());
    }
    written.with_context(|| format!("writing to {command:?}"))?;
    Ok(stdout)
}

/// Changes a setting below `/proc/sys/net`.
pub fn set(netns: Netns<'_>, name: &str, value: &str) -> Result<()> {
    within(netns, || {
        let path = format!("/proc/sys/net/{name}");
        fs::write(&path, value).with_context(|| format!("writing {path}"))
    })
}

/// Keeps this thread, what it starts, and so their packets on one CPU: each CPU remembers only its
/// own packets.
pub struct Pinned(CpuSet);

impl Pinned {
    pub fn to_one() -> Result<Self> {
        let pinned = Self(sched_getaffinity(Pid::from_raw(0))?);
        let allowed = (0..CpuSet::count()).find(|cpu| pinned.0.is_set(*cpu) == Ok(true));
        let mut one = CpuSet::new();
        one.set(allowed.context("no CPU is allowed")?)?;
        sched_setaffinity(Pid::from_raw(0), &one)?;
        Ok(pinned)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // That CPU was permitted before.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

/// Runs a shell script with the sysfs of a network namespace, as `ip` mounts it; returns its
/// output.
pub fn with_sysfs(netns: &str, script: &str) -> Result<Vec<u8>> {
    let mut ip = Command::new("ip");
    output(None, ip.args(["netns", "exec", netns, "sh", "-c", script]))
}

/// Reads a file of `/proc/net`.
pub fn read(netns: Netns<'_>, name: &str) -> Result<String> {
    within(netns, || {
        let path = format!("/proc/thread-self/net/{name}");
        fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    })
}

/// Runs `job` in a network namespace, on a thread of its own: the kernel keeps the namespace by
/// thread.
pub fn within<T: Send>(netns: Netns<'_>, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let Some(namespace) = netns else {
        return action();
    };
    let namespace = open(namespace)?;
    let inside = || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).context("entering a network namespace")?;
        action()
    };
    thread::scope(|scope| scope.spawn(inside).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
