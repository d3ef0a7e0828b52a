//! The table of results in docs/kernels.md. Each run of the whole matrix is compared with it, or
//! writes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{rows::Row, tools::root};

const PAGE: &str = "docs/kernels.md";
const BEGIN: &str = "<!-- results: written by `cargo xtask test --write-docs` -->\n";
const END: &str = "<!-- end of results -->\n";
const KERNEL: &str = "kernel";
const TESTS: &str = "live tests passed";
/// Prefix of the rows that show which kinds of link were tested.
const LINK: &str = "link ";
/// By how many percent a program's instruction count may differ: compilers generate different code.
const TOLERANCE: u64 = 10;

/// The table: by cell, then by row.
type Table = BTreeMap<String, BTreeMap<String, String>>;

/// Writes the cells' results into the page, or compares them with it.
///
/// # Errors
/// When a cell failed and there is nothing to record, or the page differs.
pub fn record(cells: &[Row], write: bool) -> Result<()> {
    let failed = cells.iter().find(|cell| cell.failed > 0);
    if let Some(cell) = failed {
        bail!("{} failed, so there is nothing to record", cell.name);
    }
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let (before, recorded, after) = split(&page)?;
    if write {
        let text = format!("{before}{}{after}", render(cells));
        return fs::write(&path, text).with_context(|| format!("cannot write {PAGE}"));
    }
    let differences = compare(&parse(recorded)?, &found(cells));
    for note in &differences.notes {
        println!("{note}");
    }
    ensure!(
        differences.faults.is_empty(),
        "{PAGE} is out of date:\n{}\nrenew it with: cargo xtask test --write-docs",
        differences.faults.join("\n")
    );
    Ok(())
}

/// Splits the page into what is before the table, the table, and what is after it.
fn split(page: &str) -> Result<(&str, &str, &str)> {
    let places = page.find(BEGIN).zip(page.find(END));
    let Some((begin, end)) = places.filter(|(begin, end)| begin < end) else {
        bail!("{PAGE} lacks the marks of the table of results");
    };
    let begin = begin + BEGIN.len();
    Ok((&page[..begin], &page[begin..end], &page[end..]))
}

fn found(cells: &[Row]) -> Table {
    let cells = cells.iter().map(|cell| {
        let mut column = BTreeMap::from([
            (KERNEL.to_owned(), cell.kernel_facts.kernel.clone()),
            (TESTS.to_owned(), cell.passed.to_string()),
        ]);
        for (program, counts) in &cell.kernel_facts.programs {
            let counts: Vec<_> = counts.iter().map(u64::to_string).collect();
            column.insert(format!("`{program}`"), counts.join(", "));
        }
        for (kind, state) in &cell.kernel_facts.links {
            column.insert(format!("{LINK}{kind}"), state.clone());
        }
        (cell.name.clone(), column)
    });
    cells.collect()
}

fn render(cells: &[Row]) -> String {
    let table = found(cells);
    let rows: BTreeSet<_> = table.values().flat_map(BTreeMap::keys).collect();
    let named = |start: &str| -> Vec<&str> {
        let rows = rows.iter().map(|row| row.as_str());
        rows.filter(|row| row.starts_with(start)).collect()
    };
    let names: Vec<_> = cells.iter().map(|cell| cell.name.as_str()).collect();
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let mut text = line([""].into_iter().chain(names.iter().copied()).collect());
    text.push_str(&format!("|---{}|\n", "|---".repeat(names.len())));
    for row in [KERNEL, TESTS]
        .into_iter()
        .chain(named(LINK))
        .chain(named("`"))
    {
        let values = names
            .iter()
            .map(|name| table[*name].get(row).map_or("", String::as_str));
        text.push_str(&line([row].into_iter().chain(values).collect()));
    }
    text
}

fn parse(text: &str) -> Result<Table> {
    let mut rows = text.lines().map(|line| {
        let cells = line.trim().trim_start_matches('|').trim_end_matches('|');
        cells.split('|').map(str::trim).collect::<Vec<_>>()
    });
    let head = rows.next().context("the table of results is empty")?;
    let mut table: Table = head[1..]
        .iter()
        .map(|name| ((*name).to_owned(), BTreeMap::new()))
        .collect();
    // Skip the line under the header.
    for row in rows.skip(1) {
        ensure!(
            row.len() == head.len(),
            "a row of the table of results is cut: {row:?}"
        );
        for (name, value) in head[1..].iter().zip(&row[1..]) {
            if let Some(column) = table.get_mut(*name)
                && !value.is_empty()
            {
                column.insert(row[0].to_owned(), (*value).to_owned());
            }
        }
    }
    Ok(table)
}

/// The differences from the table, and what could not be compared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Differences {
    faults: Vec<String>,
    notes: Vec<String>,
}

fn compare(recorded: &Table, found: &Table) -> Differences {
    let mut differences = Differences::default();
    let nothing = BTreeMap::new();
    for (cell, found) in found {
        let recorded = recorded.get(cell).unwrap_or(&nothing);
        let kernel = |column: &BTreeMap<String, String>| column.get(KERNEL).cloned();
        if let Some(other) = kernel(recorded)
            && kernel(found) != Some(other.clone())
        {
            let note = format!("{cell}: not compared, {PAGE} has the results of kernel {other}");
            differences.notes.push(note);
            continue;
        }
        let rows: BTreeSet<_> = recorded.keys().chain(found.keys()).collect();
        for row in rows {
            let [recorded, found] = [recorded, found].map(|column| column.get(row));
            let [recorded, found] = [recorded, found].map(|value| value.map_or("", String::as_str));
            if !agree(recorded, found, row.starts_with('`')) {
                let fault = format!("{cell}, {row}: {recorded:?} there, {found:?} here");
                differences.faults.push(fault);
            }
        }
    }
    differences
}

fn agree(recorded: &str, found: &str, is_program: bool) -> bool {
    let counts = |text: &str| -> Option<Vec<u64>> {
        text.split(", ").map(|count| count.parse().ok()).collect()
    };
    match counts(recorded).zip(counts(found)) {
        Some((recorded, found)) if is_program => {
            recorded.len() == found.len()
                && recorded.iter().zip(&found).all(|(recorded, found)| {
                    recorded.abs_diff(*found) * 100 <= recorded * TOLERANCE
                })
        }
        _ => recorded == found,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tally::KernelFacts;

    fn cell(name: &str, kernel: &str, passed: u64, programs: &[(&str, &[u64])]) -> Row {
        Row {
            name: name.to_owned(),
            passed,
            failed: 0,
            duration: Duration::ZERO,
            problems: Vec::new(),
            kernel_facts: KernelFacts {
                kernel: kernel.to_owned(),
                programs: programs
                    .iter()
                    .map(|(name, counts)| ((*name).to_owned(), counts.to_vec()))
                    .collect(),
                links: [("veth".to_owned(), "tested".to_owned())].into(),
            },
        }
    }

    fn cells() -> [Row; 2] {
        [
            cell(
                "host tracepoint",
                "6.18",
                100,
                &[("sends", &[1000]), ("exec", &[50, 60])],
            ),
            cell("6.1 kprobe", "6.1.0", 101, &[("sends", &[2000])]),
        ]
    }

    #[test]
    fn what_was_written_is_read_again() {
        let text = render(&cells());
        assert_eq!(
            text,
            "|  | host tracepoint | 6.1 kprobe |\n\
             |---|---|---|\n\
             | kernel | 6.18 | 6.1.0 |\n\
             | live tests passed | 100 | 101 |\n\
             | link veth | tested | tested |\n\
             | `exec` | 50, 60 |  |\n\
             | `sends` | 1000 | 2000 |\n"
        );
        assert_eq!(parse(&text).unwrap(), found(&cells()));
    }

    #[test]
    fn counts_may_differ_a_little_and_nothing_else() {
        let recorded = found(&cells());
        let faults = |change: fn(&mut Row)| {
            let mut cells = cells();
            change(&mut cells[0]);
            let Differences { faults, notes } = compare(&recorded, &found(&cells));
            (faults.len(), notes.len())
        };
        assert_eq!(faults(|_| ()), (0, 0));
        assert_eq!(faults(|cell| cell.passed = 99), (1, 0));
        assert_eq!(
            faults(|cell| cell.kernel_facts.programs.get_mut("sends").unwrap()[0] = 1100),
            (0, 0)
        );
        assert_eq!(
            faults(|cell| cell.kernel_facts.programs.get_mut("sends").unwrap()[0] = 1101),
            (1, 0)
        );
        assert_eq!(
            faults(|cell| cell
                .kernel_facts
                .programs
                .get_mut("exec")
                .unwrap()
                .truncate(1)),
            (1, 0)
        );
        assert_eq!(
            faults(|cell| drop(cell.kernel_facts.programs.remove("sends"))),
            (1, 0)
        );
        assert_eq!(
            faults(|cell| "6.19".clone_into(&mut cell.kernel_facts.kernel)),
            (0, 1)
        );
    }

    #[test]
    fn a_cell_that_is_not_recorded_is_a_fault() {
        let Differences { faults, .. } = compare(&Table::new(), &found(&cells()));
        assert!(!faults.is_empty());
    }

    #[test]
    fn the_page_has_the_marks_and_a_table() {
        let page = fs::read_to_string(root().join(PAGE)).unwrap();
        let (_, table, _) = split(&page).unwrap();
        parse(table).unwrap();
        assert!(split("no marks").is_err());
    }
}
