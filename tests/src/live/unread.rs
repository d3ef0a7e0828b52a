//! Tests with a reader that stalls: signals end `flow` all the same.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    process::{ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::Signal,
};

use super::{World, flow::Flow, waiting};

/// Time limit of an end that does not wait for a reader.
const PROMPT: Duration = Duration::from_secs(2);
/// Longer than a clean end takes.
const MEANWHILE: Duration = Duration::from_millis(500);
/// Time limit until events are reported.
const MOMENT: Duration = Duration::from_millis(200);
/// A user without other processes.
const STRANGER: u32 = 54_321;
/// The smallest capacity of a pipe.
const PIPE_BYTES: i32 = 4096;

/// One signal is enough: the rest of a page is not needed.
pub fn top(world: &World) -> Result<()> {
    let (mut flow, pipe) = start(world, "top-unread", &["top", "-d", "0.1", "-n", "1000"])?;
    // It continues to refresh.
    thread::sleep(MEANWHILE);
    flow.signal(Signal::SIGTERM)?;
    ends(world, &mut flow, 143)?;
    drop(pipe);
    Ok(())
}

/// The first signal waits for the reader, the second does not: while more waits to be written than
/// is read,
pub fn events(world: &World) -> Result<()> {
    signalled_twice(world, "events-unread", &["events", "--json"])
}

/// and also while the last chunk is being written.
pub fn last_event(world: &World) -> Result<()> {
    let stranger = format!("user {STRANGER}");
    let arguments = [
        "events",
        "--json",
        "--only",
        "process.exec",
        "--filter",
        &stranger,
    ];
    signalled_twice(world, "last-event-unread", &arguments)
}

fn signalled_twice(world: &World, name: &str, arguments: &[&str]) -> Result<()> {
    let (mut flow, pipe) = start(world, name, arguments)?;
    flow.signal(Signal::SIGINT)?;
    thread::sleep(world.stretched(MEANWHILE));
    ensure!(flow.is_running()?, "what was not read yet is lost");
    flow.signal(Signal::SIGTERM)?;
    ends(world, &mut flow, 143)?;
    drop(pipe);
    Ok(())
}

/// A report is written at the end, and a signal ends that.
pub fn snapshot(world: &World) -> Result<()> {
    let arguments = ["snapshot", "--duration", "100ms", "--output", "-"];
    let (mut flow, pipe) = start(world, "snapshot-unread", &arguments)?;
    flow.signal(Signal::SIGINT)?;
    ends(world, &mut flow, 130)?;
    drop(pipe);
    Ok(())
}

/// Starts Flow with a small pipe as standard output, and waits until it cannot write any more.
fn start(world: &World, name: &str, arguments: &[&str]) -> Result<(Flow, ChildStdout)> {
    let mut flow = Flow::spawn(world, name, arguments, Stdio::piped(), |_| ())?;
    let pipe = flow.take_stdout().context("no pipe")?;
    fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)).context("making the pipe small")?;
    fill(&flow)?;
    waiting::until(world.patience(), "flow to wait for its reader", || {
        if is_writing(&flow)? {
            return Ok(Some(()));
        }
        // Something to report.
        Command::new("true")
            .uid(STRANGER)
            .status()
            .context("running true")?;
        thread::sleep(MOMENT);
        Ok(None)
    })?;
    Ok((flow, pipe))
}

/// Fills the pipe that is Flow's standard output.
fn fill(flow: &Flow) -> Result<()> {
    let mut pipe = fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(format!("/proc/{}/fd/1", flow.pid()))
        .context("opening flow's standard output")?;
    loop {
        match pipe.write(&[b'\n'; PIPE_BYTES as usize]) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("filling the pipe"),
        }
    }
}

/// Whether a thread is blocked in a write to standard output.
fn is_writing(flow: &Flow) -> Result<bool> {
    let write = format!("{} 0x1 ", libc::SYS_write);
    for task in fs::read_dir(format!("/proc/{}/task", flow.pid()))? {
        // A thread may end meanwhile.
        let call = fs::read_to_string(task?.path().join("syscall")).unwrap_or_default();
        if call.starts_with(&write) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn ends(world: &World, flow: &mut Flow, code: i32) -> Result<()> {
    let ended = flow.wait()?;
    ended.expect_code(code)?;
    let limit = world.stretched(PROMPT);
    ensure!(
        ended.took <= limit,
        "took {:?} to end, at most {limit:?} is allowed",
        ended.took
    );
    Ok(())
}
