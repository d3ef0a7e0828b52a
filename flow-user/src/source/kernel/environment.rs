//! Reads what surrounds Flow: its privileges, and what the system forbids. It explains why a trial
//! was refused; it decides nothing.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::Read as _,
};

use nix::sys::utsname::uname;

use crate::{
    event::doctor::{Cap, Environment},
    source::{cgroups::CgroupLayout, proc::INITIAL_PID_NAMESPACE},
};

/// Reads what there is to read; `btf` was read before.
pub fn read(btf: bool) -> Environment {
    let layout = CgroupLayout::read();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Not from /proc/sys, which may not be mounted.
    let (hostname, kernel) = uname().map_or_else(
        |_| Default::default(),
        |name| (text(name.nodename()), text(name.release())),
    );
    Environment {
        hostname,
        machine: std::env::consts::ARCH.into(),
        capabilities: effective_capabilities(&status),
        seccomp: is_filtered(&status),
        user_namespace: fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| !is_initial_user_namespace(&map)),
        pid_namespace: fs::read_link("/proc/self/ns/pid")
            .is_ok_and(|link| link.as_os_str() != INITIAL_PID_NAMESPACE),
        lockdown: line("/sys/kernel/security/lockdown").and_then(|modes| selected(&modes)),
        security_modules: line("/sys/kernel/security/lsm")
            .map(|list| list.split(',').map(Into::into).collect()),
        unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        perf_event_paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
        memlock_bytes: memlock(),
        btf,
        cgroup_v2: layout.v2_root,
        cgroup_v2_part: layout.v2_part,
        cgroup_v1: layout.v1,
        kprobes_built: kernel_config(&kernel).map(|config| is_built(&config, "CONFIG_KPROBES")),
        kernel,
    }
}

/// Largest kernel configuration that is read, unpacked.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

fn line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().into())
}

fn number(path: &str) -> Option<i32> {
    line(path)?.parse().ok()
}

/// The word in brackets, as in `none [integrity] confidentiality`.
pub(crate) fn selected(modes: &str) -> Option<String> {
    let (_, rest) = modes.split_once('[')?;
    rest.split_once(']').map(|(mode, _)| mode.into())
}

/// The capabilities in the mask of `/proc/PID/status`.
pub(crate) fn effective_capabilities(status: &str) -> BTreeSet<Cap> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    Cap::ALL
        .into_iter()
        .filter(|cap| mask >> cap.bit() & 1 == 1)
        .collect()
}

/// Mode 2 of seccomp is a filter.
fn is_filtered(status: &str) -> bool {
    let mut modes = status
        .lines()
        .filter_map(|line| line.strip_prefix("Seccomp:"));
    modes.any(|mode| mode.trim() == "2")
}

/// In the initial user namespace every id maps to itself.
pub(crate) fn is_initial_user_namespace(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn memlock() -> Option<u64> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    (soft != RLIM_INFINITY).then_some(soft)
}

/// The configuration the kernel was built with, where it or the distribution publishes it.
fn kernel_config(release: &str) -> Option<String> {
    let mut text = String::new();
    if let Ok(packed) = File::open("/proc/config.gz") {
        flate2::read::GzDecoder::new(packed)
            .take(MAX_CONFIG_BYTES)
            .read_to_string(&mut text)
            .ok()?;
    } else {
        File::open(format!("/boot/config-{release}"))
            .ok()?
            .take(MAX_CONFIG_BYTES)
            .read_to_string(&mut text)
            .ok()?;
    }
    Some(text)
}

/// Whether a kernel configuration has an option, built in or as a module.
pub(crate) fn is_built(config: &str, option: &str) -> bool {
    config
        .lines()
        .filter_map(|line| line.strip_prefix(option))
        .any(|value| value == "=y" || value == "=m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_mask() {
        let caps = effective_capabilities("Name:\tx\nCapEff:\t000000c000001000\n");
        assert_eq!(
            caps.into_iter().collect::<Vec<_>>(),
            [Cap::CapBpf, Cap::CapPerfmon, Cap::CapNetAdmin]
        );
        assert!(effective_capabilities("nothing").is_empty());
        assert!(is_filtered(
            "NoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n"
        ));
        assert!(!is_filtered("Seccomp:\t0\n"));
    }

    #[test]
    fn the_old_capability_stands_in_for_the_new_ones() {
        let environment = Environment {
            capabilities: [Cap::CapSysAdmin].into(),
            ..Environment::default()
        };
        assert!(environment.may(Cap::CapBpf));
        assert!(!environment.may(Cap::CapNetAdmin));
    }

    #[test]
    fn lines_of_the_kernel_are_understood() {
        assert_eq!(selected("none [integrity] x").as_deref(), Some("integrity"));
        assert_eq!(selected("none"), None);
        assert!(is_initial_user_namespace(
            "         0          0 4294967295\n"
        ));
        assert!(!is_initial_user_namespace("0 1000 1\n"));
        assert!(is_built(
            "CONFIG_KPROBES_ON=n\nCONFIG_KPROBES=y\n",
            "CONFIG_KPROBES"
        ));
        assert!(!is_built("# CONFIG_KPROBES is not set\n", "CONFIG_KPROBES"));
    }

    #[test]
    fn this_machine_can_be_read() {
        let environment = read(true);
        assert!(!environment.kernel.is_empty());
    }
}
