//! What some kinds of link need besides the commands in their line of the table.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use anyhow::Result;

use super::{
    netlink::{self, WireGuard},
    place::Place,
    relay::{Device, Relay},
};
use crate::live::tools::{self, ip_batch};

/// An AES-GCM key for IPsec; not a secret.
const KEY: &str = "0x000102030405060708090a0b0c0d0e0f10111213";
/// The virtual machine's MAC address: macvtap drops packets for another one.
const MACHINE: &str = "02:00:00:00:00:77";
/// How long GRO waits for the next packet of a buffer, and how often it polls without an interrupt.
const GRO_WAIT: Duration = Duration::from_millis(2);
const DEFERRED: &str = "2";

pub fn nothing(_: &Place) -> Result<Vec<Relay>> {
    Ok(Vec::new())
}

/// GRO also of forwarded datagrams, several in one buffer.
pub fn gro_of_buffers(place: &Place) -> Result<Vec<Relay>> {
    gro(place, "rx-udp-gro-forwarding on")
}

/// GRO also of forwarded datagrams, several in a list of buffers.
pub fn gro_of_lists(place: &Place) -> Result<Vec<Relay>> {
    gro(place, "rx-gro-list on")
}

/// A veth device receives by way of GRO what comes from a peer without TSO
/// (`veth_skb_is_eligible_for_gro`). It waits for more packets, and so passes up several buffers at
/// once.
fn gro(place: &Place, datagrams: &str) -> Result<Vec<Relay>> {
    let Place {
        near, far, third, ..
    } = place;
    let of_near = format!("gro on {datagrams}");
    for (netns, device, features) in [
        (near, "low0", &*of_near),
        (near, "in0", &of_near),
        (far, "low0", "tso off"),
        (third, "in0", "tso off"),
    ] {
        let command = format!("ethtool -K {device} {features}");
        tools::run(Some(&netns.name), &command)?;
    }
    for (name, value) in [
        ("gro_flush_timeout", GRO_WAIT.as_nanos().to_string()),
        ("napi_defer_hard_irqs", DEFERRED.to_owned()),
    ] {
        for device in ["low0", "in0"] {
            let script = format!("printf %s {value} > /sys/class/net/{device}/{name}");
            tools::with_sysfs(&near.name, &script)?;
        }
    }
    Ok(Vec::new())
}

/// Lets sockets that are bound to no device receive what arrives by a VRF.
pub fn vrf(place: &Place) -> Result<Vec<Relay>> {
    for protocol in ["tcp", "udp"] {
        let name = format!("ipv4/{protocol}_l3mdev_accept");
        tools::set(Some(&place.near.name), &name, "1")?;
    }
    Ok(Vec::new())
}

pub fn team(place: &Place) -> Result<Vec<Relay>> {
    let near = &*place.near.name;
    // Only possible without ports.
    netlink::set_team_mode(near, "top0", "roundrobin")?;
    let commands = [
        "link set low0 master top0".to_owned(),
        "link set top0 up".to_owned(),
        "link add link top0 name top1 type macvlan mode bridge".to_owned(),
        format!("link set top1 netns {}", place.third.name),
    ];
    ip_batch(Some(near), &commands)?;
    Ok(Vec::new())
}

pub fn tun(place: &Place) -> Result<Vec<Relay>> {
    let [near, far] = [&place.near, &place.far].map(|netns| Device::Tun {
        netns: &netns.name,
        name: "top0",
    });
    Ok(vec![Relay::start(near, far)?])
}

/// A relay to the far end, and one of a virtual machine on a bridge.
pub fn taps(place: &Place) -> Result<Vec<Relay>> {
    let [near, far, third] = [&place.near, &place.far, &place.third].map(|netns| &*netns.name);
    let tap = |netns, name| Device::Tap { netns, name };
    let relays = vec![
        Relay::start(tap(near, "top0"), tap(far, "top0"))?,
        Relay::start(tap(near, "port0"), tap(third, "top1"))?,
    ];
    let commands = ["link set port0 master bridge0", "link set port0 up"];
    ip_batch(Some(near), &commands.map(str::to_owned))?;
    Ok(relays)
}

/// A relay of a virtual machine.
pub fn macvtap(place: &Place) -> Result<Vec<Relay>> {
    let [near, third] = [&place.near, &place.third].map(|netns| &*netns.name);
    let commands = [
        format!("link set guest0 address {MACHINE}"),
        "link set guest0 up".to_owned(),
    ];
    ip_batch(Some(near), &commands)?;
    let host = Device::Macvtap {
        netns: near,
        name: "guest0",
    };
    let machine = Device::Tap {
        netns: third,
        name: "top1",
    };
    let relay = Relay::start(host, machine)?;
    ip_batch(Some(third), &[format!("link set top1 address {MACHINE}")])?;
    Ok(vec![relay])
}

/// Keys and peers of two tunnels; one near end is in the third namespace by now.
pub fn wireguard(place: &Place) -> Result<Vec<Relay>> {
    let end = |netns, name, number: u8, port| WireGuard {
        netns,
        name,
        secret: [number; 32],
        port,
    };
    let [near, far, third] = [&place.near, &place.far, &place.third].map(|netns| &*netns.name);
    for (here, there) in [
        (end(near, "top0", 1, 51820), end(far, "top0", 2, 51820)),
        (end(third, "top1", 3, 51821), end(far, "top1", 4, 51821)),
    ] {
        let (here_key, there_key) = (here.prepare()?, there.prepare()?);
        here.connect(
            &there_key,
            SocketAddrV4::new(Ipv4Addr::new(10, 204, 0, 2), there.port),
        )?;
        there.connect(
            &here_key,
            SocketAddrV4::new(Ipv4Addr::new(10, 204, 0, 1), here.port),
        )?;
    }
    Ok(Vec::new())
}

/// ESP tunnels for two XFRM interfaces, each with an id that its packets must have.
pub fn xfrm(place: &Place) -> Result<Vec<Relay>> {
    let all = "src 0.0.0.0/0 dst 0.0.0.0/0";
    for number in [1, 2] {
        let own = 10 * (number - 1);
        let (near, far) = (
            format!("10.204.0.{}", own + 1),
            format!("10.204.0.{}", own + 2),
        );
        let mark = format!(" if_id {number}");
        ip_batch(
            Some(&place.near.name),
            &esp(number, &near, &far, [all, all], &mark),
        )?;
        ip_batch(
            Some(&place.far.name),
            &esp(number, &far, &near, [all, all], &mark),
        )?;
    }
    Ok(Vec::new())
}

/// An ESP tunnel for all traffic to and from the far end's address.
pub fn ipsec(place: &Place) -> Result<Vec<Relay>> {
    let (near, far) = ("10.204.0.1", "10.204.0.2");
    let (there, back) = (
        "src 0.0.0.0/0 dst 10.204.1.2/32",
        "src 10.204.1.2/32 dst 0.0.0.0/0",
    );
    ip_batch(
        Some(&place.near.name),
        &esp(1, near, far, [there, back], ""),
    )?;
    ip_batch(Some(&place.far.name), &esp(1, far, near, [back, there], ""))?;
    Ok(Vec::new())
}

/// States and policies of one end, for both directions.
fn esp(number: u8, own: &str, peer: &str, selectors: [&str; 2], mark: &str) -> Vec<String> {
    let state = |from: &str, to: &str| {
        // One for each direction, the same at both ends.
        let spi = if from < to { 0x100 } else { 0x200 } + u32::from(number);
        format!(
            "xfrm state add src {from} dst {to} proto esp spi {spi:#x} reqid {number} mode tunnel aead rfc4106(gcm(aes)) {KEY} 128{mark}"
        )
    };
    let policy = |direction: &str, selector: &str, from: &str, to: &str| {
        format!(
            "xfrm policy add {selector} dir {direction}{mark} tmpl src {from} dst {to} proto esp reqid {number} mode tunnel"
        )
    };
    let [sent, received] = selectors;
    vec![
        state(own, peer),
        state(peer, own),
        policy("out", sent, own, peer),
        policy("in", received, peer, own),
        policy("fwd", received, peer, own),
    ]
}
