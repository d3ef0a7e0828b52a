//! Which members of kernel structures the programs read, and where they are on this kernel.

use super::btf::Btf;

/// The global of the kernel side, the structure, the path of the member, its size in bytes.
/// `flow-ebpf/src/kernel.rs` declares the same globals.
const MEMBERS: &[(&str, &str, &str, u32)] = &[
    ("SKC_FAMILY", "sock", "__sk_common.skc_family", 2),
    ("SKC_STATE", "sock", "__sk_common.skc_state", 1),
    ("SKC_DADDR", "sock", "__sk_common.skc_daddr", 4),
    ("SKC_RCV_SADDR", "sock", "__sk_common.skc_rcv_saddr", 4),
    ("SKC_DPORT", "sock", "__sk_common.skc_dport", 2),
    ("SKC_NUM", "sock", "__sk_common.skc_num", 2),
    ("SKC_V6_DADDR", "sock", "__sk_common.skc_v6_daddr", 16),
    (
        "SKC_V6_RCV_SADDR",
        "sock",
        "__sk_common.skc_v6_rcv_saddr",
        16,
    ),
    ("SKC_COOKIE", "sock", "__sk_common.skc_cookie", 8),
    ("SKC_NET", "sock", "__sk_common.skc_net", 8),
    (
        "SKC_BOUND_DEV_IF",
        "sock",
        "__sk_common.skc_bound_dev_if",
        4,
    ),
    ("SK_TYPE", "sock", "sk_type", 2),
    ("SK_RMEM_ALLOC", "sock", "sk_backlog.rmem_alloc", 4),
    ("INET_SPORT", "inet_sock", "inet_sport", 2),
    ("SK_PROTOCOL", "sock", "sk_protocol", 2),
    ("SK_ERR", "sock", "sk_err", 4),
    ("SK_SOCKET", "sock", "sk_socket", 8),
    ("NET_INUM", "net", "ns.inum", 4),
    ("TCP_SRTT_US", "tcp_sock", "srtt_us", 4),
    ("TCP_MIN_RTT", "tcp_sock", "rtt_min.s[0].v", 4),
    ("TCP_TOTAL_RETRANS", "tcp_sock", "total_retrans", 4),
    ("SOCKET_SK", "socket", "sk", 8),
    ("MSGHDR_NAME", "msghdr", "msg_name", 8),
    ("SOCK_ADDR_UADDR", "bpf_sock_addr_kern", "uaddr", 8),
    ("TASK_TGID", "task_struct", "tgid", 4),
    ("TASK_PID", "task_struct", "pid", 4),
    ("TASK_GROUP_LEADER", "task_struct", "group_leader", 8),
    ("TASK_START_BOOTTIME", "task_struct", "start_boottime", 8),
    ("TASK_COMM", "task_struct", "comm", 16),
    ("TASK_REAL_PARENT", "task_struct", "real_parent", 8),
    ("TASK_SIGNAL", "task_struct", "signal", 8),
    ("TASK_MM", "task_struct", "mm", 8),
    ("TASK_EXIT_CODE", "task_struct", "exit_code", 4),
    ("TASK_CRED", "task_struct", "cred", 8),
    ("CRED_EUID", "cred", "euid.val", 4),
    ("SIGNAL_LIVE", "signal_struct", "live", 4),
    ("MM_ARG_START", "mm_struct", "arg_start", 8),
    ("MM_ARG_END", "mm_struct", "arg_end", 8),
    ("MM_EXE_FILE", "mm_struct", "exe_file", 8),
    ("FILE_DENTRY", "file", "f_path.dentry", 8),
    ("FILE_MNT", "file", "f_path.mnt", 8),
    ("DENTRY_NAME", "dentry", "d_name.name", 8),
    ("DENTRY_PARENT", "dentry", "d_parent", 8),
    ("VFSMOUNT_ROOT", "vfsmount", "mnt_root", 8),
    ("MOUNT_MNT", "mount", "mnt.mnt_root", 8),
    ("MOUNT_PARENT", "mount", "mnt_parent", 8),
    ("MOUNT_MOUNTPOINT", "mount", "mnt_mountpoint", 8),
];

/// The same, of members that the programs do without where the kernel lacks one: packets whose headers
/// are unusual are then counted as if they were not.
#[rustfmt::skip]
const PACKET_MEMBERS: &[(&str, &str, &str, u32)] = &[
    ("SKB_INNER_TRANSPORT_HEADER", "sk_buff", "inner_transport_header", 2),
    ("SKB_TRANSPORT_HEADER", "sk_buff", "transport_header", 2),
    ("SKB_NETWORK_HEADER", "sk_buff", "network_header", 2),
    ("SKB_MAC_LEN", "sk_buff", "mac_len", 2),
    ("SKB_HEAD", "sk_buff", "head", 8),
    ("SKB_END", "sk_buff", "end", 4),
    ("SKB_REFDST", "sk_buff", "_skb_refdst", 8),
    ("SKB_SK", "sk_buff", "sk", 8),
    ("SKB_DEV", "sk_buff", "dev", 8),
    ("SKB_CB", "sk_buff", "cb", 48),
    ("SHINFO_GSO_TYPE", "skb_shared_info", "gso_type", 4),
    ("DEVICE_MTU", "net_device", "mtu", 4),
    ("DEVICE_FEATURES", "net_device", "features", 8),
    ("DEVICE_HW_ENC_FEATURES", "net_device", "hw_enc_features", 8),
    ("DEVICE_IP6", "net_device", "ip6_ptr", 8),
    ("INET6_DEV_MTU", "inet6_dev", "cnf.mtu6", 4),
    ("DST_DEV", "dst_entry", "dev", 8),
    ("DST_METRICS", "dst_entry", "_metrics", 8),
    ("DST_EXPIRES", "dst_entry", "expires", 8),
    ("INET_PMTUDISC", "inet_sock", "pmtudisc", 1),
    ("INET_PINET6", "inet_sock", "pinet6", 8),
    ("PINET6_FRAG_SIZE", "ipv6_pinfo", "frag_size", 4),
    ("IPCB_FRAG_MAX_SIZE", "inet_skb_parm", "frag_max_size", 2),
    ("IP6CB_FRAG_MAX_SIZE", "inet6_skb_parm", "frag_max_size", 2),
];

/// The same, of the members that say what other programs of the cgroups returned.
#[rustfmt::skip]
const VERDICT_MEMBERS: &[(&str, &str, &str, u32)] = &[
    ("TASK_BPF_CTX", "task_struct", "bpf_ctx", 8),
    ("RUN_CTX_RETVAL", "bpf_cg_run_ctx", "retval", 4),
    ("RUN_CTX_ITEM", "bpf_cg_run_ctx", "prog_item", 8),
    ("SK_CGROUP", "sock", "sk_cgrp_data.cgroup", 8),
    ("CGROUP_EFFECTIVE_INGRESS", "cgroup", "bpf.effective[0]", 8),
    ("CGROUP_EFFECTIVE_EGRESS", "cgroup", "bpf.effective[1]", 8),
    ("PROG_ARRAY_ITEMS", "bpf_prog_array", "items", 0),
];

/// The same, of the members that say what was decrypted.
#[rustfmt::skip]
const DECRYPTED_MEMBERS: &[(&str, &str, &str, u32)] = &[
    ("SKB_ACTIVE_EXTENSIONS", "sk_buff", "active_extensions", 1),
    ("SKB_EXTENSIONS", "sk_buff", "extensions", 8),
    ("EXTENSIONS_OFFSET", "skb_ext", "offset[0]", 1),
    ("SEC_PATH_LENGTH", "sec_path", "len", 4),
    ("SEC_PATH_STATES", "sec_path", "xvec[0]", 8),
    ("XFRM_MODE", "xfrm_state", "props.mode", 1),
    ("XFRM_HEADER", "xfrm_state", "props.header_len", 4),
    ("XFRM_TRAILER", "xfrm_state", "props.trailer_len", 4),
    ("XFRM_AEAD", "xfrm_state", "aead", 8),
    ("XFRM_AUTH", "xfrm_state", "aalg", 8),
    ("AEAD_ICV_BITS", "xfrm_algo_aead", "alg_icv_len", 4),
    ("AUTH_ICV_BITS", "xfrm_algo_auth", "alg_trunc_len", 4),
];

/// Bits of a structure: the global for their first byte, the one for the first bit's number in that byte, the
/// structure, the member, how many bits there are at least.
type Bits = (&'static str, &'static str, &'static str, &'static str, u32);

const BIT: Bits = (
    "SK_KERN_SOCK",
    "SK_KERN_SOCK_BIT",
    "sock",
    "sk_kern_sock",
    1,
);

/// As [`PACKET_MEMBERS`].
#[rustfmt::skip]
const PACKET_BITS: &[Bits] = &[
    ("SKB_ENCAPSULATION", "SKB_ENCAPSULATION_BIT", "sk_buff", "encapsulation", 1),
    ("RTABLE_PMTU", "RTABLE_PMTU_BIT", "rtable", "rt_pmtu", 31),
    ("PINET6_PMTUDISC", "PINET6_PMTUDISC_BIT", "ipv6_pinfo", "pmtudisc", 3),
];

/// Bytes at the start of a `struct sock` that the programs copy in one read;
/// `SOCK_COMMON_BYTES` of the kernel side.
const SOCK_COMMON_BYTES: u32 = 96;

/// Why the offsets can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OffsetError {
    #[error("this kernel's BTF has no member {path} in struct {structure}")]
    Missing {
        structure: &'static str,
        path: &'static str,
    },
    #[error("member {path} of struct {structure} is not as expected: {found:?}")]
    Unexpected {
        structure: &'static str,
        path: &'static str,
        found: super::btf::Member,
    },
}

/// Offsets in bytes, by the name of the kernel side's global.
///
/// # Errors
/// A member is missing on this kernel, or has another size or place than the programs can read.
pub fn resolve(btf: &Btf) -> Result<Vec<(&'static str, u16)>, OffsetError> {
    let mut offsets = members(btf, MEMBERS)?;
    offsets.extend(bits(btf, BIT)?);
    Ok(offsets)
}

/// The same for the members of packets and routes.
///
/// # Errors
/// As of [`resolve`]. Then the programs are to read none of them.
pub fn of_packets(btf: &Btf) -> Result<Vec<(&'static str, u16)>, OffsetError> {
    let mut offsets = members(btf, PACKET_MEMBERS)?;
    for member in PACKET_BITS {
        offsets.extend(bits(btf, *member)?);
    }
    Ok(offsets)
}

/// The same for what was decrypted, with the number of the extension that a decrypted packet has.
///
/// # Errors
/// As of [`resolve`]. Then the programs are to read none of them.
pub fn of_decrypted(btf: &Btf) -> Result<Vec<(&'static str, u16)>, OffsetError> {
    let mut offsets = members(btf, DECRYPTED_MEMBERS)?;
    let (structure, path) = ("skb_ext_id", "SKB_EXT_SEC_PATH");
    let extension = btf.enumerator(structure, path);
    let extension = extension.and_then(|extension| u16::try_from(extension).ok());
    let missing = OffsetError::Missing { structure, path };
    offsets.push(("SEC_PATH_EXTENSION", extension.ok_or(missing)?));
    Ok(offsets)
}

/// The same for what other programs of the cgroups returned.
///
/// # Errors
/// As of [`resolve`]. Then the programs are to read none of them.
pub fn of_verdicts(btf: &Btf) -> Result<Vec<(&'static str, u16)>, OffsetError> {
    members(btf, VERDICT_MEMBERS)
}

fn members(
    btf: &Btf,
    members: &[(&'static str, &'static str, &'static str, u32)],
) -> Result<Vec<(&'static str, u16)>, OffsetError> {
    let offset = |&(global, structure, path, size): &(&'static str, _, _, u32)| {
        let member = btf
            .member(structure, path)
            .ok_or(OffsetError::Missing { structure, path })?;
        let end = member.byte_offset.saturating_add(size);
        let in_copy = !global.starts_with("SKC_")
            || (end <= SOCK_COMMON_BYTES && member.byte_offset.is_multiple_of(size.min(8)));
        u16::try_from(member.byte_offset)
            .ok()
            .filter(|_| in_copy && !member.is_bit_field() && member.byte_size == size)
            .map(|offset| (global, offset))
            .ok_or(OffsetError::Unexpected {
                structure,
                path,
                found: member,
            })
    };
    members.iter().map(offset).collect()
}

fn bits(btf: &Btf, bits: Bits) -> Result<[(&'static str, u16); 2], OffsetError> {
    let (byte, bit, structure, path, least) = bits;
    let member = btf
        .member(structure, path)
        .ok_or(OffsetError::Missing { structure, path })?;
    match u16::try_from(member.bit_offset / 8) {
        Ok(offset) if member.bit_size >= least => {
            Ok([(byte, offset), (bit, (member.bit_offset % 8) as u16)])
        }
        _ => Err(OffsetError::Unexpected {
            structure,
            path,
            found: member,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_found_in_the_running_kernel() {
        let btf = Btf::from_kernel().expect("the kernel's BTF");
        let offsets = resolve(&btf).expect("offsets");
        assert_eq!(offsets.len(), MEMBERS.len() + 2);
        assert!(offsets.contains(&("SKC_FAMILY", 16)), "{offsets:?}");
        let offsets = of_packets(&btf).expect("offsets of packets");
        assert_eq!(
            offsets.len(),
            PACKET_MEMBERS.len() + 2 * PACKET_BITS.len(),
            "{offsets:?}"
        );
        let offsets = of_verdicts(&btf).expect("offsets of verdicts");
        assert_eq!(offsets.len(), VERDICT_MEMBERS.len());
    }
}
