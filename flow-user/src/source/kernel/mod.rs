//! Where events come from when the kernel can run our programs.

mod batch;
pub mod btf;
mod classifier;
pub mod environment;
mod facts;
mod frames;
#[cfg(feature = "kernel-log")]
mod kernel_log;
pub mod limits;
mod loader;
mod maps;
mod offsets;
mod pins;
pub mod probe;
mod programs;
mod qdisc;
pub mod ring;
mod tracker;
pub mod trial;

use std::{collections::HashSet, io, time::Duration};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use flow_common::Loss;
use nix::time::{ClockId, clock_gettime};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time,
};

use self::{
    btf::Btf,
    classifier::Way,
    frames::Frames,
    maps::Maps,
    probe::{AppBackend, Backend, BackendError, Report, capability},
    programs::AttachError,
    tracker::Tracker,
};
use super::{
    interfaces::{Interfaces, LinkChange},
    mountinfo::CgroupLayout,
    proc::Proc,
    seed::{self, Seed, SeedSocket},
};
use crate::event::{Coverage, Event, Instant, Netns, Protocol, State, Timed};

pub use self::loader::LoadError;

/// Time between two sweeps.
const SWEEP: Duration = Duration::from_secs(10);
/// Records taken from the ring buffer in one go, so that ticks and signals get their turn.
const BATCH: usize = 4096;
/// How long the ring buffer rests once it is empty. The kernel wakes its reader for each record that
/// finds it empty: a busy host would wake Flow for each record.
const REST: Duration = Duration::from_millis(20);
/// More records than the ring buffer holds.
const RING_RECORDS: usize = (flow_common::limits::RING_BYTES / 32) as usize;

/// What to attach.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The only backend to try for app bytes.
    pub backend: Option<AppBackend>,
    /// The only interfaces to classify packets of; all where absent.
    pub interfaces: Option<Vec<String>>,
}

/// Why Flow can't listen to the kernel.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("no interface is named {name}; there are {present}")]
    NoInterface { name: String, present: String },
    #[error("cannot wait for the ring buffer: {0}")]
    Ring(io::Error),
    #[error("cannot follow the interfaces: {0}")]
    Interfaces(io::Error),
}

impl StartError {
    /// Whether Flow lacks privileges for it, rather than the kernel the means.
    pub fn is_not_permitted(&self) -> bool {
        if let Self::Backend(error) = self {
            return error.not_permitted;
        }
        let mut cause: Option<&dyn std::error::Error> = Some(self);
        let causes = std::iter::from_fn(|| {
            let this = cause?;
            cause = this.source();
            Some(this)
        });
        let refused = causes
            .filter_map(|error| error.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::PermissionDenied);
        refused && !nix::unistd::geteuid().is_root()
    }
}

/// The programs in the kernel, and what they tell.
pub struct Kernel {
    ebpf: Ebpf,
    ring: AsyncFd<RingBuf<MapData>>,
    maps: Maps,
    tracker: Tracker,
    frames: Frames,
    epoch: u32,
    /// When the ring buffer is to be read again.
    rest_until: time::Instant,
    next_sweep: time::Instant,
    /// Runs of programs that the kernel left out.
    recursions: u64,
    coverage: Vec<Coverage>,
}

impl Kernel {
    /// Loads and attaches, and tells what was there before.
    ///
    /// # Errors
    /// The kernel refuses something that there is no substitute for.
    pub fn start(options: Options, out: &mut Vec<Timed>) -> Result<Self, StartError> {
        let btf = Btf::from_kernel().map_err(LoadError::from)?;
        check_interfaces(options.interfaces.as_deref())?;
        let report = probe::probe_with(options.backend, Some(&btf));
        let backend = report.app_backend()?;
        let mut coverage = report.coverage();
        let mut ebpf = loader::load(&btf)?;
        let mut maps = Maps::take(&mut ebpf)?;
        let epoch = 1;
        maps.set_epoch(epoch).map_err(AttachError::from)?;
        let ring = ring_buffer(&mut ebpf)?;
        #[cfg(feature = "kernel-log")]
        kernel_log::follow(&mut ebpf);

        programs::prepare(&mut ebpf, backend, &btf);
        // Before anything is attached: of a socket whose first packet comes before its entry nobody
        // knows the network namespace.
        let seed = seed::seed(&Proc::new());
        for socket in seed.sockets.iter().filter(|socket| is_seeded(socket)) {
            put_in(&mut maps, socket);
        }
        attach_around(&mut ebpf, &report, &mut coverage)?;
        attach_app(&mut ebpf, &btf, &report, &mut coverage)?;
        drop(btf);
        let way = if report.uses(Backend::Tcx) {
            Some(Way::Tcx)
        } else {
            report.uses(Backend::Clsact).then_some(Way::Clsact)
        };
        let frames = Frames::start(&mut ebpf, way, options.interfaces.clone())
            .map_err(StartError::Interfaces)?;
        describe_frames(&frames, &mut coverage);
        describe_seed(&seed, &mut coverage);

        let mut kernel = Self {
            ebpf,
            ring,
            maps,
            tracker: Tracker::default(),
            frames,
            epoch,
            rest_until: time::Instant::now(),
            next_sweep: time::Instant::now() + SWEEP,
            recursions: 0,
            coverage,
        };
        kernel.frames.begin();
        kernel.tell_beginning(&seed, out);
        Ok(kernel)
    }

    /// How each capability is provided.
    pub fn coverage(&self) -> &[Coverage] {
        &self.coverage
    }

    /// Tells what there is: how it is seen, the interfaces, the processes, the sockets.
    fn tell_beginning(&mut self, seed: &Seed, out: &mut Vec<Timed>) {
        let time = now();
        let tell = |event| Timed { time, event };
        out.push(tell(Event::Coverage(self.coverage.clone())));
        out.extend(self.frames.read().into_iter().map(tell));
        let mut proc = Proc::new();
        match proc.processes() {
            Ok(processes) => {
                out.extend(processes.into_iter().map(Event::ProcessSeen).map(tell));
            }
            Err(error) => log::warn!("cannot list the processes that were there: {error}"),
        }
        for socket in seed.sockets.iter().filter(|socket| is_seeded(socket)) {
            self.tracker.adopt(socket.cookie.0, self.epoch);
            out.push(tell(Event::Socket(socket.fact())));
        }
        self.check_seed(seed, time, out);
    }

    /// What came and went between the listing and the attachment: no hook has told of it.
    fn check_seed(&mut self, seed: &Seed, time: Instant, out: &mut Vec<Timed>) {
        let cookies = |seed: &Seed| -> HashSet<u64> {
            let sockets = seed.sockets.iter().filter(|socket| is_seeded(socket));
            sockets.map(|socket| socket.cookie.0).collect()
        };
        let before = cookies(seed);
        let mut listing = seed::list(&Proc::new());
        if !cookies(&listing).is_subset(&before) {
            // Once more, with their owners.
            listing = seed::seed(&Proc::new());
            for socket in &listing.sockets {
                let cookie = socket.cookie.0;
                if is_seeded(socket) && !before.contains(&cookie) {
                    put_in(&mut self.maps, socket);
                    self.tracker.adopt(cookie, self.epoch);
                    let event = Event::Socket(socket.fact());
                    out.push(Timed { time, event });
                }
            }
        }
        if !listing.unread.iter().any(|unread| unread.hides_sockets) {
            let after = cookies(&listing);
            let gone = before.difference(&after).copied();
            self.tracker.vanished(gone, time, &mut self.maps, out);
        }
    }

    /// Waits for something to happen; its events go to `out`. Nothing is lost when the future is
    /// dropped.
    ///
    /// # Errors
    /// The kernel can't be waited for.
    pub async fn next(&mut self, out: &mut Vec<Timed>) -> io::Result<()> {
        let chores = self.next_chores();
        let rested = async {
            time::sleep_until(self.rest_until).await;
            self.ring.readable_mut().await
        };
        tokio::select! {
            ready = rested => {
                let mut ready = ready?;
                let ring = ready.get_inner_mut();
                if take_records(ring, BATCH, &mut self.tracker, &mut self.maps, out) {
                    ready.clear_ready();
                    self.rest_until = time::Instant::now() + REST;
                }
            }
            change = self.frames.next() => self.interface_changed(change?, out),
            () = time::sleep_until(chores) => self.chores(out),
        }
        Ok(())
    }

    /// When there is something to do that no record asks for.
    fn next_chores(&self) -> time::Instant {
        match self.tracker.next_due(now()) {
            // Several at once, where many end.
            Some(wait) => (time::Instant::now() + wait.max(REST)).min(self.next_sweep),
            None => self.next_sweep,
        }
    }

    /// Closes what ended, and sweeps where it is time.
    fn chores(&mut self, out: &mut Vec<Timed>) {
        let time = now();
        self.tracker.close_due(time, &mut self.maps, out);
        if time::Instant::now() >= self.next_sweep {
            let complete = self.maps.has_every_socket();
            self.tracker.sweep(complete, time, &mut self.maps, out);
            self.recursions = programs::recursions(&self.ebpf);
            self.next_sweep = time::Instant::now() + SWEEP;
        }
    }

    fn interface_changed(&mut self, change: LinkChange, out: &mut Vec<Timed>) {
        let time = now();
        let events = self.frames.change(&mut self.ebpf, change);
        out.extend(events.into_iter().map(|event| Timed { time, event }));
    }

    /// Takes everything the ring buffer holds.
    fn drain(&mut self, out: &mut Vec<Timed>) {
        let ring = self.ring.get_mut();
        take_records(ring, RING_RECORDS, &mut self.tracker, &mut self.maps, out);
    }

    /// Brings every number up to this moment. To be called once in each interval.
    pub fn tick(&mut self, out: &mut Vec<Timed>) {
        self.next_epoch();
        self.drain(out);
        let time = now();
        self.tracker.tick(self.epoch, time, &mut self.maps, out);
        let interfaces = self.frames.read();
        out.extend(interfaces.into_iter().map(|event| Timed { time, event }));
        self.losses(time, out);
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
        let mut losses = self.maps.losses();
        if self.recursions > 0 {
            losses.push((Loss::Recursion, self.recursions));
        }
        for (cause, count) in losses {
            if cause == Loss::AppFull {
                self.tracker.overflow(now, &self.maps, out);
            }
            out.push(Timed {
                time: now,
                event: Event::Lost { cause, count },
            });
        }
    }

    /// Tells the last totals of everything, and detaches. In this order: programs go one after the
    /// other, and of what moves meanwhile some see more than others.
    pub fn stop(mut self, out: &mut Vec<Timed>) {
        self.next_epoch();
        self.drain(out);
        let time = now();
        let complete = self.maps.has_every_socket();
        self.tracker
            .finish(self.epoch, complete, time, &mut self.maps, out);
        let interfaces = self.frames.read();
        out.extend(interfaces.into_iter().map(|event| Timed { time, event }));
        self.recursions = programs::recursions(&self.ebpf);
        self.losses(time, out);
        self.frames.detach();
        programs::detach(&mut self.ebpf);
    }
}

impl Drop for Kernel {
    /// Filters of a clsact qdisc would stay otherwise, when Flow gives up.
    fn drop(&mut self) {
        self.frames.detach();
    }
}

/// Takes up to `most` records; whether the ring buffer is empty now.
fn take_records(
    ring: &mut RingBuf<MapData>,
    most: usize,
    tracker: &mut Tracker,
    maps: &mut Maps,
    out: &mut Vec<Timed>,
) -> bool {
    for _ in 0..most {
        let Some(item) = ring.next() else {
            return true;
        };
        match ring::decode(&item) {
            Some(record) => tracker.record(record, maps, out),
            None => log::warn!("a record of {} bytes that nobody knows", item.len()),
        }
    }
    false
}

/// Whether a listed socket is told and followed. The remains of a connection are not: no process has
/// them, and they never end by a close. An MPTCP socket shares its cookie; it is told when it is
/// used.
fn is_seeded(socket: &SeedSocket) -> bool {
    let remains = matches!(socket.state, State::TimeWait | State::SynReceived);
    !remains && socket.protocol != Protocol::Mptcp
}

/// Makes the entry of a listed socket.
fn put_in(maps: &mut Maps, socket: &SeedSocket) {
    if let Err(error) = maps.seed_socket(socket.cookie.0, &facts::seed_state(socket, now())) {
        log::warn!("a socket that was there: {error}");
    }
}

fn ring_buffer(ebpf: &mut Ebpf) -> Result<AsyncFd<RingBuf<MapData>>, StartError> {
    let ring = RingBuf::try_from(loader::take(ebpf, "RING")?).map_err(AttachError::from)?;
    // SAFETY: the ring buffer owns its one descriptor, and keeps it until it is dropped.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
        .map_err(|error| StartError::Ring(error.into()))
}

/// Attaches what surrounds the counting of app bytes. What is refused is said, and done without.
fn attach_around(
    ebpf: &mut Ebpf,
    report: &Report,
    coverage: &mut [Coverage],
) -> Result<(), AttachError> {
    let cgroup_root = CgroupLayout::read().v2_root;
    if let Some(root) = cgroup_root.as_deref() {
        if report.uses(Backend::CgroupSockets) {
            let result = programs::attach_sockets(ebpf, root);
            degrade(coverage, capability::SOCKETS, result);
        }
        if report.uses(Backend::CgroupSkb) {
            let result = programs::attach_packets(ebpf, root);
            degrade(coverage, capability::WIRE_BYTES, result);
        }
    }
    // Without these no process has a name and no connection ends: nothing would be true.
    programs::attach_lives(ebpf)
}

/// Says that a capability is missing after all, and why.
fn degrade(coverage: &mut [Coverage], name: &str, result: Result<(), AttachError>) {
    let Err(error) = result else {
        return;
    };
    log::warn!("{name}: {error}");
    for entry in coverage {
        if entry.capability == name {
            entry.backend = None;
            entry.limits = format!("everything: {error}");
        }
    }
}

/// Attaches the best backend for app bytes that works, or the one that was asked for.
fn attach_app(
    ebpf: &mut Ebpf,
    btf: &Btf,
    report: &Report,
    coverage: &mut [Coverage],
) -> Result<(), StartError> {
    let first = report.app_backend()?;
    let cgroup_root = CgroupLayout::read().v2_root;
    let mut refusal = None;
    for backend in AppBackend::ALL.into_iter().skip_while(|b| *b != first) {
        match programs::attach_app(ebpf, backend, btf, cgroup_root.as_deref()) {
            Ok(()) => {
                if refusal.is_some() {
                    for entry in coverage {
                        if entry.capability == capability::APP_BYTES {
                            entry.backend = Some(backend.to_string());
                            entry.limits = limits::words(Backend::from(backend));
                        }
                    }
                }
                return Ok(());
            }
            Err(error) => {
                log::warn!("backend {backend}: {error}");
                refusal.get_or_insert(error);
                if report.forced.is_some() {
                    break;
                }
            }
        }
    }
    match refusal {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// Before anything is attached: the interfaces asked for are there.
fn check_interfaces(chosen: Option<&[String]>) -> Result<(), StartError> {
    let Some(chosen) = chosen else {
        return Ok(());
    };
    let links = Interfaces::open().and_then(|mut interfaces| interfaces.list());
    let links = links.map_err(StartError::Interfaces)?;
    let present: Vec<&str> = links.iter().map(|link| &*link.name).collect();
    match chosen.iter().find(|name| !present.contains(&name.as_str())) {
        Some(name) => Err(StartError::NoInterface {
            name: name.clone(),
            present: present.join(", "),
        }),
        None => Ok(()),
    }
}

/// Says on how many interfaces packets are classified.
fn describe_frames(frames: &Frames, coverage: &mut [Coverage]) {
    let (way, lacking, up) = frames.attached();
    for entry in coverage {
        if entry.capability != capability::INTERFACES {
            continue;
        }
        if way.is_none() {
            entry.backend = Some(Backend::Rtnetlink.to_string());
            entry.limits = limits::words(Backend::Rtnetlink);
        } else if lacking > 0 {
            let missing = format!("packets of {lacking} of {up} interfaces");
            add_limit(&mut entry.limits, &missing);
        }
    }
}

/// Adds what could not be read of the sockets that were there to what is not seen.
fn describe_seed(seed: &Seed, coverage: &mut [Coverage]) {
    let existing = |entry: &&mut Coverage| entry.capability == capability::EXISTING;
    for entry in coverage.iter_mut().filter(existing) {
        for unread in &seed.unread {
            log::info!("{unread}");
            add_limit(&mut entry.limits, &unread.what);
        }
    }
}

fn add_limit(limits: &mut String, more: &str) {
    if !limits.is_empty() {
        limits.push_str(", ");
    }
    limits.push_str(more);
}

/// The network namespace whose interfaces are followed.
///
/// # Errors
/// `/proc` can't be read.
pub fn host_netns() -> io::Result<Netns> {
    loader::host_netns().map(Netns)
}

/// The kernel side's clock: time since boot, sleep included.
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    Instant(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
