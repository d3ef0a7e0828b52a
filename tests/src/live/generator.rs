//! A process of the generator, as a child of the test.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{sched::CloneFlags, sys::signal::Signal};

use super::{
    World,
    peer::Peer,
    tools::{self, Netns},
    waiting,
};
use crate::truth::{Line, Truth};

/// A running mode. Ends on drop, also if the test panics.
#[derive(Debug)]
pub struct Generator {
    child: Child,
    name: String,
    output: PathBuf,
    errors: PathBuf,
    patience: std::time::Duration,
}

impl Generator {
    /// Starts a mode in the peer's network namespace, or in the test's own. It runs until its
    /// standard input ends, if it reads that.
    ///
    /// `name` is for the files of its output.
    pub fn start(
        world: &World,
        name: &str,
        mode: &str,
        arguments: &[String],
        peer: Option<&Peer>,
    ) -> Result<Self> {
        let netns = peer.map(|peer| &*peer.namespace);
        Self::start_in(world, name, mode, arguments, netns)
    }

    /// As [`Self::start`], in any network namespace.
    pub fn start_in(
        world: &World,
        name: &str,
        mode: &str,
        arguments: &[String],
        netns: Netns<'_>,
    ) -> Result<Self> {
        let output = world.scratch.join(format!("{name}.out"));
        let errors = world.scratch.join(format!("{name}.err"));
        let netns = netns.map(tools::open).transpose()?;
        let mut command = Command::new(&world.generator);
        command
            .args(["generate", mode])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(appending(&output)?)
            .stderr(appending(&errors)?);
        // SAFETY: only system calls that are safe between fork and exec.
        unsafe {
            command.pre_exec(move || {
                if let Some(netns) = &netns {
                    nix::sched::setns(netns, CloneFlags::CLONE_NEWNET)?;
                }
                die_with_parent()
            });
        }
        Ok(Self {
            child: command
                .spawn()
                .with_context(|| format!("starting {name}"))?,
            name: name.to_owned(),
            output,
            errors,
            patience: world.patience(),
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address at which the mode `serve` listens.
    pub fn listening(&mut self) -> Result<SocketAddr> {
        self.first("its address", |line| match line {
            Line::Listening { address } => Some(*address),
            _ => None,
        })
    }

    /// Waits until the mode has done what must happen before Flow starts.
    pub fn ready(&mut self) -> Result<()> {
        self.first("being ready", |line| {
            matches!(line, Line::Ready).then_some(())
        })
    }

    /// Waits until so many of its processes have ended, and returns what the last of them moved.
    pub fn moved_by(&mut self, number: usize) -> Result<Truth> {
        self.wait("what a process moved", |lines| {
            let moved = lines.iter().filter_map(|line| match line {
                Line::Moved(truth) => Some(truth),
                Line::Listening { .. } | Line::Ready => None,
            });
            moved.map(|truth| Truth::clone(truth)).nth(number - 1)
        })
    }

    /// Lets the mode continue.
    pub fn go(&mut self) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("its input is closed")?;
        stdin.write_all(b"go\n").context("telling it to go on")
    }

    /// Ends its standard input, waits for it, and returns what its processes moved.
    pub fn finish(mut self) -> Result<Vec<Truth>> {
        drop(self.child.stdin.take());
        self.join()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits until the process ends by itself, or is ended by another.
    pub fn end(&mut self) -> Result<ExitStatus> {
        let status = waiting::for_exit(&mut self.child, self.patience, &self.name);
        status.with_context(|| self.complaint())
    }

    /// Waits for the end, and returns what its processes moved.
    pub fn join(&mut self) -> Result<Vec<Truth>> {
        let status = self.end()?;
        ensure!(
            status.success(),
            "{} failed, {status}: {}",
            self.name,
            self.complaint()
        );
        let lines = self.lines()?;
        Ok(lines
            .into_iter()
            .filter_map(|line| match line {
                Line::Moved(truth) => Some(*truth),
                Line::Listening { .. } | Line::Ready => None,
            })
            .collect())
    }

    fn first<T>(&mut self, what: &str, pick: impl Fn(&Line) -> Option<T>) -> Result<T> {
        self.wait(what, |lines| lines.iter().find_map(&pick))
    }

    fn wait<T>(&mut self, what: &str, pick: impl Fn(&[Line]) -> Option<T>) -> Result<T> {
        let what = format!("{what} from {}", self.name);
        waiting::until(self.patience, &what, || {
            if let Some(found) = pick(&self.lines()?) {
                return Ok(Some(found));
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended early, {status}: {}", self.name, self.complaint());
            }
            Ok(None)
        })
    }

    fn lines(&self) -> Result<Vec<Line>> {
        let text = fs::read(&self.output)?;
        text.split_inclusive(|byte| *byte == b'\n')
            .filter(|line| line.ends_with(b"\n"))
            .map(|line| {
                serde_json::from_slice(line).context("a line that is none of the generator's")
            })
            .collect()
    }

    fn complaint(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        waiting::end(&mut self.child);
    }
}

/// For use between fork and exec: the child ends when the test does.
pub fn die_with_parent() -> std::io::Result<()> {
    // SAFETY: the call takes no pointers.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, Signal::SIGKILL as libc::c_ulong) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// An empty file opened for appending, so that several processes do not overwrite each other's
/// lines.
pub fn appending(path: &PathBuf) -> Result<File> {
    File::create(path).with_context(|| format!("making {}", path.display()))?;
    OpenOptions::new()
        .append(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}
