//! Short connections, as many as go: what is told of them, and what is lost.

use std::{collections::HashSet, time::Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Bench, Output, Process, Section, Verdict,
    beside::{Who, read_flow, total, truths},
    figures::{Table, number},
};

/// Connections a second at which nothing may be lost.
const WANTED: f64 = 20_000.0;

pub fn measure(bench: &Bench) -> Result<Section> {
    let flow = bench.flow_attached(Output::File)?;
    let before = flow.usage()?;
    let started = Instant::now();
    let storm = Process::start(
        bench,
        "storm",
        &bench.generator,
        &["generate", "storm"],
        None,
        Output::Lines,
    )?;
    bench.pause(bench.seconds(10.0, 4.0))?;
    let truths = truths(storm)?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = flow.usage().context("it ended early")?.cpu - before.cpu;
    let (_, text) = flow.interrupt()?;

    let pids: HashSet<_> = truths.iter().map(|truth| truth.pid).collect();
    // Each of them is two flows, and each end sends once.
    let sends: u64 = truths.iter().map(|truth| truth.moved.tx_calls).sum();
    let connections = sends / 2;
    let rate = connections as f64 / seconds;
    let ended = of_type(&text, "flow.close")
        .filter(|event| is_of(event, &pids))
        .count();
    let said = read_flow(&text);
    let missing: u64 = truths
        .iter()
        .map(|truth| {
            let told = said.get(&Who::Pid(truth.pid)).copied().unwrap_or(0);
            total(truth).abs_diff(told)
        })
        .sum();
    let lost: u64 = of_type(&text, "lost")
        .filter_map(|event| event["count"].as_u64())
        .sum();

    let mut table = Table::new(&[
        "flow events",
        "connections",
        "a second",
        "their flows' ends told",
        "bytes missing",
        "records lost",
        "CPU of a core",
    ]);
    table.row(vec![
        "short connections, as many as go".to_owned(),
        connections.to_string(),
        number(rate),
        format!("{ended} of {}", 2 * connections),
        missing.to_string(),
        lost.to_string(),
        format!("{} %", number(100.0 * cpu.as_secs_f64() / seconds)),
    ]);
    let what = format!("bytes lost at {} short connections a second", number(rate));
    let mut notes = vec![
        "Two threads each open one connection after the other to a process on this machine, which sends back the 16 bytes \
         it gets. Bytes missing are those by which what Flow says of a process differs from what its calls returned; \
         records are what the stream's `lost` events count."
            .to_owned(),
    ];
    if rate < WANTED {
        notes.push(format!(
            "The budget is for {WANTED} connections a second; this machine makes no more beside Flow."
        ));
    }
    Ok(Section {
        tables: vec![table],
        notes,
        verdicts: vec![Verdict::at_most(&what, missing as f64, 0.0, "B")],
    })
}

/// The stream's events of a type.
fn of_type<'a>(text: &'a str, kind: &str) -> impl Iterator<Item = Value> + use<'a> {
    let mark = format!(r#""type":"{kind}""#);
    let lines = text.lines().filter(move |line| line.contains(&mark));
    lines.filter_map(|line| serde_json::from_str(line).ok())
}

/// Whether one of these processes is the event's.
fn is_of(event: &Value, pids: &HashSet<u32>) -> bool {
    let pid = event["process"]["pid"].as_u64();
    pid.and_then(|pid| u32::try_from(pid).ok())
        .is_some_and(|pid| pids.contains(&pid))
}
