//! Runs a program with a time limit, and passes on each line it prints.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill},
    },
    unistd::Pid,
};

/// How a watched program ended.
#[derive(Debug)]
pub enum End {
    Exited(ExitStatus),
    TimedOut,
}

/// How long after SIGTERM a program is killed.
const GRACE: Duration = Duration::from_secs(5);

/// Runs `command` for at most `limit`. Standard input is empty; standard output is passed on by
/// lines, without line ends.
///
/// The program ends with this one, however this one ends: the kernel kills it when the thread that
/// started it ends (`PR_SET_PDEATHSIG`), and that thread waits here.
///
/// # Errors
/// When the program cannot be started.
pub fn watch(command: &mut Command, limit: Duration, mut on_line: impl FnMut(&str)) -> Result<End> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGTERM)?));
    }
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    let stdout = child.stdout.take().context("no pipe to the program")?;

    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|length| length > 0)
        {
            let text = String::from_utf8_lossy(&line)
                .trim_end_matches(['\r', '\n'])
                .to_owned();
            if sender.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });

    let deadline = Instant::now() + limit;
    let mut open = true;
    loop {
        if open {
            match lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => on_line(&line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
        } else {
            thread::sleep(Duration::from_millis(10));
        }
        if let Some(status) = child.try_wait().context("cannot wait for the program")? {
            // Read what is left in the pipe; a grandchild may keep it open for ever.
            while let Ok(line) = lines.recv_timeout(Duration::from_millis(500)) {
                on_line(&line);
            }
            return Ok(End::Exited(status));
        }
        if Instant::now() >= deadline {
            end(&mut child)?;
            while let Ok(line) = lines.try_recv() {
                on_line(&line);
            }
            return Ok(End::TimedOut);
        }
    }
}

fn end(child: &mut Child) -> Result<()> {
    let pid = Pid::from_raw(child.id().try_into().context("no such process id")?);
    // The program may have ended meanwhile.
    let _ = kill(pid, Signal::SIGTERM);
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if child
            .try_wait()
            .context("cannot wait for the program")?
            .is_some()
        {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().context("cannot end the program")?;
    child.wait().context("cannot wait for the program")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> (End, Vec<String>) {
        let mut lines = Vec::new();
        let end = watch(Command::new("sh").args(["-c", script]), limit, |line| {
            lines.push(line.to_owned())
        })
        .unwrap();
        (end, lines)
    }

    #[test]
    fn hands_over_lines_and_the_exit_code() {
        let (end, lines) = shell("printf 'one\\r\\ntwo'; exit 3", Duration::from_secs(60));
        assert!(matches!(end, End::Exited(status) if status.code() == Some(3)));
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn ends_what_takes_too_long() {
        let started = Instant::now();
        let (end, lines) = shell("echo begun; exec sleep 1000", Duration::from_secs(3));
        assert!(matches!(end, End::TimedOut));
        assert_eq!(lines, ["begun"]);
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn does_not_wait_for_a_grandchild_that_keeps_the_pipe() {
        let (end, lines) = shell("sleep 30 & echo done", Duration::from_secs(20));
        assert!(matches!(end, End::Exited(status) if status.success()));
        assert_eq!(lines, ["done"]);
    }
}
