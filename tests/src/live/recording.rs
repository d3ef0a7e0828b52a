//! Recordings of Flow, and their replay.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{World, flow::Flow};

/// The arguments for a recording to `file`.
pub fn recording(file: &Path) -> Result<[&str; 2]> {
    Ok([
        "--record",
        file.to_str().context("the path of the recording")?,
    ])
}

/// A replay must print what the command printed live. Where the reader of either was slow, updates
/// were merged, and which ones depends on the moment: then all lines must be the same that are never
/// merged.
pub fn same(world: &World, name: &str, arguments: &[&str], file: &Path, live: &[u8]) -> Result<()> {
    let path = file.to_str().context("the path of the recording")?;
    let arguments = [arguments, &["--replay", path]].concat();
    let replayed = Flow::start(world, &format!("{name}.replayed"), &arguments)?.wait()?;
    replayed.expect_code(0)?;
    let [live, replayed] = [live, &replayed.stdout].map(String::from_utf8_lossy);
    let is_json = arguments.contains(&"--json");
    if is_json && [&live, &replayed].iter().any(|text| text.contains(MERGED)) {
        compare(name, &never_merged(&live)?, &never_merged(&replayed)?)
    } else {
        compare(name, &lines(&live), &lines(&replayed))
    }
}

/// The cause under which the event stream reports that updates were merged.
const MERGED: &str = "reader_slow_coalesced";
/// Types of lines that are never merged.
const NEVER_MERGED: [&str; 4] = ["flow.open", "flow.close", "process.exec", "process.exit"];

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// The lines of JSON that are never merged, without their number.
fn never_merged(text: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut line: Value = serde_json::from_str(line)?;
        if line["type"]
            .as_str()
            .is_some_and(|kind| NEVER_MERGED.contains(&kind))
        {
            line["seq"] = Value::Null;
            lines.push(line.to_string());
        }
    }
    Ok(lines)
}

fn compare(name: &str, live: &[String], replayed: &[String]) -> Result<()> {
    let mut lines = live.iter().zip(replayed).enumerate();
    if let Some((number, (live, replayed))) = lines.find(|(_, (live, replayed))| live != replayed) {
        let number = number + 1;
        bail!("{name}, line {number}:\n  live      {live}\n  recording {replayed}");
    }
    let (lines, more) = (live.len(), replayed.len());
    ensure!(
        lines == more,
        "{name}: {lines} lines live, {more} of the recording"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_merged_is_not_compared() {
        let line = |kind: &str, seq: u64| format!(r#"{{"type":"{kind}","seq":{seq}}}"#);
        let whole = [
            line("flow.open", 1),
            line("ledger", 2),
            line("flow.close", 3),
        ]
        .join("\n");
        let merged = [line("flow.open", 1), line("flow.close", 2)].join("\n");
        assert_eq!(
            never_merged(&whole).unwrap(),
            never_merged(&merged).unwrap()
        );
        let other = line("flow.close", 1);
        assert_ne!(never_merged(&whole).unwrap(), never_merged(&other).unwrap());
    }
}
