//! The table of links: how each is created, and which part of each ledger takes its traffic.

use super::{
    place::{Behind, Family, Kind, Part, Parts, Passing},
    prepare,
};

/// Both directions, as for most links.
const BULK_AND_SMALL: &str = "bulk-and-small";
/// Both directions, with datagrams that GRO merges.
const BULK_AND_BURSTS: &str = "bulk-and-bursts";
/// Nothing returns.
pub const AWAY: &str = "away";

const NOTHING: Parts = &[];
const SOCKET: Parts = &[Part::Socket];
const FORWARDED: Parts = &[Part::Forwarded];
const KERNEL: Parts = &[Part::Kernel];
/// By a socket, which the packet may have lost on its way through a pair of devices.
const SENT: Parts = &[Part::Socket, Part::Forwarded];
/// A process that does not use a socket takes the packets, such as a virtual machine.
const PROCESS: Parts = &[Part::Forwarded, Part::Kernel];
/// Other tasks encrypt it, or it is segmented first: then its origin is not known.
const ENCRYPTED_FORWARDED: Parts = &[Part::Forwarded, Part::Kernel];
/// The inner packet is forwarded, the outer one is the kernel's.
const DECRYPTED_FORWARDED: Parts = &[Part::Forwarded, Part::Kernel];
const ANY: Parts = &[Part::Socket, Part::Forwarded, Part::Kernel];

const fn at(at: &'static str, ingress: Parts, egress: Parts) -> Passing {
    Passing {
        at,
        ingress,
        egress,
    }
}

const OWN_STACKED: &[Passing] = &[at("top0", SOCKET, SOCKET), at("low0", SOCKET, SOCKET)];
const ROUTED_STACKED: &[Passing] = &[
    at("in0", FORWARDED, FORWARDED),
    at("top0", FORWARDED, FORWARDED),
    at("low0", FORWARDED, FORWARDED),
];
const INTO_BELOW: &[Passing] = &[at("low0", FORWARDED, FORWARDED)];
/// The inner packet of an incoming one is known only to the upper interface.
const OWN_TUNNELED: &[Passing] = &[at("top0", SOCKET, SOCKET), at("low0", KERNEL, SOCKET)];
const ROUTED_TUNNELED: &[Passing] = &[
    at("in0", FORWARDED, FORWARDED),
    at("top0", FORWARDED, FORWARDED),
    at("low0", KERNEL, FORWARDED),
];
const INTO_TUNNELED: &[Passing] = &[at("low0", KERNEL, FORWARDED)];

const ROUTED_ENCRYPTED: &[Passing] = &[
    at("in0", FORWARDED, FORWARDED),
    at("top0", FORWARDED, FORWARDED),
    at("low0", KERNEL, ENCRYPTED_FORWARDED),
];
const INTO_ENCRYPTED: &[Passing] = &[at("low0", KERNEL, ENCRYPTED_FORWARDED)];

const ROUTED_BESIDE_IFB: &[Passing] = &[
    at("in0", FORWARDED, FORWARDED),
    at("low0", FORWARDED, FORWARDED),
    at("ifb0", ANY, ANY),
];

/// A link that `ip` creates on top of `low0`, only in near.
const fn stacked(name: &'static str, near: &'static [&'static str]) -> Kind {
    Kind {
        name,
        near,
        far: &[],
        third: &[],
        prepare: prepare::nothing,
        near_later: &[],
        tc: &[],
        top: "top0",
        far_top: "low0",
        far_moved: "low0",
        family: Family::V4,
        behind: Behind::Moved,
        traffic: BULK_AND_SMALL,
        shakes_hands: false,
        adds_to_forwarded: false,
        own: OWN_STACKED,
        routed: ROUTED_STACKED,
        into: INTO_BELOW,
    }
}

const OWN_LOW: &[Passing] = &[at("low0", SOCKET, SOCKET)];
const ROUTED_LOW: &[Passing] = &[
    at("in0", FORWARDED, FORWARDED),
    at("low0", FORWARDED, FORWARDED),
];

/// Nothing but `low0`.
const fn veth(name: &'static str) -> Kind {
    Kind {
        top: "low0",
        own: OWN_LOW,
        routed: ROUTED_LOW,
        into: ROUTED_LOW,
        behind: Behind::Routed,
        ..stacked(name, &[])
    }
}

/// A link that exists at both ends.
const fn at_both_ends(
    name: &'static str,
    near: &'static [&'static str],
    far: &'static [&'static str],
) -> Kind {
    Kind {
        far,
        far_top: "top0",
        far_moved: "top1",
        ..stacked(name, near)
    }
}

const fn tunnel(
    name: &'static str,
    near: &'static [&'static str],
    far: &'static [&'static str],
) -> Kind {
    Kind {
        own: OWN_TUNNELED,
        routed: ROUTED_TUNNELED,
        into: INTO_TUNNELED,
        ..at_both_ends(name, near, far)
    }
}

/// All kinds.
pub const KINDS: &[Kind] = &[
    Kind {
        top: "top0",
        far_top: "lo",
        traffic: AWAY,
        own: &[at("top0", NOTHING, SOCKET)],
        routed: &[
            at("in0", FORWARDED, NOTHING),
            at("top0", NOTHING, FORWARDED),
        ],
        into: &[],
        behind: Behind::Routed,
        ..stacked("link_dummy", &["link add top0 type dummy"])
    },
    veth("link_veth"),
    // The far ends have no TSO, so the veth devices here receive by way of GRO. They count each
    // packet before GRO, without its link header.
    Kind {
        prepare: prepare::gro_of_buffers,
        traffic: BULK_AND_BURSTS,
        ..veth("link_veth_gro")
    },
    Kind {
        prepare: prepare::gro_of_lists,
        traffic: BULK_AND_BURSTS,
        ..veth("link_veth_gro_list")
    },
    Kind {
        into: &[
            at("low0", FORWARDED, FORWARDED),
            at("port0", FORWARDED, FORWARDED),
            at("top0", NOTHING, NOTHING),
        ],
        ..stacked(
            "link_bridge",
            &[
                "link add top0 type bridge",
                "link set low0 master top0",
                "link add port0 type veth peer name top1 netns THIRD",
                "link set port0 master top0",
                "link set port0 up",
            ],
        )
    },
    // What arrives at one bridge is forwarded to the other one through a pair of devices.
    Kind {
        own: &[
            at("top0", SOCKET, SOCKET),
            at("pair1", SOCKET, SOCKET),
            at("pair0", FORWARDED, FORWARDED),
            at("low0", FORWARDED, SENT),
        ],
        routed: &[
            at("in0", FORWARDED, FORWARDED),
            at("top0", FORWARDED, FORWARDED),
            at("pair1", FORWARDED, FORWARDED),
            at("pair0", FORWARDED, FORWARDED),
            at("low0", FORWARDED, FORWARDED),
        ],
        into: &[
            at("low0", FORWARDED, FORWARDED),
            at("pair0", FORWARDED, FORWARDED),
            at("pair1", FORWARDED, FORWARDED),
            at("port0", FORWARDED, FORWARDED),
            at("top0", NOTHING, NOTHING),
            at("other0", NOTHING, NOTHING),
        ],
        ..stacked(
            "link_bridge_pair",
            &[
                "link add other0 type bridge",
                "link set low0 master other0",
                "link set other0 up",
                "link add top0 type bridge",
                "link add pair0 type veth peer name pair1",
                "link set pair0 master other0",
                "link set pair1 master top0",
                "link set pair0 up",
                "link set pair1 up",
                "link add port0 type veth peer name top1 netns THIRD",
                "link set port0 master top0",
                "link set port0 up",
            ],
        )
    },
    at_both_ends(
        "link_vlan",
        &[
            "link add link low0 name top0 type vlan id 5",
            "link add link low0 name top1 type vlan id 6",
            "link set top1 netns THIRD",
        ],
        &[
            "link add link low0 name top0 type vlan id 5",
            "link add link low0 name top1 type vlan id 6",
        ],
    ),
    Kind {
        family: Family::V6,
        own: &[
            at("top0", SOCKET, SOCKET),
            at("mid0", SOCKET, SOCKET),
            at("low0", SOCKET, SOCKET),
        ],
        routed: &[
            at("in0", FORWARDED, FORWARDED),
            at("top0", FORWARDED, FORWARDED),
            at("mid0", FORWARDED, FORWARDED),
            at("low0", FORWARDED, FORWARDED),
        ],
        into: &[
            at("mid0", FORWARDED, FORWARDED),
            at("low0", FORWARDED, FORWARDED),
        ],
        ..at_both_ends(
            "link_qinq",
            &[
                "link add link low0 name mid0 type vlan protocol 802.1ad id 5",
                "link set mid0 up",
                "link add link mid0 name top0 type vlan id 7",
                "link add link mid0 name top1 type vlan id 8",
                "link set top1 netns THIRD",
            ],
            &[
                "link add link low0 name mid0 type vlan protocol 802.1ad id 5",
                "link set mid0 up",
                "link add link mid0 name top0 type vlan id 7",
                "link add link mid0 name top1 type vlan id 8",
            ],
        )
    },
    // Its table has the far network, and the main table a route to it: a process needs to know
    // nothing of the VRF.
    Kind {
        top: "low0",
        near_later: &[
            "addr add 10.204.1.11/32 dev top0",
            "route add 10.204.1.0/24 dev top0",
        ],
        // Routed packets leave directly by the port.
        routed: &[
            at("in0", FORWARDED, FORWARDED),
            at("top0", FORWARDED, NOTHING),
            at("low0", FORWARDED, FORWARDED),
        ],
        into: &[
            at("in0", FORWARDED, FORWARDED),
            at("top0", FORWARDED, NOTHING),
            at("low0", FORWARDED, FORWARDED),
        ],
        behind: Behind::Routed,
        prepare: prepare::vrf,
        ..stacked(
            "link_vrf",
            &[
                "link add top0 type vrf table 10",
                "link set top0 up",
                "link set low0 master top0",
                "link set in0 master top0",
            ],
        )
    },
    Kind {
        into: &[
            at("low0", FORWARDED, FORWARDED),
            at("top0", FORWARDED, FORWARDED),
        ],
        ..stacked(
            "link_bond",
            &[
                "link add top0 type bond mode active-backup miimon 100",
                "link set low0 down",
                "link set low0 master top0",
                "link add link top0 name top1 type macvlan mode bridge",
                "link set top1 netns THIRD",
                "link set top0 up",
            ],
        )
    },
    Kind {
        family: Family::V6,
        into: &[
            at("low0", FORWARDED, FORWARDED),
            at("top0", FORWARDED, FORWARDED),
        ],
        prepare: prepare::team,
        ..stacked(
            "link_team",
            &["link add top0 type team", "link set low0 down"],
        )
    },
    stacked(
        "link_macvlan",
        &[
            "link add link low0 name top0 type macvlan mode bridge",
            "link add link low0 name top1 type macvlan mode bridge",
            "link set top1 netns THIRD",
        ],
    ),
    Kind {
        into: &[at("low0", PROCESS, PROCESS), at("guest0", PROCESS, PROCESS)],
        prepare: prepare::macvtap,
        ..stacked(
            "link_macvtap",
            &[
                "link add link low0 name top0 type macvtap mode bridge",
                "link add link low0 name guest0 type macvtap mode bridge",
            ],
        )
    },
    Kind {
        // What returns is for another address and does not reach it.
        routed: &[
            at("in0", FORWARDED, FORWARDED),
            at("top0", NOTHING, FORWARDED),
            at("low0", FORWARDED, FORWARDED),
        ],
        ..stacked(
            "link_ipvlan",
            &[
                "link add link low0 name top0 type ipvlan mode l2",
                "link add link low0 name top1 type ipvlan mode l2",
                "link set top1 netns THIRD",
            ],
        )
    },
    // Ingress shaping: packets pass the IFB before anything else sees them.
    Kind {
        top: "low0",
        own: &[at("low0", SOCKET, SOCKET), at("ifb0", ANY, ANY)],
        routed: ROUTED_BESIDE_IFB,
        tc: &[
            "qdisc add dev low0 clsact",
            "filter add dev low0 ingress protocol all u32 match u32 0 0 action mirred egress redirect dev ifb0",
        ],
        into: &[at("low0", FORWARDED, FORWARDED), at("ifb0", ANY, ANY)],
        ..stacked(
            "link_ifb",
            &[
                "link add ifb0 type ifb",
                "link set ifb0 up",
                "link add link low0 name top1 type macvlan mode bridge",
                "link set top1 netns THIRD",
            ],
        )
    },
    // A copy of everything goes to another namespace, as for a capture.
    Kind {
        top: "low0",
        own: &[at("low0", SOCKET, SOCKET), at("copy0", NOTHING, ANY)],
        routed: &[
            at("in0", FORWARDED, FORWARDED),
            at("low0", FORWARDED, FORWARDED),
            at("copy0", NOTHING, ANY),
        ],
        tc: &[
            "qdisc add dev low0 clsact",
            "filter add dev low0 ingress protocol all u32 match u32 0 0 action mirred egress mirror dev copy0",
            "filter add dev low0 egress protocol all u32 match u32 0 0 action mirred egress mirror dev copy0",
        ],
        into: &[at("low0", FORWARDED, FORWARDED), at("copy0", NOTHING, ANY)],
        third: &["link set copy0 up"],
        ..stacked(
            "link_mirror",
            &[
                "link add copy0 type veth peer name copy0 netns THIRD",
                "link set copy0 up",
                "link add link low0 name top1 type macvlan mode bridge",
                "link set top1 netns THIRD",
            ],
        )
    },
    Kind {
        far_top: "top0",
        prepare: prepare::tun,
        own: &[at("top0", SOCKET, SOCKET)],
        routed: &[
            at("in0", FORWARDED, FORWARDED),
            at("top0", FORWARDED, FORWARDED),
        ],
        into: &[
            at("in0", FORWARDED, FORWARDED),
            at("top0", FORWARDED, FORWARDED),
        ],
        behind: Behind::Routed,
        ..stacked("link_tun", &[])
    },
    // As for a virtual machine, on a bridge.
    Kind {
        far_top: "top0",
        prepare: prepare::taps,
        own: &[at("top0", SOCKET, SOCKET)],
        routed: &[
            at("in0", FORWARDED, FORWARDED),
            at("top0", FORWARDED, FORWARDED),
        ],
        into: &[
            at("low0", FORWARDED, FORWARDED),
            at("port0", FORWARDED, FORWARDED),
            at("bridge0", NOTHING, NOTHING),
        ],
        ..stacked(
            "link_tap",
            &[
                "link add bridge0 type bridge",
                "link set low0 master bridge0",
                "link set bridge0 up",
            ],
        )
    },
    tunnel(
        "link_gre",
        &[
            "link add top0 type gre local 10.204.0.1 remote 10.204.0.2 dev low0",
            "link add top1 type gre local 10.204.0.11 remote 10.204.0.12 dev low0",
            "link set top1 netns THIRD",
        ],
        &[
            "link add top0 type gre local 10.204.0.2 remote 10.204.0.1 dev low0",
            "link add top1 type gre local 10.204.0.12 remote 10.204.0.11 dev low0",
        ],
    ),
    Kind {
        family: Family::V6,
        ..tunnel(
            "link_gretap",
            &[
                "link add top0 type gretap local 10.204.0.1 remote 10.204.0.2 dev low0",
                "link add top1 type gretap local 10.204.0.11 remote 10.204.0.12 dev low0",
                "link set top1 netns THIRD",
            ],
            &[
                "link add top0 type gretap local 10.204.0.2 remote 10.204.0.1 dev low0",
                "link add top1 type gretap local 10.204.0.12 remote 10.204.0.11 dev low0",
            ],
        )
    },
    tunnel(
        "link_ipip",
        &[
            "link add top0 type ipip local 10.204.0.1 remote 10.204.0.2 dev low0",
            // Forwarded buffers are segmented before the tunnel gets them: each segment is a new
            // buffer.
            "link set top0 gso_max_segs 1",
            "link add top1 type ipip local 10.204.0.11 remote 10.204.0.12 dev low0",
            "link set top1 netns THIRD",
        ],
        &[
            "link add top0 type ipip local 10.204.0.2 remote 10.204.0.1 dev low0",
            "link add top1 type ipip local 10.204.0.12 remote 10.204.0.11 dev low0",
        ],
    ),
    Kind {
        family: Family::V6,
        ..tunnel(
            "link_sit",
            &[
                "link add top0 type sit local 10.204.0.1 remote 10.204.0.2 dev low0",
                "link add top1 type sit local 10.204.0.11 remote 10.204.0.12 dev low0",
                "link set top1 netns THIRD",
            ],
            &[
                "link add top0 type sit local 10.204.0.2 remote 10.204.0.1 dev low0",
                "link add top1 type sit local 10.204.0.12 remote 10.204.0.11 dev low0",
            ],
        )
    },
    tunnel(
        "link_vxlan",
        &[
            "link add top0 type vxlan id 5 local 10.204.0.1 remote 10.204.0.2 dev low0 dstport 4789",
            "link add top1 type vxlan id 6 local 10.204.0.1 remote 10.204.0.2 dev low0 dstport 4789",
            "link set top1 netns THIRD",
        ],
        &[
            "link add top0 type vxlan id 5 local 10.204.0.2 remote 10.204.0.1 dev low0 dstport 4789",
            "link add top1 type vxlan id 6 local 10.204.0.2 remote 10.204.0.1 dev low0 dstport 4789",
        ],
    ),
    Kind {
        family: Family::V6,
        ..tunnel(
            "link_geneve",
            &[
                "link add top0 mtu 1450 type geneve id 5 remote 10.204.0.2",
                "link add top1 mtu 1450 type geneve id 6 remote 10.204.0.2",
                "link set top1 netns THIRD",
            ],
            &[
                "link add top0 mtu 1450 type geneve id 5 remote 10.204.0.1",
                "link add top1 mtu 1450 type geneve id 6 remote 10.204.0.1",
            ],
        )
    },
    Kind {
        prepare: prepare::wireguard,
        shakes_hands: true,
        routed: ROUTED_ENCRYPTED,
        into: INTO_ENCRYPTED,
        ..tunnel(
            "link_wireguard",
            &[
                "link add top0 type wireguard",
                "link add top1 type wireguard",
                "link set top1 netns THIRD",
            ],
            &[
                "link add top0 type wireguard",
                "link add top1 type wireguard",
            ],
        )
    },
    Kind {
        prepare: prepare::xfrm,
        routed: ROUTED_ENCRYPTED,
        into: INTO_ENCRYPTED,
        ..tunnel(
            "link_xfrm",
            &[
                "link add top0 mtu 1380 type xfrm dev low0 if_id 1",
                "link add top1 mtu 1380 type xfrm dev low0 if_id 2",
                "link set top1 netns THIRD",
            ],
            &[
                "link add top0 mtu 1380 type xfrm dev low0 if_id 1",
                "link add top1 mtu 1380 type xfrm dev low0 if_id 2",
            ],
        )
    },
    // Without an interface of its own: only policies select what is encrypted.
    Kind {
        top: "low0",
        prepare: prepare::ipsec,
        own: &[at("low0", SOCKET, SOCKET)],
        adds_to_forwarded: true,
        routed: &[at("low0", DECRYPTED_FORWARDED, FORWARDED)],
        into: &[at("low0", DECRYPTED_FORWARDED, FORWARDED)],
        behind: Behind::Routed,
        ..stacked("link_ipsec", &[])
    },
    // Stacks of links that are used in practice.
    Kind {
        own: &[
            at("top0", SOCKET, SOCKET),
            at("bridge0", SOCKET, SOCKET),
            at("bond0", SOCKET, SOCKET),
            at("low0", SOCKET, SOCKET),
        ],
        routed: &[
            at("in0", FORWARDED, FORWARDED),
            at("top0", FORWARDED, FORWARDED),
            at("bridge0", FORWARDED, FORWARDED),
            at("bond0", FORWARDED, FORWARDED),
            at("low0", FORWARDED, FORWARDED),
        ],
        into: &[
            at("bridge0", FORWARDED, FORWARDED),
            at("bond0", FORWARDED, FORWARDED),
            at("low0", FORWARDED, FORWARDED),
        ],
        ..at_both_ends(
            "link_vlan_bridge_bond",
            &[
                "link add bond0 type bond mode active-backup miimon 100",
                "link set low0 down",
                "link set low0 master bond0",
                "link set bond0 up",
                "link add bridge0 type bridge",
                "link set bond0 master bridge0",
                "link set bridge0 up",
                "link add link bridge0 name top0 type vlan id 5",
                "link add link bridge0 name top1 type vlan id 6",
                "link set top1 netns THIRD",
            ],
            &[
                "link add link low0 name top0 type vlan id 5",
                "link add link low0 name top1 type vlan id 6",
            ],
        )
    },
    Kind {
        family: Family::V6,
        far_moved: "top0",
        own: &[
            at("top0", SOCKET, SOCKET),
            at("vlan0", SOCKET, SOCKET),
            at("low0", SOCKET, SOCKET),
        ],
        routed: &[
            at("in0", FORWARDED, FORWARDED),
            at("top0", FORWARDED, FORWARDED),
            at("vlan0", FORWARDED, FORWARDED),
            at("low0", FORWARDED, FORWARDED),
        ],
        into: &[
            at("vlan0", FORWARDED, FORWARDED),
            at("low0", FORWARDED, FORWARDED),
        ],
        ..at_both_ends(
            "link_macvlan_vlan",
            &[
                "link add link low0 name vlan0 type vlan id 5",
                "link set vlan0 up",
                "link add link vlan0 name top0 type macvlan mode bridge",
                "link add link vlan0 name top1 type macvlan mode bridge",
                "link set top1 netns THIRD",
            ],
            &["link add link low0 name top0 type vlan id 5"],
        )
    },
    Kind {
        own: &[
            at("top0", SOCKET, SOCKET),
            at("vlan0", KERNEL, SOCKET),
            at("low0", KERNEL, SOCKET),
        ],
        routed: &[
            at("in0", FORWARDED, FORWARDED),
            at("top0", FORWARDED, FORWARDED),
            at("vlan0", KERNEL, FORWARDED),
            at("low0", KERNEL, FORWARDED),
        ],
        into: &[
            at("vlan0", KERNEL, FORWARDED),
            at("low0", KERNEL, FORWARDED),
        ],
        ..at_both_ends(
            "link_vxlan_vlan",
            &[
                "link add link low0 name vlan0 type vlan id 5",
                "addr add 10.204.4.1/24 dev vlan0",
                "link set vlan0 up",
                "link add top0 type vxlan id 5 local 10.204.4.1 remote 10.204.4.2 dev vlan0 dstport 4789",
                "link add top1 type vxlan id 6 local 10.204.4.1 remote 10.204.4.2 dev vlan0 dstport 4789",
                "link set top1 netns THIRD",
            ],
            &[
                "link add link low0 name vlan0 type vlan id 5",
                "addr add 10.204.4.2/24 dev vlan0",
                "link set vlan0 up",
                "link add top0 type vxlan id 5 local 10.204.4.2 remote 10.204.4.1 dev vlan0 dstport 4789",
                "link add top1 type vxlan id 6 local 10.204.4.2 remote 10.204.4.1 dev vlan0 dstport 4789",
            ],
        )
    },
    // An overlay network of containers: the tunnel is a port of their bridge.
    Kind {
        family: Family::V6,
        far_moved: "top0",
        own: &[
            at("top0", SOCKET, SOCKET),
            at("vxlan0", SOCKET, SOCKET),
            at("low0", KERNEL, SOCKET),
        ],
        routed: &[
            at("in0", FORWARDED, FORWARDED),
            at("top0", FORWARDED, FORWARDED),
            at("vxlan0", FORWARDED, FORWARDED),
            at("low0", KERNEL, FORWARDED),
        ],
        into: &[
            at("port0", FORWARDED, FORWARDED),
            at("vxlan0", FORWARDED, FORWARDED),
            at("low0", KERNEL, FORWARDED),
            at("top0", NOTHING, NOTHING),
        ],
        ..at_both_ends(
            "link_vxlan_bridge",
            &[
                "link add vxlan0 type vxlan id 5 local 10.204.0.1 remote 10.204.0.2 dev low0 dstport 4789",
                "link add top0 type bridge",
                "link set vxlan0 master top0",
                "link set vxlan0 up",
                "link add port0 mtu 1450 type veth peer name top1 mtu 1450 netns THIRD",
                "link set port0 master top0",
                "link set port0 up",
            ],
            &[
                "link add top0 type vxlan id 5 local 10.204.0.2 remote 10.204.0.1 dev low0 dstport 4789",
            ],
        )
    },
    // Shapers, which segment large buffers after the classifier has seen them.
    Kind {
        tc: &["qdisc add dev top0 root tbf rate 1gbit burst 20kb limit 20mb"],
        into: ROUTED_STACKED,
        behind: Behind::Routed,
        ..stacked(
            "link_bridge_shaped",
            &["link add top0 type bridge", "link set low0 master top0"],
        )
    },
    Kind {
        top: "low0",
        own: &[at("low0", SOCKET, SOCKET), at("ifb0", ANY, ANY)],
        routed: ROUTED_BESIDE_IFB,
        tc: &[
            "qdisc add dev ifb0 root tbf rate 1gbit burst 20kb limit 20mb",
            "qdisc add dev low0 clsact",
            "filter add dev low0 ingress protocol all u32 match u32 0 0 action mirred egress redirect dev ifb0",
        ],
        into: ROUTED_BESIDE_IFB,
        behind: Behind::Routed,
        ..stacked(
            "link_ifb_shaped",
            &["link add ifb0 type ifb", "link set ifb0 up"],
        )
    },
    // Outgoing packets pass the IFB too.
    Kind {
        top: "low0",
        own: &[at("low0", SOCKET, SOCKET), at("ifb0", ANY, ANY)],
        routed: ROUTED_BESIDE_IFB,
        tc: &[
            "qdisc add dev low0 clsact",
            "filter add dev low0 egress protocol all u32 match u32 0 0 action mirred egress redirect dev ifb0",
        ],
        into: ROUTED_BESIDE_IFB,
        behind: Behind::Routed,
        ..stacked(
            "link_ifb_sending",
            &["link add ifb0 type ifb", "link set ifb0 up"],
        )
    },
];

impl Kind {
    /// The name of the kind.
    pub fn link(&self) -> &'static str {
        self.name.strip_prefix("link_").unwrap_or(self.name)
    }
}
