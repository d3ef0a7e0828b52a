//! Which backend does each capability get on this system, and why not a better one?
//!
//! Decided by what the kernel takes and by what its BTF lists, never by its version. First every
//! fact is gathered ([`Findings`]), then the decision is made from the facts alone ([`Report::new`]).

mod explain;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

pub use self::explain::AS_ROOT;
use self::explain::{IN_HOST_NAMESPACE, cannot_see, missing, remedy, status};
use super::{
    beside::beside,
    btf::Btf,
    environment::{Cap, Environment},
    trial::{self, Outcome, Types},
};
use crate::event::Coverage;

/// A backend for app bytes; the one thing that `--backend` chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppBackend {
    Fexit,
    Kprobe,
    Tracepoint,
}

/// A way to provide a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Tracing programs on the return of the socket-layer functions.
    Fexit,
    /// Probes on entry and return of the same functions.
    Kprobe,
    /// The tracepoints `sock_send_length` and `sock_recv_length`.
    Tracepoint,
    /// cgroup sock_create, connect, post_bind, sock_release, and sock_ops.
    CgroupSockets,
    /// The tracepoint `inet_sock_set_state`.
    StateTracepoint,
    CgroupSkb,
    Tcx,
    Clsact,
    /// The interfaces' own counters.
    Rtnetlink,
    /// The tracepoints of exec, fork and exit.
    ProcessTracepoints,
    SockDiag,
}

/// What was found, and what was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub environment: Environment,
    /// The backend for app bytes that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<AppBackend>,
    pub capabilities: Vec<Capability>,
}

/// Something Flow can do, and how it does it here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capability {
    pub name: &'static str,
    /// The backend in use; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Backend>,
    /// Every backend, the best first.
    pub candidates: Vec<Candidate>,
    /// What to type, or to change, to get a better one; absent when nothing helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// A backend, and whether it can be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    pub backend: Backend,
    #[serde(flatten)]
    pub status: Status,
    /// What it does not see, in words; empty when it sees everything.
    pub cannot_see: String,
}

/// Whether a backend can be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Status {
    Available,
    /// The kernel has it and does not give it.
    Refused {
        errno: i32,
        why: String,
    },
    /// The kernel does not have it.
    Absent {
        why: String,
    },
    /// Not tried, because a better one works.
    Untried,
}

/// No backend for app bytes, or not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}; {instead}")]
pub struct BackendError {
    what: String,
    why: String,
    instead: String,
    /// Whether Flow lacks a capability for it, rather than the kernel the means.
    pub not_permitted: bool,
}

/// Names of the capabilities in [`Report::capabilities`].
pub mod capability {
    pub const APP_BYTES: &str = "app bytes by process";
    pub const SOCKETS: &str = "socket identity and life";
    pub const WIRE_BYTES: &str = "wire bytes by socket";
    pub const INTERFACES: &str = "interface totals";
    pub const PROCESSES: &str = "process life";
    pub const EXISTING: &str = "sockets that existed before";
}

/// Finds out what this system offers. Needs no privileges; without them it tells which are missing.
pub fn probe(forced: Option<AppBackend>) -> Report {
    probe_with(forced, Btf::from_kernel().as_ref())
}

/// As [`probe`], with BTF that was read already.
pub fn probe_with(forced: Option<AppBackend>, btf: Types<'_>) -> Report {
    Report::new(Findings::gather(btf, forced), forced)
}

/// How each trial ended. Absent where a better backend works, so that there was no need to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    pub environment: Environment,
    pub ring_buffer: Outcome,
    pub fexit: Option<Outcome>,
    pub kprobe: Option<Outcome>,
    pub byte_tracepoints: Option<Outcome>,
    pub cgroup_sockets: Outcome,
    pub state_tracepoint: Option<Outcome>,
    pub cgroup_packets: Outcome,
    pub tcx: Outcome,
    pub clsact: Option<Outcome>,
    pub process_tracepoints: Outcome,
    pub sock_diag: Outcome,
}

impl Findings {
    /// Runs the trials that are needed. Each costs some milliseconds of a start, the ones of
    /// functions' returns most; if a forced backend works, no other is tried.
    pub fn gather(btf: Types<'_>, forced: Option<AppBackend>) -> Self {
        let environment = Environment::read(btf.is_ok());
        let root = environment.cgroup_v2.as_deref();
        let failed = |outcome: &Outcome| *outcome != Outcome::Works;
        // A TCX link waits long for nothing that the others need.
        let (tcx, (app, cgroup_sockets, cgroup_packets, process_tracepoints)) =
            beside(trial::tcx, || {
                (
                    Self::of_app(btf, forced),
                    trial::cgroup_sockets(root),
                    trial::cgroup_packets(root),
                    trial::process_tracepoints(btf),
                )
            });
        let [fexit, kprobe, byte_tracepoints] = app;
        Self {
            ring_buffer: trial::ring_buffer(),
            fexit,
            kprobe,
            byte_tracepoints,
            state_tracepoint: failed(&cgroup_sockets).then(|| trial::state_tracepoint(btf)),
            cgroup_sockets,
            cgroup_packets,
            clsact: failed(&tcx).then(trial::clsact),
            tcx,
            process_tracepoints,
            sock_diag: trial::sock_diag(),
            environment,
        }
    }

    /// The trials of the backends of app bytes, as [`AppBackend::ALL`] has them.
    fn of_app(btf: Types<'_>, forced: Option<AppBackend>) -> [Option<Outcome>; 3] {
        let [mut fexit, mut kprobe, mut byte_tracepoints] = [const { None }; 3];
        let mut order = AppBackend::ALL;
        order.sort_by_key(|backend| forced != Some(*backend));
        let patience = if forced == Some(AppBackend::Fexit) {
            trial::FORCED_PATIENCE
        } else {
            trial::ATTACH_PATIENCE
        };
        for backend in order {
            let (slot, outcome) = match backend {
                AppBackend::Fexit => (&mut fexit, trial::fexit(btf, patience)),
                AppBackend::Kprobe => (&mut kprobe, trial::kprobe(btf)),
                AppBackend::Tracepoint => (&mut byte_tracepoints, trial::byte_tracepoints(btf)),
            };
            let enough = outcome == Outcome::Works;
            *slot = Some(outcome);
            if enough && forced.is_none_or(|forced| forced == backend) {
                break;
            }
        }
        [fexit, kprobe, byte_tracepoints]
    }
}

impl Report {
    /// Decides from the findings alone.
    pub fn new(findings: Findings, forced: Option<AppBackend>) -> Self {
        let Findings {
            environment,
            ring_buffer,
            fexit,
            kprobe,
            byte_tracepoints,
            cgroup_sockets,
            state_tracepoint,
            cgroup_packets,
            tcx,
            clsact,
            process_tracepoints,
            sock_diag,
        } = findings;
        let candidate = |backend: Backend, outcome: Option<&Outcome>| {
            // Programs that work are of no use without a way to hear of them.
            let outcome = match outcome {
                Some(Outcome::Works) if backend.is_bpf() => Some(&ring_buffer),
                outcome => outcome,
            };
            Candidate {
                backend,
                status: status(backend, outcome, &environment),
                cannot_see: cannot_see(backend, &environment),
            }
        };
        let capability = |name, backends: &[(Backend, Option<&Outcome>)]| {
            let candidates: Vec<_> = backends
                .iter()
                .map(|(backend, outcome)| candidate(*backend, *outcome))
                .collect();
            let chosen = candidates
                .iter()
                .filter(|candidate| {
                    name != capability::APP_BYTES
                        || forced.is_none_or(|forced| Backend::from(forced) == candidate.backend)
                })
                .find(|candidate| candidate.status == Status::Available)
                .map(|candidate| candidate.backend);
            Capability {
                name,
                chosen,
                remedy: remedy(chosen, &candidates, &environment),
                candidates,
            }
        };
        let capabilities = vec![
            capability(
                capability::APP_BYTES,
                &[
                    (Backend::Fexit, fexit.as_ref()),
                    (Backend::Kprobe, kprobe.as_ref()),
                    (Backend::Tracepoint, byte_tracepoints.as_ref()),
                ],
            ),
            capability(
                capability::SOCKETS,
                &[
                    (Backend::CgroupSockets, Some(&cgroup_sockets)),
                    (Backend::StateTracepoint, state_tracepoint.as_ref()),
                ],
            ),
            capability(
                capability::WIRE_BYTES,
                &[(Backend::CgroupSkb, Some(&cgroup_packets))],
            ),
            capability(
                capability::INTERFACES,
                &[
                    (Backend::Tcx, Some(&tcx)),
                    (Backend::Clsact, clsact.as_ref()),
                    (Backend::Rtnetlink, Some(&Outcome::Works)),
                ],
            ),
            capability(
                capability::PROCESSES,
                &[(Backend::ProcessTracepoints, Some(&process_tracepoints))],
            ),
            capability(
                capability::EXISTING,
                &[(Backend::SockDiag, Some(&sock_diag))],
            ),
        ];
        Self {
            environment,
            forced,
            capabilities,
        }
    }

    /// The backend for app bytes.
    ///
    /// # Errors
    /// There is none, or not the one asked for; says why, and what there is instead.
    pub fn app_backend(&self) -> Result<AppBackend, BackendError> {
        let candidates: &[Candidate] = self
            .capability(capability::APP_BYTES)
            .map_or(&[], |capability| &capability.candidates);
        let available: Vec<_> = AppBackend::ALL
            .into_iter()
            .filter(|backend| {
                candidates.iter().any(|candidate| {
                    candidate.backend == Backend::from(*backend)
                        && candidate.status == Status::Available
                })
            })
            .collect();
        let wanted = |backend: &AppBackend| self.forced.is_none_or(|forced| forced == *backend);
        if let Some(backend) = available.iter().copied().find(wanted) {
            return Ok(backend);
        }
        let refused: Vec<_> = candidates
            .iter()
            .filter(|candidate| {
                self.forced
                    .is_none_or(|forced| Backend::from(forced) == candidate.backend)
            })
            .collect();
        let reasons: Vec<_> = refused
            .iter()
            .filter_map(|candidate| {
                let why = candidate.status.why()?;
                Some(match self.forced {
                    Some(_) => why.to_owned(),
                    None => format!("{}: {why}", candidate.backend),
                })
            })
            .collect();
        let lacks_rights = refused
            .iter()
            .any(|candidate| !missing(candidate.backend, &self.environment).is_empty());
        // There no capability counts for BPF.
        let is_confined = self.environment.user_namespace
            && refused.iter().any(|candidate| candidate.status.forbids());
        let names: Vec<_> = available.iter().map(ToString::to_string).collect();
        Err(BackendError {
            what: match self.forced {
                Some(forced) => format!("backend {forced} cannot be had here"),
                None => "no backend can count the bytes of processes here".into(),
            },
            why: reasons.join("; "),
            instead: match names.as_slice() {
                [] if is_confined => IN_HOST_NAMESPACE.into(),
                [] if lacks_rights => AS_ROOT.into(),
                [] => "`flow doctor` shows what there is".into(),
                names => format!("available: {} (--backend {})", names.join(", "), names[0]),
            },
            not_permitted: lacks_rights || is_confined,
        })
    }

    /// How each capability is provided, for the header of each view.
    pub fn coverage(&self) -> Vec<Coverage> {
        self.capabilities
            .iter()
            .map(|capability| Coverage {
                capability: capability.name.into(),
                backend: capability.chosen.map(|backend| backend.to_string()),
                limits: match capability.candidate_in_use() {
                    Some(candidate) => candidate.cannot_see.clone(),
                    None => "everything".into(),
                },
            })
            .collect()
    }

    /// The capability of this name, one of [`capability`].
    pub fn capability(&self, name: &str) -> Option<&Capability> {
        self.capabilities
            .iter()
            .find(|capability| capability.name == name)
    }

    /// Whether programs give each TCP connection its cookie before it is established.
    pub fn gives_cookies(&self) -> bool {
        self.uses(Backend::CgroupSockets) || self.uses(Backend::CgroupSkb)
    }

    /// Whether this backend is the one in use for some capability.
    pub fn uses(&self, backend: Backend) -> bool {
        self.capabilities
            .iter()
            .any(|capability| capability.chosen == Some(backend))
    }
}

impl Capability {
    /// The candidate in use.
    pub fn candidate_in_use(&self) -> Option<&Candidate> {
        self.candidates
            .iter()
            .find(|candidate| Some(candidate.backend) == self.chosen)
    }
}

impl Status {
    /// Why it cannot be had.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Refused { why, .. } | Self::Absent { why } => Some(why),
            Self::Available | Self::Untried => None,
        }
    }

    /// Whether the kernel has it, and does not permit it.
    const fn forbids(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                errno: libc::EPERM | libc::EACCES,
                ..
            }
        )
    }

    /// The status in one word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Refused { .. } => "refused",
            Self::Absent { .. } => "absent",
            Self::Untried => "not tried",
        }
    }
}

impl AppBackend {
    /// Every backend for app bytes, the best first.
    pub const ALL: [Self; 3] = [Self::Fexit, Self::Kprobe, Self::Tracepoint];

    /// Name as `--backend` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fexit => "fexit",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }
}

impl fmt::Display for AppBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for AppBackend {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|backend| backend.name() == name)
            .ok_or_else(|| "expected fexit, kprobe or tracepoint".into())
    }
}

impl Serialize for AppBackend {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<AppBackend> for Backend {
    fn from(backend: AppBackend) -> Self {
        match backend {
            AppBackend::Fexit => Self::Fexit,
            AppBackend::Kprobe => Self::Kprobe,
            AppBackend::Tracepoint => Self::Tracepoint,
        }
    }
}

impl Backend {
    /// Name as it stands in outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fexit => "fexit",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
            Self::CgroupSockets => "cgroup hooks",
            Self::StateTracepoint => "tracepoint",
            Self::CgroupSkb => "cgroup_skb",
            Self::Tcx => "TCX",
            Self::Clsact => "clsact",
            Self::Rtnetlink => "counters",
            Self::ProcessTracepoints => "tracepoints",
            Self::SockDiag => "sock_diag",
        }
    }

    const fn is_bpf(self) -> bool {
        !matches!(self, Self::Rtnetlink | Self::SockDiag)
    }

    /// Capabilities without which the kernel refuses it.
    const fn needs(self) -> &'static [Cap] {
        match self {
            Self::Fexit
            | Self::Kprobe
            | Self::Tracepoint
            | Self::StateTracepoint
            | Self::ProcessTracepoints => &[Cap::CapBpf, Cap::CapPerfmon],
            Self::CgroupSockets | Self::CgroupSkb | Self::Tcx | Self::Clsact => {
                &[Cap::CapBpf, Cap::CapNetAdmin]
            }
            Self::Rtnetlink | Self::SockDiag => &[],
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Backend {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
