//! Processes: identity of the current one, and records of their lifetimes.

use aya_ebpf::{
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::{
            bpf_get_current_cgroup_id, bpf_get_current_task, bpf_get_current_task_btf,
            bpf_probe_read_kernel_str, bpf_probe_read_user,
        },
    },
    macros::map,
    maps::PerCpuArray,
};
use flow_common::{
    Loss, ProcessKey, RecordKind,
    limits::{ARGS_BYTES, COMM_BYTES, EXE_BYTES, NAME_BYTES},
    record::{EXEC_FIXED_BYTES, ExecRecord, ExitRecord, ForkRecord},
};

use crate::{
    kernel::{
        self, Address, CRED_EUID, DENTRY_NAME, DENTRY_PARENT, FILE_DENTRY, FILE_MNT, MM_ARG_END,
        MM_ARG_START, MM_EXE_FILE, MOUNT_MNT, MOUNT_MOUNTPOINT, MOUNT_PARENT, SIGNAL_LIVE,
        TASK_COMM, TASK_CRED, TASK_EXIT_CODE, TASK_GROUP_LEADER, TASK_MM, TASK_PID,
        TASK_REAL_PARENT, TASK_SIGNAL, TASK_START_BOOTTIME, TASK_TGID, TYPED_TASK, VFSMOUNT_ROOT,
    },
    maps::{RING, lose},
    record,
};

/// Names and mounts of a path that are followed at most.
const PATH_STEPS: usize = 48;
const _: () = assert!(EXE_BYTES.is_power_of_two());

/// Where an exec record is put together; it is larger than the stack.
#[map]
pub static EXEC_SCRATCH: PerCpuArray<ExecRecord> = PerCpuArray::with_max_entries(1, 0);

/// What runs.
#[derive(Clone, Copy)]
pub struct Current {
    pub process: ProcessKey,
    /// As `bpf_get_current_pid_tgid` numbers it.
    pub thread: u64,
}

/// The process that runs. Call it in process context only.
#[inline(always)]
pub fn current() -> Option<ProcessKey> {
    current_thread().map(|current| current.process)
}

/// The thread that runs, and its process. Call it in process context only.
#[inline(always)]
pub fn current_thread() -> Option<Current> {
    if TYPED_TASK.load() != 0 {
        return Some(typed_current());
    }
    let thread = bpf_get_current_pid_tgid();
    Some(Current {
        process: ProcessKey {
            start: start_time(task())?,
            tgid: (thread >> 32) as u32,
            padding: 0,
        },
        thread,
    })
}

/// Effective user id of the current task.
#[inline(always)]
pub fn current_uid() -> u32 {
    // The helper returns the real one.
    kernel::follow(task(), &TASK_CRED)
        .and_then(|cred| kernel::read(cred, &CRED_EUID))
        .unwrap_or(bpf_get_current_uid_gid() as u32)
}

/// cgroup v2 id of the current task.
#[inline(always)]
pub fn current_cgroup() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_cgroup_id() }
}

/// Name of the current process.
#[inline(always)]
pub fn current_name() -> [u8; COMM_BYTES] {
    name(task())
}

/// Name of a task's process: its first thread's. The helper (bpf_get_current_comm) would give the
/// thread's own, and threads have names of their own, io_uring's workers for instance. No bytes
/// where it can't be read.
#[inline(always)]
fn name(task: Address) -> [u8; COMM_BYTES] {
    kernel::follow(task, &TASK_GROUP_LEADER)
        .and_then(|leader| kernel::read(leader, &TASK_COMM))
        .unwrap_or_default()
}

/// The thread that runs, as `bpf_get_current_pid_tgid` numbers it, which programs of packets may
/// not call before 6.10.
#[inline(always)]
pub fn thread() -> Option<u64> {
    let task = task();
    let tgid: u32 = kernel::read(task, &TASK_TGID)?;
    let pid: u32 = kernel::read(task, &TASK_PID)?;
    Some(u64::from(tgid) << 32 | u64::from(pid))
}

#[inline(always)]
fn task() -> Address {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_task() }
}

/// When a task's process started. A thread that calls exec takes over its leader's time, so this
/// holds for the life of the process.
#[inline(always)]
fn start_time(task: Address) -> Option<u64> {
    let leader = kernel::follow(task, &TASK_GROUP_LEADER)?;
    kernel::read(leader, &TASK_START_BOOTTIME)
}

/// The same with one call instead of four.
#[inline(always)]
fn typed_current() -> Current {
    // SAFETY: the verifier knows the pointer's type, and that such a member is at each offset; the
    // kernel reads 0 where an address is bad. Volatile, so that the reads stay as they are.
    unsafe {
        let task = bpf_get_current_task_btf().cast::<u8>();
        let leader = task
            .add(usize::from(TASK_GROUP_LEADER.load()))
            .cast::<*const u8>();
        let start = leader
            .read_volatile()
            .add(usize::from(TASK_START_BOOTTIME.load()));
        let tgid = task.add(usize::from(TASK_TGID.load())).cast::<u32>();
        let tgid = tgid.read_volatile();
        let pid = task.add(usize::from(TASK_PID.load())).cast::<u32>();
        Current {
            process: ProcessKey {
                start: start.cast::<u64>().read_volatile(),
                tgid,
                padding: 0,
            },
            thread: u64::from(tgid) << 32 | u64::from(pid.read_volatile()),
        }
    }
}

#[inline(always)]
fn key(task: Address) -> Option<ProcessKey> {
    Some(ProcessKey {
        start: start_time(task)?,
        tgid: kernel::read(task, &TASK_TGID)?,
        padding: 0,
    })
}

/// `parent` made a new process, or thread, `child`.
#[inline(always)]
pub fn forked(parent: Address, child: Address) -> Option<()> {
    let pid: u32 = kernel::read(child, &TASK_PID)?;
    let process = key(child)?;
    if pid != process.tgid {
        return None; // a thread
    }
    let parent = key(parent)?;
    let Some(mut entry) = RING.reserve::<ForkRecord>(0) else {
        lose(Loss::RingProcess, 1);
        return None;
    };
    entry.write(ForkRecord {
        header: record::header(RecordKind::Fork),
        process,
        parent,
        cgroup: current_cgroup(),
        uid: current_uid(),
        padding: 0,
        // The name of the thread that called fork (dup_task_struct), which need not be its
        // process's.
        comm: name(child),
    });
    entry.submit(0);
    Some(())
}

/// The thread `task` ends; emits the end of its process if it was the last.
#[inline(always)]
pub fn exited(task: Address) -> Option<()> {
    let signal = kernel::follow(task, &TASK_SIGNAL)?;
    // do_exit() has counted this thread off before the tracepoint.
    let live: i32 = kernel::read(signal, &SIGNAL_LIVE)?;
    if live != 0 {
        return None;
    }
    let process = key(task)?;
    let status: u32 = kernel::read(task, &TASK_EXIT_CODE).unwrap_or(0);
    let Some(mut entry) = RING.reserve::<ExitRecord>(0) else {
        lose(Loss::RingProcess, 1);
        return None;
    };
    entry.write(ExitRecord {
        header: record::header(RecordKind::Exit),
        process,
        status,
        padding: 0,
        comm: name(task),
    });
    entry.submit(0);
    Some(())
}

/// The current process, `task`, became another program.
#[inline(always)]
pub fn executed(task: Address) -> Option<()> {
    let scratch = EXEC_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: the element is this CPU's, and no other program uses it; sched_process_exec does not
    // nest on a CPU, since tracepoints run with preemption off.
    let record = unsafe { &mut *scratch };
    record.header = record::header(RecordKind::Exec);
    record.process = key(task)?;
    record.parent = kernel::follow(task, &TASK_REAL_PARENT)
        .and_then(key)
        .unwrap_or_default();
    record.cgroup = current_cgroup();
    record.uid = current_uid();
    record.comm = name(task);
    record.exe_len = 0;
    record.args_len = 0;
    record.args_total = 0;
    if let Some(mm) = kernel::follow(task, &TASK_MM) {
        record.exe_len = program_path(mm, record).unwrap_or(0);
    }
    let args_len = arguments(task, record).unwrap_or(0);
    record.args_len = args_len;
    send_exec(scratch, args_len);
    Some(())
}

/// Copies the names in the path of the program of `mm` into the record, from its own up to the
/// root; their length. That is what /proc/PID/exe shows, whatever exec was given: a relative path,
/// a link, a script. `None` if there is no room for it all.
#[inline(always)]
fn program_path(mm: Address, record: &mut ExecRecord) -> Option<u32> {
    let file = kernel::follow(mm, &MM_EXE_FILE)?;
    let mut dentry = kernel::follow(file, &FILE_DENTRY)?;
    // The path has the public part of a `struct mount`.
    let public = u64::from(MOUNT_MNT.load());
    let mut mount = kernel::follow(file, &FILE_MNT)?.wrapping_sub(public);
    let mut used = 0_u64;
    for _ in 0..PATH_STEPS {
        // One range, whichever way the last step went: else the verifier follows every combination
        // of ways ("processed 1000001 insns").
        used = core::hint::black_box(used) & (2 * EXE_BYTES as u64 - 1);
        let root: u64 = kernel::read(mount.wrapping_add(public), &VFSMOUNT_ROOT)?;
        if dentry == root {
            let parent = kernel::follow(mount, &MOUNT_PARENT)?;
            if parent == mount {
                return Some(used as u32);
            }
            dentry = kernel::follow(mount, &MOUNT_MOUNTPOINT)?;
            mount = parent;
            continue;
        }
        if used > (EXE_BYTES - NAME_BYTES) as u64 {
            return None;
        }
        let name = kernel::follow(dentry, &DENTRY_NAME)?;
        // SAFETY: there is room for a whole name, and the helper checks the address.
        let len = unsafe {
            bpf_probe_read_kernel_str(
                record.exe.as_mut_ptr().add(used as usize).cast(),
                NAME_BYTES as u32,
                name as *const _,
            )
        };
        if len <= 0 {
            return None;
        }
        used += len as u64;
        dentry = kernel::follow(dentry, &DENTRY_PARENT)?;
    }
    None
}

/// Copies the arguments of the process into the record; their length.
#[inline(always)]
fn arguments(task: Address, record: &mut ExecRecord) -> Option<u32> {
    let mm = kernel::follow(task, &TASK_MM)?;
    let start: u64 = kernel::read(mm, &MM_ARG_START)?;
    let end: u64 = kernel::read(mm, &MM_ARG_END)?;
    let total = end.wrapping_sub(start);
    if total == 0 || total > u64::from(u32::MAX) {
        return None;
    }
    record.args_total = total as u32;
    let mut len = total as u32;
    if len > ARGS_BYTES as u32 {
        len = ARGS_BYTES as u32;
    }
    // Without this the compiler forgets the bound in favour of the unbounded value, and the
    // verifier says "R2 unbounded memory access".
    let len = core::hint::black_box(len);
    if len > ARGS_BYTES as u32 {
        return None;
    }
    // SAFETY: len fits the buffer; the helper checks the address.
    let status =
        unsafe { bpf_probe_read_user(record.args.as_mut_ptr().cast(), len, start as *const _) };
    (status == 0).then_some(len)
}

#[inline(always)]
fn send_exec(record: *const ExecRecord, args_len: u32) {
    let args_len = core::hint::black_box(args_len);
    if args_len > ARGS_BYTES as u32 {
        return;
    }
    // SAFETY: the record has EXEC_FIXED_BYTES and then ARGS_BYTES bytes.
    let bytes = unsafe {
        core::slice::from_raw_parts(record.cast::<u8>(), EXEC_FIXED_BYTES + args_len as usize)
    };
    if RING.output::<[u8]>(bytes, 0).is_err() {
        lose(Loss::RingProcess, 1);
    }
}
