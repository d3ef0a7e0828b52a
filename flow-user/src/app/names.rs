//! Names of users, asked for when they are shown, and their numbers, asked for when a filter names them.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use nix::unistd::User;

use crate::{enrich::users::Users, query::names::Names};

/// Knows the system's users, unless numbers are to be shown.
#[derive(Debug)]
pub struct Known {
    users: Option<Mutex<Users>>,
    /// What was asked for lately: a filter is read anew at each key, and a directory in the network may be slow.
    uids: Mutex<HashMap<String, Option<u32>>>,
}

/// Names whose numbers are remembered at most.
const UIDS: usize = 256;

impl Known {
    /// `resolve` says whether to show names at all.
    pub fn new(resolve: bool) -> Self {
        Self {
            users: resolve.then(Mutex::default),
            uids: Mutex::default(),
        }
    }

    /// The id of the user of this name.
    pub fn uid(&self, name: &str) -> Option<u32> {
        let mut uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(uid) = uids.get(name) {
            return *uid;
        }
        let user = User::from_name(name).ok().flatten();
        let uid = user.map(|user| user.uid.as_raw());
        if uids.len() >= UIDS {
            uids.clear();
        }
        uids.insert(name.to_owned(), uid);
        uid
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
