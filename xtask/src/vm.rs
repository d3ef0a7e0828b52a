//! Boots a kernel with an initramfs under QEMU, and hears from the guest how its command ended.

use std::{
    env::consts::ARCH,
    fs::{self, OpenOptions},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};

use crate::watch::{End, watch};

/// What the guest writes last; `tests/src/guest.rs` has the same words.
const EXIT_LINE: &str = "FLOW-GUEST-EXIT";

/// How a guest ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its command ran and gave this exit code.
    Exited(i32),
    /// QEMU ended before the guest told of its command: a kernel panic, or QEMU could not start.
    Broken,
    TimedOut,
}

/// Boots `image` with `initramfs`. What the guest's command prints goes to `on_line`, what the kernel says into the file `log`.
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
        "-cpu",
        "max",
    ])
    .args(["-accel", accelerator(), "-smp", "2", "-m", "2048"])
    .arg("-kernel")
    .arg(image)
    .arg("-initrd")
    .arg(initramfs)
    // A panic ends the machine at once.
    .args(["-append", "console=ttyS0 quiet panic=-1"])
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

/// What the kernel said last, as the end of a sentence.
pub fn last_words(log: &Path) -> String {
    const LINES: usize = 30;
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        return "its kernel said nothing".to_owned();
    }
    let last = &lines[lines.len().saturating_sub(LINES)..];
    format!(
        "its kernel's last words, from {}:\n{}",
        log.display(),
        last.join("\n")
    )
}

/// The processor's own virtualization where this machine can lend it, else emulation.
///
/// The device alone says little: inside some virtual machines it is there, and guests that use it stop in mid-boot.
fn accelerator() -> &'static str {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let able = processor
        .split_whitespace()
        .any(|flag| flag == "vmx" || flag == "svm");
    let allowed = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    if able && allowed { "kvm" } else { "tcg" }
}
