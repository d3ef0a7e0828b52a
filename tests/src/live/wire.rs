//! What passed the far end of a veth pair, counted by nftables there: the packets of each near port, apart from Flow.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{
    check::{Difference, difference},
    stream::{Flow, Stream, Wire, wires},
};

/// Packets and their bytes, from layer 3 on. A buffer of several segments is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    pub bytes: u64,
    pub packets: u64,
}

impl Packets {
    fn without(self, part: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(part.bytes),
            packets: self.packets.saturating_sub(part.packets),
        }
    }

    /// At most `count` of packets that are all alike.
    fn of_these(self, count: u64) -> Self {
        let packets = count.min(self.packets);
        Self {
            bytes: packets * self.bytes.checked_div(self.packets).unwrap_or(0),
            packets,
        }
    }
}

/// A port of the near end: IPv4 or IPv6, TCP or UDP, number.
pub type NearPort = (bool, bool, u16);

/// What the near end sent and received, by its port.
#[derive(Debug, Default)]
pub struct Ports {
    pub sent: BTreeMap<NearPort, Packets>,
    pub received: BTreeMap<NearPort, Packets>,
    /// Those of either direction with selective acknowledgements, whose headers are longer.
    selective: BTreeMap<NearPort, Packets>,
    /// RSTs that came from no socket, which have no options; the packets that they answer reached none either.
    resets: BTreeMap<NearPort, Packets>,
    /// RSTs to the near end that came from no socket: its own may be gone too when they arrive.
    far_resets: BTreeMap<NearPort, Packets>,
    /// Acknowledgements to the near end of what came twice: its socket may have gone to TIME_WAIT before, where none takes
    /// them and nothing answers.
    duplicates: BTreeMap<NearPort, Packets>,
    /// FINs to the near end: its socket may have gone to TIME_WAIT before, as one that is closed does once its own FIN is
    /// acknowledged, and as each does before a FIN that comes again. They are answered from there, by no socket.
    fins: BTreeMap<NearPort, Packets>,
    /// Segments that the far end sent again, of all its connections together.
    sent_again: u64,
}

impl Ports {
    /// What passed since `earlier`.
    pub fn since(self, earlier: &Self) -> Self {
        let Self {
            sent,
            received,
            selective,
            resets,
            far_resets,
            duplicates,
            fins,
            sent_again,
        } = self;
        Self {
            sent: grown(sent, &earlier.sent),
            received: grown(received, &earlier.received),
            selective: grown(selective, &earlier.selective),
            resets: grown(resets, &earlier.resets),
            far_resets: grown(far_resets, &earlier.far_resets),
            duplicates: grown(duplicates, &earlier.duplicates),
            fins: grown(fins, &earlier.fins),
            sent_again: sent_again.saturating_sub(earlier.sent_again),
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

/// Frames that passed the far end's device, with their link headers, by what they are: `arp`, `ip`, `ip6`.
#[derive(Debug, Default)]
pub struct Frames {
    pub to_near: BTreeMap<String, Packets>,
    pub from_near: BTreeMap<String, Packets>,
}

impl Frames {
    /// What passed since `earlier`: to the near end, and from it.
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
/// Bytes of a packet on a veth pair at most.
pub const ETHERNET_MTU: u64 = 1500;

/// Device of the far end in its namespace.
pub const FAR: &str = "far0";

/// At input and output datagrams are whole, as they are at their sockets: for IPv6 because of the rule that asks for a
/// connection's state, which makes the kernel put fragments together first. At the device everything is counted that passes:
/// on the way in from layer 3 on, on the way out with the link's header. What the far end sent to groups and gets back itself
/// comes in there too, but passes no device.
const RULES: &str = "
table inet flow-test {
    set sent { typeof meta nfproto . meta l4proto . th sport; flags dynamic; size 65535; counter; }
    set received { typeof meta nfproto . meta l4proto . th dport; flags dynamic; size 65535; counter; }
    set selective { typeof meta nfproto . meta l4proto . th dport; flags dynamic; size 65535; counter; }
    set resets { typeof meta nfproto . meta l4proto . th dport; flags dynamic; size 65535; counter; }
    set far_resets { typeof meta nfproto . meta l4proto . th dport; flags dynamic; size 65535; counter; }
    set duplicates { typeof meta nfproto . meta l4proto . th dport; flags dynamic; size 65535; counter; }
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
        iifname far0 meta l4proto { tcp, udp } update @sent { meta nfproto . meta l4proto . th sport }
        iifname far0 tcp flags rst meta length { 40, 60 } update @resets { meta nfproto . meta l4proto . th sport }
        iifname far0 tcp option sack exists update @selective { meta nfproto . meta l4proto . th sport }
    }
    chain output {
        type filter hook output priority 400;
        oifname far0 meta l4proto { tcp, udp } update @received { meta nfproto . meta l4proto . th dport }
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

/// Begins to count in a network namespace that has this address.
pub fn install(namespace: &str, own: IpAddr) -> Result<()> {
    let own = format!("insert rule netdev flow-test ingress ip saddr {own} return");
    nft(namespace, &[RULES])?;
    nft(namespace, &[&own]).map(drop)
}

/// What was counted by port since [`install`].
pub fn ports(namespace: &str) -> Result<Ports> {
    let ports = |name: &str| set(namespace, "inet", name, near_port_of);
    Ok(Ports {
        sent: ports("sent")?,
        received: ports("received")?,
        selective: ports("selective")?,
        resets: ports("resets")?,
        far_resets: ports("far_resets")?,
        duplicates: ports("duplicates")?,
        fins: ports("fins")?,
        sent_again: sent_again(namespace)?,
    })
}

/// What passed the device since [`install`].
pub fn frames(namespace: &str) -> Result<Frames> {
    let protocols = |name: &str| {
        set(namespace, "netdev", name, |protocol| {
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

/// The wire bytes of every flow over `link`, against what came and went at its port.
///
/// Flow counts a buffer's segments each with its headers, nftables the buffer with one set of them. So
/// the difference must be as many headers as there are more packets; `whole` says that the ends make no such buffers: then
/// there may be none.
pub fn differences(stream: &Stream, link: &str, ports: &Ports, whole: bool) -> Vec<Difference> {
    // A socket may be bound to no address of either kind; its remotes have one.
    let remotes = stream.flows.values();
    let remotes: BTreeMap<&str, SocketAddr> = remotes
        .filter_map(|flow| Some((&*flow.socket, flow.remote.as_ref()?.parse().ok()?)))
        .collect();
    let mut seen = BTreeMap::<NearPort, Vec<&Flow>>::new();
    for flow in stream.flows.values() {
        if flow.interface.as_deref() == Some(link)
            && let Some(port) = near_port(flow, remotes.get(&*flow.socket))
        {
            seen.entry(port).or_default().push(flow);
        }
    }
    let mut differences = Vec::new();
    let mut differs = |what: &str, port: NearPort, flow: Packets, counted: Packets| {
        let (is_ipv4, is_tcp, number) = port;
        let subject = format!(
            "{link} {} {} port {number}",
            if is_ipv4 { "IPv4" } else { "IPv6" },
            if is_tcp { "TCP" } else { "UDP" },
        );
        let (expected, seen) = (format!("{counted:?}"), format!("{flow:?}"));
        differences.push(difference(subject, what, expected, seen));
    };
    let is_right = |port: NearPort, flow: Packets, counted: Packets, late: &Late| {
        let repeated = flow.packets.checked_sub(counted.packets);
        let repeated = repeated.filter(|repeated| *repeated == 0 || !whole);
        repeated.is_some_and(|repeated| {
            let exact = counted.bytes + repeated * headers(port);
            let options = if ports.selective.contains_key(&port) {
                repeated * MOST_OPTIONS
            } else {
                0
            };
            let least = exact.saturating_sub(late.with_options * LATE_OPTIONS);
            let most = exact + options + late.without_options * LATE_OPTIONS;
            (least..=most).contains(&flow.bytes)
        })
    };
    // Segments that came a second time, when no socket was there to take them.
    let mut untaken = 0;
    for (port, flows) in &seen {
        let sockets = wires(flows.iter().copied());
        let sum = |part: fn(&Wire) -> (u64, u64)| {
            let parts = sockets.values().map(part);
            parts.fold(Packets::default(), |sum, (bytes, packets)| Packets {
                bytes: sum.bytes + bytes,
                packets: sum.packets + packets,
            })
        };
        let sent = sum(|wire| (wire.tx_bytes, wire.tx_packets));
        let received = sum(|wire| (wire.rx_bytes, wire.rx_packets));
        let read = flows.iter().map(|flow| flow.app.rx_bytes).sum();
        let counted = |of: &BTreeMap<NearPort, Packets>| of.get(port).copied().unwrap_or_default();
        let resets = counted(&ports.resets);
        let fins = counted(&ports.fins);
        // As a rule an acknowledgement that came late.
        let unanswered = bare(resets.packets, *port);
        let late = [
            unanswered,
            counted(&ports.far_resets),
            counted(&ports.duplicates),
            fins,
        ];
        let taken = late
            .into_iter()
            .fold(counted(&ports.received), |taken, late| {
                taken.without(late.of_these(taken.packets.saturating_sub(received.packets)))
            });
        let mut twice = 0;
        // Among buffers of several segments they do not stand out by their number.
        let unseen = if whole {
            Late::default()
        } else {
            Late {
                with_options: counted(&ports.duplicates).packets,
                without_options: counted(&ports.far_resets).packets,
            }
        };
        if !is_right(*port, received, taken, &unseen) {
            twice = segments_twice(*port, received, taken, read).unwrap_or(0);
            if twice == 0 {
                differs("wire received", *port, received, taken);
            }
        }
        untaken += twice;
        let own = counted(&ports.sent).without(resets);
        let answers = bare(fins.packets + twice, *port);
        let own = own.without(answers.of_these(own.packets.saturating_sub(sent.packets)));
        if !is_right(*port, sent, own, &Late::default()) {
            differs("wire sent", *port, sent, own);
        }
    }
    for (port, sent) in &ports.sent {
        let resets = ports.resets.get(port).copied().unwrap_or_default();
        let own = sent.without(resets);
        let nothing = Packets::default();
        if !seen.contains_key(port) && !is_right(*port, nothing, own, &Late::default()) {
            differs("wire sent", *port, nothing, own);
        }
    }
    if untaken > ports.sent_again {
        let what = "segments that no socket took";
        let expected = format!("at most {}, sent again", ports.sent_again);
        differences.push(difference(link, what, expected, untaken));
    }
    differences
}

/// How many packets without payload may have come when no socket was there to take them.
#[derive(Default)]
struct Late {
    /// Acknowledgements of what came twice, which say so.
    with_options: u64,
    /// RSTs that came from no socket.
    without_options: u64,
}

/// By so much the former are longer than an acknowledgement that has nothing but time stamps, and the latter shorter.
const LATE_OPTIONS: u64 = 12;

/// How many segments of payload sockets did not take that came to their port, at least.
///
/// The far end sends again what is not acknowledged in time, and on a slow machine that comes when its socket is closed
/// already, having all its bytes: it does no harm, and no socket takes it. None where that cannot be the reason: where
/// processes read more than the sockets took.
fn segments_twice(port: NearPort, taken: Packets, came: Packets, read: u64) -> Option<u64> {
    let (_, true, _) = port else {
        return None;
    };
    let payload = |of: Packets| of.bytes.checked_sub(of.packets * headers(port));
    let (taken, came) = (payload(taken)?, payload(came)?);
    let segment = ETHERNET_MTU - headers(port);
    (taken >= read && came > taken).then(|| (came - taken).div_ceil(segment))
}

/// Bytes of the options of TCP at most.
const MOST_OPTIONS: u64 = 40;

/// Bytes of the headers that segments repeat: nothing but time stamps among the options.
const fn headers((is_ipv4, is_tcp, _): NearPort) -> u64 {
    let network = if is_ipv4 { 20 } else { 40 };
    network + if is_tcp { 32 } else { 8 }
}

/// Packets of headers alone.
const fn bare(packets: u64, port: NearPort) -> Packets {
    Packets {
        bytes: packets * headers(port),
        packets,
    }
}

fn near_port(flow: &Flow, remote: Option<&SocketAddr>) -> Option<NearPort> {
    let local: SocketAddr = flow.local.as_ref()?.parse().ok()?;
    let is_tcp = match flow.protocol.as_deref()? {
        "tcp" => true,
        "udp" => false,
        _ => return None,
    };
    Some((remote.unwrap_or(&local).is_ipv4(), is_tcp, local.port()))
}

fn near_port_of(key: &Value) -> Option<NearPort> {
    let [family, protocol, port] = key["concat"].as_array()?.as_slice() else {
        return None;
    };
    let port = u16::try_from(port.as_u64()?).ok()?;
    // A system without the list of protocols' names has their numbers.
    let is_tcp = protocol == "tcp" || *protocol == libc::IPPROTO_TCP;
    Some((family == "ipv4", is_tcp, port))
}

/// The elements of a set with their counters.
fn set<K: Ord>(
    namespace: &str,
    family: &str,
    name: &str,
    key: impl Fn(&Value) -> Option<K>,
) -> Result<BTreeMap<K, Packets>> {
    let json = nft(namespace, &["list", "set", family, "flow-test", name])?;
    let mut found = BTreeMap::new();
    for entry in json["nftables"].as_array().into_iter().flatten() {
        for element in entry["set"]["elem"].as_array().into_iter().flatten() {
            let element = &element["elem"];
            let number = |name: &str| element["counter"][name].as_u64();
            let packets = number("bytes").zip(number("packets"));
            let Some((key, (bytes, packets))) = key(&element["val"]).zip(packets) else {
                bail!("an element that is none of these rules': {element}");
            };
            found.insert(key, Packets { bytes, packets });
        }
    }
    Ok(found)
}

/// Segments that TCP sent again in a network namespace.
pub fn sent_again(namespace: &str) -> Result<u64> {
    let snmp = output(&mut inside(namespace, &["cat", "/proc/net/snmp"]))?;
    counter(&String::from_utf8(snmp)?, "Tcp:", "RetransSegs").context("/proc/net/snmp")
}

/// A counter of `/proc/net/snmp`, where each protocol has a line of names and one of numbers.
fn counter(snmp: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter(|line| line.starts_with(protocol));
    let [names, numbers] = [lines.next()?, lines.next()?].map(str::split_whitespace);
    let (_, number) = names.zip(numbers).find(|(known, _)| *known == name)?;
    number.parse().ok()
}

/// Runs `nft` in a network namespace.
fn nft(namespace: &str, arguments: &[&str]) -> Result<Value> {
    let output = output(inside(namespace, &["nft", "--json"]).args(arguments))?;
    if output.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output).context("the output of nft")
}

/// Runs commands of `nft` in this namespace.
pub fn nft_here(commands: &str) -> Result<()> {
    output(Command::new("nft").arg(commands)).map(drop)
}

/// A command in a network namespace.
fn inside(namespace: &str, command: &[&str]) -> Command {
    let mut ip = Command::new("ip");
    ip.args(["netns", "exec", namespace]).args(command);
    ip
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}", error.trim());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP4: NearPort = (true, true, 42430);

    fn packets(bytes: u64, packets: u64) -> Packets {
        Packets { bytes, packets }
    }

    #[test]
    fn what_came_twice_may_find_no_socket() {
        // 10,000 bytes in twelve packets, and 2,748 of them again in one buffer.
        let taken = packets(10_000 + 12 * 52 + 8, 12);
        let came = packets(12_748 + 9 * 52 + 8, 9);
        assert_eq!(segments_twice(TCP4, taken, came, 10_000), Some(2));
        assert_eq!(
            segments_twice(TCP4, taken, came, 10_009),
            None,
            "read, but not taken"
        );
        assert_eq!(
            segments_twice(TCP4, came, taken, 10_000),
            None,
            "taken, but never sent"
        );
        let udp = (true, false, 42430);
        assert_eq!(segments_twice(udp, taken, came, 10_000), None);
    }

    #[test]
    fn counters_are_found_by_name() {
        let snmp = "Ip: InReceives RetransSegs\nIp: 1 2\nTcp: InSegs RetransSegs\nTcp: 3 4\n";
        assert_eq!(counter(snmp, "Tcp:", "RetransSegs"), Some(4));
        assert_eq!(counter(snmp, "Tcp:", "OutSegs"), None);
        assert_eq!(counter(snmp, "Udp:", "InSegs"), None);
    }
}
