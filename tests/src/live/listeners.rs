//! Listeners remain listeners while connections come in.

use std::{collections::BTreeMap, net::SocketAddr, process::Command};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{World, flow::Flow, generator::Generator, outputs::loopback_server, stream::records};

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
