//! Loads the object of the kernel side for this kernel: offsets, sizes of maps, programs.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Map, MapError},
};

use zerocopy::IntoBytes as _;

use super::{
    attach_error::AttachError,
    backends::Backend,
    btf::{Btf, BtfError},
    casts::{self, Cast},
    offsets::{self, OffsetError},
    sizes::Sizes,
};
use crate::{event::doctor::Report, faults};

/// The object of the kernel side; empty where the build had no BPF toolchain.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/flow-ebpf.o"));

/// Why the kernel side could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "this flow was built without its kernel side; build it again after `cargo xtask setup`"
    )]
    NotBuilt,
    #[error("{0}")]
    Btf(#[from] BtfError),
    #[error("{0}; Flow's programs cannot read this kernel's structures")]
    Offset(#[from] OffsetError),
    #[error("cannot load the kernel side: {}", cause(.0))]
    Load(#[from] EbpfError),
    #[error(
        "the kernel cannot make the map {name}: {io_error}; ask for less with --max-sockets, \
         --max-processes or --ring-size"
    )]
    NoRoom {
        name: String,
        io_error: std::io::Error,
    },
    #[error(
        "cannot find out which network namespace this is: {0}; mount /proc: mount -t proc proc /proc"
    )]
    Netns(std::io::Error),
}

/// The innermost cause of an error.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    format!("{error} ({innermost})")
}

/// Loads the object: its maps are made, its programs are ready to be loaded one by one. What the
/// report says will be attached decides how they distinguish sockets. To make the `loader` takes
/// long: it reads all of the kernel's types, though nothing in the object is relocated by them.
///
/// # Errors
/// The object is missing, does not fit this kernel, or the kernel refuses a map.
pub fn load(
    loader: EbpfLoader<'_>,
    btf: &Btf,
    sizes: &Sizes,
    report: &Report,
) -> Result<Ebpf, LoadError> {
    if OBJECT.is_empty() {
        return Err(LoadError::NotBuilt);
    }
    let mut offsets = offsets::resolve(btf)?;
    let of_packets = offsets::of_packets(btf);
    let reads_skb = u8::from(of_packets.is_ok());
    match of_packets {
        Ok(of_packets) => offsets.extend(of_packets),
        Err(error) => log::info!("unusual headers of packets are not counted: {error}"),
    }
    let of_verdicts = offsets::of_verdicts(btf);
    let reads_verdict = u8::from(of_verdicts.is_ok());
    match of_verdicts {
        Ok(of_verdicts) => offsets.extend(of_verdicts),
        Err(error) => log::info!("packets that others refuse are counted: {error}"),
    }
    let of_system_calls = offsets::of_system_calls(btf)
        .ok()
        .filter(|_| btf.function("bpf_task_pt_regs").is_some());
    let reads_syscall = u8::from(of_system_calls.is_some());
    offsets.extend(of_system_calls.unwrap_or_default());
    let of_decrypted = offsets::of_decrypted(btf);
    let reads_sec_path = u8::from(of_decrypted.is_ok());
    match of_decrypted {
        Ok(of_decrypted) => offsets.extend(of_decrypted),
        Err(error) => log::info!("decrypted packets are counted as such: {error}"),
    }
    let netns = host_netns().map_err(LoadError::Netns)?;
    let smaller = faults::map_entries();
    // It borrows from what stands here.
    let mut loader = loader;
    sizes.apply(&mut loader);
    for (map, entries) in &smaller {
        loader.map_max_entries(map, *entries);
    }
    for (name, offset) in &offsets {
        // A program set without a reader of this member does not have the global.
        loader.override_global(name, offset, false);
    }
    loader.override_global("HOST_NETNS", &netns, true);
    let typed_task = u8::from(btf.function("bpf_get_current_task_btf").is_some());
    loader.override_global("TYPED_TASK", &typed_task, true);
    let cast = Cast::of(btf);
    let (pair, socket) = cast.map_or((0, 0), |cast| (cast.pair, cast.socket));
    loader.override_global("CAST_TYPE", &pair, true);
    loader.override_global("SOCK_TYPE_ID", &socket, true);
    loader.override_global("READS_SYSCALL", &reads_syscall, true);
    loader.override_global("READS_SKB", &reads_skb, true);
    loader.override_global("READS_VERDICT", &reads_verdict, true);
    loader.override_global("READS_SEC_PATH", &reads_sec_path, true);
    let cgroup_lives = u8::from(report.uses(Backend::CgroupSockets));
    loader.override_global("CGROUP_LIVES", &cgroup_lives, true);
    let gives_cookies = u8::from(report.gives_cookies());
    loader.override_global("GIVES_COOKIES", &gives_cookies, true);
    #[cfg(feature = "kernel-log")]
    let level = log::max_level() as u8;
    #[cfg(feature = "kernel-log")]
    loader.override_global("AYA_LOG_LEVEL", &level, true);
    let object = casts::linked(OBJECT, cast);
    loader.load(object.as_bytes()).map_err(|error| match error {
        EbpfError::MapError(MapError::CreateError { name, io_error })
            if matches!(io_error.raw_os_error(), Some(libc::ENOMEM | libc::E2BIG)) =>
        {
            LoadError::NoRoom { name, io_error }
        }
        error => LoadError::Load(error),
    })
}

/// Takes a map out of the loaded object.
///
/// # Errors
/// The object has no such map.
pub fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, AttachError> {
    ebpf.take_map(name)
        .ok_or_else(|| AttachError::Map(MapError::InvalidName { name: name.into() }))
}

/// Inode number of the network namespace this process runs in.
///
/// # Errors
/// `/proc` can't be read.
pub fn host_netns() -> std::io::Result<u32> {
    let inode = fs::metadata(PathBuf::from("/proc/self/ns/net"))?.ino();
    // The kernel numbers namespaces with 32 bits.
    Ok(inode as u32)
}
