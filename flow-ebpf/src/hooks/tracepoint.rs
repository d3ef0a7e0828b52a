//! Raw tracepoints: lengths of sends and receives, states of sockets, lifecycle of processes.

use core::mem::MaybeUninit;

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, programs::RawTracePointContext};
use flow_common::{Loss, protocol};

use super::{count_call, is_peek};
use crate::{
    accounting,
    inflight::{self, Dir, Peer},
    kernel::{Address, SockCommon},
    lifecycle::{self, LAST_STATE_CHANGE, StateChange},
    maps::lose,
    process, socket, stream,
};

/// `sock_send_length(sk, ret, flags)` and `sock_recv_length(sk, ret, flags)`: every call of the
/// socket layer, in process context, with what it returned.
#[inline(always)]
pub fn length(ctx: &RawTracePointContext, dir: Dir) {
    let sk: u64 = ctx.arg(0);
    let result: i32 = ctx.arg(1);
    let flags: i32 = ctx.arg(2);
    // The flags of a send are not passed on by the kernel.
    if result < 0 || dir == Dir::Rx && is_peek(flags) {
        // Another call of this thread must not find its note.
        if !protocol::has_stream(socket::protocol(sk)) {
            inflight::take(bpf_get_current_pid_tgid());
        }
        return;
    }
    count_call(sk, dir, i64::from(result), |common, thread| {
        noted_peer(common, thread, dir)
    });
}

/// The peer that a cgroup hook noted while this call was under way.
#[inline(always)]
fn noted_peer(common: &SockCommon, thread: u64, dir: Dir) -> Option<Peer> {
    let note = inflight::take(thread)?;
    let is_its = note.socket == common.cookie() && (note.is_send != 0) == (dir == Dir::Tx);
    (is_its && note.peer_known != 0).then_some(note.peer)
}

/// `tcp_rcv_space_adjust(sk)`: bytes were taken from the socket's receive queue.
#[inline(always)]
pub fn taken(ctx: &RawTracePointContext) -> Option<()> {
    let sk: Address = ctx.arg(0);
    // A receive call reports them when it returns.
    if stream::is_receive_call() || !stream::is_plain(sk) {
        return None;
    }
    let mut storage = MaybeUninit::uninit();
    let common = SockCommon::read(sk, &mut storage)?;
    if stream::is_taken_by_program(sk) {
        accounting::lose_track(sk, common)
    } else {
        accounting::taken_from_queue(sk, common, process::current()?)
    }
}

/// `inet_sock_set_state(sk, oldstate, newstate)`.
#[inline(always)]
pub fn set_state(ctx: &RawTracePointContext) {
    let change = StateChange::of(ctx);
    if let Some(last) = LAST_STATE_CHANGE.get_ptr_mut(0) {
        // SAFETY: this CPU's element, with no other writer: no interrupt runs this program while it
        // runs.
        unsafe { *last = change };
    }
    lifecycle::state_changed(change, false);
}

/// The same event, for the second program. A connection changes its state in a call and in a
/// softirq, and the kernel leaves out a program that an interrupt finds at work on this CPU: then
/// this one takes its place.
#[inline(always)]
pub fn set_state_nested(ctx: &RawTracePointContext) {
    let change = StateChange::of(ctx);
    let last = LAST_STATE_CHANGE.get(0);
    if last.is_none_or(|last| *last != change) {
        // Another interrupt may have come between the first program and this one.
        lifecycle::state_changed(change, true);
    }
}

impl StateChange {
    #[inline(always)]
    fn of(ctx: &RawTracePointContext) -> Self {
        let (old, new): (i32, i32) = (ctx.arg(1), ctx.arg(2));
        Self {
            socket: ctx.arg(0),
            old: old as u8,
            new: new as u8,
        }
    }
}

/// `tcp_destroy_sock(sk)`.
#[inline(always)]
pub fn destroyed(ctx: &RawTracePointContext) {
    lifecycle::destroyed(ctx.arg(0));
}

/// `sched_process_exec(task, old_pid, bprm)`.
#[inline(always)]
pub fn exec(ctx: &RawTracePointContext) {
    let (thread, old): (u64, i32) = (bpf_get_current_pid_tgid(), ctx.arg(1));
    if old as u32 != thread as u32 {
        // It was not the first thread, whose id it has taken over.
        inflight::forget(thread >> 32 << 32 | u64::from(old as u32));
    }
    process::executed(ctx.arg(0));
}

/// `sched_process_fork(parent, child)`.
#[inline(always)]
pub fn fork(ctx: &RawTracePointContext) {
    process::forked(ctx.arg(0), ctx.arg(1));
}

/// `sched_process_exit(task)`; from 6.16 it has one argument more.
#[inline(always)]
pub fn exit(ctx: &RawTracePointContext) {
    let task = ctx.arg(0);
    if inflight::forget(bpf_get_current_pid_tgid()) {
        lose(Loss::ReturnMissed, 1);
    }
    process::exited(task);
}
