//! The groupings of processes and flows: one row each, from which `flow top --by`, the views of the
//! screen and their keys are derived. Their columns are in [`columns::tables`](super::columns).

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use super::human::one_of;
use crate::{
    event::{Direction, Protocol},
    model::snapshot::{Flow, Process},
};

/// The subject of the rows of a grouping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// Processes of one name.
    Program,
}

/// Every grouping, in the order of [`By`], which is that of the views; those without a view last.
static GROUPS: [GroupDef; 8] = [
    GroupDef {
        by: By::Process,
        name: "process",
        view: "processes",
        title: "Processes",
        short: "Proc",
        groupings: &[
            Grouping {
                nested: FLOWS,
                ..Grouping::new("flat", RowsOf::Processes)
            },
            Grouping {
                nested: PROCESSES_IN_COLUMNS,
                ..Grouping::new("by program", RowsOf::Programs)
            },
            Grouping {
                nested: FLOWS,
                tree: true,
                ..Grouping::new("tree", RowsOf::Processes)
            },
        ],
        empty: "No process with sockets or traffic yet.",
        ..GroupDef::UNLABELLED
    },
    GroupDef {
        by: By::Flow,
        name: "flow",
        view: "flows",
        title: "Flows",
        short: "Flow",
        groupings: &[
            Grouping::new("flat", RowsOf::Flows),
            Grouping {
                nested: OPEN_FLOWS,
                ..Grouping::new("by process", RowsOf::Processes)
            },
            Grouping {
                nested: OPEN_FLOWS,
                ..Grouping::new("by remote", REMOTES)
            },
            Grouping {
                nested: CLOSED_FLOWS,
                ..Grouping::new(
                    "by program and remote",
                    RowsOf::FlowsBy(By::Flow, |flow| {
                        let process = flow.process.as_deref();
                        let name = process.map_or("(no process)", Process::name);
                        Peer::of(flow, Some(name.into())).map(Label::Peer)
                    }),
                )
            },
        ],
        empty: "No flows yet.",
        noun: "the endpoint",
        unknown: "(remote unknown)",
    },
    GroupDef {
        by: By::Remote,
        name: "remote",
        view: "remotes",
        title: "Remotes",
        short: "Rem",
        groupings: &[
            Grouping {
                nested: PROGRAMS,
                ..Grouping::new("by host", REMOTES)
            },
            Grouping {
                nested: PROGRAMS,
                ..Grouping::new("by network", NETWORKS)
            },
            Grouping {
                nested: PROGRAMS,
                ..Grouping::new(
                    "by port",
                    RowsOf::FlowsBy(By::Remote, |flow| Peer::of(flow, None).map(Label::Peer)),
                )
            },
        ],
        empty: "No remotes yet.",
        noun: "the address",
        unknown: "(remote unknown)",
    },
    GroupDef {
        by: By::Listener,
        name: "listener",
        view: "listeners",
        title: "Listeners",
        short: "Lis",
        groupings: &[Grouping {
            nested: FLOWS,
            ..Grouping::new("flat", RowsOf::Listeners)
        }],
        empty: "No listeners.",
        ..GroupDef::UNLABELLED
    },
    GroupDef {
        by: By::Interface,
        name: "interface",
        view: "interfaces",
        title: "Interfaces",
        short: "If",
        groupings: &[Grouping::new("flat", RowsOf::Interfaces)],
        empty: "No interfaces.",
        ..GroupDef::UNLABELLED
    },
    GroupDef {
        by: By::User,
        name: "user",
        view: "users",
        title: "Users",
        short: "User",
        groupings: &[Grouping {
            nested: PROCESSES,
            ..Grouping::new(
                "flat",
                RowsOf::ProcessesBy(By::User, |it| Some(Label::User(it.uid?, it.user.clone()))),
            )
        }],
        empty: "No user's process has sockets or traffic yet.",
        noun: "the number",
        unknown: "(user unknown)",
    },
    GroupDef {
        by: By::Cgroup,
        name: "cgroup",
        view: "cgroups",
        title: "Cgroups",
        short: "Cgr",
        groupings: &[Grouping {
            nested: PROCESSES,
            ..Grouping::new(
                "flat",
                RowsOf::ProcessesBy(By::Cgroup, |it| it.cgroup_path.clone().map(Label::Text)),
            )
        }],
        empty: "No cgroup's process has sockets or traffic yet.",
        noun: "the path",
        unknown: "(cgroup unknown)",
    },
    GroupDef {
        by: By::Program,
        name: "program",
        groupings: &[Grouping {
            nested: PROCESSES,
            ..Grouping::new("flat", RowsOf::Programs)
        }],
        noun: "the name",
        ..GroupDef::UNLABELLED
    },
];

const REMOTES: RowsOf = RowsOf::FlowsBy(By::Remote, |flow| {
    let remote = flow.key.remote?;
    Some(Label::Address(remote.ip().to_canonical()))
});

/// Neighbours together: addresses of IPv4 by their first 24 bits, of IPv6 by their first 48.
const NETWORKS: RowsOf = RowsOf::FlowsBy(By::Remote, |flow| {
    let remote = flow.key.remote?;
    Some(network_of(remote.ip().to_canonical()))
});

/// The network that an address is counted in.
pub(super) fn network_of(address: IpAddr) -> Label {
    let (first, prefix) = match address {
        IpAddr::V4(v4) => (IpAddr::V4((v4.to_bits() & !0xff).into()), 24),
        IpAddr::V6(v6) => (IpAddr::V6((v6.to_bits() >> 80 << 80).into()), 48),
    };
    Label::Network(first, prefix)
}

const FLOWS: Option<Nested> = Some(Nested {
    rows: Under::Flows,
    open: false,
    in_columns: false,
    below: None,
});
const CLOSED_FLOWS: Option<Nested> = Some(Nested {
    rows: Under::Flows,
    open: false,
    in_columns: true,
    below: None,
});
const OPEN_FLOWS: Option<Nested> = Some(Nested {
    rows: Under::Flows,
    open: true,
    in_columns: true,
    below: None,
});
const PROCESSES: Option<Nested> = Some(Nested {
    rows: Under::Processes,
    open: false,
    in_columns: false,
    below: Some(Under::Flows),
});
const PROCESSES_IN_COLUMNS: Option<Nested> = Some(Nested {
    rows: Under::Processes,
    open: false,
    in_columns: true,
    below: Some(Under::Flows),
});
const PROGRAMS: Option<Nested> = Some(Nested {
    rows: Under::Programs,
    open: false,
    in_columns: false,
    below: None,
});

/// All that makes a grouping, but for its columns.
#[derive(Debug)]
pub struct GroupDef {
    pub by: By,
    /// Its name on the command line and in outputs: that of its subject.
    pub name: &'static str,
    /// The name of its view, on the command line and in the configuration; empty if it has none.
    pub view: &'static str,
    pub title: &'static str,
    /// The same where there is little room.
    pub short: &'static str,
    /// Its groupings; the first is the initial one.
    pub groupings: &'static [Grouping],
    /// The text shown while it has no rows.
    pub empty: &'static str,
    /// What a label of it is called in the message after copying one.
    pub noun: &'static str,
    /// The label of rows without one.
    pub unknown: &'static str,
}

/// A grouping of rows.
#[derive(Debug)]
pub struct Grouping {
    pub name: &'static str,
    pub rows: RowsOf,
    pub nested: Option<Nested>,
    /// Processes under their parents.
    pub tree: bool,
}

/// The input of rows.
#[derive(Clone, Copy, Debug)]
pub enum RowsOf {
    Nothing,
    Processes,
    Programs,
    Flows,
    Listeners,
    Interfaces,
    /// Processes that have the same label, as a grouping has it.
    ProcessesBy(By, fn(&Process) -> Option<Label>),
    FlowsBy(By, fn(&Flow) -> Option<Label>),
    /// The log of events, which is no part of a snapshot.
    Log,
}

/// Rows under rows.
#[derive(Clone, Copy, Debug)]
pub struct Nested {
    pub rows: Under,
    /// Whether rows are unfolded unless they are folded.
    pub open: bool,
    /// Whether they fill the columns of the view; otherwise a label replaces the columns that
    /// identify a row.
    pub in_columns: bool,
    /// Rows under these rows; they are folded until they are unfolded one by one.
    pub below: Option<Under>,
}

/// The rows under a row: its part of each flow or process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    Flows,
    Processes,
    /// Programs; one with a single process is that process.
    Programs,
}

/// The common property of the processes or flows of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Label {
    Address(IpAddr),
    /// A block of addresses: the first of them and the bits they share.
    Network(IpAddr, u8),
    Peer(Peer),
    /// A user's number, and the name where that is known.
    User(u32, Option<Arc<str>>),
    Text(Arc<str>),
}

/// A remote address and the port that was connected to: the remote's, or where the remote opened
/// the flow, the local one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// The program at this end, if the grouping has it.
    pub program: Option<Arc<str>>,
    pub protocol: Protocol,
    pub direction: Option<Direction>,
    pub address: IpAddr,
    pub port: u16,
}

impl Peer {
    /// The peer of a flow, if it has a remote.
    fn of(flow: &Flow, program: Option<Arc<str>>) -> Option<Self> {
        let remote = flow.key.remote?;
        Some(Self {
            program,
            protocol: flow.protocol,
            direction: flow.direction,
            address: remote.ip().to_canonical(),
            port: match flow.direction {
                Some(Direction::Inbound) => flow.local.port(),
                Some(Direction::Outbound) | None => remote.port(),
            },
        })
    }

    /// Whether the port is the local one.
    pub fn is_inbound(&self) -> bool {
        self.direction == Some(Direction::Inbound)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(program) = &self.program {
            write!(
                f,
                "{program} {} ",
                if self.is_inbound() { "←" } else { "→" }
            )?;
        }
        match self.is_inbound() {
            true => write!(f, "{} to :{}", self.address, self.port),
            false => SocketAddr::new(self.address, self.port).fmt(f),
        }
    }
}

impl Label {
    /// The same whether or not a name is known.
    pub fn id(&self) -> Self {
        match self {
            Self::User(uid, _) => Self::User(*uid, None),
            label => label.clone(),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Network(address, prefix) => write!(f, "{address}/{prefix}"),
            Self::Peer(peer) => peer.fmt(f),
            Self::User(uid, _) => uid.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl RowsOf {
    /// The rows of a grouping that have labels of this kind, and keep their totals when flows and
    /// processes are no longer listed.
    pub(super) fn with_label(by: By, label: &Label) -> Option<Self> {
        match (by, label) {
            (By::Remote, Label::Address(_)) => Some(REMOTES),
            (By::Remote, Label::Network(..)) => Some(NETWORKS),
            (By::User | By::Cgroup, Label::User(..) | Label::Text(_)) => Some(by.rows()),
            _ => None,
        }
    }
}

impl GroupDef {
    /// Of what has no labels.
    const UNLABELLED: Self = Self {
        by: By::Process,
        name: "",
        view: "",
        title: "",
        short: "",
        groupings: &[],
        empty: "",
        noun: "",
        unknown: "",
    };
}

impl Grouping {
    pub const fn new(name: &'static str, rows: RowsOf) -> Self {
        Self {
            name,
            rows,
            nested: None,
            tree: false,
        }
    }
}

impl By {
    /// Every grouping, in the order of the views.
    pub const ALL: [Self; GROUPS.len()] = {
        let mut all = [Self::Process; GROUPS.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = GROUPS[at].by;
            assert!(all[at] as usize == at, "rows stand in the order of By");
            at += 1;
        }
        all
    };

    /// How many of them have a view; these come first.
    pub const VIEWS: usize = {
        let mut count = 0;
        while count < GROUPS.len() && !GROUPS[count].view.is_empty() {
            count += 1;
        }
        count
    };

    pub const fn def(self) -> &'static GroupDef {
        &GROUPS[self as usize]
    }

    /// Its name on the command line and in outputs.
    pub const fn name(self) -> &'static str {
        self.def().name
    }

    /// The source of its rows.
    pub fn rows(self) -> RowsOf {
        self.def().groupings[0].rows
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A grouping there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no view by `{0}`; choose {known}", known = one_of(&By::ALL.map(By::name)))]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grouping_is_found_by_its_name() {
        for by in By::ALL {
            assert_eq!(by.name().parse(), Ok(by));
        }
        let error = "hosts".parse::<By>().unwrap_err();
        assert!(error.to_string().contains("remote, listener"), "{error}");
        assert!(error.to_string().contains(" or "), "{error}");
    }
}
