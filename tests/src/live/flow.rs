//! The program under test, as a child of the test.

use std::{
    ffi::OsStr,
    fs,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{
    World,
    generator::{appending, die_with_parent},
    tools, waiting,
};

/// Log level of Flow in tests, which includes "taken too often" of ledgers.
const LOG: &str = "warn,flow_user::source::kernel::interface_tracker=debug";
/// How long a dropped Flow may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// A running `flow`. Ends on drop, also if the test panics.
#[derive(Debug)]
pub struct Flow {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    patience: Duration,
}

/// The result of a Flow that ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// Time from the signal, or the start, to the end.
    pub took: Duration,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Flow {
    /// Starts Flow with these arguments and the backend under test.
    pub fn start<S: AsRef<OsStr>>(world: &World, name: &str, arguments: &[S]) -> Result<Self> {
        let stdout = world.scratch.join(format!("{name}.flow.out"));
        Self::spawn(world, name, arguments, appending(&stdout)?.into(), |_| ())
    }

    /// Runs Flow to its end.
    pub fn run(world: &World, name: &str, arguments: &[&str]) -> Result<Ended> {
        Self::start(world, name, arguments)?.wait()
    }

    /// As [`Self::start`], with another standard output; `change` modifies the command.
    pub fn spawn<S: AsRef<OsStr>>(
        world: &World,
        name: &str,
        arguments: &[S],
        stdout: Stdio,
        change: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let stderr = world.scratch.join(format!("{name}.flow.err"));
        let mut command = Command::new(&world.options.flow);
        command
            .args(arguments)
            .env("FLOW_LOG", LOG)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(appending(&stderr)?);
        // SAFETY: only a system call that is safe between fork and exec.
        unsafe { command.pre_exec(die_with_parent) };
        change(&mut command);
        Ok(Self {
            child: command.spawn().context("starting flow")?,
            stdout: world.scratch.join(format!("{name}.flow.out")),
            stderr,
            patience: world.patience(),
        })
    }

    /// Starts the event stream, and waits until Flow is attached, also to all interfaces.
    pub fn events(world: &World, name: &str) -> Result<Self> {
        Self::events_with(world, name, &[])
    }

    /// As [`Self::events`], with further arguments.
    pub fn events_with(world: &World, name: &str, more: &[&str]) -> Result<Self> {
        let mut flow = Self::starting(world, name, more)?;
        flow.attached_everywhere()?;
        Ok(flow)
    }

    /// As [`Self::events_with`], in a network namespace.
    pub fn events_in(world: &World, name: &str, more: &[&str], netns: &str) -> Result<Self> {
        let backend = world.options.backend.name();
        let arguments = [&["events", "--json", "--backend", backend], more].concat();
        let stdout = appending(&world.scratch.join(format!("{name}.flow.out")))?;
        let netns = tools::open(netns)?;
        let enter = |command: &mut Command| {
            // SAFETY: only a system call between fork and exec.
            unsafe {
                command.pre_exec(move || Ok(setns(&netns, CloneFlags::CLONE_NEWNET)?));
            }
        };
        let mut flow = Self::spawn(world, name, &arguments, stdout.into(), enter)?;
        flow.attached_everywhere()?;
        Ok(flow)
    }

    /// Starts the event stream of a command modified by `change`, and waits until Flow is attached.
    pub fn events_changed(
        world: &World,
        name: &str,
        change: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let arguments = [
            "events",
            "--json",
            "--backend",
            world.options.backend.name(),
        ];
        let stdout = appending(&world.scratch.join(format!("{name}.flow.out")))?;
        let mut flow = Self::spawn(world, name, &arguments, stdout.into(), change)?;
        flow.attached()?;
        Ok(flow)
    }

    /// Starts the event stream without waiting until Flow is attached.
    pub fn starting(world: &World, name: &str, more: &[&str]) -> Result<Self> {
        let backend = world.options.backend.name();
        let arguments = [&["events", "--json", "--backend", backend], more].concat();
        Self::start(world, name, &arguments)
    }

    /// Waits for the first line of the event stream, its status.
    fn attached(&mut self) -> Result<()> {
        let line = waiting::until(self.patience, "flow's first line", || {
            let text = self.output()?;
            if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(text[..end].to_vec()));
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("flow ended early, {status}: {}", self.complaint());
            }
            Ok(None)
        })?;
        let record: Value = serde_json::from_slice(&line).context("flow's first line")?;
        ensure!(
            record["type"] == "status",
            "flow's first line is no status: {record}"
        );
        Ok(())
    }

    /// Waits for the first line, and until all interfaces have their classifiers.
    fn attached_everywhere(&mut self) -> Result<()> {
        self.attached()?;
        let what = "every interface to have its classifiers";
        waiting::until(self.patience, what, || {
            let text = self.output()?;
            let whole = text.split_inclusive(|byte| *byte == b'\n');
            let status = whole
                .filter(|line| line.ends_with(b"\n"))
                .map(String::from_utf8_lossy)
                .rfind(|line| line.contains("\"type\":\"status\""));
            let settled = status.is_some_and(|line| !line.contains("being attached"));
            Ok(settled.then_some(()))
        })
    }

    /// Sends a signal and waits for the end.
    pub fn stop(mut self, signal: Signal) -> Result<Ended> {
        self.signal(signal)?;
        self.wait()
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?);
        if let Some(status) = self.child.try_wait()? {
            bail!("flow ended early, {status}: {}", self.complaint());
        }
        kill(pid, signal).context("sending flow a signal")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> Result<Ended> {
        let started = Instant::now();
        let status = waiting::for_exit(&mut self.child, self.patience, "flow");
        let status = status.with_context(|| self.complaint())?;
        Ok(Ended {
            status,
            took: started.elapsed(),
            stdout: self.output().unwrap_or_default(),
            stderr: self.complaint(),
        })
    }

    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// The output so far.
    pub fn output(&self) -> Result<Vec<u8>> {
        fs::read(&self.stdout).with_context(|| format!("reading {}", self.stdout.display()))
    }

    fn complaint(&self) -> String {
        let text = fs::read(&self.stderr).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // After a failure: if it were killed at once, on kernels without TCX its filters would
        // disturb the next test.
        if self.signal(Signal::SIGTERM).is_ok() && self.signal(Signal::SIGCONT).is_ok() {
            let _ = waiting::for_exit(&mut self.child, GRACE, "flow");
        }
        waiting::end(&mut self.child);
    }
}

impl Ended {
    /// The exit code, or 128 and the signal, as in a shell.
    pub fn code(&self) -> i32 {
        let by_signal = || self.status.signal().map(|signal| 128 + signal);
        self.status.code().or_else(by_signal).unwrap_or(-1)
    }

    /// Checks that Flow exited with this code, without a panic.
    pub fn expect_code(&self, code: i32) -> Result<()> {
        let stderr = self.stderr.trim();
        ensure!(
            self.code() == code,
            "exit code {}, expected {code}: {stderr}",
            self.code()
        );
        ensure!(!stderr.contains("panicked"), "flow panicked: {stderr}");
        // The ledger would subtract it again, which would hide it.
        ensure!(!stderr.contains("taken too often"), "{stderr}");
        Ok(())
    }

    /// As [`Self::expect_code`], and that it printed why.
    pub fn expect_complaint(&self, code: i32) -> Result<()> {
        self.expect_code(code)?;
        ensure!(
            !self.stderr.trim().is_empty(),
            "exit code {code} without a message"
        );
        Ok(())
    }
}
