//! Listeners remain listeners while connections come in, and have what they serve.

use std::{collections::BTreeMap, net::SocketAddr, process::Command};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    World, flow::Flow, generator::Generator, outputs::loopback_server, stream::records, waiting,
};

/// A listener older than Flow and a newer one, each with an incoming connection, listen until the
/// end.
pub fn keep_listening(world: &World) -> Result<()> {
    keep_listening_changed(world, "listeners", |_| ())
}

/// As above, for a Flow that `change` deprives of something.
pub fn keep_listening_changed(
    world: &World,
    name: &str,
    change: impl FnOnce(&mut Command),
) -> Result<()> {
    let (before, older) = loopback_server(world, &format!("{name}.older"))?;
    let flow = Flow::events_changed(world, name, change)?;
    let (after, newer) = loopback_server(world, &format!("{name}.newer"))?;
    for address in [older, newer] {
        connect(world, address)?;
    }
    // At its end Flow reads all entries.
    let ended = flow.stop(Signal::SIGINT)?;
    ended.expect_code(130)?;
    before.finish()?;
    after.finish()?;
    for address in [older, newer] {
        let mut last = last_records(&ended.stdout, address)?;
        // The generator probes the port first.
        last.retain(|_, record| record["type"] != "flow.close");
        let states: Vec<_> = last
            .values()
            .map(|record| &record["flow"]["state"])
            .collect();
        ensure!(
            states == ["listen"],
            "the listener at {address} is reported as {last:?}"
        );
    }
    Ok(())
}

/// Clients of each of the servers below.
const CLIENTS: usize = 3;

/// The datagram sockets of a server older than Flow and of a newer one are listeners, each with the
/// bytes and the number of the remotes that it served, and those of their clients are none.
pub fn of_datagrams(world: &World) -> Result<()> {
    let name = "datagram-listeners";
    let (before, older) = loopback_server(world, &format!("{name}.older"))?;
    let backend = world.options.backend.name();
    let arguments = [
        "top",
        "--by",
        "listener",
        "-n",
        "10000",
        "--json",
        "--interval",
        "200",
    ];
    let arguments = [&arguments[..], &["--backend", backend]].concat();
    let flow = Flow::start(world, name, &arguments)?;
    let listed = || Ok(last_rows(&flow.output()?));
    waiting::until(world.patience(), "the first table", listed)?;
    let (after, newer) = loopback_server(world, &format!("{name}.newer"))?;
    let mut expected = BTreeMap::new();
    let mut clients = Vec::new();
    for (server, pid) in [(older, before.pid()), (newer, after.pid())] {
        let count = world.scaled(50).to_string();
        let arguments = ["--peer", &server.to_string(), "--count", &count].map(str::to_owned);
        for number in 0..CLIENTS {
            let name = format!("{name}.{}.{number}", server.port());
            let mut client = Generator::start(world, &name, "udp-many", &arguments, None)?;
            clients.push(client.pid());
            for truth in client.join()? {
                for (local, moved) in truth.remotes {
                    let served: &mut Served = expected.entry(local).or_default();
                    served.pid = pid.into();
                    served.flows += 1;
                    served.rx_bytes += moved.tx_bytes;
                    served.tx_bytes += moved.rx_bytes;
                }
            }
        }
    }
    let mut shown = BTreeMap::new();
    let result = waiting::until(world.patience(), "what the servers moved", || {
        let rows = last_rows(&flow.output()?).unwrap_or_default();
        shown = served(&rows, &expected);
        Ok((shown == expected).then_some(rows))
    });
    let rows = result.with_context(|| format!("expected {expected:?}, shown {shown:?}"))?;
    let of_client = |row: &&Value| clients.iter().any(|pid| row["pid"] == *pid);
    let theirs: Vec<_> = rows.iter().filter(of_client).collect();
    ensure!(theirs.is_empty(), "listeners of clients: {theirs:?}");
    before.finish()?;
    after.finish()?;
    waiting::until(world.patience(), "the end of the listeners", || {
        let rows = last_rows(&flow.output()?).unwrap_or_default();
        Ok(served(&rows, &expected).is_empty().then_some(()))
    })?;
    flow.stop(Signal::SIGINT)?.expect_code(130)
}

/// What a socket of datagrams served.
#[derive(Debug, Default, PartialEq, Eq)]
struct Served {
    pid: u64,
    flows: u64,
    rx_bytes: u64,
    tx_bytes: u64,
}

/// The rows of the last whole table of `flow top --json`.
fn last_rows(output: &[u8]) -> Option<Vec<Value>> {
    let end = output.iter().rposition(|byte| *byte == b'\n')?;
    let last = output[..end].rsplit(|byte| *byte == b'\n').next()?;
    let table: Value = serde_json::from_slice(last).ok()?;
    table["rows"].as_array().cloned()
}

/// The rows of datagram sockets at the expected addresses.
fn served(rows: &[Value], expected: &BTreeMap<String, Served>) -> BTreeMap<String, Served> {
    let number = |row: &Value, column: &str| row[column].as_u64().unwrap_or_default();
    let rows = rows.iter().filter(|row| row["protocol"] == "udp");
    let of_row = |row: &Value| {
        let served = Served {
            pid: number(row, "pid"),
            flows: number(row, "flows"),
            rx_bytes: number(row, "rx_bytes"),
            tx_bytes: number(row, "tx_bytes"),
        };
        Some((row["local"].as_str()?.to_owned(), served))
    };
    rows.filter_map(of_row)
        .filter(|(local, _)| expected.contains_key(local))
        .collect()
}

/// One connection of a few bytes, from beginning to end.
fn connect(world: &World, address: SocketAddr) -> Result<()> {
    let arguments = ["--peer", &address.to_string(), "--bytes", "1000"].map(str::to_owned);
    let name = format!("near.{}", address.port());
    Generator::start(world, &name, "tcp-up", &arguments, None)?.join()?;
    Ok(())
}

/// The last record, by id, of each TCP socket with this address and no remote.
fn last_records(stream: &[u8], address: SocketAddr) -> Result<BTreeMap<String, Value>> {
    let of_it = |record: &Value| {
        let flow = &record["flow"];
        let is_there = flow["local"]["port"] == address.port() && flow["remote"].is_null();
        let id = flow["id"].as_str()?;
        (is_there && flow["protocol"] == "tcp").then(|| id.to_owned())
    };
    let records = records(stream)?.into_iter();
    Ok(records
        .filter_map(|record| Some((of_it(&record)?, record)))
        .collect())
}
