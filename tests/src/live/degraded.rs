//! What `flow` does without something: it works with the rest, reports what is missing, and still
//! counts to the byte; or it ends at once and says why.
//!
//! Each situation is made for the process only: by a mount namespace of its own, a seccomp filter,
//! or by dropping privileges before it starts.

mod lacking;
mod many_interfaces;
mod namespaces;
mod refused;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    os::unix::process::CommandExt as _,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};
use serde_json::Value;

use self::lacking::{
    NOTHING, cgroup2_mounts, checked, in_mount_namespace, over, refusing, without_capability,
};
pub use self::{
    many_interfaces::many_interfaces,
    namespaces::{cgroup_namespace, time_namespace},
    refused::{each_counter_refused, each_program_refused, releases_refused},
};
use super::{
    World, check,
    flow::{Ended, Flow},
    generator::{Generator, appending},
    listeners::keep_listening_changed,
    report,
    stream::{Process, Stream, records},
};
use crate::truth::Moved;

/// All symbols of the running kernel, one on each line.
const SYMBOLS: &str = "/proc/kallsyms";
/// Names of capabilities in Flow's output.
const APP_BYTES: &str = "app bytes by process";
const SOCKETS: &str = "socket identity and life";
const WIRE_BYTES: &str = "wire bytes by socket";
const INTERFACES: &str = "interface totals";
const PROCESSES: &str = "process life";

/// Flow works without standard input, environment, a writable BPF file system, securityfs, and
/// locked memory (which matters to old kernels only).
pub fn bare_surroundings(world: &World) -> Result<()> {
    let bare = |command: &mut Command| {
        command.env_clear();
        in_mount_namespace(command, || {
            over("/sys/fs/bpf", "bpf", MsFlags::MS_RDONLY, "")?;
            over("/sys/kernel/security", "tmpfs", MsFlags::empty(), "")
        });
        without_capability(command, CAP_SYS_RESOURCE);
        let bare = || {
            let none = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            // SAFETY: system calls of which one reads the structure; neither keeps a pointer.
            unsafe {
                checked(libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const none))?;
                checked(libc::close(0))
            }
        };
        // SAFETY: only system calls between fork and exec.
        unsafe { command.pre_exec(bare) };
    };
    let run = Run::counted(world, "bare", bare)?;
    run.covers(WIRE_BYTES, "cgroup_skb", "")?;
    run.classifies()?;
    ended(world, "bare", &["top", "--once"], bare)?.expect_code(0)?;
    let doctor = doctor(world, "bare", bare)?;
    let environment = &doctor["environment"];
    let unknown = environment.get("lockdown").is_none();
    ensure!(unknown, "lockdown is known: {environment}");
    ensure!(
        environment["memlock_bytes"] == 0,
        "memory may be locked: {environment}"
    );
    Ok(())
}

/// Without any BPF file system, descriptors hold the links.
pub fn bpffs_absent(world: &World) -> Result<()> {
    let run = Run::counted(world, "bpffs-absent", |command| {
        in_mount_namespace(command, || {
            over("/sys/fs/bpf", "tmpfs", MsFlags::empty(), "")
        });
        refusing(command, libc::SYS_fsopen);
    })?;
    run.classifies()
}

/// Without a cgroup v2 tree: no wire bytes, and lifecycles of sockets from TCP's states.
pub fn cgroup_v1_only(world: &World) -> Result<()> {
    let roots = cgroup2_mounts()?;
    ensure!(!roots.is_empty(), "cgroup v2 is not mounted here");
    let hide = move |command: &mut Command| {
        let roots = roots.clone();
        in_mount_namespace(command, move || {
            roots
                .iter()
                .try_for_each(|root| Ok(umount2(root.as_path(), MntFlags::MNT_DETACH)?))
        });
    };
    let modes = [
        "forked-listener",
        "tcp-late-reader",
        "tcp-again",
        "inherited",
        "asked-for",
        "udp-workers",
        "tcp-failed",
    ];
    let run = Run::of_modes(world, "cgroup-v1-only", &modes, hide.clone())?;
    run.covers(WIRE_BYTES, "none", "everything")?;
    run.covers(SOCKETS, "tracepoint", "sockets other than TCP's")?;
    run.follows_connections()?;
    let mut opened = run.stream.flows.values();
    let is_blind = opened.any(|flow| is_portless(flow.opened_from.as_ref()));
    ensure!(is_blind, "the ports of connections being opened are known");
    keep_listening_changed(world, "cgroup-v1-only.listeners", hide.clone())?;
    let doctor = doctor(world, "cgroup-v1-only", hide)?;
    let why = candidate(&doctor, WIRE_BYTES, "cgroup_skb")?;
    ensure!(why.contains("not mounted"), "doctor prints {why:?}");
    Ok(())
}

/// Hidden processes are counted all the same, by their names in the kernel.
pub fn processes_hidden(world: &World) -> Result<()> {
    let run = Run::counted(world, "hidepid", |command| {
        in_mount_namespace(command, || {
            over("/proc", "proc", MsFlags::empty(), "hidepid=2")
        });
        without_capability(command, CAP_SYS_PTRACE);
    })?;
    run.covers(
        "sockets that existed before",
        "sock_diag",
        "owners of other users' sockets (needs CAP_SYS_PTRACE)",
    )
}

/// Without bpf(2) Flow reports once what refuses it, and ends.
pub fn bpf_refused(world: &World) -> Result<()> {
    let refuse = |command: &mut Command| refusing(command, libc::SYS_bpf);
    for arguments in [&["events", "--json"][..], &["top", "--once"]] {
        let ended = ended(world, "bpf-refused", arguments, refuse)?;
        ended.expect_complaint(1)?;
        expect_text(&ended.stderr, "seccomp filter")?;
        ensure!(ended.stdout.is_empty(), "it wrote something");
    }
    let doctor = doctor(world, "bpf-refused", refuse)?;
    let why = candidate(&doctor, PROCESSES, "tracepoints")?;
    ensure!(why.contains("seccomp filter"), "doctor prints {why:?}");
    Ok(())
}

/// Truncated BTF is distinguished from missing BTF; Flow ends with either.
pub fn btf_cut(world: &World) -> Result<()> {
    let cut = world.scratch.join("cut.btf");
    let whole = fs::read(BTF).context(BTF)?;
    fs::write(&cut, &whole[..whole.len() / 2])?;
    let put = |command: &mut Command| {
        let cut = cut.clone();
        in_mount_namespace(command, move || {
            let bind = MsFlags::MS_BIND;
            Ok(mount(Some(&cut), BTF, NOTHING, bind, NOTHING)?)
        });
    };
    without_btf(world, "btf-cut", put, "cut short")
}

pub fn btf_absent(world: &World) -> Result<()> {
    let hide = |command: &mut Command| {
        in_mount_namespace(command, || {
            over("/sys/kernel/btf", "tmpfs", MsFlags::empty(), "")
        });
    };
    without_btf(world, "btf-absent", hide, "CONFIG_DEBUG_INFO_BTF")
}

fn without_btf(
    world: &World,
    name: &str,
    change: impl Fn(&mut Command) + Copy,
    why: &str,
) -> Result<()> {
    let ended = ended(world, name, &["events", "--json"], change)?;
    ended.expect_complaint(1)?;
    expect_text(&ended.stderr, why)?;
    let doctor = doctor(world, name, change)?;
    let printed = candidate(&doctor, PROCESSES, "tracepoints")?;
    ensure!(printed.contains(why), "doctor prints {printed:?}");
    ensure!(doctor["environment"]["btf"] == false, "doctor has BTF");
    Ok(())
}

/// Without /proc processes are not known, and Flow says what to do.
pub fn proc_absent(world: &World) -> Result<()> {
    let hide = |command: &mut Command| {
        in_mount_namespace(command, || over("/proc", "tmpfs", MsFlags::empty(), ""));
    };
    for arguments in [&["events", "--json"][..], &["top", "--once"]] {
        let ended = ended(world, "proc-absent", arguments, hide)?;
        ended.expect_complaint(1)?;
        expect_text(&ended.stderr, "mount -t proc")?;
    }
    doctor(world, "proc-absent", hide).map(drop)
}

/// In a PID namespace of its own, Flow reports which processes it cannot see.
pub fn pid_namespace(world: &World) -> Result<()> {
    let flow = world.options.flow.to_string_lossy().into_owned();
    let mut world = world.with_backend(world.options.backend);
    world.options.flow = "unshare".into();
    let arguments = [
        "--fork",
        "--pid",
        "--mount-proc",
        &flow,
        "snapshot",
        "--duration",
        "1s",
        "--output",
        "-",
    ];
    let ended = ended(&world, "pid-namespace", &arguments, |_| ())?;
    ended.expect_code(0)?;
    let report = String::from_utf8_lossy(&ended.stdout).into_owned();
    expect_text(&report, "owners outside of this PID namespace")
}

fn has_symbol(symbols: &str, function: &str) -> bool {
    let mut names = symbols.lines().filter_map(|line| line.split(' ').nth(2));
    names.any(|name| name == function)
}

/// One run under traffic, in which each process's bytes were exact.
struct Run {
    coverage: Coverage,
    stream: Stream,
    /// The processes that moved bytes.
    processes: HashSet<Process>,
}

/// Backend and limits of each capability.
type Coverage = BTreeMap<String, (String, String)>;

impl Run {
    /// A run of [`Self::of_modes`] with processes that use TCP and UDP.
    fn counted(world: &World, name: &str, change: impl FnOnce(&mut Command)) -> Result<Self> {
        Self::of_modes(world, name, &["forked-listener", "udp-workers"], change)
    }

    /// Starts the event stream of a command modified by `change`, runs these modes of the
    /// generator, and compares the bytes of each process.
    fn of_modes(
        world: &World,
        name: &str,
        modes: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let flow = Flow::events_changed(world, name, change)?;
        let mut truths = Vec::new();
        for mode in modes {
            let arguments = ["--count".to_owned(), "1".to_owned()];
            let name = format!("{name}.{mode}");
            truths.extend(Generator::start(world, &name, mode, &arguments, None)?.join()?);
        }
        let ended = flow.stop(Signal::SIGINT)?;
        ended.expect_code(130)?;
        let stream = Stream::parse(&ended.stdout);
        let mut expected = BTreeMap::<u32, Moved>::new();
        for truth in &truths {
            *expected.entry(truth.pid).or_default() += truth.moved;
        }
        ensure!(!expected.is_empty(), "nobody moved a byte");
        let bytes = |moved: &Moved| (moved.tx_bytes, moved.rx_bytes);
        let mut processes = HashSet::new();
        for (pid, moved) in &expected {
            let own = stream.processes_of(*pid);
            let seen = stream.app_of(&own);
            processes.extend(own.into_iter().cloned());
            ensure!(
                bytes(&seen) == bytes(moved),
                "process {pid} moved {:?} bytes, flow saw {:?}",
                bytes(moved),
                bytes(&seen)
            );
        }
        report::expect_none(&check::stream(&stream, false))?;
        let coverage = coverage(&ended.stdout)?;
        Ok(Self {
            coverage,
            stream,
            processes,
        })
    }

    /// Backend and limits of a capability; the backend is `none` if there is none.
    fn coverage_of(&self, capability: &str) -> Result<&(String, String)> {
        let reported = self.coverage.get(capability);
        reported.with_context(|| format!("nothing reported about {capability}"))
    }

    /// Checks that the capability has this backend, and this text in its limits.
    fn covers(&self, capability: &str, backend: &str, words: &str) -> Result<()> {
        let (seen, limits) = self.coverage_of(capability)?;
        ensure!(seen == backend, "{capability} by {seen}, not {backend}");
        expect_text(limits, words)
    }

    /// Checks that each TCP connection is a flow of its own, with a direction and an end, and that
    /// each listener ends.
    fn follows_connections(&self) -> Result<()> {
        let mut ends = BTreeMap::<&str, BTreeSet<_>>::new();
        let mut sockets = BTreeMap::<_, BTreeSet<&str>>::new();
        let flows = self.stream.flows.iter();
        let of_own = flows.filter(|((_, process), flow)| {
            let is_own = |it| self.processes.contains(it);
            flow.remote.is_some() && process.as_ref().is_some_and(is_own)
        });
        let own: BTreeSet<_> = of_own
            .flat_map(|(_, flow)| [&flow.local, &flow.remote])
            .collect();
        for ((id, process), flow) in &self.stream.flows {
            let is_own = match process {
                Some(process) => self.processes.contains(process),
                // Other traffic of this machine: at least one of the two ends has a process.
                None => [&flow.local, &flow.remote]
                    .into_iter()
                    .any(|end| end.is_some() && own.contains(end)),
            };
            if flow.protocol.as_deref() != Some("tcp") || !is_own {
                continue;
            }
            ensure!(flow.closed, "{id} has no end: {flow:?}");
            if flow.remote.is_none() {
                continue;
            }
            ensure!(flow.direction.is_some(), "{id} has no direction: {flow:?}");
            let is_bound = !is_portless(flow.local.as_ref());
            ensure!(is_bound, "{id} has no local port: {flow:?}");
            let both = (&flow.local, &flow.remote);
            // A socket may connect again after it was refused. It remains the same socket if
            // another program, such as another Flow, gave it a cookie.
            if flow.app != Moved::default() {
                ends.entry(&flow.socket).or_default().insert(both);
            }
            sockets.entry(both).or_default().insert(&flow.socket);
        }
        ensure!(!ends.is_empty(), "there is no connection");
        let several = ends.iter().find(|(_, ends)| ends.len() > 1);
        ensure!(
            several.is_none(),
            "one socket, several connections: {several:?}"
        );
        let several = sockets.iter().find(|(_, sockets)| sockets.len() > 1);
        ensure!(
            several.is_none(),
            "one connection, several sockets: {several:?}"
        );
        Ok(())
    }

    /// Checks that packets of all interfaces are classified.
    fn classifies(&self) -> Result<()> {
        let (backend, limits) = self.coverage_of(INTERFACES)?;
        ensure!(
            ["TCX", "clsact"].contains(&backend.as_str()) && !limits.contains("interfaces"),
            "interfaces by {backend}: {limits}"
        );
        Ok(())
    }
}

/// Runs Flow to its end.
fn ended(
    world: &World,
    name: &str,
    arguments: &[&str],
    change: impl FnOnce(&mut Command),
) -> Result<Ended> {
    let stdout = appending(&world.scratch.join(format!("{name}.flow.out")))?;
    Flow::spawn(world, name, arguments, stdout.into(), change)?.wait()
}

/// The report of flow doctor, which never fails.
fn doctor(world: &World, name: &str, change: impl FnOnce(&mut Command)) -> Result<Value> {
    let ended = ended(
        world,
        &format!("{name}.doctor"),
        &["doctor", "--json"],
        change,
    )?;
    ended.expect_code(0)?;
    serde_json::from_slice(&ended.stdout).context("output of flow doctor --json")
}

/// Why a backend of a capability is unavailable, from flow doctor.
fn candidate(doctor: &Value, capability: &str, backend: &str) -> Result<String> {
    let all = |value: &Value| value.as_array().cloned().unwrap_or_default();
    all(&doctor["capabilities"])
        .into_iter()
        .filter(|entry| entry["name"] == capability)
        .flat_map(|entry| all(&entry["candidates"]))
        .find(|candidate| candidate["backend"] == backend)
        .and_then(|candidate| candidate["why"].as_str().map(str::to_owned))
        .with_context(|| format!("the doctor has no reason against {backend}: {doctor}"))
}

/// The last status of each capability in a stream.
fn coverage(stream: &[u8]) -> Result<Coverage> {
    let mut coverage = Coverage::new();
    for record in records(stream)? {
        let entries = record["coverage"].as_array();
        for entry in entries.into_iter().flatten() {
            let text = |field: &str| entry[field].as_str().unwrap_or("none").to_owned();
            coverage.insert(text("capability"), (text("backend"), text("limits")));
        }
    }
    Ok(coverage)
}

fn expect_text(text: &str, words: &str) -> Result<()> {
    ensure!(text.contains(words), "it printed {text:?}, not {words:?}");
    Ok(())
}

const BTF: &str = "/sys/kernel/btf/vmlinux";
/// Numbers of `linux/capability.h`.
const CAP_SYS_PTRACE: libc::c_ulong = 19;
const CAP_SYS_RESOURCE: libc::c_ulong = 24;

/// Whether an endpoint has an address without a port.
fn is_portless(endpoint: Option<&String>) -> bool {
    endpoint.is_some_and(|endpoint| endpoint.ends_with(":0"))
}
