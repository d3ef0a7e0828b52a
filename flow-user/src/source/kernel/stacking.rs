//! How the host's interfaces lie on top of one another, for the classifiers.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use flow_common::interface::{link, stacking};

use crate::source::interfaces::Link;

/// What the classifiers must know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stacking {
    /// Bits of [`stacking`].
    pub bits: u32,
    /// Bits of [`link`], and the master, by index of the interface.
    pub links: BTreeMap<u32, (u32, u32)>,
}

/// Kinds whose `IFLA_LINK` names the other end of a pair.
const PAIRS: [&str; 3] = ["veth", "netkit", "vxcan"];
/// Kinds whose packets a process reads from a device file.
const TAPS: [&str; 2] = ["macvtap", "ipvtap"];
/// Kinds that get what IPsec decrypted.
const DECRYPTS: [&str; 3] = ["xfrm", "vti", "vti6"];
/// Interfaces of this kind give back what they get (`ifb_ri_tasklet`).
const LOOPS: &str = "ifb";

impl Stacking {
    /// Works it out. `mirrors` are targets of mirrors, `carries_others` says that some of the interfaces
    /// carry the packets of interfaces in other namespaces.
    pub fn of<'a>(
        links: impl Iterator<Item = &'a Link> + Clone,
        mirrors: &HashSet<u32>,
        carries_others: bool,
    ) -> Self {
        let kind = |link: &Link, kinds: &[&str]| {
            link.kind
                .as_deref()
                .is_some_and(|kind| kinds.contains(&kind))
        };
        // The interface below, and the one above.
        let mut pairs = BTreeSet::new();
        let mut vrfs = HashSet::new();
        let mut has_others = carries_others;
        for link in links.clone() {
            if let Some(master) = link.master {
                pairs.insert((link.ifindex, master));
            }
            if let Some(parent) = link.parent {
                if parent.netns_id.is_some() {
                    has_others = true;
                } else if !kind(link, &PAIRS) {
                    pairs.insert((parent.ifindex, link.ifindex));
                }
            }
            if kind(link, &["vrf"]) {
                vrfs.insert(link.ifindex);
            }
        }
        let uppers: HashSet<u32> = pairs.iter().map(|(_, upper)| *upper).collect();
        let queued: HashSet<u32> = links
            .clone()
            .filter(|link| link.queues && uppers.contains(&link.ifindex))
            .map(|link| link.ifindex)
            .collect();
        let below_queued: HashSet<u32> = pairs
            .iter()
            .filter(|(_, upper)| queued.contains(upper))
            .map(|(lower, _)| *lower)
            .collect();
        let mut bits = 0;
        if has_others || !pairs.is_empty() {
            bits |= stacking::STACKED;
        }
        let mut described = BTreeMap::new();
        for link in links {
            let ifindex = link.ifindex;
            let is_in_vrf = link.master.is_some_and(|master| vrfs.contains(&master));
            let is_tap = kind(link, &TAPS);
            let is_loop = kind(link, &[LOOPS]);
            let mut flags = 0;
            for (bit, is_set) in [
                (link::UPPER, uppers.contains(&ifindex)),
                (link::COPIES, is_loop || mirrors.contains(&ifindex)),
                (link::LOOPS, is_loop),
                (link::QUEUED, queued.contains(&ifindex)),
                (link::BELOW_QUEUED, below_queued.contains(&ifindex)),
                (link::TAP, is_tap),
                (link::IN_VRF, is_in_vrf),
                (link::DECRYPTS, kind(link, &DECRYPTS)),
            ] {
                if is_set {
                    flags |= bit;
                }
            }
            if flags != 0 && link.up {
                // Where it is not set, flags are not looked at.
                bits |= stacking::STACKED;
            }
            if is_in_vrf {
                bits |= stacking::VRF;
            }
            for (bit, is_set) in [(stacking::TAP, is_tap), (stacking::LOOPS, is_loop)] {
                if is_set && link.up {
                    bits |= bit;
                }
            }
            described.insert(ifindex, (flags, link.master.unwrap_or(0)));
        }
        Self {
            bits,
            links: described,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::source::interfaces::{Counters, GsoLimits, Parent};

    fn link_of(ifindex: u32, kind: &str) -> Link {
        Link {
            ifindex,
            name: Arc::from(format!("if{ifindex}")),
            up: true,
            kind: Some(Arc::from(kind)),
            hardware: libc::ARPHRD_ETHER,
            master: None,
            parent: None,
            queues: false,
            gso: GsoLimits::default(),
            counters: Counters::default(),
        }
    }

    fn of(links: &[Link]) -> Stacking {
        Stacking::of(links.iter(), &HashSet::new(), false)
    }

    fn below(mut link: Link, ifindex: u32, netns_id: Option<u32>) -> Link {
        link.parent = Some(Parent { ifindex, netns_id });
        link
    }

    #[test]
    fn a_host_of_plain_interfaces_needs_nothing() {
        let pair = [
            below(link_of(2, "veth"), 3, None),
            below(link_of(3, "veth"), 2, None),
        ];
        let plain = of(&pair);
        assert_eq!(plain.bits, 0);
        assert_eq!(plain.links[&2], (0, 0));
    }

    #[test]
    fn a_container_or_a_parent_in_use_elsewhere_makes_it_look() {
        assert_eq!(
            of(&[below(link_of(2, "veth"), 3, Some(0))]).bits,
            stacking::STACKED
        );
        let elsewhere = Stacking::of([link_of(2, "")].iter(), &HashSet::new(), true);
        assert_eq!(elsewhere.bits, stacking::STACKED);
    }

    #[test]
    fn ports_and_parents_are_below() {
        let mut port = link_of(2, "veth");
        port.master = Some(3);
        let mut bridge = link_of(3, "bridge");
        bridge.queues = true;
        let vlan = below(link_of(4, "vlan"), 3, None);
        let seen = of(&[port, bridge, vlan]);
        assert_eq!(seen.bits, stacking::STACKED);
        assert_eq!(seen.links[&2], (link::BELOW_QUEUED, 3));
        assert_eq!(seen.links[&3].0, link::UPPER | link::QUEUED);
        assert_eq!(seen.links[&4].0, link::UPPER);
    }

    #[test]
    fn vrf_tap_ifb_and_mirror_are_known() {
        let mut port = link_of(2, "veth");
        port.master = Some(3);
        let links = [
            port,
            link_of(3, "vrf"),
            below(link_of(4, "macvtap"), 2, None),
            link_of(5, "ifb"),
            link_of(6, "dummy"),
        ];
        let seen = Stacking::of(links.iter(), &HashSet::from([6]), false);
        assert_eq!(seen.bits, stacking::STACKED | stacking::VRF | stacking::TAP);
        assert_eq!(seen.links[&2], (link::IN_VRF, 3));
        assert_eq!(seen.links[&4].0, link::UPPER | link::TAP);
        assert_eq!(seen.links[&5].0, link::COPIES | link::LOOPS);
        assert_eq!(seen.links[&6].0, link::COPIES);
    }
}
