//! Modes of processes that rename themselves, and of one with other clocks.

use std::{fs, ptr, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{
    Options,
    odd::both_ways,
    processes::{in_child, wait_for},
    tcp, wait_for_go,
};
use crate::{time_namespace, truth::Tally};

/// The names that the process of `renamed` sets, one after the other: its comm, and the title over
/// its arguments.
pub const FIRST: (&str, &str) = ("live-first", "flow-live: first title");
pub const SECOND: (&str, &str) = ("live-second", "flow-live: second title");
/// The name of one of its threads.
const THREAD: &str = "live-thread";
/// How often it moves bytes under its first names, and how long it waits in between.
const TIMES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);

pub fn renamed(options: &Options, _: &Tally) -> Result<()> {
    let child = in_child(&options.mode, |tally| {
        name_self(FIRST)?;
        let (near, far) = tcp::pair()?;
        let talk = || both_ways(&near, &far, options.bytes, tally);
        for _ in 0..TIMES {
            talk()?;
            thread::scope(|scope| {
                tcp::join(scope.spawn(|| {
                    name_thread(THREAD)?;
                    talk()
                }))
            })?;
            thread::sleep(PAUSE);
        }
        wait_for_go()?;
        name_self(SECOND)?;
        wait_for_go()?;
        talk()?;
        thread::sleep(TIMES * PAUSE);
        talk()
    })?;
    wait_for(child)
}

/// Sets comm and title, as servers do for their workers.
fn name_self((name, title): (&str, &str)) -> Result<()> {
    name_thread(name)?;
    let path = "/proc/self/stat";
    let stat = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no name in it")?;
    // Fields 48 and 49; the state is field 3.
    let mut ends = fields.split(' ').skip(45).map(str::parse::<usize>);
    let mut end = || ends.next().context("a field less")?.context("a number");
    let (start, end) = (end()?, end()?);
    let room = end.saturating_sub(start);
    ensure!(title.len() < room, "there are {room} bytes of arguments");
    // SAFETY: the kernel put the arguments there; they may be written. Rust has its own copies
    // elsewhere, and this process no longer reads the originals.
    unsafe {
        let arguments: *mut u8 = ptr::with_exposed_provenance_mut(start);
        arguments.write_bytes(0, room);
        arguments.copy_from_nonoverlapping(title.as_ptr(), title.len());
    }
    Ok(())
}

fn name_thread(name: &str) -> Result<()> {
    fs::write("/proc/thread-self/comm", name).context("naming a thread")
}

/// Moves nothing until it is asked to continue, so that it can be inspected.
pub fn other_time(options: &Options, tally: &Tally) -> Result<()> {
    time_namespace::enter().context("entering a time namespace")?;
    wait_for_go()?;
    let (near, far) = tcp::pair()?;
    both_ways(&near, &far, options.bytes, tally)?;
    let mode = &options.mode;
    let child = in_child(mode, |tally| both_ways(&near, &far, options.bytes, tally))?;
    wait_for(child)
}
