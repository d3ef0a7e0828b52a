//! Flow's kernel side. This file names every program and does nothing else: the attach types are in
//! `hooks`, the counting in `accounting`, `counters` and `credit`, identities in `process` and
//! `socket_id`, lifetimes in `lifecycle`.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "BPF's atomic add has no stable counterpart: core's atomics need compare-and-swap"
)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a map's first value is passed by reference: a copy would take room on the small stack"
)]

mod accounting;
mod atomic;
mod bytes;
mod classify;
mod clock;
mod counters;
mod credit;
mod datagrams;
mod hooks;
mod inflight;
mod ipsec;
mod kernel;
mod lifecycle;
mod link;
mod logging;
mod maps;
mod network;
mod packet;
mod peer;
mod process;
mod record;
mod sight;
mod skb;
mod socket;
mod socket_id;
mod stack;
mod stream;
mod verdict;

use aya_ebpf::{
    macros::{
        cgroup_skb, cgroup_sock, cgroup_sock_addr, classifier, fexit, kprobe, kretprobe,
        raw_tracepoint, sock_ops,
    },
    programs::{
        FExitContext, ProbeContext, RawTracePointContext, RetProbeContext, SkBuffContext,
        SockAddrContext, SockContext, SockOpsContext, TcContext,
    },
};

use crate::inflight::Dir;

/// One program for each function of the socket layer, on its return.
macro_rules! fexit_programs {
    ($($name:ident = $function:literal: $adapter:ident;)*) => {$(
        #[fexit(function = $function)]
        fn $name(ctx: FExitContext) -> i32 {
            hooks::fexit::$adapter(&ctx);
            0
        }
    )*};
}

fexit_programs! {
    fexit_inet_sendmsg = "inet_sendmsg": sendmsg;
    fexit_inet6_sendmsg = "inet6_sendmsg": sendmsg;
    fexit_packet_sendmsg = "packet_sendmsg": sendmsg;
    fexit_inet_sendpage = "inet_sendpage": sendpage;
    fexit_inet_recvmsg = "inet_recvmsg": recvmsg;
    fexit_inet6_recvmsg = "inet6_recvmsg": recvmsg;
    fexit_sock_common_recvmsg = "sock_common_recvmsg": recvmsg;
    fexit_mptcp_splice_read = "mptcp_splice_read": splice_read;
    fexit_inet_csk_accept = "inet_csk_accept": accept;
}

/// Two programs for each function: its entry keeps the arguments, its return counts.
macro_rules! kprobe_programs {
    ($($entry:ident, $exit:ident: $adapter:ident, $dir:expr;)*) => {$(
        #[kprobe]
        fn $entry(ctx: ProbeContext) -> u32 {
            hooks::kprobe::$adapter(&ctx);
            0
        }
        #[kretprobe]
        fn $exit(ctx: RetProbeContext) -> u32 {
            hooks::kprobe::returned(&ctx, $dir);
            0
        }
    )*};
}

kprobe_programs! {
    kprobe_sendmsg, kretprobe_sendmsg: sendmsg, Dir::Tx;
    kprobe_sendpage, kretprobe_sendpage: sendpage, Dir::Tx;
    kprobe_recvmsg, kretprobe_recvmsg: recvmsg, Dir::Rx;
    kprobe_splice_read, kretprobe_splice_read: splice_read, Dir::Rx;
}

#[kretprobe]
fn kretprobe_accept(ctx: RetProbeContext) -> u32 {
    hooks::kprobe::accepted(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "sock_send_length")]
fn sock_send_length(ctx: RawTracePointContext) -> i32 {
    hooks::tracepoint::length(&ctx, Dir::Tx);
    0
}

#[raw_tracepoint(tracepoint = "sock_recv_length")]
fn sock_recv_length(ctx: RawTracePointContext) -> i32 {
    hooks::tracepoint::length(&ctx, Dir::Rx);
    0
}

#[raw_tracepoint(tracepoint = "tcp_rcv_space_adjust")]
fn tcp_rcv_space_adjust(ctx: RawTracePointContext) -> i32 {
    hooks::tracepoint::taken(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    hooks::tracepoint::set_state(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn set_state_nested(ctx: RawTracePointContext) -> i32 {
    hooks::tracepoint::set_state_nested(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
fn tcp_destroy_sock(ctx: RawTracePointContext) -> i32 {
    hooks::tracepoint::destroyed(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    hooks::tracepoint::exec(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "sched_process_fork")]
fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    hooks::tracepoint::fork(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    hooks::tracepoint::exit(&ctx);
    0
}

// What the cgroup programs return: 1 lets the call or packet pass, always.

#[cgroup_sock(sock_create)]
fn sock_create(ctx: SockContext) -> i32 {
    hooks::cgroup::sock_create(&ctx);
    1
}

#[cgroup_sock(sock_release)]
fn sock_release(ctx: SockContext) -> i32 {
    hooks::cgroup::sock_release(&ctx);
    1
}

#[cgroup_sock(post_bind4)]
fn post_bind4(ctx: SockContext) -> i32 {
    hooks::cgroup::post_bind4(&ctx);
    1
}

#[cgroup_sock(post_bind6)]
fn post_bind6(ctx: SockContext) -> i32 {
    hooks::cgroup::post_bind6(&ctx);
    1
}

#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    hooks::cgroup::connect(&ctx);
    1
}

#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    hooks::cgroup::connect(&ctx);
    1
}

#[cgroup_sock_addr(sendmsg4)]
fn sendmsg4(ctx: SockAddrContext) -> i32 {
    hooks::cgroup::datagram4(&ctx, Dir::Tx);
    1
}

#[cgroup_sock_addr(sendmsg6)]
fn sendmsg6(ctx: SockAddrContext) -> i32 {
    hooks::cgroup::datagram6(&ctx, Dir::Tx);
    1
}

#[cgroup_sock_addr(recvmsg4)]
fn recvmsg4(ctx: SockAddrContext) -> i32 {
    hooks::cgroup::datagram4(&ctx, Dir::Rx);
    1
}

#[cgroup_sock_addr(recvmsg6)]
fn recvmsg6(ctx: SockAddrContext) -> i32 {
    hooks::cgroup::datagram6(&ctx, Dir::Rx);
    1
}

#[sock_ops]
fn connection_made(ctx: SockOpsContext) -> u32 {
    hooks::cgroup::sock_ops(&ctx);
    1
}

#[cgroup_skb(ingress)]
fn cgroup_ingress(ctx: SkBuffContext) -> i32 {
    hooks::cgroup::ingress(&ctx);
    1
}

#[cgroup_skb(egress)]
fn cgroup_egress(ctx: SkBuffContext) -> i32 {
    hooks::cgroup::egress(&ctx);
    1
}

#[classifier]
fn flow_tc_ingress(ctx: TcContext) -> i32 {
    hooks::tc::ingress(&ctx)
}

#[classifier]
fn flow_tc_egress(ctx: TcContext) -> i32 {
    hooks::tc::egress(&ctx)
}

/// The programs have no reachable panic; the verifier would refuse an endless loop otherwise.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
