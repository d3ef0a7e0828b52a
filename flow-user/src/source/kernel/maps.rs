//! The kernel side's maps.

use std::hash::Hash;

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, IterableMap, MapData, MapError, PerCpuArray},
};
use flow_common::{AppCounters, AppKey, Loss, ProcessKey, SocketState, limits};

use super::{batch, loader::take, programs::AttachError, tracker::Counters};

/// The maps that hold the truth.
pub struct Maps {
    app: HashMap<MapData, AppKey, AppCounters>,
    sockets: HashMap<MapData, u64, SocketState>,
    overflow: HashMap<MapData, ProcessKey, AppCounters>,
    epoch: Array<MapData, u32>,
    losses: PerCpuArray<MapData, u64>,
}

impl Maps {
    /// Takes them out of the loaded object.
    ///
    /// # Errors
    /// The object lacks one.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, AttachError> {
        Ok(Self {
            app: HashMap::try_from(take(ebpf, "APP")?)?,
            sockets: HashMap::try_from(take(ebpf, "SOCKETS")?)?,
            overflow: HashMap::try_from(take(ebpf, "OVERFLOW")?)?,
            epoch: Array::try_from(take(ebpf, "EPOCH")?)?,
            losses: PerCpuArray::try_from(take(ebpf, "LOSSES")?)?,
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
    pub fn seed_socket(&mut self, cookie: u64, socket: &SocketState) -> Result<(), MapError> {
        const NO_EXIST: u64 = 1;
        match self.sockets.insert(cookie, socket, NO_EXIST) {
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == std::io::ErrorKind::AlreadyExists =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// Whether each socket got an entry so far.
    pub fn has_every_socket(&self) -> bool {
        let refused = self.losses.get(&(Loss::SocketFull as u32), 0);
        refused.is_ok_and(|counts| counts.iter().sum::<u64>() == 0)
    }

    /// What was lost since the programs were attached, by cause; those that never happened left out.
    pub fn losses(&self) -> Vec<(Loss, u64)> {
        Loss::ALL
            .into_iter()
            .filter_map(|cause| {
                let count = self.losses.get(&(cause as u32), 0).ok()?.iter().sum();
                (count != 0).then_some((cause, count))
            })
            .collect()
    }
}

impl Counters for Maps {
    fn app(&self, key: &AppKey) -> Option<AppCounters> {
        self.app.get(key, 0).ok()
    }

    fn socket(&self, cookie: u64) -> Option<SocketState> {
        self.sockets.get(&cookie, 0).ok()
    }

    fn forget_app(&mut self, key: &AppKey) {
        // Gone already is as good.
        let _ = self.app.remove(key);
    }

    fn forget_socket(&mut self, cookie: u64) {
        let _ = self.sockets.remove(&cookie);
    }

    fn all_app(&self) -> Vec<(AppKey, AppCounters)> {
        all(&self.app)
    }

    fn all_sockets(&self) -> Vec<(u64, SocketState)> {
        all(&self.sockets)
    }

    fn all_overflow(&self) -> Vec<(ProcessKey, AppCounters)> {
        all(&self.overflow)
    }
}

/// Every entry of a map, as far as it can be read.
fn all<K: Pod + Eq + Hash, V: Pod>(map: &HashMap<MapData, K, V>) -> Vec<(K, V)> {
    // The largest map has as many. Twice, because entries that come and go may come twice.
    const MOST: usize = 2 * limits::APP_ENTRIES as usize;
    batch::entries(IterableMap::map(map), MOST).unwrap_or_else(|error| {
        log::warn!("a map cannot be read at once: {error}");
        map.iter().flatten().take(MOST).collect()
    })
}
