//! The backends: the ways to provide each capability.
//!
//! One row defines a backend. What is tried, what is attached, what `flow doctor` reports and what
//! is said not to be seen comes from these rows. To add one: a variant of [`Backend`], its row here,
//! and the hooks it attaches in `hooks.rs`.

use std::str::FromStr;

use super::{
    blind_spots::BlindSpot,
    hooks::{self, Hook},
    trial::{self, Outcome, Trials},
};
use crate::event::{
    Capability,
    doctor::{Cap, Environment},
};

/// A way to provide a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// What a backend is.
pub struct BackendDef {
    pub backend: Backend,
    pub capability: Capability,
    /// Name as it stands in outputs; no other backend of the capability has it.
    pub name: &'static str,
    /// Privileges without which the kernel refuses its programs; none where it has no programs.
    pub privileges: &'static [Cap],
    /// What the system must offer.
    pub requirement: Requirement,
    /// Finds out whether the kernel takes it; absent for one that always works.
    pub trial: Option<fn(&Trials<'_>) -> Outcome>,
    /// How or where it works.
    detail: &'static str,
    /// What it cannot see anywhere.
    blind_spots: &'static [BlindSpot],
    /// What it cannot see in this environment.
    blind_here: fn(&Environment) -> Vec<&'static str>,
    pub hooks: &'static [Hook],
}

/// What the system must offer for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    Nothing,
    Btf,
    /// A kernel with kprobes.
    Kprobes,
    CgroupRoot,
    /// Modules of the kernel, as modprobe(8) takes them.
    Modules(&'static str),
}

const TRACING: &[Cap] = &[Cap::CapBpf, Cap::CapPerfmon];
const NETWORK: &[Cap] = &[Cap::CapBpf, Cap::CapNetAdmin];

/// Every backend by its number: those of a capability stand together, the best first.
pub static BACKENDS: [BackendDef; 11] = [
    BackendDef {
        backend: Backend::Fexit,
        capability: Capability::AppBytes,
        name: "fexit",
        privileges: TRACING,
        requirement: Requirement::Btf,
        trial: Some(|it| trial::fexit(it.btf, hooks::FEXIT, it.patience)),
        detail: "exact",
        blind_spots: &[
            BlindSpot::CallsUnderWay,
            BlindSpot::SpliceFromTls,
            BlindSpot::KernelReaders,
            BlindSpot::UnaskedSenders,
            BlindSpot::MptcpDirection,
        ],
        blind_here: nothing,
        hooks: hooks::FEXIT,
    },
    BackendDef {
        backend: Backend::Kprobe,
        capability: Capability::AppBytes,
        name: "kprobe",
        privileges: TRACING,
        requirement: Requirement::Kprobes,
        trial: Some(|it| trial::kprobe(it.btf)),
        detail: "exact",
        blind_spots: &[
            BlindSpot::CallsUnderWay,
            BlindSpot::ReturnProbesExhausted,
            BlindSpot::SpliceFromTls,
            BlindSpot::KernelReaders,
            BlindSpot::UnaskedSenders,
            BlindSpot::MptcpDirection,
        ],
        blind_here: nothing,
        hooks: hooks::KPROBE,
    },
    BackendDef {
        backend: Backend::Tracepoint,
        capability: Capability::AppBytes,
        name: "tracepoint",
        privileges: TRACING,
        requirement: Requirement::Btf,
        trial: Some(|it| trial::tracepoints(it.btf, hooks::LENGTHS)),
        detail: "exact",
        blind_spots: &[
            BlindSpot::SpliceFromTls,
            BlindSpot::KernelReaders,
            BlindSpot::UnaskedSenders,
            BlindSpot::MixedSenders,
            BlindSpot::MptcpDirection,
            BlindSpot::Acceptors,
        ],
        blind_here: |environment| match environment.cgroup_v2 {
            Some(_) => Vec::new(),
            None => vec![BlindSpot::UnconnectedPeers.words()],
        },
        hooks: hooks::LENGTHS,
    },
    BackendDef {
        backend: Backend::CgroupSockets,
        capability: Capability::Sockets,
        name: "cgroup hooks",
        privileges: NETWORK,
        requirement: Requirement::CgroupRoot,
        // With the one kind of program that the peers of datagrams need.
        trial: Some(|it| trial::on_cgroup(it, hooks::SOCKETS.iter().chain(hooks::LENGTHS))),
        detail: "on the cgroup v2 root",
        blind_spots: &[],
        blind_here: nothing,
        hooks: hooks::SOCKETS,
    },
    BackendDef {
        backend: Backend::StateTracepoint,
        capability: Capability::Sockets,
        name: "tracepoint",
        privileges: TRACING,
        requirement: Requirement::Nothing,
        trial: Some(|it| trial::tracepoints(it.btf, hooks::STATES)),
        detail: "inet_sock_set_state, tcp_destroy_sock",
        blind_spots: &[BlindSpot::OtherThanTcp, BlindSpot::PortsOfConnecting],
        blind_here: nothing,
        hooks: hooks::STATES,
    },
    BackendDef {
        backend: Backend::CgroupSkb,
        capability: Capability::WireBytes,
        name: "cgroup_skb",
        privileges: NETWORK,
        requirement: Requirement::CgroupRoot,
        trial: Some(|it| trial::on_cgroup(it, hooks::PACKETS)),
        detail: "on the cgroup v2 root",
        blind_spots: &[BlindSpot::SocketlessPackets, BlindSpot::RefusedLater],
        blind_here: nothing,
        hooks: hooks::PACKETS,
    },
    BackendDef {
        backend: Backend::Tcx,
        capability: Capability::Interfaces,
        name: "TCX",
        privileges: NETWORK,
        requirement: Requirement::Nothing,
        trial: Some(|_| trial::tcx()),
        detail: "on every interface",
        blind_spots: &[BlindSpot::BeforeClassifier],
        blind_here: nothing,
        hooks: hooks::FRAMES,
    },
    BackendDef {
        backend: Backend::Clsact,
        capability: Capability::Interfaces,
        name: "clsact",
        privileges: NETWORK,
        requirement: Requirement::Modules("sch_ingress cls_bpf"),
        trial: Some(|_| trial::clsact()),
        detail: "on every interface",
        blind_spots: &[BlindSpot::BeforeClassifier],
        blind_here: nothing,
        hooks: hooks::FRAMES,
    },
    BackendDef {
        backend: Backend::Rtnetlink,
        capability: Capability::Interfaces,
        name: "counters",
        privileges: &[],
        requirement: Requirement::Nothing,
        trial: None,
        detail: "the interfaces' own",
        blind_spots: &[BlindSpot::FrameOwners],
        blind_here: nothing,
        hooks: &[],
    },
    BackendDef {
        backend: Backend::ProcessTracepoints,
        capability: Capability::Processes,
        name: "tracepoints",
        privileges: TRACING,
        requirement: Requirement::Btf,
        trial: Some(|it| trial::tracepoints(it.btf, hooks::LIVES)),
        detail: "exec, fork and exit",
        blind_spots: &[],
        blind_here: nothing,
        hooks: hooks::LIVES,
    },
    BackendDef {
        backend: Backend::SockDiag,
        capability: Capability::Existing,
        name: "sock_diag",
        privileges: &[],
        requirement: Requirement::Modules("tcp_diag udp_diag raw_diag"),
        trial: Some(|_| trial::sock_diag()),
        detail: "joined with /proc/PID/fd",
        blind_spots: &[
            BlindSpot::PingSockets,
            BlindSpot::OldMptcp,
            BlindSpot::BoundOnly,
        ],
        blind_here: |environment| {
            let spots = [
                (
                    !environment.may(Cap::CapSysPtrace),
                    "owners of other users' sockets (needs CAP_SYS_PTRACE)",
                ),
                (
                    !environment.may(Cap::CapSysAdmin),
                    "other network namespaces (needs CAP_SYS_ADMIN)",
                ),
                (
                    environment.pid_namespace,
                    "owners outside of this PID namespace",
                ),
            ];
            let blind = spots.into_iter().filter(|(is_blind, _)| *is_blind);
            blind.map(|(_, words)| words).collect()
        },
        hooks: &[],
    },
];

const fn nothing(_: &Environment) -> Vec<&'static str> {
    Vec::new()
}

/// The backends of a capability, the best first.
pub fn of(capability: Capability) -> impl Iterator<Item = &'static BackendDef> + Clone {
    BACKENDS
        .iter()
        .filter(move |def| def.capability == capability)
}

impl Backend {
    pub const fn def(self) -> &'static BackendDef {
        &BACKENDS[self as usize]
    }

    /// Name as it stands in outputs.
    pub const fn name(self) -> &'static str {
        self.def().name
    }

    /// What it cannot see; empty when it sees everything.
    pub const fn blind_spots(self) -> &'static [BlindSpot] {
        self.def().blind_spots
    }

    /// Whether it sees something.
    pub fn sees(self, spot: BlindSpot) -> bool {
        !self.blind_spots().contains(&spot)
    }
}

/// A backend of app bytes by its name, as `--backend` takes it.
impl FromStr for Backend {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        of(Capability::AppBytes)
            .find(|def| def.name == name)
            .map(|def| def.backend)
            .ok_or_else(|| "expected fexit, kprobe or tracepoint".into())
    }
}

impl BackendDef {
    /// Whether programs in the kernel do it.
    pub const fn has_programs(&self) -> bool {
        !self.privileges.is_empty()
    }

    /// All it cannot see in this environment, in one phrase.
    pub fn blind_words(&self, environment: &Environment) -> String {
        let anywhere = self.blind_spots.iter().map(|spot| spot.words());
        let all: Vec<_> = anywhere.chain((self.blind_here)(environment)).collect();
        all.join("; ")
    }

    /// How or where it works.
    pub fn detail(&self, environment: &Environment) -> String {
        match (self.requirement, &environment.cgroup_v2) {
            (Requirement::CgroupRoot, Some(root)) if root.starts_with("/proc/self/fd") => {
                format!("{}, through a mount of Flow's own", self.detail)
            }
            (Requirement::CgroupRoot, Some(root)) => format!("{}, {}", self.detail, root.display()),
            _ => self.detail.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_backend_has_its_row() {
        for (number, def) in BACKENDS.iter().enumerate() {
            assert_eq!(def.backend as usize, number);
            let same = of(def.capability).filter(|other| other.name == def.name);
            assert_eq!(same.count(), 1, "{}", def.name);
        }
    }

    #[test]
    fn names_of_backends_are_what_the_flag_takes() {
        for def in of(Capability::AppBytes) {
            assert_eq!(def.name.parse(), Ok(def.backend));
        }
        assert!("capture".parse::<Backend>().is_err());
    }

    #[test]
    fn the_page_says_the_same() {
        let page = include_str!("../../../../docs/limits.md");
        let counting: Vec<_> = of(Capability::AppBytes).collect();
        for spot in counting.iter().flat_map(|def| def.blind_spots) {
            let marks = counting.iter().map(|def| {
                let is_blind = def.blind_spots.contains(spot);
                if is_blind { " not seen |" } else { " |" }
            });
            let row = format!("| {} |{}\n", spot.words(), marks.collect::<String>());
            assert!(page.contains(&row), "{row}");
        }
        for def in &BACKENDS {
            let spots: Vec<_> = def.blind_spots.iter().map(|spot| spot.words()).collect();
            let cell = format!("| {} |\n", spots.join("; "));
            assert!(
                def.capability == Capability::AppBytes || spots.is_empty() || page.contains(&cell),
                "{:?}: {cell}",
                def.backend
            );
        }
    }
}
