//! Actions common to the table, a detail and the help.

use std::sync::Arc;

use super::{
    keymap::Action,
    preferences::Chosen,
    state::{Paused, State},
};
use crate::{
    model::snapshot::Snapshot,
    query::{
        columns::{Column, Show},
        view::By,
    },
};

impl State {
    /// Says a word about the last key.
    pub(super) fn set_note(&mut self, text: impl Into<String>) {
        self.note = Some(text.into());
    }

    /// The first key of each of these actions, with its word.
    pub(super) fn hints(&self, of: &[(Action, &'static str)]) -> Vec<(String, &'static str)> {
        let bindings = self.keys.bindings().iter();
        let hint = |(action, hint): &(Action, &'static str)| {
            let binding = bindings.clone().find(|binding| binding.action == *action);
            Some((binding?.keys.first()?.to_string(), *hint))
        };
        of.iter().filter_map(hint).collect()
    }

    /// Pauses, or shows the latest again.
    pub(super) fn pause(&mut self) {
        if self.paused.take().is_some() {
            self.show_live();
        } else {
            self.paused = Some(Paused {
                since: self.live.time,
                log: self.log.clone(),
                history: self.history.clone(),
            });
        }
    }

    /// Shows the latest snapshot.
    pub(super) fn show_live(&mut self) {
        self.stale |= !fits(self, &self.live);
        self.shown = Arc::clone(&self.live);
        for popup in &mut self.popups {
            popup.renew(&self.shown, &self.states);
        }
    }

    /// What is chosen now, for the configuration.
    pub(super) fn settings(&self) -> Chosen {
        Chosen {
            view: self.view,
            theme: self.theme,
            units: self.units,
            compact: self.compact,
            threshold: self.threshold.setting(),
        }
    }

    pub(super) fn turn_units(&mut self) {
        let units = &mut self.units;
        (units.bits, units.binary) = match (units.bits, units.binary) {
            (false, false) => (false, true),
            (false, true) => (true, false),
            (true, false) => (true, true),
            (true, true) => (false, false),
        };
    }

    pub(super) fn next_threshold(&mut self) {
        self.threshold = self.threshold.next();
        self.set_note(match self.threshold.rate() {
            Some(rate) => format!("alert threshold {}", self.units.rate(rate)),
            None => "no alert threshold".to_owned(),
        });
    }
}

/// Whether the rows would be the same with a snapshot: there are many where a host is busy, and
/// most hosts are idle.
fn fits(state: &State, snapshot: &Snapshot) -> bool {
    // What only the screen knows goes on while nothing moves.
    let by_past = |(column, _): (&Column, bool)| matches!(column.show, Show::Screen(_));
    if state.here().sort.is_some_and(by_past) {
        return false;
    }
    match state.view.def().by {
        None => false,
        Some(By::Interface) => state.shown.has_same_interfaces(snapshot),
        Some(_) => state.shown.has_same_flows(snapshot),
    }
}
