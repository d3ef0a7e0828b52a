//! Tests of interfaces that appear, are renamed and disappear while `flow` runs.

use std::{fs, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::Signal,
};
use serde_json::Value;

use super::{
    World,
    flow::Flow,
    peer::LINK_PREFIX,
    qdisc, session,
    tools::{Netns, ip_batch, run},
    waiting,
    wire::FAR,
};

/// Nothing is kept of removed interfaces.
pub fn come_and_go(world: &World) -> Result<()> {
    // In a network namespace where nothing else creates interfaces.
    let peer = session::new_peer(world)?;
    let netns = peer.netns()?;
    let flow = Flow::events_changed(world, "come-and-go", |command| {
        let enter = move || Ok(setns(&netns, CloneFlags::CLONE_NEWNET)?);
        // SAFETY: only a system call between fork and exec.
        unsafe { command.pre_exec(enter) };
    })?;
    classified(world, &flow, FAR)?;
    let before = kept(&flow)?;
    let rounds = world.scaled(30);
    for round in 0..rounds {
        let pair = Pair::new(Some(&peer.namespace), 2 * round, 2 * round + 1)?;
        // The last one is certainly seen, and then the removal of all earlier ones is too.
        if round + 1 == rounds {
            classified(world, &flow, &pair.near)?;
        }
    }
    waiting::until(
        world.patience(),
        &format!("flow to keep {before} descriptors and links again"),
        || Ok((kept(&flow)? <= before).then_some(())),
    )?;
    flow.stop(Signal::SIGINT)?.expect_code(130)
}

/// An interface is renamed before anybody can read its name, as udev does.
pub fn renamed(world: &World) -> Result<()> {
    let flow = Flow::events(world, "renamed")?;
    for round in 0..5 {
        let [old, far, new] = [0, 1, 2].map(|end| name(3 * round + end));
        let _gone = Pair {
            netns: None,
            near: new.clone(),
        };
        ip_batch(
            None,
            &[
                format!("link add {old} type veth peer name {far}"),
                format!("link set {old} name {new}"),
            ],
        )?;
        classified(world, &flow, &new)?;
    }
    flow.stop(Signal::SIGINT)?.expect_code(130)
}

/// While Flow attaches to one interface, a queueing discipline changes and another interface
/// appears. Flow lists all interfaces again before it receives the new one's own message.
pub fn appeared_in_a_list(world: &World) -> Result<()> {
    let shaped = Pair::new(None, 0, 1)?;
    let flow = Flow::events(world, "appeared-in-a-list")?;
    for round in 1..=5 {
        let [busy, new] = [0, 1].map(|pair| 4 * round + 2 * pair);
        let busy = Pair::new(None, busy, busy + 1)?;
        run(
            None,
            &format!(
                "tc qdisc replace dev {} root pfifo limit {round}",
                shaped.near
            ),
        )?;
        let new = Pair::new(None, new, new + 1)?;
        classified(world, &flow, &busy.near)?;
        classified(world, &flow, &new.near)?;
    }
    flow.stop(Signal::SIGINT)?.expect_code(130)
}

/// An interface that was down at the start gets its classifiers when it is up.
pub fn down_then_up(world: &World) -> Result<()> {
    let pair = Pair::new(None, 0, 1)?;
    let flow = Flow::events(world, "down-then-up")?;
    ip_batch(
        None,
        &[0, 1].map(|end| format!("link set {} up", name(end))),
    )?;
    classified(world, &flow, &pair.near)?;
    flow.stop(Signal::SIGINT)?.expect_code(130)
}

/// A name that does not exist ends Flow before it touches the one that exists.
pub fn missing(world: &World) -> Result<()> {
    let before = qdisc::read()?;
    let arguments = ["events", "--interface", "lo", "--interface", "no-such-if0"];
    Flow::run(world, "missing", &arguments)?.expect_complaint(2)?;
    before.is_all_there_is()
}

/// Waits until the ledger of an interface is reported with its packets classified.
fn classified(world: &World, flow: &Flow, name: &str) -> Result<()> {
    let what = format!("{name} to be classified");
    waiting::until(world.patience(), &what, || {
        let output = flow.output()?;
        let mut lines = output
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| line.ends_with(b"\n"))
            .map(|line| serde_json::from_slice::<Value>(line).context("a line of flow"));
        let found = lines.try_fold(false, |found, line| {
            let ledger = &line?["interface"];
            Ok::<_, anyhow::Error>(
                found || (ledger["name"] == name && ledger["classified"] == true),
            )
        })?;
        Ok(found.then_some(()))
    })
}

/// Descriptors of `flow`, and files of its own BPF file system, each of which holds a link.
fn kept(flow: &Flow) -> Result<usize> {
    let folder = format!("/proc/{}/fd", flow.pid());
    let mut count = 0;
    for entry in fs::read_dir(&folder).context(folder)? {
        let path = entry?.path();
        // A descriptor may be closed meanwhile.
        if path.is_dir() {
            count += fs::read_dir(&path).map_or(0, Iterator::count);
        }
        count += 1;
    }
    Ok(count)
}

/// A name that [`super::peer::remove_stale`] recognises; at most 15 bytes.
fn name(number: u64) -> String {
    // Above the numbers of this process's peers.
    format!("{LINK_PREFIX}{}-{}", std::process::id(), 1000 + number)
}

/// A pair of veth interfaces. Removed on drop.
struct Pair<'a> {
    netns: Netns<'a>,
    near: String,
}

impl<'a> Pair<'a> {
    fn new(netns: Netns<'a>, near: u64, far: u64) -> Result<Self> {
        let (near, far) = (name(near), name(far));
        run(
            netns,
            &format!("ip link add {near} type veth peer name {far}"),
        )?;
        Ok(Self { netns, near })
    }
}

impl Drop for Pair<'_> {
    fn drop(&mut self) {
        // This removes the other end as well. On failure, the next run removes it.
        let _ = run(self.netns, &format!("ip link del {}", self.near));
    }
}
