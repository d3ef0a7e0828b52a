//! Actions common to the table, a detail and the help.

use std::sync::Arc;

use super::{
    key::Key,
    keymap::Action,
    preferences::Chosen,
    state::{Measures, Paused, Popup, State},
};
use crate::{
    model::snapshot::Snapshot,
    query::{
        columns::{Column, Show},
        entry::Subject,
        history::Watched,
        human::Units,
        view::By,
    },
};

/// The order of rows where no column was chosen.
pub(super) const BUSIEST: &str = "by total rate, highest first";

impl State {
    /// Says a word about the last key.
    pub(super) fn set_note(&mut self, text: impl Into<String>) {
        self.note = Some(text.into());
    }

    /// The key to the newest event, where events are in the order of time.
    pub(super) fn to_newest(&self) -> Option<Action> {
        let (by, _) = self.here().sort?;
        let number = |line| match &self.rows.entry(line)?.subject {
            Subject::Event(event) => Some(event.number),
            _ => None,
        };
        let (first, last) = (number(0)?, number(self.rows.len().checked_sub(1)?)?);
        let in_order = ["number", "time"].contains(&by.name);
        in_order.then_some(match first >= last {
            true => Action::First,
            false => Action::Last,
        })
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
            popup.renew(&self.shown, &self.states, &*self.world);
        }
    }

    /// Begins the graphs of a popup that opens, with what is known already.
    pub(super) fn begin_graphs(&mut self, popup: &dyn Popup) {
        let mut watched = Watched::default();
        popup.watch(&mut watched);
        for group in &watched.groups {
            self.history.begin(group, &self.live);
            if let Some(paused) = &mut self.paused {
                paused.history.begin(group, &self.shown);
            }
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
        let units = *units;
        let mut known = Units::ALL.iter();
        let name = known.find(|(_, it)| *it == units).map_or("", |it| it.0);
        self.set_note(format!("units: {name}"));
    }

    /// Shows rates, totals or both.
    pub(super) fn turn_measures(&mut self) {
        self.measures = self.measures.next();
        self.set_note(match self.measures {
            Measures::Both => "rates and totals",
            Measures::Rates => "rates only",
            Measures::Totals => "totals only",
        });
    }

    /// Sorts by a column; `None` is the default of the view.
    pub(super) fn sort_by(&mut self, column: Option<&'static Column>) {
        let here = self.here_mut();
        here.sort = match column {
            Some(column) => Some((column, false)),
            None => here.first_sort,
        };
        let text = match here.sort {
            Some((sorted, _)) if !sorted.header.is_empty() => {
                format!("sorted by {}", sorted.header)
            }
            Some(_) => "default order".to_owned(),
            None => BUSIEST.to_owned(),
        };
        self.stale = true;
        self.set_note(text);
    }

    /// Says that a key has no meaning here.
    pub(super) fn refuse(&mut self, key: Key) {
        let help = self.hints(&[(Action::Help, "")]);
        let help = help
            .first()
            .map(|(help, _)| format!("; {help} lists the keys"));
        self.set_note(format!("`{key}` does nothing{}", help.unwrap_or_default()));
    }

    /// Says that a key does nothing in the popup on top, and how to leave that.
    pub(super) fn refuse_here(&mut self, key: Key) {
        let back = self.hints(&[(Action::Back, "")]);
        let back = back.first().map(|(back, _)| format!("; {back} goes back"));
        self.set_note(format!(
            "`{key}` does nothing here{}",
            back.unwrap_or_default()
        ));
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
