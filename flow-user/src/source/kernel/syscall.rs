//! bpf(2), where aya has no call for what is asked of it.

use std::io;

use aya_obj::generated::{bpf_attr, bpf_cmd};

/// What the call returned: a descriptor, for the commands that answer with one.
///
/// # Errors
/// The kernel refuses it.
///
/// # Safety
/// What the attribute's pointers lead to fits the command and outlives the call.
pub unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: the attribute is of the size given and zero where it is not used, which every kernel
    // takes; the rest the caller promises.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            &raw mut *attr,
            size_of::<bpf_attr>(),
        )
    };
    match result {
        0.. => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
