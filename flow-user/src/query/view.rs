//! The parameters of a table: grouping, filter, order, number of rows.

use std::sync::Arc;

pub use super::groups::By;
use super::{baseline::Baseline, columns, filter::Filter};
use crate::{
    event::AppTotals,
    model::snapshot::{Flow, Process, Snapshot},
};

/// Order of rows: by a column, numbers from the largest, text from A; then by rate and total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    /// Name of a column of the view it was parsed for.
    column: &'static str,
    reverse: bool,
}

impl Sort {
    /// Reads `COLUMN` or, reversed, `COLUMN:reverse`. Besides the columns that are shown there are
    /// `rate` and `total`: both directions together.
    pub fn parse(by: By, text: &str) -> Result<Self, UnknownColumn> {
        let (name, reverse) = match text.strip_suffix(":reverse") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let columns = columns::of(by);
        match columns.iter().find(|column| column.name == name) {
            Some(column) => Ok(Self {
                column: column.name,
                reverse,
            }),
            None => Err(UnknownColumn {
                name: name.escape_debug().to_string(),
                by,
                columns: columns
                    .iter()
                    .map(|column| column.name)
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// Name of the column.
    pub const fn column(&self) -> &'static str {
        self.column
    }

    /// Whether from the smallest, or from Z.
    pub const fn reverse(&self) -> bool {
        self.reverse
    }
}

/// A column the view has not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the view by {by} has no column `{name}` to sort by; choose one of {columns}")]
pub struct UnknownColumn {
    name: String,
    by: By,
    columns: String,
}

/// A question to a snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    pub by: By,
    pub filter: Filter,
    /// Without it the busiest come first: by rate, then by total.
    pub sort: Option<Sort>,
    /// The most rows to show; `None` shows all.
    pub rows: Option<usize>,
    /// Count only what moved since then.
    pub since: Option<Arc<Baseline>>,
}

/// Numbers as the view counts them.
impl View {
    pub(super) fn total(&self, snapshot: &Snapshot) -> AppTotals {
        match &self.since {
            None => snapshot.totals.app,
            Some(since) => since.total(snapshot),
        }
    }

    pub(super) fn totals(&self, process: &Process) -> AppTotals {
        match &self.since {
            None => process.totals,
            Some(since) => since.process(process),
        }
    }

    /// What a process moved since it has its name.
    pub(super) fn own(&self, process: &Process) -> AppTotals {
        let all = self.totals(process);
        let own = process.own();
        AppTotals {
            tx_bytes: all.tx_bytes.min(own.tx_bytes),
            rx_bytes: all.rx_bytes.min(own.rx_bytes),
            tx_calls: all.tx_calls.min(own.tx_calls),
            rx_calls: all.rx_calls.min(own.rx_calls),
        }
    }

    pub(super) fn overflow(&self, process: &Process) -> AppTotals {
        match &self.since {
            None => process.overflow,
            Some(since) => since.overflow(process),
        }
    }

    pub(super) fn app(&self, flow: &Flow) -> AppTotals {
        match &self.since {
            None => flow.app,
            Some(since) => since.flow(flow).0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sort_names_a_column_of_its_view() {
        let sort = Sort::parse(By::Process, "pid:reverse").unwrap();
        assert_eq!((sort.column(), sort.reverse()), ("pid", true));
        assert!(Sort::parse(By::Interface, "rate").is_ok());
        let error = Sort::parse(By::User, "pid").unwrap_err().to_string();
        assert!(
            error.contains("view by user has no column `pid`"),
            "{error}"
        );
        assert!(error.contains("rx_bytes"), "{error}");
    }
}
