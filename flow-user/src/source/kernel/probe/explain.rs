//! Why a backend is not there, and what would help.

use nix::errno::Errno;

use crate::{
    event::{
        Capability,
        doctor::{Candidate, Cap, Environment, Status},
    },
    source::kernel::{
        backends::{self, Backend, BackendDef, Requirement},
        trial::Outcome,
    },
};

/// What to type when privileges are missing.
pub const AS_ROOT: &str = "run it as root: sudo flow ...";
/// What to do when they count only inside a user namespace.
pub(super) const IN_HOST_NAMESPACE: &str =
    "run it as root in the host's user namespace, not in one of its own";
/// What to type once, so that users without root may run Flow.
const SET_CAPABILITIES: &str = "sudo setcap cap_bpf,cap_perfmon,cap_net_admin,cap_sys_admin,\
                                cap_sys_ptrace,cap_dac_read_search+ep $(command -v flow)";
/// What to do where only a part of the cgroup v2 tree is mounted.
const ROOT_OF_PART: &str = "run it in the host's cgroup namespace (docker run --cgroupns=host), or with \
                            CAP_DAC_READ_SEARCH and CAP_SYS_ADMIN";
/// The kernel's own number for "not supported", which user space should never see but does.
pub(super) const ENOTSUPP: i32 = 524;

pub(super) fn missing(def: &BackendDef, environment: &Environment) -> Vec<Cap> {
    let privileges = def.privileges.iter().copied();
    privileges.filter(|cap| !environment.may(*cap)).collect()
}

fn is_locked_down(def: &BackendDef, environment: &Environment) -> bool {
    def.privileges.contains(&Cap::CapPerfmon)
        && environment.lockdown.as_deref() == Some("confidentiality")
}

pub(super) fn status(
    def: &BackendDef,
    outcome: Option<&Outcome>,
    environment: &Environment,
) -> Status {
    match outcome {
        None => Status::Untried,
        Some(Outcome::Works) => Status::Available,
        Some(Outcome::Absent(_))
            if def.requirement == Requirement::CgroupRoot
                && environment.cgroup_v2_part.is_some() =>
        {
            Status::Absent {
                why: "only a part of the cgroup v2 tree is mounted, and its root can't be reached"
                    .into(),
            }
        }
        Some(Outcome::Absent(why)) => Status::Absent { why: why.clone() },
        Some(Outcome::Refused { step, errno }) => Status::Refused {
            errno: *errno,
            why: explain(def, step, *errno, environment),
        },
    }
}

fn explain(def: &BackendDef, step: &str, errno: i32, environment: &Environment) -> String {
    let missing = missing(def, environment);
    let forbids = matches!(errno, libc::EPERM | libc::EACCES);
    if forbids && !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|cap| cap.name()).collect();
        return format!("not permitted: needs {}", names.join(" and "));
    }
    let name = match errno {
        ENOTSUPP => "ENOTSUPP".into(),
        errno => format!("{:?}", Errno::from_raw(errno)),
    };
    let reason = if is_locked_down(def, environment) {
        "the kernel is locked down for confidentiality".into()
    } else if forbids && environment.user_namespace {
        "Flow runs in a user namespace".into()
    } else if forbids && step.starts_with("attaching") && def.privileges.contains(&Cap::CapNetAdmin)
    {
        "a program there allows no other, or an LSM denies it".into()
    } else if forbids
        && def.requirement == Requirement::Kprobes
        && step.starts_with("a return probe")
    {
        match environment.perf_event_paranoid {
            Some(level) => format!("kernel.perf_event_paranoid is {level}, or an LSM denies it"),
            None => "an LSM denies it".into(),
        }
    } else if forbids && environment.seccomp {
        "a seccomp filter or an LSM denies it".into()
    } else if forbids {
        match &environment.security_modules {
            Some(modules) => format!("an LSM denies them; active: {}", modules.join(", ")),
            None => "an LSM denies them".into(),
        }
    } else {
        match errno {
            libc::ENOSYS if environment.seccomp => "a seccomp filter denies it".into(),
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

/// What would help to get a candidate that is better than the chosen one.
pub(super) fn remedy(
    chosen: Option<Backend>,
    capability: Capability,
    candidates: &[Candidate],
    environment: &Environment,
) -> Option<String> {
    let with_privileges = || format!("run it with sudo, or once: {SET_CAPABILITIES}");
    let better = backends::of(capability)
        .zip(candidates)
        .take_while(|(def, _)| Some(def.backend) != chosen);
    for (def, candidate) in better {
        let mends = match candidate.status {
            Status::Available | Status::Untried => None,
            Status::Refused { .. } if !missing(def, environment).is_empty() => {
                Some(with_privileges())
            }
            Status::Refused { .. } if is_locked_down(def, environment) => {
                Some("boot with lockdown=integrity or without lockdown".into())
            }
            Status::Refused { .. } if environment.user_namespace => {
                Some("run it in the host's user namespace".into())
            }
            Status::Refused { .. } => None,
            Status::Absent { .. } => absent_remedy(def.requirement, environment),
        };
        if mends.is_some() {
            return mends;
        }
    }
    // The only way to list sockets may still see less than it could.
    let in_use = chosen == Some(Backend::SockDiag);
    if in_use && (!environment.may(Cap::CapSysPtrace) || !environment.may(Cap::CapSysAdmin)) {
        return Some(with_privileges());
    }
    (in_use && environment.pid_namespace)
        .then(|| "run it in the host's PID namespace (docker run --pid=host)".into())
}

fn absent_remedy(requirement: Requirement, environment: &Environment) -> Option<String> {
    match requirement {
        Requirement::CgroupRoot if environment.cgroup_v2_part.is_some() => {
            Some(ROOT_OF_PART.into())
        }
        Requirement::CgroupRoot if environment.cgroup_v2.is_none() => {
            Some("sudo mkdir -p /run/cgroup2 && sudo mount -t cgroup2 none /run/cgroup2".into())
        }
        Requirement::Modules(modules) => Some(format!("sudo modprobe -a {modules}")),
        Requirement::Btf if !environment.btf => {
            Some("boot a kernel built with CONFIG_DEBUG_INFO_BTF".into())
        }
        Requirement::Kprobes if environment.kprobes_built == Some(true) => Some(
            "the kernel was built with kprobes: look for what hides /sys/bus/event_source".into(),
        ),
        _ => None,
    }
}
