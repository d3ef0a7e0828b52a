//! Whether another program of the cgroups has refused a packet. Programs of a socket's cgroup and
//! of those above it run one after the other, Flow's at the root last, even after one has refused
//! the packet (`bpf_prog_run_array_cg`).

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_get_current_task};
use flow_common::SocketEntry;

use crate::{
    inflight::Dir,
    kernel::{
        Address, CGROUP_EFFECTIVE_EGRESS, CGROUP_EFFECTIVE_INGRESS, PROG_ARRAY_ITEMS,
        READS_VERDICT, RUN_CTX_ITEM, RUN_CTX_RETVAL, SK_CGROUP, SKB_SK, TASK_BPF_CTX, follow, read,
    },
    maps::epoch,
};

/// Bits of [`SocketEntry::guarded`], for [`Dir::Tx`]; the next one is for [`Dir::Rx`]. The epoch is
/// above them.
const LOOKED: u16 = 1;
const GUARDED: u16 = 1 << 2;
const EPOCH_SHIFT: u32 = 4;
const OF_DIRECTIONS: u16 = (1 << EPOCH_SHIFT) - 1;

/// Whether a packet of this socket was refused. Whether any program runs before Flow's is looked up
/// once in an epoch and socket: most have none, and their packets pay a test.
#[inline(always)]
pub fn is_refused(skb: *mut __sk_buff, entry: *mut SocketEntry, dir: Dir) -> bool {
    if READS_VERDICT.load() == 0 {
        return false;
    }
    let (looked, guarded) = (LOOKED << dir as u32, GUARDED << dir as u32);
    // Its low bits: an entry of the same ones is looked at a while later.
    let now = (epoch() << EPOCH_SHIFT) as u16;
    // SAFETY: a live map value; a race costs one more look.
    let mut known = unsafe { (*entry).guarded };
    if known & !OF_DIRECTIONS != now {
        known = now;
    }
    if known & looked == 0 {
        known |= looked;
        if is_first(skb, dir) != Some(true) {
            known |= guarded;
        }
        // SAFETY: as above.
        unsafe { (*entry).guarded = known };
    }
    known & guarded != 0 && has_refused().unwrap_or(false)
}

/// What the kernel keeps of the run of programs that this one is part of.
#[inline(always)]
fn run() -> Option<Address> {
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() };
    follow(task, &TASK_BPF_CTX)
}

#[inline(always)]
fn has_refused() -> Option<bool> {
    // The call's error so far: of the first program that returned 0.
    Some(read::<i32>(run()?, &RUN_CTX_RETVAL)? != 0)
}

/// Whether this program is the first of those that run for a packet of this socket.
#[inline(always)]
fn is_first(skb: *mut __sk_buff, dir: Dir) -> Option<bool> {
    let cgroup = follow(follow(skb as Address, &SKB_SK)?, &SK_CGROUP)?;
    let programs = match dir {
        Dir::Tx => follow(cgroup, &CGROUP_EFFECTIVE_EGRESS)?,
        Dir::Rx => follow(cgroup, &CGROUP_EFFECTIVE_INGRESS)?,
    };
    let first = programs.wrapping_add(u64::from(PROG_ARRAY_ITEMS.load()));
    Some(follow(run()?, &RUN_CTX_ITEM)? == first)
}
