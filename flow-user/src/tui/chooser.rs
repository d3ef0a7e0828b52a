//! Which columns does a view have, and in which order? What is chosen while the box for that is open.

use super::{preferences::Table, views::ViewId};
use crate::query::columns::Column;

/// What the keys do, under the list.
pub(super) const HINTS: [&str; 2] = [
    "Space shows or hides   J K move it   r as usual",
    "Enter keeps   Esc leaves",
];

/// The columns of a view to choose from.
#[derive(Clone, Debug)]
pub(super) struct Chooser {
    pub view: ViewId,
    /// Those that are shown come first when it opens.
    pub choices: Vec<Choice>,
    /// The one under the cursor.
    pub at: usize,
    /// The first one that is seen.
    pub top: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub column: &'static Column,
    pub shown: bool,
}

impl Chooser {
    /// Of a view that shows these columns; `None` if it has none to choose from.
    pub fn open(view: ViewId, shown: &[&'static Column]) -> Option<Self> {
        let choices = choices(view, shown);
        (!choices.is_empty()).then_some(Self {
            view,
            choices,
            at: 0,
            top: 0,
        })
    }

    /// The columns that are chosen, in order.
    pub fn columns(&self) -> Vec<&'static Column> {
        let shown = self.choices.iter().filter(|choice| choice.shown);
        shown.map(|choice| choice.column).collect()
    }

    /// Moves the cursor.
    pub fn step(&mut self, lines: isize) {
        self.at = self.beside(lines);
    }

    /// Moves the column under the cursor, and the cursor with it.
    pub fn carry(&mut self, lines: isize) {
        let to = self.beside(lines);
        let carried = self.choices.remove(self.at);
        self.choices.insert(to, carried);
        self.at = to;
    }

    /// Shows or hides the column under the cursor; false if that is the last one.
    pub fn toggle(&mut self) -> bool {
        let others = self.choices.iter().enumerate();
        let is_last = !others.into_iter().any(|(at, it)| at != self.at && it.shown);
        let choice = &mut self.choices[self.at];
        if choice.shown && is_last {
            return false;
        }
        choice.shown = !choice.shown;
        true
    }

    /// The columns that the view has unless somebody chooses.
    pub fn usual(&mut self) {
        self.choices = choices(self.view, &Table::usual(self.view).columns);
        self.at = 0;
    }

    fn beside(&self, lines: isize) -> usize {
        let last = self.choices.len().saturating_sub(1);
        self.at.saturating_add_signed(lines).min(last)
    }
}

fn choices(view: ViewId, shown: &[&'static Column]) -> Vec<Choice> {
    let is_shown = |column: &Column| shown.iter().any(|it| it.name == column.name);
    let mut hidden = Table::choices(view);
    hidden.retain(|column| !is_shown(column));
    let choice = |shown| move |column| Choice { column, shown };
    let first = shown.iter().copied().map(choice(true));
    first.chain(hidden.into_iter().map(choice(false))).collect()
}
