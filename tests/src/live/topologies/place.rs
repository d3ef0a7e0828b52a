//! Three network namespaces and the links between them: Flow's (near), the far end's, and a third
//! one.
//!
//! `low0` is a veth pair between near and far, on which the link is created, and `in0` one between
//! near and the third namespace. The near end of the link is `top0`, unless the table names
//! another; what is moved into the third namespace is `top1`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Result;
use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

use super::{Way, relay::Relay, still};
use crate::{
    guest::LOSS_PROBES,
    live::{
        World, counters,
        peer::NAMESPACE_PREFIX,
        tools::{self, ip_batch, within},
        waiting,
    },
};

/// A kind of link, created between Flow's namespace (near) and another one (far).
pub struct Kind {
    pub name: &'static str,
    /// Commands of `ip` in each namespace, after `low0` and `in0` exist; `THIRD` is the name of the
    /// third one.
    pub near: &'static [&'static str],
    pub far: &'static [&'static str],
    pub third: &'static [&'static str],
    /// Further preparation after these commands.
    pub prepare: fn(&Place) -> Result<Vec<Relay>>,
    /// Commands in near after the addresses are set: of `ip`, of `tc`.
    pub near_later: &'static [&'static str],
    pub tc: &'static [&'static str],
    /// The interfaces with the link's addresses, and the far one of what is moved into the third
    /// namespace.
    pub top: &'static str,
    pub far_top: &'static str,
    pub far_moved: &'static str,
    pub family: Family,
    pub behind: Behind,
    /// The generator's mode of traffic.
    pub traffic: &'static str,
    /// Whether the two ends exchange packets of their own first.
    pub shakes_hands: bool,
    /// Whether forwarded packets count, where they came in, with headers that are added later.
    pub adds_to_forwarded: bool,
    /// The expected parts of the ledgers for each use; `None` if the kind cannot be used that way.
    pub own: &'static [Passing],
    pub routed: &'static [Passing],
    pub into: &'static [Passing],
}

/// The parts of an interface's ledger that take its traffic; `None` if nothing passes.
pub struct Passing {
    pub at: &'static str,
    pub ingress: Parts,
    pub egress: Parts,
}

pub type Parts = &'static [Part];

/// A part of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Socket,
    Forwarded,
    Kernel,
    PacketSocket,
    NotIp,
    Offload,
    Unexplained,
}

impl Part {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Forwarded => "forwarded",
            Self::Kernel => "kernel",
            Self::PacketSocket => "packet_socket",
            Self::NotIp => "not_ip",
            Self::Offload => "offload",
            Self::Unexplained => "unexplained",
        }
    }
}

/// The family of the addresses on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const fn length(self) -> u8 {
        match self {
            Self::V4 => 24,
            Self::V6 => 64,
        }
    }

    /// What an address needs to be usable at once.
    pub const fn nodad(self) -> &'static str {
        match self {
            Self::V4 => "",
            Self::V6 => " nodad",
        }
    }
}

/// How the far end reaches the third namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// By `top1`, which was moved there.
    Moved,
    /// By a route through near.
    Routed,
}

/// A network namespace.
#[derive(Debug)]
pub struct Namespace {
    pub name: String,
}

/// The links of a [`Kind`]. Removed on drop.
#[derive(Debug)]
pub struct Place {
    relays: Vec<Relay>,
    pub near: Namespace,
    pub far: Namespace,
    pub third: Namespace,
    top: &'static str,
}

/// Networks: of the link, of `in0`, behind the link in the third namespace.
const LINK: u8 = 1;
const INNER: u8 = 2;
const MOVED: u8 = 3;
/// How many packets may overtake one before TCP considers it lost (`tcp_max_reordering`).
const MOST_OVERTAKEN: &str = "300";
/// A closed port.
const DISCARD: u16 = 9;

impl Place {
    /// Creates the namespaces and links.
    ///
    /// # Errors
    /// The kernel lacks the kind: the message of `ip` or `tc`.
    pub fn make(kind: &Kind) -> Result<Self> {
        let mut place = Self {
            relays: Vec::new(),
            near: Namespace::named(),
            far: Namespace::named(),
            third: Namespace::named(),
            top: kind.top,
        };
        let Self {
            near, far, third, ..
        } = &place;
        let all = [near, far, third];
        ip_batch(None, &all.map(|netns| format!("netns add {}", netns.name)))?;
        all.into_iter().try_for_each(Namespace::be_quiet)?;
        let to_far = format!("link add low0 type veth peer name low0 netns {}", far.name);
        let to_third = format!("link add in0 type veth peer name in0 netns {}", third.name);
        let near_first = [
            &*to_far,
            &to_third,
            "addr add 10.204.0.1/24 dev low0",
            "addr add 10.204.0.11/24 dev low0",
            "link set lo up",
            "link set low0 up",
            "link set in0 up",
        ];
        let far_first = [
            "link set lo up",
            "addr add 10.204.0.2/24 dev low0",
            "addr add 10.204.0.12/24 dev low0",
            "link set low0 up",
        ];
        let third_first = ["link set lo up", "link set in0 up"];
        for (netns, first, then) in [
            (near, &near_first[..], kind.near),
            (far, &far_first, kind.far),
            (third, &third_first, kind.third),
        ] {
            let commands = first.iter().chain(then);
            let commands: Vec<_> = commands
                .map(|command| command.replace("THIRD", &third.name))
                .collect();
            ip_batch(Some(&netns.name), &commands)?;
        }
        let relays = (kind.prepare)(&place)?;
        place.relays = relays;
        place.address(kind)?;
        for command in kind.tc {
            tools::run(Some(&place.near.name), &format!("tc {command}"))?;
        }
        Ok(place)
    }

    /// Sets the addresses and routes of the links.
    fn address(&self, kind: &Kind) -> Result<()> {
        let Self {
            near,
            far,
            third,
            top,
            ..
        } = self;
        let of = |network, host| address(kind.family, network, host);
        let length = kind.family.length();
        let nodad = kind.family.nodad();
        let add = |network, host, device: &str| {
            format!(
                "addr add {}/{length} dev {device}{nodad}",
                of(network, host)
            )
        };
        let up = |device: &str| format!("link set {device} up");
        let route = |network: u8, gateway: IpAddr, more: &str| {
            format!("route add {}/{length} via {gateway}{more}", of(network, 0))
        };
        if kind.family == Family::V6 {
            near.allow_ipv6(&["in0", top])?;
            far.allow_ipv6(&[kind.far_top, kind.far_moved])?;
            third.allow_ipv6(&["in0", "top1"])?;
        }
        let mut commands = vec![add(INNER, 1, "in0"), up(top), add(LINK, 1, top)];
        commands.extend(kind.near_later.iter().map(|command| (*command).to_owned()));
        ip_batch(Some(&near.name), &commands)?;
        // The far end of a link without one is the near one's other half.
        let mut commands = vec![up(kind.far_top), add(LINK, 2, kind.far_top)];
        commands.extend((kind.far_top != "lo").then(|| route(INNER, of(LINK, 1), "")));
        if kind.behind == Behind::Moved {
            commands.extend([up(kind.far_moved), add(MOVED, 2, kind.far_moved)]);
        }
        ip_batch(Some(&far.name), &commands)?;
        let mut commands = vec![add(INNER, 2, "in0"), route(LINK, of(INNER, 1), "")];
        if kind.behind == Behind::Moved {
            commands.extend([up("top1"), add(MOVED, 1, "top1")]);
        }
        ip_batch(Some(&third.name), &commands)?;
        let forwarding = match kind.family {
            Family::V4 => "ipv4/conf/all/forwarding",
            Family::V6 => "ipv6/conf/all/forwarding",
        };
        tools::set(Some(&near.name), forwarding, "1")
    }

    /// Waits until the link is up and idle.
    pub fn settle(&self, world: &World) -> Result<()> {
        waiting::until(world.patience(), "the link to run", || {
            within(Some(&self.near.name), || {
                let running = getifaddrs()?.any(|address| {
                    address.interface_name == self.top
                        && address.flags.contains(InterfaceFlags::IFF_RUNNING)
                });
                Ok(running.then_some(()))
            })
        })?;
        still(world, &self.near.name).map(drop)
    }

    /// Lets the two ends of the link exchange what must come before any traffic.
    pub fn shake_hands(&self, world: &World, kind: &Kind) -> Result<()> {
        within(Some(&self.near.name), || {
            let socket = UdpSocket::bind((address(kind.family, LINK, 1), 0))?;
            socket.send_to(&[0], (address(kind.family, LINK, 2), DISCARD))?;
            Ok(())
        })?;
        waiting::until(world.patience(), "the handshake", || {
            let counted = counters::read_in(Some(&self.near.name))?;
            let top = counted.get(self.top).copied().unwrap_or_default();
            Ok((top.ingress > 0).then_some(()))
        })?;
        still(world, &self.near.name).map(drop)
    }

    /// The client's namespace, the server's, and the server's address.
    pub fn ends(&self, kind: &Kind, way: Way) -> (&str, &str, IpAddr) {
        let Self {
            near, far, third, ..
        } = self;
        let (client, server, network, host) = match (way, kind.behind) {
            (Way::Own, _) => (near, far, LINK, 2),
            (Way::Routed, _) => (third, far, LINK, 2),
            (Way::Into, Behind::Moved) => (far, third, MOVED, 1),
            (Way::Into, Behind::Routed) => (far, third, INNER, 2),
        };
        (
            &client.name,
            &server.name,
            address(kind.family, network, host),
        )
    }
}

impl Namespace {
    /// A name that [`crate::live::peer::remove_stale`] recognises.
    fn named() -> Self {
        // Above the numbers of this process's peers.
        static NUMBER: AtomicU32 = AtomicU32::new(5000);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self {
            name: format!("{NAMESPACE_PREFIX}{}-{number}", std::process::id()),
        }
    }

    /// Prevents packets that IPv6 and TCP send by themselves. Reordered packets, as several CPUs
    /// decrypt them, are no reason for TCP to retransmit: a duplicate may arrive after its socket
    /// is gone.
    fn be_quiet(&self) -> Result<()> {
        let set = |name: &str, value: &str| tools::set(Some(&self.name), name, value);
        set("ipv6/conf/all/disable_ipv6", "1")?;
        set("ipv6/conf/default/disable_ipv6", "1")?;
        set(LOSS_PROBES, "0")?;
        set("ipv4/tcp_recovery", "0")?;
        set("ipv4/tcp_reordering", MOST_OVERTAKEN)
    }

    /// Enables IPv6 on these interfaces, without automatic addresses.
    fn allow_ipv6(&self, interfaces: &[&str]) -> Result<()> {
        for interface in interfaces {
            for (name, value) in [
                ("addr_gen_mode", "1"),
                ("router_solicitations", "0"),
                ("disable_ipv6", "0"),
            ] {
                let name = format!("ipv6/conf/{interface}/{name}");
                tools::set(Some(&self.name), &name, value)?;
            }
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The relays close their devices first. All links are removed with the namespaces; the next
        // run removes what stays.
        self.relays.clear();
        let all = [&self.near, &self.far, &self.third];
        let _ = ip_batch(None, &all.map(|netns| format!("netns del {}", netns.name)));
    }
}

/// Host `host` of a network; 0 is the network itself.
fn address(family: Family, network: u8, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 204, network, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x204, network.into(), 0, 0, 0, 0, host.into()).into(),
    }
}
