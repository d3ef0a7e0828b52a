//! The interfaces of the host's namespace: which there are, and what each has counted.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    sync::Arc,
};

use aya::Ebpf;
use flow_common::Class;

use super::classifier::{self, Classifiers, Counts, Way};
use crate::{
    event::{Bytes, Event, InterfaceFact, InterfaceSide},
    source::interfaces::{Counters, Interfaces, Link, LinkChange, Monitor},
};

/// How often a ledger's beginning is looked for at which nothing passes.
const BEGINNINGS: usize = 5;

/// Follows the interfaces, with classifiers on each where the kernel takes them.
pub struct Frames {
    interfaces: Interfaces,
    monitor: Monitor,
    classifiers: Option<Classifiers>,
    known: BTreeMap<u32, Known>,
    /// The only interfaces to follow, by name.
    chosen: Option<Vec<String>>,
}

/// When an interface gets its classifiers. Each takes the kernel some 20 ms to attach and 16 to
/// detach, also where no packet will ever pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attaching {
    /// One that has just appeared, so that they are there before it is up.
    AtOnce,
    /// One that was there before, which may stay down for good.
    WhenUp,
}

/// An interface that is followed.
struct Known {
    link: Link,
    attaching: Attaching,
    before: Before,
}

/// What was counted when an interface's ledger began: by itself, and by its classifiers.
#[derive(Default)]
struct Before {
    own: Counters,
    ingress: Counts,
    egress: Counts,
}

impl Frames {
    /// Begins to follow the interfaces.
    ///
    /// # Errors
    /// The kernel does not tell of them.
    pub fn start(
        ebpf: &mut Ebpf,
        way: Option<Way>,
        chosen: Option<Vec<String>>,
    ) -> io::Result<Self> {
        let classifiers = way.and_then(|way| match Classifiers::load(ebpf, way) {
            Ok(classifiers) => Some(classifiers),
            Err(error) => {
                log::warn!("packets of interfaces are not classified: {error}");
                None
            }
        });
        let monitor = Monitor::open()?;
        let mut frames = Self {
            interfaces: Interfaces::open()?,
            monitor,
            classifiers,
            known: BTreeMap::new(),
            chosen,
        };
        frames.list(ebpf)?;
        if let Some(classifiers) = &mut frames.classifiers {
            classifiers.settled();
        }
        Ok(frames)
    }

    /// Begins the ledgers anew. To be called once everything is attached that counts for them: what
    /// passed before, some hooks have seen and others have not.
    pub fn begin(&mut self) {
        if let Some(classifiers) = &self.classifiers {
            for known in self.known.values_mut() {
                known.begin(classifiers, &mut self.interfaces);
            }
        }
    }

    /// How classifiers are attached, how many of the interfaces that are up lack them, and how many
    /// are up.
    pub fn attached(&self) -> (Option<Way>, usize, usize) {
        let classifiers = self.classifiers.as_ref();
        let lacks = |known: &&Known| {
            classifiers.is_none_or(|classifiers| !classifiers.is_attached(known.link.ifindex))
        };
        let up = self.known.values().filter(|known| known.link.up);
        let lacking = up.clone().filter(lacks).count();
        (classifiers.map(Classifiers::way), lacking, up.count())
    }

    /// Waits for an interface to come, change or go.
    ///
    /// # Errors
    /// The kernel does not tell any more.
    pub async fn next(&mut self) -> io::Result<LinkChange> {
        self.monitor.next().await
    }

    /// Takes a change.
    pub fn change(&mut self, ebpf: &mut Ebpf, change: LinkChange) -> Vec<Event> {
        match change {
            LinkChange::Present(link) => {
                let ifindex = link.ifindex;
                self.present(ebpf, link, Attaching::AtOnce);
                if let Some(known) = self.known.get(&ifindex) {
                    return vec![known.event(self.classifiers.as_ref())];
                }
            }
            LinkChange::Gone { ifindex } => return self.gone(ifindex).into_iter().collect(),
            LinkChange::Relist => match self.list(ebpf) {
                Ok(gone) => return gone,
                Err(error) => log::warn!("cannot list the interfaces: {error}"),
            },
        }
        Vec::new()
    }

    /// Lists the interfaces. What it knew before and is no longer there is gone.
    fn list(&mut self, ebpf: &mut Ebpf) -> io::Result<Vec<Event>> {
        let links = self.interfaces.list()?;
        let missing = missing(self.known.keys().copied(), &links);
        let gone = missing.into_iter();
        let gone = gone.filter_map(|ifindex| self.gone(ifindex)).collect();
        for link in links {
            self.present(ebpf, link, Attaching::WhenUp);
        }
        Ok(gone)
    }

    fn gone(&mut self, ifindex: u32) -> Option<Event> {
        if let Some(classifiers) = &mut self.classifiers {
            classifiers.forget(ifindex);
        }
        self.known.remove(&ifindex)?;
        Some(Event::InterfaceGone { ifindex })
    }

    fn present(&mut self, ebpf: &mut Ebpf, link: Link, attaching: Attaching) {
        if let Some(known) = self.known.get_mut(&link.ifindex) {
            known.link = link;
            if let Some(classifiers) = &mut self.classifiers {
                known.renew(ebpf, classifiers, &mut self.interfaces);
            }
            return;
        }
        let is_chosen = |names: &Vec<String>| names.iter().any(|name| **name == *link.name);
        if !self.chosen.as_ref().is_none_or(is_chosen) {
            return;
        }
        let mut known = Known {
            before: Before {
                own: link.counters,
                ..Before::default()
            },
            link,
            attaching,
        };
        if let Some(classifiers) = &mut self.classifiers {
            known.renew(ebpf, classifiers, &mut self.interfaces);
        }
        self.known.insert(known.link.ifindex, known);
    }

    /// The interfaces and their counters, now.
    pub fn read(&mut self) -> Vec<Event> {
        // Before the classifiers' counters: a packet on its way between the two is then seen by the
        // classifier only, and the next reading has both.
        match self.interfaces.stats() {
            Ok(stats) => {
                for (ifindex, counters) in stats {
                    if let Some(known) = self.known.get_mut(&ifindex) {
                        known.link.counters = counters;
                    }
                }
            }
            Err(error) => log::warn!("cannot read the interfaces' counters: {error}"),
        }
        self.known
            .values()
            .map(|known| known.event(self.classifiers.as_ref()))
            .collect()
    }

    /// Takes the classifiers off every interface.
    pub fn detach(&mut self) {
        if let Some(classifiers) = &mut self.classifiers {
            classifiers.detach();
        }
    }
}

impl Known {
    fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        classifiers: &mut Classifiers,
        interfaces: &mut Interfaces,
    ) {
        if let Err(error) = classifiers.attach(ebpf, self.described()) {
            log::info!("interface {}: {error}", self.link.name.escape_debug());
            return;
        }
        self.begin(classifiers, interfaces);
    }

    /// Begins its ledger, if possible at a moment when nothing passes.
    fn begin(&mut self, classifiers: &Classifiers, interfaces: &mut Interfaces) {
        let ifindex = self.link.ifindex;
        for _ in 0..BEGINNINGS {
            let Ok(Some(own)) = interfaces.stats_of(ifindex) else {
                return;
            };
            let Ok((ingress, egress)) = classifiers.counts(ifindex) else {
                return;
            };
            self.before = Before {
                own,
                ingress,
                egress,
            };
            if interfaces
                .stats_of(ifindex)
                .is_ok_and(|now| now == Some(own))
            {
                return;
            }
        }
    }

    /// The interface is new or has changed: tells its classifiers, or attaches them if it is time, also
    /// if that failed before. Its ledger begins then.
    fn renew(
        &mut self,
        ebpf: &mut Ebpf,
        classifiers: &mut Classifiers,
        interfaces: &mut Interfaces,
    ) {
        if !classifiers.is_attached(self.link.ifindex) {
            if self.link.up || self.attaching == Attaching::AtOnce {
                self.attach(ebpf, classifiers, interfaces);
            }
        } else if let Err(error) = classifiers.describe_link(self.described()) {
            log::debug!("interface {}: {error}", self.link.name.escape_debug());
        }
    }

    fn described(&self) -> classifier::Link<'_> {
        classifier::Link {
            ifindex: self.link.ifindex,
            name: &self.link.name,
            layout: self.link.layout(),
            counts_without_header: self.link.counts_without_header(),
        }
    }

    fn event(&self, classifiers: Option<&Classifiers>) -> Event {
        let counters: &Counters = &self.link.counters;
        let mut fact = InterfaceFact {
            ifindex: self.link.ifindex,
            name: Arc::clone(&self.link.name),
            up: self.link.up,
            classified: false,
            ingress: InterfaceSide {
                bytes_at_attach: Bytes(self.before.own.rx_bytes),
                ..counters.ingress()
            },
            egress: InterfaceSide {
                bytes_at_attach: Bytes(self.before.own.tx_bytes),
                ..counters.egress()
            },
        };
        let counts = classifiers
            .filter(|classifiers| classifiers.is_attached(self.link.ifindex))
            .and_then(|classifiers| classifiers.counts(self.link.ifindex).ok());
        if let Some((ingress, egress)) = counts {
            fact.classified = true;
            fact.ingress.classes = since(ingress, &self.before.ingress);
            fact.egress.classes = since(egress, &self.before.egress);
            if self.link.master.is_some() {
                hand_to_master(&mut fact.ingress.classes);
            }
        }
        Event::Interface(Box::new(fact))
    }
}

/// Which of the interfaces known are not among those listed.
fn missing(known: impl Iterator<Item = u32>, listed: &[Link]) -> Vec<u32> {
    let listed: HashSet<u32> = listed.iter().map(|link| link.ifindex).collect();
    known.filter(|ifindex| !listed.contains(ifindex)).collect()
}

/// What was counted after `before`.
fn since(mut counts: Counts, before: &Counts) -> Counts {
    for (count, before) in counts.iter_mut().zip(before) {
        count.packets = count.packets.saturating_sub(before.packets);
        count.bytes = count.bytes.since(before.bytes);
        count.frames = count.frames.saturating_sub(before.frames);
        count.header_bytes = count.header_bytes.since(before.header_bytes);
    }
    counts
}

/// What a port of a bridge or bond receives goes to its master, which counts it again: of what no
/// socket took here, IP packets are forwarded.
fn hand_to_master(ingress: &mut Counts) {
    let total = ingress[Class::Total as usize];
    let others = [Class::Socket, Class::PacketSocket, Class::NotIp];
    let taken = |of: fn(&crate::event::ClassCount) -> u64| -> u64 {
        others
            .iter()
            .map(|class| of(&ingress[*class as usize]))
            .sum()
    };
    let bytes = Bytes(total.bytes.0.saturating_sub(taken(|count| count.bytes.0)));
    let packets = total.packets.saturating_sub(taken(|count| count.packets));
    let forwarded = &mut ingress[Class::Forwarded as usize];
    forwarded.bytes = bytes;
    forwarded.packets = packets;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let listed = Interfaces::open().unwrap().list().unwrap();
        let present: Vec<u32> = listed.iter().map(|link| link.ifindex).collect();
        // Indexes are positive numbers of type int.
        let never = [u32::MAX, u32::MAX - 1];
        let known = present.into_iter().chain(never);
        assert_eq!(missing(known, &listed), never);
    }
}
