//! The members of kernel structures that the programs read.
//!
//! One list for both sides: the kernel side declares a global for the offset of each, the loader
//! resolves the offsets from the running kernel's BTF.

/// Calls a macro with the list.
///
/// Each group has members and bit fields. A row of a member has the global of the kernel side, the
/// structure, the path of the member and its size in bytes. A row of a bit field has the global for
/// its first byte, the one for the number of its first bit in that byte, the structure, the member
/// and how many bits there are at least.
#[macro_export]
macro_rules! kernel_members {
    ($callback:ident) => {
        $callback! {
            /// Without these no program works.
            REQUIRED, REQUIRED_BITS {
                SKC_FAMILY: "sock" "__sk_common.skc_family" 2,
                SKC_STATE: "sock" "__sk_common.skc_state" 1,
                SKC_DADDR: "sock" "__sk_common.skc_daddr" 4,
                SKC_RCV_SADDR: "sock" "__sk_common.skc_rcv_saddr" 4,
                SKC_DPORT: "sock" "__sk_common.skc_dport" 2,
                SKC_NUM: "sock" "__sk_common.skc_num" 2,
                SKC_V6_DADDR: "sock" "__sk_common.skc_v6_daddr" 16,
                SKC_V6_RCV_SADDR: "sock" "__sk_common.skc_v6_rcv_saddr" 16,
                SKC_COOKIE: "sock" "__sk_common.skc_cookie" 8,
                SKC_NET: "sock" "__sk_common.skc_net" 8,
                SKC_BOUND_DEV_IF: "sock" "__sk_common.skc_bound_dev_if" 4,
                SK_TYPE: "sock" "sk_type" 2,
                SK_RMEM_ALLOC: "sock" "sk_backlog.rmem_alloc" 4,
                INET_SPORT: "inet_sock" "inet_sport" 2,
                SK_PROTOCOL: "sock" "sk_protocol" 2,
                SK_ERR: "sock" "sk_err" 4,
                SK_SOCKET: "sock" "sk_socket" 8,
                NET_INUM: "net" "ns.inum" 4,
                SK_LOCK_OWNED: "sock" "sk_lock.owned" 4,
                SK_FLAGS: "sock" "__sk_common.skc_flags" 8,
                SK_USER_DATA: "sock" "sk_user_data" 8,
                ICSK_ULP_OPS: "inet_connection_sock" "icsk_ulp_ops" 8,
                TCP_COPIED_SEQ: "tcp_sock" "copied_seq" 4,
                TCP_RCV_NXT: "tcp_sock" "rcv_nxt" 4,
                TCP_BYTES_RECEIVED: "tcp_sock" "bytes_received" 8,
                TCP_SRTT_US: "tcp_sock" "srtt_us" 4,
                TCP_MIN_RTT: "tcp_sock" "rtt_min.s[0].v" 4,
                TCP_TOTAL_RETRANS: "tcp_sock" "total_retrans" 4,
                SOCKET_SK: "socket" "sk" 8,
                MSGHDR_NAME: "msghdr" "msg_name" 8,
                SOCK_ADDR_UADDR: "bpf_sock_addr_kern" "uaddr" 8,
                TASK_TGID: "task_struct" "tgid" 4,
                TASK_PID: "task_struct" "pid" 4,
                TASK_GROUP_LEADER: "task_struct" "group_leader" 8,
                TASK_START_BOOTTIME: "task_struct" "start_boottime" 8,
                TASK_COMM: "task_struct" "comm" 16,
                TASK_REAL_PARENT: "task_struct" "real_parent" 8,
                TASK_SIGNAL: "task_struct" "signal" 8,
                TASK_MM: "task_struct" "mm" 8,
                TASK_EXIT_CODE: "task_struct" "exit_code" 4,
                TASK_CRED: "task_struct" "cred" 8,
                CRED_EUID: "cred" "euid.val" 4,
                SIGNAL_LIVE: "signal_struct" "live" 4,
                MM_ARG_START: "mm_struct" "arg_start" 8,
                MM_ARG_END: "mm_struct" "arg_end" 8,
                MM_EXE_FILE: "mm_struct" "exe_file" 8,
                FILE_DENTRY: "file" "f_path.dentry" 8,
                FILE_MNT: "file" "f_path.mnt" 8,
                DENTRY_NAME: "dentry" "d_name.name" 8,
                DENTRY_PARENT: "dentry" "d_parent" 8,
                VFSMOUNT_ROOT: "vfsmount" "mnt_root" 8,
                MOUNT_MNT: "mount" "mnt.mnt_root" 8,
                MOUNT_PARENT: "mount" "mnt_parent" 8,
                MOUNT_MOUNTPOINT: "mount" "mnt_mountpoint" 8,
            } {
                SK_KERN_SOCK SK_KERN_SOCK_BIT: "sock" "sk_kern_sock" 1,
            }

            /// Where the kernel lacks one of these, packets whose headers are unusual are counted as
            /// if they were not.
            PACKET, PACKET_BITS {
                SKB_INNER_TRANSPORT_HEADER: "sk_buff" "inner_transport_header" 2,
                SKB_TRANSPORT_HEADER: "sk_buff" "transport_header" 2,
                SKB_NETWORK_HEADER: "sk_buff" "network_header" 2,
                SKB_MAC_LEN: "sk_buff" "mac_len" 2,
                SKB_HEAD: "sk_buff" "head" 8,
                SKB_END: "sk_buff" "end" 4,
                SKB_REFDST: "sk_buff" "_skb_refdst" 8,
                SKB_SK: "sk_buff" "sk" 8,
                SKB_DEV: "sk_buff" "dev" 8,
                SKB_CB: "sk_buff" "cb" 48,
                SHINFO_GSO_TYPE: "skb_shared_info" "gso_type" 4,
                DEVICE_MTU: "net_device" "mtu" 4,
                DEVICE_FEATURES: "net_device" "features" 8,
                DEVICE_HW_ENC_FEATURES: "net_device" "hw_enc_features" 8,
                DEVICE_IP6: "net_device" "ip6_ptr" 8,
                INET6_DEV_MTU: "inet6_dev" "cnf.mtu6" 4,
                DST_DEV: "dst_entry" "dev" 8,
                DST_METRICS: "dst_entry" "_metrics" 8,
                DST_EXPIRES: "dst_entry" "expires" 8,
                INET_PMTUDISC: "inet_sock" "pmtudisc" 1,
                INET_PINET6: "inet_sock" "pinet6" 8,
                PINET6_FRAG_SIZE: "ipv6_pinfo" "frag_size" 4,
                IPCB_FRAG_MAX_SIZE: "inet_skb_parm" "frag_max_size" 2,
                IP6CB_FRAG_MAX_SIZE: "inet6_skb_parm" "frag_max_size" 2,
            } {
                SKB_ENCAPSULATION SKB_ENCAPSULATION_BIT: "sk_buff" "encapsulation" 1,
                RTABLE_PMTU RTABLE_PMTU_BIT: "rtable" "rt_pmtu" 31,
                PINET6_PMTUDISC PINET6_PMTUDISC_BIT: "ipv6_pinfo" "pmtudisc" 3,
            }

            /// What other programs of the cgroups returned.
            VERDICT, VERDICT_BITS {
                TASK_BPF_CTX: "task_struct" "bpf_ctx" 8,
                RUN_CTX_RETVAL: "bpf_cg_run_ctx" "retval" 4,
                RUN_CTX_ITEM: "bpf_cg_run_ctx" "prog_item" 8,
                SK_CGROUP: "sock" "sk_cgrp_data.cgroup" 8,
                CGROUP_EFFECTIVE_INGRESS: "cgroup" "bpf.effective[0]" 8,
                CGROUP_EFFECTIVE_EGRESS: "cgroup" "bpf.effective[1]" 8,
                PROG_ARRAY_ITEMS: "bpf_prog_array" "items" 0,
            } {}

            /// Which system call a task is in.
            SYSCALL, SYSCALL_BITS {
                TASK_FLAGS: "task_struct" "flags" 4,
            } {}

            /// What was decrypted.
            DECRYPTED, DECRYPTED_BITS {
                SKB_ACTIVE_EXTENSIONS: "sk_buff" "active_extensions" 1,
                SKB_EXTENSIONS: "sk_buff" "extensions" 8,
                EXTENSIONS_OFFSET: "skb_ext" "offset[0]" 1,
                SEC_PATH_LENGTH: "sec_path" "len" 4,
                SEC_PATH_STATES: "sec_path" "xvec[0]" 8,
                XFRM_MODE: "xfrm_state" "props.mode" 1,
                XFRM_HEADER: "xfrm_state" "props.header_len" 4,
                XFRM_TRAILER: "xfrm_state" "props.trailer_len" 4,
                XFRM_AEAD: "xfrm_state" "aead" 8,
                XFRM_AUTH: "xfrm_state" "aalg" 8,
                AEAD_ICV_BITS: "xfrm_algo_aead" "alg_icv_len" 4,
                AUTH_ICV_BITS: "xfrm_algo_auth" "alg_trunc_len" 4,
            } {}
        }
    };
}
