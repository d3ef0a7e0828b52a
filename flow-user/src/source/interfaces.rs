//! The interfaces of the host's network namespace and their counters, as rtnetlink reports them.

pub mod facts;
pub mod monitor;

use std::{collections::HashSet, io, sync::Arc};

use flow_common::LinkLayout;

use super::netlink::{Netlink, attributes, u16_at, u32_at, u64_at};
use crate::event::{Bytes, InterfaceSide};

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub ifindex: u32,
    /// Its name, chosen by whoever created it: anything but `/` and spaces.
    pub name: Arc<str>,
    /// Whether it is up and can carry frames (`IFF_UP`, `IFF_RUNNING`).
    pub up: bool,
    /// Whether it is administratively up (`IFF_UP`). It may carry frames before the kernel sets
    /// `IFF_RUNNING` (`linkwatch_event` waits for up to a second).
    pub is_set_up: bool,
    /// The kind of a virtual interface, such as `veth` or `bridge`.
    pub kind: Option<Arc<str>>,
    /// Its hardware type, an `ARPHRD_*` number.
    pub hardware: u16,
    /// The bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
    /// The interface that carries its packets, or the other end of a pair.
    pub parent: Option<Parent>,
    /// Whether packets that leave by it may wait in a qdisc.
    pub queues: bool,
    /// In bytes.
    pub mtu: u32,
    pub gso: GsoLimits,
    pub counters: Counters,
}

/// The interface that `IFLA_LINK` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    pub ifindex: u32,
    /// The id of the other's namespace in this one (nsid); absent if it is in this namespace.
    pub netns_id: Option<u32>,
}

/// Limits of the GSO buffers that an interface takes whole; larger ones are segmented before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GsoLimits {
    /// Bytes.
    pub max_size: u32,
    /// Bytes, if IPv4 has a limit of its own.
    pub ipv4_max_size: Option<u32>,
    pub max_segments: u32,
}

impl Default for GsoLimits {
    /// No limits.
    fn default() -> Self {
        Self {
            max_size: u32::MAX,
            ipv4_max_size: None,
            max_segments: u32::MAX,
        }
    }
}

/// An interface's own 64-bit counters, as `ip -s link` shows them, cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

impl Counters {
    /// The received side, without a classifier's counts.
    pub fn ingress(&self) -> InterfaceSide {
        InterfaceSide {
            bytes: Bytes(self.rx_bytes),
            packets: self.rx_packets,
            errors: self.rx_errors,
            dropped: self.rx_dropped,
            ..InterfaceSide::default()
        }
    }

    /// The sent side, without a classifier's counts.
    pub fn egress(&self) -> InterfaceSide {
        InterfaceSide {
            bytes: Bytes(self.tx_bytes),
            packets: self.tx_packets,
            errors: self.tx_errors,
            dropped: self.tx_dropped,
            ..InterfaceSide::default()
        }
    }
}

/// Queries interfaces, in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Interfaces {
    netlink: Netlink,
}

impl Interfaces {
    /// # Errors
    /// No netlink socket could be opened.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open(libc::NETLINK_ROUTE, 0)?,
        })
    }

    /// All interfaces.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn list(&mut self) -> io::Result<Vec<Link>> {
        // An ifinfomsg that selects all interfaces.
        self.netlink
            .dump(libc::RTM_GETLINK, &[0; LINK_BYTES], |message| {
                link(message.body)
            })
    }

    /// The counters of all interfaces, by index. Some twenty times cheaper than [`Self::list`].
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn stats(&mut self) -> io::Result<Vec<(u32, Counters)>> {
        self.netlink
            .dump(RTM_GETSTATS, &stats_request(0), |message| {
                stats(message.body)
            })
    }

    /// The id (nsid) that this namespace uses for the network namespace of a process; `None` if it
    /// has none yet.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn netns_id(&mut self, pid: u32) -> io::Result<Option<u32>> {
        // An rtgenmsg, padded, and one attribute.
        let mut request = [0; 12];
        request[4..6].copy_from_slice(&8_u16.to_ne_bytes());
        request[6..8].copy_from_slice(&NETNSA_PID.to_ne_bytes());
        request[8..].copy_from_slice(&pid.to_ne_bytes());
        self.netlink
            .get(libc::RTM_GETNSID, &request, |message| {
                netns_id(message.body)
            })
            .map(|id| id.filter(|id| *id != NETNSA_NSID_NOT_ASSIGNED))
    }

    /// Interfaces that are targets of an egress mirror of `act_mirred`.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn mirrors(&mut self) -> io::Result<HashSet<u32>> {
        // A tcamsg, and a table with one action, which has only a kind.
        let mut request = Vec::from([0; 4]);
        for (length, kind) in [(20_u16, TCA_ACT_TAB), (16, 1), (11, TCA_ACT_KIND)] {
            request.extend_from_slice(&length.to_ne_bytes());
            request.extend_from_slice(&kind.to_ne_bytes());
        }
        request.extend_from_slice(b"mirred\0\0");
        let found = self
            .netlink
            .dump(libc::RTM_GETACTION, &request, |message| {
                Some(mirror_targets(message.body))
            })?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The counters of one interface.
    ///
    /// # Errors
    /// The error of the kernel; `ENODEV` if there is none with this index.
    pub fn stats_of(&mut self, ifindex: u32) -> io::Result<Option<Counters>> {
        let answer = self
            .netlink
            .get(RTM_GETSTATS, &stats_request(ifindex), |message| {
                stats(message.body)
            })?;
        Ok(answer
            .filter(|(index, _)| *index == ifindex)
            .map(|(_, counters)| counters))
    }
}

const NETNSA_NSID: u16 = 1;
const NETNSA_PID: u16 = 2;
const NETNSA_NSID_NOT_ASSIGNED: u32 = u32::MAX;
const TCA_ACT_TAB: u16 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_MIRROR: u32 = 2;
/// Bytes of `tcamsg`, after which attributes follow.
const TCA_BYTES: usize = 4;
const RTM_GETSTATS: u16 = 94;
const IFLA_GSO_IPV4_MAX_SIZE: u16 = 63;
const IFLA_STATS_LINK_64: u16 = 1;
/// Bytes of `ifinfomsg` and `if_stats_msg`, after which attributes follow.
const LINK_BYTES: usize = 16;
const STATS_BYTES: usize = 12;

/// An `if_stats_msg` that requests the 64-bit counters.
fn stats_request(ifindex: u32) -> [u8; STATS_BYTES] {
    let mut request = [0; STATS_BYTES];
    request[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    request[8..].copy_from_slice(&(1_u32 << (IFLA_STATS_LINK_64 - 1)).to_ne_bytes());
    request
}

/// Reads an `if_stats_msg`: index and counters.
pub(crate) fn stats(body: &[u8]) -> Option<(u32, Counters)> {
    let (_, value) =
        attributes(body.get(STATS_BYTES..)?).find(|(kind, _)| *kind == IFLA_STATS_LINK_64)?;
    Some((u32_at(body, 4)?, counters(value)?))
}

/// Reads the answer to [`Interfaces::netns_id`].
fn netns_id(body: &[u8]) -> Option<u32> {
    attributes(body.get(4..)?)
        .find(|(kind, _)| *kind == NETNSA_NSID)
        .and_then(|(_, value)| u32_at(value, 0))
}

/// Reads the targets from a list of `mirred` actions.
fn mirror_targets(body: &[u8]) -> Vec<u32> {
    let nested = |bytes, wanted| {
        attributes(bytes)
            .find(move |(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    };
    let target = |action| {
        let parameters = nested(nested(action, TCA_ACT_OPTIONS)?, TCA_MIRRED_PARMS)?;
        // After the five members of tc_gen.
        (u32_at(parameters, 20)? == TCA_EGRESS_MIRROR).then_some(u32_at(parameters, 24)?)
    };
    let table = body
        .get(TCA_BYTES..)
        .and_then(|body| nested(body, TCA_ACT_TAB));
    attributes(table.unwrap_or_default())
        .filter_map(|(_, action)| target(action))
        .collect()
}

/// Bridges report their ports with messages of the same type and family `AF_BRIDGE`: a port that
/// leaves its bridge is not a removed interface.
fn is_interface(body: &[u8]) -> bool {
    body.first().map(|family| i32::from(*family)) == Some(libc::AF_UNSPEC)
}

/// Reads an `ifinfomsg` with its attributes.
pub(crate) fn link(body: &[u8]) -> Option<Link> {
    if !is_interface(body) {
        return None;
    }
    let ifindex = u32_at(body, 4)?;
    let flags = u32_at(body, 8)?;
    let needed = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
    let mut found = Link {
        ifindex,
        name: Arc::from(""),
        up: flags & needed == needed,
        is_set_up: flags & libc::IFF_UP as u32 != 0,
        kind: None,
        hardware: u16_at(body, 2)?,
        master: None,
        parent: None,
        queues: false,
        mtu: 0,
        gso: GsoLimits::default(),
        counters: Counters::default(),
    };
    let (mut parent, mut netns_id) = (None, None);
    for (kind, value) in attributes(body.get(LINK_BYTES..)?) {
        match kind {
            libc::IFLA_IFNAME => found.name = text(value),
            libc::IFLA_LINKINFO => {
                found.kind = attributes(value)
                    .find(|(kind, _)| *kind == libc::IFLA_INFO_KIND)
                    .map(|(_, value)| text(value));
            }
            libc::IFLA_MASTER => found.master = u32_at(value, 0).filter(|master| *master != 0),
            libc::IFLA_LINK => parent = u32_at(value, 0).filter(|parent| *parent != 0),
            libc::IFLA_LINK_NETNSID => netns_id = u32_at(value, 0),
            libc::IFLA_QDISC => found.queues = &*text(value) != "noqueue",
            libc::IFLA_MTU => limit(&mut found.mtu, value),
            libc::IFLA_GSO_MAX_SIZE => limit(&mut found.gso.max_size, value),
            libc::IFLA_GSO_MAX_SEGS => limit(&mut found.gso.max_segments, value),
            IFLA_GSO_IPV4_MAX_SIZE => found.gso.ipv4_max_size = u32_at(value, 0),
            libc::IFLA_STATS64 => found.counters = counters(value).unwrap_or_default(),
            _ => {}
        }
    }
    // An interface without a parent names itself.
    found.parent = parent
        .filter(|parent| *parent != ifindex || netns_id.is_some())
        .map(|ifindex| Parent { ifindex, netns_id });
    Some(found)
}

fn limit(limit: &mut u32, value: &[u8]) {
    *limit = u32_at(value, 0).unwrap_or(*limit);
}

/// Reads the first fields of `rtnl_link_stats64`.
fn counters(stats: &[u8]) -> Option<Counters> {
    let field = |index: usize| u64_at(stats, index * 8);
    Some(Counters {
        rx_packets: field(0)?,
        tx_packets: field(1)?,
        rx_bytes: field(2)?,
        tx_bytes: field(3)?,
        rx_errors: field(4)?,
        tx_errors: field(5)?,
        rx_dropped: field(6)?,
        tx_dropped: field(7)?,
    })
}

/// Hardware types of `linux/if_arp.h` whose frames begin with an Ethernet header.
const ETHERNET_LIKE: [u16; 2] = [libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK];
const ETHERNET_HEADER_BYTES: u32 = 14;

#[cfg(test)]
impl Link {
    /// An interface of a kind that is up and has counted nothing.
    pub(crate) fn of_kind(ifindex: u32, kind: &str) -> Self {
        Self {
            ifindex,
            name: Arc::from(format!("if{ifindex}")),
            up: true,
            is_set_up: true,
            kind: Some(Arc::from(kind)),
            hardware: libc::ARPHRD_ETHER,
            master: None,
            parent: None,
            queues: false,
            mtu: 1500,
            gso: GsoLimits::default(),
            counters: Counters::default(),
        }
    }
}

impl Link {
    /// What its classifiers need to know.
    pub fn layout(&self) -> LinkLayout {
        let is_ethernet = ETHERNET_LIKE.contains(&self.hardware);
        LinkLayout {
            header: if is_ethernet {
                ETHERNET_HEADER_BYTES
            } else {
                0
            },
            gso_max_size: self.gso.max_size,
            gso_ipv4_max_size: self.gso.ipv4_max_size.unwrap_or(self.gso.max_size),
            gso_max_segments: self.gso.max_segments,
            flags: 0,
            master: 0,
            lower: 0,
            mtu: self.mtu,
        }
    }

    /// How many bytes more of each packet the interface counts than its classifiers see, received
    /// and sent. Presumed from its kind, until its counters show it.
    ///
    /// `loopback_xmit` removes the link header before it counts; VXLAN and Geneve count from layer
    /// 3 on (`iptunnel_xmit`, `vxlan_rcv`, `geneve_rx`). Bridges (`br_pass_frame_up`), VLANs
    /// (`vlan_do_receive`), teams and VRFs count received packets without it, and GRE taps sent
    /// ones (`iptunnel_xmit`).
    pub fn presumed_more(&self) -> [i64; 2] {
        let header = -i64::from(self.layout().header);
        if self.hardware == libc::ARPHRD_LOOPBACK {
            return [header; 2];
        }
        match self.kind.as_deref() {
            Some("vxlan" | "geneve") => [header; 2],
            Some("bridge" | "vlan" | "team" | "vrf") => [header, 0],
            Some("gretap" | "ip6gretap" | "erspan" | "ip6erspan") => [0, header],
            // A header and a checksum of its own (`message_data_len`).
            Some("wireguard") => [32; 2],
            _ => [0; 2],
        }
    }

    /// Whether it may count what it receives without the link header, against what is presumed: a
    /// veth device does if it receives by way of GRO (`veth_xmit`).
    pub fn may_leave_header_out(&self) -> bool {
        self.kind.as_deref() == Some("veth")
    }
}

fn text(value: &[u8]) -> Arc<str> {
    let end = value.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&value[..end.unwrap_or(value.len())]).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::netlink::push_attribute;

    pub(super) fn body(family: u8, flags: i32) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        body.extend_from_slice(&7_u32.to_ne_bytes());
        body.extend_from_slice(&(flags as u32).to_ne_bytes());
        body.extend_from_slice(&[0; 4]);
        body
    }

    #[test]
    fn a_link_is_read_with_its_counters() {
        let mut body = body(0, libc::IFF_UP | libc::IFF_RUNNING);
        let mut info = Vec::new();
        push_attribute(&mut info, libc::IFLA_INFO_KIND, b"veth\0");
        let stats: Vec<u8> = (1_u64..=24).flat_map(u64::to_ne_bytes).collect();
        push_attribute(&mut body, libc::IFLA_IFNAME, b"eth\x1b0\0");
        push_attribute(&mut body, 999, b"unknown");
        push_attribute(&mut body, libc::IFLA_LINKINFO, &info);
        push_attribute(
            &mut body,
            libc::IFLA_GSO_MAX_SIZE,
            &65_536_u32.to_ne_bytes(),
        );
        push_attribute(&mut body, libc::IFLA_STATS64, &stats);
        let link = link(&body).unwrap();
        assert_eq!((link.ifindex, link.up), (7, true));
        assert_eq!(
            (&*link.name, link.kind.as_deref()),
            ("eth\x1b0", Some("veth"))
        );
        assert_eq!(link.layout().gso_max_size, 65_536);
        assert_eq!(link.layout().gso_ipv4_max_size, 65_536);
        assert_eq!(link.layout().gso_max_segments, u32::MAX);
        assert_eq!(link.counters.rx_bytes, 3);
        assert_eq!(link.counters.egress().dropped, 8);
        assert_eq!(link.counters.ingress().bytes, Bytes(3));
    }

    #[test]
    fn a_kind_determines_in_which_direction_headers_are_left_out() {
        let mut link = link(&body(0, 0)).unwrap();
        link.hardware = libc::ARPHRD_ETHER;
        let mut of = |kind: &str| {
            link.kind = Some(kind.into());
            link.presumed_more()
        };
        assert_eq!(of("veth"), [0, 0]);
        assert_eq!(of("bridge"), [-14, 0]);
        assert_eq!(of("gretap"), [0, -14]);
        assert_eq!(of("geneve"), [-14, -14]);
        link.hardware = libc::ARPHRD_LOOPBACK;
        assert_eq!(link.presumed_more(), [-14, -14]);
    }

    #[test]
    fn the_loopback_interface_is_listed_and_counted() {
        let mut interfaces = Interfaces::open().unwrap();
        let links = interfaces.list().unwrap();
        let lo = links.iter().find(|link| &*link.name == "lo").unwrap();
        let stats = interfaces.stats().unwrap();
        let (_, counters) = stats
            .iter()
            .find(|(index, _)| *index == lo.ifindex)
            .unwrap();
        assert!(counters.rx_bytes >= lo.counters.rx_bytes);
        let own = interfaces.stats_of(lo.ifindex).unwrap().unwrap();
        assert!(own.rx_bytes >= counters.rx_bytes);
        // The kernel's indexes are positive numbers of type int.
        interfaces.stats_of(u32::MAX).unwrap_err();
        // Nothing of that answer is left to disturb the next.
        let again = interfaces.list().unwrap();
        assert!(again.iter().any(|link| link.ifindex == lo.ifindex));
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            let _ = link(&bytes);
            let _ = counters(&bytes);
            let _ = stats(&bytes);
            let _ = netns_id(&bytes);
            let _ = mirror_targets(&bytes);
        }
    }
}
