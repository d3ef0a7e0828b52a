//! Bytes of TCP streams that leave their socket without a receive call: splice(2),
//! `TCP_ZEROCOPY_RECEIVE`, threads of the kernel.
//!
//! A receive call reports what it returns. Whatever else takes bytes from a socket's queue moves
//! `copied_seq` on as well, and says so (`tcp_rcv_space_adjust`) while it holds the socket's lock. So
//! what was taken from the stream, less what is counted by now, is what this one took: no matter who
//! took the rest, and how.

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use flow_common::protocol;

use crate::{
    kernel::{
        self, Address, ICSK_ULP_OPS, READS_SYSCALL, SK_FLAGS, SK_LOCK_OWNED, SK_USER_DATA,
        SYSCALL_NUMBER, TASK_FLAGS, TCP_BYTES_RECEIVED, TCP_COPIED_SEQ, TCP_RCV_NXT, TYPED_TASK,
    },
    socket,
};

/// `PF_IO_WORKER` and `PF_KTHREAD`: tasks that are in no system call, whatever their registers say.
const WORKERS: u32 = 0x10 | 0x20_0000;
/// `SOCK_DONE`: the other side's FIN has come.
const SOCK_DONE: u64 = 1 << 1;
/// `SK_USER_DATA_PSOCK`: programs of a sockmap take what comes.
const SK_USER_DATA_PSOCK: u64 = 4;

/// Whether a receive counts the bytes that it takes as they leave the queue: one in a system call
/// that is not known to receive, of io_uring for instance.
#[inline(always)]
pub fn is_counted_at_queue(sk: Address) -> bool {
    !is_receive_call() && is_plain(sk) && !has_programs(sk)
}

/// Whether a socket's stream is what its processes read. kTLS takes encrypted bytes from it, MPTCP
/// those of one path.
#[inline(always)]
pub fn is_plain(sk: Address) -> bool {
    kernel::read_uncalled::<u64>(sk, &ICSK_ULP_OPS) == Some(0)
        && socket::protocol(sk) == protocol::TCP
}

/// Whether a program of the kernel takes what leaves the queue now, for no process: in a softirq, or,
/// with a sockmap, while a process has the lock.
#[inline(always)]
pub fn is_taken_by_program(sk: Address) -> bool {
    kernel::read_uncalled::<u32>(sk, &SK_LOCK_OWNED) == Some(0) || has_programs(sk)
}

/// Whether a socket is in a sockmap.
#[inline(always)]
fn has_programs(sk: Address) -> bool {
    kernel::read_uncalled::<u64>(sk, &SK_USER_DATA)
        .is_none_or(|data| data & SK_USER_DATA_PSOCK != 0)
}

/// Bytes of its stream that were taken from a TCP socket's receive queue so far. Call it under the
/// socket's lock.
#[inline(always)]
pub fn taken(sk: Address) -> Option<u64> {
    let received: u64 = kernel::read_uncalled(sk, &TCP_BYTES_RECEIVED)?;
    let next: u32 = kernel::read_uncalled(sk, &TCP_RCV_NXT)?;
    let copied: u32 = kernel::read_uncalled(sk, &TCP_COPIED_SEQ)?;
    let flags: u64 = kernel::read_uncalled(sk, &SK_FLAGS)?;
    let waiting = next.wrapping_sub(copied);
    // The FIN counts as a byte, and as taken once it is seen.
    let fin = u64::from(waiting == 0 && flags & SOCK_DONE != 0);
    Some(received.wrapping_sub(u64::from(waiting)).wrapping_sub(fin))
}

/// Whether the current task is in a system call that receives, and so reports what it takes. Not
/// knowing is no harm: then the bytes are counted as they leave the queue.
#[inline(always)]
pub fn is_receive_call() -> bool {
    if READS_SYSCALL.load() == 0 || TYPED_TASK.load() == 0 {
        return false;
    }
    // SAFETY: the verifier knows the pointers' types, and that such a member is at each offset; the
    // kernel reads 0 where an address is bad. Volatile, so that the reads stay as they are.
    let (flags, number) = unsafe {
        let task = bpf_get_current_task_btf();
        let flags = task.cast::<u8>().add(usize::from(TASK_FLAGS.load()));
        let registers = bpf_task_pt_regs(task) as *const u8;
        let number = registers.add(usize::from(SYSCALL_NUMBER.load()));
        (
            flags.cast::<u32>().read_volatile(),
            number.cast::<i32>().read_volatile(),
        )
    };
    flags & WORKERS == 0 && receives(number)
}

/// Whether a system call receives: read, readv, recvfrom, recvmsg, recvmmsg and preadv2.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
const fn receives(number: i32) -> bool {
    is_in(number, [0, 19, 45, 47, 299, 327])
}

/// See above.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
const fn receives(number: i32) -> bool {
    is_in(number, [63, 65, 207, 212, 243, 286])
}

/// See above.
#[cfg(not(any(bpf_target_arch = "x86_64", bpf_target_arch = "aarch64")))]
#[inline(always)]
const fn receives(_: i32) -> bool {
    false
}

/// Looks up a number below 384 in a set, by one bit for each.
#[inline(always)]
const fn is_in(number: i32, set: [i32; 6]) -> bool {
    let mut words = [0_u64; 6];
    let mut at = 0;
    while at < set.len() {
        words[set[at] as usize / 64] |= 1 << (set[at] % 64);
        at += 1;
    }
    let [a, b, c, d, e, f] = words;
    let word = match number >> 6 {
        0 => a,
        1 => b,
        2 => c,
        3 => d,
        4 => e,
        5 => f,
        _ => 0,
    };
    word >> (number & 63) & 1 != 0
}
