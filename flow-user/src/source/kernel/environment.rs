//! What surrounds Flow: its privileges, and what the system forbids. It explains why a trial was
//! refused; it decides nothing.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::Read as _,
    path::PathBuf,
};

use nix::sys::utsname::uname;
use serde::Serialize;

use crate::source::{cgroups::CgroupLayout, proc::INITIAL_PID_NAMESPACE};

/// Facts about the system and about Flow's own process. Absent means it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Environment {
    pub hostname: String,
    /// Kernel release, such as `6.12.0`.
    pub kernel: String,
    pub machine: String,
    /// Effective capabilities, by their names.
    pub capabilities: BTreeSet<Cap>,
    /// Whether system calls pass a seccomp filter, which may refuse them.
    pub seccomp: bool,
    /// Whether those count only inside a user namespace, where BPF asks for more.
    pub user_namespace: bool,
    /// Whether Flow sees the host's processes under other ids, or not at all.
    pub pid_namespace: bool,
    /// Mode of the kernel's lockdown: `none`, `integrity` or `confidentiality`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lockdown: Option<String>,
    /// Linux security modules at work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_modules: Option<Vec<String>>,
    /// `kernel.unprivileged_bpf_disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unprivileged_bpf_disabled: Option<i32>,
    /// `kernel.perf_event_paranoid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perf_event_paranoid: Option<i32>,
    /// Bytes that may be locked in memory; absent means no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memlock_bytes: Option<u64>,
    /// Whether the kernel publishes BTF that can be read.
    pub btf: bool,
    /// Where the root of the cgroup v2 tree is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_v2: Option<PathBuf>,
    /// Where a part of that tree is mounted whose root can't be reached, as in a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_v2_part: Option<PathBuf>,
    /// Whether cgroup v1 hierarchies are mounted too.
    pub cgroup_v1: bool,
    /// Whether the kernel was built with `CONFIG_KPROBES`, where it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kprobes_built: Option<bool>,
}

/// Capabilities of which Flow makes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Cap {
    CapBpf,
    CapPerfmon,
    CapNetAdmin,
    CapSysAdmin,
    CapSysPtrace,
    CapDacReadSearch,
    CapSysResource,
}

impl Cap {
    /// Every capability of which Flow makes use.
    pub const ALL: [Self; 7] = [
        Self::CapBpf,
        Self::CapPerfmon,
        Self::CapNetAdmin,
        Self::CapSysAdmin,
        Self::CapSysPtrace,
        Self::CapDacReadSearch,
        Self::CapSysResource,
    ];

    /// Name as in capabilities(7).
    pub const fn name(self) -> &'static str {
        match self {
            Self::CapBpf => "CAP_BPF",
            Self::CapPerfmon => "CAP_PERFMON",
            Self::CapNetAdmin => "CAP_NET_ADMIN",
            Self::CapSysAdmin => "CAP_SYS_ADMIN",
            Self::CapSysPtrace => "CAP_SYS_PTRACE",
            Self::CapDacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::CapSysResource => "CAP_SYS_RESOURCE",
        }
    }

    /// Bit in the masks of `/proc/PID/status`.
    const fn bit(self) -> u32 {
        match self {
            Self::CapDacReadSearch => 2,
            Self::CapNetAdmin => 12,
            Self::CapSysPtrace => 19,
            Self::CapSysAdmin => 21,
            Self::CapSysResource => 24,
            Self::CapPerfmon => 38,
            Self::CapBpf => 39,
        }
    }
}

impl Environment {
    /// Reads what there is to read; `btf` was read before.
    pub fn read(btf: bool) -> Self {
        let layout = CgroupLayout::read();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        // Not from /proc/sys, which may not be mounted.
        let (hostname, kernel) = uname().map_or_else(
            |_| Default::default(),
            |name| (text(name.nodename()), text(name.release())),
        );
        Self {
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

    /// Whether Flow may do what needs this capability. `CAP_SYS_ADMIN` stands in for the ones that
    /// were split off from it.
    pub fn may(&self, cap: Cap) -> bool {
        self.capabilities.contains(&cap)
            || (matches!(cap, Cap::CapBpf | Cap::CapPerfmon)
                && self.capabilities.contains(&Cap::CapSysAdmin))
    }

    /// Layout of the cgroup trees, in words.
    pub const fn cgroup_layout(&self) -> &'static str {
        if self.cgroup_v2_part.is_some() {
            return "a part of v2, without its root";
        }
        match (self.cgroup_v2.is_some(), self.cgroup_v1) {
            (true, false) => "v2",
            (true, true) => "hybrid: v1 controllers with a v2 tree",
            (false, true) => "v1 only",
            (false, false) => "not mounted",
        }
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
        let environment = Environment::read(true);
        assert!(!environment.kernel.is_empty());
    }
}
