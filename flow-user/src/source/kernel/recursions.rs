//! Runs of programs that the kernel left out.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{Ebpf, programs::Program};

use super::{
    hooks::{NESTED_STATE_CHANGES, STATE_CHANGES},
    programs::is_loaded,
};

/// How many were left out because the same program was at work on that CPU, and that no other took
/// up: of the two for states, an interrupt finds one at work at most.
pub fn count(ebpf: &Ebpf) -> u64 {
    let takes_up = is_loaded(ebpf, NESTED_STATE_CHANGES);
    ebpf.programs()
        .filter(|(name, _)| !takes_up || ![STATE_CHANGES, NESTED_STATE_CHANGES].contains(name))
        .filter_map(|(_, program)| misses(program))
        .sum()
}

fn misses(program: &Program) -> Option<u64> {
    let fd = program.fd().ok()?.as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?;
    line.trim().parse().ok()
}
