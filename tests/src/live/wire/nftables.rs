//! What nftables counted at the far end of a veth pair, independently of Flow: the packets of each
//! near port, and the frames of the device.

use std::{
    collections::BTreeMap,
    iter::Sum,
    net::IpAddr,
    ops::Add,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::live::{
    stream::Wire,
    tools::{self, Netns},
};

/// Packets and their bytes, from layer 3 on. A buffer of several segments is one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    pub bytes: u64,
    pub packets: u64,
}

impl Packets {
    pub(super) fn without(self, part: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(part.bytes),
            packets: self.packets.saturating_sub(part.packets),
        }
    }

    /// Adds what `flow` has more than was counted, if there is as much.
    pub(super) fn takes_excess(&mut self, flow: Self, counted: Self) -> bool {
        let bytes = flow.bytes.checked_sub(counted.bytes);
        let packets = flow.packets.checked_sub(counted.packets);
        let Some((bytes, packets)) = bytes.zip(packets) else {
            return false;
        };
        let holds = packets > 0 && packets <= self.packets && bytes <= self.bytes;
        if holds {
            *self = self.without(Self { bytes, packets });
        }
        holds
    }

    pub fn sent_by(wire: &Wire) -> Self {
        Self {
            bytes: wire.tx_bytes,
            packets: wire.tx_packets,
        }
    }

    pub fn received_by(wire: &Wire) -> Self {
        Self {
            bytes: wire.rx_bytes,
            packets: wire.rx_packets,
        }
    }
}

impl Add for Packets {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            packets: self.packets + other.packets,
        }
    }
}

impl Sum for Packets {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), Add::add)
    }
}

/// A port of the near end: IPv4 or IPv6, TCP or UDP, number.
pub type NearPort = (bool, bool, u16);

/// What the near end sent and received, by its port.
#[derive(Debug, Default)]
pub struct Ports {
    pub sent: BTreeMap<NearPort, Packets>,
    pub received: BTreeMap<NearPort, Packets>,
    /// Packets of either direction with selective acknowledgements, so with longer headers.
    pub(super) selective: BTreeMap<NearPort, Packets>,
    /// RSTs of no socket, which have no options; the packets that they answer reached no socket
    /// either.
    pub(super) resets: BTreeMap<NearPort, Packets>,
    /// RSTs to the near end of no socket: the near end's socket may be gone too when they arrive.
    pub(super) far_resets: BTreeMap<NearPort, Packets>,
    /// Acknowledgements to the near end of duplicates: its socket may have gone to TIME_WAIT
    /// before, where no socket takes them and nothing answers.
    pub(super) duplicates: BTreeMap<NearPort, Packets>,
    /// FINs to the near end: its socket may have gone to TIME_WAIT before, as a closed one does
    /// once its own FIN is acknowledged, and as each does before a retransmitted FIN. No socket
    /// answers these.
    pub(super) fins: BTreeMap<NearPort, Packets>,
    /// What fragmentation adds to sent datagrams, except buffers of several datagrams.
    pub(super) fragments_sent: BTreeMap<NearPort, Packets>,
    pub(super) fragments_received: BTreeMap<NearPort, Packets>,
    /// Retransmitted segments of the far end, for all its connections together.
    pub(super) sent_again: u64,
    /// Packets in neither `sent` nor `received`: nftables allocates memory for a new port without
    /// waiting, which may fail.
    pub(super) missed_sent: Packets,
    pub(super) missed_received: Packets,
}

impl Ports {
    /// The difference from `earlier`.
    pub fn since(self, earlier: &Self) -> Self {
        let Self {
            sent,
            received,
            selective,
            resets,
            far_resets,
            duplicates,
            fins,
            fragments_sent,
            fragments_received,
            sent_again,
            missed_sent,
            missed_received,
        } = self;
        Self {
            sent: grown(sent, &earlier.sent),
            received: grown(received, &earlier.received),
            selective: grown(selective, &earlier.selective),
            resets: grown(resets, &earlier.resets),
            far_resets: grown(far_resets, &earlier.far_resets),
            duplicates: grown(duplicates, &earlier.duplicates),
            fins: grown(fins, &earlier.fins),
            fragments_sent: grown(fragments_sent, &earlier.fragments_sent),
            fragments_received: grown(fragments_received, &earlier.fragments_received),
            sent_again: sent_again.saturating_sub(earlier.sent_again),
            missed_sent: missed_sent.without(earlier.missed_sent),
            missed_received: missed_received.without(earlier.missed_received),
        }
    }
}

fn grown<K: Ord>(now: BTreeMap<K, Packets>, before: &BTreeMap<K, Packets>) -> BTreeMap<K, Packets> {
    let grown = now.into_iter().map(|(key, now)| {
        let before = before.get(&key).copied().unwrap_or_default();
        (key, now.without(before))
    });
    grown.collect()
}

/// Frames that passed the far end's device, with their link headers, by type: `arp`, `ip`, `ip6`.
#[derive(Debug, Default)]
pub struct Frames {
    pub to_near: BTreeMap<String, Packets>,
    pub from_near: BTreeMap<String, Packets>,
}

impl Frames {
    /// The difference from `earlier`: to the near end, and from it.
    pub fn since(self, earlier: &Self) -> [BTreeMap<String, Packets>; 2] {
        let Self { to_near, from_near } = self;
        [
            grown(to_near, &earlier.to_near),
            grown(from_near, &earlier.from_near),
        ]
    }
}

/// Bytes of an Ethernet header.
const LINK_HEADER: u64 = 14;
/// Most bytes of a packet on a veth pair.
pub const ETHERNET_MTU: u64 = 1500;

/// The far end's device in its namespace.
pub const FAR: &str = "far0";

/// At input and output datagrams are whole, as at their sockets: for IPv6 because of the rule that
/// uses a connection's state, which makes the kernel reassemble fragments first. At the device
/// everything that passes is counted: incoming packets from layer 3 on, outgoing ones with the link
/// header. Copies that the far end receives of its own multicast are incoming there too, but pass
/// no device.
const RULES: &str = "
table inet flow-test {
    counter all_sent { }
    counter all_received { }
    set sent { typeof meta nfproto . meta l4proto . th sport; flags dynamic; size 65535; counter; }
    set received { typeof meta nfproto . meta l4proto . th dport; flags dynamic; size 65535; counter; }
    set selective { typeof meta nfproto . meta l4proto . th dport; flags dynamic; size 65535; counter; }
    set resets { typeof meta nfproto . meta l4proto . th dport; flags dynamic; size 65535; counter; }
    set far_resets { typeof meta nfproto . meta l4proto . th dport; flags dynamic; size 65535; counter; }
    set duplicates { typeof meta nfproto . meta l4proto . th dport; flags dynamic; size 65535; counter; }
    set long_sent { typeof meta nfproto . meta l4proto . th sport . meta length; flags dynamic; size 65535; counter; }
    set long_received { typeof meta nfproto . meta l4proto . th dport . meta length; flags dynamic; size 65535; counter; }
    set fins { typeof meta nfproto . meta l4proto . th dport; flags dynamic; size 65535; counter; }
    chain prerouting {
        type filter hook prerouting priority raw;
        notrack
    }
    chain untracked {
        type filter hook output priority raw;
        notrack
    }
    chain input {
        type filter hook input priority -200;
        ct state invalid counter
        iifname far0 meta l4proto { tcp, udp } counter name all_sent update @sent { meta nfproto . meta l4proto . th sport }
        iifname far0 meta l4proto udp meta length > 1500 update @long_sent { meta nfproto . meta l4proto . th sport . meta length }
        iifname far0 tcp flags rst meta length { 40, 60 } update @resets { meta nfproto . meta l4proto . th sport }
        iifname far0 tcp option sack exists update @selective { meta nfproto . meta l4proto . th sport }
    }
    chain output {
        type filter hook output priority 400;
        oifname far0 meta l4proto { tcp, udp } counter name all_received update @received { meta nfproto . meta l4proto . th dport }
        oifname far0 meta l4proto udp meta length > 1500 update @long_received { meta nfproto . meta l4proto . th dport . meta length }
        oifname far0 tcp flags rst meta length { 40, 60 } update @far_resets { meta nfproto . meta l4proto . th dport }
        oifname far0 tcp option sack exists update @selective { meta nfproto . meta l4proto . th dport }
        oifname far0 tcp option sack exists meta length { 64, 84 } update @duplicates { meta nfproto . meta l4proto . th dport }
        oifname far0 tcp flags & fin == fin meta length { 52, 72 } update @fins { meta nfproto . meta l4proto . th dport }
    }
}
table netdev flow-test {
    set from { typeof meta protocol; flags dynamic; size 100; counter; }
    set to { typeof meta protocol; flags dynamic; size 100; counter; }
    chain ingress {
        type filter hook ingress device far0 priority 0;
        update @from { meta protocol }
    }
    chain egress {
        type filter hook egress device far0 priority 0;
        update @to { meta protocol }
    }
}";

/// Starts to count in a network namespace with this address.
pub fn install(namespace: &str, own: IpAddr) -> Result<()> {
    let own = format!("insert rule netdev flow-test ingress ip saddr {own} return");
    nft(Some(namespace), &format!("{RULES}\n{own}")).map(drop)
}

/// Counts no longer.
pub fn remove(namespace: &str) -> Result<()> {
    let tables = "delete table inet flow-test\ndelete table netdev flow-test";
    nft(Some(namespace), tables).map(drop)
}

/// What was counted by port since [`install`].
pub fn ports(namespace: &str) -> Result<Ports> {
    let table = table(namespace, "inet")?;
    let ports = |name: &str| set(&table, name, near_port_of);
    let (sent, received) = (ports("sent")?, ports("received")?);
    let missed = |name: &str, of_ports: &BTreeMap<NearPort, Packets>| {
        let all = named_counter(&table, name)?;
        Ok::<_, anyhow::Error>(all.without(of_ports.values().copied().sum()))
    };
    Ok(Ports {
        missed_sent: missed("all_sent", &sent)?,
        missed_received: missed("all_received", &received)?,
        sent,
        received,
        selective: ports("selective")?,
        resets: ports("resets")?,
        far_resets: ports("far_resets")?,
        duplicates: ports("duplicates")?,
        fins: ports("fins")?,
        fragments_sent: fragments(set(&table, "long_sent", long_of)?),
        fragments_received: fragments(set(&table, "long_received", long_of)?),
        sent_again: sent_again(Some(namespace))?,
    })
}

/// What passed the device since [`install`].
pub fn frames(namespace: &str) -> Result<Frames> {
    let table = table(namespace, "netdev")?;
    let protocols = |name: &str| {
        set(&table, name, |protocol| {
            protocol.as_str().map(str::to_owned)
        })
    };
    let mut from_near = protocols("from")?;
    for packets in from_near.values_mut() {
        packets.bytes += LINK_HEADER * packets.packets;
    }
    Ok(Frames {
        to_near: protocols("to")?,
        from_near,
    })
}

fn near_port_of(key: &Value) -> Option<NearPort> {
    let [family, protocol, port] = key["concat"].as_array()?.as_slice() else {
        return None;
    };
    let port = u16::try_from(port.as_u64()?).ok()?;
    // A system without `/etc/protocols` prints numbers.
    let is_tcp = protocol == "tcp" || *protocol == libc::IPPROTO_TCP;
    Some((family == "ipv4", is_tcp, port))
}

/// A port, and the length of its packets.
fn long_of(key: &Value) -> Option<(NearPort, u64)> {
    let parts = key["concat"].as_array()?;
    let (length, port) = parts.split_last()?;
    let port = serde_json::json!({ "concat": port });
    Some((near_port_of(&port)?, length.as_u64()?))
}

/// What the fragments of packets of these lengths have more than the packets.
fn fragments(long: BTreeMap<(NearPort, u64), Packets>) -> BTreeMap<NearPort, Packets> {
    let mut more = BTreeMap::<NearPort, Packets>::new();
    for ((port, length), Packets { packets, .. }) in long {
        let (header, added) = if port.0 { (20, 0) } else { (40, 8) };
        let room = ETHERNET_MTU - header - added;
        // All but the last one carry a multiple of 8 bytes.
        let behind = (length - header)
            .saturating_sub(room)
            .div_ceil(room / 8 * 8);
        let of_port = more.entry(port).or_default();
        of_port.packets += packets * behind;
        of_port.bytes += packets * (behind * header + (behind + 1) * added);
    }
    more
}

/// One of the tables of [`RULES`], as `nft` lists it.
fn table(namespace: &str, family: &str) -> Result<Value> {
    nft(Some(namespace), &format!("list table {family} flow-test"))
}

/// The elements of a set with their counters.
fn set<K: Ord>(
    table: &Value,
    name: &str,
    key: impl Fn(&Value) -> Option<K>,
) -> Result<BTreeMap<K, Packets>> {
    let entries = table["nftables"].as_array().into_iter().flatten();
    let mut sets = entries.map(|entry| &entry["set"]);
    let set = sets.find(|set| set["name"] == name);
    let set = set.with_context(|| format!("there is no set {name}"))?;
    let elements = set["elem"].as_array().into_iter().flatten();
    let counted = elements.map(|element| {
        let element = &element["elem"];
        key(&element["val"])
            .zip(packets(&element["counter"]))
            .with_context(|| format!("an element that is none of these rules': {element}"))
    });
    counted.collect()
}

fn named_counter(table: &Value, name: &str) -> Result<Packets> {
    let entries = table["nftables"].as_array().into_iter().flatten();
    let mut counters = entries.map(|entry| &entry["counter"]);
    let counter = counters.find(|counter| counter["name"] == name);
    counter
        .and_then(packets)
        .with_context(|| format!("there is no counter {name}"))
}

fn packets(counter: &Value) -> Option<Packets> {
    Some(Packets {
        bytes: counter["bytes"].as_u64()?,
        packets: counter["packets"].as_u64()?,
    })
}

/// Retransmitted TCP segments of a network namespace.
pub fn sent_again(netns: Netns<'_>) -> Result<u64> {
    let snmp = tools::read(netns, "snmp")?;
    counter(&snmp, "Tcp:", "RetransSegs").context("/proc/net/snmp")
}

/// A counter of `/proc/net/snmp`, where each protocol has a line of names and one of numbers.
fn counter(snmp: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter(|line| line.starts_with(protocol));
    let [names, numbers] = [lines.next()?, lines.next()?].map(str::split_whitespace);
    let (_, number) = names.zip(numbers).find(|(known, _)| *known == name)?;
    number.parse().ok()
}

/// The first counter among rules that `nft` listed.
pub fn counter_of(rules: &Value) -> Option<Packets> {
    let entries = rules["nftables"].as_array()?.iter();
    let mut expressions = entries.filter_map(|entry| entry["rule"]["expr"].as_array());
    let counter = expressions.find_map(|of_rule| {
        let mut counters = of_rule.iter().map(|part| &part["counter"]);
        counters.find(|counter| counter.is_object())
    })?;
    packets(counter)
}

/// A table of nftables rules of a test's own. Removed on drop, with its counters.
pub struct Table {
    /// The network namespace, if it is not the test's.
    namespace: Option<String>,
    family: &'static str,
    name: String,
}

impl Table {
    /// Installs a table; `body` has its chains in the syntax of `nft`.
    pub fn install(netns: Netns<'_>, family: &'static str, body: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let table = Self {
            namespace: netns.map(str::to_owned),
            family,
            name: format!("flow-test-{}-{number}", std::process::id()),
        };
        nft(
            netns,
            &format!("table {family} {} {{\n{body}\n}}", table.name),
        )?;
        Ok(table)
    }

    /// The first counter among the rules of a chain.
    pub fn counter(&self, chain: &str) -> Result<Packets> {
        let Self {
            namespace,
            family,
            name,
        } = self;
        let command = format!("list chain {family} {name} {chain}");
        let rules = nft(namespace.as_deref(), &command)?;
        counter_of(&rules).with_context(|| format!("no counter in {name} {chain}"))
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let Self {
            namespace,
            family,
            name,
        } = self;
        // Its namespace may be gone, and the table with it.
        let _ = nft(
            namespace.as_deref(),
            &format!("delete table {family} {name}"),
        );
    }
}

/// Runs commands of `nft`; returns their output.
fn nft(netns: Netns<'_>, commands: &str) -> Result<Value> {
    let output = tools::output(netns, Command::new("nft").args(["--json", commands]))?;
    if output.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output).context("the output of nft")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(bytes: u64, packets: u64) -> Packets {
        Packets { bytes, packets }
    }

    #[test]
    fn no_more_is_missed_than_nftables_reports() {
        let mut missed = packets(600, 10);
        assert!(!missed.takes_excess(packets(900, 10), packets(200, 5)));
        assert!(missed.takes_excess(packets(500, 10), packets(200, 5)));
        assert_eq!(missed, packets(300, 5));
        assert!(!missed.takes_excess(packets(500, 11), packets(200, 5)));
        assert!(!missed.takes_excess(packets(100, 5), packets(200, 5)));
        assert!(!missed.takes_excess(packets(200, 5), packets(200, 5)));
        assert!(missed.takes_excess(packets(300, 5), packets(0, 0)));
        assert_eq!(missed, Packets::default());
    }

    #[test]
    fn fragments_repeat_their_headers() {
        let (four, six) = ((true, false, 7), (false, false, 7));
        let long = [
            ((four, 8028), 10),
            ((four, 1501), 1),
            ((six, 8048), 10),
            ((six, 1501), 1),
        ];
        let long = long.map(|(key, count)| (key, packets(0, count)));
        let more = fragments(long.into());
        assert_eq!(more[&four], packets(10 * 5 * 20 + 20, 51));
        assert_eq!(more[&six], packets(10 * (5 * 40 + 6 * 8) + 40 + 2 * 8, 51));
    }

    #[test]
    fn a_rules_counter_is_found() {
        let rules = serde_json::json!({"nftables": [
            {"metainfo": {}},
            {"rule": {"expr": [{"match": {}}, {"counter": {"packets": 3, "bytes": 200}}]}},
        ]});
        assert_eq!(counter_of(&rules), Some(packets(200, 3)));
        assert_eq!(counter_of(&Value::Null), None);
    }

    #[test]
    fn counters_are_found_by_name() {
        let snmp = "Ip: InReceives RetransSegs\nIp: 1 2\nTcp: InSegs RetransSegs\nTcp: 3 4\n";
        assert_eq!(counter(snmp, "Tcp:", "RetransSegs"), Some(4));
        assert_eq!(counter(snmp, "Tcp:", "OutSegs"), None);
        assert_eq!(counter(snmp, "Udp:", "InSegs"), None);
    }
}
