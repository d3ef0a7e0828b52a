//! Why a start failed.

use std::io;

use super::{attach_error::AttachError, environment, loader::LoadError, probe::BackendError};
use crate::event::doctor::Cap;

/// Why Flow can't listen to the kernel.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("no interface is named {name}; there are {present}")]
    NoInterface { name: String, present: String },
    #[error("cannot wait for the ring buffer: {0}")]
    Ring(io::Error),
    #[error("cannot follow the interfaces: {0}")]
    Interfaces(io::Error),
}

impl StartError {
    /// Whether Flow lacks privileges for it, rather than the kernel the means.
    pub fn is_not_permitted(&self) -> bool {
        if let Self::Backend(error) = self {
            return error.not_permitted;
        }
        let refused = self.has_cause(|it| it.kind() == io::ErrorKind::PermissionDenied);
        refused && lacks_rights()
    }

    /// Whether Flow may not open as many files as it needs.
    pub fn is_out_of_files(&self) -> bool {
        if let Self::Backend(error) = self {
            return error.out_of_files;
        }
        self.has_cause(|it| matches!(it.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)))
    }

    fn has_cause(&self, is_it: impl Fn(&io::Error) -> bool) -> bool {
        let mut cause: Option<&dyn std::error::Error> = Some(self);
        let mut causes = std::iter::from_fn(|| {
            let this = cause?;
            cause = this.source();
            Some(this)
        });
        causes.any(|error| error.downcast_ref::<io::Error>().is_some_and(&is_it))
    }
}

/// Whether Flow has less than the host's root has.
fn lacks_rights() -> bool {
    let environment = environment::read(false);
    environment.user_namespace
        || [
            Cap::CapBpf,
            Cap::CapPerfmon,
            Cap::CapNetAdmin,
            Cap::CapSysAdmin,
        ]
        .into_iter()
        .any(|cap| !environment.may(cap))
}
