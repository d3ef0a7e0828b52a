//! Names for numbers: what the outside calls users and hosts.

use std::{net::IpAddr, sync::Arc};

/// Knows names. Answers at once, or nearly so: a name that is not at hand is none for now. Names may hold anything.
pub trait Names {
    /// Login name of a user id.
    fn user(&self, uid: u32) -> Option<Arc<str>>;
    /// Host name of an address.
    fn host(&self, address: IpAddr) -> Option<Arc<str>>;
}

/// Knows no names.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {
    fn user(&self, _uid: u32) -> Option<Arc<str>> {
        None
    }

    fn host(&self, _address: IpAddr) -> Option<Arc<str>> {
        None
    }
}
