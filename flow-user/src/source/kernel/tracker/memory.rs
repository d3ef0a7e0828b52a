//! Maps in memory, in the place of the kernel's.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash},
};

use flow_common::{AppCounters, AppKey, ProcessKey, SocketEntry};

use super::{Counters, Lost, Part};

/// Buckets of a map, which are read whole.
const BUCKETS: u32 = 64;

/// What the kernel side counted.
#[derive(Debug, Default)]
pub(crate) struct Maps {
    pub app: HashMap<AppKey, AppCounters>,
    pub sockets: HashMap<u64, SocketEntry>,
    pub overflow: HashMap<ProcessKey, AppCounters>,
    pub freed_remotes: HashMap<u64, u32>,
    pub lost: Lost,
    /// Left out where all sockets are read, as it may happen while the map changes.
    pub unlisted: Option<u64>,
}

impl Counters for Maps {
    fn app(&self, key: &AppKey) -> Option<AppCounters> {
        self.app.get(key).copied()
    }

    fn socket(&self, cookie: u64) -> Option<SocketEntry> {
        self.sockets.get(&cookie).copied()
    }

    fn take_app(&mut self, key: &AppKey) -> Option<AppCounters> {
        self.app.remove(key)
    }

    fn take_socket(&mut self, cookie: u64) -> Option<SocketEntry> {
        self.sockets.remove(&cookie)
    }

    fn some_app(&self, position: Option<u32>, most: usize) -> Part<AppKey, AppCounters> {
        part(&self.app, position, most, |_| true)
    }

    fn some_sockets(&self, position: Option<u32>, most: usize) -> Part<u64, SocketEntry> {
        part(&self.sockets, position, most, |cookie| {
            Some(*cookie) != self.unlisted
        })
    }

    fn all_overflow(&self) -> Vec<(ProcessKey, AppCounters)> {
        self.overflow.iter().map(|(p, app)| (*p, *app)).collect()
    }

    fn take_overflow(&mut self, process: ProcessKey) -> Option<AppCounters> {
        self.overflow.remove(&process)
    }

    fn set_freed_remotes(&mut self, cookie: u64, freed: u32) {
        self.freed_remotes.insert(cookie, freed);
    }

    fn forget_freed_remotes(&mut self, cookie: u64) {
        self.freed_remotes.remove(&cookie);
    }

    fn lost(&self) -> Lost {
        self.lost
    }
}

/// The entries of the buckets from a position on, as the kernel gives them.
fn part<K: Copy + Ord + Hash, V: Copy>(
    map: &HashMap<K, V>,
    position: Option<u32>,
    most: usize,
    is_listed: impl Fn(&K) -> bool,
) -> Part<K, V> {
    let bucket = |key: &K| {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        (hash % u64::from(BUCKETS)) as u32
    };
    let mut buckets = BTreeMap::<u32, Vec<(K, V)>>::new();
    for (key, value) in map.iter().filter(|(key, _)| is_listed(key)) {
        let bucket = bucket(key);
        if bucket >= position.unwrap_or(0) {
            buckets.entry(bucket).or_default().push((*key, *value));
        }
    }
    let mut entries = Vec::new();
    for (bucket, found) in buckets {
        if !entries.is_empty() && entries.len() + found.len() > most {
            let next = Some(bucket);
            return Part { entries, next };
        }
        entries.extend(found);
    }
    let next = None;
    Part { entries, next }
}
