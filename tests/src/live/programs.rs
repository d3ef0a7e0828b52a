//! The tests of what `flow` does as a program: signals, closed and full outputs, bad input.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    World, cases,
    flow::{Ended, Flow},
    generator::Generator,
    interfaces, outputs, qdisc, session, unread, waiting,
};

/// A test of the program.
#[derive(Debug)]
pub struct Test {
    pub name: &'static str,
    pub run: fn(&World) -> Result<()>,
}

const fn test(name: &'static str, run: fn(&World) -> Result<()>) -> Test {
    Test { name, run }
}

/// Every test.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    test("signal_interrupt",          |world| signal(world, Signal::SIGINT, 130)),
    test("signal_terminate",          |world| signal(world, Signal::SIGTERM, 143)),
    test("signal_hang_up",            |world| signal(world, Signal::SIGHUP, 129)),
    test("top_unread",                unread::top),
    test("events_unread",             unread::events),
    test("last_event_unread",         unread::last_event),
    test("snapshot_unread",           unread::snapshot),
    test("interfaces_come_and_go",    interfaces::come_and_go),
    test("interface_renamed",         interfaces::renamed),
    test("interface_down_then_up",    interfaces::down_then_up),
    test("interface_missing",         interfaces::missing),
    test("killed_then_started",       killed_then_started),
    test("stdout_closed",             stdout_closed),
    test("stdout_full",               stdout_full),
    test("usage_errors",              usage_errors),
    test("without_privileges",        without_privileges),
    test("doctor_answers",            doctor_answers),
    test("top_once_json",             outputs::top_once_json),
    test("top_once_text",             outputs::top_once_text),
    test("events_text_is_harmless",   outputs::events_text_is_harmless),
    test("ledger_begins_clean",       outputs::ledger_begins_clean),
    test("snapshot_totals",           outputs::snapshot_totals),
    test("snapshot_full_disk",        outputs::snapshot_full_disk),
];

/// Budget of a clean end.
const DETACH: Duration = Duration::from_millis(100);

/// Ends in time, with the right code, and leaves nothing on the interfaces or in the kernel.
fn signal(world: &World, signal: Signal, code: i32) -> Result<()> {
    // On a slow machine by as much longer as it is slower.
    let budget = DETACH * u32::try_from(world.options.scale)?;
    let mut fastest = Duration::MAX;
    for attempt in 0..3 {
        let before = qdisc::read()?;
        let flow = Flow::events(world, &format!("{signal}-{attempt}"))?;
        ensure!(loaded()? > 0, "flow runs without programs");
        let ended = flow.stop(signal)?;
        ended.expect_code(code)?;
        none_loaded(world)?;
        let after = qdisc::read()?;
        ensure!(
            after == before,
            "left on the interfaces: {after:?}, before: {before:?}"
        );
        // What else runs on this machine may delay one of them.
        fastest = fastest.min(ended.took);
        if fastest <= budget {
            return Ok(());
        }
    }
    bail!("took {fastest:?} to end, at most {budget:?} is allowed");
}

/// Waits for the kernel to have removed the last of Flow's programs: those of interfaces follow a little later.
fn none_loaded(world: &World) -> Result<()> {
    waiting::until(
        world.patience(),
        "the kernel to have no program of flow",
        || Ok((loaded()? == 0).then_some(())),
    )
}

/// How many of Flow's programs are in the kernel. Of each kind one.
fn loaded() -> Result<usize> {
    let mut count = 0;
    for program in aya::programs::loaded_programs() {
        // One that goes while it is looked at.
        let Ok(program) = program else { continue };
        let kinds = [
            "tc_ingress",
            "cgroup_egress",
            "sched_process_e",
            "sock_release",
        ];
        count += usize::from(
            program
                .name_as_str()
                .is_some_and(|name| kinds.contains(&name)),
        );
    }
    Ok(count)
}

fn killed_then_started(world: &World) -> Result<()> {
    let before = qdisc::read()?;
    let ended = Flow::events(world, "killed")?.stop(Signal::SIGKILL)?;
    ensure!(ended.code() == 137, "killed, and yet code {}", ended.code());
    let case = cases::CASES
        .iter()
        .find(|case| case.name == "tcp_vectored")
        .context("the case tcp_vectored is gone")?;
    session::single(world, case)?;
    let after = qdisc::read()?;
    ensure!(
        after.filters == before.filters,
        "left on the interfaces: {after:?}, before: {before:?}"
    );
    Ok(())
}

fn stdout_closed(world: &World) -> Result<()> {
    let arguments = [
        "events",
        "--json",
        "--backend",
        world.options.backend.name(),
    ];
    let mut flow = Flow::spawn(world, "closed", &arguments, Stdio::piped(), |_| ())?;
    let mut reader = BufReader::new(flow.take_stdout().context("no pipe")?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    serde_json::from_str::<Value>(&line).context("flow's first line")?;
    drop(reader);
    // Something to write, until it notices.
    let mut round = 0;
    while flow.is_running()? {
        ensure!(round < 1000, "flow went on without a reader");
        let mut traffic = Generator::start(
            world,
            "closed.near",
            "forked-listener",
            &["--count".to_owned(), "1".to_owned()],
            None,
        )?;
        traffic.join()?;
        round += 1;
    }
    flow.wait()?.expect_code(0)
}

fn stdout_full(world: &World) -> Result<()> {
    let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let arguments = ["events", "--json", "--duration", "10s"];
    Flow::spawn(world, "full", &arguments, full.into(), |_| ())?
        .wait()?
        .expect_complaint(1)
}

fn usage_errors(world: &World) -> Result<()> {
    let wrong: &[&[&str]] = &[
        &["events", "--filter", "host ("],
        &["top", "--filter", "pid nonsense"],
        &["top", "--no-such-flag"],
        &["events", "--interface", "no-such-if0"],
        &["top", "--once", "--sort", "no-such-column"],
        &["snapshot", "--duration", "soon", "--output", "/dev/null"],
        &["events", "--backend", "no-such-backend"],
        &["no-such-command"],
    ];
    for arguments in wrong {
        run(world, "usage", arguments)
            .and_then(|ended| ended.expect_complaint(2))
            .with_context(|| format!("flow {}", arguments.join(" ")))?;
    }
    Ok(())
}

fn without_privileges(world: &World) -> Result<()> {
    let program = Public::copy(&world.options.flow)?;
    let mut world = World {
        options: world.options.clone(),
        generator: world.generator.clone(),
        scratch: world.scratch.clone(),
    };
    world.options.flow.clone_from(&program.path);
    for arguments in [["events", "--json"], ["top", "--once"]] {
        let ended = run_as_nobody(&world, &arguments)?;
        ended
            .expect_complaint(3)
            .with_context(|| format!("flow {} as nobody", arguments.join(" ")))?;
    }
    let ended = run_as_nobody(&world, &["doctor", "--json"])?;
    serde_json::from_slice::<Value>(&ended.stdout).context("output of flow doctor as nobody")?;
    Ok(())
}

fn doctor_answers(world: &World) -> Result<()> {
    let ended = run(world, "doctor", &["doctor", "--json"])?;
    ended.expect_code(0)?;
    serde_json::from_slice::<Value>(&ended.stdout).context("output of flow doctor --json")?;
    let ended = run(world, "doctor", &["doctor"])?;
    ended.expect_code(0)?;
    outputs::expect_harmless(&ended.stdout)
}

/// Runs flow to its end.
pub fn run(world: &World, name: &str, arguments: &[&str]) -> Result<Ended> {
    Flow::start(world, name, arguments)?.wait()
}

fn run_as_nobody(world: &World, arguments: &[&str]) -> Result<Ended> {
    let stdout = super::generator::appending(&world.scratch.join("nobody.flow.out"))?;
    let nobody = |command: &mut std::process::Command| {
        command.uid(65_534).gid(65_534).current_dir("/");
    };
    Flow::spawn(world, "nobody", arguments, stdout.into(), nobody)?.wait()
}

/// A copy of a program that everybody may run. Goes with the value.
struct Public {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Public {
    fn copy(program: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("flow-live-").tempdir()?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let path = directory.path().join("flow");
        fs::copy(program, &path).context("copying flow")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            path,
            _directory: directory,
        })
    }
}
