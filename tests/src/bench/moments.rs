//! Time from the start to the first row, and from SIGINT to the end.

use std::time::Duration;

use anyhow::Result;

use super::{
    Bench, Output, Section, Verdict,
    figures::{Table, median, number},
};

/// Milliseconds of each try.
#[derive(Default)]
struct Times {
    /// To the first line: Flow is attached.
    status: Vec<f64>,
    /// To the first row: the first flow of the stream, or the first row of the table.
    row: Vec<f64>,
    end: Vec<f64>,
}

struct Command {
    name: &'static str,
    arguments: &'static [&'static str],
    is_row: fn(&str) -> bool,
}

const COMMANDS: [Command; 2] = [
    Command {
        name: "flow events",
        arguments: &["events", "--json"],
        is_row: is_flow,
    },
    Command {
        name: "flow top",
        arguments: &["top", "--by", "flow", "-n", "20"],
        is_row: names_a_protocol,
    },
];

pub fn measure(bench: &Bench) -> Result<Section> {
    let tries = bench.count(9, 3);
    let mut section = Section::default();
    let mut table = Table::new(&[
        "milliseconds, median (most)",
        "first line",
        "first row",
        "end",
    ]);
    for flows in [10, 10_000] {
        let connections = (flows / 2).to_string();
        let mut holder = bench.load(&["hold", "--connections", &connections], None)?;
        holder.first_output(bench)?;
        for Command {
            name,
            arguments,
            is_row,
        } in COMMANDS
        {
            eprintln!("    {name}, {flows} flows");
            let mut times = Times::default();
            for _ in 0..tries {
                once(bench, arguments, is_row, &mut times)?;
            }
            table.row(vec![
                format!("{name}, {flows} flows"),
                median_and_max(&times.status),
                median_and_max(&times.row),
                median_and_max(&times.end),
            ]);
            let mut verdict = |what: &str, figures: &[f64], budget| {
                let what = format!("{what}, {name}, {flows} flows");
                let figure = median(figures);
                section
                    .verdicts
                    .push(Verdict::at_most(&what, figure, budget, "ms"));
            };
            verdict("start to first row", &times.row, 300.0);
            verdict("SIGINT to the end", &times.end, 100.0);
        }
        holder.close()?;
    }
    section.tables.push(table);
    section.notes.push(format!(
        "{tries} tries each. A first row is the first line about a flow in `flow events`, and the first row of the first \
         table in `flow top`. The flows were there before Flow. The program had been read from disk before."
    ));
    Ok(section)
}

fn once(
    bench: &Bench,
    arguments: &[&str],
    is_row: fn(&str) -> bool,
    times: &mut Times,
) -> Result<()> {
    let mut flow = bench.flow(arguments, Output::Lines)?;
    let (first, mut line) = flow.line(bench)?;
    let mut when = first;
    while !is_row(&line) {
        (when, line) = flow.line(bench)?;
    }
    // A stop right after the start takes longer than usual.
    bench.pause(Duration::from_millis(500))?;
    let (end, _) = flow.interrupt()?;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    times.status.push(milliseconds(first));
    times.row.push(milliseconds(when));
    times.end.push(milliseconds(end));
    Ok(())
}

fn is_flow(line: &str) -> bool {
    line.contains(r#""type":"flow."#)
}

/// Whether a line is a row: only those name a protocol.
fn names_a_protocol(line: &str) -> bool {
    line.split_whitespace()
        .any(|word| word == "tcp" || word == "udp")
}

fn median_and_max(values: &[f64]) -> String {
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{} ({})", number(median(values)), number(most))
}
