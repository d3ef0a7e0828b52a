//! Flow, or what it monitors, in cgroup and time namespaces.

use std::{
    fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{self, Command},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use nix::{
    mount::{MntFlags, MsFlags, umount2},
    sched::{CloneFlags, unshare},
    sys::signal::Signal,
    time::{ClockId, clock_gettime},
};

use super::{
    APP_BYTES, Run, SOCKETS, WIRE_BYTES, candidate, doctor, expect_text,
    lacking::{cgroup2_mounts, in_mount_namespace, over, refusing},
};
use crate::{
    live::{
        World, check,
        flow::Flow,
        generator::Generator,
        report,
        stream::{Stream, records},
        waiting,
    },
    time_namespace,
    truth::Truth,
};

/// In a cgroup namespace, as containers have one, only a part of the tree is mounted. Flow reaches
/// the root through process 1, or by its id. If neither is permitted, Flow reports that and works
/// without cgroup v2.
pub fn cgroup_namespace(world: &World) -> Result<()> {
    let cgroup = Cgroup::new("inner")?;
    let inside = |hides_first: bool, refuses_ids: bool| {
        let (procs, mounts) = (cgroup.0.join("cgroup.procs"), cgroup2_mounts());
        move |command: &mut Command| {
            let mounts = mounts.unwrap_or_default();
            in_mount_namespace(command, move || {
                fs::write(&procs, "0")?;
                unshare(CloneFlags::CLONE_NEWCGROUP)?;
                for point in &mounts {
                    umount2(point.as_path(), MntFlags::MNT_DETACH)?;
                }
                let first = mounts
                    .last()
                    .map(PathBuf::as_path)
                    .unwrap_or(Path::new("/"));
                over(&first.to_string_lossy(), "cgroup2", MsFlags::empty(), "")?;
                if hides_first {
                    over("/proc/1", "tmpfs", MsFlags::empty(), "")?;
                }
                Ok(())
            });
            if refuses_ids {
                refusing(command, libc::SYS_open_by_handle_at);
            }
        }
    };
    for (name, hides_first) in [("by-first", false), ("by-id", true)] {
        let name = format!("cgroup-namespace.{name}");
        let run = Run::counted(world, &name, inside(hides_first, false))?;
        run.covers(WIRE_BYTES, "cgroup_skb", "")?;
        run.covers(SOCKETS, "cgroup hooks", "")?;
        placed(world, &name, inside(hides_first, false)).context(name)?;
    }
    let name = "cgroup-namespace.part";
    let modes = ["forked-listener", "tcp-again", "inherited", "udp-workers"];
    let run = Run::of_modes(world, name, &modes, inside(true, true))?;
    run.covers(WIRE_BYTES, "none", "everything")?;
    run.covers(SOCKETS, "tracepoint", "sockets other than TCP's")?;
    let (backend, limits) = run.coverage_of(APP_BYTES)?;
    if backend == "tracepoint" {
        expect_text(limits, "the remotes of unconnected sockets")?;
    }
    run.follows_connections()?;
    let doctor = doctor(world, name, inside(true, true))?;
    expect_text(
        &candidate(&doctor, WIRE_BYTES, "cgroup_skb")?,
        "only a part",
    )
}

/// A process outside of Flow's cgroup namespace is reported with its own cgroup.
fn placed(world: &World, name: &str, change: impl FnOnce(&mut Command)) -> Result<()> {
    let cgroup = Cgroup::new("outer")?;
    let name = format!("{name}.placed");
    let mut outer = Generator::start(world, &name, "opened-before", &[], None)?;
    outer.ready()?;
    fs::write(cgroup.0.join("cgroup.procs"), outer.pid().to_string())?;
    let flow = Flow::events_changed(world, &name, change)?;
    outer.go()?;
    let truth = outer.join()?.pop().context("nothing was moved")?;
    let ended = flow.stop(Signal::SIGINT)?;
    ended.expect_code(130)?;
    let expected = format!("/{}", file_name(&cgroup.0));
    let own = records(&ended.stdout)?
        .into_iter()
        .filter(|record| record["process"]["pid"] == truth.pid);
    let cgroups: Vec<_> = own.map(|it| it["process"]["cgroup"].clone()).collect();
    ensure!(
        !cgroups.is_empty() && cgroups.iter().all(|it| *it == *expected),
        "its cgroup is {expected}, flow reports {cgroups:?}"
    );
    Ok(())
}

/// In a time namespace each process has one identity and its true start; so has a process in
/// another time namespace than Flow's.
pub fn time_namespace(world: &World) -> Result<()> {
    if !time_namespace::exists() {
        return Ok(());
    }
    let mut before = Generator::start(world, "time-inside", "opened-before", &[], None)?;
    before.ready()?;
    let flow = Flow::events_changed(world, "time-inside", |command| {
        // SAFETY: only system calls between fork and exec; the texts are short.
        unsafe { command.pre_exec(time_namespace::enter) };
    })?;
    before.go()?;
    let mut truths = before.join()?;
    let mut forked = Generator::start(world, "time-forked", "forked-listener", &[], None)?;
    truths.extend(forked.join()?);
    expect_one_each(flow, &truths).context("flow in a time namespace")?;

    let mut other = Generator::start(world, "time-outside", "other-time", &[], None)?;
    other.ready()?;
    let start = start_of(other.pid())?;
    let flow = Flow::events(world, "time-outside")?;
    other.go()?;
    let pid = other.pid();
    let mut truths = other.join()?;
    // They read their own starts with other clocks.
    truths.retain(|truth| truth.pid == pid);
    for truth in &mut truths {
        truth.start = start;
    }
    expect_one_each(flow, &truths).context("a process in a time namespace")
}

/// Ends Flow. Each of these processes must have one identity, with all that it moved and its true
/// start, and records must have the wall-clock time.
fn expect_one_each(flow: Flow, truths: &[Truth]) -> Result<()> {
    let ended = flow.stop(Signal::SIGINT)?;
    ended.expect_code(130)?;
    let stream = Stream::parse(&ended.stdout);
    ensure!(!truths.is_empty(), "no process moved a byte");
    let since_boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    let now = Timestamp::now();
    let boot = now - SignedDuration::try_from(since_boot)?;
    for truth in truths {
        let own = stream.processes_of(truth.pid);
        let [process] = own.as_slice() else {
            anyhow::bail!("process {} is {own:?}", truth.pid);
        };
        let ticks = i64::try_from(truth.start)?;
        let start = boot + SignedDuration::from_millis(10 * ticks);
        let reported: Timestamp = process.1.parse()?;
        // The wall clock may be adjusted meanwhile.
        let off = reported.duration_since(start).abs();
        ensure!(
            off < SignedDuration::from_millis(500),
            "process {} started at {start}, flow reports {reported}",
            truth.pid
        );
        let seen = stream.app_of(&own);
        ensure!(
            (seen.tx_bytes, seen.rx_bytes) == (truth.moved.tx_bytes, truth.moved.rx_bytes),
            "process {} moved {:?}, flow saw {seen:?}",
            truth.pid,
            truth.moved
        );
    }
    for record in records(&ended.stdout)? {
        let time: Timestamp = record["time"].as_str().context("no time")?.parse()?;
        let off = time.duration_since(now).abs();
        ensure!(off < SignedDuration::from_mins(2), "it is {now}: {record}");
    }
    report::expect_none(&check::stream(&stream, false))
}

/// The start of a process in ticks, by the clock of the initial time namespace.
fn start_of(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no name in it")?;
    let start = fields.split(' ').nth(19).context("no start in it")?;
    Ok(start.parse()?)
}

/// A cgroup at the root of the tree. Removed on drop, once it is empty.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Result<Self> {
        const ROOT: u64 = 1;
        let mounts = cgroup2_mounts()?;
        let is_root = |point: &&PathBuf| fs::metadata(point).is_ok_and(|it| it.ino() == ROOT);
        let root = mounts.iter().find(is_root).context("no cgroup v2 root")?;
        let path = root.join(format!("flow-live-{}-{name}", process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let patience = Duration::from_secs(5);
        let gone = waiting::until(patience, "a cgroup to be empty", || {
            Ok(fs::remove_dir(&self.0).is_ok().then_some(()))
        });
        if let Err(error) = gone {
            eprintln!("flow-live: {}: {error:#}", self.0.display());
        }
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
