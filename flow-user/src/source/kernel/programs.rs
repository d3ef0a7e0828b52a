//! The programs of the kernel side: which belong together, and how each is attached.

use std::{
    fmt,
    fs::{self, File},
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use aya::{
    Ebpf,
    programs::{
        CgroupAttachMode, CgroupSkbAttachType, FExit, KProbe, Program, ProgramError, RawTracePoint,
    },
};

use aya_obj::VerifierLog;

use super::{btf::Btf, probe::AppBackend};
use crate::faults;

/// fexit programs and the functions they belong to; those with `true` every kernel has, and the backend is
/// nothing without them.
const FEXIT: &[(&str, &str, bool)] = &[
    ("fexit_inet_sendmsg", "inet_sendmsg", true),
    ("fexit_inet6_sendmsg", "inet6_sendmsg", false),
    ("fexit_packet_sendmsg", "packet_sendmsg", false),
    ("fexit_inet_sendpage", "inet_sendpage", false),
    ("fexit_inet_recvmsg", "inet_recvmsg", true),
    ("fexit_inet6_recvmsg", "inet6_recvmsg", false),
    ("fexit_sock_common_recvmsg", "sock_common_recvmsg", false),
    ("fexit_tcp_splice_read", "tcp_splice_read", false),
    ("fexit_mptcp_splice_read", "mptcp_splice_read", false),
    ("fexit_inet_csk_accept", "inet_csk_accept", false),
];

/// kprobe and kretprobe programs, and the functions they belong to; the backend is nothing without those with
/// `true`.
const KPROBE: &[(&str, &str, &[&str], bool)] = &[
    (
        "kprobe_sendmsg",
        "kretprobe_sendmsg",
        &["inet_sendmsg", "inet6_sendmsg", "packet_sendmsg"],
        true,
    ),
    (
        "kprobe_sendpage",
        "kretprobe_sendpage",
        &["inet_sendpage"],
        false,
    ),
    (
        "kprobe_recvmsg",
        "kretprobe_recvmsg",
        &["inet_recvmsg", "inet6_recvmsg", "sock_common_recvmsg"],
        true,
    ),
    (
        "kprobe_splice_read",
        "kretprobe_splice_read",
        &["tcp_splice_read", "mptcp_splice_read"],
        false,
    ),
];

/// The kretprobe program that tells who accepted a connection, and its function.
const KPROBE_ACCEPT: (&str, &str) = ("kretprobe_accept", "inet_csk_accept");

/// Raw tracepoints that tell lengths, both needed.
const LENGTHS: &[&str] = &["sock_send_length", "sock_recv_length"];

/// A program, and what is not seen where the kernel refuses it.
type Optional = (&'static str, &'static str);

/// The programs of TCP's states, for every backend, both on one raw tracepoint.
pub const STATES: &[Optional] = &[
    (
        STATE_CHANGES,
        "states of TCP connections, and for minutes their end",
    ),
    (
        NESTED_STATE_CHANGES,
        "states of TCP connections that change while another one's is taken up",
    ),
];
/// Tells states; and the name of the tracepoint.
const STATE_CHANGES: &str = "inet_sock_set_state";
/// Takes its place where an interrupt finds it at work.
const NESTED_STATE_CHANGES: &str = "set_state_nested";

/// The raw tracepoint that tells the end of TCP sockets where [`SOCKET_RELEASES`] does not.
pub const RELEASES: &[Optional] = &[(
    "tcp_destroy_sock",
    "for minutes, the end of TCP connections that close before their process lets go of them",
)];

/// Raw tracepoints that tell of processes' lives, for every backend. Who moves bytes is told by those who count.
pub const LIVES: &[Optional] = &[
    ("sched_process_exec", "programs started since"),
    ("sched_process_fork", "parents of processes started since"),
    (EXITS, "the end of processes"),
];
/// Tells that processes end.
pub const EXITS: &str = "sched_process_exit";

/// Programs of the cgroup v2 root that tell of sockets.
pub const SOCKETS: &[Optional] = &[
    ("sock_create", "sockets before they are used"),
    (SOCKET_RELEASES, "the end of sockets other than TCP's"),
    ("post_bind4", "IPv4 sockets that are bound and not used yet"),
    ("post_bind6", "IPv6 sockets that are bound and not used yet"),
    ("connect4", "who connects an older socket over IPv4"),
    ("connect6", "who connects an older socket over IPv6"),
    (
        "connection_made",
        "connections that came in, before their first packet",
    ),
];

/// Tells that sockets are released.
pub const SOCKET_RELEASES: &str = "sock_release";

/// Programs of the cgroup v2 root that tell the peers of datagrams; the tracepoints don't.
const PEERS: &[Optional] = &[
    ("sendmsg4", "whom an unconnected IPv4 socket sends to"),
    ("sendmsg6", "whom an unconnected IPv6 socket sends to"),
    ("recvmsg4", "whom an unconnected IPv4 socket receives from"),
    ("recvmsg6", "whom an unconnected IPv6 socket receives from"),
];

/// Programs of the cgroup v2 root that count packets.
pub const PACKETS: &[Optional] = &[
    ("cgroup_ingress", "packets received"),
    ("cgroup_egress", "packets sent"),
];

/// Programs of the interfaces.
pub const CLASSIFIERS: &[&str] = &["flow_tc_ingress", "flow_tc_egress"];

/// Why a program could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("the kernel side has no program {0}")]
    NoProgram(String),
    #[error("program {name}: {}", describe(source))]
    Refused { name: String, source: ProgramError },
    #[error("{0}")]
    Btf(#[from] aya::BtfError),
    #[error("cannot open the cgroup v2 root: {0}")]
    CgroupRoot(io::Error),
    #[error("map: {0}")]
    Map(#[from] aya::maps::MapError),
    #[error("there is room for {0}")]
    TooMany(usize),
    #[error("cannot tell the number of CPUs: {0}")]
    Cpus(io::Error),
    #[error("cannot lock the classifiers: {0}")]
    Lock(io::Error),
    #[error("{0}")]
    Link(#[from] aya::programs::links::LinkError),
    #[error("cannot hold a link: {0}")]
    Pin(#[from] aya::pin::PinError),
    #[error("cannot read the interface's qdiscs: {0}")]
    Qdisc(io::Error),
}

/// A program that was refused and that Flow does without.
#[derive(Debug)]
pub struct Missing {
    /// What is not seen without it.
    unseen: String,
    pub error: AttachError,
}

impl Missing {
    /// Calls of kernel functions are not seen.
    pub fn calls_of(functions: &str, error: AttachError) -> Self {
        let unseen = format!("calls of {functions}");
        Self { unseen, error }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unseen, error } = self;
        write!(f, "{unseen} ({error})")
    }
}

/// The innermost cause; what aya wraps around it says less.
fn describe(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            let last = log.trim_end().lines().next_back().unwrap_or_default();
            log::debug!("verifier: {log}");
            format!("refused by the kernel: {io_error}; {last}")
        }
        other => {
            let mut cause: &dyn std::error::Error = other;
            while let Some(source) = cause.source() {
                cause = source;
            }
            cause.to_string()
        }
    }
}

/// Loads what is going to be attached, so that the attachments follow one another closely: of a process that runs
/// meanwhile, some hooks see more than others. What is refused here is refused again, and told, when
/// it is attached.
pub fn prepare(ebpf: &mut Ebpf, backend: AppBackend, btf: &Btf) {
    let around = [STATES, LIVES, SOCKETS, PACKETS].concat();
    let names = around.iter().map(|(name, _)| *name);
    let app: Vec<&str> = match backend {
        AppBackend::Fexit => {
            if let Ok(types) = aya::Btf::from_sys_fs() {
                for (name, function, _) in fexits(btf) {
                    // As said.
                    let _ = load_fexit(ebpf, name, function, &types);
                }
            }
            Vec::new()
        }
        AppBackend::Kprobe => kprobes(btf)
            .flat_map(|(entry, exit, ..)| [entry, exit])
            .chain([KPROBE_ACCEPT.0])
            .collect(),
        AppBackend::Tracepoint => {
            let peers = PEERS.iter().map(|(name, _)| *name);
            LENGTHS.iter().copied().chain(peers).collect()
        }
    };
    for name in names.chain(CLASSIFIERS.iter().copied()).chain(app) {
        let _ = load(ebpf, name);
    }
}

/// Attaches the programs that count app bytes; what of them was refused and can be done without.
///
/// # Errors
/// One was refused that the backend is nothing without, or, if it is to be `complete`, any; those attached
/// before it are detached again.
pub fn attach_app(
    ebpf: &mut Ebpf,
    backend: AppBackend,
    btf: &Btf,
    cgroup_root: Option<&Path>,
    complete: bool,
) -> Result<Vec<Missing>, AttachError> {
    let result = match backend {
        AppBackend::Fexit => attach_fexit(ebpf, btf),
        AppBackend::Kprobe => attach_kprobe(ebpf, btf),
        AppBackend::Tracepoint => attach_lengths(ebpf, cgroup_root),
    };
    let result = result.and_then(|mut missing| match missing.pop() {
        Some(last) if complete => Err(last.error),
        last => {
            missing.extend(last);
            Ok(missing)
        }
    });
    if result.is_err() {
        let fexits = FEXIT.iter().map(|(program, ..)| *program);
        let kprobes = KPROBE
            .iter()
            .flat_map(|(entry, exit, ..)| [*entry, *exit])
            .chain([KPROBE_ACCEPT.0]);
        let peers = PEERS.iter().map(|(program, _)| *program);
        let tracepoints = LENGTHS.iter().copied().chain(peers);
        for name in fexits.chain(kprobes).chain(tracepoints) {
            if let Some(program) = ebpf.program_mut(name) {
                unload(program);
            }
        }
    }
    result
}

/// Attaches raw tracepoints; those that were refused.
pub fn attach_tracepoints(ebpf: &mut Ebpf, programs: &[Optional]) -> Vec<Missing> {
    each(ebpf, programs, attach_tracepoint)
}

/// Attaches programs to the cgroup v2 root; those that were refused.
pub fn attach_cgroup(ebpf: &mut Ebpf, root: &Path, programs: &[Optional]) -> Vec<Missing> {
    each(ebpf, programs, |ebpf, name| {
        attach_to_cgroup(ebpf, root, name)
    })
}

/// Attaches each program. Those that were refused do not stay loaded.
fn each(
    ebpf: &mut Ebpf,
    programs: &[Optional],
    attach: impl Fn(&mut Ebpf, &str) -> Result<(), AttachError>,
) -> Vec<Missing> {
    let refused = |(name, unseen): &Optional| {
        let error = attach(ebpf, name).err()?;
        if let Some(program) = ebpf.program_mut(name) {
            unload(program);
        }
        Some(Missing {
            unseen: (*unseen).into(),
            error,
        })
    };
    programs.iter().filter_map(refused).collect()
}

fn attach_fexit(ebpf: &mut Ebpf, btf: &Btf) -> Result<Vec<Missing>, AttachError> {
    let ready = fexits(btf).all(|(name, ..)| is_loaded(ebpf, name));
    let types = (!ready).then(aya::Btf::from_sys_fs).transpose()?;
    let mut missing = Vec::new();
    for (name, function, needed) in fexits(btf) {
        let loaded = types
            .as_ref()
            .map_or(Ok(()), |types| load_fexit(ebpf, name, function, types));
        let attached =
            loaded.and_then(|()| refused(name, program::<FExit>(ebpf, name)?.attach()).map(drop));
        match attached {
            Err(error) if !needed => missing.push(Missing::calls_of(function, error)),
            result => result?,
        }
    }
    Ok(missing)
}

fn load_fexit(
    ebpf: &mut Ebpf,
    name: &str,
    function: &str,
    types: &aya::Btf,
) -> Result<(), AttachError> {
    inject_refusal(name)?;
    match program::<FExit>(ebpf, name)?.load(function, types) {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        result => refused(name, result),
    }
}

/// The fexit programs whose function this kernel has, and those that every kernel must have.
fn fexits(btf: &Btf) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    FEXIT
        .iter()
        .copied()
        .filter(|(_, function, needed)| *needed || btf.function(function).is_some())
}

fn attach_kprobe(ebpf: &mut Ebpf, btf: &Btf) -> Result<Vec<Missing>, AttachError> {
    let mut missing = Vec::new();
    for (entry, exit, functions, needed) in kprobes(btf) {
        // The return first: an entry without it would leave notes behind.
        let attached = [exit, entry]
            .into_iter()
            .try_for_each(|name| attach_probe(ebpf, name, &functions));
        match attached {
            Err(error) if !needed => {
                for name in [exit, entry] {
                    if let Some(program) = ebpf.program_mut(name) {
                        unload(program);
                    }
                }
                missing.push(Missing::calls_of(&functions.join(", "), error));
            }
            result => result?,
        }
    }
    let (name, function) = KPROBE_ACCEPT;
    if btf.function(function).is_some()
        && let Err(error) = attach_probe(ebpf, name, &[function])
    {
        missing.push(Missing::calls_of(function, error));
    }
    Ok(missing)
}

fn attach_probe(ebpf: &mut Ebpf, name: &str, functions: &[&str]) -> Result<(), AttachError> {
    load(ebpf, name)?;
    let program: &mut KProbe = program(ebpf, name)?;
    for function in functions {
        refused(name, program.attach(function, 0))?;
    }
    Ok(())
}

/// The pairs of entry and return programs of which this kernel has functions, with those functions,
/// and whether they are needed.
fn kprobes(
    btf: &Btf,
) -> impl Iterator<Item = (&'static str, &'static str, Vec<&'static str>, bool)> {
    KPROBE
        .iter()
        .filter_map(|(entry, exit, functions, needed)| {
            let functions: Vec<_> = functions
                .iter()
                .copied()
                .filter(|function| btf.function(function).is_some())
                .collect();
            (!functions.is_empty()).then_some((*entry, *exit, functions, *needed))
        })
}

fn attach_lengths(
    ebpf: &mut Ebpf,
    cgroup_root: Option<&Path>,
) -> Result<Vec<Missing>, AttachError> {
    for name in LENGTHS {
        attach_tracepoint(ebpf, name)?;
    }
    let peers = cgroup_root.map(|root| attach_cgroup(ebpf, root, PEERS));
    Ok(peers.unwrap_or_default())
}

fn attach_tracepoint(ebpf: &mut Ebpf, name: &str) -> Result<(), AttachError> {
    load(ebpf, name)?;
    let program: &mut RawTracePoint = program(ebpf, name)?;
    let tracepoint = match name {
        NESTED_STATE_CHANGES => STATE_CHANGES,
        name => name,
    };
    refused(name, program.attach(tracepoint))?;
    Ok(())
}

fn attach_to_cgroup(ebpf: &mut Ebpf, root: &Path, name: &str) -> Result<(), AttachError> {
    let root = File::open(root).map_err(AttachError::CgroupRoot)?;
    // The mode concerns the old way of attaching only: a link lives beside others, and is refused
    // with EINVAL when a mode is given.
    let mode = CgroupAttachMode::Single;
    load(ebpf, name)?;
    let no_program = || AttachError::NoProgram(name.to_owned());
    let attached = match ebpf.program_mut(name).ok_or_else(no_program)? {
        Program::CgroupSock(program) => program.attach(&root, mode).map(drop),
        Program::CgroupSockAddr(program) => program.attach(&root, mode).map(drop),
        Program::SockOps(program) => program.attach(&root, mode).map(drop),
        Program::CgroupSkb(program) => {
            let direction = if name == "cgroup_ingress" {
                CgroupSkbAttachType::Ingress
            } else {
                CgroupSkbAttachType::Egress
            };
            program.attach(&root, direction, mode).map(drop)
        }
        _ => return Err(no_program()),
    };
    refused(name, attached)
}

/// Detaches every program, and gives it back.
pub fn detach(ebpf: &mut Ebpf) {
    for (_, program) in ebpf.programs_mut() {
        unload(program);
    }
}

/// Runs of programs that the kernel left out, because the same program was at work on that CPU, and that no
/// other took up: of the two for states, an interrupt finds one at work at most.
pub fn recursions(ebpf: &Ebpf) -> u64 {
    let takes_up = is_loaded(ebpf, NESTED_STATE_CHANGES);
    let misses = |program: &Program| -> Option<u64> {
        let fd = program.fd().ok()?.as_fd().as_raw_fd();
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("recursion_misses:"))?;
        line.trim().parse().ok()
    };
    ebpf.programs()
        .filter(|(name, _)| !takes_up || ![STATE_CHANGES, NESTED_STATE_CHANGES].contains(name))
        .filter_map(|(_, program)| misses(program))
        .sum()
}

/// Loads a program of a kind that needs no more than that; one that is loaded already stays.
pub fn load(ebpf: &mut Ebpf, name: &str) -> Result<(), AttachError> {
    inject_refusal(name)?;
    let no_program = || AttachError::NoProgram(name.to_owned());
    let result = match ebpf.program_mut(name).ok_or_else(no_program)? {
        Program::KProbe(program) => program.load(),
        Program::RawTracePoint(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => return Err(no_program()),
    };
    match result {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        result => refused(name, result),
    }
}

/// Refuses a program as a kernel would, where a test wants it so.
fn inject_refusal(name: &str) -> Result<(), AttachError> {
    if !faults::refuses(name) {
        return Ok(());
    }
    let source = ProgramError::LoadError {
        io_error: io::Error::from_raw_os_error(libc::EACCES),
        verifier_log: VerifierLog::new("FLOW_REFUSE names it".to_owned()),
    };
    refused(name, Err(source))
}

pub fn is_loaded(ebpf: &Ebpf, name: &str) -> bool {
    ebpf.program(name)
        .is_some_and(|program| program.fd().is_ok())
}

/// The program of this name, as the kind it is.
pub fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, AttachError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| AttachError::NoProgram(name.to_owned()))?;
    refused(name, program.try_into())
}

/// Says which program a result belongs to.
pub fn refused<T>(name: &str, result: Result<T, ProgramError>) -> Result<T, AttachError> {
    result.map_err(|source| AttachError::Refused {
        name: name.to_owned(),
        source,
    })
}

/// Gives back a program; one that was never loaded has nothing to give.
fn unload(program: &mut Program) {
    let _ = match program {
        Program::FExit(program) => program.unload(),
        Program::KProbe(program) => program.unload(),
        Program::RawTracePoint(program) => program.unload(),
        Program::CgroupSockAddr(program) => program.unload(),
        Program::CgroupSock(program) => program.unload(),
        Program::CgroupSkb(program) => program.unload(),
        Program::SockOps(program) => program.unload(),
        _ => Ok(()),
    };
}
