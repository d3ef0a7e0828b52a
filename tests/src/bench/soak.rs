//! Memory over many minutes: how far it grows under connections and processes that come and go, and
//! what is left of that once they have ended.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    Bench, Output, Process, Section, Verdict,
    figures::{Table, mebibytes, number},
    load::Done,
    process::Usage,
};

/// New connections and new processes each second.
const CONNECTIONS: &str = "810";
const PROCESSES: &str = "16";
/// Connections that are open at a time.
const HELD: &str = "200";

/// Two that run side by side, as both see the same.
const COMMANDS: [(&str, &[&str], Output); 2] = [
    ("the screen", &[], Output::Terminal),
    ("flow events", &["events", "--json"], Output::Counted),
];

/// Growth after the load's first [`SETTLED`], and what may be left at the end of what it took, in
/// MiB.
const GROWTH: f64 = 8.0;
const LEFT: f64 = 16.0;
/// The history of a minute is full by then.
const SETTLED: usize = 2;

/// Length of a run.
struct Plan {
    step: Duration,
    /// Steps under load, and without.
    load: usize,
    quiet: usize,
}

const fn plan(quick: bool) -> Plan {
    if quick {
        Plan {
            step: Duration::from_secs(30),
            load: 3,
            quiet: 4,
        }
    } else {
        Plan {
            step: Duration::from_secs(60),
            load: 20,
            quiet: 5,
        }
    }
}

/// How long the part takes at most.
pub const fn time(quick: bool) -> Duration {
    let Plan { step, load, quiet } = plan(quick);
    let steps = (load + quiet + 2) as u64;
    Duration::from_secs(step.as_secs() * steps)
}

pub fn measure(bench: &Bench) -> Result<Section> {
    let Plan { step, load, quiet } = plan(bench.options.quick);
    let mut flows = Vec::new();
    for (_, arguments, output) in COMMANDS {
        let mut flow = bench.flow(arguments, output)?;
        flow.first_output(bench)?;
        flows.push(flow);
    }
    let mut table = Table::new(&[
        "seconds",
        "the screen: RSS",
        "CPU of a core",
        "flow events: RSS",
        "CPU of a core",
    ]);
    // By command, before the load and at the end of each step.
    let mut sizes: [Vec<f64>; COMMANDS.len()] = Default::default();
    let mut before = readings(&flows)?;
    let mut take = |label: String, time: Duration| -> Result<()> {
        let now = readings(&flows)?;
        let mut cells = vec![label];
        for ((sizes, before), now) in sizes.iter_mut().zip(&before).zip(&now) {
            sizes.push(now.resident as f64 / f64::from(1 << 20));
            let share = (now.cpu - before.cpu).as_secs_f64() / time.as_secs_f64();
            cells.push(mebibytes(now.resident));
            cells.push(match time.is_zero() {
                true => "-".to_owned(),
                false => format!("{} %", number(100.0 * share)),
            });
        }
        eprintln!("    {}", cells.join("  "));
        table.row(cells);
        before = now;
        Ok(())
    };
    take("before".to_owned(), Duration::ZERO)?;
    let arguments = [
        "hold",
        "--ip",
        "127.78.0.1",
        "--connections",
        HELD,
        "--rate",
        CONNECTIONS,
        "--visitors",
        PROCESSES,
    ];
    let mut holder = bench.load(&arguments, None)?;
    holder.first_output(bench)?;
    for number in 1..=load {
        let took = pause(bench, step)?;
        take(format!("{} of load", seconds(step, number)), took)?;
    }
    let done: Done = holder.finish(bench)?;
    for number in 1..=quiet {
        let took = pause(bench, step)?;
        take(format!("{} after it", seconds(step, number)), took)?;
    }
    for flow in flows {
        flow.interrupt()?;
    }
    let mut section = Section::default();
    section.tables.push(table);
    for ((name, ..), sizes) in COMMANDS.iter().zip(&sizes) {
        let [first, .., last] = &sizes[..] else {
            continue;
        };
        let grown = sizes[load] - sizes[SETTLED.min(load)];
        let growth = Verdict::at_most(
            &format!("growth under a steady load, {name}"),
            grown.max(0.0),
            GROWTH,
            "MiB",
        );
        let left = Verdict::at_most(
            &format!(
                "left of it, {} s after the load, {name}",
                seconds(step, quiet)
            ),
            (last - first).max(0.0),
            LEFT,
            "MiB",
        );
        section.verdicts.extend([growth, left]);
    }
    section.notes.push(format!(
        "{} connections a second, each with both ends on this machine, and {PROCESSES} processes a second that each make one; \
         {HELD} connections are open at a time. The screen lists closed flows for a minute, 65,536 at most, as is the default.",
        number(done.opened as f64 / done.seconds)
    ));
    Ok(section)
}

fn readings(flows: &[Process]) -> Result<Vec<Usage>> {
    flows.iter().map(Process::usage).collect()
}

/// Returns how long it took.
fn pause(bench: &Bench, time: Duration) -> Result<Duration> {
    let started = Instant::now();
    bench.pause(time)?;
    Ok(started.elapsed())
}

fn seconds(step: Duration, number: usize) -> u64 {
    step.as_secs() * number as u64
}
