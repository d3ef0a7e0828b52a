//! Causes of loss, one counter for each.

/// Calls a macro with the causes, in the order of the kernel's counters: each with its name in
/// outputs.
#[macro_export]
macro_rules! loss_causes {
    ($callback:ident) => {
        $callback! {
            /// The ring buffer had no room for a traffic or socket record; its numbers come with the next.
            RingTraffic = "ring_traffic",
            /// The ring buffer had no room for a process record.
            RingProcess = "ring_process",
            /// The kernel's table of flows was full; bytes went to the process's overflow.
            AppFull = "app_full",
            /// App bytes sent that found no place at all. In bytes.
            OverflowFullTx = "overflow_full_tx",
            /// App bytes received that found no place at all. In bytes.
            OverflowFullRx = "overflow_full_rx",
            /// The kernel's table of sockets was full. Counted each time an entry was wanted.
            SocketFull = "socket_full",
            /// Wire bytes sent whose socket found no place. In bytes.
            SocketFullTx = "socket_full_tx",
            /// Wire bytes received whose socket found no place. In bytes.
            SocketFullRx = "socket_full_rx",
            /// A call was not counted: too many calls in flight.
            CallFull = "call_full",
            /// A call was not counted: a kernel structure could not be read.
            ReadFault = "read_fault",
            /// A call was not counted: its return was not seen.
            ReturnMissed = "return_missed",
            /// A run of a program that the kernel left out: the same program was at work on that CPU already.
            Recursion = "recursion",
        }
    };
}

macro_rules! declare {
    ($($(#[$doc:meta])* $cause:ident = $name:literal,)*) => {
        /// Why something could not be recorded in the usual place. The discriminant is the index
        /// into the kernel's array of counters.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Loss {
            $($(#[$doc])* $cause,)*
        }

        impl Loss {
            /// Every cause, in order of its index.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$cause),*];
            /// Number of causes, and entries of the kernel's array.
            pub const COUNT: u32 = Self::ALL.len() as u32;
        }
    };
}

loss_causes!(declare);
