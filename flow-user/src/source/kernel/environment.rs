//! Reads what surrounds Flow: its privileges, and what the system forbids. It explains why a trial
//! was refused; it decides nothing.

use std::{collections::BTreeSet, ffi::OsStr, fs};

use nix::sys::utsname::uname;
use procfs::{
    ConfigSetting,
    process::{Process, Status},
};
use strum::IntoEnumIterator as _;

use crate::{
    event::doctor::{Cap, Environment},
    source::{cgroups::CgroupLayout, proc::INITIAL_PID_NAMESPACE},
};

/// Reads what there is to read; `btf` was read before.
pub fn read(btf: bool) -> Environment {
    let layout = CgroupLayout::read();
    let status = Process::myself().and_then(|own| own.status()).ok();
    // Not from /proc/sys, which may not be mounted.
    let (hostname, kernel) = uname().map_or_else(
        |_| Default::default(),
        |name| (text(name.nodename()), text(name.release())),
    );
    Environment {
        hostname,
        machine: std::env::consts::ARCH.into(),
        capabilities: status.as_ref().map_or_else(BTreeSet::new, effective),
        seccomp: status.is_some_and(|status| status.seccomp == Some(SECCOMP_FILTER)),
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
        kprobes_built: is_built("CONFIG_KPROBES"),
        kernel,
    }
}

/// `SECCOMP_MODE_FILTER`.
const SECCOMP_FILTER: u32 = 2;

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

/// The effective capabilities of a process.
fn effective(status: &Status) -> BTreeSet<Cap> {
    let mask = status.capeff;
    let has = |cap: &Cap| mask >> cap.bit() & 1 == 1;
    Cap::iter().filter(has).collect()
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

/// Whether the kernel was built with an option, as a module or not. Unknown where neither the kernel
/// nor the distribution publishes its configuration.
fn is_built(option: &str) -> Option<bool> {
    let config = procfs::kernel_config().ok()?;
    let setting = config.get(option);
    Some(matches!(
        setting,
        Some(ConfigSetting::Yes | ConfigSetting::Module)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn this_machine_can_be_read() {
        let environment = read(true);
        assert!(!environment.kernel.is_empty());
        // As another reader says it.
        let mask = fs::read_to_string("/proc/self/status").unwrap();
        let mask = mask.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
        for cap in Cap::iter() {
            let has = environment.capabilities.contains(&cap);
            assert_eq!(has, mask & 1 << cap.bit() != 0, "{cap:?}");
        }
    }
}
