//! Tests of `flow` while its environment breaks: what it monitors is removed, a second Flow starts
//! and stops, and Flow itself is started, stopped and killed repeatedly.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::{
    Scope, World, cases, check,
    flow::Flow,
    generator::Generator,
    held::Held,
    overload::{ended, exits, near, server},
    qdisc, report, session,
    stream::Stream,
    waiting,
    watched::Watched,
};

/// Bytes of each datagram of `stubborn`.
const DATAGRAM: &str = "700";
/// Flow is killed at most this long after its start, on a real machine.
const KILLED_WITHIN: Duration = Duration::from_millis(600);
/// How often Flow is started and stopped, or killed; also on a slow machine, where that takes
/// seconds.
const LEAST_STARTS: u64 = 3;
/// Growth of kernel memory that is accepted after many starts: other processes change it a little.
const GROWTH: u64 = 32 << 10;

/// The interface that carries the bytes is removed.
pub fn interface_deleted(world: &World) -> Result<()> {
    let peer = session::new_peer(world)?;
    let flow = Flow::events(world, "deleted")?;
    let (far, address) = server(world, "deleted", &peer)?;
    let sender = near(
        world,
        "deleted",
        "stubborn",
        address,
        &["--bytes", DATAGRAM],
    )?;
    talks(world, &flow, sender.pid())?;
    peer.delete_link()?;
    gone(world, &peer.link)?;
    exact(flow, sender, Some(far))
}

/// A network namespace loses its name, then its last process, and is gone.
pub fn namespace_removed(world: &World) -> Result<()> {
    let peer = session::new_peer(world)?;
    let flow = Flow::events(world, "namespace")?;
    let at = [
        "--listen".to_owned(),
        SocketAddr::new(peer.near4(), 0).to_string(),
    ];
    let mut here = Generator::start(world, "namespace.serve", "serve", &at, None)?;
    let to = here.listening()?.to_string();
    let arguments = ["--peer", &to, "--bytes", DATAGRAM].map(str::to_owned);
    let sender = Generator::start(world, "namespace.far", "stubborn", &arguments, Some(&peer))?;
    talks(world, &flow, sender.pid())?;
    peer.delete_namespace()?;
    let mut truths = sender.finish()?;
    gone(world, &peer.link)?;
    truths.extend(here.finish()?);
    let stream = ended(flow)?;
    let mut differences = check::stream(&stream, false);
    differences.extend(exits(&stream, &truths));
    report::expect_none(&differences)
}

/// The cgroup of a socket is removed while its process, which is in another by now, uses it.
pub fn cgroup_removed(world: &World) -> Result<()> {
    let peer = session::new_peer(world)?;
    let flow = Flow::events(world, "cgroup")?;
    let (far, address) = server(world, "cgroup", &peer)?;
    let cgroup = Cgroup::new()?;
    let sender = near(world, "cgroup", "stubborn", address, &["--bytes", DATAGRAM])?;
    cgroup.take_in(sender.pid())?;
    talks(world, &flow, sender.pid())?;
    let before = reported_bytes(&flow, sender.pid())?;
    cgroup.let_go(sender.pid())?;
    cgroup.remove()?;
    waiting::until(world.patience(), "bytes after the cgroup is gone", || {
        Ok((reported_bytes(&flow, sender.pid())? > before).then_some(()))
    })?;
    exact(flow, sender, Some(far))
}

/// Two Flows at once report the same, whichever ends first, and neither affects the other.
pub fn two_flows(world: &World) -> Result<()> {
    let before = qdisc::read()?;
    let case = case("tcp_both")?;
    // One order for each backend, both orders for each kernel.
    let orders: &[bool] = match world.options.scope {
        Scope::Backend => &[true],
        Scope::Kernel | Scope::Program => &[true, false],
    };
    for &first_ends_first in orders {
        let peer = session::new_peer(world)?;
        let first = Watched::start(world, "two-first", &[])?;
        let second = Watched::start(world, "two-second", &[])?;
        let held = [Held::of(first.flow.pid())?, Held::of(second.flow.pid())?];
        let both = session::Ends::start(world, case, &peer)?.finish()?;
        let (ends, stays) = if first_ends_first {
            (first, second)
        } else {
            (second, first)
        };
        let (early, until_early) = ends.end()?;
        let alone = session::Ends::start(world, case, &peer)?.finish()?;
        let (late, until_late) = stays.end()?;
        let mut differences = check::stream(&early, false);
        differences.extend(check::stream(&late, false));
        differences.extend(exits(&early, &both));
        differences.extend(exits(&late, &[both, alone].concat()));
        for (stream, readings) in [(&early, &until_early), (&late, &until_late)] {
            differences.extend(check::ledgers(stream, readings, &[&peer.link]));
            differences.extend(check::interface(
                stream,
                &peer.link,
                check::Precision::Bounds,
            ));
        }
        report::expect_none(&differences)?;
        for held in held {
            held.until_gone(world.patience())?;
        }
    }
    before.is_all_there_is()
}

/// Flow is started and stopped repeatedly while processes come and go.
pub fn attached_often(world: &World) -> Result<()> {
    let before = qdisc::read()?;
    let rounds = world.scaled(100).max(LEAST_STARTS);
    let churn = Generator::start(world, "often.churn", "churn", &[], None)?;
    let (mut starts, mut stops) = (Vec::new(), Vec::new());
    let mut memory = None;
    for _ in 0..rounds {
        let started = Instant::now();
        let flow = Flow::events(world, "often")?;
        starts.push(started.elapsed());
        let held = Held::of(flow.pid())?;
        let ended = flow.stop(Signal::SIGINT)?;
        ended.expect_code(130)?;
        stops.push(ended.took);
        held.until_gone(world.patience())?;
        // The first round fills caches.
        memory.get_or_insert(kernel_memory()?);
    }
    churn.finish()?;
    // The kernel frees maps a little after their last holder.
    let mut growth = 0;
    let freed = waiting::until(world.patience(), "the kernel to free memory", || {
        let now = kernel_memory()?;
        growth = now.saturating_sub(memory.unwrap_or(now));
        Ok((growth <= GROWTH).then_some(()))
    });
    eprintln!(
        "attached_often: {rounds} rounds, start {}, end {}, {growth} KiB more kernel memory",
        shown(&mut starts),
        shown(&mut stops)
    );
    freed.with_context(|| format!("it uses {growth} KiB more after {rounds} starts"))?;
    before.is_all_there_is()
}

/// Flow is killed at any time during its start and after. The next start removes what that leaves.
pub fn killed_often(world: &World) -> Result<()> {
    let before = qdisc::read()?;
    let mut random = Random::new()?;
    eprintln!("killed_often: seed {}", random.0);
    let slower = if world.is_slow() { 10 } else { 1 };
    for _ in 0..world.scaled(100).max(LEAST_STARTS) {
        let mut flow = Flow::starting(world, "killed-often", &[])?;
        thread::sleep(random.below(slower * KILLED_WITHIN));
        // A stopped Flow loads nothing more: what it holds is all that it leaves.
        flow.signal(Signal::SIGSTOP)?;
        stopped(world, flow.pid())?;
        let held = Held::so_far(flow.pid())?;
        flow.signal(Signal::SIGKILL)?;
        let ended = flow.wait()?;
        ensure!(ended.code() == 137, "killed, and yet code {}", ended.code());
        // Filters of a clsact qdisc keep their programs; the next start removes them.
        if before.has_all_filters().is_ok() {
            held.until_gone(world.patience())?;
        }
    }
    session::single(world, case("tcp_vectored")?)?;
    before.is_all_there_is()
}

/// Waits until a process has stopped.
fn stopped(world: &World, pid: u32) -> Result<()> {
    waiting::until(world.patience(), "flow to stop", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Ok(stat.contains(") T ").then_some(()))
    })
}

/// Ends all, and compares what a sender and its far end moved with Flow's reports.
fn exact(flow: Flow, sender: Generator, far: Option<Generator>) -> Result<()> {
    let mut truths = sender.finish()?;
    if let Some(far) = far {
        truths.extend(far.finish()?);
    }
    let stream = ended(flow)?;
    let mut differences = check::stream(&stream, false);
    differences.extend(exits(&stream, &truths));
    report::expect_none(&differences)
}

fn case(name: &str) -> Result<&'static cases::Case> {
    let mut cases = cases::CASES.iter();
    let case = cases.find(|case| case.name == name);
    case.with_context(|| format!("the case {name} is gone"))
}

/// Waits until Flow reports bytes of a process.
fn talks(world: &World, flow: &Flow, pid: u32) -> Result<()> {
    let what = format!("bytes of pid {pid}");
    waiting::until(world.patience(), &what, || {
        Ok((reported_bytes(flow, pid)? > 0).then_some(()))
    })
}

/// Bytes sent by a process, as far as Flow has reported them.
fn reported_bytes(flow: &Flow, pid: u32) -> Result<u64> {
    let stream = Stream::parse(&flow.output()?);
    Ok(stream.app_of(&stream.processes_of(pid)).tx_bytes)
}

/// Waits until an interface is removed.
fn gone(world: &World, link: &str) -> Result<()> {
    let path = Path::new("/sys/class/net").join(link);
    waiting::until(world.patience(), "the interface to be gone", || {
        Ok((!path.exists()).then_some(()))
    })
}

/// Kernel memory in KiB.
fn kernel_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let of = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    };
    let unreclaimable = of("SUnreclaim:").context("no SUnreclaim")?;
    Ok(unreclaimable + of("VmallocUsed:").unwrap_or(0) + of("Percpu:").unwrap_or(0))
}

/// The median and the maximum.
fn shown(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let longest = times.last().copied().unwrap_or_default();
    format!("{median:.0?} (at most {longest:.0?})")
}

/// Pseudo-random numbers from a seed (xorshift64).
struct Random(u64);

impl Random {
    fn new() -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Self(u64::from(now.subsec_nanos()) | 1))
    }

    fn below(&mut self, end: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        end.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// A cgroup of the v2 tree. Removed on drop.
pub(super) struct Cgroup {
    root: PathBuf,
    pub path: PathBuf,
}

impl Cgroup {
    pub fn new() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let is_v2 = |line: &&str| line.contains(" - cgroup2 ");
        let line = mounts.lines().find(is_v2).context("no cgroup v2 tree")?;
        let root = line.split(' ').nth(4).context("no mount point")?;
        let root = PathBuf::from(root);
        let path = root.join(format!("flow-test-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { root, path })
    }

    pub fn take_in(&self, pid: u32) -> Result<()> {
        write_pid(&self.path, pid)
    }

    pub fn let_go(&self, pid: u32) -> Result<()> {
        write_pid(&self.root, pid)
    }

    fn remove(&self) -> Result<()> {
        fs::remove_dir(&self.path).with_context(|| format!("removing {}", self.path.display()))
    }
}

fn write_pid(cgroup: &Path, pid: u32) -> Result<()> {
    let path = cgroup.join("cgroup.procs");
    fs::write(&path, pid.to_string()).with_context(|| format!("writing to {}", path.display()))
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Usually it is removed already.
        let _ = fs::remove_dir(&self.path);
    }
}
