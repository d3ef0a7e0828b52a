//! The programs of the kernel side: what each is attached to, and what is not seen without it.
//!
//! One row defines a hook. What is tried, loaded, attached, detached and reported comes from these
//! rows; [`super::backends`] says which of them make a backend.

use std::slice;

use aya_obj::generated::bpf_attach_type::{self, *};

use self::Need::{Expected, Optional, Required};

/// A program and its place in the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// Name in the object of the kernel side.
    pub program: &'static str,
    pub at: At,
    pub need: Need,
    /// What is not seen where the kernel refuses it; empty for calls of its functions.
    blind: &'static str,
}

/// What a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The return of a kernel function, as a tracing program.
    Fexit(&'static str),
    /// The return of kernel functions, as a kretprobe. Another program is on their entry.
    Probes {
        entry: Option<&'static str>,
        functions: &'static [&'static str],
    },
    /// A raw tracepoint.
    Tracepoint(&'static str),
    /// The root of the cgroup v2 tree.
    Cgroup(bpf_attach_type),
    /// Each interface; [`super::classifier`] attaches it.
    Interface,
}

/// Whether Flow does without a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The backend is nothing without it.
    Required,
    /// The kernel must have its place, or the backend is not there. Where only the program is
    /// refused Flow does without.
    Expected,
    Optional,
}

/// Returns of the functions of the socket layer. Those that a kernel does not have are left out.
pub const FEXIT: &[Hook] = &[
    fexit("fexit_inet_sendmsg", "inet_sendmsg", Required),
    fexit("fexit_inet6_sendmsg", "inet6_sendmsg", Optional),
    fexit("fexit_packet_sendmsg", "packet_sendmsg", Optional),
    fexit("fexit_inet_sendpage", "inet_sendpage", Optional),
    fexit("fexit_inet_recvmsg", "inet_recvmsg", Required),
    fexit("fexit_inet6_recvmsg", "inet6_recvmsg", Optional),
    fexit("fexit_sock_common_recvmsg", "sock_common_recvmsg", Optional),
    fexit("fexit_mptcp_splice_read", "mptcp_splice_read", Optional),
    fexit("fexit_inet_csk_accept", "inet_csk_accept", Optional),
    QUEUE,
];

/// Entry and return of the same functions; the last reports who accepted a connection.
#[rustfmt::skip]
pub const KPROBE: &[Hook] = &[
    probes("kretprobe_sendmsg", Some("kprobe_sendmsg"), &["inet_sendmsg", "inet6_sendmsg", "packet_sendmsg"], Required),
    probes("kretprobe_sendpage", Some("kprobe_sendpage"), &["inet_sendpage"], Optional),
    probes("kretprobe_recvmsg", Some("kprobe_recvmsg"), &["inet_recvmsg", "inet6_recvmsg", "sock_common_recvmsg"], Required),
    probes("kretprobe_splice_read", Some("kprobe_splice_read"), &["mptcp_splice_read"], Optional),
    probes("kretprobe_accept", None, &["inet_csk_accept"], Optional),
    QUEUE,
];

/// Bytes that no call returns: one that all backends of app bytes have.
const QUEUE: Hook = tracepoint(
    "tcp_rcv_space_adjust",
    "bytes of TCP that no receive call returns",
    Expected,
);

/// Lengths of calls. The tracepoints do not bring the peers of datagrams, which programs of the
/// cgroup v2 root do.
#[rustfmt::skip]
pub const LENGTHS: &[Hook] = &[
    tracepoint("sock_send_length", "", Required),
    tracepoint("sock_recv_length", "", Required),
    QUEUE,
    cgroup("sendmsg4", BPF_CGROUP_UDP4_SENDMSG, "whom an unconnected IPv4 socket sends to", Expected),
    cgroup("sendmsg6", BPF_CGROUP_UDP6_SENDMSG, "whom an unconnected IPv6 socket sends to", Optional),
    cgroup("recvmsg4", BPF_CGROUP_UDP4_RECVMSG, "whom an unconnected IPv4 socket receives from", Optional),
    cgroup("recvmsg6", BPF_CGROUP_UDP6_RECVMSG, "whom an unconnected IPv6 socket receives from", Optional),
];

/// States of TCP, for every backend: two programs on one raw tracepoint, of which the second takes
/// the place of the first where an interrupt finds that at work.
#[rustfmt::skip]
pub const STATES: &[Hook] = &[
    tracepoint(STATE_CHANGES, "states of TCP connections, and for minutes their end", Expected),
    hook(NESTED_STATE_CHANGES, At::Tracepoint(STATE_CHANGES), "states of TCP connections that change while another one's is taken up", Optional),
];
/// Reports states; and the name of the tracepoint.
pub const STATE_CHANGES: &str = "inet_sock_set_state";
/// Takes its place where an interrupt finds it at work.
pub const NESTED_STATE_CHANGES: &str = "set_state_nested";

/// The end of TCP sockets, where [`SOCKET_RELEASES`] does not report it.
#[rustfmt::skip]
pub const RELEASES: &[Hook] = &[
    tracepoint("tcp_destroy_sock", "for minutes, the end of TCP connections that close before their process lets go of them", Optional),
];

/// Lives of processes, for every backend. Who moves bytes is reported by those who count.
#[rustfmt::skip]
pub const LIVES: &[Hook] = &[
    tracepoint("sched_process_exec", "programs started since", Expected),
    tracepoint("sched_process_fork", "parents of processes started since", Expected),
    tracepoint(EXITS, "the end of processes", Expected),
];
/// Reports that processes end.
pub const EXITS: &str = "sched_process_exit";

/// Lives of sockets.
#[rustfmt::skip]
pub const SOCKETS: &[Hook] = &[
    cgroup("sock_create", BPF_CGROUP_INET_SOCK_CREATE, "sockets before they are used", Expected),
    cgroup(SOCKET_RELEASES, BPF_CGROUP_INET_SOCK_RELEASE, "the end of sockets other than TCP's", Expected),
    cgroup("post_bind4", BPF_CGROUP_INET4_POST_BIND, "IPv4 sockets that are bound and not used yet", Optional),
    cgroup("post_bind6", BPF_CGROUP_INET6_POST_BIND, "IPv6 sockets that are bound and not used yet", Optional),
    cgroup("connect4", BPF_CGROUP_INET4_CONNECT, "who connects an older socket over IPv4", Expected),
    cgroup("connect6", BPF_CGROUP_INET6_CONNECT, "who connects an older socket over IPv6", Optional),
    cgroup("connection_made", BPF_CGROUP_SOCK_OPS, "connections that came in, before their first packet", Expected),
];
/// Reports that sockets are released.
pub const SOCKET_RELEASES: &str = "sock_release";

/// Packets of sockets.
#[rustfmt::skip]
pub const PACKETS: &[Hook] = &[
    cgroup("cgroup_ingress", BPF_CGROUP_INET_INGRESS, "packets received", Expected),
    cgroup("cgroup_egress", BPF_CGROUP_INET_EGRESS, "packets sent", Expected),
];

/// Packets of interfaces, by the names of their programs: ingress, egress.
pub const CLASSIFIERS: [&str; 2] = ["flow_tc_ingress", "flow_tc_egress"];
/// The same as hooks.
pub const FRAMES: &[Hook] = &[interface(CLASSIFIERS[0]), interface(CLASSIFIERS[1])];

impl Hook {
    /// The kernel functions it is attached to, if it is attached to any.
    pub const fn functions(&self) -> &[&'static str] {
        match &self.at {
            At::Fexit(function) => slice::from_ref(function),
            At::Probes { functions, .. } => functions,
            At::Tracepoint(_) | At::Cgroup(_) | At::Interface => &[],
        }
    }

    /// Its programs, in the order in which they are attached: an entry without its return would
    /// leave notes behind.
    pub fn programs(&self) -> impl Iterator<Item = &'static str> {
        let entry = match self.at {
            At::Probes { entry, .. } => entry,
            _ => None,
        };
        [Some(self.program), entry].into_iter().flatten()
    }

    /// What is not seen without it, on a kernel that has these of its functions.
    pub fn unseen(&self, functions: &[&str]) -> String {
        match self.blind {
            "" => format!("calls of {}", functions.join(", ")),
            blind => blind.to_owned(),
        }
    }
}

const fn fexit(program: &'static str, function: &'static str, need: Need) -> Hook {
    hook(program, At::Fexit(function), "", need)
}

const fn probes(
    program: &'static str,
    entry: Option<&'static str>,
    functions: &'static [&'static str],
    need: Need,
) -> Hook {
    hook(program, At::Probes { entry, functions }, "", need)
}

/// A program named after its tracepoint.
const fn tracepoint(program: &'static str, blind: &'static str, need: Need) -> Hook {
    hook(program, At::Tracepoint(program), blind, need)
}

const fn cgroup(
    program: &'static str,
    at: bpf_attach_type,
    blind: &'static str,
    need: Need,
) -> Hook {
    hook(program, At::Cgroup(at), blind, need)
}

const fn interface(program: &'static str) -> Hook {
    hook(program, At::Interface, "", Required)
}

const fn hook(program: &'static str, at: At, blind: &'static str, need: Need) -> Hook {
    Hook {
        program,
        at,
        need,
        blind,
    }
}
