//! Recordings of Flow, and their replay.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::{World, flow::Flow};

/// The arguments for a recording to `file`.
pub fn recording(file: &Path) -> Result<[&str; 2]> {
    Ok([
        "--record",
        file.to_str().context("the path of the recording")?,
    ])
}

/// A replay must print what the command printed live.
pub fn same(world: &World, name: &str, arguments: &[&str], file: &Path, live: &[u8]) -> Result<()> {
    let path = file.to_str().context("the path of the recording")?;
    let arguments = [arguments, &["--replay", path]].concat();
    let replayed = Flow::start(world, &format!("{name}.replayed"), &arguments)?.wait()?;
    replayed.expect_code(0)?;
    let [live, replayed] = [live, &replayed.stdout].map(String::from_utf8_lossy);
    let mut lines = live.lines().zip(replayed.lines()).enumerate();
    if let Some((number, (live, replayed))) = lines.find(|(_, (live, replayed))| live != replayed) {
        let number = number + 1;
        bail!("{name}, line {number}:\n  live      {live}\n  recording {replayed}");
    }
    let (lines, more) = (live.lines().count(), replayed.lines().count());
    ensure!(
        lines == more,
        "{name}: {lines} lines live, {more} of the recording"
    );
    Ok(())
}
