//! The machine that the figures were measured on.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use super::Bench;
use crate::bench::figures::mebibytes;

/// A list: machine, date, command. It includes the load before the start, because a busy machine
/// distorts figures.
pub fn describe(bench: &Bench) -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    let model = value(&processors, "model name").unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel release")?;
    let memory = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let memory: u64 = value(&memory, "MemTotal")
        .and_then(|size| size.strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0);
    let load = fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("?");
    let date = Command::new("date")
        .args(["-u", "+%Y-%m-%d %H:%M UTC"])
        .output()
        .context("running date")?;
    let mut command = String::from("cargo xtask bench");
    if bench.options.quick {
        command.push_str(" --quick");
    }
    for part in &bench.options.parts {
        command.push(' ');
        command.push_str(part);
    }
    Ok(format!(
        "- Machine: {model}, {cores} cores, {}, Linux {}\n\
         - Date: {}; load average before the start {load}\n\
         - Command: `{command}`; backend {}\n",
        mebibytes(memory << 10),
        release.trim(),
        String::from_utf8_lossy(&date.stdout).trim(),
        bench.options.backend.name(),
    ))
}

/// The value of a line `NAME : VALUE`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}
