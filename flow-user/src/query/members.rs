//! The processes or flows that a row of a grouping stands for.

use std::net::IpAddr;

use super::{
    entry::Id,
    groups::{By, Label, RowsOf, network_of},
};
use crate::model::snapshot::{Flow, Process, Rate, Snapshot};

/// The processes or flows that have a label: those of a remote, a network, a user or a cgroup.
#[derive(Clone, Debug)]
pub struct Members {
    pub(crate) by: By,
    pub(crate) label: Label,
    rows: RowsOf,
}

impl Members {
    /// Those of a row with this label, if they make something that lasts: the endpoints of a single
    /// grouping do not.
    pub(crate) fn of(by: By, label: &Label) -> Option<Self> {
        Some(Self {
            by,
            label: label.clone(),
            rows: RowsOf::with_label(by, label)?,
        })
    }

    /// The grouping whose rows these are.
    pub(crate) const fn rows(&self) -> RowsOf {
        self.rows
    }

    /// The identity of the row.
    pub(crate) fn id(&self) -> Id {
        Id::Label(self.by, self.label.id())
    }

    /// Whether they are flows; otherwise they are processes.
    pub const fn are_flows(&self) -> bool {
        matches!(self.rows, RowsOf::FlowsBy(..))
    }

    /// Whether a process is one of them.
    pub fn have_process(&self, process: &Process) -> bool {
        matches!(self.rows, RowsOf::ProcessesBy(_, key) if self.is(key(process)))
    }

    /// Whether a flow is one of them, or of one of them.
    pub fn have_flow(&self, flow: &Flow) -> bool {
        match self.rows {
            RowsOf::FlowsBy(_, key) => self.is(key(flow)),
            RowsOf::ProcessesBy(..) => {
                let process = flow.process.as_deref();
                process.is_some_and(|process| self.have_process(process))
            }
            _ => false,
        }
    }

    /// Whether the flows of a remote address are among them.
    pub fn have_address(&self, address: IpAddr) -> bool {
        match &self.label {
            Label::Address(own) => *own == address,
            label @ Label::Network(..) => network_of(address) == *label,
            _ => false,
        }
    }

    /// Their rates together.
    pub fn rate(&self, snapshot: &Snapshot) -> Rate {
        let mut sum = Rate::default();
        let mut add = |rate: Rate| {
            sum.tx += rate.tx;
            sum.rx += rate.rx;
        };
        match self.are_flows() {
            true => (snapshot.flows.iter().filter(|flow| self.have_flow(flow)))
                .for_each(|flow| add(flow.rate)),
            false => (snapshot.processes.iter().filter(|it| self.have_process(it)))
                .for_each(|process| add(process.rate)),
        }
        sum
    }

    fn is(&self, label: Option<Label>) -> bool {
        match (label, &self.label) {
            // The name may not be known yet.
            (Some(Label::User(uid, _)), Label::User(own, _)) => uid == *own,
            (Some(label), own) => label == *own,
            (None, _) => false,
        }
    }
}
