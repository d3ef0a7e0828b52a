//! Tests of what `flow` prints and writes besides its event stream.

use std::{fs, io::Write as _, net::SocketAddr, os::unix::process::CommandExt as _, path::PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns},
    sys::signal::Signal,
};
use serde_json::Value;

use super::{
    World,
    flow::{Ended, Flow},
    generator::{Generator, appending},
    peer::Peer,
    session, waiting,
};
use crate::truth::{Moved, Truth};

pub fn top_once_json(world: &World) -> Result<()> {
    let (ended, near) = under_chatter(
        world,
        "top-json",
        &["top", "--once", "-n", "1000", "--json"],
    )?;
    let output: Value =
        serde_json::from_slice(&ended.stdout).context("output of flow top --json")?;
    let rows = output["rows"].as_array().context("no rows")?;
    let own: Vec<_> = rows
        .iter()
        .filter(|row| row["pid"].as_u64() == Some(near.pid.into()))
        .collect();
    let [row] = own[..] else {
        bail!("rows of pid {}: {own:?}", near.pid);
    };
    // Flow ran for a part of the process's life.
    let plausible = |column: &str, all: u64| {
        let seen = row[column].as_u64();
        ensure!(
            seen.is_some_and(|seen| (1..=all).contains(&seen)),
            "pid {} moved {all} in all, its {column}: {seen:?}",
            near.pid
        );
        Ok(())
    };
    plausible("tx_bytes", near.moved.tx_bytes)?;
    plausible("rx_bytes", near.moved.rx_bytes)
}

pub fn top_once_text(world: &World) -> Result<()> {
    let (ended, near) = under_chatter(world, "top-text", &["top", "--once", "-n", "1000"])?;
    expect_harmless(&ended.stdout)?;
    let text = String::from_utf8_lossy(&ended.stdout);
    let pid = near.pid.to_string();
    let named = |line: &str| line.split_whitespace().any(|word| word == pid);
    ensure!(text.lines().any(named), "no row of pid {pid}:\n{text}");
    ensure!(
        text.to_uppercase().contains("TOTAL"),
        "no TOTAL line:\n{text}"
    );
    Ok(())
}

/// Names and arguments of other processes can neither break a line nor send commands to the
/// terminal.
pub fn events_text_is_harmless(world: &World) -> Result<()> {
    let (far, address) = loopback_server(world, "text")?;
    let arguments = ["events", "--backend", world.options.backend.name()];
    let flow = Flow::start(world, "text", &arguments)?;
    waiting::until(world.patience(), "flow events to show a process", || {
        let mut near = Generator::start(
            world,
            "text.near",
            "hostile",
            &["--peer".to_owned(), address.to_string()],
            None,
        )?;
        near.join()?;
        let text = flow.output()?;
        Ok(String::from_utf8_lossy(&text)
            .contains("generate tcp-both")
            .then_some(()))
    })?;
    far.finish()?;
    let ended = flow.stop(Signal::SIGINT)?;
    ended.expect_code(130)?;
    expect_harmless(&ended.stdout)
}

/// Processes run one after the other while Flow runs: all that start after it must be reported to
/// the byte, except the one that runs when Flow ends.
pub fn snapshot_totals(world: &World) -> Result<()> {
    let (far, address) = loopback_server(world, "snapshot")?;
    let report = world.scratch.join("report.json");
    let duration = if world.is_slow() { "10s" } else { "3s" };
    let path = report.to_str().context("the path of the report")?;
    let arguments = ["snapshot", "--duration", duration, "--output", path];
    let mut flow = Flow::start(world, "snapshot", &arguments)?;
    let mut truths = Vec::<Truth>::new();
    while flow.is_running()? {
        let bytes = 50_000 + truths.len();
        let arguments = [
            "--peer",
            &address.to_string(),
            "--bytes",
            &bytes.to_string(),
        ];
        let arguments = arguments.map(str::to_owned);
        let mut near = Generator::start(world, "snapshot.near", "tcp-both", &arguments, None)?;
        truths.extend(near.join()?);
    }
    flow.wait()?.expect_code(0)?;
    far.finish()?;

    let text = fs::read(&report).context("reading the report")?;
    let report: Value = serde_json::from_slice(&text).context("the report")?;
    let started = report["started"].as_str().context("no start")?;
    let began_within = |truth: &Truth| {
        let start = process_of(&report, truth.pid)?["process"]["start_time"].as_str()?;
        // Times have one notation and one length, so text can be compared.
        Some(start >= started)
    };
    let first = truths
        .iter()
        .position(|truth| began_within(truth) == Some(true))
        .context("no process that began after Flow is in the report")?;
    let seen: Vec<Seen> = truths[first..]
        .iter()
        .map(|truth| Seen::of(&report, truth))
        .collect();
    let exact = seen.iter().take_while(|seen| **seen == Seen::Exactly);
    let rest = &seen[exact.count()..];
    ensure!(
        rest.len() < seen.len() && rest.iter().skip(1).all(|seen| *seen == Seen::Not),
        "of {} processes that began after Flow, the last {} are not there to the byte: {rest:?}",
        seen.len(),
        rest.len()
    );
    Ok(())
}

pub fn snapshot_full_disk(world: &World) -> Result<()> {
    let disk = FullDisk::new(world.scratch.join("full-disk"))?;
    let report = disk.path.join("report.json");
    let path = report.to_str().context("the path of the report")?;
    let ended = Flow::run(
        world,
        "full-disk",
        &["snapshot", "--duration", "1s", "--output", path],
    )?;
    ended.expect_complaint(1)?;
    let left: Vec<_> = fs::read_dir(&disk.path)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    ensure!(left == ["filler"], "left on the full disk: {left:?}");
    Ok(())
}

/// What passed while Flow attached is in no ledger. With constant traffic, nothing is unexplained
/// and nothing is the kernel's from the first tick on, except what passes between two readings.
pub fn ledger_begins_clean(world: &World) -> Result<()> {
    let arguments = "events --json --only ledger --duration 4s --interval 200ms";
    let arguments: Vec<_> = arguments.split(' ').collect();
    for _ in 0..world.scaled(2) {
        // In a network namespace with no other traffic on loopback.
        let peer = session::new_peer(world)?;
        let (ended, _) = under_chatter_in(Some(&peer), world, "ledger", &arguments)?;
        let mut seen = Vec::new();
        for line in ended.stdout.split(|byte| *byte == b'\n') {
            let Ok(record) = serde_json::from_slice::<Value>(line) else {
                continue;
            };
            if record["type"] == "ledger" && record["interface"]["name"] == "lo" {
                let part = |side: &str, part: &str| record[side][part].as_i64();
                seen.push([
                    part("ingress", "unexplained"),
                    part("ingress", "kernel"),
                    part("egress", "unexplained"),
                    part("egress", "kernel"),
                ]);
            }
        }
        ensure!(
            // The first reports only a moment after the beginning.
            seen.iter().skip(1).any(|seen| *seen == [Some(0); 4]),
            "ingress unexplained, kernel, egress unexplained, kernel: {seen:?}"
        );
    }
    Ok(())
}

/// Runs Flow while a process sends and receives all the time; returns what that moved in the end.
fn under_chatter(world: &World, name: &str, arguments: &[&str]) -> Result<(Ended, Truth)> {
    under_chatter_in(None, world, name, arguments)
}

/// As above, in the network namespace of a peer.
fn under_chatter_in(
    peer: Option<&Peer>,
    world: &World,
    name: &str,
    arguments: &[&str],
) -> Result<(Ended, Truth)> {
    let (far, address) = loopback_server_in(peer, world, name)?;
    let near = Generator::start(
        world,
        &format!("{name}.near"),
        "udp-chatter",
        &["--peer".to_owned(), address.to_string()],
        peer,
    )?;
    let mut arguments = arguments.to_vec();
    arguments.extend(["--backend", world.options.backend.name()]);
    let stdout = appending(&world.scratch.join(format!("{name}.flow.out")))?;
    let netns = peer.map(Peer::netns).transpose()?;
    let mut flow = Flow::spawn(world, name, &arguments, stdout.into(), |command| {
        if let Some(netns) = netns {
            let enter = move || Ok(setns(&netns, CloneFlags::CLONE_NEWNET)?);
            // SAFETY: only a system call between fork and exec.
            unsafe { command.pre_exec(enter) };
        }
    })?;
    let ended = flow.wait()?;
    ended.expect_code(0)?;
    let truth = near
        .finish()?
        .pop()
        .context("the generator printed nothing")?;
    far.finish()?;
    Ok((ended, truth))
}

pub fn loopback_server(world: &World, name: &str) -> Result<(Generator, SocketAddr)> {
    loopback_server_in(None, world, name)
}

fn loopback_server_in(
    peer: Option<&Peer>,
    world: &World,
    name: &str,
) -> Result<(Generator, SocketAddr)> {
    let listen = ["--listen", "127.0.0.1:0"].map(str::to_owned);
    let mut far = Generator::start(world, &format!("{name}.far"), "serve", &listen, peer)?;
    let address = far.listening()?;
    Ok((far, address))
}

/// A process in a report.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Exactly,
    Partly,
    Not,
}

impl Seen {
    fn of(report: &Value, truth: &Truth) -> Self {
        let same = |row: &Moved| {
            row.tx_bytes == truth.moved.tx_bytes && row.rx_bytes == truth.moved.rx_bytes
        };
        let rows = rows_of(report, truth.pid);
        if rows.iter().any(same) {
            Self::Exactly
        } else if rows.is_empty() {
            Self::Not
        } else {
            Self::Partly
        }
    }
}

/// The totals of a process in a report.
fn process_of(report: &Value, pid: u32) -> Option<&Value> {
    let mut processes = report["processes"].as_array()?.iter();
    processes.find(|row| row["process"]["pid"].as_u64() == Some(pid.into()))
}

/// The sum of all rows of a process: objects that name it and have `app`.
fn rows_of(value: &Value, pid: u32) -> Vec<Moved> {
    let mut rows = Vec::new();
    match value {
        Value::Object(fields) => {
            let own = fields
                .get("pid")
                .or_else(|| fields.get("process")?.get("pid"));
            if let (Some(own), Some(app)) = (own, fields.get("app"))
                && own.as_u64() == Some(pid.into())
            {
                let bytes = |name: &str| app[name].as_u64().unwrap_or(0);
                rows.push(Moved {
                    tx_bytes: bytes("tx_bytes"),
                    rx_bytes: bytes("rx_bytes"),
                    tx_calls: bytes("tx_calls"),
                    rx_calls: bytes("rx_calls"),
                });
            }
            rows.extend(fields.values().flat_map(|value| rows_of(value, pid)));
        }
        Value::Array(values) => rows.extend(values.iter().flat_map(|value| rows_of(value, pid))),
        _ => {}
    }
    rows
}

/// Checks that text is safe for a terminal: no control characters, nothing that changes the
/// direction of writing.
pub fn expect_harmless(output: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(output).context("the output is not UTF-8")?;
    let harmful = |character: &char| {
        (character.is_control() && *character != '\n')
            || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    for line in text.lines() {
        if let Some(character) = line.chars().find(harmful) {
            bail!(
                "the output holds {character:?}, in {:?}",
                line.chars().take(200).collect::<String>()
            );
        }
    }
    Ok(())
}

/// A small, full file system. Unmounted on drop.
struct FullDisk {
    path: PathBuf,
}

impl FullDisk {
    fn new(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path)?;
        mount(
            Some("tmpfs"),
            &path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=64k"),
        )
        .context("mounting a small tmpfs")?;
        let disk = Self { path };
        let mut filler = fs::File::create(disk.path.join("filler"))?;
        loop {
            match filler.write(&[0; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(disk),
                Err(error) => return Err(error).context("filling the small tmpfs"),
            }
        }
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        // Nobody uses it at the end of the test. If it stays mounted, the next test reports that.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_found_wherever_they_stand() {
        let app = json!({"tx_bytes": 5, "rx_bytes": 6});
        let report = json!({
            "processes": [
                {"process": {"pid": 1}, "app": app},
                {"pid": 2, "app": {"tx_bytes": 9, "rx_bytes": 9}},
            ],
            "other": {"rows": [{"process": {"pid": 1, "app": app}}]},
        });
        let rows = rows_of(&report, 1);
        assert_eq!(rows.len(), 2);
        assert!(
            rows.iter()
                .all(|row| (row.tx_bytes, row.rx_bytes) == (5, 6))
        );
        assert_eq!(rows_of(&report, 3), []);
    }

    #[test]
    fn harmful_text_is_found() {
        expect_harmless("plain\nΩ 漢\n".as_bytes()).unwrap();
        for text in ["\u{1b}[2J", "a\tb", "\u{9b}", "\u{202e}", "\r"] {
            expect_harmless(text.as_bytes()).unwrap_err();
        }
        expect_harmless(b"\xff").unwrap_err();
    }
}
