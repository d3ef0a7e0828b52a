//! The current view for a file: its rows in their order, and the selected columns.
//!
//! Cheap to make, because it only takes references to the rows: cells are made when the file is
//! written.

use super::state::State;
use crate::{
    query::columns::{Column, Show},
    sink::export::{Sheet, SheetRow},
};

impl State {
    /// The view as it is now.
    pub(crate) fn sheet(&self) -> Sheet {
        let rows = &self.rows;
        let sort = match self.here().sort {
            Some((column, false)) => column.name.to_owned(),
            Some((column, true)) => format!("{}:reverse", column.name),
            None => "rate".to_owned(),
        };
        let row = |line: &super::rows::Line| SheetRow {
            entry: rows.entries[line.at as usize].clone(),
            level: line.depth,
            is_other: line.labelled,
        };
        let has_total = self.view.def().by.is_some();
        Sheet {
            host: self.host.name.clone(),
            time: self.clock.rfc3339(self.shown.time),
            view: self.view.name(),
            grouping: self.grouping().name,
            filter: self.filter.text.clone(),
            interfaces: self.filter.interfaces.clone(),
            sort,
            since: self.since.as_ref().map(|it| self.clock.rfc3339(it.time)),
            columns: self.exported(),
            rows: rows.lines.iter().map(row).collect(),
            total: has_total.then(|| rows.total.clone()),
        }
    }

    /// The name of a file for it, without extension:
    /// `flow-processes-20260501-140219`.
    pub(crate) fn sheet_name(&self) -> String {
        let time = self.clock.timestamp(self.live.time);
        let time = time.to_zoned(self.zone.clone());
        format!("flow-{}-{}", self.view, time.strftime("%Y%m%d-%H%M%S"))
    }

    /// The columns on the screen, whether or not they have room; for those that only a screen can
    /// draw, what they are drawn from.
    fn exported(&self) -> Vec<&'static Column> {
        let shown = self.columns();
        let shown = shown
            .into_iter()
            .filter(|column| !matches!(column.show, Show::Screen(_)));
        let all = self.view.columns().iter();
        let drawn = all.filter(|column| matches!(column.show, Show::Lines(_)));
        shown.chain(drawn).collect()
    }
}
