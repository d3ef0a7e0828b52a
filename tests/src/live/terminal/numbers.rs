//! What the rows of the screen say: totals that stay, sums, counts and states.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Stage, acting::exported, sender, tasks};
use crate::live::{World, outputs::loopback_server};

/// So short that processes leave the list during a test.
const FORGETTING: &str = "\"$FLOW\" --interval 200 --history-ttl 1s";
/// Columns by which a row is known: the first that it has.
const IDENTITIES: [&str; 6] = ["local", "program", "process", "remote", "user", "cgroup"];

/// Received and sent bytes by the name of a row.
type Totals = BTreeMap<String, (u64, u64)>;

/// Totals of programs, remotes, listeners, users and cgroups hold what has left the list.
pub fn totals_stay(world: &World) -> Result<()> {
    let stage = Stage::empty(world, "totals_stay")?;
    stage.start(FORGETTING)?;
    let sent = tasks::run_all(world, &stage, "totals_stay")?.sent;
    let views = ["1", "3", "4", "6", "7"];
    let terminal = &stage.terminal;
    terminal.keys(&["a"])?;
    tasks::in_one_row(&stage)?;
    let all = || -> Result<Vec<Totals>> {
        let titles = ["Processes", "Remotes", "Listeners", "Users", "Cgroups"];
        let pairs = views.iter().zip(titles);
        pairs
            .map(|(key, title)| {
                terminal.keys(&[key])?;
                totals(&stage, title)
            })
            .collect()
    };
    let before = all()?;
    terminal.keys(&["1", "a", "a"])?;
    terminal.until("the program's processes to leave the list", |screen| {
        (screen.header().is_some() && !screen.has(tasks::PROGRAM)).then_some(())
    })?;
    terminal.keys(&["a"])?;
    let after = all()?;
    for ((view, before), after) in views.iter().zip(&before).zip(&after) {
        ensure!(!before.is_empty(), "no rows in view {view}");
        for (name, was) in before {
            let is = after.get(name).copied().unwrap_or_default();
            ensure!(
                is.0 >= was.0 && is.1 >= was.1,
                "{name} in view {view}: {was:?} bytes, then {is:?}"
            );
        }
    }
    let of_program = after[0].get(tasks::PROGRAM).copied();
    ensure!(
        of_program == Some((0, sent)),
        "{} sent {sent} bytes, and has {of_program:?} in {:?}",
        tasks::PROGRAM,
        after[0]
    );
    stage.quit(world)
}

/// Listening sockets are not flows, and a collapsed parent has the sum of what is under it.
pub fn sums(world: &World) -> Result<()> {
    let stage = Stage::set(world, "sums")?;
    let (idle, _) = loopback_server(world, "sums.idle")?;
    let terminal = &stage.terminal;
    terminal.until("the idle server", |screen| screen.row(idle.pid()).map(drop))?;
    let rows = rows(&stage, "Processes")?;
    let flows_of = |pid: u32| {
        let mut rows = rows.iter();
        let row = rows.find(|row| row["pid"] == pid);
        row.map(|row| row["flows"].clone())
    };
    let (idle_has, near_has) = (flows_of(idle.pid()), flows_of(stage.near.pid()));
    ensure!(
        idle_has == Some(0.into()) && near_has == Some(1.into()),
        "flows of a server without clients: {idle_has:?}, of a client: {near_has:?}"
    );
    // The tree: this process has started all the others, and moves nothing itself.
    let own = std::process::id();
    terminal.keys(&["a", "a"])?;
    terminal.until("the tree", |screen| screen.has("tree").then_some(()))?;
    terminal.text(&format!("f{own} "))?;
    terminal.keys(&["Enter"])?;
    terminal.keys(&["Left"])?;
    terminal.until("the sum of the collapsed rows", |screen| {
        let row = screen.line(&format!(" {own} "))?;
        let is_alone = !screen.has(&format!(" {} ", stage.near.pid()));
        (is_alone && row.contains("MB/s")).then_some(())
    })?;
    stage.quit(world)
}

/// Each row of a grouping says what it stands for; a socket's wire bytes stand in one row; the
/// states of a connection are in order.
pub fn flows(world: &World) -> Result<()> {
    let stage = Stage::set(world, "flows")?;
    let second = sender(world, "flows.second", &stage.address)?;
    let last = tasks::run_all(world, &stage, "flows")?.last;
    let terminal = &stage.terminal;
    terminal.until("the second sender", |screen| {
        screen.row(second.pid()).map(drop)
    })?;
    terminal.keys(&["2"])?;
    let inbound = format!("{} ←", stage.address);
    terminal.until("both remotes of the server", |screen| {
        let lines = screen.lines.iter().filter(|line| line.contains("udp"));
        let remotes = lines.filter(|line| line.contains(&inbound));
        (remotes.count() == 2).then_some(())
    })?;
    let of_server: Vec<Value> = rows(&stage, "Flows")?
        .into_iter()
        .filter(|row| row["protocol"] == "udp" && row["local"] == stage.address.as_str())
        .collect();
    let wired = of_server
        .iter()
        .filter(|row| row["wire_rx_bytes"].as_u64() > Some(0));
    let remotes = of_server.iter().filter(|row| row["remote"].is_string());
    ensure!(
        remotes.count() == 2 && wired.count() == 1,
        "the flows of a socket with two remotes: {of_server:?}"
    );
    terminal.keys(&["a", "a"])?;
    terminal.until("a row for the remote", |screen| {
        let row = screen.line("127.0.0.1 ")?;
        row.contains("flows").then_some(())
    })?;
    terminal.keys(&["a", "a"])?;
    terminal.text(&format!("/pid {last}"))?;
    terminal.keys(&["Enter"])?;
    terminal.until("the flow of the last run", |screen| {
        screen.line(&format!("→ {}", stage.address)).map(drop)
    })?;
    terminal.keys(&["Down", "Enter"])?;
    let states = terminal.until("its states", |screen| screen.fact("states"))?;
    let names: Vec<&str> = states
        .split('›')
        .map(|state| state.trim_end_matches(|it: char| it.is_ascii_digit() || ":.".contains(it)))
        .collect();
    ensure!(
        names.starts_with(&["syn-sent", "established"]) && names.last() == Some(&"closed"),
        "the states {names:?}"
    );
    let mut once = names.clone();
    once.sort_unstable();
    once.dedup();
    ensure!(once.len() == names.len(), "a state twice: {names:?}");
    terminal.keys(&["Escape"])?;
    terminal.until("the flows", |screen| screen.has("REMOTE").then_some(()))?;
    stage.quit(world)
}

/// Both directions of the bytes are in every line of `flow events`, however narrow, and `flow top`
/// fills the screen and ends by `q`.
pub fn streams(world: &World) -> Result<()> {
    let stage = Stage::empty(world, "streams")?;
    tasks::run_all(world, &stage, "streams")?;
    let terminal = &stage.terminal;
    let pid = stage.far.pid();
    for columns in [80, 100, 120] {
        terminal.resize((columns, 30))?;
        terminal.command(&format!(
            "\"$FLOW\" events --interval 200 --filter 'pid {pid}'; clear"
        ))?;
        terminal.until("the bytes of an update", |screen| {
            let lines = screen.lines.iter().filter(|line| line.contains("update"));
            let counts = lines.map(|line| line.matches("kB").count() + line.matches("MB").count());
            (counts.max()? >= 1).then_some(())
        })?;
        terminal.keys(&["C-c"])?;
        stage.terminal.until_shell()?;
    }
    terminal.command("\"$FLOW\" top --interval 200")?;
    terminal.until("the table", |screen| screen.has("TOTAL").then_some(()))?;
    let runs = tasks::run_all(world, &stage, "streams.top")?;
    terminal.until("every process in the table", |screen| {
        let start = format!("{} ", runs.last);
        let seen = screen
            .lines
            .iter()
            .any(|line| line.trim_start().starts_with(&start));
        let cut = screen.has("more");
        let blank = screen.lines.iter().filter(|line| line.trim().is_empty());
        (seen && (!cut || blank.count() < 2)).then_some(())
    })?;
    terminal.keys(&["q"])?;
    stage.terminal.until_shell()?;
    let code = terminal.exit_code()?;
    ensure!(code == 0, "exit code {code}");
    Ok(())
}

/// The rows of the view on the screen, exactly.
fn rows(stage: &Stage, title: &str) -> Result<Vec<Value>> {
    let path = exported(stage, title, &["Enter"], ".json")?;
    let text = fs::read(&path)?;
    // Others are written in the same second.
    fs::remove_file(&path)?;
    let json: Value = serde_json::from_slice(&text).context("the file")?;
    let rows = json["rows"].as_array().context("no rows")?;
    Ok(rows.clone())
}

/// The totals of rows that have a name.
fn totals(stage: &Stage, title: &str) -> Result<Totals> {
    let named = rows(stage, title)?.into_iter().filter_map(|row| {
        let mut names = IDENTITIES.iter().filter_map(|name| row[*name].as_str());
        let protocol = row["protocol"].as_str().unwrap_or_default();
        let name = format!("{protocol}{}", names.next()?);
        let count = |field: &str| row[field].as_u64().unwrap_or_default();
        Some((name, (count("rx_bytes"), count("tx_bytes"))))
    });
    Ok(named.collect())
}
