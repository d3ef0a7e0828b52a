//! What processes moved by their own calls, and what a tool reported.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Process;
use crate::truth::{Line, Truth};

/// A tool's report: bytes of both directions, by process.
pub type Reported = BTreeMap<Who, u64>;

/// The identity of a process in a tool's report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Pid(u32),
    /// bandwhich prints no pid.
    Name(String),
}

/// Bytes of both directions.
pub fn bytes_of(truth: &Truth) -> u64 {
    truth.moved.tx_bytes + truth.moved.rx_bytes
}

/// What a generator's processes moved, after its end.
pub fn moved_by(generator: Process) -> Result<Vec<Truth>> {
    let text = generator.output_to_end()?;
    text.lines()
        .map(|line| {
            serde_json::from_str(line).with_context(|| format!("the generator printed {line:?}"))
        })
        .filter_map(|line| match line {
            Ok(Line::Moved(truth)) => Some(Ok(*truth)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect()
}

/// The totals of processes in `flow events --json`, from their exits.
pub fn ends_of_processes(text: &str) -> Reported {
    text.lines()
        .filter(|line| line.contains(r#""type":"process.exit""#))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|event| {
            let pid = u32::try_from(event["process"]["pid"].as_u64()?).ok()?;
            let app = &event["app"];
            let bytes = app["tx_bytes"].as_u64()? + app["rx_bytes"].as_u64()?;
            (bytes > 0).then_some((Who::Pid(pid), bytes))
        })
        .collect()
}

/// Lines `PROGRAM/PID/UID<tab>SENT<tab>RECEIVED`, totals; those of what it cannot name have pid 0.
pub fn read_nethogs(text: &str) -> Reported {
    let mut reported = Reported::new();
    for line in text.lines() {
        let mut columns = line.rsplit('\t');
        let mut next = || columns.next();
        let (Some(received), Some(sent), Some(program)) = (next(), next(), next()) else {
            continue;
        };
        let pid = program.rsplit('/').nth(1).and_then(|pid| pid.parse().ok());
        let sum =
            |one: &str, other: &str| Some(one.parse::<f64>().ok()? + other.parse::<f64>().ok()?);
        if let (Some(pid @ 1..), Some(bytes)) = (pid, sum(sent, received)) {
            let most = reported.entry(Who::Pid(pid)).or_default();
            *most = (*most).max(bytes as u64);
        }
    }
    reported.retain(|_, bytes| *bytes > 0);
    reported
}

/// Lines `process: <TIME> "NAME" up/down Bps: UP/DOWN ...`, once a second.
pub fn read_bandwhich(text: &str) -> Reported {
    let mut reported = Reported::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("process: ") else {
            continue;
        };
        let rate = || {
            let (_, rate) = rest.split_once("Bps: ")?;
            let (up, down) = rate.split(' ').next()?.split_once('/')?;
            Some(up.parse::<u64>().ok()? + down.parse::<u64>().ok()?)
        };
        if let (Some(name), Some(rate @ 1..)) = (rest.split('"').nth(1), rate()) {
            *reported.entry(Who::Name(name.to_owned())).or_default() += rate;
        }
    }
    reported
}

/// Snapshots as JSON lines. A connection's counters grow from one to the next; its process may be
/// missing in some.
pub fn read_rustnet(text: &str) -> Reported {
    let mut connections = BTreeMap::<String, (Option<u32>, u64)>::new();
    for line in text.lines() {
        let Ok(snapshot) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        for connection in snapshot["connections"].as_array().into_iter().flatten() {
            let Some(id) = connection["id"].as_str() else {
                continue;
            };
            let (pid, bytes) = connections.entry(id.to_owned()).or_default();
            let seen = connection["process"]["pid"].as_u64();
            *pid = pid.or(seen.and_then(|pid| u32::try_from(pid).ok()));
            let traffic = |name: &str| connection["traffic"][name].as_u64().unwrap_or(0);
            *bytes = (*bytes).max(traffic("bytes_sent") + traffic("bytes_received"));
        }
    }
    let mut reported = Reported::new();
    for (pid, bytes) in connections.into_values() {
        if let (Some(pid), 1..) = (pid, bytes) {
            *reported.entry(Who::Pid(pid)).or_default() += bytes;
        }
    }
    reported
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_reports_totals_when_a_process_ends() {
        let text = "{\"type\":\"process.exit\",\"process\":{\"pid\":7},\"app\":{\"tx_bytes\":1,\"rx_bytes\":2}}\n";
        assert_eq!(ends_of_processes(text), Reported::from([(Who::Pid(7), 3)]));
    }

    #[test]
    fn nethogs_totals_are_the_last_and_unnamed_ones_are_left_out() {
        let text = "Refreshing:\n/usr/bin/a b/12/0\t10\t5\nunknown TCP/0/0\t9\t9\n\nRefreshing:\n/usr/bin/a b/12/0\t30\t6\n";
        assert_eq!(read_nethogs(text), Reported::from([(Who::Pid(12), 36)]));
    }

    #[test]
    fn bandwhich_rates_are_added() {
        let line = "process: <17> \"curl\" up/down Bps: 10/5 connections: 1\n";
        let reported = read_bandwhich(&format!("Refreshing:\n{line}{line}"));
        assert_eq!(
            reported,
            Reported::from([(Who::Name("curl".to_owned()), 30)])
        );
    }

    #[test]
    fn rustnet_connections_have_the_last_counters_and_a_process_once_it_is_known() {
        let snapshot = |pid: Value, sent: u64| {
            let connection = serde_json::json!({
                "id": "TCP:a-TCP:b:1",
                "process": {"pid": pid},
                "traffic": {"bytes_sent": sent, "bytes_received": 2},
            });
            serde_json::json!({"connections": [connection]}).to_string()
        };
        let text = [
            snapshot(Value::Null, 3),
            snapshot(7.into(), 5),
            snapshot(Value::Null, 9),
        ];
        let reported = read_rustnet(&text.join("\n"));
        assert_eq!(reported, Reported::from([(Who::Pid(7), 11)]));
    }
}
