//! Flow and other tools, one after the other with the same traffic: a bulk sender and many short
//! processes, and then traffic of a fixed pace ([`paced`]).

use anyhow::{Context as _, Result};

use super::{
    Bench, Output, Process, Section,
    figures::{Table, mebibytes, number},
    moved::{Who, bytes_of, moved_by},
    paced,
    sink::{any_port, listening},
    tool::{SETTLING, Tool, tools},
};
use crate::{live::peer::Peer, truth::Truth};

const BULK_BYTES: &str = "2000000000";
const SHORT_PROCESSES: &str = "500";
const SHORT_BYTES: &str = "20000";
pub fn measure(bench: &Bench) -> Result<Section> {
    let peer = bench.peer()?;
    let tools = tools(bench, &peer.link);
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
            Some(_) => {
                run(bench, &peer, tool).unwrap_or_else(|error| vec![format!("failed: {error:#}")])
            }
        };
        bench.check()?;
        let mut row = vec![tool.name.to_owned()];
        row.extend(cells);
        row.resize(6, "-".to_owned());
        table.row(row);
    }
    let mut section = Section {
        tables: vec![table],
        notes: vec![format!(
            "In the first table one process sends {BULK_BYTES} bytes by TCP over a veth pair, then {SHORT_PROCESSES} processes \
             with a name each send and receive {SHORT_BYTES} bytes. Percentages are of what the processes' calls returned; tools \
             that count packets count headers too, and may come out above 100. A process is named if the tool reported bytes for \
             its pid or, if it reports no pids, for its name; iftop reports no processes. CPU is user and system time of the tool \
             from its start to the end of the traffic."
        )],
        verdicts: Vec::new(),
    };
    paced::measure(bench, &peer, &tools, &mut section)?;
    Ok(section)
}

fn run(bench: &Bench, peer: &Peer, tool: &Tool<'_>) -> Result<Vec<String>> {
    let listen = any_port(peer.far4);
    let arguments = ["generate", "serve", "--listen", &listen];
    let generate = |arguments: &[&str], peer| {
        let program = &bench.generator;
        Process::start(bench, "generate", program, arguments, peer, Output::Lines)
    };
    let mut server = generate(&arguments, Some(peer))?;
    let address = listening(bench, &mut server)?.to_string();
    let watcher = tool.start(bench)?;
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
    let used = [
        format!("{} s", number(usage.cpu.as_secs_f64())),
        mebibytes(usage.peak),
    ];
    let Some(read) = tool.read else {
        let none = [(); 3].map(|()| "-".to_owned());
        return Ok([&none[..], &used].concat());
    };
    let reported = read(&text);
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
    let attributed = [
        share(&bulk),
        format!("{named} of {}", short.len()),
        share(&short),
    ];
    Ok([&attributed[..], &used].concat())
}
