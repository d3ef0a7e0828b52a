//! What a table is asked to show: grouping, filter, order, number of rows.

use std::{fmt, str::FromStr, sync::Arc};

use super::{baseline::Baseline, columns, filter::Filter};
use crate::{
    event::AppTotals,
    model::snapshot::{Flow, Process, Snapshot},
};

/// What a row stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum By {
    #[default]
    Process,
    Flow,
    /// A remote address, all its ports together.
    Remote,
    /// A listening address and port, with what was accepted there.
    Listener,
    Interface,
    User,
    Cgroup,
}

impl By {
    /// Every grouping, in the order of the views.
    pub const ALL: [Self; 7] = [
        Self::Process,
        Self::Flow,
        Self::Remote,
        Self::Listener,
        Self::Interface,
        Self::User,
        Self::Cgroup,
    ];

    /// Its name on the command line and in outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Flow => "flow",
            Self::Remote => "remote",
            Self::Listener => "listener",
            Self::Interface => "interface",
            Self::User => "user",
            Self::Cgroup => "cgroup",
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A grouping there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no view by `{0}`; choose process, flow, remote, listener, interface, user or cgroup"
)]
pub struct UnknownView(String);

impl FromStr for By {
    type Err = UnknownView;

    fn from_str(name: &str) -> Result<Self, UnknownView> {
        Self::ALL
            .into_iter()
            .find(|by| by.name() == name)
            .ok_or_else(|| UnknownView(name.escape_debug().to_string()))
    }
}

/// Order of rows: by a column, numbers from the largest, text from A; then by rate and total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    /// Name of a column of the view it was parsed for.
    column: &'static str,
    reverse: bool,
}

impl Sort {
    /// Reads `COLUMN` or, the other way round, `COLUMN:reverse`. Besides the columns that are shown
    /// there are `rate` and `total`: both ways together.
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
    fn every_view_is_found_by_its_name() {
        for by in By::ALL {
            assert_eq!(by.name().parse(), Ok(by));
        }
        let error = "hosts".parse::<By>().unwrap_err();
        assert!(error.to_string().contains("remote, listener"), "{error}");
    }

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
