//! The widths of cells, by column: how much room the columns of a table want.

use std::collections::HashMap;

use crate::{
    query::{
        columns::{Align, Column, Context, Show},
        entry::Entry,
        human::Units,
    },
    sink::text::{escape, width},
};

/// The widest cell of each column so far. Widths only grow, so that columns do not move to and fro
/// while rows come and go.
#[derive(Clone, Debug, Default)]
pub(super) struct Widths(HashMap<&'static str, u16>);

impl Widths {
    /// Takes the cells of some rows. Cells that columns draw are as wide as these.
    pub fn take<'a>(
        &mut self,
        columns: &[&'static Column],
        entries: impl Iterator<Item = &'a Entry>,
        context: &Context<'_>,
        units: Units,
    ) {
        let drawn = |column: &Column| matches!(column.show, Show::Screen(_));
        // A statement stands across columns.
        for entry in entries.filter(|entry| entry.statement().is_none()) {
            for column in columns.iter().filter(|column| !drawn(column)) {
                let known = self.0.entry(column.name).or_default();
                if *known >= column.width.max {
                    continue;
                }
                // Whether every column has room is not known yet.
                let text = entry.value(column, context, false).text_in(units);
                let wide = u16::try_from(width(&escape(&text))).unwrap_or(u16::MAX);
                *known = (*known).max(wide.min(column.width.max));
            }
        }
    }

    /// The least that a column needs, without its header: text no more than it has, numbers room
    /// for every number.
    pub fn least(&self, column: &Column) -> u16 {
        let least = column.width.min;
        match (self.0.get(column.name), column.align) {
            (None, _) => least,
            (Some(known), Align::Left) => least.min(*known),
            (Some(known), Align::Right) => least.max(*known),
        }
    }

    /// What a column has use for; at least its own minimum where no cell is known.
    pub fn wanted(&self, column: &Column) -> u16 {
        let known = self.0.get(column.name).copied();
        known.unwrap_or(column.width.min).min(column.width.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{columns, entry::Subject, fixture, groups::By};

    #[test]
    fn text_gets_what_it_has_and_keeps_it() {
        let column = |name: &str| -> &'static Column {
            let mut all = columns::of(By::Process).iter();
            all.find(|column| column.name == name).unwrap()
        };
        let all = [column("process"), column("pid"), column("graph")];
        let mut widths = Widths::default();
        assert_eq!(widths.least(all[0]), all[0].width.min);
        let mut take = |name: &str| {
            let process = fixture::process(7, name, &[]);
            let entry = Entry::new(Subject::Process(process));
            let entries = [entry];
            widths.take(&all, entries.iter(), &Context::default(), Units::default());
            all.map(|column| (widths.least(column), widths.wanted(column)))
        };
        let pid = all[1].width.min;
        let graph = all[2].width.min;
        assert_eq!(take("/bin/sh"), [(2, 2), (pid, 1), (graph, graph)]);
        let least = all[0].width.min;
        let long = "x".repeat(22);
        assert_eq!(take(&long)[0], (least, 22));
        assert_eq!(take("/bin/sh")[0], (least, 22));
        assert_eq!(take(&"x".repeat(99))[0], (least, all[0].width.max));
    }
}
