//! The test of processes that change their names while Flow looks.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{World, flow::Flow, generator::Generator, stream::records};
use crate::generate::{FIRST, SECOND};

/// The interval of the outputs, and how long several of them take, also where the machine is busy.
const INTERVAL: [&str; 2] = ["--interval", "200ms"];
const SEVERAL: Duration = Duration::from_secs(2);

/// A forked worker that names itself twice, before its first byte and while it does nothing, is
/// reported under its names of the moment, its threads' names never. A filter by its title finds
/// it.
pub fn followed(world: &World) -> Result<()> {
    let filter = r#"process "flow-live: second""#;
    let filtered = [&INTERVAL[..], &["--filter", filter]].concat();
    let whole = Flow::events_with(world, "renames", &INTERVAL)?;
    let filtered = Flow::events_with(world, "renames.filtered", &filtered)?;
    let arguments = ["--bytes", "1000"].map(str::to_owned);
    let mut worker = Generator::start(world, "renames", "renamed", &arguments, None)?;
    worker.ready()?;
    worker.go()?;
    thread::sleep(SEVERAL);
    worker.go()?;
    let truths = worker.join()?;
    let moved = truths.iter().find(|truth| truth.moved.tx_bytes > 0);
    let truth = moved.context("nothing was moved")?;
    thread::sleep(SEVERAL / 4);

    let told = told(whole, truth.pid)?;
    // Until it moves something, its name is not reported at once.
    let strange: Vec<_> = told
        .iter()
        .filter(|it| it.moved && it.name != FIRST.0 && it.name != SECOND.0)
        .collect();
    ensure!(strange.is_empty(), "other names: {strange:?}");
    let last = by_name(&told, FIRST.0)
        .last()
        .context("not reported under its first name")?;
    ensure!(
        last.title == FIRST.1,
        "its title is not the first: {last:?}"
    );
    let updates: Vec<_> = by_name(&told, SECOND.0)
        .filter(|it| it.kind == "flow.update")
        .collect();
    ensure!(
        !updates.is_empty(),
        "no update under its second name: {told:?}"
    );
    // It had its second title long before it moved something.
    let late: Vec<_> = by_name(&told, SECOND.0)
        .filter(|it| it.title != SECOND.1)
        .collect();
    ensure!(late.is_empty(), "the title came late: {late:?}");
    for kind in ["flow.close", "process.exit"] {
        // Its listener closed long before.
        let ended = told.iter().rfind(|it| it.kind == kind);
        let ended = ended.with_context(|| format!("no {kind}: {told:?}"))?;
        ensure!(ended.name == SECOND.0, "not its last name: {ended:?}");
    }

    let found = self::told(filtered, truth.pid)?;
    let other = found.iter().find(|it| it.name != SECOND.0);
    ensure!(other.is_none(), "the filter let pass {other:?}");
    let is_update = |it: &&Told| it.kind == "flow.update";
    ensure!(
        found.iter().any(|it| is_update(&it)),
        "the filter found no update: {found:?}"
    );
    Ok(())
}

fn by_name<'a>(told: &'a [Told], name: &'a str) -> impl Iterator<Item = &'a Told> {
    told.iter().filter(move |it| it.name == name)
}

/// What a record says of a process.
#[derive(Debug)]
struct Told {
    kind: String,
    /// It is of something that moved bytes.
    moved: bool,
    name: String,
    title: String,
}

/// Ends it; what it reported of a process, in order.
fn told(flow: Flow, pid: u32) -> Result<Vec<Told>> {
    let ended = flow.stop(Signal::SIGINT)?;
    ended.expect_code(130)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let own = |record: &Value| record["process"]["pid"] == pid;
    let records = records(&ended.stdout)?.into_iter().filter(own);
    let told = records.map(|record| Told {
        kind: text(&record["type"]),
        moved: ["tx_bytes", "rx_bytes"]
            .iter()
            .any(|bytes| record["app"][bytes].as_u64() > Some(0)),
        name: text(&record["process"]["name"]),
        title: text(&record["process"]["cmdline"][0]),
    });
    Ok(told.collect())
}
