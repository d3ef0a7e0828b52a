//! What each backend cannot see. The one table of it: `flow doctor`, the header of each view and
//! the tests that compare byte for byte all ask here.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::probe::Backend;

/// Something that a backend does not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blind {
    /// splice(2) and tee from a socket: no receive call returns those bytes.
    SpliceFromSocket,
    /// The same from a kTLS socket, whose own function does it, in a module.
    SpliceFromTls,
    /// `TCP_ZEROCOPY_RECEIVE`: pages mapped instead of bytes received.
    ZerocopyReceive,
    /// Sockets that the kernel itself reads: NFS, sockmap, strparser.
    KernelReaders,
    /// More calls wait at once than the kernel keeps return probes for.
    ReturnProbesExhausted,
    /// Calls that were in their function when the probe came: what they return is not counted.
    CallsUnderWay,
    /// Who accepted a connection, as long as nobody uses it.
    Acceptors,
    /// That an MPTCP connection was accepted: the kernel's hooks tell of its first path only.
    MptcpDirection,
    /// recvfrom(2) and its kin without an address: no hook tells whom the datagram came from.
    UnaskedSenders,
    /// Whom a datagram came from that a raw or ping socket received, where datagrams of several senders
    /// waited there: the tracepoint does not see the message.
    MixedSenders,
    /// Whom unconnected sockets talk to, for backends whose hooks do not bring the message: without the root of the cgroup v2 tree.
    UnconnectedPeers,
    /// Packets that the kernel sends without a full socket; they stand in the interface's ledger.
    SocketlessPackets,
    /// Packets that a program of a cgroup lets not pass, and that runs after Flow's: of the root, attached later.
    RefusedLater,
    /// Frames dropped or redirected before the classifier: by the driver or by XDP.
    BeforeClassifier,
    /// What the frames were: there are only totals.
    FrameOwners,
    /// Sockets other than TCP's, and who opened one.
    OtherThanTcp,
    /// The local port of a connection that is being opened.
    PortsOfConnecting,
    /// ICMP echo ("ping") sockets.
    PingSockets,
    /// MPTCP connections that nobody used since.
    OldMptcp,
    /// TCP sockets that are bound but neither listen nor connect.
    BoundOnly,
}

impl Blind {
    /// In words, as they follow "cannot see".
    pub const fn words(self) -> &'static str {
        match self {
            Self::SpliceFromSocket => "bytes read with splice() from a socket",
            Self::SpliceFromTls => "bytes read with splice() from a kTLS socket",
            Self::ZerocopyReceive => "bytes received with TCP_ZEROCOPY_RECEIVE",
            Self::KernelReaders => "bytes that the kernel itself reads",
            Self::ReturnProbesExhausted => {
                "calls that return while more calls wait than the kernel keeps return probes for"
            }
            Self::CallsUnderWay => "calls that were waiting when Flow started",
            Self::Acceptors => "who accepted a connection that is not used yet",
            Self::MptcpDirection => "who opened an MPTCP connection that was accepted",
            Self::UnaskedSenders => "senders of datagrams received without asking for them",
            Self::MixedSenders => {
                "senders of what raw and ping sockets receive while datagrams of several wait"
            }
            Self::UnconnectedPeers => {
                "whom unconnected sockets talk to (needs the root of the cgroup v2 tree)"
            }
            Self::SocketlessPackets => {
                "packets the kernel sends without a socket (the ledger has them)"
            }
            Self::RefusedLater => {
                "that a program attached to the root later than Flow refused a packet"
            }
            Self::BeforeClassifier => "frames dropped before the classifier (by the driver or XDP)",
            Self::FrameOwners => "whose the frames are",
            Self::OtherThanTcp => {
                "sockets other than TCP's, and who opened them, connections that wait at newer listeners"
            }
            Self::PortsOfConnecting => "local ports of connections that are being opened",
            Self::PingSockets => "ping sockets",
            Self::OldMptcp => "MPTCP connections until they are used",
            Self::BoundOnly => "TCP sockets that are only bound",
        }
    }
}

impl fmt::Display for Blind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// What the backend cannot see; empty when it sees everything.
pub const fn blind_spots(backend: Backend) -> &'static [Blind] {
    match backend {
        Backend::Fexit => &[
            Blind::CallsUnderWay,
            Blind::SpliceFromTls,
            Blind::ZerocopyReceive,
            Blind::KernelReaders,
            Blind::UnaskedSenders,
            Blind::MptcpDirection,
        ],
        Backend::Kprobe => &[
            Blind::CallsUnderWay,
            Blind::ReturnProbesExhausted,
            Blind::SpliceFromTls,
            Blind::ZerocopyReceive,
            Blind::KernelReaders,
            Blind::UnaskedSenders,
            Blind::MptcpDirection,
        ],
        Backend::Tracepoint => &[
            Blind::SpliceFromSocket,
            Blind::ZerocopyReceive,
            Blind::KernelReaders,
            Blind::UnaskedSenders,
            Blind::MixedSenders,
            Blind::MptcpDirection,
            Blind::Acceptors,
        ],
        Backend::CgroupSkb => &[Blind::SocketlessPackets, Blind::RefusedLater],
        Backend::Tcx | Backend::Clsact => &[Blind::BeforeClassifier],
        Backend::Rtnetlink => &[Blind::FrameOwners],
        Backend::StateTracepoint => &[Blind::OtherThanTcp, Blind::PortsOfConnecting],
        Backend::SockDiag => &[Blind::PingSockets, Blind::OldMptcp, Blind::BoundOnly],
        Backend::CgroupSockets | Backend::ProcessTracepoints => &[],
    }
}

/// Whether a backend sees something.
pub fn sees(backend: Backend, blind: Blind) -> bool {
    let spots = blind_spots(backend);
    let whole = match blind {
        Blind::SpliceFromTls => Blind::SpliceFromSocket,
        other => other,
    };
    !spots.contains(&blind) && !spots.contains(&whole)
}

/// All a backend does not see, in one phrase.
pub fn words(backend: Backend) -> String {
    let spots: Vec<_> = blind_spots(backend)
        .iter()
        .map(|spot| spot.words())
        .collect();
    spots.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_the_same() {
        let page = include_str!("../../../../docs/limits.md");
        let backends = [
            Backend::Fexit,
            Backend::Kprobe,
            Backend::Tracepoint,
            Backend::StateTracepoint,
            Backend::CgroupSkb,
            Backend::Tcx,
            Backend::Clsact,
            Backend::Rtnetlink,
            Backend::SockDiag,
        ];
        for backend in backends {
            let cell = format!("| {} |\n", words(backend));
            assert!(page.contains(&cell), "{backend:?}: {cell}");
        }
    }
}
