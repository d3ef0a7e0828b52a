//! Modes with several processes, or with processes that are hard to identify.

use std::{
    ffi::{OsStr, OsString},
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, FromRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, process::CommandExt as _},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, Pid, fork},
};

use super::{
    Options,
    tcp::{self, Request},
};
use crate::truth::Tally;

/// Processes of `short` that run at the same time. With their far ends no more calls wait than a
/// kernel with two CPUs has return probes for.
const AT_ONCE: usize = 4;
/// Workers of the forked modes.
pub const WORKERS: u64 = 4;

pub fn short(options: &Options, _: &Tally) -> Result<()> {
    let peer = options.peer()?.to_string();
    let programs = Programs::new()?;
    let mut running: Vec<Child> = Vec::new();
    for number in 0..options.count {
        if running.len() == AT_ONCE {
            expect_success(running.remove(0))?;
        }
        // Each moves a different amount, so that swapped processes are noticed.
        let bytes = (options.bytes + number).to_string();
        let child = Command::new(programs.link(OsStr::new(&format!("short-{number}")))?)
            .args(["generate", "tcp-both", "--peer", &peer, "--bytes", &bytes])
            .args(["--", &format!("number {number}")])
            .stdin(Stdio::null())
            .spawn()
            .context("starting a short process")?;
        running.push(child);
    }
    running.into_iter().try_for_each(expect_success)
}

pub fn hostile(options: &Options, _: &Tally) -> Result<()> {
    let peer = options.peer()?.to_string();
    let programs = Programs::new()?;
    let name = OsStr::from_bytes(b"e\"v\\i\nl\x1b]0;x\x07 \xff\xfe{}");
    let mut arguments = vec![
        OsString::from("\u{1b}[2J\r\n\t\u{7f}"),
        OsString::from("{\"type\":\"lost\"}\n{\"type\":\"lost\"}"),
        OsString::from("right-to-left \u{202e} and wide \u{1f980}"),
        OsStr::from_bytes(b"invalid \xc3\x28 \xf0\x9f").to_owned(),
        OsString::new(),
    ];
    for long in [0, 100_000] {
        arguments.push(OsString::from("x".repeat(long)));
        let child = Command::new(programs.link(name)?)
            .args(["generate", "tcp-both", "--peer", &peer])
            .args(["--bytes", &options.bytes.to_string(), "--"])
            .args(&arguments)
            .stdin(Stdio::null())
            .spawn()
            .context("starting a program with a hostile name")?;
        expect_success(child)?;
    }
    Ok(())
}

pub fn forked_listener(options: &Options, tally: &Tally) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let workers = (0..WORKERS)
        .map(|_| in_child(&options.mode, |tally| work(&listener, tally)))
        .collect::<Result<Vec<_>>>()?;
    for number in 0..options.count {
        let bytes = options.bytes + number;
        let stream = tcp::connect(address, Request::Source(bytes), tally)?;
        tcp::send_and_drain(&stream, bytes / 2, tally)?;
    }
    for _ in &workers {
        tcp::finish(tcp::connect(address, Request::Quit, tally)?, tally)?;
    }
    workers.into_iter().try_for_each(wait_for)
}

pub fn forked_sender(options: &Options, tally: &Tally) -> Result<()> {
    let stream = tcp::connect(options.peer()?, Request::Sink, tally)?;
    let senders = (0..WORKERS)
        .map(|number| {
            let bytes = options.bytes + number;
            in_child(&options.mode, |tally| {
                Ok(tcp::send(&mut &stream, bytes, tally)?)
            })
        })
        .collect::<Result<Vec<_>>>()?;
    tcp::send(&mut &stream, options.bytes / 3, tally)?;
    senders.into_iter().try_for_each(wait_for)?;
    tcp::finish(stream, tally)
}

pub fn exec(options: &Options, tally: &Tally) -> Result<()> {
    let mut stream = tcp::connect(options.peer()?, Request::Sink, tally)?;
    tcp::send(&mut stream, options.bytes, tally)?;
    fcntl(&stream, FcntlArg::F_SETFD(FdFlag::empty())).context("keeping the socket open")?;
    tally.print(&options.mode)?;
    let error = Command::new(std::env::current_exe()?)
        .args(["generate", "exec-rest"])
        .args(["--bytes", &(options.bytes / 2).to_string()])
        .args(["--socket", &stream.as_raw_fd().to_string()])
        .exec();
    Err(error).context("becoming another program")
}

pub fn exec_rest(options: &Options, tally: &Tally) -> Result<()> {
    let socket = options.socket.context("exec-rest needs --socket")?;
    ensure!(socket > 2, "--socket is not a socket of `exec`");
    // SAFETY: the program that this process was before left the descriptor open for this use only.
    let mut stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(socket) });
    tcp::send(&mut stream, options.bytes, tally)?;
    tcp::finish(stream, tally)
}

/// Accepts until asked to quit.
fn work(listener: &TcpListener, tally: &Tally) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept()?;
        match Request::read(&mut stream, tally)? {
            Some(Request::Quit) => return Ok(()),
            Some(Request::Source(bytes)) => tcp::send_and_drain(&stream, bytes, tally)?,
            other => bail!("a worker was asked for {other:?}"),
        }
    }
}

/// Runs `job` in a child process with its own counts, which the child prints.
pub fn in_child(mode: &str, job: impl FnOnce(&Tally) -> Result<()>) -> Result<Pid> {
    // SAFETY: the process has one thread, so the child may do whatever the parent may.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let tally = Tally::default();
            let result = job(&tally);
            end_child(mode, &tally, result)
        }
    }
}

/// Prints what a child counted, and ends it.
pub fn end_child(mode: &str, tally: &Tally, result: Result<()>) -> ! {
    let result = result.and_then(|()| tally.print(mode));
    if let Err(error) = &result {
        eprintln!("flow-live: child of mode {mode}: {error:#}");
    }
    // SAFETY: ends the process without running destructors or exit handlers of the parent.
    unsafe { libc::_exit(i32::from(result.is_err())) }
}

/// Waits for a child, which must succeed.
pub fn wait_for(child: Pid) -> Result<()> {
    match waitpid(child, None).context("waitpid")? {
        WaitStatus::Exited(_, 0) => Ok(()),
        other => bail!("a child failed: {other:?}"),
    }
}

fn expect_success(mut child: Child) -> Result<()> {
    let status = child.wait()?;
    ensure!(status.success(), "a process failed: {status}");
    Ok(())
}

/// Copies of this program under other names, in a directory that is removed on drop.
struct Programs {
    directory: tempfile::TempDir,
    original: PathBuf,
}

impl Programs {
    fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("flow-live-").tempdir()?;
        let original = directory.path().join("original");
        fs::copy("/proc/self/exe", &original).context("copying this program")?;
        Ok(Self {
            directory,
            original,
        })
    }

    fn link(&self, name: &OsStr) -> Result<PathBuf> {
        let path = self.directory.path().join(name);
        if !path.exists() {
            fs::hard_link(&self.original, &path).context("linking this program")?;
        }
        Ok(path)
    }
}
