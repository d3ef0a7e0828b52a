//! Takes something away from a process before it starts.

use std::{fs, io, os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use anyhow::Result;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// A file or directory that a mount replaces.
pub const NOTHING: Option<&str> = None;

/// Gives the process a mount namespace of its own, in which `change` mounts things.
pub fn in_mount_namespace(
    command: &mut Command,
    change: impl Fn() -> io::Result<()> + Send + Sync + 'static,
) {
    let enter = move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(NOTHING, "/", NOTHING, private, NOTHING)?;
        change()
    };
    // SAFETY: only system calls between fork and exec; paths this short need no memory.
    unsafe { command.pre_exec(enter) };
}

/// Mounts a new file system over an existing one.
pub fn over(target: &str, kind: &str, flags: MsFlags, options: &str) -> io::Result<()> {
    Ok(mount(Some(kind), target, Some(kind), flags, Some(options))?)
}

/// Removes a capability, also from root: exec grants what the bounding set has.
pub fn without_capability(command: &mut Command, capability: libc::c_ulong) {
    // SAFETY: only a system call, without pointers, between fork and exec.
    unsafe {
        command.pre_exec(move || checked(libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0)));
    }
}

/// Refuses a system call with EPERM, as container engines do.
pub fn refusing(command: &mut Command, call: libc::c_long) {
    let install = move || {
        let step = |code: u32, jt, jf, k| libc::sock_filter {
            code: code as u16,
            jt,
            jf,
            k,
        };
        // The system call number is the first field of `struct seccomp_data`.
        let mut steps = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                0,
                1,
                call as u32,
            ),
            step(
                libc::BPF_RET,
                0,
                0,
                libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            ),
            step(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let filter = libc::sock_fprog {
            len: steps.len() as u16,
            filter: steps.as_mut_ptr(),
        };
        let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
        // SAFETY: the kernel copies the filter, which lives through the call.
        checked(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) })
    };
    // SAFETY: only a system call between fork and exec.
    unsafe { command.pre_exec(install) };
}

pub fn checked(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Mount points of cgroup v2, the last one first.
pub fn cgroup2_mounts() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' '));
    let mut roots: Vec<_> = fields
        .filter_map(|mut fields| {
            let point = fields.nth(1)?;
            (fields.next() == Some("cgroup2")).then(|| point.into())
        })
        .collect();
    roots.reverse();
    Ok(roots)
}
