//! Tests of Flow's standard streams: readers that leave, streams that are closed or full, and
//! limits.

use std::{
    fs::{self, File, OpenOptions},
    io::pipe,
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::openpty,
    sys::resource::{Resource, setrlimit},
};
use serde_json::Value;

use super::{
    World,
    flow::{Ended, Flow},
    generator::appending,
    held::Held,
    waiting,
};

/// File size limit of [`file_size_limited`]: enough for a message, too small for a report.
const FILE_SIZE: u64 = 1024;

/// Creates a stream: the end for the reader, and the end that Flow writes to.
type Ends = fn() -> Result<(OwnedFd, OwnedFd)>;

/// A reader leaves while there is nothing to write: Flow ends, and leaves nothing in the kernel.
pub fn reader_gone(world: &World) -> Result<()> {
    const KINDS: [(&str, Ends); 4] = [
        ("pipe", || {
            let (read, write) = pipe()?;
            Ok((read.into(), write.into()))
        }),
        ("socket", || {
            let (far, near) = UnixStream::pair()?;
            Ok((far.into(), near.into()))
        }),
        ("connection", || {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let near = TcpStream::connect(listener.local_addr()?)?;
            Ok((listener.accept()?.0.into(), near.into()))
        }),
        ("terminal", || {
            let ends = openpty(None, None)?;
            // Otherwise Flow inherits it, and its terminal never hangs up.
            fcntl(&ends.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
            Ok((ends.master, ends.slave))
        }),
    ];
    let silent = [
        "events",
        "--json",
        "--only",
        "process.exit",
        "--filter",
        "pid 1",
    ];
    for (kind, ends) in KINDS {
        without_reader(world, &silent, ends).with_context(|| format!("events, {kind}"))?;
    }
    let (_, pipe) = KINDS[0];
    for arguments in [
        &["top", "--json", "-d", "3600"][..],
        &["snapshot", "--duration", "3600s"],
    ] {
        without_reader(world, arguments, pipe).with_context(|| arguments[0].to_owned())?;
    }
    Ok(())
}

fn without_reader(world: &World, arguments: &[&str], ends: Ends) -> Result<()> {
    let (far, near) = ends()?;
    let backend = ["--backend", world.options.backend.name()];
    let arguments = [arguments, &backend].concat();
    let mut flow = Flow::spawn(world, "unread", &arguments, near.into(), |_| ())?;
    let held = waiting::until(world.patience(), "flow to have programs", || {
        ensure!(flow.is_running()?, "it ended early");
        let held = Held::so_far(flow.pid())?;
        Ok((!held.programs.is_empty()).then_some(held))
    })?;
    drop(far);
    flow.wait()?.expect_code(0)?;
    held.until_gone(world.patience())
}

/// Streams that were closed when Flow started: writing to them is a failure, and no other file gets
/// their descriptors.
pub fn streams_closed(world: &World) -> Result<()> {
    let close = |command: &mut Command| {
        let closed = || {
            for stream in 0..3 {
                nix::unistd::close(stream)?;
            }
            Ok(())
        };
        // SAFETY: only a system call between fork and exec.
        unsafe { command.pre_exec(closed) };
    };
    for arguments in [
        &["events", "--duration", "1s"][..],
        &["doctor"],
        &["--version"],
    ] {
        let ended = changed(world, "closed", arguments, Stdio::null(), close)?;
        ended.expect_code(1).with_context(|| arguments.join(" "))?;
    }
    let folder = tempfile::tempdir_in(&world.scratch)?;
    let path = folder.path().join("report.json");
    let output = path.to_str().context("the path of the report")?;
    let arguments = ["snapshot", "--duration", "1s", "--output", output];
    changed(world, "closed", &arguments, Stdio::null(), close)?.expect_code(0)?;
    serde_json::from_slice::<Value>(&fs::read(&path)?).context("the report")?;
    // If only standard output is closed, the message can be printed.
    let close = |command: &mut Command| {
        // SAFETY: only a system call between fork and exec.
        unsafe { command.pre_exec(|| Ok(nix::unistd::close(1)?)) };
    };
    changed(world, "closed", &["--help"], Stdio::null(), close)?.expect_complaint(1)
}

/// Output that cannot be written is a failure, with a message if that can be written.
pub fn streams_full(world: &World) -> Result<()> {
    let full = || OpenOptions::new().write(true).open("/dev/full");
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["events", "--help"],
        &["doctor"],
        &["config"],
        &["top", "--once"],
        &["snapshot", "--duration", "1s"],
    ] {
        let ended = changed(world, "full", arguments, full()?.into(), |_| ())?;
        ended
            .expect_complaint(1)
            .with_context(|| arguments.join(" "))?;
    }
    let errors = full()?;
    let wrong = ["events", "--filter", "host ("];
    let ended = changed(world, "full", &wrong, Stdio::null(), |command| {
        command.stderr(errors);
    })?;
    ended.expect_code(2)?;
    let (read, write) = pipe()?;
    drop(read);
    changed(world, "full", &["--help"], write.into(), |_| ())?.expect_code(0)
}

/// A report that exceeds the file size limit is not left in part.
pub fn file_size_limited(world: &World) -> Result<()> {
    let folder = tempfile::tempdir_in(&world.scratch)?;
    let limit = |command: &mut Command| limited(command, Resource::RLIMIT_FSIZE, FILE_SIZE);
    let path = folder.path().join("report.json");
    let output = path.to_str().context("the path of the report")?;
    let arguments = ["snapshot", "--duration", "1s", "--output", output];
    let ended = changed(world, "limited-report", &arguments, Stdio::null(), limit)?;
    ended.expect_complaint(1)?;
    let left = fs::read_dir(folder.path())?.count();
    ensure!(left == 0, "{left} files left behind");
    let to_file = File::create(folder.path().join("out"))?;
    let ended = changed(world, "limited-output", &["--help"], to_file.into(), limit)?;
    ended.expect_complaint(1)
}

/// With too few open files, the message names the limit to raise.
pub fn few_open_files(world: &World) -> Result<()> {
    let limit = |command: &mut Command| limited(command, Resource::RLIMIT_NOFILE, 16);
    for arguments in [["events", "--json"], ["top", "--once"]] {
        let ended = changed(world, "few-files", &arguments, Stdio::null(), limit)?;
        ended.expect_complaint(1)?;
        ensure!(ended.stderr.contains("ulimit -n"), "{}", ended.stderr);
    }
    Ok(())
}

/// Root of a user namespace, or root without capabilities, is not permitted.
pub fn without_rights(world: &World) -> Result<()> {
    let flow = fs::canonicalize(&world.options.flow)?;
    let flow = flow.to_str().context("the path of flow")?;
    let drop_all = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"];
    for wrapper in [&["unshare", "-Ur"][..], &["unshare", "-Urn"], &drop_all] {
        let mut wrapped = world.with_backend(world.options.backend);
        wrapped.options.flow = wrapper[0].into();
        for own in [&["events", "--json"][..], &["top", "--once"]] {
            let arguments = [&wrapper[1..], &[flow], own].concat();
            let ended = changed(&wrapped, "no-rights", &arguments, Stdio::null(), |_| ())?;
            ended
                .expect_complaint(3)
                .with_context(|| arguments.join(" "))?;
        }
    }
    Ok(())
}

/// Runs Flow to its end; `change` modifies the command.
fn changed(
    world: &World,
    name: &str,
    arguments: &[&str],
    stdout: Stdio,
    change: impl FnOnce(&mut Command),
) -> Result<Ended> {
    // Remove the output of an earlier run.
    drop(appending(&world.scratch.join(format!("{name}.flow.err")))?.set_len(0));
    Flow::spawn(world, name, arguments, stdout, change)?.wait()
}

fn limited(command: &mut Command, what: Resource, most: u64) {
    let limit = move || Ok(setrlimit(what, most, most)?);
    // SAFETY: only a system call between fork and exec.
    unsafe { command.pre_exec(limit) };
}
