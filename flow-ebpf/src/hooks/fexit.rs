//! fexit programs on the functions of the socket layer: arguments and return value at once.

use aya_ebpf::{Global, programs::FExitContext};

use super::{count_call, is_peek, peer_in_name};
use crate::{
    inflight::{Dir, Peer},
    kernel::{Address, MSGHDR_NAME, SOCKET_SK},
    lifecycle, socket,
};

/// `int inet_sendmsg(struct socket *sock, struct msghdr *msg, size_t size)` and its kin.
#[inline(always)]
pub fn sendmsg(ctx: &FExitContext) -> Option<()> {
    let sk = sk(ctx)?;
    let result: i32 = ctx.ret().ok()?;
    count_call(sk, Dir::Tx, i64::from(result), |_, _| peer(ctx));
    Some(())
}

/// `int inet_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)` and its kin.
#[inline(always)]
pub fn recvmsg(ctx: &FExitContext) -> Option<()> {
    let sk = sk(ctx)?;
    let flags: i32 = ctx.arg(3);
    if is_peek(flags) {
        return None;
    }
    let result: i32 = ctx.ret().ok()?;
    count_call(sk, Dir::Rx, i64::from(result), |_, _| peer(ctx));
    Some(())
}

/// `ssize_t inet_sendpage(struct socket *sock, struct page *page, int offset, size_t size, int
/// flags)`, before 6.5.
#[inline(always)]
pub fn sendpage(ctx: &FExitContext) -> Option<()> {
    if !socket::has_sendpage(sk(ctx)?) {
        return None;
    }
    stream(ctx, Dir::Tx)
}

/// `ssize_t mptcp_splice_read(struct socket *sock, loff_t *ppos, struct pipe_inode_info *pipe, size_t
/// len, unsigned int flags)`.
#[inline(always)]
pub fn splice_read(ctx: &FExitContext) -> Option<()> {
    stream(ctx, Dir::Rx)
}

/// `struct sock *inet_csk_accept(struct sock *sk, ...)`: its further arguments differ between
/// kernels, and are not needed.
#[inline(always)]
pub fn accept(ctx: &FExitContext) -> Option<()> {
    let accepted: u64 = ctx.ret().ok()?;
    lifecycle::accepted(accepted)
}

#[inline(always)]
fn stream(ctx: &FExitContext, dir: Dir) -> Option<()> {
    let sk = sk(ctx)?;
    let result: i64 = ctx.ret().ok()?;
    count_call(sk, dir, result, |_, _| None);
    Some(())
}

/// The `struct sock` of the call's socket.
#[inline(always)]
fn sk(ctx: &FExitContext) -> Option<Address> {
    let sk = typed_member(ctx.arg(0), &SOCKET_SK);
    (sk != 0).then_some(sk)
}

/// The peer in the call's message.
#[inline(always)]
fn peer(ctx: &FExitContext) -> Option<Peer> {
    peer_in_name(typed_member(ctx.arg(1), &MSGHDR_NAME))
}

/// A pointer in a structure that is an argument of the function. Its type is known to the verifier,
/// so that it needs no call.
#[inline(always)]
fn typed_member(structure: *const u8, offset: &Global<u16>) -> Address {
    // SAFETY: the verifier knows that such a member is there; the kernel reads 0 where the address
    // is bad.
    unsafe {
        structure
            .add(usize::from(offset.load()))
            .cast::<u64>()
            .read_volatile()
    }
}
