//! The interfaces of the host's namespace: which there are, and what each has counted.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet, VecDeque, btree_map::Entry},
    future, io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use aya::Ebpf;
use flow_common::{ForeignKey, LinkLayout};
use tokio::{task, time};

use super::{
    beginning::{Before, since},
    classifier::{self, Classifiers, Way},
    foreign::Foreign,
    stacking::Stacking,
};
use crate::{
    event::{Bytes, Event, InterfaceFact, InterfaceSide},
    source::interfaces::{Counters, Interfaces, Link, LinkChange, Monitor},
};

/// How often a ledger's beginning is looked for at which nothing passes.
const BEGINNINGS: usize = 6;
/// How long a packet is given that one of the two has counted and the other has not.
const ON_ITS_WAY: Duration = Duration::from_micros(100);
/// How long a ledger's beginning may still be corrected. A packet that the interface had counted may wait for its CPU's
/// turn to take in packets, which others have: on a busy virtual machine for many milliseconds.
const SETTLING: Duration = Duration::from_millis(500);

/// How long the start may attach classifiers. The first row waits for them; the interfaces that are left
/// then get theirs one by one, while Flow runs.
const PROMPT: Duration = Duration::from_millis(150);
/// Interfaces that the start attaches them to in any case, also on a slow machine.
const FIRST: usize = 4;

/// Follows the interfaces, with classifiers on each where the kernel takes them.
pub struct Frames {
    interfaces: Interfaces,
    monitor: Monitor,
    classifiers: Option<Classifiers>,
    known: BTreeMap<u32, Known>,
    /// Interfaces that are to get their classifiers, in this order.
    waiting: VecDeque<u32>,
    /// Interfaces whose ledgers have just begun, and until when each may be corrected; the earliest first.
    settling: VecDeque<(u32, Instant)>,
    /// Why classifiers were last refused.
    refusal: Option<String>,
    /// The only interfaces to report, by name. The others are followed as well: packets come in or leave
    /// by them.
    chosen: Option<Vec<String>>,
    /// Interfaces of other namespaces whose packets those of this one carry.
    foreign: Option<Foreign>,
    /// Targets of mirrors.
    mirrors: HashSet<u32>,
    /// What the programs know of how the interfaces lie on top of one another.
    stacking: Stacking,
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
    /// Whether it is reported.
    is_chosen: bool,
}

/// How far the classifiers have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// How they are attached; absent where the kernel takes none.
    pub way: Option<Way>,
    /// Interfaces that are up and lack them.
    pub lacking: usize,
    /// Whether some of those are to get them yet.
    pub waiting: bool,
    /// Interfaces that are up.
    pub up: usize,
    /// Why they were last refused.
    pub refusal: Option<String>,
}

/// What the interfaces want done.
#[derive(Debug)]
pub enum Task {
    /// To take a change.
    Change(LinkChange),
    /// To attach classifiers to the next interface.
    Attach,
    /// To correct the beginnings of ledgers.
    Settle,
    /// To take which interfaces carry packets of other namespaces.
    Foreign(HashMap<ForeignKey, u32>),
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
        let mut refusal = None;
        let classifiers = way.and_then(|way| {
            Classifiers::load(ebpf, way)
                .inspect_err(|error| {
                    log::warn!("packets of interfaces are not classified: {error}");
                    refusal = Some(error.to_string());
                })
                .ok()
        });
        let foreign = classifiers.as_ref().and_then(|_| {
            Foreign::start(ebpf)
                .inspect_err(|error| log::warn!("interfaces of other namespaces: {error}"))
                .ok()
        });
        let monitor = Monitor::open()?;
        let mut frames = Self {
            interfaces: Interfaces::open()?,
            monitor,
            classifiers,
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            settling: VecDeque::new(),
            refusal,
            chosen,
            foreign,
            mirrors: HashSet::new(),
            stacking: Stacking::default(),
        };
        frames.list()?;
        if let Some(classifiers) = &mut frames.classifiers {
            let known = &frames.known;
            classifiers.clean(|ifindex| known.contains_key(&ifindex));
        }
        let started = Instant::now();
        let mut attached = 0;
        while !frames.waiting.is_empty() && (attached < FIRST || started.elapsed() < PROMPT) {
            frames.attach_next(ebpf);
            attached += 1;
        }
        Ok(frames)
    }

    /// Begins the ledgers anew. To be called once everything is attached that counts for them: what
    /// passed before, some hooks have seen and others have not.
    pub fn begin(&mut self) {
        self.settling.clear();
        if let Some(classifiers) = &self.classifiers {
            for (ifindex, known) in &mut self.known {
                if classifiers.is_attached(*ifindex) {
                    known.begin(classifiers, &mut self.interfaces);
                    self.settling
                        .push_back((*ifindex, Instant::now() + SETTLING));
                }
            }
        }
    }

    /// How far the classifiers have come.
    pub fn attached(&self) -> Attached {
        let classifiers = self.classifiers.as_ref();
        let lacks = |known: &&Known| {
            classifiers.is_none_or(|classifiers| !classifiers.is_attached(known.link.ifindex))
        };
        let up = self.known.values();
        let up = up.filter(|known| known.link.up && known.is_chosen);
        Attached {
            way: classifiers.map(Classifiers::way),
            lacking: up.clone().filter(lacks).count(),
            waiting: !self.waiting.is_empty(),
            up: up.count(),
            refusal: self.refusal.clone(),
        }
    }

    /// Whether no interface waits for its classifiers.
    pub fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Waits until there is something to do. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The kernel does not tell any more.
    pub async fn next(&mut self) -> io::Result<Task> {
        let attach = async {
            if self.waiting.is_empty() {
                future::pending::<()>().await;
            }
            // So that signals, time and the ring buffer are looked at in between.
            task::yield_now().await;
        };
        let settle = async {
            match self.settling.front() {
                Some((_, until)) => time::sleep_until((*until).into()).await,
                None => future::pending().await,
            }
        };
        let foreign = async {
            match &mut self.foreign {
                Some(foreign) => foreign.found().await,
                None => future::pending().await,
            }
        };
        // An interface that has just appeared goes first: it is not up yet.
        tokio::select! {
            biased;
            change = self.monitor.next() => change.map(Task::Change),
            () = settle => Ok(Task::Settle),
            found = foreign => Ok(Task::Foreign(found)),
            () = attach => Ok(Task::Attach),
        }
    }

    /// Does it.
    pub fn run(&mut self, ebpf: &mut Ebpf, task: Task) -> Vec<Event> {
        match task {
            Task::Change(change) => self.change(ebpf, change),
            Task::Attach => {
                self.attach_next(ebpf);
                Vec::new()
            }
            Task::Settle => {
                self.settle();
                Vec::new()
            }
            Task::Foreign(found) => {
                if let Some(foreign) = &mut self.foreign {
                    foreign.take(&found);
                }
                self.stack();
                Vec::new()
            }
        }
    }

    fn change(&mut self, ebpf: &mut Ebpf, change: LinkChange) -> Vec<Event> {
        match change {
            LinkChange::Present(link) => {
                let ifindex = link.ifindex;
                let is_due = self.present(link, Attaching::AtOnce);
                self.stack();
                if is_due {
                    self.attach(ebpf, ifindex);
                }
                let known = self.known.get(&ifindex);
                let known = known.filter(|known| known.is_chosen);
                let event = known.map(|known| known.event(self.classifiers.as_ref()));
                event.into_iter().collect()
            }
            LinkChange::Gone { ifindex } => {
                let gone = self.gone(ifindex);
                self.stack();
                gone.into_iter().collect()
            }
            LinkChange::Relist => self.list().unwrap_or_else(|error| {
                log::warn!("cannot list the interfaces: {error}");
                Vec::new()
            }),
        }
    }

    /// Lists the interfaces; those that want classifiers wait for them, those with the most traffic
    /// first. What it knew before and is no longer there is gone.
    fn list(&mut self) -> io::Result<Vec<Event>> {
        let mut links = self.interfaces.list()?;
        let missing = missing(self.known.keys().copied(), &links);
        let gone = missing.into_iter();
        let gone = gone.filter_map(|ifindex| self.gone(ifindex)).collect();
        links.sort_by_key(|link| {
            let moved = link.counters.rx_bytes + link.counters.tx_bytes;
            Reverse((self.is_chosen(&link.name), moved))
        });
        self.waiting.clear();
        for link in links {
            let ifindex = link.ifindex;
            if self.present(link, Attaching::WhenUp) {
                self.waiting.push_back(ifindex);
            }
        }
        match self.interfaces.mirrors() {
            Ok(mirrors) => self.mirrors = mirrors,
            // A kernel without actions has none.
            Err(error) => log::debug!("cannot list mirrors: {error}"),
        }
        self.stack();
        Ok(gone)
    }

    /// Tells the programs how the interfaces lie on top of one another, if that changed.
    fn stack(&mut self) {
        let Some(classifiers) = &mut self.classifiers else {
            return;
        };
        let links = self.known.values().map(|known| &known.link);
        let carries_others = self.foreign.as_ref().is_some_and(|foreign| foreign.any);
        let stacking = Stacking::of(links, &self.mirrors, carries_others);
        let before = std::mem::replace(&mut self.stacking, stacking);
        for (ifindex, known) in &self.known {
            if before.links.get(ifindex) != self.stacking.links.get(ifindex)
                && classifiers.is_attached(*ifindex)
                && let Err(error) = classifiers.describe_link(known.described(&self.stacking))
            {
                log::debug!("interface {}: {error}", known.link.name.escape_debug());
            }
        }
        if before.bits != self.stacking.bits
            && let Err(error) = classifiers.describe_host(self.stacking.bits)
        {
            log::warn!("interfaces on top of others may be counted as if they were not: {error}");
        }
    }

    /// Whether an interface of this name is to be reported.
    fn is_chosen(&self, name: &str) -> bool {
        let chosen = self.chosen.as_ref();
        chosen.is_none_or(|names| names.iter().any(|chosen| chosen == name))
    }

    /// Attaches classifiers to the interface that waits longest.
    fn attach_next(&mut self, ebpf: &mut Ebpf) {
        if let Some(ifindex) = self.waiting.pop_front() {
            self.attach(ebpf, ifindex);
        }
    }

    /// Attaches classifiers to an interface that is still there and has none. Its ledger begins.
    fn attach(&mut self, ebpf: &mut Ebpf, ifindex: u32) {
        let Some(classifiers) = &mut self.classifiers else {
            return;
        };
        let Some(known) = self.known.get_mut(&ifindex) else {
            return;
        };
        if classifiers.is_attached(ifindex) {
            return;
        }
        match classifiers.attach(ebpf, known.described(&self.stacking)) {
            Ok(()) => {
                known.begin(classifiers, &mut self.interfaces);
                self.settling
                    .push_back((ifindex, Instant::now() + SETTLING));
            }
            Err(error) => {
                log::info!("interface {}: {error}", known.link.name.escape_debug());
                self.refusal = Some(error.to_string());
            }
        }
    }

    fn gone(&mut self, ifindex: u32) -> Option<Event> {
        if let Some(classifiers) = &mut self.classifiers {
            classifiers.forget(ifindex);
        }
        let known = self.known.remove(&ifindex)?;
        known.is_chosen.then_some(Event::InterfaceGone { ifindex })
    }

    /// Takes what an interface is; whether it is time for its classifiers, also if they were refused
    /// before.
    fn present(&mut self, link: Link, attaching: Attaching) -> bool {
        let is_chosen = self.is_chosen(&link.name);
        let ifindex = link.ifindex;
        let known = match self.known.entry(ifindex) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                known.link = link;
                known
            }
            Entry::Vacant(place) => place.insert(Known {
                before: Before {
                    own: link.counters,
                    ..Before::default()
                },
                link,
                attaching,
                is_chosen,
            }),
        };
        let Some(classifiers) = &mut self.classifiers else {
            return false;
        };
        if !classifiers.is_attached(ifindex) {
            return known.link.up || known.attaching == Attaching::AtOnce;
        }
        if let Err(error) = classifiers.describe_link(known.described(&self.stacking)) {
            log::debug!("interface {}: {error}", known.link.name.escape_debug());
        }
        false
    }

    /// The interfaces and their counters, now.
    pub fn read(&mut self) -> Vec<Event> {
        self.settle();
        if let Some(foreign) = &mut self.foreign {
            foreign.look();
        }
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
            .filter(|known| known.is_chosen)
            .map(|known| known.event(self.classifiers.as_ref()))
            .collect()
    }

    /// Corrects the beginnings of the ledgers that have just begun.
    fn settle(&mut self) {
        let Some(classifiers) = &self.classifiers else {
            return;
        };
        for (ifindex, _) in &self.settling {
            if let Some(known) = self.known.get_mut(ifindex) {
                known.settle(classifiers, &mut self.interfaces);
            }
        }
        let now = Instant::now();
        self.settling.retain(|(_, until)| *until > now);
    }

    /// Takes the classifiers off every interface.
    pub fn detach(&mut self) {
        if let Some(classifiers) = &mut self.classifiers {
            classifiers.detach();
        }
    }
}

impl Known {
    /// Begins its ledger, if possible at a moment when nothing passes.
    fn begin(&mut self, classifiers: &Classifiers, interfaces: &mut Interfaces) {
        let ifindex = self.link.ifindex;
        // In an order in which a packet that comes in between is one that settling finds.
        let mut read = || {
            let (ingress, _) = classifiers.counts(ifindex).ok()?;
            let own = interfaces.stats_of(ifindex).ok()??;
            let (_, egress) = classifiers.counts(ifindex).ok()?;
            Some(Before {
                own,
                ingress,
                egress,
            })
        };
        for _ in 0..BEGINNINGS {
            let Some(now) = read() else {
                return;
            };
            if self.before == now {
                return;
            }
            self.before = now;
            thread::sleep(ON_ITS_WAY);
        }
    }

    /// Corrects the beginning of its ledger, unless the kernel does not tell its counters.
    fn settle(&mut self, classifiers: &Classifiers, interfaces: &mut Interfaces) {
        let ifindex = self.link.ifindex;
        let counts = || classifiers.counts(ifindex);
        if let Ok(before) = counts()
            && let Ok(Some(own)) = interfaces.stats_of(ifindex)
            && let Ok(after) = counts()
        {
            self.before.settle(&before, &own, &after);
        }
    }

    fn described(&self, stacking: &Stacking) -> classifier::Link<'_> {
        let stacked = stacking.links.get(&self.link.ifindex);
        let (flags, vrf) = stacked.copied().unwrap_or_default();
        classifier::Link {
            ifindex: self.link.ifindex,
            name: &self.link.name,
            layout: LinkLayout {
                flags,
                vrf,
                ..self.link.layout()
            },
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
                packets_at_attach: self.before.own.rx_packets,
                ..counters.ingress()
            },
            egress: InterfaceSide {
                bytes_at_attach: Bytes(self.before.own.tx_bytes),
                packets_at_attach: self.before.own.tx_packets,
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
        }
        Event::Interface(Box::new(fact))
    }
}

/// Which of the interfaces known are not among those listed.
fn missing(known: impl Iterator<Item = u32>, listed: &[Link]) -> Vec<u32> {
    let listed: HashSet<u32> = listed.iter().map(|link| link.ifindex).collect();
    known.filter(|ifindex| !listed.contains(ifindex)).collect()
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
