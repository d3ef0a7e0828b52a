//! The calls of bpf(2) that measuring needs: statistics, counters of programs, and empty programs
//! to compare with.
//!
//! Without a library: an empty program is two instructions, for which a library needs an object
//! file.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    fs, io,
    mem::size_of,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Types of programs, as in the kernel's `bpf_prog_type`.
pub mod kind {
    pub const KPROBE: u32 = 2;
    pub const CLASSIFIER: u32 = 3;
    pub const CGROUP_SKB: u32 = 8;
    pub const RAW_TRACEPOINT: u32 = 17;
    pub const CGROUP_SOCK_ADDR: u32 = 18;
    pub const TRACING: u32 = 26;
}

/// Attach points of an empty program; the numbers are the kernel's `bpf_attach_type`.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    RawTracepoint(&'a CStr),
    Cgroup {
        kind: u32,
        attach: u32,
        cgroup: BorrowedFd<'a>,
    },
    /// TCX, from Linux 6.6.
    Interface {
        index: u32,
        attach: u32,
    },
}

pub const CGROUP_INGRESS: u32 = 0;
pub const CGROUP_EGRESS: u32 = 1;
pub const UDP4_SENDMSG: u32 = 14;
pub const UDP4_RECVMSG: u32 = 19;
pub const TCX_INGRESS: u32 = 46;
pub const TCX_EGRESS: u32 = 47;

const PROG_LOAD: libc::c_long = 5;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const LINK_CREATE: libc::c_long = 28;
const ENABLE_STATS: libc::c_long = 32;

/// The kernel's counters of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    pub kind: u32,
    /// Truncated to 15 bytes.
    pub name: String,
    pub time_ns: u64,
    pub runs: u64,
}

/// Enables statistics of all programs until dropped; a killed benchmark disables them too.
#[derive(Debug)]
pub struct Statistics {
    _fd: OwnedFd,
}

impl Statistics {
    pub fn enable() -> Result<Self> {
        let run_time = 0_u32;
        Ok(Self {
            _fd: descriptor(ENABLE_STATS, &run_time).context("BPF_ENABLE_STATS")?,
        })
    }
}

/// An attached program that does nothing. Detached on drop.
#[derive(Debug)]
pub struct Empty {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Empty {
    pub fn attach(place: Place<'_>) -> Result<Self> {
        Self::returning(place, pass(place))
    }

    /// A cgroup program that drops all packets.
    pub fn refusing(place: Place<'_>) -> Result<Self> {
        Self::returning(place, 0)
    }

    fn returning(place: Place<'_>, value: i32) -> Result<Self> {
        let program = load(place, value)?;
        let link = match place {
            Place::RawTracepoint(name) => {
                let attr = RawTracepoint {
                    name: name.as_ptr() as u64,
                    program: program.as_raw_fd(),
                    pad: 0,
                };
                descriptor(RAW_TRACEPOINT_OPEN, &attr).context("BPF_RAW_TRACEPOINT_OPEN")?
            }
            Place::Cgroup { attach, cgroup, .. } => link(&program, cgroup.as_raw_fd(), attach)?,
            Place::Interface { index, attach } => link(&program, index.try_into()?, attach)?,
        };
        Ok(Self {
            program,
            _link: link,
        })
    }

    pub fn counted(&self) -> Result<Program> {
        info(&self.program)
    }
}

/// The programs that a process has loaded or attached, from its descriptors.
pub fn programs_of(pid: u32) -> Result<Vec<OwnedFd>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        ids.extend(field(&text, "prog_id:"));
    }
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(by_id).collect()
}

fn by_id(program: u64) -> Result<OwnedFd> {
    let id = u32::try_from(program)?;
    descriptor(PROG_GET_FD_BY_ID, &[id, 0, 0]).context("BPF_PROG_GET_FD_BY_ID")
}

/// Where a program of another process is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    RawTracepoint(CString),
    Cgroup {
        kind: u32,
        attach: u32,
    },
    /// A kind of link of which no empty one is made here, by its name.
    Other(String),
}

/// Where the programs of a process are attached, from the links among its descriptors. Links that
/// it has pinned and closed are missing.
pub fn attached_of(pid: u32) -> Result<Vec<Attached>> {
    let mut links = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        if let Some(link) = field(&text, "link_id:") {
            links.insert(link, text);
        }
    }
    links.values().map(|text| attached(text)).collect()
}

fn attached(link: &str) -> Result<Attached> {
    let name = value(link, "link_type:").context("a link has no type")?;
    Ok(match name {
        "raw_tracepoint" => {
            let name = value(link, "tp_name:").context("a link has no tracepoint")?;
            Attached::RawTracepoint(CString::new(name)?)
        }
        "cgroup" => {
            let program = field(link, "prog_id:").context("a link has no program")?;
            let attach = field(link, "attach_type:").context("a link has no type of attachment")?;
            Attached::Cgroup {
                kind: info(&by_id(program)?)?.kind,
                attach: attach.try_into()?,
            }
        }
        other => Attached::Other(other.to_owned()),
    })
}

/// Bytes of kernel memory of a process's maps, from its descriptors.
pub fn map_bytes_of(pid: u32) -> Result<u64> {
    let mut maps = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        if let (Some(id), Some(bytes)) = (field(&text, "map_id:"), field(&text, "memlock:")) {
            maps.push((id, bytes));
        }
    }
    maps.sort_unstable();
    maps.dedup_by_key(|(id, _)| *id);
    Ok(maps.iter().map(|(_, bytes)| bytes).sum())
}

pub fn info(program: &OwnedFd) -> Result<Program> {
    let mut info = ProgramInfo::default();
    let attr = InfoByFd {
        program: program.as_raw_fd(),
        length: u32::try_from(size_of::<ProgramInfo>())?,
        info: (&raw mut info) as u64,
    };
    call(OBJ_GET_INFO_BY_FD, &attr).context("BPF_OBJ_GET_INFO_BY_FD")?;
    let end = info.name.iter().position(|byte| *byte == 0).unwrap_or(16);
    Ok(Program {
        kind: info.kind,
        name: String::from_utf8_lossy(&info.name[..end]).into_owned(),
        time_ns: info.time_ns,
        runs: info.runs,
    })
}

/// The mount point of the cgroup v2 tree.
pub fn cgroup_root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    mounts
        .lines()
        .find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (path, kind) = (words.next()?, words.next()?);
            (kind == "cgroup2").then(|| Path::new(path).to_owned())
        })
        .context("no cgroup v2 tree is mounted")
}

fn field(text: &str, name: &str) -> Option<u64> {
    value(text, name)?.parse().ok()
}

fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim())
}

#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 2],
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach: u32,
}

#[repr(C)]
struct RawTracepoint {
    name: u64,
    program: i32,
    pad: u32,
}

#[repr(C)]
struct InfoByFd {
    program: i32,
    length: u32,
    info: u64,
}

/// The part of the kernel's `bpf_prog_info` that is read here.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    before_name: [u64; 7],
    name: [u8; 16],
    between: [u64; 14],
    time_ns: u64,
    runs: u64,
}

// Offsets in `bpf_prog_info`.
const _: () = assert!(std::mem::offset_of!(ProgramInfo, name) == 64);
const _: () = assert!(std::mem::offset_of!(ProgramInfo, time_ns) == 192);
const _: () = assert!(std::mem::offset_of!(Load, attach) == 68);

/// The return value of a program that changes nothing.
fn pass(place: Place<'_>) -> i32 {
    match place {
        Place::RawTracepoint(_) => 0,
        // 1: the packet passes.
        Place::Cgroup { .. } => 1,
        // TCX_NEXT: the next program decides.
        Place::Interface { .. } => -1,
    }
}

fn load(place: Place<'_>, value: i32) -> Result<OwnedFd> {
    let (kind, attach) = match place {
        Place::RawTracepoint(_) => (kind::RAW_TRACEPOINT, 0),
        Place::Cgroup { kind, attach, .. } => (kind, attach),
        Place::Interface { attach, .. } => (kind::CLASSIFIER, attach),
    };
    // r0 = value; exit
    let immediate = u64::from(value.cast_unsigned()) << 32;
    let instructions = [immediate | 0xb7, 0x95];
    let attr = Load {
        kind,
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log: [0; 2],
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"bench_empty\0\0\0\0\0",
        interface: 0,
        attach,
    };
    descriptor(PROG_LOAD, &attr).context("loading an empty program")
}

fn link(program: &OwnedFd, target: i32, attach: u32) -> Result<OwnedFd> {
    let attach = i32::try_from(attach)?;
    // Program, target, attach type, flags; and the fields that newer kernels read after them.
    let attr = [program.as_raw_fd(), target, attach, 0, 0, 0, 0, 0, 0, 0];
    descriptor(LINK_CREATE, &attr).context("attaching an empty program")
}

fn descriptor<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: these commands return a descriptor that belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: libc::c_long, attr: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads as many bytes as `attr` has. Pointers in it are to values of the
    // callers, which outlive the call. It writes only to `InfoByFd::info`, which is made from a
    // mutable value of the size passed with it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attr),
            size_of::<T>(),
        )
    };
    match i32::try_from(result) {
        Ok(result @ 0..) => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_fdinfo_are_numbers_after_their_name() {
        let text = "pos:\t0\nprog_type:\t17\nprog_id:\t42\nmemlock:\t4096\n";
        assert_eq!(field(text, "prog_id:"), Some(42));
        assert_eq!(field(text, "map_id:"), None);
    }

    #[test]
    fn links_are_recognised_by_their_type() {
        let link = "pos:\t0\nlink_type:\traw_tracepoint\nlink_id:\t9\ntp_name:\tsock_send_length\n";
        let name = c"sock_send_length".to_owned();
        assert_eq!(attached(link).unwrap(), Attached::RawTracepoint(name));
        let link = "link_type:\ttracing\nlink_id:\t9\n";
        assert_eq!(
            attached(link).unwrap(),
            Attached::Other("tracing".to_owned())
        );
    }
}
