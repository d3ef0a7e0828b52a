//! Which of the host's interfaces carry the packets of interfaces in other network namespaces, such as a
//! container's macvlan.

use std::{
    collections::{HashMap, HashSet},
    future, io, process,
};

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};
use flow_common::{ForeignKey, interface::foreign};
use tokio::task::{self, JoinHandle};

use super::{loader, programs::AttachError};
use crate::{
    event::Netns,
    source::{
        interfaces::{Interfaces, Link},
        netns::{self, Namespaces},
        proc::Proc,
    },
};

/// Kinds whose `IFLA_LINK` names an interface that carries their packets.
const CARRIED: [&str; 5] = ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"];

/// By interface of another namespace: the index of the host's interface, or [`foreign::UNRELATED`].
type Carriers = HashMap<ForeignKey, u32>;

/// Follows it: the programs note each interface at which packets arrive, and those are looked for.
pub struct Foreign {
    carriers: aya::maps::HashMap<MapData, ForeignKey, u32>,
    seen: PerCpuArray<MapData, u64>,
    /// How many interfaces the programs had noted when they were last looked for.
    looked_for: u64,
    search: Option<JoinHandle<io::Result<Carriers>>>,
    /// Whether any of the host's interfaces carries others' packets.
    pub any: bool,
}

impl Foreign {
    /// Takes the maps, and looks for the interfaces that there are.
    ///
    /// # Errors
    /// The kernel side lacks a map.
    pub fn start(ebpf: &mut Ebpf) -> Result<Self, AttachError> {
        let mut foreign = Self {
            carriers: aya::maps::HashMap::try_from(loader::take(ebpf, "FOREIGN")?)?,
            seen: PerCpuArray::try_from(loader::take(ebpf, "FOREIGN_SEEN")?)?,
            looked_for: 0,
            search: None,
            any: false,
        };
        match find(None) {
            Ok(mut found) => {
                // The others are noted once they receive something.
                found.retain(|_, lower| *lower != foreign::UNRELATED);
                foreign.take(&found);
            }
            Err(error) => log::warn!("cannot look into other network namespaces: {error}"),
        }
        Ok(foreign)
    }

    /// Looks for interfaces that the programs have noted since, beside everything else.
    pub fn look(&mut self) {
        let seen: u64 = match self.seen.get(&0, 0) {
            Ok(values) => values.iter().sum(),
            Err(error) => {
                log::debug!("interfaces of other namespaces: {error}");
                return;
            }
        };
        if self.search.is_some() || seen == self.looked_for {
            return;
        }
        self.looked_for = seen;
        let wanted: HashSet<u32> = self.unknown().map(|key| key.netns).collect();
        self.search = Some(task::spawn_blocking(move || find(Some(&wanted))));
    }

    /// Waits for what was found. Nothing is lost when the future is dropped.
    pub async fn found(&mut self) -> Carriers {
        let Some(search) = &mut self.search else {
            return future::pending().await;
        };
        let found = search.await;
        self.search = None;
        match found {
            Ok(Ok(carriers)) => carriers,
            Ok(Err(error)) => {
                log::debug!("cannot look into other network namespaces: {error}");
                Carriers::new()
            }
            Err(error) => {
                log::debug!("the search in other network namespaces: {error}");
                Carriers::new()
            }
        }
    }

    /// Hands what was found to the programs. What was not found is unrelated.
    pub fn take(&mut self, found: &Carriers) {
        let unknown: Vec<ForeignKey> = self.unknown().collect();
        let lacking = unknown.iter().filter(|key| !found.contains_key(key));
        let lacking = lacking.map(|key| (key, &foreign::UNRELATED));
        for (key, lower) in found.iter().chain(lacking) {
            self.any |= *lower != foreign::UNRELATED;
            if let Err(error) = self.carriers.insert(key, lower, 0) {
                log::debug!("interfaces of other namespaces: {error}");
            }
        }
    }

    /// Those that nobody has looked for yet.
    fn unknown(&self) -> impl Iterator<Item = ForeignKey> {
        self.carriers
            .iter()
            .flatten()
            .filter(|(_, lower)| *lower == foreign::NEW)
            .map(|(key, _)| key)
    }
}

/// Looks into other network namespaces: into those that are wanted, or all.
fn find(wanted: Option<&HashSet<u32>>) -> io::Result<Carriers> {
    let mut namespaces = Namespaces::find(&Proc::new().pids()?);
    if let Some(wanted) = wanted {
        let is_wanted = |netns: &Netns, _: &mut _| wanted.contains(&netns.0);
        namespaces.others.retain(is_wanted);
    }
    let found = netns::inside(&namespaces.others, |_| {
        let mut interfaces = Interfaces::open()?;
        // The number by which that namespace knows the one of this process.
        let host = interfaces.netns_id(process::id())?;
        let links = interfaces.list()?;
        let carriers = links.iter().map(|link| (link.ifindex, carrier(link, host)));
        Ok(carriers.collect::<Vec<_>>())
    })?;
    let mut carriers = Carriers::new();
    for (Netns(netns), links) in found {
        match links {
            Ok(links) => carriers.extend(
                links
                    .into_iter()
                    .map(|(ifindex, lower)| (ForeignKey { netns, ifindex }, lower)),
            ),
            Err(error) => log::debug!("network namespace {netns}: {error}"),
        }
    }
    Ok(carriers)
}

/// The interface of the namespace `host` that carries a link's packets.
fn carrier(link: &Link, host: Option<u32>) -> u32 {
    let is_carried = link
        .kind
        .as_deref()
        .is_some_and(|kind| CARRIED.contains(&kind));
    match link.parent {
        Some(parent) if is_carried && host.is_some() && parent.netns_id == host => parent.ifindex,
        _ => foreign::UNRELATED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::interfaces::{Counters, GsoLimits, Parent};

    #[test]
    fn only_what_the_host_carries_is_related() {
        let link = |kind: &str, netns_id| Link {
            ifindex: 7,
            name: "eth0".into(),
            up: true,
            kind: Some(kind.into()),
            hardware: libc::ARPHRD_ETHER,
            master: None,
            parent: Some(Parent {
                ifindex: 2,
                netns_id,
            }),
            queues: false,
            gso: GsoLimits::default(),
            counters: Counters::default(),
        };
        assert_eq!(carrier(&link("macvlan", Some(3)), Some(3)), 2);
        for (kind, netns_id, host) in [
            ("veth", Some(3), Some(3)),
            ("macvlan", Some(4), Some(3)),
            ("macvlan", None, Some(3)),
            ("macvlan", None, None),
        ] {
            let lower = carrier(&link(kind, netns_id), host);
            assert_eq!(lower, foreign::UNRELATED, "{kind} {netns_id:?} {host:?}");
        }
    }
}
