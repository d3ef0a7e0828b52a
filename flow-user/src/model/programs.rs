//! What programs moved through processes that are no longer listed, so that a program's totals
//! never fall.
//!
//! A program is known by the name that its processes show. What a process moved before it took
//! another name stays with the program that it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::event::AppTotals;

/// Programs kept at most, besides those with listed processes.
const MOST: usize = 4_096;
/// Those that stay when there are more: with room for others, so that there are not more at once.
const LEFT: usize = MOST - MOST / 8;

/// What unlisted processes moved, and how many there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    pub totals: AppTotals,
    pub processes: u64,
}

/// The past of each program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Programs {
    pub named: BTreeMap<Arc<str>, Past>,
    /// Of the programs that are no longer kept apart.
    pub others: Past,
}

impl Past {
    pub(super) fn add(&mut self, other: Self) {
        self.totals += other.totals;
        self.processes = self.processes.saturating_add(other.processes);
    }

    /// Bytes in both directions.
    fn bytes(&self) -> u64 {
        let AppTotals {
            tx_bytes, rx_bytes, ..
        } = self.totals;
        tx_bytes.0.saturating_add(rx_bytes.0)
    }
}

impl Programs {
    /// A process of this name is no longer listed, or has another name.
    pub(super) fn add(&mut self, name: &Arc<str>, past: Past) {
        match self.named.get_mut(name) {
            Some(known) => known.add(past),
            None => {
                self.named.insert(Arc::clone(name), past);
            }
        }
    }

    /// Whether no process has left anything.
    pub(super) fn is_empty(&self) -> bool {
        self.named.is_empty() && self.others == Past::default()
    }

    pub(super) fn is_over_full(&self) -> bool {
        self.named.len() > MOST
    }

    /// Puts programs together that moved least, but not those with listed processes: their rows
    /// would fall.
    pub(super) fn shrink(&mut self, listed: &BTreeSet<Arc<str>>) {
        let gone = self
            .named
            .iter()
            .filter(|(name, _)| !listed.contains(*name));
        let mut gone: Vec<(u64, Arc<str>)> = gone
            .map(|(name, past)| (past.bytes(), Arc::clone(name)))
            .collect();
        gone.sort_unstable();
        let surplus = self.named.len().saturating_sub(LEFT);
        for (_, name) in gone.into_iter().take(surplus) {
            if let Some(past) = self.named.remove(&name) {
                self.others.add(past);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Bytes;

    fn past(bytes: u64) -> Past {
        Past {
            totals: AppTotals {
                rx_bytes: Bytes(bytes),
                ..AppTotals::default()
            },
            processes: 1,
        }
    }

    #[test]
    fn the_least_are_put_together_and_those_that_are_listed_stay() {
        let mut programs = Programs::default();
        let count = MOST as u64 + 1;
        for number in 0..count {
            programs.add(&format!("{number}").into(), past(number));
        }
        assert!(programs.is_over_full());
        let all: u64 = programs.named.values().map(Past::bytes).sum();
        programs.shrink(&BTreeSet::from(["3".into()]));
        assert!(!programs.is_over_full());
        assert_eq!(programs.named.len(), LEFT);
        assert!(programs.named.contains_key("3"));
        assert!(!programs.named.contains_key("4"));
        assert!(programs.named.contains_key(&*(count - 1).to_string()));
        let left: u64 = programs.named.values().map(Past::bytes).sum();
        assert_eq!(left + programs.others.bytes(), all);
        assert_eq!(programs.others.processes, count - LEFT as u64);
    }
}
