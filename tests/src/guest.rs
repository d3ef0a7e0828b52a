//! The first process of a test guest.
//!
//! `cargo xtask vm` boots a kernel with an initramfs whose `/init` is this. It mounts what a
//! running system has mounted, loads the modules the initramfs carries, runs one command, reports
//! its exit code on the report terminal and powers off.
//!
//! Three files of the initramfs say what to do: [`MODULES`], a path and its parameters on each
//! line, dependencies first; [`COMMAND`], one argument on each line, the program first;
//! [`ENVIRONMENT`], `NAME=VALUE` lines.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::symlink,
    path::Path,
    process::{self, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        termios::tcdrain,
        wait::{WaitStatus, wait},
    },
    unistd::{Pid, sethostname, sync},
};

/// Modules to load: a path, maybe with parameters, on each line, each after its dependencies.
pub const MODULES: &str = "/flow-vm/modules";
/// The program to run and its arguments, one on each line.
pub const COMMAND: &str = "/flow-vm/command";
/// Environment of the command, `NAME=VALUE` lines.
pub const ENVIRONMENT: &str = "/flow-vm/environment";
/// The last line of a guest begins with this; the command's exit code follows.
pub const EXIT_LINE: &str = "FLOW-GUEST-EXIT";

/// The sysctl of TCP's tail loss probes, below `/proc/sys/net`: TCP retransmits its last segment if
/// the acknowledgement takes twice as long as usual, as it does whenever the machine that emulates
/// this one is busy.
pub const LOSS_PROBES: &str = "ipv4/tcp_early_retrans";

/// The second serial port. The first is the kernel's console, whose messages would break the
/// command's lines.
const REPORT: &str = "/dev/ttyS1";

/// Exit code if the guest could not run the command.
const NOT_RUN: i32 = 125;

/// What a guest mounts, in order: target, type, options.
const MOUNTS: [(&str, &str, &str); 13] = [
    ("/proc", "proc", ""),
    ("/sys", "sysfs", ""),
    ("/dev", "devtmpfs", "mode=0755"),
    ("/dev/pts", "devpts", "mode=0620,ptmxmode=0666"),
    ("/dev/shm", "tmpfs", "mode=1777"),
    ("/run", "tmpfs", "mode=0755"),
    ("/tmp", "tmpfs", "mode=1777"),
    ("/sys/fs/cgroup", "cgroup2", ""),
    ("/sys/fs/bpf", "bpf", "mode=0700"),
    ("/sys/kernel/debug", "debugfs", ""),
    ("/sys/kernel/tracing", "tracefs", ""),
    ("/sys/kernel/security", "securityfs", ""),
    ("/sys/kernel/config", "configfs", ""),
];

/// Whether this is a test guest: no other traffic, and a kernel that lacks nothing.
pub fn is_here() -> bool {
    Path::new(MODULES).exists()
}

/// Runs the guest and powers it off. Only for process 1.
pub fn run() -> ! {
    let mut report = None;
    let code = boot_and_run(&mut report).unwrap_or_else(|error| {
        print_line(&mut report, &format!("guest: {error:#}"));
        NOT_RUN
    });
    print_line(&mut report, &format!("{EXIT_LINE} {code}"));
    sync();
    // It returns only on failure. The end of process 1 is then a panic, which ends the machine as
    // well.
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    print_line(&mut report, &format!("guest: cannot power off: {error}"));
    process::exit(1)
}

fn boot_and_run(report: &mut Option<File>) -> Result<i32> {
    mount_all()?;
    let report = report.insert(open_report()?);
    for line in read(MODULES)?.lines() {
        let (path, parameters) = line.split_once(' ').unwrap_or((line, ""));
        load_module(Path::new(path), parameters)?;
    }
    sethostname("flow-guest").context("cannot set the host's name")?;
    bring_up_loopback()?;
    no_loss_probes()?;
    run_command(report)
}

fn mount_all() -> Result<()> {
    for (target, kind, options) in MOUNTS {
        match fs::create_dir_all(target) {
            // A file system that this kernel lacks has no mount point, and none can be created in
            // sysfs.
            Err(_) if target.starts_with("/sys/") => continue,
            result => result.with_context(|| format!("cannot make {target}"))?,
        }
        match mount(
            Some(kind),
            target,
            Some(kind),
            MsFlags::empty(),
            Some(options),
        ) {
            Err(Errno::ENODEV) if target.starts_with("/sys/kernel/") => {}
            result => result.with_context(|| format!("cannot mount {kind} on {target}"))?,
        }
    }
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
    ] {
        match symlink(target, link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make {link}"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn open_report() -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(REPORT)
        .with_context(|| format!("cannot open {REPORT}"))
}

fn load_module(path: &Path, parameters: &str) -> Result<()> {
    let parameters = CString::new(parameters).context("module parameters hold a NUL")?;
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    match finit_module(&file, &parameters, ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot load {}", path.display())),
    }
}

fn bring_up_loopback() -> Result<()> {
    let status = Command::new("/usr/sbin/ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .context("cannot start ip")?;
    ensure!(status.success(), "ip link set lo up: {status}");
    Ok(())
}

/// Disables loss probes in the first network namespace; others have the kernel's default.
fn no_loss_probes() -> Result<()> {
    let path = format!("/proc/sys/net/{LOSS_PROBES}");
    fs::write(&path, "0").with_context(|| format!("cannot write {path}"))
}

/// Runs the command of [`COMMAND`] and returns its exit code, 128 and the signal if it was killed.
fn run_command(report: &File) -> Result<i32> {
    let text = read(COMMAND)?;
    let mut words = text.lines();
    let program = words
        .next()
        .with_context(|| format!("{COMMAND} is empty"))?;
    let environment = read(ENVIRONMENT)?;
    let child = Command::new(program)
        .args(words)
        .env_clear()
        .envs(environment.lines().filter_map(|line| line.split_once('=')))
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(report.try_clone()?)
        .stderr(report.try_clone()?)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let child = Pid::from_raw(child.id().try_into()?);
    loop {
        // Process 1 inherits all orphans: reap each, so that no zombie keeps its pid.
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => return Ok(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                return Ok(128 + signal as i32);
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot wait for {program}")),
        }
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

/// Prints a line on the report terminal, or on the console without one, and waits until the port
/// has sent it.
fn print_line(report: &mut Option<File>, line: &str) {
    // A failed write cannot be reported.
    let _ = match report {
        Some(report) => writeln!(report, "{line}").map(|()| {
            let _ = tcdrain(&*report);
        }),
        None => writeln!(io::stderr(), "{line}"),
    };
}
