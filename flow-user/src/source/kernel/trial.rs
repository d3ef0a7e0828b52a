//! Would the kernel take our programs? Finds out by handing it tiny ones.
//!
//! Each trial loads the smallest program that uses what Flow's own needs, attaches it where Flow's
//! own would be attached, and takes it away again. None of them changes the fate of a packet or a
//! call.

use std::{
    ffi::CString,
    fs::{self, File},
    io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    panic::resume_unwind,
    sync::mpsc,
    thread,
    time::Duration,
};

use aya_obj::generated::{
    bpf_attach_type as attach, bpf_attr, bpf_cmd, bpf_map_type, bpf_prog_type as program,
    perf_event_attr,
};
use nix::sched::{CloneFlags, unshare};

use super::{
    btf::{Btf, BtfError},
    hooks::{At, Hook, Need},
    qdisc::{CLSACT, CLSACT_HANDLE, CLSACT_INGRESS, TCA_KIND},
    syscall,
};
use crate::{
    event::doctor::Environment,
    source::netlink::{Netlink, push_attribute},
};

/// The kernel's BTF, from which every program that reads kernel structs has their offsets.
pub type Types<'a> = Result<&'a Btf, &'a BtfError>;

/// What trials are made with.
pub struct Trials<'a> {
    pub btf: Types<'a>,
    pub environment: &'a Environment,
    /// How long an attach may take before it counts as stuck.
    pub patience: Duration,
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Works,
    /// The kernel refused a step, with this errno.
    Refused {
        step: String,
        errno: i32,
    },
    /// The kernel does not have it.
    Absent(String),
}

/// How long an attach may take before it counts as stuck, and the next backend is tried. On kernels
/// around 6.1 it waits for every task that is about to exit, and under a storm of those it may wait
/// for minutes.
pub const ATTACH_PATIENCE: Duration = Duration::from_secs(2);
/// The same where there is no next one, because the user wants this one.
pub const FORCED_PATIENCE: Duration = Duration::from_secs(60);
/// A function that is rarely called: whoever runs through it while a trial is attached notices
/// nothing.
const QUIET_FUNCTION: &str = "inet_shutdown";

/// Whether ring buffers can be made.
pub fn ring_buffer() -> Outcome {
    let mut attr = zeroed_attr();
    // SAFETY: page sizes are read by a call that takes an integer.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    attr.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32;
    attr.__bindgen_anon_1.max_entries = u32::try_from(page).unwrap_or(4096);
    outcome("a ring buffer", bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr))
}

/// Whether tracing programs can be attached to the return of a kernel function, within `patience`,
/// and the kernel has the functions of `hooks`.
pub fn fexit(btf: Types<'_>, hooks: &[Hook], patience: Duration) -> Outcome {
    let btf = match btf {
        Ok(btf) => btf,
        Err(error) => return Outcome::Absent(error.to_string()),
    };
    for function in needed(hooks).flat_map(Hook::functions) {
        if btf.function(function).is_none() {
            return Outcome::Absent(format!("BTF has no function {function}"));
        }
    }
    let Some(function) = btf
        .function(QUIET_FUNCTION)
        .or_else(|| btf.function("inet_sendmsg"))
    else {
        return Outcome::Absent("BTF has no function to attach to".into());
    };
    let mut attr = program_attr(program::BPF_PROG_TYPE_TRACING, &READS_KERNEL_MEMORY);
    attr.__bindgen_anon_3.expected_attach_type = attach::BPF_TRACE_FEXIT as u32;
    attr.__bindgen_anon_3.attach_btf_id = function.type_id;
    let loaded = match load("BPF programs of type tracing", &mut attr) {
        Ok(loaded) => loaded,
        Err(refused) => return refused,
    };
    // Attaching and detaching can wait inside the kernel where no signal reaches.
    let (done, answer) = mpsc::sync_channel(1);
    let attaching = thread::Builder::new()
        .name("trial-fexit".into())
        .spawn(move || {
            let link = open_raw_tracepoint(None, &loaded);
            let _ = done.send(outcome("attaching to a function's return", link.as_ref()));
        });
    if let Err(error) = attaching {
        return outcome("starting a thread", Err::<(), _>(&error));
    }
    answer
        .recv_timeout(patience)
        .unwrap_or_else(|_| Outcome::Refused {
            step: format!(
                "attaching to a function's return, within {} seconds",
                patience.as_secs()
            ),
            errno: libc::ETIMEDOUT,
        })
}

/// Whether programs can be attached to the entry and return of a kernel function by kprobes.
pub fn kprobe(btf: Types<'_>) -> Outcome {
    if let Err(error) = btf {
        return Outcome::Absent(error.to_string());
    }
    let kind = fs::read_to_string("/sys/bus/event_source/devices/kprobe/type");
    let Some(kind) = kind.ok().and_then(|text| text.trim().parse::<u32>().ok()) else {
        return Outcome::Absent("the kernel has no kprobes (CONFIG_KPROBES)".into());
    };
    let mut attr = program_attr(program::BPF_PROG_TYPE_KPROBE, &READS_KERNEL_MEMORY);
    if let Err(refused) = load("BPF programs of type kprobe", &mut attr) {
        return refused;
    }
    let Ok(function) = CString::new(QUIET_FUNCTION) else {
        return Outcome::Absent("no function to attach to".into());
    };
    // SAFETY: all-zero is a valid perf_event_attr.
    let mut event: perf_event_attr = unsafe { mem::zeroed() };
    event.type_ = kind;
    event.size = size_of::<perf_event_attr>() as u32;
    event.config = kretprobe_bit();
    event.__bindgen_anon_3.kprobe_func = function.as_ptr() as u64;
    // SAFETY: the attribute and the name it points to live through the call; the other arguments
    // are integers (any process, CPU 0, no group).
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw mut event,
            -1,
            0,
            -1,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    outcome("a return probe on a kernel function", owned(fd).as_ref())
}

/// Whether the tracepoints of `hooks` are there.
pub fn tracepoints(btf: Types<'_>, hooks: &[Hook]) -> Outcome {
    let tracepoints = needed(hooks).filter_map(|hook| match hook.at {
        At::Tracepoint(tracepoint) => Some(tracepoint),
        _ => None,
    });
    raw_tracepoints(btf, &tracepoints.collect::<Vec<_>>())
}

/// Whether programs can be attached where `hooks` are on the root of the cgroup v2 tree.
pub fn on_cgroup<'a>(trials: &Trials<'_>, hooks: impl IntoIterator<Item = &'a Hook>) -> Outcome {
    let Some(root) = &trials.environment.cgroup_v2 else {
        return Outcome::Absent("the cgroup v2 tree is not mounted".into());
    };
    let directory = match File::open(root) {
        Ok(directory) => directory,
        Err(error) => {
            return outcome(&format!("opening {}", root.display()), Err::<(), _>(&error));
        }
    };
    for hook in needed(hooks) {
        let At::Cgroup(place) = hook.at else {
            continue;
        };
        let (kind, name) = program_of(place, hook.program);
        let mut attr = program_attr(kind, &ALLOWS);
        attr.__bindgen_anon_3.expected_attach_type = place as u32;
        let loaded = match load(&format!("BPF programs of type {name}"), &mut attr) {
            Ok(loaded) => loaded,
            Err(refused) => return refused,
        };
        if let Err(error) = link(&loaded, directory.as_raw_fd(), place) {
            return outcome(
                &format!("attaching {name} to {}", root.display()),
                Err::<(), _>(&error),
            );
        }
    }
    Outcome::Works
}

/// Whether programs can be attached to interfaces by TCX links.
pub fn tcx() -> Outcome {
    let classifier = match load_classifier() {
        Ok(classifier) => classifier,
        Err(refused) => return refused,
    };
    let link = link(&classifier, LOOPBACK, attach::BPF_TCX_INGRESS);
    match link {
        // Kernels before TCX do not know the attach type.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Outcome::Absent("the kernel has no TCX links".into())
        }
        link => outcome("a TCX link on the loopback interface", link.as_ref()),
    }
}

/// Whether programs can be attached to interfaces as filters of a clsact qdisc.
///
/// It is tried in a network namespace of its own: when the trial takes its qdisc off the loopback
/// interface, another Flow that attaches there at that moment would lose its filters.
pub fn clsact() -> Outcome {
    thread::scope(|scope| {
        let elsewhere = scope.spawn(|| {
            // Without the right to make one, this one must do.
            let _ = unshare(CloneFlags::CLONE_NEWNET);
            clsact_here()
        });
        let outcome = elsewhere.join();
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn clsact_here() -> Outcome {
    let classifier = match load_classifier() {
        Ok(classifier) => classifier,
        Err(refused) => return refused,
    };
    let mut netlink = match Netlink::open(libc::NETLINK_ROUTE, 0) {
        Ok(netlink) => netlink,
        Err(error) => return outcome("a netlink socket", Err::<(), _>(&error)),
    };
    let create = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let qdisc = clsact_qdisc();
    let made = match netlink.request(libc::RTM_NEWQDISC, create, &qdisc) {
        Ok(()) => true,
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => false,
        Err(error) => return absent_or_refused("a clsact qdisc", "sch_ingress", &error),
    };
    let filter = trial_filter(classifier.as_raw_fd());
    // One that a Flow left which was killed here is replaced.
    let create = libc::NLM_F_CREATE as u16;
    let result = netlink.request(libc::RTM_NEWTFILTER, create, &filter);
    if result.is_ok() {
        // Nothing can be done about a failure, and the filter passes every packet on.
        let _ = netlink.request(libc::RTM_DELTFILTER, 0, &filter);
    }
    if made {
        let _ = netlink.request(libc::RTM_DELQDISC, 0, &qdisc);
    }
    match result {
        Ok(()) => Outcome::Works,
        Err(error) => absent_or_refused("a BPF filter at a clsact qdisc", "cls_bpf", &error),
    }
}

/// Whether programs can read the kernel's memory through a pointer that `function` casts to the
/// structure `pair`, both as BTF ids.
pub fn casts(function: u32, pair: u32) -> Outcome {
    let program = [
        set(1, 0),
        set(2, pair.cast_signed()),
        call(KERNEL_FUNCTION, function.cast_signed()),
        LOADS_FIRST,
        LOADS_SECOND,
        set(0, 0),
        EXIT,
    ];
    let mut attr = program_attr(program::BPF_PROG_TYPE_RAW_TRACEPOINT, &program);
    load("reading through cast pointers", &mut attr)
        .map_or_else(|refused| refused, |_| Outcome::Works)
}

/// Whether sockets can be listed.
pub fn sock_diag() -> Outcome {
    match crate::source::sock_diag::available() {
        Ok(()) => Outcome::Works,
        Err(error) => {
            absent_or_refused("listing TCP sockets through sock_diag", "tcp_diag", &error)
        }
    }
}

/// From `include/uapi/linux/perf_event.h`.
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
/// Index of the loopback interface in every network namespace.
const LOOPBACK: RawFd = 1;
/// Priority (the last there is) and protocol (all, network order) of the trial's filter.
const TRIAL_FILTER_INFO: u32 = 0xffff << 16 | (0x0003_u16.to_be() as u32);

const fn instruction(code: u8, destination: u8, source: u8, immediate: i32) -> u64 {
    code as u64
        | (destination as u64) << 8
        | (source as u64) << 12
        | (immediate as u32 as u64) << 32
}
/// An instruction that sets a register to a number.
pub const fn set(register: u8, value: i32) -> u64 {
    instruction(0xb7, register, 0, value)
}
/// A call of a helper by its number; or of a [`KERNEL_FUNCTION`] by its BTF id.
pub const fn call(kind: u8, which: i32) -> u64 {
    instruction(0x85, 0, kind, which)
}
const EXIT: u64 = instruction(0x95, 0, 0, 0);
/// What a call calls: a function of the kernel (`BPF_PSEUDO_KFUNC_CALL`).
pub const KERNEL_FUNCTION: u8 = 2;
/// `r1 = *(u64 *)(r0 + 0)` and `r1 = *(u64 *)(r0 + 8)`.
const LOADS_FIRST: u64 = instruction(0x79, 1, 0, 0);
const LOADS_SECOND: u64 = instruction(0x79, 1, 0, 0) | 8 << 16;
/// Calls `bpf_probe_read_kernel`, which lockdown takes away without refusing the program type.
const READS_KERNEL_MEMORY: [u64; 7] = [
    instruction(0xbf, 1, 10, 0),
    instruction(0x07, 1, 0, -8),
    set(2, 8),
    set(3, 0),
    call(0, 113),
    set(0, 0),
    EXIT,
];
/// "Go on" to every cgroup hook.
const ALLOWS: [u64; 2] = [set(0, 1), EXIT];
/// `TC_ACT_UNSPEC`: "as if I were not here".
const PASSES: [u64; 2] = [set(0, -1), EXIT];
const LICENSE: &[u8] = b"GPL\0";

fn raw_tracepoints(btf: Types<'_>, names: &[&str]) -> Outcome {
    let btf = match btf {
        Ok(btf) => btf,
        Err(error) => return Outcome::Absent(error.to_string()),
    };
    for name in names {
        if btf.tracepoint(name).is_none() {
            return Outcome::Absent(format!("the kernel has no tracepoint {name}"));
        }
    }
    let mut attr = program_attr(program::BPF_PROG_TYPE_RAW_TRACEPOINT, &READS_KERNEL_MEMORY);
    let loaded = match load("BPF programs of type raw_tracepoint", &mut attr) {
        Ok(loaded) => loaded,
        Err(refused) => return refused,
    };
    // Given back together: after a tracepoint's last program was detached, the kernel waits before it
    // attaches the first one of another (`tp_rcu_cond_sync`).
    let mut links = Vec::new();
    for name in names {
        match open_raw_tracepoint(Some(name), &loaded) {
            Ok(link) => links.push(link),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                return Outcome::Absent(format!("the kernel has no tracepoint {name}"));
            }
            Err(error) => return outcome(&format!("the tracepoint {name}"), Err::<(), _>(&error)),
        }
    }
    Outcome::Works
}

/// The hooks without which there is no backend.
fn needed<'a>(hooks: impl IntoIterator<Item = &'a Hook>) -> impl Iterator<Item = &'a Hook> {
    let hooks = hooks.into_iter();
    hooks.filter(|hook| hook.need != Need::Optional)
}

/// The kind of program that a place on a cgroup takes, and what its trial is called.
const fn program_of(place: attach, hook: &str) -> (program, &str) {
    match place {
        attach::BPF_CGROUP_INET_INGRESS => {
            (program::BPF_PROG_TYPE_CGROUP_SKB, "cgroup_skb ingress")
        }
        attach::BPF_CGROUP_INET_EGRESS => (program::BPF_PROG_TYPE_CGROUP_SKB, "cgroup_skb egress"),
        attach::BPF_CGROUP_SOCK_OPS => (program::BPF_PROG_TYPE_SOCK_OPS, "sock_ops"),
        attach::BPF_CGROUP_INET_SOCK_CREATE | attach::BPF_CGROUP_INET_SOCK_RELEASE => {
            (program::BPF_PROG_TYPE_CGROUP_SOCK, hook)
        }
        _ => (program::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, hook),
    }
}

fn load_classifier() -> Result<OwnedFd, Outcome> {
    let mut attr = program_attr(program::BPF_PROG_TYPE_SCHED_CLS, &PASSES);
    load("BPF programs of type sched_cls", &mut attr)
}

fn tcmsg(handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut message = vec![0; 4];
    for word in [LOOPBACK as u32, handle, parent, info] {
        message.extend_from_slice(&word.to_ne_bytes());
    }
    message
}

const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;

fn clsact_qdisc() -> Vec<u8> {
    let mut message = tcmsg(CLSACT_HANDLE, CLSACT, 0);
    push_attribute(&mut message, TCA_KIND, b"clsact\0");
    message
}

fn trial_filter(classifier: RawFd) -> Vec<u8> {
    let mut options = Vec::new();
    push_attribute(&mut options, TCA_BPF_FD, &classifier.to_ne_bytes());
    push_attribute(&mut options, TCA_BPF_NAME, b"flow-trial\0");
    push_attribute(
        &mut options,
        TCA_BPF_FLAGS,
        &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes(),
    );
    let mut message = tcmsg(1, CLSACT_INGRESS, TRIAL_FILTER_INFO);
    push_attribute(&mut message, TCA_KIND, b"bpf\0");
    push_attribute(&mut message, TCA_OPTIONS, &options);
    message
}

/// The bit of a kprobe event's `config` that makes it a return probe.
fn kretprobe_bit() -> u64 {
    fs::read_to_string("/sys/bus/event_source/devices/kprobe/format/retprobe")
        .ok()
        .and_then(|text| text.trim().strip_prefix("config:")?.parse::<u32>().ok())
        .map_or(1, |bit| 1 << (bit & 63))
}

fn zeroed_attr() -> bpf_attr {
    // SAFETY: bpf_attr is a union of plain integers; all-zero is valid for each.
    unsafe { mem::zeroed() }
}

fn program_attr(kind: program, instructions: &[u64]) -> bpf_attr {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_3.prog_type = kind as u32;
    attr.__bindgen_anon_3.insns = instructions.as_ptr() as u64;
    attr.__bindgen_anon_3.insn_cnt = instructions.len() as u32;
    attr.__bindgen_anon_3.license = LICENSE.as_ptr() as u64;
    attr
}

fn load(what: &str, attr: &mut bpf_attr) -> Result<OwnedFd, Outcome> {
    bpf(bpf_cmd::BPF_PROG_LOAD, attr).map_err(|error| outcome(what, Err::<(), _>(&error)))
}

/// Attaches to a raw tracepoint, or without a name to what the program was loaded for.
fn open_raw_tracepoint(name: Option<&str>, loaded: &OwnedFd) -> io::Result<OwnedFd> {
    let name = name.map(CString::new).transpose()?;
    let mut attr = zeroed_attr();
    attr.raw_tracepoint.name = name.as_ref().map_or(0, |name| name.as_ptr() as u64);
    attr.raw_tracepoint.prog_fd = loaded.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)
}

/// `target` is a descriptor or an interface's index, as the place has it.
fn link(loaded: &OwnedFd, target: i32, place: attach) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.link_create.__bindgen_anon_1.prog_fd = loaded.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_fd = target as u32;
    attr.link_create.attach_type = place as u32;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// bpf(2), for the commands that answer with a descriptor.
fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: whatever the attribute's pointers lead to fits the command and outlives the call.
    let fd = unsafe { syscall::bpf(command, attr) }?;
    owned(fd)
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: the system call has just returned this descriptor, and nobody else owns it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn outcome<T, E: std::borrow::Borrow<io::Error>>(step: &str, result: Result<T, E>) -> Outcome {
    match result {
        Ok(_) => Outcome::Works,
        Err(error) => Outcome::Refused {
            step: step.into(),
            errno: error.borrow().raw_os_error().unwrap_or(libc::EINVAL),
        },
    }
}

fn absent_or_refused(step: &str, module: &str, error: &io::Error) -> Outcome {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EOPNOTSUPP) => {
            Outcome::Absent(format!("the kernel module {module} is not there"))
        }
        _ => outcome(step, Err::<(), _>(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kernel::hooks;

    #[test]
    fn a_missing_btf_or_cgroup_tree_is_absent_not_refused() {
        let none = BtfError::Truncated;
        assert_eq!(
            fexit(Err(&none), hooks::FEXIT, ATTACH_PATIENCE),
            Outcome::Absent(none.to_string())
        );
        let nowhere = Trials {
            btf: Err(&none),
            environment: &Environment::default(),
            patience: ATTACH_PATIENCE,
        };
        let packets = on_cgroup(&nowhere, hooks::PACKETS);
        assert!(matches!(packets, Outcome::Absent(_)));
    }

    #[test]
    fn trials_end_with_or_without_privileges() {
        let btf = Btf::from_kernel();
        let btf = btf.as_ref();
        for outcome in [
            ring_buffer(),
            kprobe(btf),
            tracepoints(btf, hooks::LENGTHS),
            tracepoints(btf, hooks::LIVES),
        ] {
            if let Outcome::Refused { errno, .. } = outcome {
                assert!(errno > 0);
            }
        }
        let none: [&str; 1] = ["flow_has_no_such_tracepoint"];
        assert!(matches!(
            raw_tracepoints(btf, &none),
            Outcome::Absent(_) | Outcome::Refused { .. }
        ));
    }

    #[test]
    fn a_module_that_is_missing_is_told_from_a_refusal() {
        let error = io::Error::from_raw_os_error;
        assert!(matches!(
            absent_or_refused("x", "cls_bpf", &error(libc::ENOENT)),
            Outcome::Absent(_)
        ));
        assert_eq!(
            absent_or_refused("x", "cls_bpf", &error(libc::EPERM)),
            Outcome::Refused {
                step: "x".into(),
                errno: libc::EPERM
            }
        );
    }
}
