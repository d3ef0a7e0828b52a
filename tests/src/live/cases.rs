//! The tests that move bytes, one line each.
//!
//! A new test is a line in [`CASES`]; if it needs other traffic, a mode in [`crate::generate`].

mod also;

use super::{Backend, check::Precision, difference::Difference, stream::Stream};
use crate::truth::{Blind, Feature, Truth};
use also::{
    acceptor_named, all_closed, datagrams, directions, further_remotes, idle, locals_known,
    mptcp_directions, nothing_else, on_loopback, packet_sockets, refused, reset,
};

const MB: u64 = 1_000_000;
const KB: u64 = 1_000;

/// A test: a mode of the generator, the place of its far end, and the amount of traffic.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    pub mode: &'static str,
    pub net: Net,
    /// The mode's `--bytes` and `--count`, before scaling.
    pub bytes: u64,
    pub count: u64,
    /// Whether its processes open their sockets before Flow starts.
    pub before: bool,
    /// Whether its veth pair is created after Flow started.
    pub late: bool,
    /// Whether segmentation offload and GRO are disabled at both ends.
    pub whole: bool,
    /// How its bytes are checked against the interface's.
    pub interface: Precision,
    /// What a kernel may lack, so that the case cannot run; the guests' kernels lack nothing.
    pub needs: Option<Feature>,
    /// Blind spots of some backends that its traffic is in.
    pub proves: &'static [Blind],
    /// A further check.
    pub also: Also,
}

/// Checks what the stream reports of a case's processes.
pub type Also = fn(&Stream, &[Truth], Backend) -> Vec<Difference>;

/// The place of the far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// In another network namespace.
    Peer4,
    Peer6,
    /// The same, by an IPv6 socket to the v4-mapped address.
    PeerMapped,
    Loopback4,
    Loopback6,
    /// The mode has both ends itself.
    Alone,
}

/// Every test.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("tcp_up",               "tcp-up",             Net::Peer4).bytes(200 * MB).interface(Precision::Bounds).also(directions),
    case("tcp_down",             "tcp-down",           Net::Peer4).bytes(200 * MB).also(directions),
    case("tcp_both",             "tcp-both",           Net::Peer4).bytes(100 * MB).interface(Precision::Bounds),
    case("tcp6_up",              "tcp-up",             Net::Peer6).bytes(50 * MB).interface(Precision::Bounds),
    case("tcp6_both",            "tcp-both",           Net::Peer6).bytes(20 * MB),
    case("tcp_mapped",           "tcp-both",           Net::PeerMapped).bytes(10 * MB),
    case("tcp_loopback",         "tcp-both",           Net::Loopback4).bytes(100 * MB),
    case("tcp6_loopback",        "tcp-both",           Net::Loopback6).bytes(10 * MB),
    case("interface_appears",    "tcp-both",           Net::Peer4).bytes(5 * MB).late(),
    case("tcp_segments",         "tcp-both",           Net::Peer4).bytes(5 * MB).whole(),
    case("tcp6_segments",        "tcp-both",           Net::Peer6).bytes(2 * MB).whole(),
    case("udp_whole",            "udp-many",           Net::Peer4).count(500).whole(),
    case("tcp_vectored",         "tcp-vectored",       Net::Peer4).bytes(5 * MB),
    case("tcp_peek",             "tcp-peek",           Net::Peer4).bytes(5 * MB),
    case("tcp_nonblocking",      "tcp-nonblocking",    Net::Peer4).bytes(20 * MB),
    case("tcp_threads",          "tcp-threads",        Net::Peer4).bytes(200 * KB).count(50),
    case("tcp_reset",            "tcp-reset",          Net::Peer4).bytes(MB),
    case("tcp_reset_by_peer",    "tcp-reset-by-peer",  Net::Peer4).also(reset),
    case("tcp_refused",          "tcp-refused",        Net::Alone).also(refused),
    case("tcp_failed",           "tcp-failed",         Net::Alone).also(locals_known),
    case("tcp_again",            "tcp-again",          Net::Alone).also(all_closed),
    case("tcp_late_reader",      "tcp-late-reader",    Net::Alone).also(all_closed),
    case("udp_connected",        "udp-connected",      Net::Peer4).count(5000).interface(Precision::Exact).also(datagrams),
    case("udp_many_remotes",     "udp-many",           Net::Peer4).count(1000),
    case("udp_sizes",            "udp-sizes",          Net::Peer4),
    case("udp_mmsg",             "udp-mmsg",           Net::Peer4).count(200),
    case("udp6_connected",       "udp-connected",      Net::Peer6).count(1000).interface(Precision::Exact).also(datagrams),
    case("udp6_many_remotes",    "udp-many",           Net::Peer6).count(200),
    case("udp6_sizes",           "udp-sizes",          Net::Peer6),
    case("udp_mapped",           "udp-connected",      Net::PeerMapped).count(200),
    case("udp_mapped_many",      "udp-many",           Net::PeerMapped).count(200),
    case("udp_loopback",         "udp-many",           Net::Loopback4).count(500),
    case("sendfile",             "sendfile",           Net::Peer4).bytes(50 * MB),
    case("splice_to_socket",     "splice-out",         Net::Peer4).bytes(20 * MB),
    case("splice_from_socket",   "splice-in",          Net::Peer4).bytes(20 * MB),
    case("splice_mixed",         "splice-mixed",       Net::Alone).count(100),
    case("splice_bulk",          "splice-bulk",        Net::Peer4).bytes(20 * MB),
    case("splice_shared",        "splice-shared",      Net::Alone).count(20),
    case("splice_before",        "splice-before",      Net::Alone).bytes(30 * KB).before(),
    case("splice_urgent",        "splice-urgent",      Net::Alone).count(20),
    case("failing_calls",        "failing",            Net::Peer4).bytes(MB),
    case("opened_before",        "opened-before",      Net::Alone).bytes(10 * MB).count(100).before(),
    case("opened_before_peer",   "opened-before-peer", Net::Peer4).bytes(10 * MB).count(100).before(),
    case("kinds_before",         "kinds-before",       Net::Alone).bytes(MB).count(100).before(),
    case("idle_before",          "idle-before",        Net::Alone).before().also(idle).proves(&[Blind::PingSockets, Blind::OldMptcp, Blind::BoundOnly]),
    case("left_namespace",       "left-namespace",     Net::Alone).bytes(MB).count(100).before().also(on_loopback),
    // Longer than two sweeps.
    case("drip",                 "drip",               Net::Peer4).count(25),
    case("same_pid",             "same-pid",           Net::Peer4).bytes(50 * KB),
    case("udp_200_peers",        "udp-peers",          Net::Alone).count(20),
    case("udp_unasked",          "udp-unasked",        Net::Alone).count(20),
    case("udp_peek",             "udp-peek",           Net::Peer4).count(200),
    case("zerocopy_receive",     "zerocopy-receive",   Net::Alone).count(100),
    case("many_waiting",         "many-waiting",       Net::Alone).proves(&[Blind::ReturnProbesExhausted]),
    case("ktls",                 "ktls",               Net::Alone).bytes(MB).needs(Feature::Ktls).proves(&[Blind::SpliceFromTls]),
    case("kernel_reader",        "kernel-reader",      Net::Alone).count(100).proves(&[Blind::KernelReaders]),
    case("waiting_reader",       "waiting-reader",     Net::Alone).bytes(MB).before().proves(&[Blind::CallsUnderWay]),
    case("short_processes",      "short-processes",    Net::Peer4).bytes(20 * KB).count(500),
    case("forked_listener",      "forked-listener",    Net::Alone).bytes(100 * KB).count(100),
    case("forked_sender",        "forked-sender",      Net::Peer4).bytes(5 * MB),
    case("hostile_names",        "hostile",            Net::Peer4).bytes(20 * KB),
    case("exec_with_socket",     "exec",               Net::Peer4).bytes(5 * MB),
    case("mptcp",                "mptcp",              Net::Alone).bytes(5 * MB).also(mptcp_directions).proves(&[Blind::MptcpDirection]),
    case("mptcp_two",            "mptcp-two",          Net::Alone).also(all_closed),
    case("mptcp_late_reader",    "mptcp-late-reader",  Net::Alone).also(all_closed),
    case("udp_failed_send",      "udp-failed-send",    Net::Alone),
    case("udp_disconnected",     "udp-disconnect",     Net::Peer4).proves(&[Blind::UnaskedSenders]),
    case("udp6_disconnected",    "udp-disconnect",     Net::Peer6),
    case("accepted_idle",        "accepted-idle",      Net::Alone).also(acceptor_named).proves(&[Blind::Acceptors]),
    case("never_accepted",       "never-accepted",     Net::Alone).count(1000).also(all_closed),
    case("sendfile_mptcp",       "sendfile-mptcp",     Net::Alone).bytes(5 * MB).also(all_closed),
    case("sendfile_udp",         "sendfile-udp",       Net::Peer4),
    case("sendfile_udp6",        "sendfile-udp",       Net::Peer6),
    case("io_uring",             "io-uring",           Net::Peer4).bytes(10 * MB),
    case("socket_handed_over",   "handed-over",        Net::Peer4).bytes(5 * MB),
    case("socket_inherited",     "inherited",          Net::Alone).also(all_closed),
    case("socket_asked_for",     "asked-for",          Net::Alone).also(all_closed),
    case("reuseport_workers",    "reuseport",          Net::Alone).bytes(100 * KB).count(200),
    case("udp_workers",          "udp-workers",        Net::Alone).count(2000),
    case("icmp_raw",             "icmp-raw",           Net::Peer4).count(200),
    case("icmp6_raw",            "icmp6-raw",          Net::Peer6).count(200),
    case("icmp_ping",            "icmp-ping",          Net::Alone).count(200),
    case("ip_protocol",          "ip-protocol",        Net::Alone).count(200),
    case("portless_peers",       "portless-peers",     Net::Alone).count(20),
    case("mixed_senders",        "mixed-senders",      Net::Alone).count(20).proves(&[Blind::MixedSenders]),
    case("udp_unspecified",      "unspecified",        Net::Alone).count(20),
    case("addressless",          "addressless",        Net::Alone).count(20),
    case("link_local_zones",     "zones",              Net::Alone).count(20),
    case("packet_socket",        "packets",            Net::Peer4).count(200).also(packet_sockets),
    case("sctp",                 "sctp",               Net::Alone).bytes(MB).needs(Feature::Sctp),
    case("tcp_zerocopy",         "tcp-zerocopy",       Net::Peer4).bytes(20 * MB),
    case("tcp_cork",             "tcp-cork",           Net::Peer4).bytes(5 * MB),
    case("tcp_urgent",           "tcp-urgent",         Net::Alone),
    case("tcp_partial",          "tcp-partial",        Net::Alone).bytes(2 * MB),
    case("tcp_truncated",        "tcp-truncated",      Net::Alone).bytes(5 * MB),
    case("tcp_fast_open",        "tcp-fast-open",      Net::Alone),
    case("udp_segments",         "udp-segments",       Net::Peer4).count(200),
    case("udp6_segments",        "udp-segments",       Net::Peer6).count(200),
    case("udp_segments_loopback", "udp-segments",      Net::Loopback4).count(200),
    case("udp_truncated",        "udp-truncated",      Net::Peer4),
    case("udp_corked",           "udp-corked",         Net::Peer4),
    case("udp_error_queue",      "udp-error-queue",    Net::Alone),
    case("udp_3000_remotes",     "udp-remotes",        Net::Alone).also(further_remotes),
    case("processes_2000",       "short-processes",    Net::Peer4).bytes(2 * KB).count(2000),
    case("connections_20000",    "tcp-connections",    Net::Peer4).count(20_000),
    case("bulk_streams_64",      "tcp-threads",        Net::Peer4).bytes(10 * MB).count(64).interface(Precision::Bounds),
    case("two_namespaces",       "two-namespaces",     Net::Alone).bytes(MB),
    case("thread_exits",         "thread-exits",       Net::Peer4),
    case("first_thread_exits",   "first-thread-exits", Net::Peer4),
];

const fn case(name: &'static str, mode: &'static str, net: Net) -> Case {
    Case {
        name,
        mode,
        net,
        bytes: 100 * KB,
        count: 10,
        before: false,
        late: false,
        whole: false,
        interface: Precision::Unchecked,
        needs: None,
        proves: &[],
        also: nothing_else,
    }
}

impl Case {
    const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    const fn count(mut self, count: u64) -> Self {
        self.count = count;
        self
    }

    const fn before(mut self) -> Self {
        self.before = true;
        self
    }

    const fn late(mut self) -> Self {
        self.late = true;
        self
    }

    const fn whole(mut self) -> Self {
        self.whole = true;
        self
    }

    const fn interface(mut self, precision: Precision) -> Self {
        self.interface = precision;
        self
    }

    const fn needs(mut self, feature: Feature) -> Self {
        self.needs = Some(feature);
        self
    }

    const fn proves(mut self, blind: &'static [Blind]) -> Self {
        self.proves = blind;
        self
    }

    const fn also(mut self, check: Also) -> Self {
        self.also = check;
        self
    }
}

#[cfg(test)]
mod tests {
    use flow_user::source::kernel::backends::Backend;

    use super::*;

    #[test]
    fn whatever_is_said_not_to_be_seen_is_proved_by_a_case() {
        for backend in [
            Backend::Fexit,
            Backend::Kprobe,
            Backend::Tracepoint,
            Backend::SockDiag,
        ] {
            for blind in backend.blind_spots() {
                let proved = CASES.iter().any(|case| case.proves.contains(blind));
                assert!(
                    proved,
                    "{backend:?}: no case proves that it does not see {blind}"
                );
            }
        }
    }
}
