//! A process under measurement: its output as it arrives, its CPU time, its memory.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    pty::{OpenptyResult, Winsize, openpty},
    sched::CloneFlags,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::de::DeserializeOwned;

use super::Bench;
use crate::live::{peer::Peer, waiting};

/// Time limit for everything that should take a moment: a start, a first line, an end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The target of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// To this program, line by line.
    Lines,
    /// To a file that is read at the end: reading it earlier would take CPU from what is measured.
    File,
    /// To this program, which counts it and keeps nothing: too much for a file.
    Counted,
    /// To a terminal of its own, of 120 columns and 40 rows, which is its standard input too; its
    /// output goes on to a file.
    Terminal,
}

const TERMINAL: Winsize = Winsize {
    ws_col: 120,
    ws_row: 40,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

/// A child process. Ends on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    started: Instant,
    stdin: Option<ChildStdin>,
    lines: Option<Receiver<(Instant, String)>>,
    counted: Option<Arc<AtomicU64>>,
    output: PathBuf,
    errors: PathBuf,
}

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time together.
    pub cpu: Duration,
    /// Part of that in the kernel, in clock ticks.
    pub user_ticks: u64,
    pub system_ticks: u64,
    /// Resident memory now and at its peak, in bytes.
    pub resident: u64,
    pub peak: u64,
}

impl Process {
    /// Starts a program, in the peer's network namespace or in this one. Its standard input stays
    /// open until it must end.
    pub fn start<S: AsRef<OsStr>>(
        bench: &Bench,
        name: &str,
        program: &Path,
        arguments: &[S],
        peer: Option<&Peer>,
        output: Output,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::start_command(bench, name, command, peer, output)
    }

    /// The same with a command that is made already.
    pub fn start_command(
        bench: &Bench,
        name: &str,
        mut command: Command,
        peer: Option<&Peer>,
        output: Output,
    ) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        bench.check()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| bench.scratch.join(format!("{number}-{name}.{kind}"));
        let (out, errors) = (file("out"), file("err"));
        let netns = peer.map(Peer::netns).transpose()?;
        command
            .stdin(Stdio::piped())
            .stderr(File::create(&errors).context("making a file")?);
        match output {
            Output::Lines | Output::Counted => command.stdout(Stdio::piped()),
            Output::File => command.stdout(File::create(&out).context("making a file")?),
            Output::Terminal => {
                let OpenptyResult { master, slave } =
                    openpty(&TERMINAL, None).context("making a terminal")?;
                copy(master.into(), File::create(&out).context("making a file")?);
                command
                    .stdin(slave.try_clone().context("dup")?)
                    .stdout(slave)
                    .env("TERM", "xterm-256color")
                    // Independent of this user's settings.
                    .env("XDG_CONFIG_HOME", &bench.scratch)
            }
        };
        // SAFETY: only system calls that are safe between fork and exec.
        unsafe {
            command.pre_exec(move || {
                if output == Output::Terminal {
                    nix::unistd::setsid()?;
                    if libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) != 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
                if let Some(netns) = &netns {
                    nix::sched::setns(netns, CloneFlags::CLONE_NEWNET)?;
                }
                Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
            });
        }
        let started = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let stdout = child.stdout.take();
        let (lines, counted) = match (stdout, output) {
            (Some(stdout), Output::Counted) => (None, Some(count(stdout))),
            (stdout, _) => (stdout.map(read_lines), None),
        };
        Ok(Self {
            name: name.to_owned(),
            started,
            stdin: child.stdin.take(),
            lines,
            counted,
            child,
            output: out,
            errors,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line, with the time from the start to its arrival.
    pub fn line(&mut self, bench: &Bench) -> Result<(Duration, String)> {
        let lines = self.lines.as_ref().context("its output goes to a file")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            bench.check()?;
            match lines.recv_timeout(Duration::from_millis(50)) {
                Ok((when, line)) => return Ok((when - self.started, line)),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(_) => bail!("{} printed nothing more: {}", self.name, self.complaint()),
            }
        }
    }

    /// The next line, read as JSON.
    pub fn json<T: DeserializeOwned>(&mut self, bench: &Bench) -> Result<T> {
        let (_, line) = self.line(bench)?;
        serde_json::from_str(&line).with_context(|| format!("{} printed {line:?}", self.name))
    }

    /// Waits until it has written something.
    pub fn first_output(&mut self, bench: &Bench) -> Result<()> {
        if self.lines.is_some() {
            return self.line(bench).map(|_| ());
        }
        let what = format!("the first output of {}", self.name);
        waiting::until(PATIENCE, &what, || {
            bench.check()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended early, {status}: {}", self.name, self.complaint());
            }
            Ok((self.written()? > 0).then_some(()))
        })
    }

    /// Ends its standard input; returns its last line as JSON.
    pub fn finish<T: DeserializeOwned>(mut self, bench: &Bench) -> Result<T> {
        self.stdin = None;
        self.json(bench)
    }

    /// Ends its standard input and waits until it succeeds.
    pub fn close(mut self) -> Result<()> {
        self.stdin = None;
        self.join()
    }

    /// Waits until it succeeds.
    pub fn join(&mut self) -> Result<()> {
        let status = waiting::for_exit(&mut self.child, 2 * PATIENCE, &self.name)?;
        ensure!(
            status.success(),
            "{} failed, {status}: {}",
            self.name,
            self.complaint()
        );
        Ok(())
    }

    /// Ends its standard input; returns all further output until it succeeds.
    pub fn output_to_end(mut self) -> Result<String> {
        self.stdin = None;
        self.join()?;
        self.text()
    }

    /// Ends it with SIGINT and waits; returns the time that took, and its output.
    pub fn interrupt(mut self) -> Result<(Duration, String)> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended early, {status}: {}", self.name, self.complaint());
        }
        let signalled = Instant::now();
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGINT)
            .with_context(|| format!("ending {}", self.name))?;
        waiting::for_exit(&mut self.child, PATIENCE, &self.name)?;
        let took = signalled.elapsed();
        Ok((took, self.text()?))
    }

    /// Bytes of its output so far, if that goes to a file or is counted.
    pub fn written(&self) -> Result<u64> {
        if let Some(counted) = &self.counted {
            return Ok(counted.load(Ordering::Relaxed));
        }
        Ok(fs::metadata(&self.output)?.len())
    }

    pub fn usage(&self) -> Result<Usage> {
        usage(self.pid())
    }

    /// Output that was not read yet, up to its end.
    fn text(&self) -> Result<String> {
        Ok(match &self.lines {
            Some(lines) => lines.iter().map(|(_, line)| line + "\n").collect(),
            None if self.counted.is_some() => String::new(),
            None => String::from_utf8_lossy(&fs::read(&self.output)?).into_owned(),
        })
    }

    fn complaint(&self) -> String {
        let text = fs::read(&self.errors).unwrap_or_default();
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        waiting::end(&mut self.child);
        let _ = fs::remove_file(&self.output);
        let _ = fs::remove_file(&self.errors);
    }
}

/// What a process has used so far.
fn usage(pid: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (user_ticks, system_ticks) = ticks(&stat).context("reading /proc/PID/stat")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(Usage {
        cpu: cpu_clock(pid)?,
        user_ticks,
        system_ticks,
        resident: kibibytes(&status, "VmRSS:").context("VmRSS in /proc/PID/status")? << 10,
        peak: kibibytes(&status, "VmHWM:").context("VmHWM in /proc/PID/status")? << 10,
    })
}

/// The process's CPU clock: in nanoseconds, where `/proc/PID/stat` has ticks of 10 ms.
fn cpu_clock(pid: u32) -> Result<Duration> {
    let mut clock = 0;
    // SAFETY: the pointer is to a clockid_t that lives until after the call.
    let code = unsafe { libc::clock_getcpuclockid(pid.try_into()?, &raw mut clock) };
    ensure!(code == 0, "no CPU clock of process {pid}");
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: as above, for a timespec.
    let code = unsafe { libc::clock_gettime(clock, &raw mut time) };
    ensure!(code == 0, "the CPU clock of process {pid} cannot be read");
    Ok(Duration::new(
        time.tv_sec.try_into()?,
        time.tv_nsec.try_into()?,
    ))
}

/// utime and stime, fields 14 and 15; the name, field 2, is in parentheses and may contain
/// anything.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Reads what is written to a terminal, until it is closed everywhere.
fn copy(mut terminal: File, mut file: File) {
    thread::spawn(move || io::copy(&mut terminal, &mut file));
}

/// Reads what is written and counts it, until it ends.
fn count(mut stdout: std::process::ChildStdout) -> Arc<AtomicU64> {
    let counted = Arc::new(AtomicU64::new(0));
    let total = Arc::clone(&counted);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = stdout.read(&mut buffer) {
            total.fetch_add(read as u64, Ordering::Relaxed);
        }
    });
    counted
}

fn read_lines(stdout: std::process::ChildStdout) -> Receiver<(Instant, String)> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|length| length > 0)
        {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send((Instant::now(), text)).is_err() {
                return;
            }
            line.clear();
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_whatever_the_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 12 34 0 0 20 0 1";
        assert_eq!(ticks(stat), Some((12, 34)));
        let status = "Name:\tx\nVmHWM:\t   12 kB\nVmRSS:\t    7 kB\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(7));
        assert_eq!(kibibytes(status, "VmHWM:"), Some(12));
    }

    #[test]
    fn a_process_has_used_something() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.resident > 0 && usage.peak >= usage.resident);
    }
}
