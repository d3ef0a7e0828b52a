//! Files under `/proc`, and links in them.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use flow_common::limits::ARGS_BYTES;

use crate::source::{
    kernel::environment::{is_initial_user_namespace, selected},
    mountinfo,
    proc::{Life, Stat, arguments, cgroup_path, effective_user, inode_of},
};

/// The same bytes as every file; and what the kernel writes of a hostile name reads back as it is.
pub fn run(bytes: &[u8]) {
    if let Some(stat) = Stat::parse(bytes) {
        assert!(stat.comm.len() < bytes.len());
    }
    name_in_stat(bytes);
    assert!(arguments(bytes).iter().map(String::len).sum::<usize>() <= 3 * ARGS_BYTES);
    if let Some(path) = cgroup_path(bytes) {
        assert!(!path.contains(&b'\n'));
    }
    let _user = effective_user(bytes);
    let _inode = inode_of(Path::new(OsStr::from_bytes(bytes)), "socket:[");
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(mountinfo::parse(bytes).len() <= lines);
    path_in_mountinfo(bytes);
    let text = String::from_utf8_lossy(bytes);
    let _mode = selected(&text);
    let _initial = is_initial_user_namespace(&text);
}

/// A process may name itself anything, parentheses and line feeds too.
fn name_in_stat(name: &[u8]) {
    let after = " S 41 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2\n";
    let text = [b"7 (", name, b")", after.as_bytes()].concat();
    let read = Stat::parse(&text);
    let expected = Stat {
        comm: name.to_vec(),
        parent: 41,
        life: Life::Lives,
        start_ticks: 98765,
    };
    assert_eq!(read, Some(expected));
}

/// The kernel writes blanks, line feeds, backslashes and `#` of a path as octal digits.
fn path_in_mountinfo(path: &[u8]) {
    let mut escaped = Vec::with_capacity(path.len());
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => {
                escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes());
            }
            other => escaped.push(*other),
        }
    }
    let line = [
        b"40 31 0:38 ",
        &*escaped,
        b" ",
        &*escaped,
        b" rw shared:9 - nsfs nsfs rw",
    ]
    .concat();
    let mounts = mountinfo::parse(&line);
    assert_eq!(mounts.len(), 1);
    assert_eq!(mounts[0].root.as_os_str().as_bytes(), path);
    assert_eq!(mounts[0].point.as_os_str().as_bytes(), path);
    assert_eq!(mounts[0].fs_type, "nsfs");
}
