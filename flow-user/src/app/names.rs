//! Names of users, asked for when they are shown.

use std::{cell::RefCell, net::IpAddr, sync::Arc};

use nix::unistd::User;

use crate::{enrich::users::Users, query::names::Names};

/// Knows the system's users, unless numbers are to be shown.
#[derive(Debug)]
pub struct Known {
    users: Option<RefCell<Users>>,
}

impl Known {
    /// `resolve` says whether to show names at all.
    pub fn new(resolve: bool) -> Self {
        Self {
            users: resolve.then(RefCell::default),
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
        self.users.as_ref()?.borrow_mut().name(uid)
    }

    /// Nothing looks hosts up yet.
    fn host(&self, _address: IpAddr) -> Option<Arc<str>> {
        None
    }
}
