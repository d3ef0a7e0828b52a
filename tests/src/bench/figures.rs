//! Figures: tables of Markdown with aligned columns, and the list of budgets.

use std::io::Write as _;

use anyhow::Result;

/// The results of a part.
#[derive(Debug, Default)]
pub struct Section {
    pub tables: Vec<Table>,
    /// Notes below the tables that readers need.
    pub notes: Vec<String>,
    pub verdicts: Vec<Verdict>,
}

impl Section {
    /// The section of a part that could not be measured.
    pub fn missing(reason: String) -> Self {
        Self {
            notes: vec![format!("Not measured: {reason}.")],
            ..Self::default()
        }
    }
}

/// A table; each row has as many cells as there are columns.
#[derive(Debug)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[&str]) -> Self {
        Self {
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn write(&self) -> String {
        let width = |index: usize| {
            self.rows
                .iter()
                .chain([&self.columns])
                .filter_map(|row| row.get(index))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        // The first column labels a row; the others are figures.
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).enumerate();
            let cells: Vec<_> = padded
                .map(|(index, (cell, &width))| match index {
                    0 => format!(" {cell:<width$} "),
                    _ => format!(" {cell:>width$} "),
                })
                .collect();
            format!("|{}|\n", cells.join("|"))
        };
        let rules: Vec<_> = widths
            .iter()
            .enumerate()
            .map(|(index, width)| match index {
                0 => "-".repeat(width + 2),
                _ => format!("{}:", "-".repeat(width + 1)),
            })
            .collect();
        let mut text = line(&self.columns);
        text.push_str(&format!("|{}|\n", rules.join("|")));
        self.rows.iter().for_each(|row| text.push_str(&line(row)));
        text
    }
}

/// A budget and its figure.
#[derive(Debug)]
pub struct Verdict {
    pub what: String,
    pub budget: String,
    pub figure: String,
    pub met: bool,
}

impl Verdict {
    /// A figure that must not exceed its budget.
    pub fn at_most(what: &str, figure: f64, budget: f64, unit: &str) -> Self {
        Self {
            what: what.to_owned(),
            budget: format!("at most {budget} {unit}"),
            figure: format!("{} {unit}", number(figure)),
            met: figure <= budget,
        }
    }

    /// A ratio that must not be below its budget.
    pub fn at_least(what: &str, figure: f64, budget: f64) -> Self {
        Self {
            what: what.to_owned(),
            budget: format!("at least {budget}"),
            figure: format!("{figure:.3}"),
            met: figure >= budget,
        }
    }
}

/// Prints the report.
pub fn print(machine: &str, sections: &[(&str, Section)]) -> Result<()> {
    let mut budgets = Table::new(&["budget", "wanted", "measured", ""]);
    for verdict in sections.iter().flat_map(|(_, section)| &section.verdicts) {
        let Verdict {
            what,
            budget,
            figure,
            met,
        } = verdict;
        let met = if *met { "met" } else { "**missed**" };
        budgets.row(vec![
            what.clone(),
            budget.clone(),
            figure.clone(),
            met.to_owned(),
        ]);
    }
    let mut text = format!("{machine}\n### Budgets\n\n{}", budgets.write());
    for (title, section) in sections {
        text.push_str(&format!("\n### {title}\n"));
        for table in &section.tables {
            text.push_str(&format!("\n{}", table.write()));
        }
        for note in &section.notes {
            text.push_str(&format!("\n{note}\n"));
        }
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// The median: the middle value, or the mean of the two in the middle; 0 without values.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The given quantile, interpolated; 0 without values.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let place = share * last as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * place.fract()
}

/// Formats a number with three significant digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Formats bytes, or bytes a second, in powers of ten.
pub fn si(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{} G", number(value / 1e9)),
        value if value >= 1e6 => format!("{} M", number(value / 1e6)),
        value if value >= 1e3 => format!("{} k", number(value / 1e3)),
        value => format!("{} ", number(value)),
    }
}

/// Formats bytes of memory.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_values() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.25), 2.0);
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["what", "figure"]);
        table.row(vec!["a".to_owned(), "1".to_owned()]);
        assert_eq!(
            table.write(),
            "| what | figure |\n|------|-------:|\n| a    |      1 |\n"
        );
    }

    #[test]
    fn a_figure_at_its_budget_meets_it() {
        assert!(Verdict::at_most("", 120.0, 120.0, "ns").met);
        assert!(!Verdict::at_most("", 120.1, 120.0, "ns").met);
        assert!(Verdict::at_least("", 0.98, 0.98).met);
        assert!(!Verdict::at_least("", 0.979, 0.98).met);
    }
}
