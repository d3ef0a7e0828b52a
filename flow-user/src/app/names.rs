//! Names of users, asked for when they are shown.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use nix::unistd::User;

use crate::{enrich::users::Users, query::names::Names};

/// Knows the system's users, unless numbers are to be shown.
#[derive(Debug)]
pub struct Known {
    users: Option<Mutex<Users>>,
}

impl Known {
    /// `resolve` says whether to show names at all.
    pub fn new(resolve: bool) -> Self {
        Self {
            users: resolve.then(Mutex::default),
        }
    }

    /// The id of the user of this name.
    pub fn uid(&self, name: &str) -> Option<u32> {
        let user = User::from_name(name).ok().flatten()?;
        Some(user.uid.as_raw())
    }
}

impl Names for Known {
    fn user(&self, uid: u32) -> Option<Arc<str>> {
        let users = self.users.as_ref()?.lock();
        users.unwrap_or_else(PoisonError::into_inner).name(uid)
    }

    /// Nothing looks hosts up yet.
    fn host(&self, _address: IpAddr) -> Option<Arc<str>> {
        None
    }
}
