//! Waits for conditions, with a time limit.

use std::{
    process::{Child, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Time between two polls, at first and at most. Each poll slows what is waited for, especially on
/// an emulated machine.
const PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Polls until there is an answer; an error after `patience`.
pub fn until<T>(
    patience: Duration,
    what: &str,
    ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    until_within(patience, what, 10, ask)
}

/// As above; the answer is late by at most one part in `part` of the time.
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

/// Waits for a process to end; kills it after `patience`. Polls often, as callers measure the time
/// of the end.
pub fn for_exit(child: &mut Child, patience: Duration, what: &str) -> Result<ExitStatus> {
    let what = format!("{what} to end");
    let result = until_within(patience, &what, 100, || Ok(child.try_wait()?));
    if result.is_err() {
        end(child);
    }
    result
}

/// Kills a process, if it still runs, and reaps it.
pub fn end(child: &mut Child) {
    // Both fail only if the process is already gone.
    let _ = child.kill();
    let _ = child.wait();
}
