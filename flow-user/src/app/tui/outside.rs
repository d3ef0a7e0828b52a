//! What the screen asks this machine.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    enrich::users::UserResolver,
    source::interfaces::{Interfaces, facts::LinkFacts},
    tui::World,
};

/// How long an answer about an interface holds: the kernel may have to ask its driver.
const HOLDS: Duration = Duration::from_secs(5);

/// This machine, whether or not it is the one that is shown.
pub struct Outside {
    users: Arc<UserResolver>,
    /// By index; absent where another machine is shown, or an earlier time.
    links: Option<Mutex<HashMap<u32, Answer>>>,
}

/// When the kernel was asked for an interface, and what it said.
type Answer = (Instant, Option<LinkFacts>);

impl Outside {
    /// `is_shown` says whether this machine is the one on the screen.
    pub fn new(users: Arc<UserResolver>, is_shown: bool) -> Self {
        Self {
            users,
            links: is_shown.then(Mutex::default),
        }
    }
}

impl World for Outside {
    fn uid(&self, name: &str) -> Option<u32> {
        self.users.uid(name)
    }

    fn link(&self, ifindex: u32) -> Option<LinkFacts> {
        let mut links = self
            .links
            .as_ref()?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        links.retain(|_, (asked, _)| now.duration_since(*asked) < HOLDS);
        let ask = || {
            let facts = Interfaces::open().and_then(|mut it| it.facts_of(ifindex));
            (now, facts.ok().flatten())
        };
        links.entry(ifindex).or_insert_with(ask).1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked() {
        let users = Arc::new(UserResolver::default());
        let of = |is_shown| Outside::new(Arc::clone(&users), is_shown).link(1);
        assert!(of(true).is_some_and(|link| link.mtu > 0));
        assert_eq!(of(false), None);
    }
}
