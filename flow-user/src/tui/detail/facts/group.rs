//! Facts of a remote, a network, a user or a cgroup.

use super::{Fact, failed, moment, moved, on_the_wire};
use crate::{
    query::{groups::Label, human, members::Members},
    tui::{detail::Detail, state::State},
};

/// All facts.
pub(super) fn of(state: &State, detail: &Detail, members: &Members) -> Vec<Fact> {
    let mut facts = head(state, detail, members);
    facts.extend(moved(state, detail.sums.app));
    facts.extend(on_the_wire(
        state,
        &detail.sums.sockets,
        "TCP socket",
        "TCP sockets",
    ));
    facts
}

/// What identifies it, and what it has.
pub(super) fn head(state: &State, detail: &Detail, members: &Members) -> Vec<Fact> {
    let sums = &detail.sums;
    let mut facts = Vec::new();
    if let Label::Text(path) = &members.label {
        facts.push(("path", path.to_string()));
    }
    if let Some(seen) = sums.seen {
        let first = match seen.found {
            true => "before Flow began".to_owned(),
            false => moment(state, seen.first),
        };
        facts.push(("first seen", first));
        facts.push(("last seen", moment(state, seen.last)));
    }
    let failed = match failed(sums.failures) {
        Some(failed) => format!("connections: {failed}"),
        None => "no connections".to_owned(),
    };
    facts.push(("failed", failed));
    facts
}

/// How many flows it has.
pub(super) fn short_life(detail: &Detail) -> String {
    human::count(detail.sums.flows as usize, "open flow", "open flows")
}

/// How many processes and flows it has.
pub(super) fn life(detail: &Detail) -> String {
    let processes = detail.sums.processes as usize;
    let processes = human::count(processes, "process", "processes");
    format!("{processes}, {}", short_life(detail))
}
