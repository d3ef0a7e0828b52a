//! Waiting for a condition, with an end to it.

use std::{
    process::{Child, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Time between two looks, at first and at most. Each takes its time from what is waited for, most of all on a machine that is emulated.
const PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Asks until there is an answer; an error once `patience` is over.
pub fn until<T>(
    patience: Duration,
    what: &str,
    ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    until_within(patience, what, 10, ask)
}

/// The same; it answers too late by one in `part` of the time at most.
fn until_within<T>(
    patience: Duration,
    what: &str,
    part: u32,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if started.elapsed() > patience {
            bail!("waited {} s in vain for {what}", patience.as_secs());
        }
        thread::sleep((started.elapsed() / part).clamp(PAUSE, LONGEST_PAUSE));
    }
}

/// Waits for a process to end; kills it once `patience` is over. How long that takes is measured by this, so it looks often.
pub fn for_exit(child: &mut Child, patience: Duration, what: &str) -> Result<ExitStatus> {
    let what = format!("{what} to end");
    let result = until_within(patience, &what, 100, || Ok(child.try_wait()?));
    if result.is_err() {
        end(child);
    }
    result
}

/// Kills a process, if it still runs, and collects it.
pub fn end(child: &mut Child) {
    // Both fail only when the process is gone already, which is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}
