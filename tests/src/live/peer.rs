//! The far end: a network namespace with a veth pair to it.

use std::{
    collections::HashSet,
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

use super::{
    tools::{self, NAMESPACES, Netns, ip, ip_batch, run, set},
    waiting, wire,
};
use crate::guest::LOSS_PROBES;

/// Prefix of the namespaces' names; what follows is the same as in the names of the links.
pub const NAMESPACE_PREFIX: &str = "flow-test-";
/// Prefix of the near ends of all veth pairs. A pid and a number follow; they are removed once that
/// process is gone.
pub const LINK_PREFIX: &str = "ft";

/// A network namespace, a veth pair to it, and counters of what passes. Removed on drop, also if
/// the test panics.
#[derive(Debug)]
pub struct Peer {
    pub namespace: String,
    /// The near end of the veth pair, in the test's own namespace.
    pub link: String,
    pub far4: IpAddr,
    pub far6: IpAddr,
}

impl Peer {
    /// Creates one; `number` is unique within a process.
    pub fn new(number: u32, patience: Duration) -> Result<Self> {
        let tag = format!("{}-{number}", std::process::id());
        let subnet = free_subnet()?;
        let peer = Self {
            namespace: format!("{NAMESPACE_PREFIX}{tag}"),
            link: format!("{LINK_PREFIX}{tag}"),
            far4: Ipv4Addr::new(10, 200, subnet, 2).into(),
            far6: Ipv6Addr::new(0xfd00, 0x200, subnet.into(), 0, 0, 0, 0, 2).into(),
        };
        let (namespace, link, far) = (&peer.namespace, &peer.link, wire::FAR);
        let near6 = Ipv6Addr::new(0xfd00, 0x200, subnet.into(), 0, 0, 0, 0, 1);
        ip_batch(
            None,
            &[
                format!("netns add {namespace}"),
                format!("link add {link} type veth peer name {far} netns {namespace}"),
                format!("addr add 10.200.{subnet}.1/24 dev {link}"),
                format!("addr add {near6}/64 dev {link} nodad"),
            ],
        )?;
        wire::install(namespace, peer.far4)?;
        ip_batch(
            Some(namespace),
            &[
                format!("addr add {}/24 dev {far}", peer.far4),
                format!("addr add {}/64 dev {far} nodad", peer.far6),
                "link set lo up".to_owned(),
                format!("link set {far} up"),
            ],
        )?;
        ip(&format!("link set {link} up"))?;
        waiting::until(patience, "the veth pair to run", || {
            let running = getifaddrs()?.any(|address| {
                address.interface_name == *link
                    && address.flags.contains(InterfaceFlags::IFF_RUNNING)
            });
            Ok(running.then_some(()))
        })?;
        Ok(peer)
    }

    /// Ends the counting at the far end. It takes time of each packet there.
    pub fn stop_counting(&self) -> Result<()> {
        wire::remove(&self.namespace)
    }

    /// Makes TCP at both ends tolerate delayed acknowledgements.
    pub fn be_patient(&self) -> Result<()> {
        for (netns, device) in self.ends() {
            let routes = [
                format!("{}/24 dev {device}", network(self.far4, 24)),
                // The metric of the kernel's own route.
                format!("{}/64 metric 256 dev {device}", network(self.far6, 64)),
            ];
            ip_batch(netns, &routes.map(|route| patient(&route)))?;
        }
        set(Some(&self.namespace), LOSS_PROBES, "0")
    }

    /// Disables segmentation offload and GRO at both ends: each packet passes by itself.
    pub fn keep_whole(&self) -> Result<()> {
        for (netns, device) in self.ends() {
            let off = "tso off gso off gro off tx-udp-segmentation off";
            run(netns, &format!("ethtool -K {device} {off}"))?;
            // TCP creates large buffers all the same; they are segmented before the device.
            run(netns, &format!("ip link set {device} gso_max_segs 1"))?;
        }
        Ok(())
    }

    /// Both ends of the veth pair, each with its namespace.
    pub fn ends(&self) -> [(Netns<'_>, &str); 2] {
        [(None, &self.link), (Some(&self.namespace), wire::FAR)]
    }

    /// The namespace, for `setns(2)`.
    pub fn netns(&self) -> Result<File> {
        tools::open(&self.namespace)
    }

    /// The near end's address.
    pub fn near4(&self) -> IpAddr {
        match self.far4 {
            IpAddr::V4(far) => {
                let [a, b, c, _] = far.octets();
                Ipv4Addr::new(a, b, c, 1).into()
            }
            far @ IpAddr::V6(_) => far,
        }
    }

    /// Deletes the veth pair.
    pub fn delete_link(&self) -> Result<()> {
        ip(&format!("link del {}", self.link))
    }

    /// Removes the namespace's name; the namespace ends with its last process.
    pub fn delete_namespace(&self) -> Result<()> {
        ip(&format!("netns del {}", self.namespace))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both commands remove the veth pair. What is gone already needs no removal.
        let _ = ip(&format!("link del {}", self.link));
        let _ = self.delete_namespace();
    }
}

/// Removes what killed tests left behind.
pub fn remove_stale() {
    for link in names(Path::new("/sys/class/net"), LINK_PREFIX) {
        let _ = ip(&format!("link del {link}"));
    }
    for namespace in names(Path::new(NAMESPACES), NAMESPACE_PREFIX) {
        let _ = ip(&format!("netns del {namespace}"));
    }
}

/// Entries `PREFIX PID-NUMBER` of processes that are gone.
fn names(directory: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| owner(name, prefix).is_some_and(|pid| !is_alive(pid)))
        .collect()
}

fn owner(name: &str, prefix: &str) -> Option<u32> {
    let (pid, number) = name.strip_prefix(prefix)?.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

fn is_alive(pid: u32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}

/// The network of an address, by its length in bits.
fn network(address: IpAddr, length: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            Ipv4Addr::from_bits(address.to_bits() & u32::MAX << (32 - length)).into()
        }
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & u128::MAX << (128 - length)).into()
        }
    }
}

/// A third byte of 10.200.x.0/24 that is not in use here.
fn free_subnet() -> Result<u8> {
    let used: HashSet<u8> = getifaddrs()?
        .filter_map(|address| {
            let [10, 200, subnet, _] = address.address?.as_sockaddr_in()?.ip().octets() else {
                return None;
            };
            Some(subnet)
        })
        .collect();
    let first = (std::process::id() % 250) as u8;
    (0..250_u16)
        .map(|offset| ((u16::from(first) + offset) % 250 + 1) as u8)
        .find(|subnet| !used.contains(subnet))
        .context("every network 10.200.x.0/24 is in use")
}

/// The `ip` command that raises the minimum RTO of a route above the time for which a busy virtual
/// machine stalls. Otherwise TCP retransmits segments that have arrived; nftables counts these, and
/// often no socket takes them any more.
pub fn patient(route: &str) -> String {
    format!("route replace {route} proto kernel rto_min 2s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_kind_have_an_owner() {
        assert_eq!(owner("flow-test-12-3", NAMESPACE_PREFIX), Some(12));
        assert_eq!(owner("ft12-3", LINK_PREFIX), Some(12));
        assert_eq!(owner("ftp-12-3", LINK_PREFIX), None);
        assert_eq!(owner("ft12", LINK_PREFIX), None);
        assert_eq!(owner("eth0", LINK_PREFIX), None);
    }
}
