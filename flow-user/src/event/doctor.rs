//! What `flow doctor` reports, as data: how each capability is provided here, why not better, and
//! what surrounds Flow.

use std::{collections::BTreeSet, path::PathBuf};

use serde::Serialize;

use super::Capability;

/// What was found, and what was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub environment: Environment,
    /// The backend for app bytes that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<&'static str>,
    pub capabilities: Vec<Provision>,
}

/// How a capability is provided here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provision {
    #[serde(rename = "name")]
    pub capability: Capability,
    /// The backend in use; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<&'static str>,
    /// Every backend, the best first.
    pub candidates: Vec<Candidate>,
    /// What to type, or to change, to get a better one; absent when nothing helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// A backend, and whether it can be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Its name, which no other of the capability has.
    pub backend: &'static str,
    #[serde(flatten)]
    pub status: Status,
    /// What it does not see, in words; empty when it sees everything.
    #[serde(rename = "cannot_see")]
    pub blind_spots: String,
    /// How or where it works, in words.
    #[serde(skip)]
    pub detail: String,
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

impl Report {
    /// How a capability is provided.
    pub fn provision(&self, capability: Capability) -> Option<&Provision> {
        self.capabilities
            .iter()
            .find(|provision| provision.capability == capability)
    }
}

impl Provision {
    /// The candidate in use.
    pub fn candidate_in_use(&self) -> Option<&Candidate> {
        self.candidates
            .iter()
            .find(|candidate| Some(candidate.backend) == self.chosen)
    }
}

impl Status {
    /// Whether it was refused because no more files could be opened.
    pub fn is_out_of_files(&self) -> bool {
        matches!(self, Self::Refused { errno, .. } if matches!(*errno, libc::EMFILE | libc::ENFILE))
    }

    /// Why it cannot be had.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Refused { why, .. } | Self::Absent { why } => Some(why),
            Self::Available | Self::Untried => None,
        }
    }

    /// Whether the kernel has it, and does not permit it.
    pub const fn forbids(&self) -> bool {
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

/// Facts about the system and about Flow's own process. Absent means it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Environment {
    pub hostname: String,
    /// Kernel release, such as `6.12.0`.
    pub kernel: String,
    pub machine: String,
    /// Effective capabilities, by their names.
    pub capabilities: BTreeSet<Cap>,
    /// Whether system calls pass a seccomp filter, which may refuse them.
    pub seccomp: bool,
    /// Whether those count only inside a user namespace, where BPF asks for more.
    pub user_namespace: bool,
    /// Whether Flow sees the host's processes under other ids, or not at all.
    pub pid_namespace: bool,
    /// Mode of the kernel's lockdown: `none`, `integrity` or `confidentiality`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lockdown: Option<String>,
    /// Linux security modules at work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_modules: Option<Vec<String>>,
    /// `kernel.unprivileged_bpf_disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unprivileged_bpf_disabled: Option<i32>,
    /// `kernel.perf_event_paranoid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perf_event_paranoid: Option<i32>,
    /// Bytes that may be locked in memory; absent means no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memlock_bytes: Option<u64>,
    /// Whether the kernel publishes BTF that can be read.
    pub btf: bool,
    /// Where the root of the cgroup v2 tree is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_v2: Option<PathBuf>,
    /// Where a part of that tree is mounted whose root can't be reached, as in a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_v2_part: Option<PathBuf>,
    /// Whether cgroup v1 hierarchies are mounted too.
    pub cgroup_v1: bool,
    /// Whether the kernel was built with `CONFIG_KPROBES`, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kprobes_built: Option<bool>,
}

/// Capabilities of which Flow makes use.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    strum::EnumIter,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", const_into_str)]
pub enum Cap {
    CapBpf,
    CapPerfmon,
    CapNetAdmin,
    CapSysAdmin,
    CapSysPtrace,
    CapDacReadSearch,
    CapSysResource,
}

impl Cap {
    /// Name as in capabilities(7).
    pub const fn name(self) -> &'static str {
        self.into_str()
    }

    /// Bit in the masks of `/proc/PID/status`.
    pub const fn bit(self) -> u32 {
        match self {
            Self::CapDacReadSearch => 2,
            Self::CapNetAdmin => 12,
            Self::CapSysPtrace => 19,
            Self::CapSysAdmin => 21,
            Self::CapSysResource => 24,
            Self::CapPerfmon => 38,
            Self::CapBpf => 39,
        }
    }
}

impl Environment {
    /// Whether Flow may do what needs this capability. `CAP_SYS_ADMIN` stands in for the ones that
    /// were split off from it.
    pub fn may(&self, cap: Cap) -> bool {
        self.capabilities.contains(&cap)
            || (matches!(cap, Cap::CapBpf | Cap::CapPerfmon)
                && self.capabilities.contains(&Cap::CapSysAdmin))
    }

    /// Layout of the cgroup trees, in words.
    pub const fn cgroup_layout(&self) -> &'static str {
        if self.cgroup_v2_part.is_some() {
            return "a part of v2, without its root";
        }
        match (self.cgroup_v2.is_some(), self.cgroup_v1) {
            (true, false) => "v2",
            (true, true) => "hybrid: v1 controllers with a v2 tree",
            (false, true) => "v1 only",
            (false, false) => "not mounted",
        }
    }
}
