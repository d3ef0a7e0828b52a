//! CPU time and memory of the flow process, idle and with many flows.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Result;

use super::{
    Bench, Output, Process, Section, Verdict,
    figures::{Table, mebibytes, number},
    load::{self, Done},
    process::Usage,
};
use crate::bpf;

/// A table as an operator leaves it running, and a stream as a script reads it.
const TOP: &[&str] = &["top", "-n", "20"];
const EVENTS: &[&str] = &["events", "--json"];
/// With larger maps than the default, for more flows.
const WIDE_TOP: &[&str] = &["top", "-n", "20", "--max-sockets", "131072"];

/// Time from the start of the load or Flow until both run steadily.
const SETTLING: Duration = Duration::from_secs(3);

/// Connections with both ends on this machine, so two flows each.
#[derive(Clone, Copy)]
pub(super) struct Crowd {
    pub flows: usize,
    /// New flows each second; the oldest one ends for each.
    pub rate: usize,
    /// Every flow moves bytes each second.
    pub talk: bool,
}

/// Flow with a load.
struct Situation {
    title: &'static str,
    command: &'static [&'static str],
    crowd: Crowd,
    when: When,
    budget: Budget,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    Full,
    Quick,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Budget {
    None,
    Idle,
    /// CPU and memory at 10,000 flows.
    Live,
    /// Memory for each further flow.
    Further,
}

const fn situation(
    title: &'static str,
    command: &'static [&'static str],
    (flows, rate, talk): (usize, usize, bool),
    when: When,
    budget: Budget,
) -> Situation {
    Situation {
        title,
        command,
        crowd: Crowd { flows, rate, talk },
        when,
        budget,
    }
}

#[rustfmt::skip]
const SITUATIONS: [Situation; 8] = [
    situation("flow top, idle",                                         TOP,      (0, 0, false),             When::Always, Budget::Idle),
    situation("flow events, idle",                                      EVENTS,   (0, 0, false),             When::Full,   Budget::Idle),
    situation("flow top, 10,000 flows, 1,000 new/s",                    TOP,      (10_000, 1_000, false),    When::Always, Budget::Live),
    situation("flow events, 10,000 flows, 1,000 new/s",                 EVENTS,   (10_000, 1_000, false),    When::Always, Budget::Live),
    situation("flow top, the same, each talks every second",            TOP,      (10_000, 1_000, true),     When::Full,   Budget::None),
    situation("flow top, 20,000 flows, 2,000 new/s",                    TOP,      (20_000, 2_000, false),    When::Full,   Budget::None),
    situation("flow top, 20,000 flows",                                 TOP,      (20_000, 0, false),        When::Quick,  Budget::Further),
    situation("flow top --max-sockets 131072, 100,000 flows",           WIDE_TOP, (100_000, 0, false),       When::Full,   Budget::Further),
];

/// The figures of a situation.
pub(super) struct Seen {
    /// Percent of one core.
    pub cpu: f64,
    /// Percent of that in the kernel.
    pub system: f64,
    pub usage: Usage,
    maps: u64,
    /// New flows each second, as created.
    pub rate: f64,
    /// Bytes of output each second.
    pub written: f64,
    /// Flows in the header of the last table; absent for `flow events`.
    shown: Option<u64>,
    /// Losses that Flow reported.
    lost: Option<String>,
}

pub fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section::default();
    let mut table = Table::new(&[
        "",
        "CPU of a core",
        "in the kernel",
        "RSS",
        "peak",
        "BPF maps",
        "flows shown",
        "new/s",
    ]);
    let mut base = None;
    for situation in &SITUATIONS {
        let wanted = match situation.when {
            When::Always => true,
            When::Full => !bench.options.quick,
            When::Quick => bench.options.quick,
        };
        if !wanted {
            continue;
        }
        eprintln!("    {}", situation.title);
        let seen = observe(bench, situation.command, Output::File, situation.crowd)?;
        table.row(vec![
            situation.title.to_owned(),
            format!("{} %", number(seen.cpu)),
            format!("{:.0} %", seen.system),
            mebibytes(seen.usage.resident),
            mebibytes(seen.usage.peak),
            mebibytes(seen.maps),
            seen.shown
                .map_or_else(|| "-".to_owned(), |shown| shown.to_string()),
            number(seen.rate),
        ]);
        if let Some(lost) = &seen.lost {
            section.notes.push(format!("{}: {lost}", situation.title));
        }
        judge(situation, &seen, &mut base, &mut section.verdicts);
    }
    section.tables.push(table);
    section.notes.push(format!(
        "Over {:.0} s after everything had settled. Flow runs before the flows are made; connections are to this machine \
         itself, so each is two flows, and both are counted. Peak is since the start. BPF maps are kernel memory, beside \
         the RSS. When idle, whatever else the machine does is there too.",
        window(bench).as_secs_f64()
    ));
    Ok(section)
}

pub(super) fn window(bench: &Bench) -> Duration {
    bench.seconds(20.0, 6.0)
}

pub(super) fn observe(
    bench: &Bench,
    command: &[&str],
    output: Output,
    crowd: Crowd,
) -> Result<Seen> {
    let mut flow = bench.flow(command, output)?;
    flow.first_output(bench)?;
    let holders = hold(bench, crowd)?;
    bench.pause(SETTLING)?;
    let (before, written) = (flow.usage()?, flow.written()?);
    let started = std::time::Instant::now();
    bench.pause(window(bench))?;
    let (after, took) = (flow.usage()?, started.elapsed());
    let written = flow.written()? - written;
    let maps = bpf::map_bytes_of(flow.pid())?;
    let mut opened = 0.0;
    for holder in holders {
        let done: Done = holder.finish(bench)?;
        opened += 2.0 * done.opened as f64 / done.seconds;
    }
    // The figures shown are those of the last table before the flows ended.
    let (_, text) = flow.interrupt()?;
    let ticks = |usage: &Usage| (usage.user_ticks + usage.system_ticks) as f64;
    let system = (after.system_ticks - before.system_ticks) as f64;
    Ok(Seen {
        cpu: 100.0 * (after.cpu - before.cpu).as_secs_f64() / took.as_secs_f64(),
        system: 100.0 * system / (ticks(&after) - ticks(&before)).max(1.0),
        usage: after,
        maps,
        rate: opened,
        written: written as f64 / took.as_secs_f64(),
        shown: most_shown(&text),
        lost: loss(&text),
    })
}

/// Opens the flows, in as many processes as limits of descriptors require.
fn hold(bench: &Bench, crowd: Crowd) -> Result<Vec<Process>> {
    let connections = crowd.flows / 2;
    let processes = connections.div_ceil(load::most_held());
    let mut holders = Vec::new();
    for number in 0..processes {
        let ip = Ipv4Addr::new(127, 77, u8::try_from(number)?, 1).to_string();
        let share = |all: usize| (all / processes).to_string();
        let (connections, rate) = (share(connections), share(crowd.rate / 2));
        let mut arguments = vec!["hold", "--ip", &ip, "--connections", &connections];
        arguments.extend(["--rate", &rate]);
        arguments.extend(crowd.talk.then_some("--talk"));
        let mut holder = bench.load(&arguments, None)?;
        holder.first_output(bench)?;
        holders.push(holder);
    }
    Ok(holders)
}

/// `base`: memory of `flow top` at 10,000 flows.
fn judge(
    situation: &Situation,
    seen: &Seen,
    base: &mut Option<(usize, u64)>,
    verdicts: &mut Vec<Verdict>,
) {
    let title = situation.title;
    match situation.budget {
        Budget::None => {}
        Budget::Idle => {
            verdicts.push(Verdict::at_most(
                &format!("CPU, {title}"),
                seen.cpu,
                0.2,
                "%",
            ));
        }
        Budget::Live => {
            verdicts.push(Verdict::at_most(
                &format!("CPU, {title}"),
                seen.cpu,
                3.0,
                "%",
            ));
            let resident = seen.usage.resident as f64 / f64::from(1 << 20);
            verdicts.push(Verdict::at_most(
                &format!("RSS, {title}"),
                resident,
                40.0,
                "MiB",
            ));
            base.get_or_insert((situation.crowd.flows, seen.usage.resident));
        }
        Budget::Further => {
            if let Some((flows, resident)) = *base {
                let more = seen.usage.resident.saturating_sub(resident) as f64 / 1024.0;
                let each = more / (situation.crowd.flows - flows) as f64;
                verdicts.push(Verdict::at_most(
                    "RSS for each further flow",
                    each,
                    1.0,
                    "KiB",
                ));
            }
        }
    }
}

/// The most flows in a table's header.
fn most_shown(text: &str) -> Option<u64> {
    text.lines()
        .filter(|line| line.starts_with("flow  "))
        .filter_map(|line| {
            let (before, _) = line.split_once(" flows")?;
            before.rsplit(' ').next()?.parse().ok()
        })
        .max()
}

/// The last reported losses, from tables or events.
fn loss(text: &str) -> Option<String> {
    text.lines()
        .rfind(|line| line.starts_with("lost") || line.contains(r#""type":"lost""#))
        .map(|line| format!("`{}`", line.replace('`', "'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_table_has_its_flows() {
        let text = "flow  vm · kernel 6.18 · tracepoint   ▲ 1.3 GB/s  7 processes  12 flows   1 s\n  PID  PROCESS\n";
        assert_eq!(most_shown(text), Some(12));
        assert_eq!(most_shown("{}\n"), None);
    }
}
