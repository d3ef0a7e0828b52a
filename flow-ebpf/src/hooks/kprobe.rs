//! kprobe and kretprobe on the functions of the socket layer: the entry keeps the arguments, the
//! return counts.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    programs::{ProbeContext, RetProbeContext},
};
use flow_common::{IpAddress, Loss};

use super::{count_call, is_peek, peer_in_name};
use crate::{
    inflight::{self, Call, Dir, Peer},
    kernel::{self, MSGHDR_NAME, SOCKET_SK},
    lifecycle,
    maps::lose,
    socket,
};

/// Entry of a send with a `struct msghdr`.
#[inline(always)]
pub fn sendmsg(ctx: &ProbeContext) -> Option<()> {
    entered(ctx.arg(0)?, ctx.arg(1)?, false)
}

/// Entry of a receive with a `struct msghdr`.
#[inline(always)]
pub fn recvmsg(ctx: &ProbeContext) -> Option<()> {
    let flags: i32 = ctx.arg(3)?;
    entered(ctx.arg(0)?, ctx.arg(1)?, is_peek(flags))
}

/// Entry of `inet_sendpage`.
#[inline(always)]
pub fn sendpage(ctx: &ProbeContext) -> Option<()> {
    if !socket::has_sendpage(kernel::follow(ctx.arg(0)?, &SOCKET_SK)?) {
        return None;
    }
    entered(ctx.arg(0)?, 0, false)
}

/// Entry of `mptcp_splice_read`.
#[inline(always)]
pub fn splice_read(ctx: &ProbeContext) -> Option<()> {
    entered(ctx.arg(0)?, 0, false)
}

#[inline(always)]
fn entered(socket: u64, message: u64, skip: bool) -> Option<()> {
    let sk = kernel::follow(socket, &SOCKET_SK)?;
    let thread = bpf_get_current_pid_tgid();
    if inflight::is_noted(thread) {
        // These functions don't nest: the return of this thread's last call was missed, because
        // more calls were under way than the kernel keeps kretprobe instances for.
        lose(Loss::ReturnMissed, 1);
    }
    let call = Call {
        socket: sk,
        message,
        peer: Peer {
            address: IpAddress::NONE,
            port: 0,
            padding: 0,
            zone: 0,
        },
        peer_known: 0,
        skip: u8::from(skip),
        is_send: 0,
        under_way: 1,
        from_packet: 0,
        padding: 0,
    };
    inflight::note(thread, &call);
    Some(())
}

/// Return of any of them.
#[inline(always)]
pub fn returned(ctx: &RetProbeContext, dir: Dir) -> Option<()> {
    let thread = bpf_get_current_pid_tgid();
    let call = inflight::take(thread)?;
    if call.skip != 0 || !call.is_of_entry() {
        return None;
    }
    // Those that return an int leave the register's upper half undefined; no call moves 2 GiB or
    // more.
    let result: i32 = ctx.ret();
    count_call(call.socket, dir, i64::from(result), |_, _| {
        // A call without a message has no peer of its own.
        let message = Some(call.message).filter(|message| *message != 0)?;
        peer_in_name(kernel::follow(message, &MSGHDR_NAME)?)
    });
    Some(())
}

/// Return of `inet_csk_accept`.
#[inline(always)]
pub fn accepted(ctx: &RetProbeContext) -> Option<()> {
    lifecycle::accepted(ctx.ret())
}
