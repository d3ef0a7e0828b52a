//! Reads of kernel structures, at offsets that the loader resolves from the running kernel's BTF.
//!
//! The offsets are read-only globals: the verifier sees constants.

use core::{
    ffi::c_void,
    mem::{self, MaybeUninit},
};

use aya_ebpf::{
    Global,
    bindings::bpf_sock,
    helpers::{bpf_probe_read_kernel, generated},
};
use flow_common::{CAST_CALL, IpAddress};

macro_rules! offsets {
    ($(
        $(#[$_doc:meta])*
        $_members:ident, $_bits:ident {
            $($global:ident: $_structure:literal $_path:literal $_size:literal,)*
        } {
            $($byte:ident $bit:ident: $_of:literal $_field:literal $_least:literal,)*
        }
    )*) => {
        offsets! { @declare $($($global)* $($byte $bit)*)* SEC_PATH_EXTENSION SYSCALL_NUMBER }
    };
    (@declare $($global:ident)*) => {$(
        #[unsafe(no_mangle)]
        pub static $global: Global<u16> = Global::new(0);
    )*};
}

// Offsets of the members in bytes, the number of an extension of packets, and where the registers of a
// task have the number of its system call.
flow_common::kernel_members!(offsets);

/// 1 if all members of [`crate::ipsec`] are where programs can read them.
#[unsafe(no_mangle)]
pub static READS_SEC_PATH: Global<u8> = Global::new(0);

/// 1 if programs can read the system call that a task is in.
#[unsafe(no_mangle)]
pub static READS_SYSCALL: Global<u8> = Global::new(0);

/// 1 if programs can read what those before them have returned (from 5.18).
#[unsafe(no_mangle)]
pub static READS_VERDICT: Global<u8> = Global::new(0);

/// 1 if all members of [`crate::skb`] are where programs can read them.
#[unsafe(no_mangle)]
pub static READS_SKB: Global<u8> = Global::new(0);

/// Inode number of the network namespace Flow runs in, whose interfaces it counts.
#[unsafe(no_mangle)]
pub static HOST_NETNS: Global<u32> = Global::new(0);

/// 1 if this kernel gives a task as a typed pointer (`bpf_get_current_task_btf`, from 5.11), whose
/// members programs read without a call.
#[unsafe(no_mangle)]
pub static TYPED_TASK: Global<u8> = Global::new(0);

/// BTF id of a type of 16 bytes to which the kernel casts addresses (`bpf_rdonly_cast`, from 6.2), so
/// that programs read there without a call; 0 if it does not.
#[unsafe(no_mangle)]
pub static CAST_TYPE: Global<u32> = Global::new(0);

/// BTF id of `struct sock_common`, if [`CAST_TYPE`] is not 0.
#[unsafe(no_mangle)]
pub static SOCK_TYPE_ID: Global<u32> = Global::new(0);

/// 1 if programs of the cgroup give each TCP connection its cookie before it is established.
/// Without them it gets one only on request.
#[unsafe(no_mangle)]
pub static GIVES_COOKIES: Global<u8> = Global::new(1);

/// 1 if programs of the cgroup report sockets' lives, 0 if tracepoints do it alone.
#[unsafe(no_mangle)]
pub static CGROUP_LIVES: Global<u8> = Global::new(1);

/// The address of a kernel structure.
pub type Address = u64;

/// Reads a member of the structure at `base`. `None` where the kernel refuses the address.
#[inline(always)]
pub fn read<T: Copy>(base: Address, offset: &Global<u16>) -> Option<T> {
    read_at(base.wrapping_add(u64::from(offset.load())))
}

/// As [`read`], at an address.
#[inline(always)]
pub fn read_at<T: Copy>(address: Address) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// As [`read`], without a call where the kernel casts addresses: then an address that it refuses
/// reads as 0. For what every call or packet needs; the verifier takes longer over it.
#[inline(always)]
pub fn read_uncalled<T: Word>(base: Address, offset: &Global<u16>) -> Option<T> {
    if !is_cast() {
        return read(base, offset);
    }
    let from = cast(base.wrapping_add(u64::from(offset.load())));
    // SAFETY: see `cast`.
    Some(unsafe { from.cast::<T>().read_volatile() })
}

/// What one instruction reads.
pub trait Word: Copy {}
impl Word for u32 {}
impl Word for u64 {}

/// Whether the kernel casts addresses.
#[inline(always)]
fn is_cast() -> bool {
    CAST_TYPE.load() != 0
}

/// Follows a pointer in the structure at `base`; `None` if it is null.
#[inline(always)]
pub fn follow(base: Address, offset: &Global<u16>) -> Option<Address> {
    read::<u64>(base, offset).filter(|address| *address != 0)
}

/// The cookie of a packet's socket; 0 where nobody asked for it before, or it would take a call.
#[inline(always)]
pub fn cookie_of(sock: *const bpf_sock) -> u64 {
    if !is_cast() {
        return 0;
    }
    let common = cast_to(sock as Address, &SOCK_TYPE_ID).cast::<u8>();
    // SAFETY: see `cast_to`: the verifier knows that the structure has such a member.
    unsafe {
        common
            .add(usize::from(SKC_COOKIE.load()))
            .cast::<u64>()
            .read_volatile()
    }
}

/// A pointer through which 16 bytes of the kernel's memory are read without a call; reads of an
/// address that is none give zeroes.
#[inline(always)]
fn cast(address: Address) -> *const u32 {
    cast_to(address, &CAST_TYPE)
}

/// The same to a structure of which the BTF id is given.
#[inline(always)]
fn cast_to(address: Address, structure: &Global<u32>) -> *const u32 {
    // SAFETY: the loader makes a call of the kernel's function of it (`casts.rs` there).
    unsafe {
        let cast: unsafe extern "C" fn(Address, u32) -> *const u32 =
            mem::transmute(CAST_CALL as usize);
        cast(address, structure.load())
    }
}

/// Copies 16 bytes.
///
/// # Safety
/// `to` may be written, all four words of it.
#[inline(always)]
unsafe fn copy_pair(to: *mut u32, address: Address) {
    // SAFETY: the caller's; see `cast`.
    unsafe {
        let from = cast(address);
        to.write_volatile(from.read_volatile());
        to.add(1).write_volatile(from.add(1).read_volatile());
        to.add(2).write_volatile(from.add(2).read_volatile());
        to.add(3).write_volatile(from.add(3).read_volatile());
    }
}

/// Bytes of `sock_common` that are copied in one read. The loader refuses offsets beyond it.
const SOCK_COMMON_BYTES: usize = 96;

/// A copy of the start of a `struct sock`: `struct sock_common`, whole at once because, where the
/// kernel casts no addresses, each read costs a call.
#[repr(C, align(8))]
pub struct SockCommon([u8; SOCK_COMMON_BYTES]);

impl SockCommon {
    /// Copies it from the socket at `sk` to `storage`: moving it about would fill the stack.
    #[inline(always)]
    pub fn read(sk: Address, storage: &mut MaybeUninit<Self>) -> Option<&Self> {
        if !is_cast() {
            return Self::copy(sk, storage);
        }
        let to = storage.as_mut_ptr().cast::<u32>();
        // SAFETY: see `cast`; all of the storage is written.
        unsafe {
            copy_pair(to, sk);
            copy_pair(to.add(4), sk.wrapping_add(16));
            copy_pair(to.add(8), sk.wrapping_add(32));
            copy_pair(to.add(12), sk.wrapping_add(48));
            copy_pair(to.add(16), sk.wrapping_add(64));
            copy_pair(to.add(20), sk.wrapping_add(80));
            Some(storage.assume_init_ref())
        }
    }

    /// The same by a call: of a pointer whose type the verifier knows, to which it lets nothing be
    /// added.
    #[inline(always)]
    pub fn copy(sk: Address, storage: &mut MaybeUninit<Self>) -> Option<&Self> {
        // SAFETY: the helper checks the address and writes the whole of the storage, or fails.
        unsafe {
            let status = generated::bpf_probe_read_kernel(
                storage.as_mut_ptr().cast(),
                SOCK_COMMON_BYTES as u32,
                sk as *const c_void,
            );
            (status == 0).then(|| storage.assume_init_ref())
        }
    }

    #[inline(always)]
    fn member<T: Copy>(&self, offset: &Global<u16>) -> T {
        // SAFETY: the loader has checked that each offset, and the member there, lie within the
        // copy and are aligned for the member's type; the verifier checks it again.
        unsafe { *self.0.as_ptr().add(offset.load() as usize).cast::<T>() }
    }

    #[inline(always)]
    pub fn family(&self) -> u16 {
        self.member(&SKC_FAMILY)
    }

    #[inline(always)]
    pub fn state(&self) -> u8 {
        self.member(&SKC_STATE)
    }

    /// The cookie; 0 before the first request for it.
    #[inline(always)]
    pub fn cookie(&self) -> u64 {
        self.member(&SKC_COOKIE)
    }

    /// Remote port, host byte order; 0 if the socket has no peer.
    #[inline(always)]
    pub fn remote_port(&self) -> u16 {
        u16::from_be(self.member(&SKC_DPORT))
    }

    /// Whether the socket has a peer of its own. Raw and ping sockets may have one without a port.
    /// The state decides: when an IPv6 socket gives up its peer the address stays
    /// (`__udp_disconnect`).
    #[inline(always)]
    pub fn has_remote(&self) -> bool {
        self.remote_port() != 0 || self.state() == ESTABLISHED && !self.remote().is_unspecified()
    }

    /// The interface to which the socket is bound, or 0. One that is connected to an address with a
    /// zone is bound to that (`__ip6_datagram_connect`, `tcp_v6_connect`, `tcp_v6_conn_request`).
    #[inline(always)]
    pub fn bound_to(&self) -> u32 {
        self.member(&SKC_BOUND_DEV_IF)
    }

    /// The zone of the socket's own peer.
    #[inline(always)]
    pub fn zone(&self) -> u32 {
        if self.remote().has_zone() {
            self.bound_to()
        } else {
            0
        }
    }

    /// Local port, host byte order.
    #[inline(always)]
    pub fn local_port(&self) -> u16 {
        self.member(&SKC_NUM)
    }

    #[inline(always)]
    pub fn remote(&self) -> IpAddress {
        self.address(&SKC_DADDR, &SKC_V6_DADDR)
    }

    #[inline(always)]
    pub fn local(&self) -> IpAddress {
        self.address(&SKC_RCV_SADDR, &SKC_V6_RCV_SADDR)
    }

    #[inline(always)]
    fn address(&self, v4: &Global<u16>, v6: &Global<u16>) -> IpAddress {
        if self.family() == AF_INET6 {
            IpAddress::from_words(self.member(v6))
        } else {
            IpAddress::mapped(self.member(v4))
        }
    }

    /// Inode number of the socket's network namespace; 0 where it can't be read.
    #[inline(always)]
    pub fn netns(&self) -> u32 {
        let net: u64 = self.member(&SKC_NET);
        read(net, &NET_INUM).unwrap_or(0)
    }
}

/// `TCP_ESTABLISHED`: of sockets without connections, those that have a peer.
pub const ESTABLISHED: u8 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const AF_PACKET: u16 = 17;

/// Whether a family has ports and addresses that Flow knows.
#[inline(always)]
pub fn is_inet(family: u16) -> bool {
    family == AF_INET || family == AF_INET6
}
