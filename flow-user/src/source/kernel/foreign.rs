//! Which of the host's interfaces carry the packets of interfaces in other network namespaces, such
//! as a container's macvlan.

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

use super::{attach_error::AttachError, loader, stacking::CARRIED};
use crate::{
    event::Netns,
    source::{
        interfaces::{Interfaces, Link},
        netns::{self, Namespaces},
        proc::Proc,
    },
};

/// By interface of another namespace: the index of the host's interface, or [`foreign::UNRELATED`].
type Carriers = HashMap<ForeignKey, u32>;

/// What a search has found.
#[derive(Debug)]
pub struct Found {
    /// The interfaces it was for.
    wanted: Vec<ForeignKey>,
    carriers: io::Result<Carriers>,
}

/// Follows it: the programs note each interface at which packets arrive, and those are looked for.
pub struct Foreign {
    carriers: aya::maps::HashMap<MapData, ForeignKey, u32>,
    seen: PerCpuArray<MapData, u64>,
    /// How many interfaces the programs had noted when they were last looked for.
    looked_for: u64,
    /// Whether what is known may be of others by now.
    in_doubt: bool,
    search: Option<JoinHandle<Found>>,
    /// Whether any of the host's interfaces carries others' packets.
    pub any: bool,
}

impl Foreign {
    /// Takes the maps.
    ///
    /// # Errors
    /// The kernel side lacks a map.
    pub fn take_maps(ebpf: &mut Ebpf) -> Result<Self, AttachError> {
        Ok(Self {
            carriers: aya::maps::HashMap::try_from(loader::take(ebpf, "FOREIGN")?)?,
            seen: PerCpuArray::try_from(loader::take(ebpf, "FOREIGN_SEEN")?)?,
            looked_for: 0,
            in_doubt: false,
            search: None,
            any: false,
        })
    }

    /// Looks for the interfaces that there are.
    pub fn start(mut self) -> Self {
        // Those that no interface of this host carries are noted once they receive something.
        let carriers = find(None).map(|mut found| {
            found.retain(|_, lower| *lower != foreign::UNRELATED);
            found
        });
        self.take(Found {
            wanted: Vec::new(),
            carriers,
        });
        self
    }

    /// What is known is to be looked for again.
    pub fn doubt(&mut self) {
        self.in_doubt = true;
    }

    /// Looks for interfaces that the programs have noted since, beside everything else; for all of
    /// them where what is known is in doubt.
    pub fn look(&mut self) {
        let seen: u64 = match self.seen.get(&0, 0) {
            Ok(values) => values.iter().sum(),
            Err(error) => {
                log::debug!("interfaces of other namespaces: {error}");
                return;
            }
        };
        if self.search.is_some() || !self.in_doubt && seen == self.looked_for {
            return;
        }
        self.looked_for = seen;
        let is_wanted = |lower: u32| self.in_doubt || lower == foreign::NEW;
        let wanted: Vec<ForeignKey> = self
            .carriers
            .iter()
            .flatten()
            .filter(|(_, lower)| is_wanted(*lower))
            .map(|(key, _)| key)
            .collect();
        self.in_doubt = false;
        if wanted.is_empty() {
            return;
        }
        self.search = Some(task::spawn_blocking(move || {
            let netns = wanted.iter().map(|key| key.netns).collect();
            let carriers = find(Some(&netns));
            Found { wanted, carriers }
        }));
    }

    /// Waits for what was found. Nothing is lost when the future is dropped.
    pub async fn found(&mut self) -> Found {
        loop {
            let Some(search) = &mut self.search else {
                return future::pending().await;
            };
            let found = search.await;
            self.search = None;
            match found {
                Ok(found) => return found,
                Err(error) => log::debug!("the search in other network namespaces: {error}"),
            }
        }
    }

    /// Hands what was found to the programs. What was looked for in vain is unrelated.
    pub fn take(&mut self, found: Found) {
        let Found { wanted, carriers } = found;
        let carriers = match carriers {
            Ok(carriers) => carriers,
            Err(error) => {
                log::debug!("cannot look into other network namespaces: {error}");
                return;
            }
        };
        let lacking = wanted.iter().filter(|key| !carriers.contains_key(key));
        let lacking = lacking.map(|key| (key, &foreign::UNRELATED));
        for (key, lower) in carriers.iter().chain(lacking) {
            self.any |= *lower != foreign::UNRELATED;
            if let Err(error) = self.carriers.insert(key, lower, 0) {
                log::debug!("interfaces of other namespaces: {error}");
            }
        }
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
    use crate::source::interfaces::Parent;

    #[test]
    fn only_what_the_host_carries_is_related() {
        let link = |kind: &str, netns_id| Link {
            parent: Some(Parent {
                ifindex: 2,
                netns_id,
            }),
            ..Link::of_kind(7, kind)
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
