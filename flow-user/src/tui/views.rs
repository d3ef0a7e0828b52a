//! The views of the screen: one for each grouping, and two others.

use std::{fmt, str::FromStr};

pub use crate::query::groups::Grouping;
use crate::query::{
    columns::{self, Column},
    groups::{By, GroupDef, RowsOf},
    human::one_of,
};

/// A view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ViewId {
    Group(By),
    Names,
    Events,
}

/// All that makes a view.
#[derive(Clone, Copy)]
pub struct ViewDef {
    id: ViewId,
    /// Its name on the command line and in the configuration.
    pub name: &'static str,
    pub title: &'static str,
    /// The same where there is little room.
    pub short: &'static str,
    /// The name of one of its rows, for `flow top --by`.
    pub by: Option<By>,
    /// Its initial sort column; without one the busiest rows come first.
    pub sort: Option<&'static str>,
    /// Its groupings; the first is the initial one.
    pub groupings: &'static [Grouping],
    /// The text shown while it has no rows.
    pub empty: &'static str,
}

/// Every view, in the order of the keys: the groupings, then the others.
static VIEWS: [ViewDef; By::VIEWS + OTHERS.len()] = {
    let mut views = [OTHERS[0]; By::VIEWS + OTHERS.len()];
    let mut at = 0;
    while at < views.len() {
        views[at] = match at < By::VIEWS {
            true => ViewDef::of(By::ALL[at].def()),
            false => OTHERS[at - By::VIEWS],
        };
        at += 1;
    }
    views
};

const OTHERS: [ViewDef; 2] = [
    ViewDef {
        id: ViewId::Names,
        name: "names",
        title: "Names",
        short: "Name",
        by: None,
        sort: None,
        groupings: &[Grouping::new("flat", RowsOf::Nothing)],
        empty: "Flow does not read names yet: neither DNS answers nor names in TLS and HTTP.",
    },
    ViewDef {
        id: ViewId::Events,
        name: "events",
        title: "Events",
        short: "Ev",
        by: None,
        sort: Some("number"),
        groupings: &[Grouping::new("flat", RowsOf::Log)],
        empty: "No events since Flow started.",
    },
];

impl ViewDef {
    const fn of(group: &'static GroupDef) -> Self {
        Self {
            id: ViewId::Group(group.by),
            name: group.view,
            title: group.title,
            short: group.short,
            by: Some(group.by),
            sort: None,
            groupings: group.groupings,
            empty: group.empty,
        }
    }
}

impl Default for ViewId {
    fn default() -> Self {
        Self::Group(By::default())
    }
}

impl ViewId {
    /// Every view, in the order of the keys.
    pub const ALL: [Self; VIEWS.len()] = {
        let mut all = [Self::Names; VIEWS.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = VIEWS[at].id;
            assert!(
                all[at].index() == at,
                "views stand in the order of their index"
            );
            at += 1;
        }
        all
    };

    /// Its place among all.
    pub const fn index(self) -> usize {
        match self {
            Self::Group(by) => by as usize,
            Self::Names => By::VIEWS,
            Self::Events => By::VIEWS + 1,
        }
    }

    pub fn def(self) -> &'static ViewDef {
        &VIEWS[self.index()]
    }

    pub fn name(self) -> &'static str {
        self.def().name
    }

    /// Its columns that can be shown, in order.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Group(by) => columns::of(by),
            Self::Events => columns::EVENT,
            Self::Names => &[],
        }
    }

    /// Those that have a tab: all but those that can have no rows yet.
    pub fn shown() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|view| view.has_content())
    }

    /// Whether it can have rows.
    pub fn has_content(self) -> bool {
        !self.columns().is_empty()
    }

    /// The next one that is shown, or the previous; cyclic.
    pub fn turned(self, forward: bool) -> Self {
        let count = Self::ALL.len();
        let step = if forward { 1 } else { count - 1 };
        let others = (1..=count).map(|steps| Self::ALL[(self.index() + step * steps) % count]);
        others
            .into_iter()
            .find(|view| view.has_content())
            .unwrap_or(self)
    }
}

impl fmt::Display for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A view there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no view `{0}`; choose {known}", known = one_of(&ViewId::ALL.map(ViewId::name)))]
pub struct UnknownView(String);

impl FromStr for ViewId {
    type Err = UnknownView;

    /// By its name, or as `flow top --by` calls its rows.
    fn from_str(name: &str) -> Result<Self, UnknownView> {
        let named = |view: &Self| {
            let def = view.def();
            def.name == name || def.by.is_some_and(|by| by.name() == name)
        };
        Self::ALL
            .into_iter()
            .find(named)
            .ok_or_else(|| UnknownView(name.escape_debug().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_is_found_by_its_names_and_its_order_is_a_column_of_its() {
        for view in ViewId::ALL {
            let def = view.def();
            assert_eq!(def.name.parse(), Ok(view));
            assert!(!def.groupings.is_empty());
            if let Some(by) = def.by {
                assert_eq!(by.name().parse(), Ok(view));
            }
            if let Some(sort) = def.sort {
                assert!(view.columns().iter().any(|column| column.name == sort));
            }
            if view.has_content() {
                assert_eq!(view.turned(true).turned(false), view);
            }
            assert!(view.turned(true).has_content());
        }
        assert!("ports".parse::<ViewId>().is_err());
    }
}
