//! More interfaces than get their classifiers before the first row.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    process,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::Signal,
};

use super::{INTERFACES, SYMBOLS, coverage, expect_text, has_symbol};
use crate::live::{
    World,
    flow::Flow,
    held::Held,
    peer::NAMESPACE_PREFIX,
    stream::records,
    tools::{self, ip, ip_batch},
    waiting,
};

/// So many interfaces that the first row does not wait for all classifiers: Flow reports that,
/// handles signals meanwhile, and in the end attaches to all. With 1,000 interfaces the result is
/// the same, but takes a minute.
pub fn many_interfaces(world: &World) -> Result<()> {
    // The filter of a clsact qdisc is attached in no time.
    let has_links = has_symbol(&fs::read_to_string(SYMBOLS)?, "tcx_prog_attach");
    let count = if has_links {
        world.scaled(200).max(50)
    } else {
        400
    };
    let net = ManyInterfaces::new(count)?;
    let start = |name: &str| -> Result<Flow> {
        let netns = net.netns()?;
        let flow = Flow::events_changed(world, name, |command| {
            let enter = move || Ok(setns(&netns, CloneFlags::CLONE_NEWNET)?);
            // SAFETY: only a system call between fork and exec.
            unsafe { command.pre_exec(enter) };
        })?;
        let (backend, limits) = coverage(&flow.output()?)?
            .remove(INTERFACES)
            .context("no word on interfaces")?;
        ensure!(backend != "counters", "interfaces: {backend} {limits}");
        expect_text(&limits, "being attached")?;
        Ok(flow)
    };
    let ended = start("many-interrupted")?.stop(Signal::SIGINT)?;
    ended.expect_code(130)?;
    let (_, limits) = coverage(&ended.stdout)?
        .remove(INTERFACES)
        .context("no word on interfaces")?;
    expect_text(&limits, "being attached")
        .context("it received the signal after it had attached all")?;

    let flow = start("many")?;
    waiting::until(
        world.patience() * 10,
        "every interface's classifiers",
        || {
            let reported = coverage(&flow.output()?)?.remove(INTERFACES);
            let done = reported.is_some_and(|(_, limits)| !limits.contains("interfaces"));
            Ok(done.then_some(()))
        },
    )?;
    let held = Held::of(flow.pid())?;
    let ended = flow.stop(Signal::SIGINT)?;
    ended.expect_code(130)?;
    // Until then the kernel is busy with their removal, which delays whatever comes next.
    held.until_gone(world.patience() * 10)?;
    let records = records(&ended.stdout)?;
    let reported = records
        .iter()
        .filter(|record| record["type"] == "status")
        .count();
    ensure!(
        reported <= 60,
        "{reported} reports about {} interfaces",
        net.count
    );
    let classified: BTreeSet<&str> = records
        .iter()
        .filter(|record| record["interface"]["classified"] == true)
        .filter_map(|record| record["interface"]["name"].as_str())
        .filter(|name| name.starts_with(ManyInterfaces::PREFIX))
        .collect();
    ensure!(
        classified.len() as u64 == net.count,
        "{} of {} interfaces are classified",
        classified.len(),
        net.count
    );
    Ok(())
}

/// A network namespace with many interfaces. Removed on drop.
struct ManyInterfaces {
    namespace: String,
    count: u64,
}

impl ManyInterfaces {
    const PREFIX: &str = "many";

    /// Creates VLANs, or if the kernel has none, macvlans.
    fn new(count: u64) -> Result<Self> {
        // Above the numbers of this process's peers.
        let namespace = format!("{NAMESPACE_PREFIX}{}-1000", process::id());
        let many = Self { namespace, count };
        ip(&format!("netns add {}", many.namespace))?;
        let lower = [
            "link set lo up",
            "link add lower type veth peer name far",
            "link set lower up",
            "link set far up",
        ];
        many.ip(&lower.map(str::to_owned))?;
        let probe = many.ip(&["link add link lower name probe type vlan id 4000".to_owned()]);
        let links: Vec<String> = (1..=count)
            .flat_map(|number| {
                let kind = match probe {
                    Ok(()) => format!("vlan id {number}"),
                    Err(_) => "macvlan mode bridge".to_owned(),
                };
                let name = format!("{}{number}", Self::PREFIX);
                [
                    format!("link add link lower name {name} type {kind}"),
                    format!("link set {name} up"),
                ]
            })
            .collect();
        many.ip(&links)?;
        Ok(many)
    }

    fn ip(&self, commands: &[String]) -> Result<()> {
        ip_batch(Some(&self.namespace), commands)
    }

    fn netns(&self) -> Result<File> {
        tools::open(&self.namespace)
    }
}

impl Drop for ManyInterfaces {
    fn drop(&mut self) {
        // The next run removes what stays.
        let _ = ip(&format!("netns del {}", self.namespace));
    }
}
