//! The test of how many remotes of a socket are counted one by one over its life.

use std::ops::RangeInclusive;

use anyhow::{Context as _, Result};

use super::{
    World, check,
    difference::difference,
    flow::Flow,
    generator::Generator,
    overload, report, session,
    stream::{Process, Stream},
    waiting,
};
use crate::{generate::REMOTES_OF_HEIR, truth::Truth};

/// Processes that use the socket one after the other. All of them together have more remotes than
/// Flow counts one by one, each has fewer.
const HEIRS: usize = 6;
const _: () = assert!(HEIRS * REMOTES_OF_HEIR as usize > *COUNTED.end());
/// Remotes of living processes that Flow counts one by one. It may still hold places for a few of
/// those that ended.
const COUNTED: RangeInclusive<usize> = 1009..=1024;

/// A socket that many processes use, one after the other, has each remote of each of them counted by
/// itself. The limit is for the remotes of living processes, and still there in the end.
pub fn of_heirs(world: &World) -> Result<()> {
    let flow = Flow::events(world, "remotes")?;
    let count = ["--count".to_owned(), HEIRS.to_string()];
    let mut heirs = Generator::start(world, "remotes", "udp-heirs", &count, None)?;
    for number in 1..=HEIRS {
        let truth = heirs.moved_by(number)?;
        waiting::until(world.patience(), "the exit of a process", || {
            let stream = Stream::parse(&flow.output()?);
            Ok(has_exited(&stream, &truth).then_some(()))
        })?;
        heirs.go()?;
    }
    let mut truths = heirs.join()?;
    // The process that starts the others moves nothing itself.
    truths.retain(|truth| truth.moved.tx_bytes > 0);
    let stream = overload::ended(flow)?;
    let mut differences = check::stream(&stream, false);
    let backend = session::used(&stream, world);
    differences.extend(check::processes(&stream, &truths, backend));
    let last = truths.last().context("no process moved anything")?;
    let [named, together] = flows_of(&stream, last);
    if !COUNTED.contains(&named) {
        let expected = format!("{COUNTED:?}");
        differences.push(difference("last heir", "remotes", expected, named));
    }
    if together != 1 {
        let what = "flows without a remote";
        differences.push(difference("last heir", what, 1, together));
    }
    report::expect_none(&differences)
}

fn has_exited(stream: &Stream, truth: &Truth) -> bool {
    let known = stream.processes_of(truth.pid);
    known
        .iter()
        .any(|process| stream.processes[*process].exit.is_some())
}

/// Flows of a process that sent something: those with a remote, and those without.
fn flows_of(stream: &Stream, truth: &Truth) -> [usize; 2] {
    let known = stream.processes_of(truth.pid);
    let is_own = |process: &Option<Process>| process.as_ref().is_some_and(|it| known.contains(&it));
    let flows = stream.flows.iter();
    let mut count = [0; 2];
    for ((_, process), flow) in flows {
        if is_own(process) && flow.app.tx_bytes > 0 {
            count[usize::from(flow.remote.is_none())] += 1;
        }
    }
    count
}
