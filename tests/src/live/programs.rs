//! The tests of what `flow` does as a program: signals, bad input, its other outputs.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};
use serde_json::Value;

use super::{
    World, cases,
    flow::{Ended, Flow},
    generator::Generator,
    qdisc, session, waiting,
};
use crate::truth::{Moved, Truth};

/// A test of the program.
#[derive(Debug)]
pub struct Test {
    pub name: &'static str,
    pub run: fn(&World) -> Result<()>,
}

const fn test(name: &'static str, run: fn(&World) -> Result<()>) -> Test {
    Test { name, run }
}

/// Every test.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    test("signal_interrupt",          |world| signal(world, Signal::SIGINT, 130)),
    test("signal_terminate",          |world| signal(world, Signal::SIGTERM, 143)),
    test("killed_then_started",       killed_then_started),
    test("stdout_closed",             stdout_closed),
    test("stdout_full",               stdout_full),
    test("usage_errors",              usage_errors),
    test("without_privileges",        without_privileges),
    test("doctor_answers",            doctor_answers),
    test("top_once_json",             top_once_json),
    test("top_once_text",             top_once_text),
    test("events_text_is_harmless",   events_text_is_harmless),
    test("snapshot_totals",           snapshot_totals),
    test("snapshot_full_disk",        snapshot_full_disk),
];

/// Budget of a clean end.
const DETACH: Duration = Duration::from_millis(100);
/// How much longer that may take on a slow machine.
const SLOWNESS: u32 = 10;

/// Ends in time, with the right code, and leaves nothing on the interfaces.
fn signal(world: &World, signal: Signal, code: i32) -> Result<()> {
    let budget = if world.is_slow() {
        DETACH * SLOWNESS
    } else {
        DETACH
    };
    let mut fastest = Duration::MAX;
    for attempt in 0..3 {
        let before = qdisc::read()?;
        let flow = Flow::events(world, &format!("{signal}-{attempt}"))?;
        let ended = flow.stop(signal)?;
        ended.expect_code(code)?;
        let after = qdisc::read()?;
        ensure!(
            after == before,
            "left on the interfaces: {after:?}, before: {before:?}"
        );
        // What else runs on this machine may delay one of them.
        fastest = fastest.min(ended.took);
        if fastest <= budget {
            return Ok(());
        }
    }
    bail!("took {fastest:?} to end, at most {budget:?} is allowed");
}

fn killed_then_started(world: &World) -> Result<()> {
    let before = qdisc::read()?;
    let ended = Flow::events(world, "killed")?.stop(Signal::SIGKILL)?;
    ensure!(ended.code() == 137, "killed, and yet code {}", ended.code());
    let case = cases::CASES
        .iter()
        .find(|case| case.name == "tcp_vectored")
        .context("the case tcp_vectored is gone")?;
    session::single(world, case)?;
    let after = qdisc::read()?;
    ensure!(
        after.filters == before.filters,
        "left on the interfaces: {after:?}, before: {before:?}"
    );
    Ok(())
}

fn stdout_closed(world: &World) -> Result<()> {
    let arguments = [
        "events",
        "--json",
        "--backend",
        world.options.backend.name(),
    ];
    let mut flow = Flow::spawn(world, "closed", &arguments, Stdio::piped(), |_| ())?;
    let mut reader = BufReader::new(flow.take_stdout().context("no pipe")?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    serde_json::from_str::<Value>(&line).context("flow's first line")?;
    drop(reader);
    // Something to write, until it notices.
    let mut round = 0;
    while flow.is_running()? {
        ensure!(round < 1000, "flow went on without a reader");
        let mut traffic = Generator::start(
            world,
            "closed.near",
            "forked-listener",
            &["--count".to_owned(), "1".to_owned()],
            None,
        )?;
        traffic.join()?;
        round += 1;
    }
    flow.wait()?.expect_code(0)
}

fn stdout_full(world: &World) -> Result<()> {
    let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let arguments = ["events", "--json", "--duration", "10s"];
    Flow::spawn(world, "full", &arguments, full.into(), |_| ())?
        .wait()?
        .expect_complaint(1)
}

fn usage_errors(world: &World) -> Result<()> {
    let wrong: &[&[&str]] = &[
        &["events", "--filter", "host ("],
        &["top", "--filter", "pid nonsense"],
        &["top", "--no-such-flag"],
        &["events", "--interface", "no-such-if0"],
        &["top", "--once", "--sort", "no-such-column"],
        &["snapshot", "--duration", "soon", "--output", "/dev/null"],
        &["events", "--backend", "no-such-backend"],
        &["no-such-command"],
    ];
    for arguments in wrong {
        run(world, "usage", arguments)
            .and_then(|ended| ended.expect_complaint(2))
            .with_context(|| format!("flow {}", arguments.join(" ")))?;
    }
    Ok(())
}

fn without_privileges(world: &World) -> Result<()> {
    let program = Public::copy(&world.options.flow)?;
    let mut world = World {
        options: world.options.clone(),
        generator: world.generator.clone(),
        scratch: world.scratch.clone(),
    };
    world.options.flow.clone_from(&program.path);
    for arguments in [["events", "--json"], ["top", "--once"]] {
        let ended = run_as_nobody(&world, &arguments)?;
        ended
            .expect_complaint(3)
            .with_context(|| format!("flow {} as nobody", arguments.join(" ")))?;
    }
    let ended = run_as_nobody(&world, &["doctor", "--json"])?;
    serde_json::from_slice::<Value>(&ended.stdout).context("output of flow doctor as nobody")?;
    Ok(())
}

fn doctor_answers(world: &World) -> Result<()> {
    let ended = run(world, "doctor", &["doctor", "--json"])?;
    ended.expect_code(0)?;
    serde_json::from_slice::<Value>(&ended.stdout).context("output of flow doctor --json")?;
    let ended = run(world, "doctor", &["doctor"])?;
    ended.expect_code(0)?;
    expect_harmless(&ended.stdout)
}

fn top_once_json(world: &World) -> Result<()> {
    let (ended, near) = under_chatter(
        world,
        "top-json",
        &["top", "--once", "-n", "1000", "--json"],
    )?;
    let output: Value =
        serde_json::from_slice(&ended.stdout).context("output of flow top --json")?;
    let rows = rows_of(&output, near.pid);
    let plausible = |row: &Moved| {
        (1..=near.moved.tx_bytes).contains(&row.tx_bytes)
            && (1..=near.moved.rx_bytes).contains(&row.rx_bytes)
    };
    ensure!(
        rows.iter().any(plausible),
        "pid {} moved {:?} in all, its rows are {rows:?}",
        near.pid,
        near.moved
    );
    Ok(())
}

fn top_once_text(world: &World) -> Result<()> {
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

/// Names and arguments of other processes cannot break a line or reach the terminal as commands.
fn events_text_is_harmless(world: &World) -> Result<()> {
    let (mut far, address) = loopback_server(world, "text")?;
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
    far.go()?;
    let ended = flow.stop(Signal::SIGINT)?;
    ended.expect_code(130)?;
    expect_harmless(&ended.stdout)
}

/// Processes run one after the other while Flow looks: all but the first and the last that it sees
/// must be there to the byte.
fn snapshot_totals(world: &World) -> Result<()> {
    let (far, address) = loopback_server(world, "snapshot")?;
    let report = world.scratch.join("report.json");
    let duration = if world.is_slow() { "20s" } else { "3s" };
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
    let seen: Vec<Seen> = truths
        .iter()
        .map(|truth| Seen::of(&report, truth))
        .collect();
    let first = seen.iter().position(|seen| *seen == Seen::Exactly);
    let last = seen.iter().rposition(|seen| *seen == Seen::Exactly);
    let (Some(first), Some(last)) = (first, last) else {
        bail!("no process is in the report to the byte: {seen:?}");
    };
    let (before, within, after) = (&seen[..first], &seen[first..=last], &seen[last + 1..]);
    let partly = |part: &[Seen]| part.iter().filter(|seen| **seen == Seen::Partly).count();
    ensure!(
        within.iter().all(|seen| *seen == Seen::Exactly)
            && partly(before) <= 1
            && partly(after) <= 1,
        "processes in the order they ran: {seen:?}"
    );
    Ok(())
}

fn snapshot_full_disk(world: &World) -> Result<()> {
    let disk = FullDisk::new(world.scratch.join("full-disk"))?;
    let report = disk.path.join("report.json");
    let path = report.to_str().context("the path of the report")?;
    let ended = run(
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

fn run(world: &World, name: &str, arguments: &[&str]) -> Result<Ended> {
    Flow::start(world, name, arguments)?.wait()
}

fn run_as_nobody(world: &World, arguments: &[&str]) -> Result<Ended> {
    let stdout = super::generator::appending(&world.scratch.join("nobody.flow.out"))?;
    let nobody = |command: &mut std::process::Command| {
        command.uid(65_534).gid(65_534).current_dir("/");
    };
    Flow::spawn(world, "nobody", arguments, stdout.into(), nobody)?.wait()
}

/// Runs flow while a process talks all the time; what that moved in the end.
fn under_chatter(world: &World, name: &str, arguments: &[&str]) -> Result<(Ended, Truth)> {
    let (far, address) = loopback_server(world, name)?;
    let near = Generator::start(
        world,
        &format!("{name}.near"),
        "udp-chatter",
        &["--peer".to_owned(), address.to_string()],
        None,
    )?;
    let mut arguments = arguments.to_vec();
    arguments.extend(["--backend", world.options.backend.name()]);
    let ended = run(world, name, &arguments)?;
    ended.expect_code(0)?;
    let truth = near.finish()?.pop().context("the generator told nothing")?;
    far.finish()?;
    Ok((ended, truth))
}

fn loopback_server(world: &World, name: &str) -> Result<(Generator, SocketAddr)> {
    let listen = ["--listen", "127.0.0.1:0"].map(str::to_owned);
    let mut far = Generator::start(world, &format!("{name}.far"), "serve", &listen, None)?;
    let address = far.listening()?;
    Ok((far, address))
}

/// How a process is in a report.
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

/// Totals of all rows of a process, wherever they stand: objects that name it and hold `app`.
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

/// Text for a terminal: no control characters, nothing that changes the direction of writing.
fn expect_harmless(output: &[u8]) -> Result<()> {
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

/// A copy of a program that everybody may run. Goes with the value.
struct Public {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Public {
    fn copy(program: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("flow-live-").tempdir()?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let path = directory.path().join("flow");
        fs::copy(program, &path).context("copying flow")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            path,
            _directory: directory,
        })
    }
}

/// A small file system without room. Goes with the value.
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
        // At the end of the test nobody uses it; if it stays, the next test says so.
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
