//! How the host's interfaces lie on top of one another, for the classifiers.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use flow_common::interface::{kinds, link, stacking};

use crate::source::interfaces::Link;

/// What the classifiers must know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stacking {
    /// Bits of [`stacking`].
    pub bits: u32,
    /// By index of the interface.
    pub links: BTreeMap<u32, Place>,
}

/// Where an interface lies among others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Bits of [`link`].
    pub flags: u32,
    /// The bridge, bond or VRF that it is a port of, or 0.
    pub master: u32,
    /// The one interface below it; 0 if there is none, or several.
    pub lower: u32,
}

/// Kinds whose packets the interface that `IFLA_LINK` names carries as they are. Of tunnels it
/// carries what they make of them, and of pairs it is the other end.
pub const CARRIED: [&str; 5] = ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"];
/// Kinds whose `IFLA_LINK` is the other end of a pair.
const PAIRS: [&str; 3] = ["veth", "netkit", "vxcan"];
/// Kinds that get packets from other interfaces, which may join them at any time.
const MASTERS: [&str; 7] = [
    "bridge",
    "bond",
    "team",
    "vrf",
    "hsr",
    "batadv",
    "openvswitch",
];

/// Kinds whose packets a process reads from a device file.
const TAPS: [&str; 2] = ["macvtap", "ipvtap"];
/// Kinds that get what IPsec decrypted.
const DECRYPTS: [&str; 3] = ["xfrm", "vti", "vti6"];
/// Kinds that put packets into others, and hand those on at once.
const TUNNELS: [&str; 12] = [
    "gre",
    "gretap",
    "ip6gre",
    "ip6gretap",
    "erspan",
    "ip6erspan",
    "ipip",
    "sit",
    "ip6tnl",
    "vxlan",
    "geneve",
    "bareudp",
];
/// Interfaces of this kind give back what they get (`ifb_ri_tasklet`).
const LOOPS: &str = "ifb";
/// Interfaces of this kind fill packets up (`calculate_skb_padding`).
const PADS: &str = "wireguard";

/// What an interface is for good, as far as its place among others shows: bits of [`kinds`].
pub fn kinds_of(link: &Link, place: Place) -> u32 {
    let kind = link.kind.as_deref();
    let is_of_pair = kind.is_some_and(|kind| PAIRS.contains(&kind));
    let has_parent = link.parent.is_some_and(|parent| parent.netns_id.is_none()) && !is_of_pair;
    let is_master = kind.is_some_and(|kind| MASTERS.contains(&kind));
    let mut bits = 0;
    if has_parent || is_master || place.flags & link::UPPER != 0 {
        bits |= kinds::UPPER;
    }
    if kind == Some(PADS) {
        bits |= kinds::PADS;
    }
    bits
}

impl Stacking {
    /// Works it out. `mirrors` are targets of mirrors, `carries_others` says that some of the
    /// interfaces carry the packets of interfaces in other namespaces.
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
                } else if kind(link, &CARRIED) {
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
                (link::TUNNEL, kind(link, &TUNNELS)),
            ] {
                if is_set {
                    flags |= bit;
                }
            }
            if flags & !link::TUNNEL != 0 && link.is_set_up {
                // Where it is not set, flags are not looked at.
                bits |= stacking::STACKED;
            }
            if is_in_vrf {
                bits |= stacking::VRF;
            }
            let decrypts = kind(link, &DECRYPTS);
            for (bit, is_set) in [
                (stacking::TAP, is_tap),
                (stacking::LOOPS, is_loop),
                (stacking::DECRYPTS, decrypts),
            ] {
                if is_set && link.is_set_up {
                    bits |= bit;
                }
            }
            let mut lowers = pairs.iter().filter(|(_, upper)| *upper == ifindex);
            let lower = match (lowers.next(), lowers.next()) {
                (Some((lower, _)), None) => *lower,
                _ => 0,
            };
            let master = link.master.unwrap_or(0);
            let place = Place {
                flags,
                master,
                lower,
            };
            described.insert(ifindex, place);
        }
        Self {
            bits,
            links: described,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::interfaces::Parent;

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
            below(Link::of_kind(2, "veth"), 3, None),
            below(Link::of_kind(3, "veth"), 2, None),
        ];
        let plain = of(&pair);
        assert_eq!(plain.bits, 0);
        assert_eq!(plain.links[&2], Place::default());
    }

    #[test]
    fn the_other_end_of_a_pair_is_not_below_it() {
        let kinds = |link| kinds_of(&link, Place::default());
        for kind in ["veth", "netkit", "vxcan"] {
            assert_eq!(kinds(below(Link::of_kind(2, kind), 3, None)), 0, "{kind}");
        }
        assert_eq!(
            kinds(below(Link::of_kind(2, "vlan"), 3, None)),
            kinds::UPPER
        );
        assert_eq!(kinds(below(Link::of_kind(2, "dsa"), 3, None)), kinds::UPPER);
    }

    #[test]
    fn a_container_or_a_parent_in_use_elsewhere_makes_it_look() {
        assert_eq!(
            of(&[below(Link::of_kind(2, "veth"), 3, Some(0))]).bits,
            stacking::STACKED
        );
        let elsewhere = Stacking::of([Link::of_kind(2, "")].iter(), &HashSet::new(), true);
        assert_eq!(elsewhere.bits, stacking::STACKED);
    }

    #[test]
    fn ports_and_parents_are_below() {
        let mut port = Link::of_kind(2, "veth");
        port.master = Some(3);
        let mut bridge = Link::of_kind(3, "bridge");
        bridge.queues = true;
        let vlan = below(Link::of_kind(4, "vlan"), 3, None);
        let seen = of(&[port, bridge, vlan]);
        assert_eq!(seen.bits, stacking::STACKED);
        let port = seen.links[&2];
        assert_eq!((port.flags, port.master), (link::BELOW_QUEUED, 3));
        let bridge = seen.links[&3];
        assert_eq!(bridge.flags, link::UPPER | link::QUEUED);
        assert_eq!(bridge.lower, 2);
        assert_eq!(seen.links[&4].flags, link::UPPER);
    }

    #[test]
    fn vrf_tap_ifb_and_mirror_are_known() {
        let mut port = Link::of_kind(2, "veth");
        port.master = Some(3);
        let links = [
            port,
            Link::of_kind(3, "vrf"),
            below(Link::of_kind(4, "macvtap"), 2, None),
            Link::of_kind(5, "ifb"),
            Link::of_kind(6, "dummy"),
        ];
        let seen = Stacking::of(links.iter(), &HashSet::from([6]), false);
        let bits = stacking::STACKED | stacking::VRF | stacking::TAP | stacking::LOOPS;
        assert_eq!(seen.bits, bits);
        let port = seen.links[&2];
        assert_eq!((port.flags, port.master), (link::IN_VRF, 3));
        assert_eq!(seen.links[&4].flags, link::UPPER | link::TAP);
        assert_eq!(seen.links[&5].flags, link::COPIES | link::LOOPS);
        assert_eq!(seen.links[&6].flags, link::COPIES);
    }

    #[test]
    fn a_tunnel_alone_is_marked_and_makes_no_packet_dearer() {
        let seen = of(&[Link::of_kind(2, "veth"), Link::of_kind(3, "vxlan")]);
        assert_eq!(seen.links[&3].flags, link::TUNNEL);
        assert_eq!(seen.bits, 0);
    }
}
