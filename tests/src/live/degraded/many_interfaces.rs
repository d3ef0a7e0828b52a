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

use super::{INTERFACES, SYMBOLS, coverage, has_symbol, says};
use crate::live::{
    World,
    flow::Flow,
    held::Held,
    peer::NAMESPACE_PREFIX,
    stream::records,
    tools::{self, ip, ip_batch},
    waiting,
};

/// So many interfaces that the first row does not wait for all their classifiers: that is reported,
/// signals are handled meanwhile, and in the end each has them. With 1,000 it is the same and takes
/// a minute.
pub fn many_interfaces(world: &World) -> Result<()> {
    // The filter of a clsact qdisc is there in no time.
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
        says(&limits, "being attached")?;
        Ok(flow)
    };
    let ended = start("many-interrupted")?.stop(Signal::SIGINT)?;
    ended.expect_code(130)?;
    let (_, limits) = coverage(&ended.stdout)?
        .remove(INTERFACES)
        .context("no word on interfaces")?;
    says(&limits, "being attached").context("it heard the signal when all was done")?;

    let flow = start("many")?;
    waiting::until(
        world.patience() * 10,
        "every interface's classifiers",
        || {
            let told = coverage(&flow.output()?)?.remove(INTERFACES);
            let done = told.is_some_and(|(_, limits)| !limits.contains("interfaces"));
            Ok(done.then_some(()))
        },
    )?;
    let held = Held::of(flow.pid())?;
    let ended = flow.stop(Signal::SIGINT)?;
    ended.expect_code(130)?;
    // Until then the kernel is busy with their removal, and holds up whatever comes next.
    held.until_gone(world.patience() * 10)?;
    let records = records(&ended.stdout)?;
    let told = records
        .iter()
        .filter(|record| record["type"] == "status")
        .count();
    ensure!(told <= 60, "{told} times told of {} interfaces", net.count);
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

/// A network namespace with many interfaces. Goes with the value.
struct ManyInterfaces {
    namespace: String,
    count: u64,
}

impl ManyInterfaces {
    const PREFIX: &str = "many";

    /// Makes them: VLANs, or where the kernel has none, macvlans.
    fn new(count: u64) -> Result<Self> {
        // Above the numbers that peers of this process have.
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
        // What stays, the next run removes.
        let _ = ip(&format!("netns del {}", self.namespace));
    }
}
