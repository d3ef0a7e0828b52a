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
    ("SK_PROTOCOL", "sock", "sk_protocol", 2),
    ("SK_ERR", "sock", "sk_err", 4),
    ("SK_SOCKET", "sock", "sk_socket", 8),
    ("NET_INUM", "net", "ns.inum", 4),
    ("TCP_SRTT_US", "tcp_sock", "srtt_us", 4),
    ("TCP_MIN_RTT", "tcp_sock", "rtt_min.s[0].v", 4),
    ("TCP_TOTAL_RETRANS", "tcp_sock", "total_retrans", 4),
    ("SOCKET_SK", "socket", "sk", 8),
    ("MSGHDR_NAME", "msghdr", "msg_name", 8),
    ("TASK_TGID", "task_struct", "tgid", 4),
    ("TASK_PID", "task_struct", "pid", 4),
    ("TASK_GROUP_LEADER", "task_struct", "group_leader", 8),
    ("TASK_START_BOOTTIME", "task_struct", "start_boottime", 8),
    ("TASK_REAL_PARENT", "task_struct", "real_parent", 8),
    ("TASK_SIGNAL", "task_struct", "signal", 8),
    ("TASK_MM", "task_struct", "mm", 8),
    ("TASK_EXIT_CODE", "task_struct", "exit_code", 4),
    ("TASK_NSPROXY", "task_struct", "nsproxy", 8),
    ("TASK_CRED", "task_struct", "cred", 8),
    ("CRED_EUID", "cred", "euid.val", 4),
    ("SIGNAL_LIVE", "signal_struct", "live", 4),
    ("NSPROXY_NET", "nsproxy", "net_ns", 8),
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

/// A bit of a structure: the global for its byte, the one for its number in that byte, the structure,
/// the member.
const BIT: (&str, &str, &str, &str) = ("SK_KERN_SOCK", "SK_KERN_SOCK_BIT", "sock", "sk_kern_sock");

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
    let mut offsets = MEMBERS
        .iter()
        .map(|&(global, structure, path, size)| {
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
        })
        .collect::<Result<Vec<_>, _>>()?;
    offsets.extend(bit(btf)?);
    Ok(offsets)
}

fn bit(btf: &Btf) -> Result<[(&'static str, u16); 2], OffsetError> {
    let (byte, bit, structure, path) = BIT;
    let member = btf
        .member(structure, path)
        .ok_or(OffsetError::Missing { structure, path })?;
    match u16::try_from(member.bit_offset / 8) {
        Ok(offset) if member.bit_size == 1 => {
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
    }
}
