//! Who runs: identity of the current process, and records of processes' lives.

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
    bpf_probe_read_kernel_str_bytes,
    generated::{
        bpf_get_current_cgroup_id, bpf_get_current_task, bpf_ktime_get_boot_ns, bpf_probe_read_user,
    },
};
use flow_common::{
    Loss, ProcessKey, RecordHeader, RecordKind,
    limits::{ARGS_BYTES, COMM_BYTES},
    record::{EXEC_FIXED_BYTES, ExecRecord, ExitRecord, ForkRecord},
};

use crate::{
    kernel::{
        self, Address, BPRM_INTERP, CRED_EUID, MM_ARG_END, MM_ARG_START, NET_INUM, NSPROXY_NET,
        SIGNAL_LIVE, TASK_CRED, TASK_EXIT_CODE, TASK_GROUP_LEADER, TASK_MM, TASK_NSPROXY, TASK_PID,
        TASK_REAL_PARENT, TASK_SIGNAL, TASK_START_BOOTTIME, TASK_TGID,
    },
    maps::{CALLS, EXEC_SCRATCH, RING, lose},
};

/// The process that runs. Call it in process context only.
#[inline(always)]
pub fn current() -> Option<ProcessKey> {
    let start = start_time(task())?;
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    Some(ProcessKey {
        start,
        tgid,
        padding: 0,
    })
}

/// Effective user id of the current task.
#[inline(always)]
pub fn current_uid() -> u32 {
    // The helper would tell the real one.
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

/// Name of the current thread.
#[inline(always)]
pub fn current_comm() -> [u8; COMM_BYTES] {
    bpf_get_current_comm().unwrap_or_default()
}

/// Inode number of the current task's network namespace; 0 where it can't be read.
#[inline(always)]
pub fn current_netns() -> u32 {
    kernel::follow(task(), &TASK_NSPROXY)
        .and_then(|nsproxy| kernel::follow(nsproxy, &NSPROXY_NET))
        .and_then(|net| kernel::read(net, &NET_INUM))
        .unwrap_or(0)
}

/// Nanoseconds since boot.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// The header of a record made now.
#[inline(always)]
pub fn header(kind: RecordKind) -> RecordHeader {
    RecordHeader {
        time: now(),
        kind: kind as u32,
        padding: 0,
    }
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

#[inline(always)]
fn key(task: Address) -> Option<ProcessKey> {
    Some(ProcessKey {
        start: start_time(task)?,
        tgid: kernel::read(task, &TASK_TGID)?,
        padding: 0,
    })
}

/// `task` made a new process, or thread, `child`.
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
        header: header(RecordKind::Fork),
        process,
        parent,
        cgroup: current_cgroup(),
        uid: current_uid(),
        padding: 0,
        comm: current_comm(),
    });
    entry.submit(0);
    Some(())
}

/// The thread `task` ends; tells if it was its process's last.
#[inline(always)]
pub fn exited(task: Address) -> Option<()> {
    // A call that did not come back leaves its note.
    let _ = CALLS.remove(bpf_get_current_pid_tgid());
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
        header: header(RecordKind::Exit),
        process,
        status,
        padding: 0,
    });
    entry.submit(0);
    Some(())
}

/// The current process, `task`, became the program in `bprm`.
#[inline(always)]
pub fn executed(task: Address, bprm: Address) -> Option<()> {
    let scratch = EXEC_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: the element is this CPU's, and no other program uses it; sched_process_exec does not
    // nest on a CPU, since tracepoints run with preemption off.
    let record = unsafe { &mut *scratch };
    record.header = header(RecordKind::Exec);
    record.process = key(task)?;
    record.parent = kernel::follow(task, &TASK_REAL_PARENT)
        .and_then(key)
        .unwrap_or_default();
    record.cgroup = current_cgroup();
    record.uid = current_uid();
    record.comm = current_comm();
    record.exe_len = 0;
    record.args_len = 0;
    record.args_total = 0;
    // The interpreter of a script, else the program itself: what /proc/PID/exe will show.
    if let Some(path) = kernel::follow(bprm, &BPRM_INTERP) {
        // SAFETY: the helper checks the address.
        let read = unsafe { bpf_probe_read_kernel_str_bytes(path as *const u8, &mut record.exe) };
        if let Ok(exe) = read {
            record.exe_len = exe.len() as u32;
        }
    }
    let args_len = arguments(task, record).unwrap_or(0);
    record.args_len = args_len;
    send_exec(scratch, args_len);
    Some(())
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
    // Without this the compiler forgets the bound in favour of the unbounded value, and the verifier
    // says "R2 unbounded memory access".
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
