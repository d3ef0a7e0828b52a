//! What is attached, what is done without where the kernel refuses it, and how that is told.

use aya::Ebpf;

use super::{
    StartError,
    btf::Btf,
    frames::{Attached, Frames},
    limits::{self, Blind},
    probe::{AppBackend, Backend, Report, capability},
    programs::{self, LIVES, Missing, PACKETS, RELEASES, SOCKET_RELEASES, SOCKETS, STATES},
};
use crate::{
    event::Coverage,
    source::{cgroups::CgroupLayout, seed::Seed},
};

/// Attaches what surrounds the counting of app bytes. What is refused is said, and done without.
pub fn around(ebpf: &mut Ebpf, report: &Report, coverage: &mut [Coverage]) {
    let root = CgroupLayout::read().v2_root.unwrap_or_default();
    if report.uses(Backend::CgroupSkb) {
        let missing = programs::attach_cgroup(ebpf, &root, PACKETS);
        let told = provided(Backend::CgroupSkb, PACKETS.len(), &missing);
        tell(coverage, capability::WIRE_BYTES, told);
    }
    let mut backend = Backend::StateTracepoint;
    let mut programs = STATES.len();
    let mut missing = programs::attach_tracepoints(ebpf, STATES);
    let mut releases = RELEASES;
    if report.uses(Backend::CgroupSockets) {
        let refused = programs::attach_cgroup(ebpf, &root, SOCKETS);
        if refused.len() < SOCKETS.len() {
            backend = Backend::CgroupSockets;
            programs += SOCKETS.len();
        }
        missing.extend(refused);
        if programs::is_loaded(ebpf, SOCKET_RELEASES) {
            releases = &[];
        }
    }
    programs += releases.len();
    missing.extend(programs::attach_tracepoints(ebpf, releases));
    let told = provided(backend, programs, &missing);
    tell(coverage, capability::SOCKETS, told);
    let missing = programs::attach_tracepoints(ebpf, LIVES);
    let told = provided(Backend::ProcessTracepoints, LIVES.len(), &missing);
    tell(coverage, capability::PROCESSES, told);
}

/// Attaches the best backend for app bytes that works as a whole, or the one that was asked for; if there
/// is none, the best that counts at all.
///
/// # Errors
/// The kernel refuses programs that each of them is nothing without.
pub fn app(
    ebpf: &mut Ebpf,
    btf: &Btf,
    report: &Report,
    coverage: &mut [Coverage],
) -> Result<(), StartError> {
    let first = report.app_backend()?;
    let cgroup_root = CgroupLayout::read().v2_root;
    let backends = AppBackend::ALL
        .into_iter()
        .skip_while(|backend| *backend != first);
    let most = report.forced.map_or(AppBackend::ALL.len(), |_| 1);
    let mut refusal = None;
    for complete in [true, false] {
        for backend in backends.clone().take(most) {
            let attached =
                programs::attach_app(ebpf, backend, btf, cgroup_root.as_deref(), complete);
            match attached {
                Ok(missing) => {
                    // At least one is attached.
                    let programs = missing.len() + 1;
                    let mut told = provided(backend.into(), programs, &missing);
                    if backend == AppBackend::Tracepoint && cgroup_root.is_none() {
                        add(&mut told.1, Blind::UnconnectedPeers.words());
                    }
                    tell(coverage, capability::APP_BYTES, told);
                    return Ok(());
                }
                Err(error) if complete => log::warn!("backend {backend}: {error}"),
                Err(error) => {
                    refusal.get_or_insert(error);
                }
            }
        }
    }
    refusal.map_or(Ok(()), |error| Err(error.into()))
}

/// On how many interfaces packets are classified.
pub fn frames(frames: &Frames) -> (Option<Backend>, String) {
    let Attached {
        way,
        lacking,
        waiting,
        up,
        refusal,
    } = frames.attached();
    let backend = way.map_or(Backend::Rtnetlink, Backend::from);
    let mut limits = limits::words(backend);
    let why = match (&refusal, waiting) {
        (_, true) => " (being attached)".to_owned(),
        (Some(error), false) => format!(" ({error})"),
        (None, false) => String::new(),
    };
    if way.is_none() {
        limits.push_str(&why);
    } else if lacking > 0 {
        add(
            &mut limits,
            &format!("packets of {lacking} of {up} interfaces{why}"),
        );
    }
    (Some(backend), limits)
}

/// Adds what could not be read of the sockets that were there to what is not seen.
pub fn seed(seed: &Seed, coverage: &mut [Coverage]) {
    let existing = |entry: &&mut Coverage| entry.capability == capability::EXISTING;
    for entry in coverage.iter_mut().filter(existing) {
        for unread in &seed.unread {
            log::info!("{unread}");
            add(&mut entry.limits, &unread.what);
        }
    }
}

/// Says how a capability is provided; whether that is news.
pub fn tell(
    coverage: &mut [Coverage],
    name: &str,
    (backend, limits): (Option<Backend>, String),
) -> Option<Coverage> {
    let entry = coverage.iter_mut().find(|entry| entry.capability == name)?;
    let told = Coverage {
        capability: name.into(),
        backend: backend.map(|backend| backend.to_string()),
        limits,
    };
    (*entry != told).then(|| {
        entry.clone_from(&told);
        told
    })
}

/// How a backend of so many programs, of which some are missing, provides its capability.
fn provided(backend: Backend, programs: usize, missing: &[Missing]) -> (Option<Backend>, String) {
    for program in missing {
        log::warn!("not seen: {program}");
    }
    if missing.len() >= programs {
        let first = missing.first().map(|missing| &missing.error);
        let why = first.map_or(String::new(), |error| format!(" ({error})"));
        return (None, format!("everything{why}"));
    }
    let mut limits = limits::words(backend);
    for program in missing {
        add(&mut limits, &program.to_string());
    }
    (Some(backend), limits)
}

fn add(limits: &mut String, more: &str) {
    if !limits.is_empty() {
        limits.push_str(", ");
    }
    limits.push_str(more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kernel::programs::AttachError;

    fn missing(function: &str) -> Missing {
        Missing::calls_of(function, AttachError::NoProgram("p".into()))
    }

    #[test]
    fn a_backend_without_some_programs_says_what_it_does_not_see() {
        let (backend, limits) = provided(Backend::CgroupSkb, 2, &[missing("f")]);
        assert_eq!(backend, Some(Backend::CgroupSkb));
        assert!(limits.starts_with(&limits::words(Backend::CgroupSkb)));
        assert!(limits.ends_with(", calls of f (the kernel side has no program p)"));
    }

    #[test]
    fn a_backend_without_all_of_them_is_none() {
        let (backend, limits) = provided(Backend::CgroupSkb, 2, &[missing("f"), missing("g")]);
        assert_eq!(backend, None);
        assert_eq!(limits, "everything (the kernel side has no program p)");
    }

    #[test]
    fn coverage_is_news_only_where_it_changed() {
        let mut coverage = vec![Coverage {
            capability: capability::INTERFACES.into(),
            backend: None,
            limits: String::new(),
        }];
        let now = || {
            (
                Some(Backend::Tcx),
                "packets of 2 of 3 interfaces".to_owned(),
            )
        };
        let told = tell(&mut coverage, capability::INTERFACES, now());
        assert_eq!(told.as_ref(), coverage.first());
        assert_eq!(tell(&mut coverage, capability::INTERFACES, now()), None);
        assert_eq!(tell(&mut coverage, capability::WIRE_BYTES, now()), None);
    }
}
