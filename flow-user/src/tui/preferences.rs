//! Preferences from the command line and the configuration.

use super::{keymap::KeyMap, theme::Theme, views::ViewId};
use crate::query::{columns::Column, human::Units};

/// How the screen looks, and its keys.
#[derive(Clone, Debug)]
pub struct Preferences {
    pub view: ViewId,
    /// `None` is the usual one, or without colours mono.
    pub theme: Option<Theme>,
    pub units: Units,
    pub compact: bool,
    /// Rows that receive and send at least so many bytes per second together are marked.
    pub threshold: Option<u64>,
    pub keys: KeyMap,
    /// Of each view, in the order of [`ViewId::ALL`].
    pub tables: [Table; ViewId::ALL.len()],
}

/// What keys of the screen choose, and the configuration can keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub view: ViewId,
    pub theme: Theme,
    pub units: Units,
    pub compact: bool,
    pub threshold: Option<u64>,
}

/// A view's table.
#[derive(Clone, Debug)]
pub struct Table {
    /// In order of display.
    pub columns: Vec<&'static Column>,
    /// Its initial sort column, and whether the order is reversed; without one the busiest rows
    /// come first.
    pub sort: Option<(&'static Column, bool)>,
    /// Its initial grouping, among those of the view.
    pub grouping: usize,
}

impl Table {
    /// The default.
    pub fn usual(view: ViewId) -> Self {
        let columns = view.columns().iter();
        let mut sorted = columns.clone();
        let sort = view.def().sort;
        Self {
            columns: columns
                .filter(|column| column.show.on_screen().is_some())
                .collect(),
            sort: sort
                .and_then(|name| sorted.find(|column| column.name == name))
                .map(|column| (column, false)),
            grouping: 0,
        }
    }

    /// The columns that a view's table can have.
    pub fn choices(view: ViewId) -> Vec<&'static Column> {
        let columns = view.columns().iter();
        columns
            .filter(|column| column.show.priority().is_some())
            .collect()
    }
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            view: ViewId::default(),
            theme: None,
            units: Units::default(),
            compact: false,
            threshold: None,
            keys: KeyMap::default(),
            tables: ViewId::ALL.map(Table::usual),
        }
    }
}
