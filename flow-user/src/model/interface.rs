//! Which interfaces the host has, and the ledger of each: where its bytes went.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    change::{Change, Changes},
    ledger::{self, Way},
    rate::Meter,
    snapshot::Interface,
};
use crate::event::{Bytes, Instant, InterfaceFact, InterfaceSide};

/// The interfaces by index.
#[derive(Debug)]
pub(super) struct InterfaceTable {
    history: Duration,
    entries: BTreeMap<u32, Entry>,
}

#[derive(Debug)]
struct Entry {
    row: Arc<Interface>,
    /// When the last fact was true.
    time: Instant,
    /// The interface's own bytes when it was first seen, ingress and egress: what it counted
    /// before is not the ledger's if no classifier says since when it looked.
    first: (Bytes, Bytes),
    meter: Meter,
    changed: bool,
}

impl InterfaceTable {
    pub(super) fn new(history: Duration) -> Self {
        Self {
            history,
            entries: BTreeMap::new(),
        }
    }

    /// Takes an interface's counters; those of an earlier time than the last are ignored. Returns
    /// its name if that is new.
    pub(super) fn apply(&mut self, fact: InterfaceFact, time: Instant) -> Option<Arc<str>> {
        let known = self.entries.get(&fact.ifindex);
        if known.is_some_and(|known| time < known.time) {
            return None;
        }
        let known = known.filter(|known| known.row.gone.is_none());
        let named = known.is_none_or(|known| known.row.name != fact.name);
        let first = known.map_or((fact.ingress.bytes, fact.egress.bytes), |known| known.first);
        let mut row = draw(fact, first);
        let (meter, changed) = match known {
            Some(known) => {
                row.rate = known.row.rate;
                (known.meter, known.changed || *known.row != row)
            }
            None => {
                let (tx, rx) = (row.egress_ledger.frames, row.ingress_ledger.frames);
                (Meter::starting_at(tx, rx), true)
            }
        };
        let name = named.then(|| row.name.clone());
        let row = match known {
            Some(known) if *known.row == row => known.row.clone(),
            _ => Arc::new(row),
        };
        self.entries.insert(
            row.ifindex,
            Entry {
                row,
                time,
                first,
                meter,
                changed,
            },
        );
        name
    }

    /// An interface is gone.
    pub(super) fn gone(&mut self, ifindex: u32, time: Instant) {
        if let Some(entry) = self.entries.get_mut(&ifindex)
            && entry.row.gone.is_none()
            && time >= entry.time
        {
            let row = Arc::make_mut(&mut entry.row);
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

    /// Tells the ledgers that changed since they were last told.
    pub(super) fn tell(&mut self, time: Instant, changes: &mut Changes) {
        for entry in self.entries.values_mut() {
            if std::mem::take(&mut entry.changed) {
                changes.tell(time, Change::Ledger(entry.row.clone()));
            }
        }
    }

    /// Drops the interfaces that are gone for longer than the history.
    pub(super) fn expire(&mut self, now: Instant) {
        let history = self.history;
        self.entries
            .retain(|_, entry| entry.row.gone.is_none_or(|gone| now.since(gone) < history));
    }

    pub(super) fn rows(&self) -> Vec<Arc<Interface>> {
        let entries = self.entries.values();
        entries.map(|entry| entry.row.clone()).collect()
    }
}

fn draw(fact: InterfaceFact, first: (Bytes, Bytes)) -> Interface {
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
    Interface {
        ifindex,
        name,
        up,
        classified,
        gone: None,
        ingress_ledger: ledger::side(&ingress, since(&ingress, first.0), Way::Ingress),
        egress_ledger: ledger::side(&egress, since(&egress, first.1), Way::Egress),
        ingress,
        egress,
        rate: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::snapshot::Rate;

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
    fn a_name_is_told_when_it_is_new_or_changed() {
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
    fn a_ledger_is_told_once_for_each_change() {
        let mut table = table();
        let mut changes = Changes::default();
        for _ in 0..2 {
            table.apply(fact("a", 1000, 1000), at(1));
            table.tell(at(1), &mut changes);
        }
        assert_eq!(changes.drain().len(), 1);
        table.apply(fact("a", 1001, 1000), at(2));
        table.tell(at(2), &mut changes);
        table.tell(at(3), &mut changes);
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
