//! The panels of a detail: one entry each.

use super::{
    Detail, Of,
    facts::{self, Fact},
};
use crate::{
    model::snapshot::Snapshot,
    query::{
        columns::{self, Column},
        entry::Entry,
        group,
        view::{By, View},
    },
    tui::state::State,
};

/// A part of a detail that can have the focus.
pub(in crate::tui) struct Panel {
    pub title: &'static str,
    pub content: Content,
    /// The text shown while it has no rows.
    pub empty: &'static str,
    /// Its place where there is room for several panels.
    pub place: Placement,
}

/// Where a panel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tui) enum Placement {
    /// Across the screen; it gets the room that the others leave.
    Across,
    /// Beside another one.
    Beside,
    /// It is shown alone, while it has the focus.
    Alone,
}

#[derive(Clone, Copy)]
pub(in crate::tui) enum Content {
    Table {
        /// Its columns, and those that are useless here.
        columns: fn() -> &'static [Column],
        without: &'static [&'static str],
        /// Its rows, from the part of the snapshot that concerns the subject.
        rows: fn(&Snapshot) -> Vec<Entry>,
    },
    /// Names and texts in full.
    Text(fn(&State, &Detail) -> Vec<Fact>),
}

/// Columns that are useless where the process is fixed.
const OF_ONE_PROCESS: &[&str] = &["pid", "process", "user", "processes"];

/// The panels of a subject.
pub(super) fn of(of: &Of) -> &'static [Panel] {
    match of {
        Of::Process(_) => PROCESS,
        Of::Flow(_) => FLOW,
        Of::Interface(_) => INTERFACE,
        Of::Group(members) if members.are_flows() => REMOTE,
        Of::Group(_) => PROCESSES,
    }
}

/// The panels of a process.
static PROCESS: &[Panel] = &[
    Panel {
        title: "Flows",
        content: Content::Table {
            columns: || columns::of(By::Flow),
            without: OF_ONE_PROCESS,
            rows: |part| by(part, By::Flow),
        },
        empty: "No flows.",
        place: Placement::Across,
    },
    Panel {
        title: "Listeners",
        content: Content::Table {
            columns: || columns::of(By::Listener),
            without: OF_ONE_PROCESS,
            rows: |part| by(part, By::Listener),
        },
        empty: "No listening sockets.",
        place: Placement::Beside,
    },
    Panel {
        title: "Remotes",
        content: Content::Table {
            columns: || columns::of(By::Remote),
            without: OF_ONE_PROCESS,
            rows: |part| by(part, By::Remote),
        },
        empty: "No remotes yet.",
        place: Placement::Beside,
    },
    Panel {
        title: "Protocols",
        content: Content::Table {
            columns: || columns::PROTOCOL,
            without: OF_ONE_PROCESS,
            rows: |part| group::by_protocol(part, &View::default()),
        },
        empty: "No bytes yet.",
        place: Placement::Beside,
    },
    ABOUT,
];

/// The panels of a flow.
static FLOW: &[Panel] = &[
    Panel {
        title: "Used by",
        content: Content::Table {
            columns: || columns::of(By::Process),
            without: &["graph", "command", "flows"],
            rows: |part| group::by_part_owner(part, &View::default()),
        },
        empty: "No process has used this socket yet.",
        place: Placement::Beside,
    },
    Panel {
        title: "Remotes of the socket",
        content: Content::Table {
            columns: || columns::of(By::Remote),
            without: &["flows"],
            rows: |part| by(part, By::Remote),
        },
        empty: "No remotes yet.",
        place: Placement::Beside,
    },
    Panel {
        title: "About",
        content: Content::Text(facts::of),
        empty: "",
        place: Placement::Across,
    },
];

/// The panels of a remote or network.
static REMOTE: &[Panel] = &[
    Panel {
        title: "Processes",
        content: Content::Table {
            columns: || columns::of(By::Process),
            // Of the whole process, not of what it moves here.
            without: &["graph"],
            rows: |part| group::by_part_owner(part, &View::default()),
        },
        empty: "No process has listed flows with it.",
        place: Placement::Beside,
    },
    Panel {
        title: "Flows",
        content: Content::Table {
            columns: || columns::of(By::Flow),
            without: &["user"],
            rows: |part| by(part, By::Flow),
        },
        empty: "No listed flows.",
        place: Placement::Across,
    },
    ABOUT,
];

/// The panels of an interface.
static INTERFACE: &[Panel] = &[
    Panel {
        title: "Frames by cause",
        content: Content::Text(facts::frames),
        empty: "",
        place: Placement::Beside,
    },
    Panel {
        title: "About",
        content: Content::Text(facts::of),
        empty: "",
        place: Placement::Beside,
    },
    Panel {
        // Others may have used it before.
        title: "Flows whose last packet it carried",
        content: Content::Table {
            columns: || columns::of(By::Flow),
            without: &["interface", "queue_bytes"],
            rows: |part| by(part, By::Flow),
        },
        empty: "No listed flows.",
        place: Placement::Across,
    },
];

/// The panels of a user or cgroup.
static PROCESSES: &[Panel] = &[
    Panel {
        title: "Processes",
        content: Content::Table {
            columns: || columns::of(By::Process),
            without: &[],
            rows: |part| by(part, By::Process),
        },
        empty: "No listed processes.",
        place: Placement::Across,
    },
    Panel {
        title: "Remotes",
        content: Content::Table {
            columns: || columns::of(By::Remote),
            without: &[],
            rows: |part| by(part, By::Remote),
        },
        empty: "No remotes yet.",
        place: Placement::Beside,
    },
    Panel {
        title: "Listeners",
        content: Content::Table {
            columns: || columns::of(By::Listener),
            without: &["user"],
            rows: |part| by(part, By::Listener),
        },
        empty: "No listening sockets.",
        place: Placement::Beside,
    },
    ABOUT,
];

const ABOUT: Panel = Panel {
    title: "About",
    content: Content::Text(facts::of),
    empty: "",
    place: Placement::Alone,
};

fn by(part: &Snapshot, by: By) -> Vec<Entry> {
    group::entries_by(part, &View::default(), by)
}
