//! Flow, nethogs and bandwhich, one after the other with the same traffic: a bulk sender and many
//! short processes.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    Bench, Output, Process, Section,
    figures::{Table, mebibytes, number},
    moved::{Reported, Who, bytes_of, ends_of_processes, moved_by},
    sink::{any_port, listening},
};
use crate::{live::peer::Peer, truth::Truth};

const BULK_BYTES: &str = "2000000000";
const SHORT_PROCESSES: &str = "500";
const SHORT_BYTES: &str = "20000";
/// A tool that samples once a second has sampled before and after the traffic.
const SETTLING: Duration = Duration::from_millis(2500);

struct Tool<'a> {
    name: &'static str,
    program: Option<&'a Path>,
    arguments: Vec<&'a str>,
    read: fn(&str) -> Reported,
}

pub fn measure(bench: &Bench) -> Result<Section> {
    let peer = bench.peer()?;
    let link = peer.link.as_str();
    let options = &bench.options;
    let tools = [
        Tool {
            name: "flow events",
            program: Some(&options.flow),
            arguments: vec!["events", "--json", "--backend", options.backend.name()],
            read: ends_of_processes,
        },
        Tool {
            name: "nethogs",
            program: options.nethogs.as_deref(),
            arguments: vec!["-t", "-v", "2", "-d", "1", link],
            read: read_nethogs,
        },
        Tool {
            name: "bandwhich",
            program: options.bandwhich.as_deref(),
            arguments: vec!["--raw", "--no-resolve", "--processes", "--interface", link],
            read: read_bandwhich,
        },
    ];
    let mut table = Table::new(&[
        "",
        "bulk bytes",
        "short processes named",
        "their bytes",
        "CPU",
        "peak RSS",
    ]);
    for tool in &tools {
        eprintln!("    {}", tool.name);
        let cells = match tool.program {
            None => vec!["could not be installed here".to_owned()],
            Some(program) => run(bench, &peer, tool, program)
                .unwrap_or_else(|error| vec![format!("failed: {error:#}")]),
        };
        bench.check()?;
        let mut row = vec![tool.name.to_owned()];
        row.extend(cells);
        row.resize(6, "-".to_owned());
        table.row(row);
    }
    Ok(Section {
        tables: vec![table],
        notes: vec![format!(
            "Each tool alone, on the same traffic over a veth pair: one process sends {BULK_BYTES} bytes by TCP, then \
             {SHORT_PROCESSES} processes with a name each send and receive {SHORT_BYTES} bytes. Percentages are of what the \
             processes' calls returned; tools that count packets count headers too, and may come out above 100. A process is \
             named if the tool reported bytes for its pid or, if it reports no pids, for its name. CPU is user and system time \
             of the tool from its start to the end of the traffic."
        )],
        verdicts: Vec::new(),
    })
}

fn run(bench: &Bench, peer: &Peer, tool: &Tool<'_>, program: &Path) -> Result<Vec<String>> {
    let listen = any_port(peer.far4);
    let arguments = ["generate", "serve", "--listen", &listen];
    let generate = |arguments: &[&str], peer| {
        let program = &bench.generator;
        Process::start(bench, "generate", program, arguments, peer, Output::Lines)
    };
    let mut server = generate(&arguments, Some(peer))?;
    let address = listening(bench, &mut server)?.to_string();
    let watcher = Process::start(
        bench,
        tool.name.split(' ').next().unwrap_or(tool.name),
        program,
        &tool.arguments,
        None,
        Output::File,
    )?;
    bench.pause(SETTLING)?;

    let send = |mode, bytes, count| -> Result<Vec<Truth>> {
        let mut arguments = vec!["generate", mode, "--peer", &address];
        arguments.extend(["--bytes", bytes, "--count", count]);
        moved_by(generate(&arguments, None)?)
    };
    let bulk = send("tcp-up", BULK_BYTES, "1")?;
    let mut short = send("short-processes", SHORT_BYTES, SHORT_PROCESSES)?;
    // The process that starts the others moves nothing.
    short.retain(|truth| truth.moved.tx_bytes > 0);
    bench.pause(SETTLING)?;

    let usage = watcher.usage().context("it ended early")?;
    let (_, text) = watcher.interrupt()?;
    server.close()?;
    let reported = (tool.read)(&text);
    let bytes_by_tool = |truth: &Truth| {
        let by_pid = reported.get(&Who::Pid(truth.pid));
        by_pid.or_else(|| reported.get(&Who::Name(truth.comm.clone())))
    };
    let share = |truths: &[Truth]| {
        let moved: u64 = truths.iter().map(bytes_of).sum();
        let attributed: u64 = truths.iter().filter_map(bytes_by_tool).sum();
        format!("{:.2} %", 100.0 * attributed as f64 / moved.max(1) as f64)
    };
    let named = short
        .iter()
        .filter(|truth| bytes_by_tool(truth).is_some())
        .count();
    Ok(vec![
        share(&bulk),
        format!("{named} of {}", short.len()),
        share(&short),
        format!("{} s", number(usage.cpu.as_secs_f64())),
        mebibytes(usage.peak),
    ])
}

/// Lines `PROGRAM/PID/UID<tab>SENT<tab>RECEIVED`, totals; those of what it cannot name have pid 0.
fn read_nethogs(text: &str) -> Reported {
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
fn read_bandwhich(text: &str) -> Reported {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
