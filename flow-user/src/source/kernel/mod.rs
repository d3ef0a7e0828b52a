//! Where events come from when the kernel can run our programs.

pub mod btf;
mod classifier;
pub mod environment;
mod facts;
pub mod limits;
mod loader;
mod maps;
mod offsets;
pub mod probe;
mod programs;
mod qdisc;
pub mod ring;
mod tracker;
mod trial;

use std::{io, path::PathBuf, time::Duration};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use flow_common::Loss;
use nix::time::{ClockId, clock_gettime};
use tokio::io::unix::AsyncFd;

use self::{btf::Btf, maps::Maps, probe::AppBackend, programs::AttachError, tracker::Tracker};
use crate::event::{Event, Instant, Timed};

pub use self::loader::LoadError;

/// Ticks between two sweeps.
const SWEEP_TICKS: u32 = 10;
/// Records taken from the ring buffer in one go, so that ticks and signals get their turn.
const BATCH: usize = 4096;

/// What to attach.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The only backend to try for app bytes.
    pub backend: Option<AppBackend>,
    /// Root of the cgroup v2 tree, where there is one.
    pub cgroup_root: Option<PathBuf>,
}

/// Why Flow can't listen to the kernel.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error("no way to count app bytes works here: {0}")]
    NoBackend(String),
    #[error("cannot wait for the ring buffer: {0}")]
    Ring(io::Error),
}

/// The programs in the kernel, and what they tell.
pub struct Kernel {
    ebpf: Ebpf,
    ring: AsyncFd<RingBuf<MapData>>,
    maps: Maps,
    tracker: Tracker,
    epoch: u32,
    ticks: u32,
    backend: AppBackend,
}

impl Kernel {
    /// Loads and attaches.
    ///
    /// # Errors
    /// The kernel refuses something that there is no substitute for.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let btf = Btf::from_kernel().map_err(LoadError::from)?;
        let mut ebpf = loader::load(&btf)?;
        let mut maps = Maps::take(&mut ebpf)?;
        let epoch = 1;
        maps.set_epoch(epoch).map_err(AttachError::from)?;
        let ring =
            RingBuf::try_from(loader::take(&mut ebpf, "RING")?).map_err(AttachError::from)?;
        let ring = AsyncFd::new(ring).map_err(StartError::Ring)?;
        if let Some(root) = &options.cgroup_root {
            programs::attach_sockets(&mut ebpf, root)?;
            programs::attach_packets(&mut ebpf, root)?;
        }
        programs::attach_lives(&mut ebpf)?;
        let backend = attach_app(&mut ebpf, &btf, options)?;
        Ok(Self {
            ebpf,
            ring,
            maps,
            tracker: Tracker::default(),
            epoch,
            ticks: 0,
            backend,
        })
    }

    /// The backend that counts app bytes.
    pub fn backend(&self) -> AppBackend {
        self.backend
    }

    /// Waits for records; their events go to `out`.
    ///
    /// # Errors
    /// The ring buffer can't be waited for.
    pub async fn next(&mut self, out: &mut Vec<Timed>) -> io::Result<()> {
        let mut ready = self.ring.readable_mut().await?;
        let mut count = 0;
        while let Some(item) = ready.get_inner_mut().next() {
            match ring::decode(&item) {
                Some(record) => self.tracker.record(record, &self.maps, out),
                None => log::warn!("a record of {} bytes that nobody knows", item.len()),
            }
            count += 1;
            if count == BATCH {
                // Still ready: the next call goes on.
                return Ok(());
            }
        }
        ready.clear_ready();
        Ok(())
    }

    /// Takes everything the ring buffer holds.
    fn drain(&mut self, out: &mut Vec<Timed>) {
        while let Some(item) = self.ring.get_mut().next() {
            if let Some(record) = ring::decode(&item) {
                self.tracker.record(record, &self.maps, out);
            }
        }
    }

    /// Brings every number up to this moment. To be called once in each interval.
    pub fn tick(&mut self, out: &mut Vec<Timed>) {
        self.next_epoch();
        self.drain(out);
        let now = now();
        self.tracker.tick(now, &mut self.maps, out);
        self.ticks += 1;
        if self.ticks.is_multiple_of(SWEEP_TICKS) {
            self.tracker.sweep(now, &mut self.maps, out);
        }
        self.losses(now, out);
    }

    /// Counts the epoch up: what moves from here on tells again.
    fn next_epoch(&mut self) {
        // 0 marks entries that never told.
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        if let Err(error) = self.maps.set_epoch(self.epoch) {
            log::error!("cannot count the epoch up, updates come late: {error}");
        }
    }

    fn losses(&mut self, now: Instant, out: &mut Vec<Timed>) {
        for (cause, count) in self.maps.losses() {
            if cause == Loss::AppFull {
                self.tracker.overflow(now, &self.maps, out);
            }
            out.push(Timed {
                time: now,
                event: Event::Lost { cause, count },
            });
        }
    }

    /// Detaches, and tells the last totals of everything.
    pub fn stop(mut self, out: &mut Vec<Timed>) {
        self.next_epoch();
        self.drain(out);
        let now = now();
        self.tracker.finish(now, &mut self.maps, out);
        self.losses(now, out);
    }
}

/// Attaches the first backend that works, or the one that was asked for.
fn attach_app(ebpf: &mut Ebpf, btf: &Btf, options: &Options) -> Result<AppBackend, StartError> {
    let candidates = match options.backend {
        Some(backend) => vec![backend],
        None => vec![
            AppBackend::Fexit,
            AppBackend::Kprobe,
            AppBackend::Tracepoint,
        ],
    };
    let mut reasons = Vec::new();
    for backend in candidates {
        match programs::attach_app(ebpf, backend, btf, options.cgroup_root.as_deref()) {
            Ok(()) => return Ok(backend),
            Err(error) => {
                log::info!("backend {backend:?}: {error}");
                reasons.push(format!("{backend:?}: {error}"));
            }
        }
    }
    Err(StartError::NoBackend(reasons.join("; ")))
}

/// The kernel side's clock: time since boot, sleep included.
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    Instant(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
