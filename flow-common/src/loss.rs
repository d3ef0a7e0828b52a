//! Causes of loss, one counter for each.

/// Why something could not be recorded in the usual place. The discriminant is the index into the
/// kernel's array of counters.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Loss {
    /// The ring buffer had no room for a traffic or socket record. Its numbers are in the maps and
    /// come with the next record or the sweep.
    RingTraffic = 0,
    /// The ring buffer had no room for a process record: that process may lack its command line.
    RingProcess = 1,
    /// The map of (socket, process, remote) was full: the bytes went to the process's overflow entry.
    AppFull = 2,
    /// App bytes sent that found no place even in the overflow map. Counted in bytes.
    OverflowFullTx = 3,
    /// App bytes received that found no place even in the overflow map. Counted in bytes.
    OverflowFullRx = 4,
    /// The map of sockets was full. Counted in packets.
    SocketFull = 5,
    /// Wire bytes of packets whose socket found no place in the map of sockets. Counted in bytes.
    SocketFullTx = 6,
    /// As [`Loss::SocketFullTx`], for received packets.
    SocketFullRx = 7,
    /// The map of calls in flight was full: a call was not counted.
    CallFull = 8,
    /// A kernel structure could not be read: a call was not counted.
    ReadFault = 9,
    /// The return of a function was not seen (a kretprobe was missed): a call was not counted.
    ReturnMissed = 10,
    /// Runs of programs that the kernel left out, because the same program was at work on that CPU
    /// already. The kernel itself counts them.
    Recursion = 11,
}

impl Loss {
    /// Number of causes, and entries of the kernel's array.
    pub const COUNT: u32 = 12;

    /// Every cause, in order of its index.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::RingTraffic,
        Self::RingProcess,
        Self::AppFull,
        Self::OverflowFullTx,
        Self::OverflowFullRx,
        Self::SocketFull,
        Self::SocketFullTx,
        Self::SocketFullRx,
        Self::CallFull,
        Self::ReadFault,
        Self::ReturnMissed,
        Self::Recursion,
    ];
}
