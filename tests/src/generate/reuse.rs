//! A mode in which several processes have the same pid, one after the other.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use super::{
    Options,
    processes::{end_child, in_child, wait_for},
    tcp::{self, Request},
    udp,
};
use crate::truth::Tally;

const MODE: &str = "same-pid";
/// Processes that share the pid.
const LIVES: u64 = 3;
/// Resolution of the start times that the kernel reports.
const TICK: Duration = Duration::from_millis(10);

pub fn same_pid(options: &Options, tally: &Tally) -> Result<()> {
    let peer = options.peer()?;
    let stream = tcp::connect(peer, Request::Sink, tally)?;
    let socket = udp::connect(peer)?;
    // All of them use the same sockets, and one of their own.
    let live = |number: u64, tally: &Tally| {
        tcp::send(&mut &stream, options.bytes + number, tally)?;
        udp::exchange(&socket, 100 + number as usize, tally)?;
        let own = tcp::connect(peer, Request::Source(1000 + number), tally)?;
        tcp::send_and_drain(&own, 2000 + number, tally)
    };
    let first = in_child(MODE, |tally| live(0, tally))?;
    wait_for(first)?;
    for number in 1..LIVES {
        wait_for_tick()?;
        wait_for(in_child_with(first, |tally| live(number, tally))?)?;
    }
    tcp::finish(stream, tally)
}

/// Two processes of the same tick could not be distinguished, but a kernel that assigns pids in
/// turn never creates such two.
fn wait_for_tick() -> Result<()> {
    let ticks = || -> Result<u128> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
        Ok(now.as_nanos() / TICK.as_nanos())
    };
    let before = ticks()?;
    while ticks()? == before {
        thread::sleep(TICK / 4);
    }
    Ok(())
}

/// As [`in_child`], in a process with a given pid, which must be free.
fn in_child_with(pid: Pid, job: impl FnOnce(&Tally) -> Result<()>) -> Result<Pid> {
    let wanted = pid.as_raw();
    // SAFETY: all-zero is a valid clone_args.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.set_tid = (&raw const wanted) as u64;
    arguments.set_tid_size = 1;
    // SAFETY: as fork(2): the process has one thread, so the child may do whatever the parent may.
    let child = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match Errno::result(child).context("clone3 with set_tid")? {
        0 => {
            let tally = Tally::default();
            let result = job(&tally);
            end_child(MODE, &tally, result)
        }
        child => Ok(Pid::from_raw(i32::try_from(child)?)),
    }
}
