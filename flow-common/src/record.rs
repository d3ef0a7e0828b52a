//! Records of the ring buffer: a header that names the kind, then the kind's own struct.

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{
    limits::{ARGS_BYTES, COMM_BYTES, EXE_BYTES},
    traffic::{AppCounters, AppKey, ProcessKey, SocketEntry},
};

/// What a record holds.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// [`AppRecord`]: first bytes of a (socket, process, remote) in this epoch.
    App = 1,
    /// [`SocketRecord`]: first packet in this epoch, or a change of state, address or owner.
    Socket = 2,
    /// [`SocketRecord`]: released by its processes and, for TCP, closed: no more app bytes will come.
    SocketEnd = 3,
    /// [`ExecRecord`], cut after its last byte of arguments.
    Exec = 4,
    /// [`ForkRecord`].
    Fork = 5,
    /// [`ExitRecord`].
    Exit = 6,
}

impl RecordKind {
    /// The kind with this number, if there is one.
    pub const fn from_u32(kind: u32) -> Option<Self> {
        Some(match kind {
            1 => Self::App,
            2 => Self::Socket,
            3 => Self::SocketEnd,
            4 => Self::Exec,
            5 => Self::Fork,
            6 => Self::Exit,
            _ => return None,
        })
    }
}

/// Start of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct RecordHeader {
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub time: u64,
    /// A [`RecordKind`].
    pub kind: u32,
    pub padding: u32,
}
const _: () = assert!(size_of::<RecordHeader>() == 16);
plain!(RecordHeader);

/// A copy of an entry of the app counters.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct AppRecord {
    pub header: RecordHeader,
    pub key: AppKey,
    pub counters: AppCounters,
    /// Name of the process, as it is now.
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<AppRecord>() == 136);
plain!(AppRecord);

/// A copy of an entry of the sockets.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct SocketRecord {
    pub header: RecordHeader,
    pub cookie: u64,
    pub socket: SocketEntry,
}
const _: () = assert!(size_of::<SocketRecord>() == 192);
plain!(SocketRecord);

/// A process became another program.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct ExecRecord {
    pub header: RecordHeader,
    pub process: ProcessKey,
    pub parent: ProcessKey,
    /// cgroup v2 id.
    pub cgroup: u64,
    pub uid: u32,
    /// Bytes used of `exe`; 0 where the path had no room.
    pub exe_len: u32,
    /// Bytes used of `args`.
    pub args_len: u32,
    /// Bytes the arguments really have; more than `args_len` when they were cut.
    pub args_total: u32,
    pub comm: [u8; COMM_BYTES],
    /// Names in the path of the program, its own first and then each directory's up to the root, each
    /// ended by a zero byte.
    pub exe: [u8; EXE_BYTES],
    /// Arguments, each ended by a zero byte.
    pub args: [u8; ARGS_BYTES],
}
/// Bytes of an [`ExecRecord`] before its arguments; the least such a record has.
pub const EXEC_FIXED_BYTES: usize = size_of::<ExecRecord>() - ARGS_BYTES;
const _: () = assert!(EXEC_FIXED_BYTES == 16 + 32 + 8 + 16 + 16 + EXE_BYTES);
plain!(ExecRecord);

/// A process was made. It is its parent's program until it calls exec.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct ForkRecord {
    pub header: RecordHeader,
    pub process: ProcessKey,
    pub parent: ProcessKey,
    pub cgroup: u64,
    pub uid: u32,
    pub padding: u32,
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<ForkRecord>() == 80);
plain!(ForkRecord);

/// The last thread of a process ended; it makes no more calls.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct ExitRecord {
    pub header: RecordHeader,
    pub process: ProcessKey,
    /// As `wait(2)` reports it.
    pub status: u32,
    pub padding: u32,
    /// The last name of the process.
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<ExitRecord>() == 56);
plain!(ExitRecord);
