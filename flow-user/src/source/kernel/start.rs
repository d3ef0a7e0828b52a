//! The start: what is loaded and attached, and what was there before.

use std::{net::SocketAddr, panic::resume_unwind, thread, time::Duration};

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, RingBuf},
};
use foldhash::HashSet;
use jiff::{SignedDuration, Timestamp};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime,
    time::{self, Interval, MissedTickBehavior},
};

use super::{
    Kernel, Listeners, PROGRESS, SWEEP, attach,
    attach_error::AttachError,
    backends::Backend,
    btf::Btf,
    classifier::AttachMode,
    convert, coverage,
    existing::{Beginning, cookies, is_seeded, seed_entry},
    hooks::CLASSIFIERS,
    interface_tracker::{InterfaceMaps, InterfaceTracker},
    join_threads::{join_threads, joined},
    loader::{self, LoadError},
    maps::Maps,
    options::Options,
    probe,
    programs::{FIRST, Programs, Target},
    sparing::Sparing,
    start_error::StartError,
    tracker::{Lost, Tracker},
};
use crate::{
    event::{Capability, Clock, Event, EventSink, Host, Instant, Netns, Protocol, SocketFact},
    faults,
    source::{
        Origin, Pace,
        boottime::now,
        interfaces::Interfaces,
        proc::Proc,
        seed::{self, Seed},
    },
};

impl Kernel {
    /// Loads and attaches. [`Source::begin`](crate::source::Source::begin) reports what was there
    /// before.
    ///
    /// # Errors
    /// The kernel refuses something that there is no substitute for.
    pub fn start(options: Options, pace: Pace) -> Result<Self, StartError> {
        let clock = clock();
        let btf = Btf::from_kernel().map_err(LoadError::from)?;
        check_interfaces(options.interfaces.as_deref())?;
        // While all that follows waits for the kernel.
        let seed = thread::spawn(|| seed::seed(&Proc::new()));
        // Trials wait in the kernel for most of their time. The loader is made in this thread: others
        // get memory from the system bit by bit, which takes twice as long.
        let (report, loader) = join_threads(
            || probe::probe_with(options.backend, Ok(&btf)),
            EbpfLoader::new,
        );
        let backend = report.app_backend()?;
        let mut coverage = report.coverage();
        let mut ebpf = loader::load(loader, &btf, &options.sizes, &report)?;
        let mut maps = Maps::take(&mut ebpf, &options.sizes)?;
        let epoch = 1;
        maps.set_epoch(epoch).map_err(AttachError::from)?;
        let ring = ring_buffer(&mut ebpf)?;
        #[cfg(feature = "kernel-log")]
        super::kernel_log::follow(&mut ebpf);

        let mode = if report.uses(Backend::Tcx) {
            Some(AttachMode::Tcx)
        } else {
            report.uses(Backend::Clsact).then_some(AttachMode::Clsact)
        };
        let mode = mode.filter(|_| faults::attaches(Capability::Interfaces));
        let cgroup_root = faults::cgroup().or_else(|| report.environment.cgroup_v2.clone());
        let target = Target::new(&btf, cgroup_root.as_deref());
        let mut interface_maps = InterfaceMaps::take(&mut ebpf)?;
        let (chosen, runtime) = (options.interfaces.clone(), runtime::Handle::current());
        let mut programs = Programs::of(&mut ebpf);
        let mut first = programs.split_off(&FIRST);
        // Interfaces wait in the kernel for most of the time that it takes to attach to them, so they
        // get their classifiers while the other programs are loaded.
        let (seed, listing, interfaces) = thread::scope(|scope| {
            let hooks = || attach::hooks_of(backend);
            first.load_all(hooks(), &target);
            let mut classifiers = first.split_off(&CLASSIFIERS);
            programs.extend(first);
            let maps_of_interfaces = &mut interface_maps;
            let interfaces = scope.spawn(move || {
                let _context = runtime.enter();
                InterfaceTracker::start(maps_of_interfaces, &mut classifiers, mode, chosen)
            });
            programs.load_all(hooks(), &target);
            // Before the hooks of sockets and calls are attached: of a socket whose first packet comes
            // before its entry nobody knows the network namespace.
            let mut seed = seed.join().unwrap_or_else(|panic| resume_unwind(panic));
            seed.forget_reads_of_moving(&seed::list_tcp(&Proc::new()));
            for socket in seed.sockets.iter().filter(|socket| is_seeded(socket)) {
                seed_entry(&mut maps, socket);
            }
            attach::attach_common(&mut programs, &target, &report, &mut coverage);
            attach::attach_app(&mut programs, backend, &target, &report, &mut coverage)?;
            let listing = seed::list(&Proc::new());
            Ok::<_, StartError>((seed, listing, joined(interfaces)))
        })?;
        drop(target);
        drop(btf);
        let interfaces = interfaces.map_err(StartError::Interfaces)?;
        coverage::update(&mut coverage, coverage::of_interfaces(&interfaces));
        coverage::add_unread(&mut coverage, &seed);

        let mut kernel = Self {
            ebpf,
            ring,
            maps,
            tracker: Tracker::default(),
            interfaces,
            epoch,
            sizes: options.sizes,
            listed: Lost::default(),
            all_mapped: 0,
            socket_lists: Sparing::default(),
            rest_until: time::Instant::now(),
            last_sweep: time::Instant::now(),
            next_sweep: time::Instant::now() + SWEEP,
            sweeping: None,
            next_progress: time::Instant::now() + PROGRESS,
            recursions: 0,
            coverage,
            listeners: Listeners::default(),
            beginning: Some(Beginning {
                seed,
                listing,
                gives_cookies: report.gives_cookies(),
            }),
            ticks: ticks(pace),
            origin: Origin {
                host: host(),
                clock,
                netns: loader::host_netns().ok().map(Netns),
                started: now(),
                is_live: true,
            },
        };
        kernel.interfaces.begin();
        Ok(kernel)
    }

    /// Reports what there is: how it is seen, the interfaces, the processes, the sockets. To be
    /// called once.
    pub(super) fn emit_existing(&mut self, out: &mut impl EventSink) {
        let Some(beginning) = self.beginning.take() else {
            return;
        };
        let Beginning {
            seed,
            listing,
            gives_cookies,
        } = beginning;
        let time = now();
        out.event(time, Event::Coverage(self.coverage.clone()));
        for event in self.interfaces.read() {
            out.event(time, event);
        }
        let mut proc = Proc::new();
        match proc.processes() {
            Ok(processes) => {
                for process in processes {
                    out.event(time, Event::ProcessSeen(process));
                }
            }
            Err(error) => log::warn!("cannot list the processes that were there: {error}"),
        }
        for (netns, ports) in &seed.ephemeral_ports {
            let (netns, ports) = (*netns, *ports);
            out.event(time, Event::EphemeralPorts { netns, ports });
        }
        for socket in seed.sockets.iter().filter(|socket| is_seeded(socket)) {
            self.tracker.adopt(socket.cookie.0, self.epoch);
            out.event(time, Event::SocketFound(socket.fact()));
        }
        self.check_seed(&seed, listing, gives_cookies, time, out);
    }

    /// What came and went between the first listing and the attachment, which a second one shows:
    /// no hook has reported it.
    fn check_seed(
        &mut self,
        seed: &Seed,
        mut listing: Seed,
        gives_cookies: bool,
        time: Instant,
        out: &mut impl EventSink,
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
                let facts = sockets.filter_map(|(id, state)| convert::socket(id, &state));
                facts.map(|fact| socket_tuple(&fact)).collect()
            };
            for socket in &listing.sockets {
                let cookie = socket.cookie.0;
                if !is_seeded(socket) || before.contains(&cookie) {
                    continue;
                }
                let fact = socket.fact();
                if !known.contains(&socket_tuple(&fact)) {
                    seed_entry(&mut self.maps, socket);
                    self.tracker.adopt(cookie, self.epoch);
                    out.event(time, Event::SocketFound(fact));
                }
            }
        }
        if !listing.unread.iter().any(|unread| unread.hides_sockets) {
            let after = cookies(&listing);
            let gone = before.difference(&after).copied();
            self.tracker.close_missing(gone, time, &mut self.maps, out);
        }
    }
}

/// What distinguishes a socket from others, whatever its identity.
fn socket_tuple(fact: &SocketFact) -> (Protocol, Option<Netns>, SocketAddr, Option<SocketAddr>) {
    (fact.protocol, fact.netns, fact.local, fact.remote)
}

fn ring_buffer(ebpf: &mut Ebpf) -> Result<AsyncFd<RingBuf<MapData>>, StartError> {
    let ring = RingBuf::try_from(loader::take(ebpf, "RING")?).map_err(AttachError::from)?;
    // SAFETY: the ring buffer owns its one descriptor, and keeps it until it is dropped.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
        .map_err(|error| StartError::Ring(error.into()))
}

/// The wall clock's time at boot, as of now: later steps of the clock do not tear a stream apart.
fn clock() -> Clock {
    let since_boot = i64::try_from(now().0).unwrap_or(i64::MAX);
    let boot = Timestamp::now().checked_sub(SignedDuration::from_nanos(since_boot));
    Clock {
        boot: boot.unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

fn host() -> Host {
    let text = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
    nix::sys::utsname::uname().map_or_else(
        |_| Host::default(),
        |name| Host {
            name: text(name.nodename()),
            kernel: text(name.release()),
        },
    )
}

fn ticks(pace: Pace) -> Interval {
    let wait = if pace.at_once {
        Duration::ZERO
    } else {
        pace.interval
    };
    let mut ticks = time::interval_at(time::Instant::now() + wait, pace.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
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
