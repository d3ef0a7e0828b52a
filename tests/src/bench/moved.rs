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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_reports_totals_when_a_process_ends() {
        let text = "{\"type\":\"process.exit\",\"process\":{\"pid\":7},\"app\":{\"tx_bytes\":1,\"rx_bytes\":2}}\n";
        assert_eq!(ends_of_processes(text), Reported::from([(Who::Pid(7), 3)]));
    }
}
