//! What tools cost under traffic of a fixed pace: their own CPU, their BPF programs, and what
//! sender, receiver and the whole machine took more than in turns without a tool.

use std::{
    fs,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    Bench, Process, Section, Verdict,
    figures::{Table, median, si},
    sink::{self, Sink},
    tool::{Kind, SETTLING, Tool},
};
use crate::{
    bpf::{self, Statistics},
    live::peer::Peer,
};

/// Traffic of a fixed pace.
struct Pace {
    title: &'static str,
    load: &'static [&'static str],
    /// Bytes a second.
    rate: f64,
}

const BULK: usize = 0;
const CALLS: usize = 1;
const PACES: [Pace; 2] = [
    Pace {
        title: "1 GB/s in calls of 128 KiB",
        load: &["tcp", "--rate", "7629"],
        rate: 7_629.0 * 131_072.0,
    },
    Pace {
        title: "100,000 calls of 64 B a second",
        load: &["tcp", "--size", "64", "--rate", "100000"],
        rate: 6_400_000.0,
    },
];

/// Of one turn; in cores.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Bytes a second, as the sender's calls took them.
    carried: f64,
    own: f64,
    /// Sender and receiver, at the full pace.
    load: f64,
    /// System, hardware and soft interrupts of the machine.
    kernel: f64,
}

/// What a tool cost, by pace.
struct Costs<'a> {
    tool: Option<&'a Tool<'a>>,
    turns: [Vec<Cost>; PACES.len()],
    /// Run time of its BPF programs at the full pace, in cores; absent without any that ran.
    bpf: [Option<f64>; PACES.len()],
    failure: Option<String>,
}

/// Sums over the medians of a tool, in cores.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    own: f64,
    bpf: f64,
    load: f64,
    kernel: f64,
}

impl Sums {
    /// What a tool cost in all: no less than what was measured of the tool itself.
    fn total(self) -> f64 {
        self.own + self.load.max(self.bpf)
    }
}

/// Adds what the tools cost to the section.
pub fn measure(
    bench: &Bench,
    peer: &Peer,
    tools: &[Tool<'_>],
    section: &mut Section,
) -> Result<()> {
    let rounds = bench.count(3, 1);
    let time = bench.seconds(3.0, 2.0);
    let present = tools.iter().filter(|tool| tool.program.is_some());
    let mut costs: Vec<_> = [None]
        .into_iter()
        .chain(present.map(Some))
        .map(|tool| Costs {
            tool,
            turns: Default::default(),
            bpf: Default::default(),
            failure: None,
        })
        .collect();
    // The statistics take time of each run of a program, so this round tells nothing else.
    {
        let _statistics = Statistics::enable()?;
        for costs in costs.iter_mut().filter(|costs| costs.tool.is_some()) {
            turn(bench, peer, costs, time, true)?;
        }
    }
    for round in 0..rounds {
        let mut order: Vec<_> = costs.iter_mut().collect();
        if round % 2 != 0 {
            order.reverse();
        }
        for costs in order {
            turn(bench, peer, costs, time, false)?;
        }
    }
    for (place, pace) in PACES.iter().enumerate() {
        section.tables.push(table(place, pace, &costs));
    }
    let (verdicts, missing) = verdicts(&costs);
    section.verdicts.extend(verdicts);
    section.notes.push(format!(
        "Each tool alone, turns of {:.1} s at each pace, {rounds} in all, in turn with turns without a tool; medians, in percent of a core. \
         BPF is the run time of the tool's programs, from one more turn with the kernel's statistics, which time themselves too. \
         Sender and receiver, at the full pace, and the machine's system and softirq time are what is more than without a tool in the \
         same round; in the row `no tool` all of it. The total is own CPU and the more of BPF and of sender and receiver, \
         whose time has the programs' in it and a capture's part in the kernel. The kernel samples system and softirq by its ticks, and \
         the tool's own system calls are in them, as is whatever else ran.",
        time.as_secs_f64()
    ));
    section.notes.extend(missing);
    Ok(())
}

/// One turn of a tool, unless it has failed before.
fn turn(
    bench: &Bench,
    peer: &Peer,
    costs: &mut Costs<'_>,
    time: Duration,
    statistics: bool,
) -> Result<()> {
    if costs.failure.is_some() {
        return Ok(());
    }
    eprintln!("    {} at its pace", costs.name());
    let outcome = costs.turn(bench, peer, time, statistics);
    // What ends the benchmark is no failure of the tool.
    bench.check()?;
    if let Err(error) = outcome {
        costs.failure = Some(format!("failed: {error:#}"));
    }
    Ok(())
}

impl Costs<'_> {
    fn name(&self) -> &'static str {
        self.tool.map_or("no tool", |tool| tool.name)
    }

    fn turn(&mut self, bench: &Bench, peer: &Peer, time: Duration, statistics: bool) -> Result<()> {
        let tool = self.tool.map(|tool| tool.start(bench)).transpose()?;
        bench.pause(SETTLING)?;
        let programs = match &tool {
            Some(tool) if statistics => bpf::programs_of(tool.pid())?,
            _ => Vec::new(),
        };
        for (place, pace) in PACES.iter().enumerate() {
            let before = run_time(&programs)?;
            let cost = cost(bench, peer, pace, tool.as_ref(), time)?;
            if statistics {
                let ran = run_time(&programs)? - before;
                // At the full pace.
                let cores = ran.as_secs_f64() / time.as_secs_f64() * pace.rate / cost.carried;
                self.bpf[place] = (!ran.is_zero()).then_some(cores);
            } else {
                self.turns[place].push(cost);
            }
        }
        if let Some(tool) = tool {
            tool.interrupt()?;
        }
        Ok(())
    }

    /// What it cost at a pace; what is not its own is what is more than without a tool.
    fn sums(&self, place: usize, without: &[Cost]) -> Sums {
        let turns = &self.turns[place];
        let own: Vec<_> = turns.iter().map(|cost| cost.own).collect();
        let more = |of: fn(&Cost) -> f64| {
            let pairs = turns.iter().zip(without);
            let more = pairs.map(|(with, without)| of(with) - of(without));
            median(&more.collect::<Vec<_>>())
        };
        Sums {
            own: median(&own),
            bpf: self.bpf[place].unwrap_or(0.0),
            load: more(|cost| cost.load),
            kernel: more(|cost| cost.kernel),
        }
    }

    fn carried(&self, place: usize) -> f64 {
        let carried: Vec<_> = self.turns[place].iter().map(|cost| cost.carried).collect();
        median(&carried)
    }

    fn is(&self, kind: Kind) -> bool {
        self.tool.is_some_and(|tool| tool.kind == kind)
    }
}

fn cost(
    bench: &Bench,
    peer: &Peer,
    pace: &Pace,
    tool: Option<&Process>,
    time: Duration,
) -> Result<Cost> {
    let [core, far_core] = sink::cores()?;
    let sink = Sink::start(bench, peer, &["--core", &far_core], &["--connect"])?;
    let load = [&["--core", &*core], pace.load].concat();
    let own = || match tool {
        Some(tool) => Ok(tool.usage().context("it ended early")?.cpu),
        None => anyhow::Ok(Duration::ZERO),
    };
    let (own_before, before, started) = (own()?, kernel_seconds()?, Instant::now());
    let (sent, received) = sink.send(bench, &load, time)?;
    let seconds = started.elapsed().as_secs_f64();
    let for_a_byte = (sent.cpu_seconds + received.cpu_seconds) / sent.bytes as f64;
    Ok(Cost {
        carried: sent.bytes as f64 / sent.seconds,
        own: (own()? - own_before).as_secs_f64() / seconds,
        load: for_a_byte * pace.rate,
        kernel: (kernel_seconds()? - before) / seconds,
    })
}

fn run_time(programs: &[OwnedFd]) -> Result<Duration> {
    let times = programs.iter().map(|fd| Ok(bpf::info(fd)?.time_ns));
    let sum = times.sum::<Result<u64>>()?;
    Ok(Duration::from_nanos(sum))
}

/// Time that all processors spent in the kernel.
fn kernel_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    kernel_ticks(&text)
        .map(|ticks| ticks as f64 / TICKS_A_SECOND)
        .context("/proc/stat has no line of all processors")
}

/// `USER_HZ`.
const TICKS_A_SECOND: f64 = 100.0;

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq.
fn kernel_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
    let [_, _, system, _, _, irq, softirq, ..] = ticks[..] else {
        return None;
    };
    Some(system + irq + softirq)
}

fn table(place: usize, pace: &Pace, costs: &[Costs<'_>]) -> Table {
    let mut table = Table::new(&[
        pace.title,
        "carried",
        "own CPU",
        "BPF",
        "sender and receiver",
        "system and softirq",
        "total",
    ]);
    let percent = |cores: f64| format!("{:.1} %", 100.0 * cores);
    let without = without(place, costs);
    for costs in costs {
        let mut row = vec![costs.name().to_owned()];
        let carried = format!("{}B/s", si(costs.carried(place)));
        let sums = costs.sums(place, &without);
        match (&costs.failure, costs.tool) {
            (Some(failure), _) => row.push(failure.clone()),
            (None, None) => {
                let all = |of: fn(&Cost) -> f64| {
                    percent(median(&without.iter().map(of).collect::<Vec<_>>()))
                };
                let none = || "-".to_owned();
                let [load, kernel] = [all(|cost| cost.load), all(|cost| cost.kernel)];
                row.extend([carried, none(), none(), load, kernel]);
            }
            (None, Some(_)) => {
                let bpf = costs.bpf[place].map_or_else(|| "-".to_owned(), percent);
                let Sums {
                    own, load, kernel, ..
                } = sums;
                row.extend([carried, percent(own), bpf, percent(load), percent(kernel)]);
                row.push(percent(sums.total()));
            }
        }
        row.resize(7, "-".to_owned());
        table.row(row);
    }
    table
}

/// The turns without a tool.
fn without(place: usize, costs: &[Costs<'_>]) -> Vec<Cost> {
    let none = costs.iter().find(|costs| costs.tool.is_none());
    none.map_or_else(Vec::new, |costs| costs.turns[place].clone())
}

/// Flow's total beside the least of others; and what could not be compared.
fn verdicts(costs: &[Costs<'_>]) -> (Vec<Verdict>, Vec<String>) {
    let least = |place, wanted: fn(&Costs<'_>, usize) -> bool| {
        let without = without(place, costs);
        let ran = costs.iter().filter(|costs| costs.failure.is_none());
        ran.filter(|costs| wanted(costs, place))
            .map(|costs| (costs.name(), costs.sums(place, &without).total()))
            .min_by(|(_, one), (_, other)| one.total_cmp(other))
    };
    let captures: fn(&Costs<'_>, usize) -> bool = |costs, _| costs.is(Kind::Capture);
    let has_bpf: fn(&Costs<'_>, usize) -> bool =
        |costs, place| !costs.is(Kind::Flow) && costs.bpf[place].is_some();
    let (mut verdicts, mut missing) = (Vec::new(), Vec::new());
    for (place, wanted, kind, budget) in [
        (BULK, captures, "captures by process", 0.1),
        (CALLS, has_bpf, "tools with BPF programs", 1.0),
    ] {
        let pace = PACES[place].title;
        let flow = least(place, |costs, _| costs.is(Kind::Flow));
        match (flow, least(place, wanted)) {
            (Some((_, flow)), Some((best, other))) if other > 0.0 => {
                let what = format!("total CPU, {pace}, Flow / {best}, the least of the {kind}");
                verdicts.push(Verdict::at_most(&what, flow / other, budget, "times"));
            }
            _ => missing.push(format!(
                "Not compared at {pace}: none of the {kind} ran here beside Flow."
            )),
        }
    }
    (verdicts, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_works_for_calls_and_interrupts() {
        let stat = "cpu  10 0 20 1000 7 3 5 0 0 0\ncpu0 1 1\n";
        assert_eq!(kernel_ticks(stat), Some(28));
        assert_eq!(kernel_ticks("intr 1 2 3"), None);
    }

    #[test]
    fn a_total_is_no_less_than_its_parts() {
        let sums = |load| Sums {
            own: 2.0,
            bpf: 1.0,
            load,
            kernel: 0.0,
        };
        assert_eq!(sums(4.0).total(), 6.0);
        assert_eq!(sums(-1.0).total(), 3.0);
    }
}
