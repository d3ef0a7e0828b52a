//! Fields of a packet that only the kernel's own `sk_buff` has. Each read costs some 40 ns, so only
//! packets with unusual headers are read, and those are large buffers or fragments.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_jiffies64};

use crate::kernel::{
    Address, DEVICE_FEATURES, DEVICE_HW_ENC_FEATURES, DEVICE_IP6, DEVICE_MTU, DST_DEV, DST_EXPIRES,
    DST_METRICS, INET_PINET6, INET_PMTUDISC, INET6_DEV_MTU, IP6CB_FRAG_MAX_SIZE,
    IPCB_FRAG_MAX_SIZE, PINET6_FRAG_SIZE, PINET6_PMTUDISC, PINET6_PMTUDISC_BIT, READS_SKB,
    RTABLE_PMTU, RTABLE_PMTU_BIT, SHINFO_GSO_TYPE, SKB_CB, SKB_DEV, SKB_ENCAPSULATION,
    SKB_ENCAPSULATION_BIT, SKB_END, SKB_HEAD, SKB_INNER_TRANSPORT_HEADER, SKB_MAC_LEN,
    SKB_NETWORK_HEADER, SKB_REFDST, SKB_SK, SKB_TRANSPORT_HEADER, follow, read, read_at,
};

/// `SKB_GSO_*` of include/linux/skbuff.h.
const GSO_TCPV4: u32 = 1 << 0;
const GSO_TCPV6: u32 = 1 << 4;
const GSO_SCTP: u32 = 1 << 14;
/// The feature of a device for each of these types is as many bits further (`NETIF_F_GSO_SHIFT`).
const FEATURE_SHIFT: u32 = 16;

/// `IP_PMTUDISC_PROBE` and the ones above it leave out what is known of the path
/// (`ip_sk_use_pmtu`).
const PMTUDISC_PROBE: u8 = 3;
const PMTUDISC_BITS: u8 = 7;
/// `RTAX_MTU`, counted from 1, and the flags in a pointer to metrics (`__DST_METRICS_PTR`).
const RTAX_MTU: u64 = 2;
const METRICS_FLAGS: u64 = 3;
/// `SKB_DST_NOREF`.
const REFDST_FLAGS: u64 = 1;
/// `IP_MAX_MTU`, `IP6_MAX_MTU`: 65,535 bytes behind a header.
const MOST_MTU: u32 = 0xffff;
const MOST_MTU6: u32 = 0xffff + 40;

/// What is repeated in front of each segment's payload, of a buffer with unusual headers.
pub struct Transport {
    /// Where the header of the innermost transport protocol begins, from the outermost network
    /// header.
    pub offset: u32,
    pub kind: TransportKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TransportKind {
    Tcp,
    Sctp,
    Udp,
}

/// Whether a packet is in a tunnel's headers.
#[inline(always)]
pub fn is_encapsulated(skb: *mut __sk_buff) -> bool {
    if READS_SKB.load() == 0 {
        return false;
    }
    let bits = read::<u8>(skb as Address, &SKB_ENCAPSULATION).unwrap_or(0);
    bits >> SKB_ENCAPSULATION_BIT.load() & 1 != 0
}

/// Bytes in front of the network header of a packet that comes in: its link header, which
/// classifiers see with it.
#[inline(always)]
pub fn link_header(skb: *mut __sk_buff) -> Option<u32> {
    if READS_SKB.load() == 0 {
        return None;
    }
    read::<u16>(skb as Address, &SKB_MAC_LEN).map(u32::from)
}

/// Finds the innermost transport header of a buffer of several segments, where
/// `skb_gso_transport_seglen` looks for it.
#[inline(always)]
pub fn transport(skb: *mut __sk_buff) -> Option<Transport> {
    if READS_SKB.load() == 0 {
        return None;
    }
    let base = skb as Address;
    let header = if is_encapsulated(skb) {
        &SKB_INNER_TRANSPORT_HEADER
    } else {
        &SKB_TRANSPORT_HEADER
    };
    let transport: u16 = read(base, header)?;
    let network: u16 = read(base, &SKB_NETWORK_HEADER)?;
    let kind = gso_type(base)?;
    let kind = if kind & (GSO_TCPV4 | GSO_TCPV6) != 0 {
        TransportKind::Tcp
    } else if kind & GSO_SCTP != 0 {
        TransportKind::Sctp
    } else {
        TransportKind::Udp
    };
    // From the same start, and the transport's is the later one.
    let offset = u32::from(transport.checked_sub(network)?);
    Some(Transport { offset, kind })
}

#[inline(always)]
fn gso_type(skb: Address) -> Option<u32> {
    // `skb_end_pointer`, where it is an offset (64 bits).
    let head: u64 = read(skb, &SKB_HEAD)?;
    let end: u32 = read(skb, &SKB_END)?;
    read(head.wrapping_add(u64::from(end)), &SHINFO_GSO_TYPE)
}

/// Whether a packet's interface takes a buffer of this type, or else the stack cuts it first
/// (`netif_skb_features`, `net_gso_ok`). The limits of size and number are not looked at.
#[inline(always)]
pub fn device_segments(skb: *mut __sk_buff) -> Option<bool> {
    if READS_SKB.load() == 0 {
        return None;
    }
    let base = skb as Address;
    let device = follow(base, &SKB_DEV)?;
    let mut features: u64 = read(device, &DEVICE_FEATURES)?;
    if is_encapsulated(skb) {
        features &= read::<u64>(device, &DEVICE_HW_ENC_FEATURES)?;
    }
    let needed = u64::from(gso_type(base)?) << FEATURE_SHIFT;
    Some(features & needed == needed)
}

/// How large packets may be on the way that this one takes, as its socket wants it.
pub struct PathMtu {
    /// The largest that leaves whole (`ip_skb_dst_mtu`, `ip6_skb_dst_mtu`).
    pub whole: u32,
    /// The largest fragment of others (`ip6_fragment`).
    pub fragment: u32,
}

/// The limits of a packet that a socket sends. What a light-weight tunnel adds is not looked at.
#[inline(always)]
pub fn path_mtu(skb: *mut __sk_buff, is_ipv4: bool) -> Option<PathMtu> {
    if READS_SKB.load() == 0 {
        return None;
    }
    let base = skb as Address;
    let destination = read::<u64>(base, &SKB_REFDST)? & !REFDST_FLAGS;
    if destination == 0 {
        return None;
    }
    let device = follow(destination, &DST_DEV)?;
    let sk = follow(base, &SKB_SK)?;
    if is_ipv4 {
        let mtu = if read::<u8>(sk, &INET_PMTUDISC)? >= PMTUDISC_PROBE {
            read(device, &DEVICE_MTU)?
        } else {
            path_mtu4(destination, device)?
        };
        let mtu = u32::min(mtu, MOST_MTU);
        return Some(PathMtu {
            whole: mtu,
            fragment: mtu,
        });
    }
    // A socket of IPv6 has these, and only such a one sends IPv6.
    let own = follow(sk, &INET_PINET6)?;
    let discovery = read::<u8>(own, &PINET6_PMTUDISC)? >> PINET6_PMTUDISC_BIT.load();
    let mtu = if discovery & PMTUDISC_BITS >= PMTUDISC_PROBE {
        read(device, &DEVICE_MTU)?
    } else {
        let metric = mtu_metric(destination)?;
        if metric == 0 {
            read(follow(device, &DEVICE_IP6)?, &INET6_DEV_MTU)?
        } else {
            metric
        }
    };
    let mtu = u32::min(mtu, MOST_MTU6);
    let chosen: u32 = read(own, &PINET6_FRAG_SIZE)?;
    Some(PathMtu {
        whole: mtu,
        fragment: if chosen == 0 { mtu } else { mtu.min(chosen) },
    })
}

/// `ip_dst_mtu_maybe_forward`, of packets that this host made.
#[inline(always)]
fn path_mtu4(destination: Address, device: Address) -> Option<u32> {
    let learnt = read::<u32>(destination, &RTABLE_PMTU)? >> RTABLE_PMTU_BIT.load();
    if learnt != 0 {
        let expires: u64 = read(destination, &DST_EXPIRES)?;
        // SAFETY: the helper has no arguments.
        let now = unsafe { bpf_jiffies64() };
        // `time_before`
        if (now.wrapping_sub(expires) as i64) < 0 {
            return Some(learnt);
        }
    }
    let metric = mtu_metric(destination)?;
    if metric == 0 {
        read(device, &DEVICE_MTU)
    } else {
        Some(metric)
    }
}

/// The route's own MTU (`dst_metric_raw`); 0 if it has none.
#[inline(always)]
fn mtu_metric(destination: Address) -> Option<u32> {
    let metrics = read::<u64>(destination, &DST_METRICS)? & !METRICS_FLAGS;
    let place = metrics.wrapping_add((RTAX_MTU - 1) * size_of::<u32>() as u64);
    read_at(place)
}

/// The largest fragment of which a packet was put together, with its headers; 0 if it came whole
/// (`ip_frag_reasm`, `ip6_frag_reasm`).
#[inline(always)]
pub fn largest_fragment(skb: *mut __sk_buff, is_ipv4: bool) -> u32 {
    if READS_SKB.load() == 0 {
        return 0;
    }
    let control = (skb as Address).wrapping_add(u64::from(SKB_CB.load()));
    let member = if is_ipv4 {
        &IPCB_FRAG_MAX_SIZE
    } else {
        &IP6CB_FRAG_MAX_SIZE
    };
    u32::from(read::<u16>(control, member).unwrap_or(0))
}
