//! What backends cannot see, in words. Which of it each cannot see stands in its row of
//! [`super::backends`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that a backend does not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlindSpot {
    /// splice(2) from a kTLS socket: the bytes that leave its queue are the encrypted ones.
    SpliceFromTls,
    /// What programs of a sockmap take from a socket, for nobody.
    KernelReaders,
    /// More calls wait at once than the kernel keeps return probes for.
    ReturnProbesExhausted,
    /// Calls that were in their function when the probe came: what they return is not counted.
    CallsUnderWay,
    /// Who accepted a connection, as long as nobody uses it.
    Acceptors,
    /// That an MPTCP connection was accepted: the kernel's hooks report its first path only.
    MptcpDirection,
    /// recvfrom(2) and its kin without an address: whom the datagram came from is known of its
    /// packet, unless datagrams of several senders wait.
    UnaskedSenders,
    /// Whom a datagram came from that a raw or ping socket received, where datagrams of several
    /// senders waited there: the tracepoint does not see the message.
    MixedSenders,
    /// Whom unconnected sockets talk to, for backends whose hooks do not bring the message: without
    /// the root of the cgroup v2 tree.
    UnconnectedPeers,
    /// Packets that the kernel sends without a full socket; they stand in the interface's ledger.
    SocketlessPackets,
    /// Packets that a program of a cgroup refuses, and that runs after Flow's: of the root,
    /// attached later.
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

impl BlindSpot {
    /// In words, as they follow "cannot see".
    pub const fn words(self) -> &'static str {
        match self {
            Self::SpliceFromTls => "bytes read with splice() from a kTLS socket",
            Self::KernelReaders => "bytes that programs in the kernel take from a socket (sockmap)",
            Self::ReturnProbesExhausted => {
                "calls that return while more calls wait than the kernel keeps return probes for"
            }
            Self::CallsUnderWay => "calls that were waiting when Flow started",
            Self::Acceptors => "who accepted a connection that is not used yet",
            Self::MptcpDirection => "who opened an MPTCP connection that was accepted",
            Self::UnaskedSenders => {
                "senders of datagrams read with recv() while those of several senders wait"
            }
            Self::MixedSenders => {
                "senders of what raw and ping sockets receive while packets of several senders wait"
            }
            Self::UnconnectedPeers => {
                "the remotes of unconnected sockets (needs the root of the cgroup v2 tree)"
            }
            Self::SocketlessPackets => {
                "packets the kernel sends without a socket (the ledger has them)"
            }
            Self::RefusedLater => "refusals by programs attached to the cgroup root after Flow",
            Self::BeforeClassifier => "frames dropped before the classifier (by the driver or XDP)",
            Self::FrameOwners => "which sockets the frames belong to",
            Self::OtherThanTcp => {
                "sockets other than TCP's, and who opened them; connections in accept queues of listeners opened after Flow started"
            }
            Self::PortsOfConnecting => "local ports of connections that are being opened",
            Self::PingSockets => "ping sockets",
            Self::OldMptcp => "MPTCP connections until they are used",
            Self::BoundOnly => "TCP sockets that are only bound",
        }
    }
}

impl fmt::Display for BlindSpot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}
