//! Boots a kernel with an initramfs under QEMU; the guest reports how its command ended.

use std::{
    env::consts::ARCH,
    fs::{self, OpenOptions},
    num::NonZero,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};

use crate::watch::{End, watch};

/// The guest's last line begins with this, as in `tests/src/guest.rs`.
const EXIT_LINE: &str = "FLOW-GUEST-EXIT";

/// Processors of a guest.
const PROCESSORS: usize = 2;

/// Emulates all processors in one thread. In several threads, one may still run an instruction that
/// another has replaced; then a kernel that patches its own code, as it does for each program
/// attached to a tracepoint, panics.
const EMULATION: &str = "tcg,thread=single";
/// The emulated processor, without features that are slow to emulate: fast string instructions,
/// five-level page tables.
const EMULATED: &str = "max,erms=off,fsrm=off,la57=off";
/// Kernel parameters that disable mitigations and slow emulated clocks.
const WHEN_EMULATED: &str = "mitigations=off clocksource=tsc tsc=reliable";

/// How a guest ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its command ended with this exit code.
    Exited(i32),
    /// QEMU ended before the guest reported an exit code: a kernel panic, or QEMU could not start.
    Broken,
    TimedOut,
}

/// Boots `image` with `initramfs`. The output of the guest's command goes to `on_line`, the
/// kernel's messages to the file `log`.
///
/// # Errors
/// When QEMU cannot be started.
pub fn boot(
    image: &Path,
    initramfs: &Path,
    log: &Path,
    limit: Duration,
    mut on_line: impl FnMut(&str),
) -> Result<Verdict> {
    ensure!(
        ARCH == "x86_64",
        "the kernels of the matrix are for x86-64, this machine is {ARCH}"
    );
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
        "-machine",
        "q35",
        "-m",
        "2048",
    ])
    .args(["-smp", &PROCESSORS.to_string()])
    .arg("-kernel")
    .arg(image)
    .arg("-initrd")
    .arg(initramfs);
    // A panic ends the machine at once. Modules of tunnels create no default interfaces in network
    // namespaces.
    let mut parameters = "console=ttyS0 quiet panic=-1 fb_tunnels=none".to_owned();
    if has_virtualization() {
        qemu.args(["-accel", "kvm", "-cpu", "max"]);
    } else {
        qemu.args(["-accel", EMULATION, "-cpu", EMULATED]);
        parameters = format!("{parameters} {WHEN_EMULATED}");
    }
    qemu.args(["-append", &parameters])
        .arg("-serial")
        .arg(format!("file:{}", log.display()))
        .args(["-serial", "stdio"]);

    let mut code = None;
    let end = watch(&mut qemu, limit, |line| {
        match line.strip_prefix(EXIT_LINE) {
            Some(rest) => code = rest.trim().parse().ok(),
            None => on_line(line),
        }
    })?;
    Ok(match (code, end) {
        (Some(code), _) => Verdict::Exited(code),
        (None, End::Exited(_)) => Verdict::Broken,
        (None, End::TimedOut) => Verdict::TimedOut,
    })
}

/// How many cells may run at a time.
pub fn at_once() -> usize {
    const MOST: usize = 4;
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let per_guest = if has_virtualization() { PROCESSORS } else { 1 };
    (processors / per_guest).clamp(1, MOST)
}

/// The kernel's last message, as the end of a sentence.
pub fn last_words(log: &Path) -> String {
    const LINES: usize = 30;
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        return "its kernel printed nothing".to_owned();
    }
    let last = &lines[lines.len().saturating_sub(LINES)..];
    format!(
        "its kernel's last words, from {}:\n{}",
        log.display(),
        last.join("\n")
    )
}

/// Whether KVM works on this machine.
///
/// The device alone does not prove it: inside some virtual machines it exists, and guests hang
/// while they boot.
fn has_virtualization() -> bool {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let able = processor
        .split_whitespace()
        .any(|flag| flag == "vmx" || flag == "svm");
    let allowed = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    able && allowed
}
