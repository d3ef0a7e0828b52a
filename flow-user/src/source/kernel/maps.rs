//! The kernel side's maps.

use std::{hash::Hash, io};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, IterableMap, MapData, MapError, PerCpuArray},
};
use flow_common::{AppCounters, AppKey, Loss, ProcessKey, SocketEntry};
use zerocopy::FromBytes;

use super::{
    attach_error::AttachError,
    loader::take,
    map_calls,
    sizes::Sizes,
    tracker::{Counters, Lost, Part},
};

/// The maps that hold the truth.
pub struct Maps {
    app: HashMap<MapData, AppKey, AppCounters>,
    sockets: HashMap<MapData, u64, SocketEntry>,
    overflow: HashMap<MapData, ProcessKey, AppCounters>,
    freed_remotes: HashMap<MapData, u64, u32>,
    epoch: Array<MapData, u32>,
    losses: PerCpuArray<MapData, u64>,
    /// Entries read of one map at most.
    most: usize,
}

impl Maps {
    /// Takes them out of the loaded object.
    ///
    /// # Errors
    /// The object lacks one.
    pub fn take(ebpf: &mut Ebpf, sizes: &Sizes) -> Result<Self, AttachError> {
        Ok(Self {
            app: HashMap::try_from(take(ebpf, "APP")?)?,
            sockets: HashMap::try_from(take(ebpf, "SOCKETS")?)?,
            overflow: HashMap::try_from(take(ebpf, "OVERFLOW")?)?,
            freed_remotes: HashMap::try_from(take(ebpf, "FREED_REMOTES")?)?,
            epoch: Array::try_from(take(ebpf, "EPOCH")?)?,
            losses: PerCpuArray::try_from(take(ebpf, "LOSSES")?)?,
            // Twice, because entries that come and go may come twice.
            most: 2 * sizes.largest_map(),
        })
    }

    /// Begins an epoch.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn set_epoch(&mut self, epoch: u32) -> Result<(), MapError> {
        self.epoch.set(0, epoch, 0)
    }

    /// Puts in a socket that was there before. One that the programs have seen is left as it is.
    ///
    /// # Errors
    /// The map is full.
    pub fn seed_socket(&mut self, cookie: u64, socket: &SocketEntry) -> Result<(), MapError> {
        const NO_EXIST: u64 = 1;
        match self.sockets.insert(cookie, socket, NO_EXIST) {
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::AlreadyExists =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// Every socket. One that comes or goes meanwhile may be missing.
    pub fn all_sockets(&self) -> Vec<(u64, SocketEntry)> {
        all(&self.sockets, self.most)
    }

    /// How much was lost of a cause since the programs were attached, if that can be read.
    fn count(&self, cause: Loss) -> Option<u64> {
        let counts = self.losses.get(&(cause as u32), 0).ok()?;
        Some(counts.iter().sum())
    }

    /// What was lost since the programs were attached, by cause; those that never happened left
    /// out.
    pub fn losses(&self) -> Vec<(Loss, u64)> {
        Loss::ALL
            .into_iter()
            .filter_map(|cause| {
                let count = self.count(cause)?;
                (count != 0).then_some((cause, count))
            })
            .collect()
    }
}

impl Counters for Maps {
    fn app(&self, key: &AppKey) -> Option<AppCounters> {
        self.app.get(key, 0).ok()
    }

    fn socket(&self, cookie: u64) -> Option<SocketEntry> {
        self.sockets.get(&cookie, 0).ok()
    }

    fn take_app(&mut self, key: &AppKey) -> Option<AppCounters> {
        lookup_and_delete(&mut self.app, key)
    }

    fn take_socket(&mut self, cookie: u64) -> Option<SocketEntry> {
        lookup_and_delete(&mut self.sockets, &cookie)
    }

    fn some_app(&self, position: Option<u32>, most: usize) -> Part<AppKey, AppCounters> {
        some(&self.app, position, most, self.most)
    }

    fn some_sockets(&self, position: Option<u32>, most: usize) -> Part<u64, SocketEntry> {
        some(&self.sockets, position, most, self.most)
    }

    fn all_overflow(&self) -> Vec<(ProcessKey, AppCounters)> {
        all(&self.overflow, self.most)
    }

    fn take_overflow(&mut self, process: ProcessKey) -> Option<AppCounters> {
        lookup_and_delete(&mut self.overflow, &process)
    }

    fn set_freed_remotes(&mut self, cookie: u64, freed: u32) {
        if let Err(error) = self.freed_remotes.insert(cookie, freed, 0) {
            log::debug!("{freed} remotes of a socket stay occupied: {error}");
        }
    }

    fn forget_freed_remotes(&mut self, cookie: u64) {
        // It may have found no room.
        let _ = self.freed_remotes.remove(&cookie);
    }

    fn lost(&self) -> Lost {
        let of = |cause| self.count(cause).unwrap_or(0);
        Lost {
            traffic: of(Loss::RingTraffic),
            process: of(Loss::RingProcess),
            app: of(Loss::AppFull),
            sockets: of(Loss::SocketFull),
        }
    }
}

/// Takes an entry out of a map, if it is there.
fn lookup_and_delete<K: Pod, V: Pod + FromBytes>(
    map: &mut HashMap<MapData, K, V>,
    key: &K,
) -> Option<V> {
    match map_calls::lookup_and_delete(IterableMap::map(map), key) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
            let value = map.get(key, 0).ok();
            // Gone already is as good.
            let _ = map.remove(key);
            value
        }
        taken => taken.ok(),
    }
}

/// Some entries of a map. Where the kernel does not give them in parts, all that can be read, at
/// most `all`.
fn some<K: Pod + FromBytes + Eq + Hash, V: Pod + FromBytes>(
    map: &HashMap<MapData, K, V>,
    position: Option<u32>,
    most: usize,
    all: usize,
) -> Part<K, V> {
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    match map_calls::some_entries(IterableMap::map(map), position, most) {
        Ok(part) => part,
        Err(error) => Part {
            entries: one_by_one(map, all, &error),
            next: None,
        },
    }
}

/// Every entry of a map, as far as it can be read.
fn all<K: Pod + FromBytes + Eq + Hash, V: Pod + FromBytes>(
    map: &HashMap<MapData, K, V>,
    most: usize,
) -> Vec<(K, V)> {
    map_calls::entries(IterableMap::map(map), most)
        .unwrap_or_else(|error| one_by_one(map, most, &error))
}

fn one_by_one<K: Pod + Eq + Hash, V: Pod>(
    map: &HashMap<MapData, K, V>,
    most: usize,
    error: &io::Error,
) -> Vec<(K, V)> {
    log::warn!("a map cannot be read at once: {error}");
    map.iter().flatten().take(most).collect()
}

#[cfg(test)]
mod tests;
