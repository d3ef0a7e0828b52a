//! The vocabulary: what sources emit and the model receives. Owned types, no I/O.
//!
//! Counters in events are cumulative: an event that is lost costs nothing, because the next one
//! brings the same total.

mod clock;
mod counters;
mod coverage;
pub mod doctor;
mod encoding;
mod interface;
mod socket;
mod units;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

pub use flow_common::{Class, Loss};
use serde::{Deserialize, Serialize};

use self::encoding::{cause, path};
pub use self::{
    clock::{Clock, time_of_day},
    counters::{AppTotals, Backlog, RoundTrip, TcpFacts, TcpInfo, WireTotals},
    coverage::{Capability, Coverage},
    interface::{ClassCount, InterfaceFact, InterfaceSide},
    socket::{CloseReason, Direction, EphemeralPorts, Protocol, State},
    units::{Bytes, CgroupId, Instant, Netns, ProcessId, SocketCookie},
};

/// What is known of a process's program. Absent means unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Name as the kernel keeps it (at most 15 bytes). Text from another process: may hold anything.
    pub comm: Option<Arc<str>>,
    /// Path of the executable; lossless bytes are kept, see [`PathBuf`].
    #[serde(with = "path")]
    pub exe: Option<Arc<PathBuf>>,
    /// Arguments, invalid UTF-8 replaced, at most 4 KiB in all.
    pub cmdline: Option<Arc<[String]>>,
    /// Whether `cmdline` was cut.
    pub cmdline_cut: bool,
}

/// A process as some source saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFact {
    pub id: ProcessId,
    pub parent: Option<ProcessId>,
    pub program: Program,
    pub uid: Option<u32>,
    pub cgroup: Option<CgroupId>,
}

/// A socket as some source saw it. Counters cumulative.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketFact {
    pub cookie: SocketCookie,
    pub protocol: Protocol,
    pub local: SocketAddr,
    /// Fixed peer, if it has one.
    pub remote: Option<SocketAddr>,
    pub state: State,
    pub direction: Option<Direction>,
    pub netns: Option<Netns>,
    /// Index of the interface of its last packet, in its own namespace.
    pub ifindex: Option<u32>,
    /// Who created, connected or accepted it.
    pub owner: Option<ProcessId>,
    pub wire: Option<WireTotals>,
    pub tcp: Option<TcpFacts>,
}

/// Bytes a process moved over a socket to or from one remote. Counters cumulative.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppFact {
    pub socket: SocketCookie,
    pub process: ProcessId,
    /// Peer of this part of the socket's traffic; `None` where the call does not name it.
    pub remote: Option<SocketAddr>,
    pub totals: AppTotals,
    pub uid: Option<u32>,
    pub cgroup: Option<CgroupId>,
    /// Name that the process has now, where the source knows it.
    pub comm: Option<Arc<str>>,
}
/// The machine that events are from, for headers and reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub name: String,
    /// Release of the kernel, as `uname -r` prints it.
    pub kernel: String,
}

/// What a source emits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// How each capability is provided; first event of a source.
    Coverage(Vec<Coverage>),
    /// A process was there when the source began, or was looked up later.
    ProcessSeen(ProcessFact),
    /// A process became another program. What the fact lacks is unknown, not unchanged.
    ProcessExec(ProcessFact),
    /// A process was made; it is its parent's program.
    ProcessFork(ProcessFact),
    /// The names that a process has now: of its program `comm` and `cmdline`, where these are there. It may have given
    /// itself others since it began (`prctl`, a title over its arguments).
    ProcessNamed { id: ProcessId, program: Program },
    /// The last thread of a process ended; `status` as `wait(2)` reports it. All its totals were
    /// reported before.
    ProcessExit { id: ProcessId, status: u32 },
    /// Every process that there is, because records of processes were lost. One that began before this and is
    /// not among them has ended. All its totals were reported before.
    ProcessesListed(Vec<ProcessFact>),
    /// A socket is new or changed.
    Socket(SocketFact),
    /// A socket was there before the source began.
    SocketFound(SocketFact),
    /// A socket is gone. Its last totals were reported before.
    SocketEnd {
        cookie: SocketCookie,
        reason: CloseReason,
    },
    /// The ports that the kernel gives to sockets of a network namespace which ask for none. Where
    /// this is not reported, they are [`EphemeralPorts::default`].
    EphemeralPorts { netns: Netns, ports: EphemeralPorts },
    /// What waits at a listening socket now, or at one of datagrams.
    Listening {
        cookie: SocketCookie,
        backlog: Backlog,
    },
    /// What TCP knows of a connection now. Only of those that a consumer asks for.
    TcpInfo {
        cookie: SocketCookie,
        info: Box<TcpInfo>,
    },
    /// A process moved bytes.
    App(AppFact),
    /// Bytes of a process that found no entry of their own: counted for it, flow unknown. Cumulative.
    Overflow {
        process: ProcessId,
        totals: AppTotals,
    },
    /// An interface's counters.
    Interface(Box<InterfaceFact>),
    /// An interface is gone.
    InterfaceGone { ifindex: u32 },
    /// Path of a cgroup below the v2 root, such as `/system.slice/nginx.service`.
    Cgroup { id: CgroupId, path: Arc<str> },
    /// Login name of a user; absent where the directory has none. May hold anything.
    User { uid: u32, name: Option<Arc<str>> },
    /// Something was lost `count` times (or bytes, see [`Loss`]) since the source began. Cumulative.
    Lost {
        #[serde(with = "cause")]
        cause: Loss,
        count: u64,
    },
}

/// Takes what sources emit.
pub trait EventSink {
    fn event(&mut self, time: Instant, event: Event);
}

impl<S: EventSink + ?Sized> EventSink for &mut S {
    fn event(&mut self, time: Instant, event: Event) {
        (**self).event(time, event);
    }
}

impl EventSink for Vec<Timed> {
    fn event(&mut self, time: Instant, event: Event) {
        self.push(Timed { time, event });
    }
}

/// An event and when it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    pub time: Instant,
    pub event: Event,
}
