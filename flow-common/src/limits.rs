//! Sizes of maps and buffers. Those of `APP`, `SOCKETS`, `OVERFLOW` and `RING` are what the loader makes them when
//! nobody asks for others (`flow-user/src/source/kernel/sizes.rs`).

/// Entries of the map of (socket, process, remote) counters.
pub const APP_ENTRIES: u32 = 65_536;
/// Entries of the map of sockets.
pub const SOCKET_ENTRIES: u32 = 65_536;
/// Entries of the map that takes a process's bytes once [`APP_ENTRIES`] are in use.
pub const OVERFLOW_ENTRIES: u32 = 8_192;
/// Remotes of one socket that are counted each by itself; bytes to and from others are counted
/// together. A socket that answers the whole world would fill the map otherwise.
pub const REMOTES_PER_SOCKET: u32 = 1_024;
/// The kernel side learns of remotes whose keys were deleted by so many of one socket: it may take
/// one fewer than these for occupied.
pub const FREED_REMOTES_STEP: u32 = 16;
/// Sockets of which so many keys were deleted while they go on: those that several processes use
/// one after the other.
pub const FREED_REMOTES_ENTRIES: u32 = 4_096;
/// Sockets without a cookie of their own that are distinguished.
pub const ALIAS_ENTRIES: u32 = 8_192;
/// Interfaces that can be counted at once.
pub const INTERFACE_ENTRIES: u32 = 4_096;
/// Interfaces of other namespaces that received something.
pub const FOREIGN_ENTRIES: u32 = 8_192;
/// Packets that wait in queues of upper interfaces, two entries each.
pub const QUEUED_ENTRIES: u32 = 16_384;
/// Slots for notes of threads, from a function's entry, or a cgroup hook, to its return.
pub const CALL_SLOTS: u32 = 4_096;
/// Entries for those of threads that found their slot taken.
pub const CALL_ENTRIES: u32 = 32_768;
/// Sockets whose senders are kept until their datagrams are read: of raw and ping sockets, and of
/// those read without asking.
pub const SENDER_ENTRIES: u32 = 1_024;
/// Bytes of the ring buffer; a power of two and a multiple of the page size.
pub const RING_BYTES: u32 = 4 << 20;
/// Bytes of a path to an executable that a process record has room for.
pub const EXE_BYTES: usize = 1024;
/// Bytes of a file's name with the zero byte that ends it, `NAME_MAX` + 1.
pub const NAME_BYTES: usize = 256;
/// Bytes of arguments carried in a process record; longer ones are marked cut.
pub const ARGS_BYTES: usize = 4096;
/// Bytes of a name of a thread or process, as in the kernel's `TASK_COMM_LEN`.
pub const COMM_BYTES: usize = 16;
