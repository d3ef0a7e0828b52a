//! The tests that move bytes, one line each.
//!
//! A new one is a line in [`CASES`]; if it needs other traffic, a mode in [`crate::generate`].

use super::{
    check::{Difference, Precision, difference},
    stream::{Flow, Stream, Wire},
};
use crate::truth::Truth;

const MB: u64 = 1_000_000;
const KB: u64 = 1_000;
/// Bytes of the headers of a datagram.
const IPV4_UDP_HEADERS: u64 = 28;
const IPV6_UDP_HEADERS: u64 = 48;

/// A test: a mode of the generator, where its far end is, and how much it moves.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    pub mode: &'static str,
    pub net: Net,
    /// For the mode's `--bytes` and `--count`, to be scaled.
    pub bytes: u64,
    pub count: u64,
    /// Its processes open their sockets before Flow starts.
    pub before: bool,
    /// Its veth pair is made after Flow started.
    pub late: bool,
    /// Whether its bytes are checked against the interface's as well.
    pub interface: Precision,
    /// Whatever else must be true.
    pub also: fn(&Stream, &[Truth]) -> Vec<Difference>,
}

/// Where the far end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// In another network namespace.
    Peer4,
    Peer6,
    /// The same, by an IPv6 socket to the v4-mapped address.
    PeerMapped,
    Loopback4,
    Loopback6,
    /// The mode has both ends.
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
    case("tcp_vectored",         "tcp-vectored",       Net::Peer4).bytes(5 * MB),
    case("tcp_peek",             "tcp-peek",           Net::Peer4).bytes(5 * MB),
    case("tcp_nonblocking",      "tcp-nonblocking",    Net::Peer4).bytes(20 * MB),
    case("tcp_threads",          "tcp-threads",        Net::Peer4).bytes(200 * KB).count(50),
    case("tcp_reset",            "tcp-reset",          Net::Peer4).bytes(MB),
    case("tcp_reset_by_peer",    "tcp-reset-by-peer",  Net::Peer4).also(reset),
    case("tcp_refused",          "tcp-refused",        Net::Alone).also(refused),
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
    case("failing_calls",        "failing",            Net::Peer4).bytes(MB),
    case("opened_before",        "opened-before",      Net::Alone).bytes(10 * MB).count(100).before(),
    case("opened_before_peer",   "opened-before-peer", Net::Peer4).bytes(10 * MB).count(100).before(),
    case("waiting_reader",       "waiting-reader",     Net::Alone).bytes(MB).before(),
    case("short_processes",      "short-processes",    Net::Peer4).bytes(20 * KB).count(500),
    case("forked_listener",      "forked-listener",    Net::Alone).bytes(100 * KB).count(100),
    case("forked_sender",        "forked-sender",      Net::Peer4).bytes(5 * MB),
    case("hostile_names",        "hostile",            Net::Peer4).bytes(20 * KB),
    case("exec_with_socket",     "exec",               Net::Peer4).bytes(5 * MB),
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
        interface: Precision::Unchecked,
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

    const fn interface(mut self, precision: Precision) -> Self {
        self.interface = precision;
        self
    }

    const fn also(mut self, check: fn(&Stream, &[Truth]) -> Vec<Difference>) -> Self {
        self.also = check;
        self
    }
}

fn nothing_else(_: &Stream, _: &[Truth]) -> Vec<Difference> {
    Vec::new()
}

/// The near end opened the connection, the far end (`serve`) did not.
fn directions(stream: &Stream, truths: &[Truth]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for truth in truths {
        let expected = if truth.mode == "serve" {
            "inbound"
        } else {
            "outbound"
        };
        for flow in flows(stream, truth.pid) {
            if flow.app.tx_bytes + flow.app.rx_bytes == 0 {
                continue;
            }
            let seen = flow.direction.as_deref().unwrap_or("none");
            if seen != expected {
                differences.push(difference(&truth.mode, "direction", expected, seen));
            }
        }
    }
    differences
}

/// Datagrams that fit a packet each: the near end's wire bytes follow from its calls.
fn datagrams(stream: &Stream, truths: &[Truth]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for truth in truths.iter().filter(|truth| truth.mode != "serve") {
        let headers = if truth.argv.iter().any(|argument| argument.contains('[')) {
            IPV6_UDP_HEADERS
        } else {
            IPV4_UDP_HEADERS
        };
        let expected = Wire {
            tx_bytes: truth.moved.tx_bytes + headers * truth.moved.tx_calls,
            rx_bytes: truth.moved.rx_bytes + headers * truth.moved.rx_calls,
            tx_packets: truth.moved.tx_calls,
            rx_packets: truth.moved.rx_calls,
        };
        for flow in flows(stream, truth.pid) {
            if flow.wire != expected {
                let (expected, seen) = (format!("{expected:?}"), format!("{:?}", flow.wire));
                differences.push(difference(&truth.mode, "wire", expected, seen));
            }
        }
    }
    differences
}

fn reset(stream: &Stream, truths: &[Truth]) -> Vec<Difference> {
    let near = truths.iter().find(|truth| truth.mode != "serve");
    closed_for("reset", 1, stream, near)
}

fn refused(stream: &Stream, truths: &[Truth]) -> Vec<Difference> {
    closed_for("refused", 1, stream, truths.first())
}

/// At least so many flows of the process were closed for this reason.
fn closed_for(
    reason: &str,
    least: usize,
    stream: &Stream,
    truth: Option<&Truth>,
) -> Vec<Difference> {
    let flows = truth
        .map(|truth| flows(stream, truth.pid))
        .unwrap_or_default();
    let reasons: Vec<_> = flows
        .iter()
        .filter_map(|flow| flow.reason.as_deref())
        .collect();
    if reasons.iter().filter(|seen| **seen == reason).count() >= least {
        return Vec::new();
    }
    vec![difference(
        "flow.close",
        "reason",
        reason,
        reasons.join(", "),
    )]
}

fn flows(stream: &Stream, pid: u32) -> Vec<&Flow> {
    let of_process =
        |process: &Option<(u32, String)>| process.as_ref().is_some_and(|(id, _)| *id == pid);
    stream
        .flows
        .iter()
        .filter(|((_, process), _)| of_process(process))
        .map(|(_, flow)| flow)
        .collect()
}
