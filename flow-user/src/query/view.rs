//! The parameters of a table: grouping, filter, order, number of rows.

use std::sync::Arc;

pub use super::groups::By;
use super::{
    baseline::Baseline,
    columns::{self, Column},
    filter::Filter,
    near::nearest,
};
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
    /// Reads `COLUMN` or, reversed, `COLUMN:reverse`: a name, a header, or the beginning of a name.
    /// Besides the columns that are shown there are `rate` and `total`: both directions together.
    ///
    /// # Errors
    /// The view has no such column.
    pub fn parse(by: By, text: &str) -> Result<Self, UnknownColumn> {
        let (name, reverse) = match text.strip_suffix(":reverse") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let columns = columns::of(by);
        match named(columns, name) {
            Some(column) => Ok(Self {
                column: column.name,
                reverse,
            }),
            None => Err(UnknownColumn::new(name, by, columns)),
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

/// The column that someone calls so: by its name; by its header, whatever its case; or by the word
/// that its name begins with, the first such column, as `tx` is for `tx_rate`.
fn named(columns: &'static [Column], text: &str) -> Option<&'static Column> {
    let begins = |name: &str| name.split('_').next() == Some(text);
    let find = |is: &dyn Fn(&Column) -> bool| columns.iter().find(|column| is(column));
    find(&|column| column.name == text)
        .or_else(|| find(&|column| has_header(column) && column.header.eq_ignore_ascii_case(text)))
        .or_else(|| find(&|column| begins(column.name)))
}

fn has_header(column: &Column) -> bool {
    !column.header.is_empty()
}

/// A column the view has not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the view by {by} has no column `{name}` to sort by; {instead}")]
pub struct UnknownColumn {
    name: String,
    by: By,
    instead: String,
}

impl UnknownColumn {
    fn new(name: &str, by: By, columns: &[Column]) -> Self {
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        let headers = columns.iter().filter(|column| has_header(column));
        let headers: Vec<String> = headers.map(|it| it.header.to_lowercase()).collect();
        let all = names.iter().copied();
        let all: Vec<&str> = all.chain(headers.iter().map(String::as_str)).collect();
        Self {
            name: name.escape_debug().to_string(),
            by,
            instead: match nearest(name, &all) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("choose one of {}", names.join(", ")),
            },
        }
    }
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
        let error = Sort::parse(By::User, "command").unwrap_err().to_string();
        assert!(
            error.contains("view by user has no column `command`"),
            "{error}"
        );
        assert!(error.contains("rx_bytes"), "{error}");
    }

    #[test]
    fn a_column_is_known_by_what_the_screen_calls_it() {
        for (text, column) in [
            ("tx_bytes", "tx_bytes"),
            ("sent", "tx_bytes"),
            ("SENT/s", "tx_rate"),
            ("received/s", "rx_rate"),
            ("tx", "tx_rate"),
            ("rx", "rx_rate"),
            ("rtt", "rtt_us"),
            ("wire sent", "wire_tx_bytes"),
        ] {
            let sort = Sort::parse(By::Flow, text).unwrap();
            assert_eq!(sort.column(), column, "{text}");
            let reversed = Sort::parse(By::Flow, &format!("{text}:reverse")).unwrap();
            assert!(reversed.reverse(), "{text}");
        }
        let error = Sort::parse(By::Flow, "sennt").unwrap_err().to_string();
        assert!(error.ends_with("did you mean `sent`?"), "{error}");
        assert!(Sort::parse(By::Flow, "").is_err());
    }
}
