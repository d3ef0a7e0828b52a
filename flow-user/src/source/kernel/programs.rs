//! The programs of the kernel side: which belong together, and how each is attached.

use std::{
    fs::{self, File},
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use aya::{
    Ebpf,
    programs::{
        CgroupAttachMode, CgroupSkbAttachType, FExit, KProbe, Program, ProgramError, RawTracePoint,
    },
};

use super::{btf::Btf, probe::AppBackend};

/// fexit programs and the functions they belong to; those with `true` every kernel has.
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

/// kprobe and kretprobe programs, and the functions they belong to.
const KPROBE: &[(&str, &str, &[&str])] = &[
    (
        "kprobe_sendmsg",
        "kretprobe_sendmsg",
        &["inet_sendmsg", "inet6_sendmsg", "packet_sendmsg"],
    ),
    ("kprobe_sendpage", "kretprobe_sendpage", &["inet_sendpage"]),
    (
        "kprobe_recvmsg",
        "kretprobe_recvmsg",
        &["inet_recvmsg", "inet6_recvmsg", "sock_common_recvmsg"],
    ),
    (
        "kprobe_splice_read",
        "kretprobe_splice_read",
        &["tcp_splice_read", "mptcp_splice_read"],
    ),
];

/// The kretprobe program that tells who accepted a connection, and its function.
const KPROBE_ACCEPT: (&str, &str) = ("kretprobe_accept", "inet_csk_accept");

/// Raw tracepoints that tell lengths; program and tracepoint have one name.
const LENGTHS: &[&str] = &["sock_send_length", "sock_recv_length"];

/// Raw tracepoints that every backend needs.
const LIVES: &[&str] = &[
    "inet_sock_set_state",
    "sched_process_exec",
    "sched_process_fork",
    "sched_process_exit",
];

/// Programs of the cgroup v2 root that tell of sockets.
const SOCKETS: &[&str] = &[
    "sock_create",
    "sock_release",
    "post_bind4",
    "post_bind6",
    "connect4",
    "connect6",
    "connection_made",
];

/// Programs of the cgroup v2 root that tell the peers of datagrams; the tracepoints don't.
const PEERS: &[&str] = &["sendmsg4", "sendmsg6", "recvmsg4", "recvmsg6"];

/// Programs of the cgroup v2 root that count packets.
const PACKETS: &[&str] = &["cgroup_ingress", "cgroup_egress"];

/// Programs of the interfaces.
pub const CLASSIFIERS: &[&str] = &["tc_ingress", "tc_egress"];

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
    CgroupRoot(std::io::Error),
    #[error("map: {0}")]
    Map(#[from] aya::maps::MapError),
    #[error("cannot tell the number of CPUs: {0}")]
    Cpus(std::io::Error),
    #[error("cannot lock the classifiers: {0}")]
    Lock(std::io::Error),
    #[error("{0}")]
    Link(#[from] aya::programs::links::LinkError),
    #[error("cannot hold a link: {0}")]
    Pin(#[from] aya::pin::PinError),
    #[error("cannot read the interface's qdiscs: {0}")]
    Qdisc(std::io::Error),
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
    let names = [LIVES, SOCKETS, PACKETS, CLASSIFIERS].concat();
    let app: Vec<&str> = match backend {
        AppBackend::Fexit => {
            // As said.
            let _ = load_fexit(ebpf, btf);
            Vec::new()
        }
        AppBackend::Kprobe => kprobes(btf)
            .flat_map(|(entry, exit, _)| [entry, exit])
            .chain([KPROBE_ACCEPT.0])
            .collect(),
        AppBackend::Tracepoint => [LENGTHS, PEERS].concat(),
    };
    for name in names.into_iter().chain(app) {
        let _ = load(ebpf, name);
    }
}

/// Attaches the programs that count app bytes.
///
/// # Errors
/// One of them was refused; those attached before it are detached again.
pub fn attach_app(
    ebpf: &mut Ebpf,
    backend: AppBackend,
    btf: &Btf,
    cgroup_root: Option<&Path>,
) -> Result<(), AttachError> {
    let result = match backend {
        AppBackend::Fexit => attach_fexit(ebpf, btf),
        AppBackend::Kprobe => attach_kprobe(ebpf, btf),
        AppBackend::Tracepoint => LENGTHS
            .iter()
            .try_for_each(|name| attach_tracepoint(ebpf, name))
            .and_then(|()| cgroup_root.map_or(Ok(()), |root| attach_cgroup(ebpf, root, PEERS))),
    };
    if result.is_err() {
        let kprobes = KPROBE
            .iter()
            .flat_map(|(entry, exit, _)| [*entry, *exit])
            .chain([KPROBE_ACCEPT.0]);
        for name in FEXIT
            .iter()
            .map(|(program, ..)| *program)
            .chain(kprobes)
            .chain(LENGTHS.iter().chain(PEERS).copied())
        {
            if let Some(program) = ebpf.program_mut(name) {
                unload(program);
            }
        }
    }
    result
}

/// Attaches the programs that tell of sockets' states and processes' lives.
///
/// # Errors
/// One of them was refused.
pub fn attach_lives(ebpf: &mut Ebpf) -> Result<(), AttachError> {
    LIVES
        .iter()
        .try_for_each(|name| attach_tracepoint(ebpf, name))
}

/// Attaches the programs that tell of sockets.
///
/// # Errors
/// One of them was refused.
pub fn attach_sockets(ebpf: &mut Ebpf, cgroup_root: &Path) -> Result<(), AttachError> {
    attach_cgroup(ebpf, cgroup_root, SOCKETS)
}

/// Attaches the programs that count packets by socket.
///
/// # Errors
/// One of them was refused.
pub fn attach_packets(ebpf: &mut Ebpf, cgroup_root: &Path) -> Result<(), AttachError> {
    attach_cgroup(ebpf, cgroup_root, PACKETS)
}

fn load_fexit(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), AttachError> {
    let types = aya::Btf::from_sys_fs()?;
    for (name, function) in fexits(btf) {
        refused(name, program::<FExit>(ebpf, name)?.load(function, &types))?;
    }
    Ok(())
}

fn attach_fexit(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), AttachError> {
    if !fexits(btf).all(|(name, _)| is_loaded(ebpf, name)) {
        load_fexit(ebpf, btf)?;
    }
    for (name, _) in fexits(btf) {
        refused(name, program::<FExit>(ebpf, name)?.attach())?;
    }
    Ok(())
}

/// The fexit programs whose function this kernel has, and those that every kernel must have.
fn fexits(btf: &Btf) -> impl Iterator<Item = (&'static str, &'static str)> {
    FEXIT
        .iter()
        .filter(|(_, function, always)| *always || btf.function(function).is_some())
        .map(|(name, function, _)| (*name, *function))
}

fn attach_kprobe(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), AttachError> {
    for (entry, exit, functions) in kprobes(btf) {
        // The return first: an entry without it would leave notes behind.
        for name in [exit, entry] {
            load(ebpf, name)?;
            let program: &mut KProbe = program(ebpf, name)?;
            for function in &functions {
                refused(name, program.attach(function, 0))?;
            }
        }
    }
    let (name, function) = KPROBE_ACCEPT;
    if btf.function(function).is_some() {
        load(ebpf, name)?;
        let program: &mut KProbe = program(ebpf, name)?;
        refused(name, program.attach(function, 0))?;
    }
    Ok(())
}

/// The pairs of entry and return programs of which this kernel has functions, with those functions.
fn kprobes(btf: &Btf) -> impl Iterator<Item = (&'static str, &'static str, Vec<&'static str>)> {
    KPROBE.iter().filter_map(|(entry, exit, functions)| {
        let functions: Vec<_> = functions
            .iter()
            .copied()
            .filter(|function| btf.function(function).is_some())
            .collect();
        (!functions.is_empty()).then_some((*entry, *exit, functions))
    })
}

fn attach_tracepoint(ebpf: &mut Ebpf, name: &str) -> Result<(), AttachError> {
    load(ebpf, name)?;
    let program: &mut RawTracePoint = program(ebpf, name)?;
    refused(name, program.attach(name))?;
    Ok(())
}

fn attach_cgroup(ebpf: &mut Ebpf, root: &Path, names: &[&str]) -> Result<(), AttachError> {
    let root = File::open(root).map_err(AttachError::CgroupRoot)?;
    // The mode concerns the old way of attaching only: a link lives beside others, and is refused
    // with EINVAL when a mode is given.
    let mode = CgroupAttachMode::Single;
    for name in names {
        load(ebpf, name)?;
        let no_program = || AttachError::NoProgram((*name).to_owned());
        match ebpf.program_mut(name).ok_or_else(no_program)? {
            Program::CgroupSock(program) => {
                refused(name, program.attach(&root, mode).map(drop))?;
            }
            Program::CgroupSockAddr(program) => {
                refused(name, program.attach(&root, mode).map(drop))?;
            }
            Program::SockOps(program) => {
                refused(name, program.attach(&root, mode).map(drop))?;
            }
            Program::CgroupSkb(program) => {
                let direction = if *name == "cgroup_ingress" {
                    CgroupSkbAttachType::Ingress
                } else {
                    CgroupSkbAttachType::Egress
                };
                refused(name, program.attach(&root, direction, mode).map(drop))?;
            }
            _ => return Err(no_program()),
        }
    }
    Ok(())
}

/// Detaches every program, and gives it back.
pub fn detach(ebpf: &mut Ebpf) {
    for (_, program) in ebpf.programs_mut() {
        unload(program);
    }
}

/// Runs of programs that the kernel left out, because the same program was at work on that CPU.
pub fn recursions(ebpf: &Ebpf) -> u64 {
    let misses = |program: &Program| -> Option<u64> {
        let fd = program.fd().ok()?.as_fd().as_raw_fd();
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("recursion_misses:"))?;
        line.trim().parse().ok()
    };
    ebpf.programs()
        .filter_map(|(_, program)| misses(program))
        .sum()
}

/// Loads a program of a kind that needs no more than that; one that is loaded already stays.
pub fn load(ebpf: &mut Ebpf, name: &str) -> Result<(), AttachError> {
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

fn is_loaded(ebpf: &Ebpf, name: &str) -> bool {
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
