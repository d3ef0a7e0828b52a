//! Which backend does each capability get on this system, and why not a better one?
//!
//! Decided by what the kernel takes and by what its BTF lists, never by its version. First every
//! fact is gathered ([`Findings`]), then the decision is made from the facts alone ([`Report::new`]).

use std::{fmt, str::FromStr};

use nix::errno::Errno;
use serde::{Serialize, Serializer};

use super::{
    btf::Btf,
    environment::{Cap, Environment},
    limits,
    trial::{self, Outcome},
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
    probe_with(forced, Btf::from_kernel().ok().as_ref())
}

/// As [`probe`], with BTF that was read already.
pub fn probe_with(forced: Option<AppBackend>, btf: Option<&Btf>) -> Report {
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
    pub fn gather(btf: Option<&Btf>, forced: Option<AppBackend>) -> Self {
        let environment = Environment::read();
        let root = environment.cgroup_v2.as_deref();
        let [mut fexit, mut kprobe, mut byte_tracepoints] = [const { None }; 3];
        let mut order = AppBackend::ALL;
        order.sort_by_key(|backend| forced != Some(*backend));
        for backend in order {
            let (slot, outcome) = match backend {
                AppBackend::Fexit => (&mut fexit, trial::fexit(btf)),
                AppBackend::Kprobe => (&mut kprobe, trial::kprobe(btf)),
                AppBackend::Tracepoint => (&mut byte_tracepoints, trial::byte_tracepoints(btf)),
            };
            let enough = outcome == Outcome::Works;
            *slot = Some(outcome);
            if enough && forced.is_none_or(|forced| forced == backend) {
                break;
            }
        }
        let cgroup_sockets = trial::cgroup_sockets(root);
        let tcx = trial::tcx();
        let failed = |outcome: &Outcome| *outcome != Outcome::Works;
        Self {
            ring_buffer: trial::ring_buffer(),
            fexit,
            kprobe,
            byte_tracepoints,
            state_tracepoint: failed(&cgroup_sockets).then(|| trial::state_tracepoint(btf)),
            cgroup_sockets,
            cgroup_packets: trial::cgroup_packets(root),
            clsact: failed(&tcx).then(trial::clsact),
            tcx,
            process_tracepoints: trial::process_tracepoints(btf),
            sock_diag: trial::sock_diag(),
            environment,
        }
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
        let not_permitted = refused
            .iter()
            .any(|candidate| !missing(candidate.backend, &self.environment).is_empty());
        let names: Vec<_> = available.iter().map(ToString::to_string).collect();
        Err(BackendError {
            what: match self.forced {
                Some(forced) => format!("backend {forced} cannot be had here"),
                None => "no backend can count the bytes of processes here".into(),
            },
            why: reasons.join("; "),
            instead: match names.as_slice() {
                [] if not_permitted => AS_ROOT.into(),
                [] => "`flow doctor` shows what there is".into(),
                names => format!("available: {} (--backend {})", names.join(", "), names[0]),
            },
            not_permitted,
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

/// What to type when privileges are missing.
pub const AS_ROOT: &str = "run it as root: sudo flow ...";
/// What to type once, so that users without root may run Flow.
const SET_CAPABILITIES: &str = "sudo setcap cap_bpf,cap_perfmon,cap_net_admin,cap_sys_admin,\
                                cap_sys_ptrace,cap_dac_read_search+ep $(command -v flow)";
/// The kernel's own number for "not supported", which user space should never see but does.
const ENOTSUPP: i32 = 524;

fn missing(backend: Backend, environment: &Environment) -> Vec<Cap> {
    let needs = backend.needs().iter().copied();
    needs.filter(|cap| !environment.may(*cap)).collect()
}

fn is_locked_down(backend: Backend, environment: &Environment) -> bool {
    backend.needs().contains(&Cap::CapPerfmon)
        && environment.lockdown.as_deref() == Some("confidentiality")
}

fn status(backend: Backend, outcome: Option<&Outcome>, environment: &Environment) -> Status {
    match outcome {
        None => Status::Untried,
        Some(Outcome::Works) => Status::Available,
        Some(Outcome::Absent(why)) => Status::Absent { why: why.clone() },
        Some(Outcome::Refused { step, errno }) => Status::Refused {
            errno: *errno,
            why: explain(backend, step, *errno, environment),
        },
    }
}

fn explain(backend: Backend, step: &str, errno: i32, environment: &Environment) -> String {
    let missing = missing(backend, environment);
    let forbids = matches!(errno, libc::EPERM | libc::EACCES);
    if forbids && !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|cap| cap.name()).collect();
        return format!("not permitted: needs {}", names.join(" and "));
    }
    let name = match errno {
        ENOTSUPP => "ENOTSUPP".into(),
        errno => format!("{:?}", Errno::from_raw(errno)),
    };
    let reason = if is_locked_down(backend, environment) {
        "the kernel is locked down for confidentiality".into()
    } else if forbids && environment.user_namespace {
        "Flow runs in a user namespace".into()
    } else if forbids
        && step.starts_with("attaching")
        && backend.needs().contains(&Cap::CapNetAdmin)
    {
        "a program there allows no other, or an LSM denies it".into()
    } else if forbids && backend == Backend::Kprobe && step.starts_with("a return probe") {
        match environment.perf_event_paranoid {
            Some(level) => format!("kernel.perf_event_paranoid is {level}, or an LSM denies it"),
            None => "an LSM denies it".into(),
        }
    } else if forbids {
        match &environment.security_modules {
            Some(modules) => format!("an LSM denies them; active: {}", modules.join(", ")),
            None => "an LSM denies them".into(),
        }
    } else {
        match errno {
            libc::ENOSYS => "the kernel was built without CONFIG_BPF_SYSCALL".into(),
            libc::ENOMEM => match environment.memlock_bytes {
                Some(bytes) => format!("RLIMIT_MEMLOCK is {bytes} bytes"),
                None => "out of memory".into(),
            },
            ENOTSUPP => "the kernel cannot attach to the functions of this machine".into(),
            libc::ETIMEDOUT => "it did not return; a storm of exiting tasks can hold it up".into(),
            errno => Errno::from_raw(errno).desc().to_lowercase(),
        }
    };
    format!("{step}: {name} ({reason})")
}

fn cannot_see(backend: Backend, environment: &Environment) -> String {
    let mut words = vec![limits::words(backend)];
    if backend == Backend::SockDiag {
        if !environment.may(Cap::CapSysPtrace) {
            words.push("owners of other users' sockets (needs CAP_SYS_PTRACE)".into());
        }
        if !environment.may(Cap::CapSysAdmin) {
            words.push("other network namespaces (needs CAP_SYS_ADMIN)".into());
        }
        if environment.pid_namespace {
            words.push("owners outside of this PID namespace".into());
        }
    }
    words.retain(|word| !word.is_empty());
    words.join(", ")
}

/// What would help to get a candidate that is better than the chosen one.
fn remedy(
    chosen: Option<Backend>,
    candidates: &[Candidate],
    environment: &Environment,
) -> Option<String> {
    let better = candidates
        .iter()
        .take_while(|candidate| Some(candidate.backend) != chosen);
    for Candidate {
        backend, status, ..
    } in better
    {
        let mends = match status {
            Status::Available | Status::Untried => None,
            Status::Refused { .. } if !missing(*backend, environment).is_empty() => {
                Some(format!("run it with sudo, or once: {SET_CAPABILITIES}"))
            }
            Status::Refused { .. } if is_locked_down(*backend, environment) => {
                Some("boot with lockdown=integrity or without lockdown".into())
            }
            Status::Refused { .. } if environment.user_namespace => {
                Some("run it in the host's user namespace".into())
            }
            Status::Refused { .. } => None,
            Status::Absent { .. } => absent_remedy(*backend, environment),
        };
        if mends.is_some() {
            return mends;
        }
    }
    // The only way to list sockets may still see less than it could.
    let in_use = chosen == Some(Backend::SockDiag);
    if in_use && (!environment.may(Cap::CapSysPtrace) || !environment.may(Cap::CapSysAdmin)) {
        return Some(format!("run it with sudo, or once: {SET_CAPABILITIES}"));
    }
    (in_use && environment.pid_namespace)
        .then(|| "run it in the host's PID namespace (docker run --pid=host)".into())
}

fn absent_remedy(backend: Backend, environment: &Environment) -> Option<String> {
    match backend {
        Backend::CgroupSockets | Backend::CgroupSkb if environment.cgroup_v2.is_none() => {
            Some("sudo mkdir -p /run/cgroup2 && sudo mount -t cgroup2 none /run/cgroup2".into())
        }
        Backend::Clsact => Some("sudo modprobe -a sch_ingress cls_bpf".into()),
        Backend::SockDiag => Some("sudo modprobe -a tcp_diag udp_diag raw_diag".into()),
        Backend::Fexit | Backend::Tracepoint | Backend::ProcessTracepoints if !environment.btf => {
            Some("boot a kernel built with CONFIG_DEBUG_INFO_BTF".into())
        }
        Backend::Kprobe if environment.kprobes_built == Some(true) => Some(
            "the kernel was built with kprobes: look for what hides /sys/bus/event_source".into(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(step: &str, errno: i32) -> Outcome {
        Outcome::Refused {
            step: step.into(),
            errno,
        }
    }

    fn absent(why: &str) -> Outcome {
        Outcome::Absent(why.into())
    }

    /// A kernel on which everything works.
    fn ideal() -> Findings {
        Findings {
            environment: Environment {
                capabilities: Cap::ALL.into(),
                btf: true,
                cgroup_v2: Some("/sys/fs/cgroup".into()),
                ..Environment::default()
            },
            ring_buffer: Outcome::Works,
            fexit: Some(Outcome::Works),
            kprobe: Some(Outcome::Works),
            byte_tracepoints: Some(Outcome::Works),
            cgroup_sockets: Outcome::Works,
            state_tracepoint: Some(Outcome::Works),
            cgroup_packets: Outcome::Works,
            tcx: Outcome::Works,
            clsact: None,
            process_tracepoints: Outcome::Works,
            sock_diag: Outcome::Works,
        }
    }

    fn hardened() -> Findings {
        Findings {
            fexit: Some(refused("BPF programs of type tracing", libc::EPERM)),
            kprobe: Some(absent("the kernel has no kprobes (CONFIG_KPROBES)")),
            ..ideal()
        }
    }

    fn unprivileged() -> Findings {
        let no = || refused("x", libc::EPERM);
        Findings {
            environment: Environment {
                capabilities: [].into(),
                ..ideal().environment
            },
            ring_buffer: no(),
            fexit: Some(no()),
            kprobe: Some(no()),
            byte_tracepoints: Some(no()),
            cgroup_sockets: no(),
            state_tracepoint: Some(no()),
            cgroup_packets: no(),
            tcx: no(),
            clsact: Some(no()),
            process_tracepoints: no(),
            sock_diag: Outcome::Works,
        }
    }

    fn chosen(report: &Report, name: &str) -> Option<Backend> {
        report.capability(name).unwrap().chosen
    }

    #[test]
    fn the_best_backend_that_works_is_chosen() {
        let report = Report::new(ideal(), None);
        assert_eq!(report.app_backend(), Ok(AppBackend::Fexit));
        assert_eq!(chosen(&report, capability::INTERFACES), Some(Backend::Tcx));
        assert!(report.uses(Backend::CgroupSkb));
        assert!(report.capabilities.iter().all(|c| c.remedy.is_none()));

        let report = Report::new(hardened(), None);
        assert_eq!(report.app_backend(), Ok(AppBackend::Tracepoint));
        let app = report.capability(capability::APP_BYTES).unwrap();
        assert_eq!(
            app.candidates[0].status.why(),
            Some("BPF programs of type tracing: EPERM (an LSM denies them)")
        );
        assert!(report.coverage()[0].limits.contains("splice()"));
    }

    #[test]
    fn a_forced_backend_is_taken_or_its_absence_explained() {
        let report = Report::new(ideal(), Some(AppBackend::Kprobe));
        assert_eq!(report.app_backend(), Ok(AppBackend::Kprobe));
        assert_eq!(report.coverage()[0].backend.as_deref(), Some("kprobe"));

        let report = Report::new(hardened(), Some(AppBackend::Fexit));
        let error = report.app_backend().unwrap_err();
        assert_eq!(
            error.to_string(),
            "backend fexit cannot be had here: BPF programs of type tracing: EPERM (an LSM denies \
             them); available: tracepoint (--backend tracepoint)"
        );
        assert!(!error.not_permitted);
        assert_eq!(chosen(&report, capability::APP_BYTES), None);
    }

    #[test]
    fn without_privileges_every_candidate_tells_what_it_needs() {
        let report = Report::new(unprivileged(), None);
        let error = report.app_backend().unwrap_err();
        assert!(error.not_permitted);
        assert!(error.to_string().contains("needs CAP_BPF and CAP_PERFMON"));
        assert!(error.to_string().ends_with(AS_ROOT));
        for capability in &report.capabilities {
            assert!(capability.remedy.as_ref().unwrap().contains("setcap"));
        }
        assert_eq!(
            chosen(&report, capability::INTERFACES),
            Some(Backend::Rtnetlink)
        );
        let existing = &report.coverage()[5];
        assert_eq!(existing.backend.as_deref(), Some("sock_diag"));
        assert!(existing.limits.contains("CAP_SYS_PTRACE"));
    }

    #[test]
    fn what_can_be_mended_is_told() {
        let mut findings = ideal();
        findings.environment.cgroup_v2 = None;
        findings.environment.lockdown = Some("confidentiality".into());
        findings.fexit = Some(refused("BPF programs of type tracing", libc::EINVAL));
        findings.cgroup_packets = absent("the cgroup v2 tree is not mounted");
        findings.tcx = absent("the kernel has no TCX links");
        findings.clsact = Some(absent("the kernel module sch_ingress is not there"));
        let report = Report::new(findings, None);
        let remedy = |name| report.capability(name).unwrap().remedy.clone().unwrap();
        assert!(remedy(capability::APP_BYTES).contains("lockdown"));
        assert!(remedy(capability::WIRE_BYTES).contains("mount -t cgroup2"));
        assert!(remedy(capability::INTERFACES).contains("modprobe"));
    }

    #[test]
    fn programs_without_a_ring_buffer_are_not_chosen() {
        let findings = Findings {
            ring_buffer: refused("a ring buffer", libc::EINVAL),
            ..ideal()
        };
        let report = Report::new(findings, None);
        assert!(
            report
                .app_backend()
                .unwrap_err()
                .to_string()
                .contains("a ring buffer: EINVAL")
        );
    }

    #[test]
    fn errors_that_only_the_kernel_knows_have_names() {
        let findings = Findings {
            fexit: Some(refused("attaching to a function's return", ENOTSUPP)),
            ..ideal()
        };
        let report = Report::new(findings, Some(AppBackend::Fexit));
        assert!(
            report
                .app_backend()
                .unwrap_err()
                .to_string()
                .contains("ENOTSUPP")
        );
    }

    #[test]
    fn names_of_backends_are_what_the_flag_takes() {
        for backend in AppBackend::ALL {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
        assert!("capture".parse::<AppBackend>().is_err());
    }
}
