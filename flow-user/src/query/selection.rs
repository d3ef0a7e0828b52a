//! Which changes a reader of the event stream wants.

use std::{collections::BTreeSet, str::FromStr};

use super::filter::Filter;
use crate::model::change::Change;

/// Type of an event, as in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    FlowOpen,
    FlowUpdate,
    FlowClose,
    ProcessExec,
    ProcessExit,
    Ledger,
    Lost,
    Status,
}

impl EventType {
    /// Every type.
    pub const ALL: [Self; 8] = [
        Self::FlowOpen,
        Self::FlowUpdate,
        Self::FlowClose,
        Self::ProcessExec,
        Self::ProcessExit,
        Self::Ledger,
        Self::Lost,
        Self::Status,
    ];

    /// Its name, the value of `type` in the stream.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FlowOpen => "flow.open",
            Self::FlowUpdate => "flow.update",
            Self::FlowClose => "flow.close",
            Self::ProcessExec => "process.exec",
            Self::ProcessExit => "process.exit",
            Self::Ledger => "ledger",
            Self::Lost => "lost",
            Self::Status => "status",
        }
    }

    /// The type of a change.
    pub const fn of(change: &Change) -> Self {
        match change {
            Change::FlowOpened(_) => Self::FlowOpen,
            Change::FlowUpdated(_) => Self::FlowUpdate,
            Change::FlowClosed(_) => Self::FlowClose,
            Change::ProcessExec(_) => Self::ProcessExec,
            Change::ProcessExit { .. } => Self::ProcessExit,
            Change::Ledger(_) => Self::Ledger,
            Change::Lost { .. } => Self::Lost,
            Change::Status(_) => Self::Status,
        }
    }
}

/// A set of event types, as `--only` takes it: names divided by commas, where `flow` and `process`
/// stand for all of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTypes(BTreeSet<EventType>);

impl EventTypes {
    /// Every type.
    pub fn all() -> Self {
        Self(EventType::ALL.into())
    }

    pub fn contains(&self, kind: EventType) -> bool {
        self.0.contains(&kind)
    }
}

/// An event type there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no event type `{name}`; choose among flow, process, {known}")]
pub struct UnknownType {
    name: String,
    known: String,
}

impl FromStr for EventTypes {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let mut types = BTreeSet::new();
        for name in text.split(',').map(str::trim) {
            let family = |kind: &EventType| kind.name().split('.').next() == Some(name);
            let mut named = EventType::ALL
                .into_iter()
                .filter(|kind| kind.name() == name || family(kind))
                .peekable();
            if named.peek().is_none() {
                return Err(UnknownType {
                    name: name.escape_debug().to_string(),
                    known: EventType::ALL.map(EventType::name).join(", "),
                });
            }
            types.extend(named);
        }
        Ok(Self(types))
    }
}

/// A filter and a set of types.
#[derive(Clone, Debug)]
pub struct Selection {
    pub filter: Filter,
    pub types: EventTypes,
}

impl Selection {
    /// Whether the reader wants `change`.
    ///
    /// A process event passes if the filter says yes of the process by itself: at exec nobody
    /// knows which flows it will have. What was lost and how things are covered always passes the filter.
    pub fn wants(&self, change: &Change) -> bool {
        self.types.contains(EventType::of(change))
            && match change {
                Change::FlowOpened(flow) | Change::FlowUpdated(flow) | Change::FlowClosed(flow) => {
                    self.filter.matches_flow(flow)
                }
                Change::ProcessExec(process) | Change::ProcessExit { process, .. } => {
                    self.filter.process_verdict(process) == Some(true)
                }
                Change::Ledger(interface) => self.filter.matches_interface(interface),
                Change::Lost { .. } | Change::Status(_) => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{event::Loss, query::fixture};

    #[test]
    fn types_by_name_and_by_family() {
        let types: EventTypes = "flow, process.exit,flow.open".parse().unwrap();
        assert!(types.contains(EventType::FlowClose));
        assert!(types.contains(EventType::ProcessExit));
        assert!(!types.contains(EventType::ProcessExec));
        assert!("".parse::<EventTypes>().is_err());
        let error = "flow,flows".parse::<EventTypes>().unwrap_err();
        assert!(error.to_string().contains("`flows`"), "{error}");
    }

    #[test]
    fn losses_pass_every_filter() {
        let curl = fixture::process(1, "/usr/bin/curl", &[]);
        let web = Arc::new(fixture::flow(1, &curl, "10.0.0.2:1", Some("10.0.0.3:443")));
        let wants = |filter: &str, change: &Change| {
            Selection {
                filter: Filter::parse(filter, &|_| None).unwrap(),
                types: EventTypes::all(),
            }
            .wants(change)
        };
        assert!(wants("port 443", &Change::FlowOpened(Arc::clone(&web))));
        assert!(!wants("port 80", &Change::FlowOpened(web)));
        assert!(wants(
            "process curl",
            &Change::ProcessExec(Arc::clone(&curl))
        ));
        assert!(!wants("port 443", &Change::ProcessExec(curl)));
        let lost = Change::Lost {
            cause: Loss::RingTraffic,
            count: 1,
        };
        assert!(wants("port 80", &lost));
    }
}
