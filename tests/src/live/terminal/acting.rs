//! Actions of a user on the host, from the screen.

use std::{fs, os::unix::process::ExitStatusExt as _, path::PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Stage, sender};
use crate::live::World;

/// The process gets the signal, and stays in the list for a while as an exited one.
pub fn kill(world: &World) -> Result<()> {
    let stage = Stage::set(world, "kill")?;
    let terminal = &stage.terminal;
    let mut victim = sender(world, "kill.victim", &stage.address)?;
    let pid = victim.pid();
    stage.only(pid)?;
    // Nothing happens without a selected row.
    terminal.keys(&["Home", "K"])?;
    let question = format!("Signal {pid} ");
    terminal.until("the question", |screen| screen.has(&question).then_some(()))?;
    // A cancelled dialog does nothing.
    terminal.keys(&["Escape"])?;
    terminal.until("that cancelled", |screen| {
        (screen.has("cancelled") && !screen.has(&question)).then_some(())
    })?;
    ensure!(victim.is_running()?, "it got a signal that was not sent");
    terminal.keys(&["K"])?;
    terminal.until("the question", |screen| screen.has(&question).then_some(()))?;
    terminal.keys(&["Enter"])?;
    let status = victim.end()?;
    ensure!(
        status.signal() == Some(Signal::SIGTERM as i32),
        "it ended otherwise: {status}"
    );
    terminal.until("what was done", |screen| {
        screen.has(&format!("sent SIGTERM to {pid}")).then_some(())
    })?;
    terminal.until("its ghost", |screen| {
        let row = screen.row(pid)?;
        (row.starts_with('∙') && row.contains("(exited)")).then_some(())
    })?;
    stage.quit(world)
}

/// Both formats, in the working directory of Flow.
pub fn export(world: &World) -> Result<()> {
    let stage = Stage::set(world, "export")?;
    let pid = stage.near.pid();
    let json = fs::read(exported(&stage, "Processes", &["Enter"], ".json")?)?;
    let json: Value = serde_json::from_slice(&json).context("the file")?;
    let rows = json["rows"].as_array().context("no rows")?;
    let row = rows.iter().find(|row| row["pid"] == pid);
    let row = row.with_context(|| format!("no row of pid {pid}: {json}"))?;
    ensure!(row["tx_bytes"].as_u64() > Some(0), "it sent nothing: {row}");

    let csv = fs::read_to_string(exported(&stage, "Processes", &["Down", "Enter"], ".csv")?)?;
    let mut lines = csv.lines().map(|line| line.split(','));
    let mut header = lines.next().context("an empty file")?;
    let column = header
        .position(|name| name == "pid")
        .context("no column pid")?;
    let mut rows = lines.map(|mut cells| cells.nth(column).map(str::to_owned));
    ensure!(
        rows.any(|cell| cell == Some(pid.to_string())),
        "no row of pid {pid}: {csv}"
    );
    stage.quit(world)
}

/// Exports the view, with these keys as the answer; returns the file that the screen names.
pub fn exported(stage: &Stage, title: &str, answer: &[&str], end: &str) -> Result<PathBuf> {
    let terminal = &stage.terminal;
    terminal.keys(&["e"])?;
    terminal.until("the question", |screen| {
        let question = format!("Write {title} to a file");
        screen.has(&question).then_some(())
    })?;
    terminal.keys(answer)?;
    let name = terminal.until("the name of the file", |screen| {
        let mut words = screen.line(" wrote ")?.split_whitespace();
        let name = words.find(|word| word.ends_with(end))?;
        Some(name.to_owned())
    })?;
    if name.contains('/') {
        bail!("not in the current directory: {name}");
    }
    Ok(terminal.folder.join(name))
}
