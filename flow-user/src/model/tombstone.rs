//! Tombstones of dropped sockets and processes, so that a late report of a cumulative total adds
//! only what is new and revives no row.
//!
//! Cookies and process ids (with their start time) are never reused, so a tombstone can be wrong
//! only by being forgotten. Reports come late by two sweeps at most; a tombstone is kept for
//! [`AGE`] after it was last needed, and at most [`COUNT`] are kept. A report still later than that
//! counts as new.

use std::{collections::VecDeque, hash::Hash, time::Duration};

use foldhash::HashMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{event::Instant, room::Room as _};

/// How long a tombstone is kept after it was last needed: two sweeps, and a machine that is busy.
pub(super) const AGE: Duration = Duration::from_secs(25);
/// How many are kept: as many as the kernel's map holds entries that a sweep could still report.
const COUNT: usize = flow_common::limits::APP_ENTRIES as usize;

/// Tombstones by key.
#[derive(Debug)]
pub(super) struct Tombstones<K, V> {
    stones: HashMap<K, (Instant, V)>,
    /// In order of time. A stone that was dug up or renewed leaves its old entry here, which no
    /// longer matches the stone's time.
    queue: VecDeque<(Instant, K)>,
}

impl<K, V> Default for Tombstones<K, V> {
    fn default() -> Self {
        Self {
            stones: HashMap::default(),
            queue: VecDeque::new(),
        }
    }
}

/// In order of time.
impl<K: Copy + Eq + Hash + Serialize, V: Serialize> Serialize for Tombstones<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.queue.iter().filter_map(|(time, key)| {
            let (kept, value) = self.stones.get(key)?;
            (kept == time).then_some((time, key, value))
        }))
    }
}

impl<'de, K, V> Deserialize<'de> for Tombstones<K, V>
where
    K: Copy + Eq + Hash + Deserialize<'de>,
    V: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut stones = Self::default();
        for (time, key, value) in Vec::deserialize(deserializer)? {
            stones.bury(key, value, time);
        }
        Ok(stones)
    }
}

impl<K: Copy + Eq + Hash, V> Tombstones<K, V> {
    pub(super) fn bury(&mut self, key: K, value: V, now: Instant) {
        self.stones.insert(key, (now, value));
        self.queue.push_back((now, key));
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.stones.contains_key(key)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.stones.get_mut(key).map(|(_, value)| value)
    }

    /// Keeps a stone for another [`AGE`].
    pub(super) fn renew(&mut self, key: K, now: Instant) {
        if let Some((time, _)) = self.stones.get_mut(&key)
            && *time != now
        {
            *time = now;
            self.queue.push_back((now, key));
        }
    }

    pub(super) fn dig_up(&mut self, key: &K) -> Option<V> {
        self.stones.remove(key).map(|(_, value)| value)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(time, key)) = self.queue.front() {
            if now.since(time) < AGE && self.queue.len() <= COUNT {
                break;
            }
            self.queue.pop_front();
            if self.stones.get(&key).is_some_and(|(kept, _)| *kept == time) {
                self.stones.remove(&key);
            }
        }
        self.stones.give_back();
        self.queue.give_back();
    }

    /// Entries that there is room for.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.stones.capacity() + self.queue.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    #[test]
    fn kept_for_its_age_and_renewed() {
        let mut stones = Tombstones::default();
        stones.bury(1, "a", at(0));
        stones.bury(2, "b", at(0));
        stones.renew(2, at(10));
        stones.expire(at(24));
        assert!(stones.contains(&1));
        stones.expire(at(25));
        assert!(!stones.contains(&1));
        assert!(stones.contains(&2));
        stones.expire(at(35));
        assert!(!stones.contains(&2));
    }

    #[test]
    fn a_stone_buried_again_is_not_lost_to_its_first_burial() {
        let mut stones = Tombstones::default();
        stones.bury(1, "a", at(0));
        assert_eq!(stones.dig_up(&1), Some("a"));
        stones.bury(1, "b", at(20));
        stones.expire(at(30));
        assert!(stones.contains(&1));
    }

    #[test]
    fn their_number_is_bounded() {
        let mut stones = Tombstones::default();
        for key in 0..COUNT + 10 {
            stones.bury(key, (), at(0));
        }
        stones.expire(at(1));
        assert_eq!(stones.stones.len(), COUNT);
        assert!(!stones.contains(&9));
        assert!(stones.contains(&10));
    }
}
