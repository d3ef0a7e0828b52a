//! The interface table, with the ledger of each interface: the causes of its bytes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    change::{Change, Changes},
    ledger::{Account, Side},
    rate::Meter,
    snapshot::{Interface, Rate},
};
use crate::event::{Bytes, Instant, InterfaceFact, InterfaceSide};

/// Ledgers kept of interfaces that left the history, in case they come back.
const PAST: usize = 1024;

/// The interfaces by index.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InterfaceTable {
    #[serde(skip)]
    history: Duration,
    entries: BTreeMap<u32, Entry>,
    /// Ledgers of interfaces that are gone or renamed, by index and name; the earliest first.
    past: VecDeque<(u32, Arc<str>, Accounts)>,
}

/// The ledger of an interface over time. It goes on when an interface of the same index and name
/// comes back, as after a stay in another network namespace.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Accounts {
    ingress: Account,
    egress: Account,
}

impl Accounts {
    fn restart(&mut self) {
        self.ingress.restart();
        self.egress.restart();
    }

    fn rise_to(&mut self, other: &Self) {
        self.ingress.rise_to(&other.ingress);
        self.egress.rise_to(&other.egress);
    }

    fn close(&mut self, row: &mut Interface) {
        row.ingress_ledger = self.ingress.close();
        row.egress_ledger = self.egress.close();
    }

    fn meter(&self) -> Meter {
        let (tx, rx) = (self.egress.shown(), self.ingress.shown());
        Meter::starting_at(tx.frames, rx.frames)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    row: Arc<Interface>,
    /// Whether nothing of it was reported yet.
    is_new: bool,
    /// When the last fact was true.
    time: Instant,
    /// The interface's own bytes when it was first seen, ingress and egress: what it counted
    /// before is not the ledger's if no classifier says since when it looked.
    first: (Bytes, Bytes),
    accounts: Accounts,
    meter: Meter,
    changed: bool,
}

impl InterfaceTable {
    pub(super) fn new(history: Duration) -> Self {
        Self {
            history,
            entries: BTreeMap::new(),
            past: VecDeque::new(),
        }
    }

    /// Resumes from a keyframe.
    pub(super) fn resume(&mut self, history: Duration) {
        self.history = history;
    }

    /// Takes an interface's counters; those of an earlier time than the last are ignored. Returns
    /// its name if that is new.
    pub(super) fn apply(&mut self, fact: InterfaceFact, time: Instant) -> Option<Arc<str>> {
        let known = self.entries.get(&fact.ifindex);
        if known.is_some_and(|known| time < known.time) {
            return None;
        }
        let now = (fact.ingress.bytes, fact.egress.bytes);
        let mut entry = match self.entries.remove(&fact.ifindex) {
            Some(known) if known.row.gone.is_none() => known,
            gone => {
                if let Some(gone) = gone {
                    self.keep(&gone.row, gone.accounts);
                }
                let mut accounts = self.take_past(fact.ifindex, &fact.name);
                accounts.restart();
                Entry::new(&fact, accounts, now, time)
            }
        };
        if entry.row.name != fact.name {
            self.keep(&entry.row, entry.accounts.clone());
            let past = self.take_past(fact.ifindex, &fact.name);
            entry.accounts.rise_to(&past);
        }
        if entry.row.classified != fact.classified {
            entry.first = now;
            entry.accounts.restart();
        }
        let named = entry.is_new || entry.row.name != fact.name;
        let row = draw(fact, entry.first, &mut entry.accounts, entry.row.rate, time);
        if entry.is_new {
            entry.meter = entry.accounts.meter();
        }
        if entry.is_new || *entry.row != row {
            entry.row = Arc::new(row);
            entry.changed = true;
        }
        entry.is_new = false;
        entry.time = time;
        let name = named.then(|| entry.row.name.clone());
        self.entries.insert(entry.row.ifindex, entry);
        name
    }

    /// Keeps the ledger of an interface that is gone, or has another name now.
    fn keep(&mut self, row: &Interface, accounts: Accounts) {
        if self.past.len() >= PAST {
            self.past.pop_front();
        }
        self.past
            .push_back((row.ifindex, row.name.clone(), accounts));
    }

    /// The ledger of an interface as it left, if it was here before.
    fn take_past(&mut self, ifindex: u32, name: &Arc<str>) -> Accounts {
        let is_it = |(index, of, _): &(u32, Arc<str>, Accounts)| *index == ifindex && of == name;
        let place = self.past.iter().position(is_it);
        let past = place.and_then(|place| self.past.remove(place));
        past.map(|(_, _, accounts)| accounts).unwrap_or_default()
    }

    /// An interface is gone.
    pub(super) fn gone(&mut self, ifindex: u32, time: Instant) {
        if let Some(entry) = self.entries.get_mut(&ifindex)
            && entry.row.gone.is_none()
            && time >= entry.time
        {
            let row = Arc::make_mut(&mut entry.row);
            entry.accounts.close(row);
            row.gone = Some(time);
            row.up = false;
            entry.time = time;
            entry.changed = true;
        }
    }

    pub(super) fn name(&self, ifindex: u32) -> Option<Arc<str>> {
        let entry = self.entries.get(&ifindex)?;
        Some(entry.row.name.clone())
    }

    /// Takes the rates since the last tick; `elapsed` must not be zero.
    pub(super) fn rates(&mut self, elapsed: Duration) {
        for entry in self.entries.values_mut() {
            let (tx, rx) = (
                entry.row.egress_ledger.frames,
                entry.row.ingress_ledger.frames,
            );
            let rate = entry.meter.tick(tx, rx, elapsed);
            if rate != entry.row.rate {
                Arc::make_mut(&mut entry.row).rate = rate;
            }
        }
    }

    /// Emits the ledgers that changed since the last report.
    pub(super) fn emit_changes(&mut self, time: Instant, changes: &mut Changes) {
        for entry in self.entries.values_mut() {
            if std::mem::take(&mut entry.changed) {
                changes.emit(time, Change::Ledger(entry.row.clone()));
            }
        }
    }

    /// The end: the last reading of each is its last.
    pub(super) fn finish(&mut self) {
        for entry in self.entries.values_mut() {
            let before = (entry.row.ingress_ledger, entry.row.egress_ledger);
            let mut row = Interface::clone(&entry.row);
            entry.accounts.close(&mut row);
            if (row.ingress_ledger, row.egress_ledger) != before {
                entry.row = Arc::new(row);
                entry.changed = true;
            }
        }
    }

    /// Drops the interfaces that are gone for longer than the history.
    pub(super) fn expire(&mut self, now: Instant) {
        let history = self.history;
        let is_over = |entry: &Entry| {
            let gone = entry.row.gone;
            gone.is_some_and(|gone| now.since(gone) >= history)
        };
        let over: Vec<u32> = (self.entries.iter())
            .filter(|(_, entry)| is_over(entry))
            .map(|(ifindex, _)| *ifindex)
            .collect();
        for ifindex in over {
            if let Some(entry) = self.entries.remove(&ifindex) {
                self.keep(&entry.row, entry.accounts);
            }
        }
    }

    pub(super) fn rows(&self) -> Vec<Arc<Interface>> {
        let entries = self.entries.values();
        entries.map(|entry| entry.row.clone()).collect()
    }
}

impl Entry {
    /// A place for an interface of which nothing was reported yet.
    fn new(fact: &InterfaceFact, accounts: Accounts, first: (Bytes, Bytes), time: Instant) -> Self {
        Self {
            row: Arc::new(Interface {
                ifindex: fact.ifindex,
                name: fact.name.clone(),
                up: fact.up,
                classified: fact.classified,
                gone: None,
                ingress: fact.ingress,
                egress: fact.egress,
                ingress_ledger: *accounts.ingress.shown(),
                egress_ledger: *accounts.egress.shown(),
                rate: Rate::default(),
            }),
            is_new: true,
            time,
            first,
            accounts,
            meter: Meter::default(),
            changed: true,
        }
    }
}

fn draw(
    fact: InterfaceFact,
    first: (Bytes, Bytes),
    accounts: &mut Accounts,
    rate: Rate,
    time: Instant,
) -> Interface {
    let InterfaceFact {
        ifindex,
        name,
        up,
        classified,
        ingress,
        egress,
    } = fact;
    let since = |side: &InterfaceSide, first: Bytes| {
        if classified {
            side.bytes_at_attach
        } else {
            first
        }
    };
    let (since_ingress, since_egress) = (since(&ingress, first.0), since(&egress, first.1));
    let Accounts {
        ingress: received,
        egress: sent,
    } = accounts;
    Interface {
        ifindex,
        name,
        up,
        classified,
        gone: None,
        ingress_ledger: received.take(&ingress, since_ingress, Side::Ingress, time),
        egress_ledger: sent.take(&egress, since_egress, Side::Egress, time),
        ingress,
        egress,
        rate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn fact(name: &str, rx: u64, tx: u64) -> InterfaceFact {
        let side = |bytes| InterfaceSide {
            bytes: Bytes(bytes),
            bytes_at_attach: Bytes(1000),
            ..InterfaceSide::default()
        };
        InterfaceFact {
            ifindex: 2,
            name: name.into(),
            up: true,
            classified: true,
            ingress: side(rx),
            egress: side(tx),
        }
    }

    fn table() -> InterfaceTable {
        InterfaceTable::new(Duration::from_secs(10))
    }

    fn row(table: &InterfaceTable) -> Arc<Interface> {
        table.rows()[0].clone()
    }

    #[test]
    fn a_name_is_reported_when_it_is_new_or_changed() {
        let mut table = table();
        assert_eq!(table.apply(fact("a", 0, 0), at(1)).as_deref(), Some("a"));
        assert_eq!(table.apply(fact("a", 0, 0), at(2)), None);
        assert_eq!(table.apply(fact("b", 0, 0), at(3)).as_deref(), Some("b"));
    }

    #[test]
    fn an_older_fact_is_ignored() {
        let mut table = table();
        table.apply(fact("a", 3000, 2000), at(2));
        table.apply(fact("a", 1000, 1000), at(1));
        assert_eq!(row(&table).ingress_ledger.frames, Bytes(2000));
    }

    #[test]
    fn a_ledger_is_reported_once_for_each_change() {
        let mut table = table();
        let mut changes = Changes::default();
        for _ in 0..2 {
            table.apply(fact("a", 1000, 1000), at(1));
            table.emit_changes(at(1), &mut changes);
        }
        assert_eq!(changes.drain().len(), 1);
        table.apply(fact("a", 1001, 1000), at(2));
        table.emit_changes(at(2), &mut changes);
        table.emit_changes(at(3), &mut changes);
        assert_eq!(changes.drain().len(), 1);
    }

    #[test]
    fn rates_are_of_frames_and_ingress_is_rx() {
        let mut table = table();
        table.apply(fact("a", 5000, 1000), at(1));
        table.rates(Duration::from_secs(1));
        assert_eq!(row(&table).rate, Rate::default());
        table.apply(fact("a", 7000, 1600), at(3));
        table.rates(Duration::from_secs(2));
        let expected = Rate {
            tx: 300.0,
            rx: 1000.0,
        };
        assert_eq!(row(&table).rate, expected);
    }

    #[test]
    fn without_a_classifier_the_ledger_counts_from_the_first_sight_and_explains_nothing() {
        let mut table = table();
        for (rx, seconds) in [(9000, 1), (9500, 2)] {
            let fact = InterfaceFact {
                classified: false,
                ..fact("a", rx, 0)
            };
            table.apply(fact, at(seconds));
        }
        let ledger = row(&table).ingress_ledger;
        assert_eq!(ledger.frames, Bytes(500));
        assert_eq!(ledger.unexplained, 500);
    }

    #[test]
    fn an_interface_that_comes_back_goes_on_and_another_begins() {
        for waiting in [3, 30] {
            let mut table = table();
            table.apply(fact("a", 2000, 1000), at(1));
            table.gone(2, at(2));
            table.expire(at(waiting));
            table.apply(fact("a", 1100, 1000), at(waiting));
            assert_eq!(row(&table).ingress_ledger.frames, Bytes(1100));
            table.rates(Duration::from_secs(1));
            assert_eq!(row(&table).rate, Rate::default());
            table.gone(2, at(40));
            table.apply(fact("b", 1300, 1000), at(41));
            assert_eq!(row(&table).ingress_ledger.frames, Bytes(300));
            table.gone(2, at(42));
            table.apply(fact("a", 1001, 1000), at(43));
            assert_eq!(row(&table).ingress_ledger.frames, Bytes(1101));
        }
    }

    #[test]
    fn classifiers_that_come_later_begin_no_ledger_anew() {
        let mut table = table();
        for (rx, seconds) in [(9000, 1), (9500, 2)] {
            let fact = InterfaceFact {
                classified: false,
                ..fact("a", rx, 0)
            };
            table.apply(fact, at(seconds));
        }
        table.apply(fact("a", 1007, 0), at(3));
        assert_eq!(row(&table).ingress_ledger.frames, Bytes(507));
    }

    #[test]
    fn a_gone_interface_stays_for_the_history_and_its_index_can_be_taken_again() {
        let mut table = table();
        table.apply(fact("a", 2000, 1000), at(1));
        table.gone(2, at(2));
        assert_eq!(row(&table).gone, Some(at(2)));
        table.expire(at(11));
        assert_eq!(table.rows().len(), 1);
        assert_eq!(
            table.apply(fact("a", 1000, 1000), at(11)).as_deref(),
            Some("a")
        );
        assert_eq!(row(&table).gone, None);
        table.gone(2, at(12));
        table.expire(at(22));
        assert!(table.rows().is_empty());
    }
}
