//! Test of processes that change their names while Flow runs.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{World, flow::Flow, generator::Generator, stream::records};
use crate::generate::{FIRST, SECOND};

/// The interval of the outputs, and the time of several intervals, also on a busy machine.
const INTERVAL: [&str; 2] = ["--interval", "200ms"];
const SEVERAL: Duration = Duration::from_secs(2);

/// A forked worker changes its name and title twice, before its first byte and while it is idle. It
/// is reported under its current names, never its threads'. A filter by its title matches it.
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

    let reported = reported(whole, truth.pid)?;
    // Until it moves bytes, its name is not reported at once.
    let strange: Vec<_> = reported
        .iter()
        .filter(|it| it.moved && it.name != FIRST.0 && it.name != SECOND.0)
        .collect();
    ensure!(strange.is_empty(), "other names: {strange:?}");
    let last = by_name(&reported, FIRST.0)
        .last()
        .context("not reported under its first name")?;
    ensure!(
        last.title == FIRST.1,
        "its title is not the first: {last:?}"
    );
    let updates: Vec<_> = by_name(&reported, SECOND.0)
        .filter(|it| it.kind == "flow.update")
        .collect();
    ensure!(
        !updates.is_empty(),
        "no update under its second name: {reported:?}"
    );
    // It had its second title long before it moved bytes.
    let late: Vec<_> = by_name(&reported, SECOND.0)
        .filter(|it| it.title != SECOND.1)
        .collect();
    ensure!(late.is_empty(), "the title came late: {late:?}");
    for kind in ["flow.close", "process.exit"] {
        // Its listener closed long before.
        let ended = reported.iter().rfind(|it| it.kind == kind);
        let ended = ended.with_context(|| format!("no {kind}: {reported:?}"))?;
        ensure!(ended.name == SECOND.0, "not its last name: {ended:?}");
    }

    let found = self::reported(filtered, truth.pid)?;
    let other = found.iter().find(|it| it.name != SECOND.0);
    ensure!(other.is_none(), "the filter let pass {other:?}");
    let is_update = |it: &&Reported| it.kind == "flow.update";
    ensure!(
        found.iter().any(|it| is_update(&it)),
        "the filter found no update: {found:?}"
    );
    Ok(())
}

fn by_name<'a>(reported: &'a [Reported], name: &'a str) -> impl Iterator<Item = &'a Reported> {
    reported.iter().filter(move |it| it.name == name)
}

/// The names of a process in a record.
#[derive(Debug)]
struct Reported {
    kind: String,
    /// Whether the record is of something that moved bytes.
    moved: bool,
    name: String,
    title: String,
}

/// Ends Flow; returns its records of a process, in order.
fn reported(flow: Flow, pid: u32) -> Result<Vec<Reported>> {
    let ended = flow.stop(Signal::SIGINT)?;
    ended.expect_code(130)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let own = |record: &Value| record["process"]["pid"] == pid;
    let records = records(&ended.stdout)?.into_iter().filter(own);
    let reported = records.map(|record| Reported {
        kind: text(&record["type"]),
        moved: ["tx_bytes", "rx_bytes"]
            .iter()
            .any(|bytes| record["app"][bytes].as_u64() > Some(0)),
        name: text(&record["process"]["name"]),
        title: text(&record["process"]["cmdline"][0]),
    });
    Ok(reported.collect())
}
