//! Names that processes share: paths of cgroups, names of users.

use std::{hash::Hash, sync::Arc};

use foldhash::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

/// Names above which those without a process are dropped.
const MOST: usize = 4_096;

/// Names by what they are of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound(deserialize = "K: Deserialize<'de> + Eq + Hash"))]
pub(super) struct Known<K> {
    names: HashMap<K, Arc<str>>,
    limit: usize,
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self {
            names: HashMap::default(),
            limit: MOST,
        }
    }
}

impl<K: Copy + Eq + Hash> Known<K> {
    pub(super) fn get(&self, of: K) -> Option<&Arc<str>> {
        self.names.get(&of)
    }

    /// Sets a name, or that there is none. `used` are those whose names are never dropped.
    pub(super) fn set(&mut self, of: K, name: Option<Arc<str>>, used: impl Iterator<Item = K>) {
        let Some(name) = name else {
            self.names.remove(&of);
            return;
        };
        self.names.insert(of, name);
        if self.names.len() > self.limit {
            let used: HashSet<_> = used.collect();
            self.names
                .retain(|known, _| *known == of || used.contains(known));
            self.limit = MOST.max(2 * self.names.len());
        }
    }
}
