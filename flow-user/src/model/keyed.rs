//! A map that is a plain list while it is small.
//!
//! Nearly every socket has one row and one counter, a UDP server has thousands: the list costs the
//! first nothing, the index saves the second. Positions never change, so they serve as references.

use std::hash::Hash;

use foldhash::HashMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

/// Entries up to which a search of the list is faster than hashing.
const LIST: usize = 12;

/// A map from `K` to `V` that keeps the order of insertion.
#[derive(Debug)]
pub(super) struct Keyed<K, V> {
    /// Most have one entry, which needs no memory of its own.
    entries: SmallVec<[(K, V); 1]>,
    /// Boxed, because most maps never have one.
    index: Option<Box<Index<K>>>,
}

#[derive(Debug)]
struct Index<K>(HashMap<K, usize>);

impl<K, V> Default for Keyed<K, V> {
    fn default() -> Self {
        Self {
            entries: SmallVec::new(),
            index: None,
        }
    }
}

/// As the list; what the index says follows from it.
impl<K: Serialize, V: Serialize> Serialize for Keyed<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.entries.as_slice().serialize(serializer)
    }
}

impl<'de, K, V> Deserialize<'de> for Keyed<K, V>
where
    K: Copy + Eq + Hash + Deserialize<'de>,
    V: Deserialize<'de>,
{
    /// Of entries with the same key the first counts.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut keyed = Self::default();
        for (key, value) in Vec::<(K, V)>::deserialize(deserializer)? {
            if keyed.position(&key).is_none() {
                keyed.push(key, value);
            }
        }
        Ok(keyed)
    }
}

impl<K: Copy + Eq + Hash, V> Keyed<K, V> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn position(&self, key: &K) -> Option<usize> {
        match &self.index {
            Some(index) => index.0.get(key).copied(),
            None => self.entries.iter().position(|(known, _)| known == key),
        }
    }

    pub(super) fn key(&self, position: usize) -> K {
        self.entries[position].0
    }

    pub(super) fn at(&self, position: usize) -> &V {
        &self.entries[position].1
    }

    pub(super) fn at_mut(&mut self, position: usize) -> &mut V {
        &mut self.entries[position].1
    }

    /// Adds an entry whose key must be new, and returns its position.
    pub(super) fn push(&mut self, key: K, value: V) -> usize {
        debug_assert!(self.position(&key).is_none(), "the key is new");
        let position = self.entries.len();
        self.entries.push((key, value));
        match &mut self.index {
            Some(index) => {
                index.0.insert(key, position);
            }
            None if self.entries.len() > LIST => {
                let entries = self.entries.iter().enumerate();
                let positions = entries.map(|(at, (key, _))| (*key, at)).collect();
                self.index = Some(Box::new(Index(positions)));
            }
            None => {}
        }
        position
    }

    /// Gives an entry another key, which must be new.
    pub(super) fn rekey(&mut self, position: usize, key: K) {
        debug_assert!(self.position(&key).is_none(), "the key is new");
        let old = std::mem::replace(&mut self.entries[position].0, key);
        if let Some(index) = &mut self.index {
            index.0.remove(&old);
            index.0.insert(key, position);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.entries.iter()
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (K, V)> {
        self.entries.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_maps_answer_alike() {
        let mut map = Keyed::default();
        for key in 0..100_u32 {
            assert_eq!(map.position(&key), None);
            assert_eq!(map.push(key, key * 2), key as usize);
            assert_eq!(map.position(&(key / 2)), Some(key as usize / 2));
        }
        assert_eq!(map.len(), 100);
        map.rekey(3, 1000);
        assert_eq!(map.position(&3), None);
        assert_eq!(map.position(&1000), Some(3));
        assert_eq!(*map.at(3), 6);
    }

    #[test]
    fn a_small_map_can_be_rekeyed() {
        let mut map = Keyed::default();
        map.push("a", 1);
        map.rekey(0, "b");
        assert_eq!(map.position(&"a"), None);
        assert_eq!(map.position(&"b"), Some(0));
        assert_eq!(map.key(0), "b");
    }
}
