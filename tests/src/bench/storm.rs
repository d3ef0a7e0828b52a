//! As many short connections as possible: what is reported of them, and what is missing.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::Value;

use super::{
    Bench, Output, Process, Section, Verdict,
    figures::{Table, number},
    moved::{Who, bytes_of, ends_of_processes, moved_by},
};

/// Connections each second at which nothing may be lost.
const WANTED: f64 = 20_000.0;
/// Time for Flow to report everything.
const SETTLING: Duration = Duration::from_secs(2);

pub fn measure(bench: &Bench) -> Result<Section> {
    let flow = bench.flow_attached(Output::File)?;
    let before = flow.usage()?;
    let started = Instant::now();
    let arguments = ["generate", "storm"];
    let program = &bench.generator;
    let storm = Process::start(bench, "storm", program, &arguments, None, Output::Lines)?;
    bench.pause(bench.seconds(5.0, 2.0))?;
    let truths = moved_by(storm)?;
    let seconds = started.elapsed().as_secs_f64();
    bench.pause(SETTLING)?;
    let cpu = flow.usage()?.cpu - before.cpu;
    let (_, text) = flow.interrupt()?;

    // Each connection is two flows, and each of its ends sends once.
    let flows: u64 = truths.iter().map(|truth| truth.moved.tx_calls).sum();
    let rate = flows as f64 / 2.0 / seconds;
    let pids: HashSet<_> = truths.iter().map(|truth| truth.pid).collect();
    let closes = of_type(&text, "flow.close");
    let reported = closes.filter(|event| is_of(event, &pids)).count();
    let by_process = ends_of_processes(&text);
    let missing: u64 = truths
        .iter()
        .map(|truth| {
            let reported = by_process.get(&Who::Pid(truth.pid)).copied().unwrap_or(0);
            bytes_of(truth).abs_diff(reported)
        })
        .sum();

    let mut table = Table::new(&[
        "",
        "connections",
        "a second",
        "ends of flows reported",
        "bytes missing",
        "CPU for each",
    ]);
    table.row(vec![
        "flow events".to_owned(),
        (flows / 2).to_string(),
        number(rate),
        format!("{reported} of {flows}"),
        missing.to_string(),
        format!(
            "{} µs",
            number(cpu.as_secs_f64() * 2e6 / flows.max(1) as f64)
        ),
    ]);
    let mut notes = vec![
        "Two threads each open one connection after the other to a process on this machine, which sends back the 16 bytes \
         that it gets. Bytes missing are those by which Flow's total of a process differs from what its calls returned."
            .to_owned(),
    ];
    if rate < WANTED {
        notes.push(format!(
            "The budget is for {WANTED} connections a second; this machine makes no more than these beside Flow."
        ));
    }
    let lost = lost(&text);
    if !lost.is_empty() {
        notes.push(format!(
            "Reported as lost; lost records are recovered from the maps, and bytes without a flow still count for their processes: \
             `{lost}`"
        ));
    }
    let what = "bytes missing, short connections, as many as go";
    Ok(Section {
        tables: vec![table],
        notes,
        verdicts: vec![Verdict::at_most(what, missing as f64, 0.0, "B")],
    })
}

/// The stream's events of a type.
fn of_type<'a>(text: &'a str, kind: &str) -> impl Iterator<Item = Value> + use<'a> {
    let mark = format!(r#""type":"{kind}""#);
    let lines = text.lines().filter(move |line| line.contains(&mark));
    lines.filter_map(|line| serde_json::from_str(line).ok())
}

/// Whether an event is of one of these processes and of a flow with bytes: listeners have none, nor
/// do connections that were reported for the listener before they were accepted.
fn is_of(event: &Value, pids: &HashSet<u32>) -> bool {
    let pid = event["process"]["pid"].as_u64();
    let app = &event["app"];
    let has_bytes = app["tx_bytes"] != 0 || app["rx_bytes"] != 0;
    let is_theirs = |pid| u32::try_from(pid).is_ok_and(|pid| pids.contains(&pid));
    has_bytes && pid.is_some_and(is_theirs)
}

/// Reported losses by cause; each event has the count since the start.
fn lost(text: &str) -> String {
    let counts: BTreeMap<_, _> = of_type(text, "lost")
        .filter_map(|event| Some((event["cause"].as_str()?.to_owned(), event["count"].clone())))
        .collect();
    let words = counts
        .iter()
        .map(|(cause, count)| format!("{cause} {count}"));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_the_last_count_of_each_cause() {
        let text = "{\"type\":\"lost\",\"cause\":\"a\",\"count\":2}\n\
                    {\"type\":\"lost\",\"cause\":\"b\",\"count\":1}\n\
                    {\"type\":\"lost\",\"cause\":\"a\",\"count\":7}\n";
        assert_eq!(lost(text), "a 7, b 1");
    }

    #[test]
    fn flows_without_bytes_are_left_out() {
        let close = |pid, bytes| serde_json::json!({"process": {"pid": pid}, "app": {"tx_bytes": bytes, "rx_bytes": 0}});
        let pids = HashSet::from([7]);
        assert!(is_of(&close(7, 16), &pids));
        assert!(!is_of(&close(7, 0), &pids));
        assert!(!is_of(&close(8, 16), &pids));
    }
}
