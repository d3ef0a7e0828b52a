//! Starting: what is loaded and attached, and what was there before.

use std::{io, net::SocketAddr, time::Duration};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use foldhash::HashSet;
use jiff::{SignedDuration, Timestamp};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{self, Interval, MissedTickBehavior},
};

use super::{
    Kernel, Listeners, PROGRESS, SWEEP, attach,
    beside::beside,
    btf::Btf,
    classifier::Way,
    environment::{Cap, Environment},
    facts,
    frames::Frames,
    loader::{self, LoadError},
    maps::Maps,
    now,
    probe::{self, AppBackend, Backend, BackendError, capability},
    programs::{self, AttachError},
    sizes::Sizes,
    tracker::{Counters as _, Lost, Tracker},
};
use crate::{
    event::{Clock, Event, EventSink, Host, Instant, Netns, Protocol, SocketFact, State},
    source::{
        Origin, Pace,
        interfaces::Interfaces,
        proc::Proc,
        seed::{self, Seed, SeedSocket},
    },
};

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

/// What was there when the programs were attached, until it is reported.
pub(super) struct Beginning {
    /// Listed before anything was attached.
    seed: Seed,
    /// Listed after it.
    listing: Seed,
    gives_cookies: bool,
}

impl Kernel {
    /// Loads and attaches. [`Source::begin`](crate::source::Source::begin) reports what was there before.
    ///
    /// # Errors
    /// The kernel refuses something that there is no substitute for.
    pub fn start(options: Options, pace: Pace) -> Result<Self, StartError> {
        let clock = clock();
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
        super::kernel_log::follow(&mut ebpf);

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
            all_mapped: 0,
            rest_until: time::Instant::now(),
            last_sweep: time::Instant::now(),
            next_sweep: time::Instant::now() + SWEEP,
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
        kernel.frames.begin();
        Ok(kernel)
    }

    /// Reports what there is: how it is seen, the interfaces, the processes, the sockets. To be called once.
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
        for event in self.frames.read() {
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
        for socket in seed.sockets.iter().filter(|socket| is_seeded(socket)) {
            self.tracker.adopt(socket.cookie.0, self.epoch);
            out.event(time, Event::Socket(socket.fact()));
        }
        self.check_seed(&seed, listing, gives_cookies, time, out);
    }

    /// What came and went between the first listing and the attachment, which a second one shows: no hook has reported it.
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
                    out.event(time, Event::Socket(fact));
                }
            }
        }
        if !listing.unread.iter().any(|unread| unread.hides_sockets) {
            let after = cookies(&listing);
            let gone = before.difference(&after).copied();
            self.tracker.vanished(gone, time, &mut self.maps, out);
        }
    }
}

/// Whether a listed socket is reported and followed. The remains of a connection are not: no process has
/// them, and they never end by a close. An MPTCP socket shares its cookie; it is reported when it is
/// used.
fn is_seeded(socket: &SeedSocket) -> bool {
    let remains = matches!(socket.state, State::TimeWait | State::SynReceived);
    !remains && socket.protocol != Protocol::Mptcp
}

/// The cookies of those.
pub(super) fn cookies(seed: &Seed) -> HashSet<u64> {
    let sockets = seed.sockets.iter().filter(|socket| is_seeded(socket));
    sockets.map(|socket| socket.cookie.0).collect()
}

/// What distinguishes a socket from others, whatever its identity.
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
