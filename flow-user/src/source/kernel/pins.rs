//! A BPF file system that only Flow sees, to hold links that the kernel takes long to remove.
//!
//! The kernel removes a link in the call that closes its last descriptor, and of TCX links one
//! takes it 8 to 26 ms: Flow would end late, and a killed Flow too. A link that a file holds is
//! removed by a worker of the kernel. The file system is mounted nowhere: it ends with its
//! descriptor, however Flow ends.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
};

use aya::{pin::PinError, programs::links::FdLink};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// The file system.
#[derive(Debug)]
pub struct Pins {
    mount: OwnedFd,
    made: u64,
}

/// A link in it, by its path.
#[derive(Debug)]
pub struct Pin(PathBuf);

impl Pins {
    /// Makes an empty one.
    ///
    /// # Errors
    /// The kernel has no BPF file system, or refuses it to this process.
    pub fn open() -> io::Result<Self> {
        let context = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let mount = fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )?;
        Ok(Self { mount, made: 0 })
    }

    /// Hands a link to it.
    ///
    /// # Errors
    /// The kernel refuses; then the link is gone.
    pub fn hold(&mut self, link: FdLink) -> Result<Pin, PinError> {
        let path = format!("/proc/self/fd/{}/{}", self.mount.as_raw_fd(), self.made);
        link.pin(&path)?;
        self.made += 1;
        Ok(Pin(path.into()))
    }
}

impl Drop for Pin {
    /// Has the kernel remove the link soon.
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            log::debug!("{}: {error}", self.0.display());
        }
    }
}
