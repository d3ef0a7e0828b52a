//! What Flow must report of each process, given the blind spots of its backend.

use std::collections::BTreeMap;

use flow_user::source::kernel::backends;

use super::Backend;
use crate::truth::{Blind, Moved, Truth};

/// Whether the backend sees something, by the table that `flow doctor` prints. What it does not see
/// must not be reported, so the table can claim neither too much nor too little.
pub fn sees(backend: Backend, blind: Blind) -> bool {
    table_entry(backend).is_none_or(|backend| backend.sees(blind))
}

/// All blind spots of the backend.
pub fn limits(backend: Backend) -> &'static [Blind] {
    table_entry(backend).map_or(&[], backends::Backend::blind_spots)
}

fn table_entry(backend: Backend) -> Option<backends::Backend> {
    match backend {
        Backend::Auto => None,
        Backend::Fexit => Some(backends::Backend::Fexit),
        Backend::Kprobe => Some(backends::Backend::Kprobe),
        Backend::Tracepoint => Some(backends::Backend::Tracepoint),
    }
}

/// What a backend reports of a process: usually least and most are the same.
#[derive(Debug)]
pub struct Visible {
    pub least: Moved,
    pub most: Moved,
}

/// What the backend must show of a process.
pub fn visible(truth: &Truth, backend: Backend) -> Visible {
    let (mut least, mut most) = (truth.moved, truth.moved);
    for (blind, part) in &truth.blind {
        if sees(backend, *blind) {
            continue;
        }
        least.tx_bytes -= part.tx_bytes;
        least.rx_bytes -= part.rx_bytes;
        if *blind == Blind::ReturnProbesExhausted {
            // Which calls these are is random, but not all of them can have been seen.
            most.rx_bytes -= part.rx_bytes.min(1);
        } else {
            most.tx_bytes -= part.tx_bytes;
            most.rx_bytes -= part.rx_bytes;
        }
    }
    Visible { least, most }
}

/// What the backend must report of a process's datagrams, by remote. Whether the sender of one that
/// was received without asking is known depends on what else waited.
pub fn by_remote(truth: &Truth, backend: Backend) -> BTreeMap<String, Visible> {
    let mut remotes = truth.remotes.clone();
    for (remote, mixed) in &truth.mixed {
        let moved = remotes.entry(remote.clone()).or_default();
        if sees(backend, Blind::MixedSenders) {
            *moved += *mixed;
        }
    }
    for remote in truth.unasked.keys() {
        remotes.entry(remote.clone()).or_default();
    }
    let visible = |(remote, least): (String, Moved)| {
        let mut most = least;
        if let Some(unasked) = truth.unasked.get(&remote) {
            most += *unasked;
        }
        (remote, Visible { least, most })
    };
    remotes.into_iter().map(visible).collect()
}

/// The truths of each pid, one for each process that had it, in the order in which they started. A
/// process that executed another program reported twice: its last name counts.
pub fn by_pid(truths: &[Truth]) -> BTreeMap<u32, Vec<Truth>> {
    let mut processes = BTreeMap::<(u32, u64), Truth>::new();
    for truth in truths {
        let mut sum = truth.clone();
        if let Some(earlier) = processes.remove(&(truth.pid, truth.start)) {
            sum.moved += earlier.moved;
            for (blind, moved) in earlier.blind {
                *sum.blind.entry(blind).or_default() += moved;
            }
            for (remote, moved) in earlier.remotes {
                *sum.remotes.entry(remote).or_default() += moved;
            }
            for (remote, moved) in earlier.unasked {
                *sum.unasked.entry(remote).or_default() += moved;
            }
            for (remote, moved) in earlier.mixed {
                *sum.mixed.entry(remote).or_default() += moved;
            }
        }
        processes.insert((truth.pid, truth.start), sum);
    }
    let mut all = BTreeMap::<u32, Vec<Truth>>::new();
    for ((pid, _), truth) in processes {
        all.entry(pid).or_default().push(truth);
    }
    all
}
