//! Traffic of a known amount: each mode is one function that moves bytes and counts what its calls
//! returned.
//!
//! To add a mode, write a function `fn(&Options, &Tally) -> Result<()>` and add it to [`MODES`].
//! A mode that starts further processes lets each of them print its own line.

mod accepts;
mod before;
mod crowds;
mod files;
mod flags;
mod groups;
mod mptcp;
mod odd;
mod pattern;
mod peers;
mod processes;
mod raw;
mod renames;
mod reuse;
mod serve;
mod sharing;
mod splices;
mod tcp;
mod udp;
mod unasked;
mod unseen;
mod uring;

pub use renames::{FIRST, SECOND};
pub use sharing::REMOTES_OF_HEIR;
pub use udp::{DROPPED_ON_ARRIVAL, ECHOED, TOO_LARGE};

use std::{ffi::OsString, io, net::SocketAddr};

use anyhow::{Context as _, Result, bail};

use crate::truth::{Line, Tally};

/// Command line of `flow-live generate`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Mode of traffic; an unknown one lists all
    pub mode: String,
    /// Address of the far end (`serve`)
    #[arg(long)]
    pub peer: Option<SocketAddr>,
    /// `serve`: address to listen at; port 0 means any
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Bytes to move in each direction of the mode, by each process
    #[arg(long, default_value_t = 100_000)]
    pub bytes: u64,
    /// Number of processes, threads or datagrams, depending on the mode
    #[arg(long, default_value_t = 10)]
    pub count: u64,
    /// `exec-rest`: the descriptor of its socket
    #[arg(long)]
    pub socket: Option<i32>,
    /// Ignored; visible in the command line
    #[arg(last = true)]
    pub ignored: Vec<OsString>,
}

impl Options {
    /// The far end; an error if none was given.
    pub fn peer(&self) -> Result<SocketAddr> {
        self.peer
            .with_context(|| format!("the mode {} needs --peer", self.mode))
    }
}

/// A mode of traffic.
#[derive(Debug)]
pub struct Mode {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&Options, &Tally) -> Result<()>,
}

const fn mode(
    name: &'static str,
    run: fn(&Options, &Tally) -> Result<()>,
    about: &'static str,
) -> Mode {
    Mode { name, about, run }
}

/// All modes.
#[rustfmt::skip]
pub const MODES: &[Mode] = &[
    mode("serve",            serve::serve,                "far end: TCP sink and source, UDP echo; until standard input ends"),
    mode("tcp-up",           tcp::up,                     "one connection, bytes to the far end"),
    mode("tcp-down",         tcp::down,                   "one connection, bytes from the far end"),
    mode("tcp-both",         tcp::both,                   "one connection, bytes both ways at once"),
    mode("tcp6-options",     tcp::options6,               "tcp-up with options of IPv6 in front of every segment"),
    mode("tcp-vectored",     tcp::vectored,               "writev(2) and readv(2)"),
    mode("tcp-peek",         tcp::peek,                   "each chunk is looked at with MSG_PEEK before it is read"),
    mode("tcp-nonblocking",  tcp::nonblocking,            "non-blocking sends that move a part or fail with EAGAIN"),
    mode("tcp-threads",      tcp::threads,                "COUNT threads with a connection each"),
    mode("tcp-reset",        tcp::reset,                  "the connection ends with a RST from here"),
    mode("tcp-reset-by-peer", tcp::reset_by_peer,         "the connection ends with a RST from the far end"),
    mode("tcp-late-reader",  tcp::late_reader,            "a connection whose bytes are read after its end"),
    mode("tcp-refused",      tcp::refused,                "nobody listens"),
    mode("tcp-failed",       tcp::failed,                 "connections that are refused or get no answer"),
    mode("tcp-again",        tcp::again,                  "a socket that is refused and then connects"),
    mode("udp-connected",    udp::connected,              "COUNT datagrams of a connected socket, echoed"),
    mode("udp-many",         udp::many,                   "COUNT datagrams to each of several remotes from one socket, echoed"),
    mode("udp-sizes",        udp::sizes,                  "datagrams from none to 65507 bytes, echoed"),
    mode("udp-mmsg",         udp::mmsg,                   "sendmmsg(2) and recvmmsg(2)"),
    mode("udp-chatter",      udp::chatter,                "small datagrams, echoed, until standard input ends"),
    mode("udp-failed-send",  udp::failed_send,            "a send that fails, then a receive without an address"),
    mode("udp-disconnect",   udp::disconnected,           "a socket that was connected and is no longer"),
    mode("udp-error-queue",  udp::error_queue,            "datagrams that come back as errors"),
    mode("udp-truncated",    udp::truncated,              "datagrams longer than the buffer, with and without MSG_TRUNC"),
    mode("udp-corked",       udp::corked,                 "datagrams of several sends (MSG_MORE), echoed"),
    mode("udp-segments",     udp::segments,               "one call for many datagrams (UDP_SEGMENT, UDP_GRO), echoed"),
    mode("udp-buffers",      udp::buffers,                "COUNT calls for many datagrams each (UDP_SEGMENT), which nobody answers"),
    mode("udp-remotes",      udp::many_remotes,           "one socket and more remotes than Flow counts one by one"),
    mode("udp-peers",        udp::peers,                  "one socket and 200 remotes, each of which answers"),
    mode("udp-unasked",      unasked::recv_only,          "COUNT rounds of datagrams of several senders, received without an address"),
    mode("udp-peek",         udp::peek,                   "each datagram is looked at with MSG_PEEK before it is read"),
    mode("drip",             odd::drip,                   "a few bytes a second, COUNT times"),
    mode("tcp-zerocopy",     flags::zerocopy,             "sends with MSG_ZEROCOPY"),
    mode("tcp-cork",         flags::cork,                 "small sends under TCP_CORK"),
    mode("tcp-urgent",       flags::urgent,               "bytes out of band (MSG_OOB)"),
    mode("tcp-partial",      flags::partial,              "blocking sends that move a part before they time out"),
    mode("tcp-truncated",    flags::truncated,            "bytes received to be thrown away (MSG_TRUNC)"),
    mode("tcp-fast-open",    flags::fast_open,            "bytes that go with the SYN, in a network namespace of its own"),
    mode("tcp-kept",         crowds::kept,                "COUNT connections that all send, until standard input ends"),
    mode("tcp-connections",  flags::many_connections,     "COUNT connections of a few bytes, one after the other"),
    mode("io-uring",         uring::tcp,                  "operations of io_uring, some by a worker of the kernel's"),
    mode("mptcp",            mptcp::both,                 "MPTCP, both ways"),
    mode("mptcp-two",        mptcp::two_connections,      "two connections of one MPTCP listener, one of which ends early"),
    mode("mptcp-late-reader", mptcp::late_reader,         "an MPTCP connection whose bytes are read after its end"),
    mode("icmp-raw",         raw::icmp_raw,               "COUNT echo requests through a raw socket"),
    mode("icmp6-raw",        raw::icmp6_raw,              "the same over IPv6"),
    mode("icmp-ping",        raw::icmp_ping,              "COUNT echo requests through a ping socket, in a network namespace of its own"),
    mode("ip-protocol",      raw::ip_protocol,            "raw IP of protocol 253"),
    mode("bulk-and-small",   pattern::bulk_and_small,     "TCP both ways, then COUNT small datagrams to each of several remotes, echoed"),
    mode("bulk-and-bursts",  pattern::bulk_and_bursts,    "TCP both ways, then COUNT calls for several datagrams each, echoed"),
    mode("away",             pattern::away,               "COUNT small datagrams and COUNT calls for several each; nobody answers"),
    mode("portless-peers",   peers::portless,             "echoes through raw and ping sockets, connected and not"),
    mode("mixed-senders",    peers::mixed,                "a raw socket at which datagrams of two senders wait"),
    mode("unspecified",      peers::unspecified,          "UDP to 0.0.0.0 and ::, answered"),
    mode("addressless",      peers::addressless,          "datagrams from 0.0.0.0"),
    mode("zones",            peers::zones,                "peers with the same link-local address on two interfaces"),
    mode("packets",          raw::packets,                "COUNT frames through a packet socket"),
    mode("sctp",             raw::sctp,                   "SCTP, both ways"),
    mode("accepted-idle",    accepts::idle,               "a connection that is accepted and not used"),
    mode("never-accepted",   accepts::never,              "COUNT connections that nobody accepts before the listener closes"),
    mode("reuseport",        accepts::reuseport,          "workers that each listen at the same address"),
    mode("udp-workers",      accepts::udp_workers,        "workers that share a UDP socket"),
    mode("handed-over",      sharing::handed_over,        "a socket that another process gets and goes on using"),
    mode("inherited",        sharing::inherited,          "a process that ends, and another that goes on with its connection"),
    mode("udp-heirs",        sharing::udp_heirs,          "COUNT processes, one after the other, that use one UDP socket, and one more with many remotes"),
    mode("asked-for",        sharing::asked_for,          "connections whose cookies somebody asks for"),
    mode("two-namespaces",   sharing::two_namespaces,     "connections with the same addresses and ports in two network namespaces"),
    mode("thread-exits",     sharing::thread_exits,       "COUNT threads that end before their process"),
    mode("first-thread-exits", sharing::first_thread_exits, "a first thread that ends before the others"),
    mode("sendfile-mptcp",   files::sendfile_mptcp,       "a file into an MPTCP socket"),
    mode("sendfile-udp",     files::sendfile_udp,         "files into a UDP socket, echoed"),
    mode("sendfile",         files::sendfile,             "a file into a socket"),
    mode("splice-out",       files::splice_out,           "a pipe into a socket"),
    mode("splice-in",        files::splice_in,            "a socket into a pipe"),
    mode("splice-mixed",     splices::mixed,              "receive calls, splices and others in turn"),
    mode("splice-bulk",      splices::bulk,               "the same in bulk, from the far end"),
    mode("splice-shared",    splices::shared,             "the same by several processes of one connection"),
    mode("splice-before",    splices::before,             "splices of what came before Flow started"),
    mode("splice-urgent",    splices::urgent,             "splices between urgent bytes"),
    mode("zerocopy-receive", unseen::zerocopy_receive,    "receives with TCP_ZEROCOPY_RECEIVE"),
    mode("many-waiting",     unseen::many_waiting,        "64 threads that wait in a receive at once"),
    mode("ktls",             unseen::ktls,                "kTLS both ways, and splice from it"),
    mode("kernel-reader",    unseen::kernel_reader,       "a socket that the kernel itself reads (sockmap)"),
    mode("same-pid",         reuse::same_pid,             "processes that have the same id one after the other"),
    mode("kinds-before",     before::every_kind,          "sockets of every kind that were opened before Flow started, in three network namespaces"),
    mode("left-namespace",   before::left_namespace,      "sockets from before Flow started whose process has left their network namespace since"),
    mode("idle-before",      before::idle,                "the same, and nobody uses them"),
    mode("udp-dropped",      udp::dropped,                "datagrams of three sizes, of which one is echoed"),
    mode("group-take",       groups::take,                "multicast, broadcast and ICMP, each packet taken by several sockets"),
    mode("group-send",       groups::send,                "COUNT datagrams to a multicast group and COUNT to everyone on the network"),
    mode("knock",            odd::knock,                  "COUNT packets of each kind that the far end's kernel answers by itself"),
    mode("failing",          odd::failing,                "calls that fail in every way, and a few that do not"),
    mode("opened-before",    odd::opened_before,          "sockets that talked before Flow started: TCP and UDP on loopback"),
    mode("opened-before-peer", odd::opened_before_peer,   "sockets that were opened before Flow started: TCP and UDP to the far end"),
    mode("waiting-reader",   odd::waiting_reader,         "a receive call that waits since before Flow started"),
    mode("short-processes",  processes::short,            "COUNT processes of a few milliseconds, each with its own name, arguments and connection"),
    mode("forked-listener",  processes::forked_listener,  "workers that accept from one listening socket"),
    mode("forked-sender",    processes::forked_sender,    "processes that send through one connection"),
    mode("hostile",          processes::hostile,          "a program with a hostile file name and hostile arguments"),
    mode("exec",             processes::exec,             "a process that becomes another program with a socket open"),
    mode("renamed",          renames::renamed,            "a forked worker that names itself, and again while it does nothing"),
    mode("other-time",       renames::other_time,         "a process in a time namespace, and its child"),
    mode("crowd",            crowds::crowd,               "COUNT processes with a UDP socket each, all there at once"),
    mode("addressing-crowd", crowds::addressing_crowd,    "the same, and each datagram names its destination"),
    mode("storm",            crowds::storm,               "short connections on loopback, as many as go, until standard input ends"),
    mode("churn",            crowds::churn,               "processes that come and go, and connections, until standard input ends"),
    mode("stubborn",         crowds::stubborn,            "datagrams until standard input ends, whatever fails"),
    mode("exec-rest",        processes::exec_rest,        "what `exec` becomes"),
];

/// Runs the mode of the command line and prints what this process moved.
pub fn run(options: &Options) -> Result<()> {
    let Some(mode) = MODES.iter().find(|mode| mode.name == options.mode) else {
        let list: Vec<_> = MODES
            .iter()
            .map(|mode| format!("  {:20} {}", mode.name, mode.about))
            .collect();
        bail!(
            "no mode {:?}; there are:\n{}",
            options.mode,
            list.join("\n")
        );
    };
    let tally = Tally::default();
    (mode.run)(options, &tally).with_context(|| format!("mode {}", mode.name))?;
    tally.print(mode.name)
}

/// Reports to the test that everything which must exist before Flow has been created, and waits for
/// the request to continue.
fn wait_for_go() -> Result<()> {
    Line::Ready.print()?;
    let mut line = String::new();
    let bytes = io::stdin().read_line(&mut line).context("waiting for go")?;
    if bytes == 0 {
        bail!("standard input ended before the word to go on");
    }
    Ok(())
}
