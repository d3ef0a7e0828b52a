//! What the full-screen view costs: a frame with many flows, and CPU time and memory with fewer.

use anyhow::Result;

use super::{
    Bench, Output, Section, Verdict,
    figures::{Table, mebibytes, number, si},
    footprint::{Crowd, observe, window},
    frames,
};

/// The view of flows has the most rows.
const PROCESSES: &[&str] = &[];
const FLOWS: &[&str] = &["--view", "flows"];

const STILL: Crowd = Crowd {
    flows: 10_000,
    rate: 0,
    talk: false,
};
const TURNING: Crowd = Crowd {
    rate: 1_000,
    ..STILL
};
const TALKING: Crowd = Crowd {
    talk: true,
    ..TURNING
};

/// Load and budget of each screen; the budget is for a screen without changes.
#[rustfmt::skip]
const SITUATIONS: [(&str, &[&str], Crowd, bool); 5] = [
    ("processes, 10,000 flows",                          PROCESSES, STILL,   true),
    ("flows, 10,000 flows",                              FLOWS,     STILL,   true),
    ("processes, 10,000 flows, 1,000 new/s",             PROCESSES, TURNING, false),
    ("flows, 10,000 flows, 1,000 new/s",                 FLOWS,     TURNING, false),
    ("flows, the same, each talks every second",         FLOWS,     TALKING, false),
];

pub fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section::default();
    frames::measure(bench, &mut section)?;
    let columns = [
        "`flow` on 120 x 40",
        "CPU of a core",
        "in the kernel",
        "RSS",
        "peak",
        "written",
        "new/s",
    ];
    let mut table = Table::new(&columns);
    for (title, command, crowd, budgeted) in SITUATIONS {
        eprintln!("    {title}");
        let seen = observe(bench, command, Output::Terminal, crowd)?;
        table.row(vec![
            title.to_owned(),
            format!("{} %", number(seen.cpu)),
            format!("{:.0} %", seen.system),
            mebibytes(seen.usage.resident),
            mebibytes(seen.usage.peak),
            format!("{}B/s", si(seen.written)),
            number(seen.rate),
        ]);
        if budgeted {
            let what = format!("CPU, the screen, {title}");
            section
                .verdicts
                .push(Verdict::at_most(&what, seen.cpu, 2.0, "%"));
        }
    }
    section.tables.push(table);
    section.notes.push(format!(
        "Over {:.0} s after everything had settled, refreshed each second, in a terminal that takes everything at once. \
         The flows are those of the part `footprint`. Written is what goes to the terminal.",
        window(bench).as_secs_f64()
    ));
    Ok(section)
}
