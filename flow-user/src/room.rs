//! Collections whose memory follows their content down.
//!
//! A list or table keeps the room that it once needed. After a burst that would be kept for good,
//! so whoever empties one a bit at a time calls [`Room::give_back`] now and then, at a tick for
//! example.

use std::{collections::VecDeque, hash::Hash};

use foldhash::{HashMap, HashSet};

/// Entries up to which nothing is given back: it would soon be needed again.
const LEAST: usize = 256;

/// A collection with room for more entries than it has.
pub trait Room {
    /// Gives room back, if less than a quarter of it is in use. Half of what stays is free, so
    /// entries that come and go move nothing.
    fn give_back(&mut self);
}

/// The capacity to shrink to, if a collection has far too much.
fn less(length: usize, capacity: usize) -> Option<usize> {
    let has_too_much = capacity > LEAST && length < capacity / 4;
    has_too_much.then(|| (2 * length).max(LEAST / 2))
}

impl<T> Room for Vec<T> {
    fn give_back(&mut self) {
        if let Some(capacity) = less(self.len(), self.capacity()) {
            self.shrink_to(capacity);
        }
    }
}

impl<T> Room for VecDeque<T> {
    fn give_back(&mut self) {
        if let Some(capacity) = less(self.len(), self.capacity()) {
            self.shrink_to(capacity);
        }
    }
}

impl<K: Eq + Hash, V> Room for HashMap<K, V> {
    fn give_back(&mut self) {
        if let Some(capacity) = less(self.len(), self.capacity()) {
            self.shrink_to(capacity);
        }
    }
}

impl<K: Eq + Hash> Room for HashSet<K> {
    fn give_back(&mut self) {
        if let Some(capacity) = less(self.len(), self.capacity()) {
            self.shrink_to(capacity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_follows_the_content_down_and_not_each_entry() {
        let mut list: Vec<u32> = (0..100_000).collect();
        list.truncate(40_000);
        list.give_back();
        assert!(list.capacity() >= 100_000, "more than a quarter is in use");
        list.truncate(10_000);
        list.give_back();
        assert_eq!((list.len(), list.capacity()), (10_000, 20_000));
        let mut table: HashMap<u32, u32> = (0..100_000).map(|key| (key, key)).collect();
        let mut set: HashSet<u32> = (0..100_000).collect();
        let mut queue: VecDeque<u32> = (0..100_000).collect();
        table.retain(|key, _| *key < 10);
        set.retain(|key| *key < 10);
        queue.truncate(10);
        table.give_back();
        set.give_back();
        queue.give_back();
        assert!(table.capacity() < 2 * LEAST && set.capacity() < 2 * LEAST);
        assert!(queue.capacity() < 2 * LEAST);
        assert_eq!((table[&9], set.len(), queue.len()), (9, 10, 10));
        let few = table.capacity();
        table.clear();
        table.give_back();
        assert_eq!(table.capacity(), few, "too little to give back");
    }
}
