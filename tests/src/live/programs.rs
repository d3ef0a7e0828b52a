//! Tests of `flow` as a program: signals, closed and full outputs, invalid input.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    Scope, World, cases, causes, datagrams, degraded, faults,
    flow::{Ended, Flow},
    generator::Generator,
    held::Held,
    interfaces, listeners, lives, outputs, overload, packets, qdisc, remotes, renames, replay,
    report, session, stacked, streams, unread,
};

/// A test of the program.
#[derive(Debug)]
pub struct Test {
    pub name: &'static str,
    pub run: fn(&World) -> Result<()>,
    pub scope: Scope,
}

/// A test that each backend must pass.
pub const fn test(name: &'static str, run: fn(&World) -> Result<()>) -> Test {
    Test {
        name,
        run,
        scope: Scope::Backend,
    }
}

/// A test that no backend affects.
const fn of_kernel(name: &'static str, run: fn(&World) -> Result<()>) -> Test {
    Test {
        name,
        run,
        scope: Scope::Kernel,
    }
}

/// A test that no kernel affects.
const fn of_program(name: &'static str, run: fn(&World) -> Result<()>) -> Test {
    Test {
        name,
        run,
        scope: Scope::Program,
    }
}

/// Every test.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    test("signal_interrupt",              |world| signal(world, Signal::SIGINT, 130)),
    of_program("signal_terminate",        |world| signal(world, Signal::SIGTERM, 143)),
    of_program("signal_hang_up",          |world| signal(world, Signal::SIGHUP, 129)),
    of_program("top_unread",              unread::top),
    of_program("events_unread",           unread::events),
    of_program("last_event_unread",       unread::last_event),
    of_program("snapshot_unread",         unread::snapshot),
    of_kernel("interfaces_come_and_go",   interfaces::come_and_go),
    of_kernel("interface_renamed",        interfaces::renamed),
    of_program("interface_listed",        interfaces::appeared_in_a_list),
    of_kernel("interface_down_then_up",   interfaces::down_then_up),
    of_kernel("listeners_keep_listening", listeners::keep_listening),
    of_program("listeners_of_datagrams",  listeners::of_datagrams),
    of_program("datagrams_idle",          lives::datagrams_idle),
    of_kernel("tcp_info",                 lives::tcp_info),
    of_kernel("ledger_forwarded",         causes::forwarded),
    of_kernel("ledger_kernel_replies",    causes::kernel_replies),
    of_kernel("ledger_several_takers",    causes::several_takers),
    of_kernel("ledger_datagrams",         datagrams::buffers),
    of_kernel("ledger_dropped",           causes::dropped),
    of_kernel("ledger_tunnel",            causes::tunnel),
    of_kernel("ledger_above_bridge",      stacked::bridge),
    of_kernel("ledger_neighbour_waits",   stacked::neighbour_waits),
    of_kernel("ledger_peer_gone",         stacked::peer_gone),
    of_kernel("ledger_gone_busy",         stacked::gone_under_traffic),
    of_program("ledger_moved_busy",       stacked::moved),
    of_kernel("ledger_renamed_busy",      stacked::renamed_under_traffic),
    of_kernel("ledger_master_changes",    stacked::master_changes),
    of_kernel("packets_options",          packets::options),
    of_kernel("packets_fragments",        packets::fragments),
    of_kernel("packets_refused",          packets::refused),
    of_program("interface_missing",       interfaces::missing),
    of_kernel("bpffs_absent",             degraded::bpffs_absent),
    of_kernel("cgroup_v1_only",           degraded::cgroup_v1_only),
    of_program("processes_hidden",        degraded::processes_hidden),
    of_kernel("bpf_refused",              degraded::bpf_refused),
    of_program("btf_cut",                 degraded::btf_cut),
    of_program("btf_absent",              degraded::btf_absent),
    of_program("proc_absent",             degraded::proc_absent),
    of_program("bare_surroundings",       degraded::bare_surroundings),
    of_kernel("cgroup_namespace",         degraded::cgroup_namespace),
    of_kernel("time_namespace",           degraded::time_namespace),
    of_kernel("renames_followed",         renames::followed),
    test("remotes_of_heirs",              remotes::of_heirs),
    of_program("pid_namespace",           degraded::pid_namespace),
    of_kernel("each_program_refused",     degraded::each_program_refused),
    of_kernel("releases_refused",         degraded::releases_refused),
    test("each_counter_refused",          degraded::each_counter_refused),
    of_kernel("many_interfaces",          degraded::many_interfaces),
    of_program("killed_then_started",     killed_then_started),
    of_program("stdout_closed",           stdout_closed),
    of_program("stdout_full",             stdout_full),
    of_program("reader_gone",             streams::reader_gone),
    of_program("streams_closed",          streams::streams_closed),
    of_program("streams_full",            streams::streams_full),
    of_program("file_size_limited",       streams::file_size_limited),
    of_program("few_open_files",          streams::few_open_files),
    of_program("without_rights",          streams::without_rights),
    of_program("usage_errors",            usage_errors),
    of_program("without_privileges",      without_privileges),
    test("programs_verified",             programs_verified),
    of_kernel("doctor_answers",           doctor_answers),
    of_program("top_once_json",           outputs::top_once_json),
    of_program("top_once_text",           outputs::top_once_text),
    of_program("events_text_is_harmless", outputs::events_text_is_harmless),
    of_kernel("ledger_begins_clean",      outputs::ledger_begins_clean),
    of_program("views_replayed",         replay::views),
    of_program("snapshot_totals",         outputs::snapshot_totals),
    of_program("snapshot_full_disk",      outputs::snapshot_full_disk),
    test("overload_ring",                 overload::ring),
    test("overload_sockets",              overload::sockets),
    test("overload_processes",            overload::processes),
    test("overload_small_maps",           overload::small_maps),
    of_kernel("overload_stopped",         overload::stopped),
    of_kernel("overload_interrupts",      overload::interrupts),
    of_kernel("fault_interface_deleted",  faults::interface_deleted),
    of_kernel("fault_namespace_removed",  faults::namespace_removed),
    of_kernel("fault_cgroup_removed",     faults::cgroup_removed),
    test("fault_two_flows",               faults::two_flows),
    test("fault_attached_100_times",      faults::attached_often),
    test("fault_killed_100_times",        faults::killed_often),
];

/// Budget of a clean end, on a real machine that is otherwise idle.
const DETACH: Duration = Duration::from_millis(100);
/// The budget as a multiple of what [`idle_starts`] measures, on a busy or slow machine.
const TIMES_IDLE: u32 = 10;

/// Flow ends in time and with the right exit code, and leaves nothing on interfaces or in the
/// kernel.
fn signal(world: &World, signal: Signal, code: i32) -> Result<()> {
    let mut late = Vec::new();
    for _ in 0..5 {
        let before = qdisc::read()?;
        let flow = Flow::events(world, signal.as_str())?;
        let held = Held::of(flow.pid())?;
        let idle = idle_starts()?;
        let ended = flow.stop(signal)?;
        ended.expect_code(code)?;
        let idle = idle.min(idle_starts()?);
        held.until_gone(world.patience())?;
        before.is_all_there_is()?;
        let (took, limit) = (ended.took, DETACH.max(TIMES_IDLE * idle));
        if took <= limit || world.is_slow() {
            return Ok(());
        }
        late.push(format!("{took:?}, of {limit:?} allowed"));
    }
    bail!("took too long to end, each time: {}", late.join("; "));
}

/// Time of five starts of a trivial program: other load delays these as much as Flow.
fn idle_starts() -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..5 {
        let status = Command::new("true").status().context("running true")?;
        ensure!(status.success(), "true: {status}");
    }
    Ok(started.elapsed())
}

/// Reports the kernel and, for each of Flow's programs in it, how many instructions its verifier
/// processed. `cargo xtask test` collects these lines.
fn programs_verified(world: &World) -> Result<()> {
    let mut flow = Flow::events(world, "verified")?;
    let held = Held::of(flow.pid())?.programs;
    let mut lines = format!("matrix kernel {}\n", kernel_release()?);
    let mut count = 0;
    for program in aya::programs::loaded_programs() {
        let Ok(program) = program else { continue };
        if !held.contains(&program.id()) {
            continue;
        }
        let name = program.name_as_str().context("a program without a name")?;
        let verified = program.verified_instruction_count();
        let verified = verified.context("the kernel does not report it")?;
        lines.push_str(&format!("matrix program {name} {verified}\n"));
        count += 1;
    }
    ensure!(
        count == held.len() && count > 0,
        "flow holds {} programs, the kernel reports {count}",
        held.len()
    );
    flow.signal(Signal::SIGINT)?;
    flow.wait()?.expect_code(130)?;
    report::print(&lines)
}

fn kernel_release() -> Result<String> {
    let path = "/proc/sys/kernel/osrelease";
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    Ok(text.trim().to_owned())
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
    before.has_all_filters()
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
    // Traffic, so that Flow has something to write and notices.
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
        Flow::run(world, "usage", arguments)
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
    let ended = Flow::run(world, "doctor", &["doctor", "--json"])?;
    ended.expect_code(0)?;
    serde_json::from_slice::<Value>(&ended.stdout).context("output of flow doctor --json")?;
    let ended = Flow::run(world, "doctor", &["doctor"])?;
    ended.expect_code(0)?;
    outputs::expect_harmless(&ended.stdout)
}

fn run_as_nobody(world: &World, arguments: &[&str]) -> Result<Ended> {
    let stdout = super::generator::appending(&world.scratch.join("nobody.flow.out"))?;
    let nobody = |command: &mut Command| {
        command.uid(65_534).gid(65_534).current_dir("/");
    };
    Flow::spawn(world, "nobody", arguments, stdout.into(), nobody)?.wait()
}

/// A copy of a program that everybody may run. Removed on drop.
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
