//! Which views are there? One entry each: its columns, its groupings, its order.

use std::{fmt, str::FromStr};

use super::rows::Ask;
use crate::{
    model::snapshot::{Flow, Process},
    query::{
        columns::{self, Column},
        entry::{Entry, Id},
        group, nested,
        view::By,
    },
};

/// A view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ViewId {
    #[default]
    Processes,
    Flows,
    Remotes,
    Listeners,
    Interfaces,
    Users,
    Cgroups,
    Names,
    Events,
}

/// All that makes a view.
pub struct ViewDef {
    /// Its name on the command line and in the configuration.
    pub name: &'static str,
    pub title: &'static str,
    /// The same where there is little room.
    pub short: &'static str,
    /// What one of its rows is called in the singular, for `flow top --by`.
    pub by: Option<By>,
    /// The column that it is sorted by at first; without one the busiest come first.
    pub sort: Option<&'static str>,
    /// How its rows can be put together; the first is what it begins with.
    pub groupings: &'static [Grouping],
    /// What stands there while it has no rows.
    pub empty: &'static str,
}

/// A way to put rows together.
pub struct Grouping {
    pub name: &'static str,
    pub(super) rows: fn(&Ask<'_>) -> Vec<Entry>,
    pub(super) nested: Option<Nested>,
    /// Processes under their parents.
    pub tree: bool,
}

type NestedRows = fn(&Ask<'_>, open: &dyn Fn(&Id) -> bool) -> Vec<(Id, Entry)>;

/// Rows under rows.
pub struct Nested {
    /// With the row that each stands under, of those that are open.
    pub(super) rows: NestedRows,
    /// Whether rows are unfolded unless they are folded.
    pub open: bool,
    /// Whether they fill the columns of the view; else a label stands for those that tell who it is.
    pub in_columns: bool,
}

impl ViewId {
    /// Every view, in the order of the keys 1 to 9.
    pub const ALL: [Self; 9] = [
        Self::Processes,
        Self::Flows,
        Self::Remotes,
        Self::Listeners,
        Self::Interfaces,
        Self::Users,
        Self::Cgroups,
        Self::Names,
        Self::Events,
    ];

    /// Its place among all.
    pub const fn index(self) -> usize {
        self as usize
    }

    pub fn def(self) -> &'static ViewDef {
        &VIEWS[self.index()]
    }

    pub fn name(self) -> &'static str {
        self.def().name
    }

    /// Its columns that can be shown, in order.
    pub fn columns(self) -> &'static [Column] {
        match (self, self.def().by) {
            (_, Some(by)) => columns::of(by),
            (Self::Events, None) => columns::EVENT,
            (_, None) => &[],
        }
    }

    /// The one after it, or before; round and round.
    pub fn turned(self, forward: bool) -> Self {
        let count = Self::ALL.len();
        let step = if forward { 1 } else { count - 1 };
        Self::ALL[(self.index() + step) % count]
    }
}

impl fmt::Display for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A view there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no view `{0}`; choose processes, flows, remotes, listeners, interfaces, users, cgroups, names or events"
)]
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

static VIEWS: [ViewDef; 9] = [
    ViewDef {
        name: "processes",
        title: "Processes",
        short: "Proc",
        by: Some(By::Process),
        sort: None,
        groupings: &[
            Grouping {
                name: "flat",
                rows: |ask| by(ask, By::Process),
                nested: Some(FLOWS_OF_PROCESS),
                tree: false,
            },
            Grouping {
                name: "tree",
                rows: |ask| by(ask, By::Process),
                nested: Some(FLOWS_OF_PROCESS),
                tree: true,
            },
        ],
        empty: "No process has a socket or moved anything yet.",
    },
    ViewDef {
        name: "flows",
        title: "Flows",
        short: "Flow",
        by: Some(By::Flow),
        sort: None,
        groupings: &[
            Grouping {
                name: "flat",
                rows: |ask| by(ask, By::Flow),
                nested: None,
                tree: false,
            },
            Grouping {
                name: "by process",
                rows: |ask| by(ask, By::Process),
                nested: Some(Nested {
                    open: true,
                    in_columns: true,
                    ..FLOWS_OF_PROCESS
                }),
                tree: false,
            },
            Grouping {
                name: "by remote",
                rows: |ask| by(ask, By::Remote),
                nested: Some(Nested {
                    rows: |ask, open| nested::flows(ask.snapshot, ask.view, open, remote_of),
                    open: true,
                    in_columns: true,
                }),
                tree: false,
            },
        ],
        empty: "There is no flow.",
    },
    ViewDef {
        name: "remotes",
        title: "Remotes",
        short: "Rem",
        by: Some(By::Remote),
        sort: None,
        groupings: &[
            Grouping {
                name: "by host",
                rows: |ask| by(ask, By::Remote),
                nested: Some(Nested {
                    rows: |ask, open| {
                        nested::processes_of_remotes(ask.snapshot, ask.view, open, Id::Remote)
                    },
                    open: false,
                    in_columns: false,
                }),
                tree: false,
            },
            Grouping {
                name: "by network",
                rows: |ask| group::by_network(ask.snapshot, ask.view),
                nested: Some(Nested {
                    rows: |ask, open| {
                        nested::processes_of_remotes(ask.snapshot, ask.view, open, |address| {
                            let (address, prefix) = group::network(address);
                            Id::Network(address, prefix)
                        })
                    },
                    open: false,
                    in_columns: false,
                }),
                tree: false,
            },
        ],
        empty: "Nobody was talked with yet.",
    },
    ViewDef {
        name: "listeners",
        title: "Listeners",
        short: "Lis",
        by: Some(By::Listener),
        sort: None,
        groupings: &[Grouping {
            name: "flat",
            rows: |ask| by(ask, By::Listener),
            nested: Some(Nested {
                rows: |ask, open| nested::accepted(ask.snapshot, ask.view, open),
                open: false,
                in_columns: false,
            }),
            tree: false,
        }],
        empty: "No process listens for connections.",
    },
    ViewDef {
        name: "interfaces",
        title: "Interfaces",
        short: "If",
        by: Some(By::Interface),
        sort: None,
        groupings: &[Grouping {
            name: "flat",
            rows: |ask| by(ask, By::Interface),
            nested: None,
            tree: false,
        }],
        empty: "There is no interface.",
    },
    ViewDef {
        name: "users",
        title: "Users",
        short: "User",
        by: Some(By::User),
        sort: None,
        groupings: &[Grouping {
            name: "flat",
            rows: |ask| by(ask, By::User),
            nested: Some(Nested {
                rows: |ask, open| {
                    nested::processes(ask.snapshot, ask.view, open, |it| it.uid.map(Id::User))
                },
                open: false,
                in_columns: false,
            }),
            tree: false,
        }],
        empty: "No user's process has a socket or moved anything yet.",
    },
    ViewDef {
        name: "cgroups",
        title: "Cgroups",
        short: "Cgr",
        by: Some(By::Cgroup),
        sort: None,
        groupings: &[Grouping {
            name: "flat",
            rows: |ask| by(ask, By::Cgroup),
            nested: Some(Nested {
                rows: |ask, open| nested::processes(ask.snapshot, ask.view, open, cgroup_of),
                open: false,
                in_columns: false,
            }),
            tree: false,
        }],
        empty: "No process of a cgroup has a socket or moved anything yet.",
    },
    ViewDef {
        name: "names",
        title: "Names",
        short: "Name",
        by: None,
        sort: None,
        groupings: &[Grouping {
            name: "flat",
            rows: |_| Vec::new(),
            nested: None,
            tree: false,
        }],
        empty: "Flow does not read names yet: neither DNS answers nor the names in TLS and HTTP.",
    },
    ViewDef {
        name: "events",
        title: "Events",
        short: "Ev",
        by: None,
        sort: Some("number"),
        groupings: &[Grouping {
            name: "flat",
            rows: |ask| ask.log.entries(&ask.view.filter),
            nested: None,
            tree: false,
        }],
        empty: "Nothing opened or closed since Flow began.",
    },
];

const FLOWS_OF_PROCESS: Nested = Nested {
    rows: |ask, open| {
        nested::flows(ask.snapshot, ask.view, open, |flow| {
            flow.key.process.map(Id::Process)
        })
    },
    open: false,
    in_columns: false,
};

fn by(ask: &Ask<'_>, by: By) -> Vec<Entry> {
    group::entries_by(ask.snapshot, ask.view, by)
}

fn remote_of(flow: &Flow) -> Option<Id> {
    let remote = flow.key.remote?;
    Some(Id::Remote(remote.ip().to_canonical()))
}

fn cgroup_of(process: &Process) -> Option<Id> {
    process.cgroup_path.clone().map(Id::Cgroup)
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
            assert_eq!(view.turned(true).turned(false), view);
        }
        assert!("ports".parse::<ViewId>().is_err());
    }
}
