//! Where events come from when the kernel can run our programs.

mod attach;
mod beginning;
mod beside;
pub mod btf;

mod classifier;
mod counting;
pub mod environment;
pub(crate) mod facts;
mod foreign;
mod frames;
mod interface;
#[cfg(feature = "kernel-log")]
mod kernel_log;
pub mod limits;
mod loader;
mod map_calls;
mod maps;
pub(crate) mod offsets;
mod own;
mod pins;
pub mod probe;
mod programs;
pub(crate) mod qdisc;
pub mod ring;
pub mod sizes;
mod stacking;
mod syscall;
pub(crate) mod tracker;
pub mod trial;

use std::{io, net::SocketAddr, time::Duration};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use flow_common::Loss;
use foldhash::HashSet;
use tokio::{
    io::{Interest, unix::AsyncFd},
    time,
};

use self::{
    beside::beside,
    btf::Btf,
    classifier::Way,
    environment::{Cap, Environment},
    frames::{Frames, Task},
    maps::Maps,
    probe::{AppBackend, Backend, BackendError, capability},
    programs::AttachError,
    sizes::Sizes,
    tracker::{Counters as _, Entryless, Lost, Tracker},
};
use super::{
    interfaces::Interfaces,
    proc::Proc,
    seed::{self, Seed, SeedSocket},
    sock_diag,
};
use crate::event::{
    Coverage, Event, Instant, Netns, ProcessFact, ProcessId, Protocol, SocketFact, State, Timed,
};

pub use self::loader::LoadError;
/// The kernel side's clock.
pub use super::boottime::now;

/// Time between two sweeps.
const SWEEP: Duration = Duration::from_secs(10);
/// The same once records were lost: until a sweep, nothing that ended is told.
const SWEEP_AFTER_LOSS: Duration = Duration::from_secs(1);
/// Time between two words on how many interfaces have their classifiers.
const PROGRESS: Duration = Duration::from_secs(5);
/// Records taken from the ring buffer in one go, so that ticks and signals get their turn.
const BATCH: usize = 4096;
/// How long the ring buffer rests once it is empty. The kernel wakes its reader for each record that
/// finds it empty: a busy host would wake Flow for each record.
const REST: Duration = Duration::from_millis(20);

/// What to attach.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The only backend to try for app bytes.
    pub backend: Option<AppBackend>,
    /// The only interfaces to classify packets of; all where absent.
    pub interfaces: Option<Vec<String>>,
    pub sizes: Sizes,
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
        let refused = self.has_cause(|it| it.kind() == io::ErrorKind::PermissionDenied);
        refused && lacks_rights()
    }

    /// Whether Flow may not open as many files as it needs.
    pub fn is_out_of_files(&self) -> bool {
        self.has_cause(|it| matches!(it.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)))
    }

    fn has_cause(&self, is_it: impl Fn(&io::Error) -> bool) -> bool {
        let mut cause: Option<&dyn std::error::Error> = Some(self);
        let mut causes = std::iter::from_fn(|| {
            let this = cause?;
            cause = this.source();
            Some(this)
        });
        causes.any(|error| error.downcast_ref::<io::Error>().is_some_and(&is_it))
    }
}

/// Whether Flow has less than the host's root has.
fn lacks_rights() -> bool {
    let environment = Environment::read(false);
    environment.user_namespace
        || [
            Cap::CapBpf,
            Cap::CapPerfmon,
            Cap::CapNetAdmin,
            Cap::CapSysAdmin,
        ]
        .into_iter()
        .any(|cap| !environment.may(cap))
}

/// The programs in the kernel, and what they tell.
pub struct Kernel {
    ebpf: Ebpf,
    ring: AsyncFd<RingBuf<MapData>>,
    maps: Maps,
    tracker: Tracker,
    frames: Frames,
    epoch: u32,
    sizes: Sizes,
    /// What had been lost when the processes were last listed.
    listed: Lost,
    /// When the ring buffer is to be read again.
    rest_until: time::Instant,
    last_sweep: time::Instant,
    next_sweep: time::Instant,
    /// When to tell next how many interfaces have their classifiers, if some still wait.
    next_progress: time::Instant,
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
        let report = probe::probe_with(options.backend, Ok(&btf));
        let backend = report.app_backend()?;
        let mut coverage = report.coverage();
        let mut ebpf = loader::load(&btf, &options.sizes, &report)?;
        let mut maps = Maps::take(&mut ebpf, &options.sizes)?;
        let epoch = 1;
        maps.set_epoch(epoch).map_err(AttachError::from)?;
        let ring = ring_buffer(&mut ebpf)?;
        #[cfg(feature = "kernel-log")]
        kernel_log::follow(&mut ebpf);

        // Before anything is attached: of a socket whose first packet comes before its entry nobody
        // knows the network namespace.
        let (seed, ()) = beside(
            || seed::seed(&Proc::new()),
            || programs::prepare(&mut ebpf, backend, &btf),
        );
        for socket in seed.sockets.iter().filter(|socket| is_seeded(socket)) {
            put_in(&mut maps, socket);
        }
        attach::around(&mut ebpf, &report, &mut coverage);
        attach::app(&mut ebpf, &btf, &report, &mut coverage)?;
        drop(btf);
        let way = if report.uses(Backend::Tcx) {
            Some(Way::Tcx)
        } else {
            report.uses(Backend::Clsact).then_some(Way::Clsact)
        };
        // Interfaces wait in the kernel for most of the time that it takes to attach to them.
        let (listing, frames) = beside(
            || seed::list(&Proc::new()),
            || Frames::start(&mut ebpf, way, options.interfaces.clone()),
        );
        let frames = frames.map_err(StartError::Interfaces)?;
        attach::tell(
            &mut coverage,
            capability::INTERFACES,
            attach::frames(&frames),
        );
        attach::seed(&seed, &mut coverage);

        let mut kernel = Self {
            ebpf,
            ring,
            maps,
            tracker: Tracker::default(),
            frames,
            epoch,
            sizes: options.sizes,
            listed: Lost::default(),
            rest_until: time::Instant::now(),
            last_sweep: time::Instant::now(),
            next_sweep: time::Instant::now() + SWEEP,
            next_progress: time::Instant::now() + PROGRESS,
            recursions: 0,
            coverage,
        };
        kernel.frames.begin();
        kernel.tell_beginning(&seed, listing, report.gives_cookies(), out);
        Ok(kernel)
    }

    /// How each capability is provided.
    pub fn coverage(&self) -> &[Coverage] {
        &self.coverage
    }

    /// Tells what there is: how it is seen, the interfaces, the processes, the sockets. `seed` was listed before
    /// anything was attached, `listing` after it.
    fn tell_beginning(
        &mut self,
        seed: &Seed,
        listing: Seed,
        gives_cookies: bool,
        out: &mut Vec<Timed>,
    ) {
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
        self.check_seed(seed, listing, gives_cookies, time, out);
    }

    /// What came and went between the first listing and the attachment, which a second one shows: no hook has told of it.
    fn check_seed(
        &mut self,
        seed: &Seed,
        mut listing: Seed,
        gives_cookies: bool,
        time: Instant,
        out: &mut Vec<Timed>,
    ) {
        let before = cookies(seed);
        if !cookies(&listing).is_subset(&before) {
            // Once more, with their owners.
            listing = seed::seed(&Proc::new());
            // Where no program gives cookies, what came may have an alias already.
            let known = if gives_cookies {
                HashSet::default()
            } else {
                let sockets = self.maps.all_sockets().into_iter();
                let facts = sockets.filter_map(|(id, state)| facts::socket(id, &state));
                facts.map(|fact| ends(&fact)).collect()
            };
            for socket in &listing.sockets {
                let cookie = socket.cookie.0;
                if !is_seeded(socket) || before.contains(&cookie) {
                    continue;
                }
                let fact = socket.fact();
                if !known.contains(&ends(&fact)) {
                    put_in(&mut self.maps, socket);
                    self.tracker.adopt(cookie, self.epoch);
                    let event = Event::Socket(fact);
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
            task = self.frames.next() => self.follow_interfaces(task?, out),
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

    /// Sweeps where it is time, and closes what ended.
    fn chores(&mut self, out: &mut Vec<Timed>) {
        if self.tracker.is_behind(&self.maps) {
            self.next_sweep = self.next_sweep.min(self.last_sweep + SWEEP_AFTER_LOSS);
        }
        if time::Instant::now() >= self.next_sweep {
            self.sweep(out);
        }
        self.tracker.close_due(now(), &mut self.maps, out);
    }

    /// Finds what no record told.
    fn sweep(&mut self, out: &mut Vec<Timed>) {
        // What was lost may be the end of sockets: those are closed when the next sweep finds them so too.
        let pause = if self.tracker.is_behind(&self.maps) {
            SWEEP_AFTER_LOSS
        } else {
            SWEEP
        };
        let entryless = self.entryless();
        let listing = self.list_processes();
        let time = now();
        self.tracker.sweep(&entryless, time, &mut self.maps, out);
        self.compare(listing, out);
        self.recursions = programs::recursions(&self.ebpf);
        self.last_sweep = time::Instant::now();
        self.next_sweep = self.last_sweep + pause;
    }

    /// Which sockets may be in use though they have no entry.
    fn entryless(&self) -> Entryless {
        if self.maps.has_every_socket() {
            return Entryless::None;
        }
        let listing = seed::list(&Proc::new());
        if listing.unread.iter().any(|unread| unread.hides_sockets) {
            return Entryless::Any;
        }
        Entryless::Among(cookies(&listing))
    }

    /// The processes that there are, if records of some were lost since they were last listed, or none tells of their end.
    ///
    /// To be called before the maps are read: of a process that is not in the list they hold then all that it moved.
    fn list_processes(&mut self) -> Option<Listing> {
        let lost = self.maps.lost();
        let hears_exits = programs::is_loaded(&self.ebpf, programs::EXITS);
        if hears_exits && lost.process == self.listed.process {
            return None;
        }
        // Before the list: what begins from here on may not be in it.
        let time = now();
        let mut proc = Proc::new();
        match proc.living() {
            Ok(processes) => {
                self.listed = lost;
                proc.shows_every_process()
                    .then_some(Listing { time, processes })
            }
            Err(error) => {
                log::warn!("cannot list the processes that are there: {error}");
                None
            }
        }
    }

    /// Makes up for lost records of processes: those that are there are told, and others have ended.
    fn compare(&mut self, listing: Option<Listing>, out: &mut Vec<Timed>) {
        let Some(Listing { time, processes }) = listing else {
            return;
        };
        let ids: HashSet<ProcessId> = processes.iter().map(|process| process.id).collect();
        let is_present = |key| facts::process_id(key).is_none_or(|id: ProcessId| ids.contains(&id));
        self.tracker.present(is_present, time, &mut self.maps, out);
        let event = Event::ProcessesListed(processes);
        out.push(Timed { time, event });
    }

    fn follow_interfaces(&mut self, task: Task, out: &mut Vec<Timed>) {
        let time = now();
        let events = self.frames.run(&mut self.ebpf, task);
        out.extend(events.into_iter().map(|event| Timed { time, event }));
        // Many may be on their way to their classifiers: not a word for each of them.
        if self.frames.is_settled() || time::Instant::now() >= self.next_progress {
            self.next_progress = time::Instant::now() + PROGRESS;
            let told = attach::frames(&self.frames);
            let told = attach::tell(&mut self.coverage, capability::INTERFACES, told);
            let event = told.map(|told| Event::Coverage(vec![told]));
            out.extend(event.map(|event| Timed { time, event }));
        }
    }

    /// Takes everything the ring buffer holds.
    fn drain(&mut self, out: &mut Vec<Timed>) {
        let ring = self.ring.get_mut();
        take_records(
            ring,
            self.sizes.ring_records(),
            &mut self.tracker,
            &mut self.maps,
            out,
        );
    }

    /// Brings every number up to this moment. To be called once in each interval.
    pub fn tick(&mut self, out: &mut Vec<Timed>) {
        self.next_epoch();
        self.drain(out);
        let time = now();
        self.tracker.tick(self.epoch, time, &mut self.maps, out);
        self.chores(out);
        let interfaces = self.frames.read();
        out.extend(interfaces.into_iter().map(|event| Timed { time, event }));
        self.losses(time, out);
        tell_backlogs(time, out);
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
        let entryless = self.entryless();
        let listing = self.list_processes();
        self.tracker
            .finish(self.epoch, &entryless, time, &mut self.maps, out);
        self.compare(listing, out);
        let interfaces = self.frames.read_last();
        out.extend(interfaces.into_iter().map(|event| Timed { time, event }));
        self.recursions = programs::recursions(&self.ebpf);
        self.losses(time, out);
        self.frames.detach();
        programs::detach(&mut self.ebpf);
    }
}

/// Tells what waits at the listening sockets of Flow's own network namespace: to look into the others once in each
/// interval would be dear.
fn tell_backlogs(time: Instant, out: &mut Vec<Timed>) {
    match sock_diag::open().and_then(|mut netlink| sock_diag::backlogs(&mut netlink)) {
        Ok(backlogs) => out.extend(backlogs.into_iter().map(|(cookie, backlog)| Timed {
            time,
            event: Event::Listening { cookie, backlog },
        })),
        // Without sock_diag, as `flow doctor` says.
        Err(error) => log::debug!("cannot list what waits at listeners: {error}"),
    }
}

/// The processes that there were at a time.
struct Listing {
    time: Instant,
    processes: Vec<ProcessFact>,
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

/// The cookies of those.
fn cookies(seed: &Seed) -> HashSet<u64> {
    let sockets = seed.sockets.iter().filter(|socket| is_seeded(socket));
    sockets.map(|socket| socket.cookie.0).collect()
}

/// What tells a socket from others, whatever its identity.
fn ends(fact: &SocketFact) -> (Protocol, Option<Netns>, SocketAddr, Option<SocketAddr>) {
    (fact.protocol, fact.netns, fact.local, fact.remote)
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

/// The network namespace whose interfaces are followed.
///
/// # Errors
/// `/proc` can't be read.
pub fn host_netns() -> io::Result<Netns> {
    loader::host_netns().map(Netns)
}
