//! Where events come from when the kernel can run our programs.

mod attach;
mod attach_error;
pub mod backends;
pub mod blind_spots;
pub mod btf;
mod casts;
mod classifier;
pub(crate) mod convert;
mod counter_baseline;
mod counting;
mod coverage;
pub mod environment;
mod existing;
mod foreign;
mod hooks;
mod interface;
mod interface_tracker;
mod join_threads;
#[cfg(feature = "kernel-log")]
mod kernel_log;
mod loader;
mod map_calls;
mod maps;
pub(crate) mod offsets;
mod options;
mod own;
mod pins;
pub mod probe;
mod programs;
pub(crate) mod qdisc;
mod recursions;
pub mod ring;
pub mod sizes;
mod sparing;
mod stacking;
mod start;
mod start_error;
mod syscall;
pub(crate) mod tracker;
pub mod trial;

use std::{io, time::Duration};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use flow_common::Loss;
use tokio::{io::unix::AsyncFd, time};

use self::{
    interface_tracker::{InterfaceTracker, Task},
    maps::Maps,
    sizes::Sizes,
    sparing::Sparing,
    tracker::{Counters as _, Listing, Lost, STEP, Tracker, UnmappedSockets},
};
use super::{Origin, Source, SourceError, Step, netlink::Netlink, proc::Proc, seed, sock_diag};
use crate::event::{Backlog, Coverage, Event, EventSink, Instant, SocketCookie};

pub use self::{loader::LoadError, options::Options, start_error::StartError};
/// The kernel side's clock.
pub use super::boottime::now;

/// Time between two sweeps.
const SWEEP: Duration = Duration::from_secs(10);
/// The same once records were lost: until a sweep, nothing that ended is reported.
const SWEEP_AFTER_LOSS: Duration = Duration::from_secs(1);
/// Time between two reports of how many interfaces have their classifiers.
const PROGRESS: Duration = Duration::from_secs(5);
/// Records taken from the ring buffer in one go, so that ticks and signals get their turn.
const BATCH: usize = 4096;
/// How long the ring buffer rests once it is empty. The kernel wakes its reader for each record
/// that finds it empty: a busy host would wake Flow for each record.
const REST: Duration = Duration::from_millis(20);

/// The programs in the kernel, and what they report.
pub struct Kernel {
    ebpf: Ebpf,
    ring: AsyncFd<RingBuf<MapData>>,
    maps: Maps,
    tracker: Tracker,
    interfaces: InterfaceTracker,
    epoch: u32,
    sizes: Sizes,
    /// What had been lost when the processes were last listed.
    listed: Lost,
    /// How often the map of sockets had been full when each socket had its entry.
    all_mapped: u64,
    /// Lists of the sockets that there are, where some may be without an entry.
    socket_lists: Sparing,
    /// When the ring buffer is to be read again.
    rest_until: time::Instant,
    last_sweep: time::Instant,
    /// Stays as it is while a sweep is under way.
    next_sweep: time::Instant,
    sweeping: Option<Sweeping>,
    /// When to report next how many interfaces have their classifiers, if some still wait.
    next_progress: time::Instant,
    /// Runs of programs that the kernel left out.
    recursions: u64,
    coverage: Vec<Coverage>,
    listeners: Listeners,
    beginning: Option<existing::Beginning>,
    ticks: time::Interval,
    origin: Origin,
}

impl Source for Kernel {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn begin(&mut self, out: &mut impl EventSink) {
        self.emit_existing(out);
    }

    async fn next(&mut self, out: &mut impl EventSink) -> Result<Step, SourceError> {
        let chores = self.next_chores();
        let rested = async {
            time::sleep_until(self.rest_until).await;
            self.ring.readable_mut().await
        };
        // In no fixed order: where the ring buffer never is empty, the others have their turn too.
        tokio::select! {
            _ = self.ticks.tick() => {
                self.tick(out);
                return Ok(Step::Tick(now()));
            }
            ready = rested => {
                let mut ready = ready.map_err(SourceError::Kernel)?;
                let ring = ready.get_inner_mut();
                if take_records(ring, BATCH, &mut self.tracker, &mut self.maps, out) {
                    ready.clear_ready();
                    self.rest_until = time::Instant::now() + REST;
                }
            }
            task = self.interfaces.next() => {
                let task = task.map_err(SourceError::Kernel)?;
                self.follow_interfaces(task, out);
            }
            () = time::sleep_until(chores) => self.chores(out),
        }
        Ok(Step::Events)
    }

    /// Reports first, and then detaches: programs go one after the other, and of what moves
    /// meanwhile some see more than others.
    fn stop(mut self, out: &mut impl EventSink) -> Instant {
        self.next_epoch();
        self.drain(out);
        let time = now();
        // It is the last one.
        self.socket_lists = Sparing::default();
        let unmapped = self.unmapped(self.maps.lost().sockets);
        let (listing, _) = self.list_processes();
        self.tracker
            .finish(self.epoch, unmapped, listing, time, &mut self.maps, out);
        for event in self.interfaces.read_last() {
            out.event(time, event);
        }
        self.recursions = recursions::count(&self.ebpf);
        self.losses(time, out);
        self.interfaces.detach();
        programs::detach(&mut self.ebpf);
        now()
    }
}

impl Kernel {
    /// When there is something to do that no record asks for: at once, while a sweep is under way.
    fn next_chores(&self) -> time::Instant {
        match self.tracker.next_due(now()) {
            // Several at once, where many end.
            Some(wait) => (time::Instant::now() + wait.max(REST)).min(self.next_sweep),
            None => self.next_sweep,
        }
    }

    /// Sweeps a step where it is time, and closes what ended.
    fn chores(&mut self, out: &mut impl EventSink) {
        if self.tracker.is_behind(&self.maps) {
            self.next_sweep = self.next_sweep.min(self.last_sweep + SWEEP_AFTER_LOSS);
        }
        if time::Instant::now() >= self.next_sweep {
            self.sweep(out);
        }
        self.tracker.close_due(now(), &mut self.maps, out);
    }

    /// Finds what no record reported: begins to, or goes on.
    fn sweep(&mut self, out: &mut impl EventSink) {
        let Sweeping {
            pause,
            refused,
            listed,
        } = match self.sweeping.take() {
            Some(sweeping) => sweeping,
            None => self.begin_sweep(),
        };
        let Some(swept) = self.tracker.step(STEP, now(), &mut self.maps, out) else {
            self.sweeping = Some(Sweeping {
                pause,
                refused,
                listed,
            });
            return;
        };
        if swept.all_mapped {
            self.all_mapped = refused;
        }
        self.listed = listed;
        self.recursions = recursions::count(&self.ebpf);
        self.last_sweep = time::Instant::now();
        self.next_sweep = self.last_sweep + pause;
    }

    fn begin_sweep(&mut self) -> Sweeping {
        // What was lost may be the end of sockets: those are closed when the next sweep finds them
        // so too.
        let pause = if self.tracker.is_behind(&self.maps) {
            SWEEP_AFTER_LOSS
        } else {
            SWEEP
        };
        let refused = self.maps.lost().sockets;
        let unmapped = self.unmapped(refused);
        let (listing, listed) = self.list_processes();
        self.tracker
            .begin_sweep(unmapped, listing, now(), &self.maps);
        Sweeping {
            pause,
            refused,
            listed,
        }
    }

    /// Which sockets may be in use though they have no entry, when so many had been refused one. As
    /// long as one without it lives and is silent, that is asked: to list all sockets may take long.
    fn unmapped(&mut self, refused: u64) -> UnmappedSockets {
        if refused == self.all_mapped {
            return UnmappedSockets::None;
        }
        let start = time::Instant::now();
        if !self.socket_lists.is_due(start) {
            return UnmappedSockets::Any;
        }
        let listing = seed::list(&Proc::new());
        let end = time::Instant::now();
        self.socket_lists.done(end - start, end);
        if listing.unread.iter().any(|unread| unread.hides_sockets) {
            return UnmappedSockets::Any;
        }
        UnmappedSockets::Among(existing::cookies(&listing))
    }

    /// The processes that there are, if records of some were lost since they were last listed, or
    /// none reports their end. With them what had been lost when they were last listed.
    ///
    /// To be called before the maps are read: of a process that is not in the list they hold then
    /// all that it moved.
    fn list_processes(&self) -> (Option<Listing>, Lost) {
        let lost = self.maps.lost();
        let reports_exits = programs::is_loaded(&self.ebpf, hooks::EXITS);
        if reports_exits && lost.process == self.listed.process {
            return (None, self.listed);
        }
        // Before the list: what begins from here on may not be in it.
        let time = now();
        let mut proc = Proc::new();
        match proc.living() {
            Ok(processes) => {
                let listing = Listing { time, processes };
                (proc.shows_every_process().then_some(listing), lost)
            }
            Err(error) => {
                log::warn!("cannot list the processes that are there: {error}");
                (None, self.listed)
            }
        }
    }

    fn follow_interfaces(&mut self, task: Task, out: &mut impl EventSink) {
        let time = now();
        for event in self
            .interfaces
            .run(&mut programs::Programs::of(&mut self.ebpf), task)
        {
            out.event(time, event);
        }
        // Many may be on their way to their classifiers: not a word for each of them.
        if self.interfaces.is_settled() || time::Instant::now() >= self.next_progress {
            self.next_progress = time::Instant::now() + PROGRESS;
            let now = coverage::of_interfaces(&self.interfaces);
            if let Some(news) = coverage::update(&mut self.coverage, now) {
                out.event(time, Event::Coverage(vec![news]));
            }
        }
    }

    /// Takes everything the ring buffer holds.
    fn drain(&mut self, out: &mut impl EventSink) {
        let ring = self.ring.get_mut();
        take_records(
            ring,
            self.sizes.ring_records(),
            &mut self.tracker,
            &mut self.maps,
            out,
        );
    }

    /// Brings every number up to this moment.
    fn tick(&mut self, out: &mut impl EventSink) {
        self.next_epoch();
        self.drain(out);
        let time = now();
        self.tracker.tick(self.epoch, time, &mut self.maps, out);
        self.chores(out);
        for event in self.interfaces.read() {
            out.event(time, event);
        }
        self.losses(time, out);
        self.listeners.read(time, out);
    }

    /// Counts the epoch up: what moves from here on is reported again.
    fn next_epoch(&mut self) {
        // 0 marks entries that were never reported.
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        if let Err(error) = self.maps.set_epoch(self.epoch) {
            log::error!("cannot count the epoch up, updates come late: {error}");
        }
    }

    fn losses(&mut self, now: Instant, out: &mut impl EventSink) {
        let mut losses = self.maps.losses();
        if self.recursions > 0 {
            losses.push((Loss::Recursion, self.recursions));
        }
        for (cause, count) in losses {
            if cause == Loss::AppFull {
                self.tracker.overflow(now, &self.maps, out);
            }
            out.event(now, Event::Lost { cause, count });
        }
    }
}

/// What waits at the listening sockets of Flow's own network namespace: to look into the others in
/// each interval would be dear.
#[derive(Default)]
struct Listeners {
    /// Kept from one reading to the next.
    netlink: Option<Netlink>,
}

impl Listeners {
    fn read(&mut self, time: Instant, out: &mut impl EventSink) {
        match self.backlogs() {
            Ok(backlogs) => {
                for (cookie, backlog) in backlogs {
                    out.event(time, Event::Listening { cookie, backlog });
                }
            }
            // Without sock_diag, as `flow doctor` says.
            Err(error) => {
                log::debug!("cannot list what waits at listeners: {error}");
                self.netlink = None;
            }
        }
    }

    fn backlogs(&mut self) -> io::Result<Vec<(SocketCookie, Backlog)>> {
        let netlink = match &mut self.netlink {
            Some(netlink) => netlink,
            none => none.insert(sock_diag::open()?),
        };
        sock_diag::backlogs(netlink)
    }
}

/// A sweep under way.
struct Sweeping {
    /// Until the next one.
    pause: Duration,
    /// How often the map of sockets had been full when it began.
    refused: u64,
    /// What had been lost when the processes were last listed.
    listed: Lost,
}

/// Takes up to `most` records; whether the ring buffer is empty now.
fn take_records(
    ring: &mut RingBuf<MapData>,
    most: usize,
    tracker: &mut Tracker,
    maps: &mut Maps,
    out: &mut impl EventSink,
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
