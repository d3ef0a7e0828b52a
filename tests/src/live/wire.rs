//! Wire bytes of flows against the far end of a veth pair, where nftables counts them.

mod nftables;

use std::{collections::BTreeMap, net::SocketAddr};

use super::{
    difference::{Difference, difference},
    stream::{Flow, Stream, wires},
};

pub use nftables::{
    ETHERNET_MTU, FAR, NearPort, Packets, Ports, Table, frames, install, ports, remove, sent_again,
};

/// Compares the wire bytes of every flow over `link` with what nftables counted at its port.
///
/// Flow counts each segment of a buffer with its headers, nftables the buffer with one set of
/// headers. So the difference must be as many headers as there are more packets; with `whole` the
/// ends make no such buffers, and there may be no difference. nftables also counts a fragmented
/// datagram as one; its fragments have headers of their own. What nftables had no room for may
/// account for a surplus at ports, up to its sum.
pub fn differences(stream: &Stream, link: &str, ports: &Ports, whole: bool) -> Vec<Difference> {
    // A socket may be bound to no address of either family; its remotes have one.
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
    let mut differs = |what: &str, port: NearPort, flow: Packets, counted: Packets, late: &Late| {
        let (is_ipv4, is_tcp, number) = port;
        let subject = format!(
            "{link} {} {} port {number}",
            if is_ipv4 { "IPv4" } else { "IPv6" },
            if is_tcp { "TCP" } else { "UDP" },
        );
        let expected = format!("{counted:?} but for {late:?}");
        let seen = format!("{flow:?}");
        differences.push(difference(subject, what, expected, seen));
    };
    let agrees = |port: NearPort, flow: Packets, counted: Packets, late: &Late| {
        let options = ports.selective.contains_key(&port);
        agrees(port, flow, counted, late, whole, options)
    };
    let Ports {
        mut missed_sent,
        mut missed_received,
        ..
    } = *ports;
    if missed_sent.packets + missed_received.packets > 0 {
        eprintln!(
            "{link}: nftables had no room for {missed_sent:?} sent, {missed_received:?} received"
        );
    }
    // Duplicates of segments, when no socket was left to take them.
    let mut untaken = 0;
    for (port, flows) in &seen {
        let sockets = wires(flows.iter().copied());
        let sent: Packets = sockets.values().map(Packets::sent_by).sum();
        let received: Packets = sockets.values().map(Packets::received_by).sum();
        let read = flows.iter().map(|flow| flow.app.rx_bytes).sum();
        let counted = |of: &BTreeMap<NearPort, Packets>| of.get(port).copied().unwrap_or_default();
        let (came, resets) = (counted(&ports.received), counted(&ports.resets));
        let fins = counted(&ports.fins).packets;
        let late = Late {
            short: counted(&ports.far_resets).packets,
            // An RST usually answers an acknowledgement that came late.
            plain: fins + resets.packets,
            long: counted(&ports.duplicates).packets,
        };
        let mut twice = 0;
        let in_fragments = came + counted(&ports.fragments_received);
        if ![came, in_fragments]
            .iter()
            .any(|came| agrees(*port, received, *came, &late))
        {
            twice = segments_twice(*port, received, came, read).unwrap_or(0);
            if twice == 0 && !missed_received.takes_excess(received, came) {
                differs("wire received", *port, received, came, &late);
            }
        }
        untaken += twice;
        let own = counted(&ports.sent).without(resets);
        let answers = Late {
            plain: fins + twice,
            ..Late::default()
        };
        let in_fragments = own + counted(&ports.fragments_sent);
        let agrees = [own, in_fragments]
            .iter()
            .any(|own| agrees(*port, sent, *own, &answers));
        if !agrees && !missed_sent.takes_excess(sent, own) {
            differs("wire sent", *port, sent, own, &answers);
        }
    }
    for (port, sent) in &ports.sent {
        let resets = ports.resets.get(port).copied().unwrap_or_default();
        let own = sent.without(resets);
        let nothing = Packets::default();
        let none = Late::default();
        if !seen.contains_key(port) && !agrees(*port, nothing, own, &none) {
            differs("wire sent", *port, nothing, own, &none);
        }
    }
    if untaken > ports.sent_again {
        let what = "segments that no socket took";
        let expected = format!("at most {}, sent again", ports.sent_again);
        differences.push(difference(link, what, expected, untaken));
    }
    differences
}

/// How many packets without payload may have passed that no socket sent or took, by their headers.
#[derive(Clone, Copy, Debug, Default)]
struct Late {
    /// RSTs of no socket, without options.
    short: u64,
    /// Without options except timestamps.
    plain: u64,
    /// Acknowledgements of duplicates, which have a D-SACK.
    long: u64,
}

/// How much shorter the first are than the second, and how much longer the last.
const LATE_OPTIONS: i128 = 12;

/// Whether a flow's packets are those that were counted: with one more set of headers for each
/// packet that Flow has more, since nftables counts buffers, unless they are `whole`, and without
/// any of the `late` ones. With `options` there are packets with selective acknowledgements in
/// their headers, which segments repeat.
fn agrees(
    port: NearPort,
    flow: Packets,
    counted: Packets,
    late: &Late,
    whole: bool,
    options: bool,
) -> bool {
    let more = |of: fn(Packets) -> u64| i128::from(of(flow)) - i128::from(of(counted));
    let more_packets = more(|packets| packets.packets);
    let excess = more(|packets| packets.bytes) - more_packets * i128::from(headers(port));
    let [short, plain, long] = [late.short, late.plain, late.long].map(i128::from);
    let missing = -more_packets;
    if missing > short + plain + long {
        return false;
    }
    if options && !whole {
        let repeated = (short + plain + long - missing) * i128::from(MOST_OPTIONS);
        return (-long * LATE_OPTIONS..=short * LATE_OPTIONS + repeated).contains(&excess);
    }
    if excess % LATE_OPTIONS != 0 || (whole && missing < 0) {
        return false;
    }
    // So many more of the short ones are missing than of the long ones, and at most so many of
    // these.
    let shorter = excess / LATE_OPTIONS;
    let mut most = long.min(short - shorter);
    if whole {
        most = most.min((missing - shorter).div_euclid(2));
    }
    most >= 0.max(-shorter) && 2 * most + shorter + plain >= missing
}

/// The least number of segments with payload that reached their port but no socket.
///
/// The far end retransmits what is not acknowledged in time. On a slow machine such a segment may
/// arrive when its socket is already closed and has all its bytes: that does no harm, and no socket
/// takes it. None if that cannot be the reason, because processes read more than the sockets took.
fn segments_twice(port: NearPort, taken: Packets, came: Packets, read: u64) -> Option<u64> {
    let (_, true, _) = port else {
        return None;
    };
    let payload = |of: Packets| of.bytes.checked_sub(of.packets * headers(port));
    let (taken, came) = (payload(taken)?, payload(came)?);
    let segment = ETHERNET_MTU - headers(port);
    (taken >= read && came > taken).then(|| (came - taken).div_ceil(segment))
}

/// Most bytes of TCP options.
const MOST_OPTIONS: u64 = 40;

/// Bytes of the headers that segments repeat, with only timestamps as options.
const fn headers((is_ipv4, is_tcp, _): NearPort) -> u64 {
    let network = if is_ipv4 { 20 } else { 40 };
    network + if is_tcp { 32 } else { 8 }
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

#[cfg(test)]
mod tests {
    use super::*;

    const TCP4: NearPort = (true, true, 42430);

    fn packets(bytes: u64, packets: u64) -> Packets {
        Packets { bytes, packets }
    }

    #[test]
    fn what_came_twice_may_find_no_socket() {
        // 10,000 bytes in twelve packets, and 2,748 of them retransmitted in one buffer.
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

    /// Whether packets agree with those counted, if at most so many short, plain and long ones are
    /// late.
    fn agrees_with(flow: Packets, counted: Packets, late: (u64, u64, u64), whole: bool) -> bool {
        let (short, plain, long) = late;
        let late = Late { short, plain, long };
        agrees(TCP4, flow, counted, &late, whole, false)
    }

    #[test]
    fn late_packets_are_recognised_by_their_size() {
        let flow = packets(1000, 5);
        assert!(agrees_with(flow, flow, (0, 0, 0), true));
        // One of each kind arrived, and one was late.
        for size in [40, 52, 64] {
            let counted = packets(1000 + size, 6);
            assert!(agrees_with(flow, counted, (1, 1, 1), true), "{size}");
            assert!(agrees_with(flow, counted, (1, 1, 1), false), "{size}");
        }
        for (size, late) in [(40, (0, 1, 1)), (52, (1, 0, 1)), (64, (1, 1, 0))] {
            let counted = packets(1000 + size, 6);
            assert!(!agrees_with(flow, counted, late, true), "{size}");
        }
        assert!(!agrees_with(flow, packets(1051, 6), (1, 1, 1), true));
        assert!(agrees_with(flow, packets(1104, 7), (1, 0, 1), true), "two");
        assert!(!agrees_with(flow, packets(1104, 7), (0, 1, 0), true));
    }

    #[test]
    fn buffers_have_one_set_of_headers() {
        let (flow, counted) = (packets(10_000 + 10 * 52, 10), packets(10_000 + 3 * 52, 3));
        assert!(agrees_with(flow, counted, (0, 0, 0), false));
        assert!(!agrees_with(flow, counted, (0, 0, 0), true));
        assert!(!agrees_with(counted, flow, (0, 0, 0), false));
        // Late packets cannot be recognised by their number then.
        for (size, late) in [(40, (1, 0, 0)), (52, (0, 1, 0)), (64, (0, 0, 1))] {
            let counted = packets(counted.bytes + size, 4);
            assert!(agrees_with(flow, counted, late, false), "{size}");
            assert_eq!(
                agrees_with(flow, counted, (0, 0, 0), false),
                size == 52,
                "{size}"
            );
        }
    }
}
