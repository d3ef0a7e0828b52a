//! Maps in memory, in the place of the kernel's.

use std::collections::HashMap;

use flow_common::{AppCounters, AppKey, ProcessKey, SocketEntry};

use super::{Counters, Lost};

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

    fn all_app(&self) -> Vec<(AppKey, AppCounters)> {
        self.app.iter().map(|(key, app)| (*key, *app)).collect()
    }

    fn all_sockets(&self) -> Vec<(u64, SocketEntry)> {
        let listed = self
            .sockets
            .iter()
            .filter(|(c, _)| Some(**c) != self.unlisted);
        listed.map(|(c, s)| (*c, *s)).collect()
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
