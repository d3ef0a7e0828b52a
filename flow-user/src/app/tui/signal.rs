//! Sends a signal to a process, and never to another that has reused its pid.

use std::{io, process};

use nix::sys::signal::Signal;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal},
};

use crate::{source::proc::Proc, tui::Target};

/// Why no signal was sent.
#[derive(Debug, thiserror::Error)]
pub enum NotSent {
    #[error("{0} is the init process, without which the system stops: Flow sends it no signal")]
    First(String),
    #[error("{0} is Flow itself; q ends it")]
    Itself(String),
    #[error("{0} is gone: nothing was sent")]
    Gone(String),
    #[error("not permitted to signal {0}: start Flow as root, or with CAP_KILL")]
    NotPermitted(String),
    #[error("this machine has no signal {0}")]
    NoSignal(Signal),
    #[error("cannot signal {name}: {step}: {source}")]
    Other {
        name: String,
        step: &'static str,
        source: io::Error,
    },
}

/// Sends a signal.
///
/// A pidfd refers to one process, whatever happens to the pid. The start time is compared after the
/// pidfd is opened: if it is the target's, then so is the pidfd. Had the pidfd been opened on an
/// earlier process of that pid, that one would have exited by now, and the signal would fail.
///
/// # Errors
/// The process is gone, or Flow may not signal it.
pub fn send(target: &Target, signal: Signal) -> Result<(), NotSent> {
    let name = || target.name.clone();
    let failed = |step| move |errno: Errno| NotSent::of(errno, target.name.clone(), step);
    match target.id.pid {
        1 => return Err(NotSent::First(name())),
        pid if pid == process::id() => return Err(NotSent::Itself(name())),
        _ => {}
    }
    let pid = i32::try_from(target.id.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| NotSent::Gone(name()))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(failed("pidfd_open"))?;
    match Proc::new().id(target.id.pid) {
        Ok(id) if id == target.id => {}
        _ => return Err(NotSent::Gone(name())),
    }
    let raw = rustix::process::Signal::from_named_raw(signal as i32);
    let raw = raw.ok_or(NotSent::NoSignal(signal))?;
    pidfd_send_signal(pidfd, raw).map_err(failed("pidfd_send_signal"))
}

impl NotSent {
    fn of(errno: Errno, name: String, step: &'static str) -> Self {
        match errno {
            Errno::SRCH => Self::Gone(name),
            Errno::PERM => Self::NotPermitted(name),
            errno => Self::Other {
                name,
                step,
                source: errno.into(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::ExitStatusExt as _,
        process::{Child, Command},
    };

    use super::*;
    use crate::event::Instant;

    /// A process that does nothing for an hour, and is killed when the test ends.
    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> (Self, Target) {
            let child = Command::new("sleep").arg("3600").spawn().unwrap();
            let id = Proc::new().id(child.id()).unwrap();
            let name = format!("{} sleep", id.pid);
            (Self(child), Target { id, name })
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn the_process_gets_the_signal_that_was_chosen() {
        for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGUSR1] {
            let (mut sleeper, target) = Sleeper::start();
            send(&target, signal).unwrap();
            let status = sleeper.0.wait().unwrap();
            assert_eq!(status.signal(), Some(signal as i32));
        }
    }

    #[test]
    fn another_process_of_the_same_pid_gets_nothing() {
        let (mut sleeper, target) = Sleeper::start();
        let mut earlier = target.clone();
        earlier.id.start = Instant(target.id.start.0 - 10_000_000);
        let error = send(&earlier, Signal::SIGKILL).unwrap_err();
        assert!(matches!(error, NotSent::Gone(_)), "{error}");
        // The process is still there, and its own identity works.
        assert!(sleeper.0.try_wait().unwrap().is_none());
        send(&target, Signal::SIGTERM).unwrap();
        assert_eq!(sleeper.0.wait().unwrap().signal(), Some(15));
        let error = send(&target, Signal::SIGTERM).unwrap_err();
        assert!(error.to_string().contains("is gone"), "{error}");
    }

    #[test]
    fn flow_itself_and_the_first_process_are_left_alone() {
        let to = |pid| {
            let id = Proc::new().id(pid).unwrap();
            let name = format!("{pid} x");
            // Harmless, if it were sent.
            send(&Target { id, name }, Signal::SIGCONT).unwrap_err()
        };
        assert!(matches!(to(process::id()), NotSent::Itself(_)));
        assert!(matches!(to(1), NotSent::First(_)));
    }

    #[test]
    fn an_error_of_the_kernel_is_reported_with_what_to_do() {
        let error = NotSent::of(Errno::PERM, "7 x".into(), "pidfd_send_signal");
        assert!(error.to_string().contains("CAP_KILL"), "{error}");
        let error = NotSent::of(Errno::MFILE, "7 x".into(), "pidfd_open");
        assert!(error.to_string().contains("pidfd_open"), "{error}");
    }
}
