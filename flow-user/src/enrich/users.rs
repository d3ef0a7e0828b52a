//! What is the name of a user?

use std::{collections::HashMap, sync::Arc};

use nix::unistd::{Uid, User};

/// Most names remembered; beyond it all are asked for anew.
const MAX_NAMES: usize = 4096;

/// Names of users, each asked for once. Asking may take as long as the directory service does.
#[derive(Debug, Default)]
pub struct Users {
    names: HashMap<u32, Option<Arc<str>>>,
}

impl Users {
    /// The user's name; `None` when nobody has this id.
    pub fn name(&mut self, uid: u32) -> Option<Arc<str>> {
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(&uid) {
            self.names.clear();
        }
        self.names
            .entry(uid)
            .or_insert_with(|| {
                let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
                Some(user.name.into())
            })
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_a_stranger_has_none() {
        let mut users = Users::default();
        assert_eq!(users.name(0).as_deref(), Some("root"));
        assert_eq!(users.name(4_294_000_000), None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut users = Users {
            names: (0..MAX_NAMES as u32).map(|uid| (uid, None)).collect(),
        };
        users.name(4_294_000_000);
        assert_eq!(users.names.len(), 1);
    }
}
