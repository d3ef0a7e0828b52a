//! The changes that a reader of the event stream wants.

use std::{collections::BTreeSet, str::FromStr};

use super::filter::Filter;
use crate::model::change::{Change, ChangeSubject, EventKind};

/// A set of event types, as `--only` takes it: names separated by commas, where `flow` and
/// `process` include all of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTypes(BTreeSet<EventKind>);

impl EventTypes {
    /// Every type.
    pub fn all() -> Self {
        Self(EventKind::ALL.into())
    }

    pub fn contains(&self, kind: EventKind) -> bool {
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
            let mut named = EventKind::ALL
                .into_iter()
                .filter(|kind| kind.name() == name || kind.family() == name)
                .peekable();
            if named.peek().is_none() {
                return Err(UnknownType {
                    name: name.escape_debug().to_string(),
                    known: EventKind::ALL.map(EventKind::name).join(", "),
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
    /// A process event passes if the filter matches the process by itself: at exec its flows are
    /// not known yet. Losses and coverage always pass the filter.
    pub fn wants(&self, change: &Change) -> bool {
        self.types.contains(change.kind())
            && match change.subject() {
                ChangeSubject::Flow(flow) => self.filter.matches_flow(flow),
                ChangeSubject::Process(process) => {
                    self.filter.process_verdict(process) == Some(true)
                }
                ChangeSubject::Interface(interface) => self.filter.matches_interface(interface),
                ChangeSubject::Loss(..) | ChangeSubject::Coverage(_) => true,
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
        assert!(types.contains(EventKind::FlowClose));
        assert!(types.contains(EventKind::ProcessExit));
        assert!(!types.contains(EventKind::ProcessExec));
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
