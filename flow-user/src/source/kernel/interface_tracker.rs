//! The interfaces of the host's namespace: which there are, and what each has counted.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet, VecDeque, btree_map::Entry},
    future, io,
    time::{Duration, Instant},
};

use aya::Ebpf;
use tokio::{task, time};

use super::{
    attach_error::AttachError,
    classifier::{AttachMode, ClassifierMaps, Classifiers, Counts, Loaded},
    foreign::{Foreign, Found},
    interface::{Attaching, Known},
    programs::Programs,
    stacking::Stacking,
};
use crate::{
    event::{Bytes, Event},
    source::interfaces::{
        Counters, Interfaces, Link,
        monitor::{LinkChange, Monitor},
    },
};

/// How long a ledger's beginning may still be corrected. A packet that the interface had counted
/// may wait for its CPU's turn to take in packets, which others have: on a busy virtual machine for
/// many milliseconds.
const SETTLING: Duration = Duration::from_millis(500);

/// How often classifiers are attached to an interface that refuses them.
const ATTEMPTS: u32 = 3;

/// How long the start may attach classifiers. The first row waits for them; the interfaces that are
/// left then get theirs one by one, while Flow runs.
const PROMPT: Duration = Duration::from_millis(150);
/// Interfaces that the start attaches them to in any case, also on a slow machine.
const FIRST: usize = 4;

/// Follows the interfaces, with classifiers on each where the kernel takes them.
pub struct InterfaceTracker {
    interfaces: Interfaces,
    monitor: Monitor,
    classifiers: Option<Classifiers>,
    known: BTreeMap<u32, Known>,
    /// Interfaces that are to get their classifiers, in this order.
    waiting: VecDeque<u32>,
    /// Interfaces whose ledgers have just begun, and until when each may be corrected; the earliest
    /// first.
    settling: VecDeque<(u32, Instant)>,
    /// Why classifiers were last refused.
    refusal: Option<String>,
    /// Interfaces whose classifiers were refused, and how often.
    refused: BTreeMap<u32, u32>,
    /// The only interfaces to report, by name. The others are followed as well: packets come in or
    /// leave by them.
    chosen: Option<Vec<String>>,
    /// Interfaces of other namespaces whose packets those of this one carry.
    foreign: Option<Foreign>,
    /// Targets of mirrors.
    mirrors: HashSet<u32>,
    /// What the programs know of how the interfaces lie on top of one another.
    stacking: Stacking,
}

/// The maps that the kernel side shares with what follows the interfaces. Programs name them by their
/// descriptors until they are loaded, so they are to be kept until then, used or not.
pub struct InterfaceMaps {
    classifiers: Option<ClassifierMaps>,
    foreign: Option<Foreign>,
}

impl InterfaceMaps {
    /// Takes them out of the loaded object.
    ///
    /// # Errors
    /// The object lacks one.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, AttachError> {
        Ok(Self {
            classifiers: Some(ClassifierMaps::take(ebpf)?),
            foreign: Some(Foreign::take_maps(ebpf)?),
        })
    }
}

/// How far the classifiers have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// How they are attached; absent where the kernel takes none.
    pub mode: Option<AttachMode>,
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
    Foreign(Found),
}

impl InterfaceTracker {
    /// Begins to follow the interfaces.
    ///
    /// # Errors
    /// The kernel does not list them.
    pub fn start(
        maps: &mut InterfaceMaps,
        programs: &mut Programs<'_>,
        mode: Option<AttachMode>,
        chosen: Option<Vec<String>>,
    ) -> io::Result<Self> {
        let mut refusal = None;
        let classifiers = mode.and_then(|mode| {
            let loaded = Loaded::new(programs, mode).inspect_err(|error| {
                log::warn!("packets of interfaces are not classified: {error}");
                refusal = Some(error.to_string());
            });
            Some(Classifiers::new(loaded.ok()?, maps.classifiers.take()?))
        });
        let monitor = Monitor::open()?;
        let foreign = classifiers
            .as_ref()
            .and_then(|_| Some(maps.foreign.take()?.start()));
        let mut tracker = Self {
            interfaces: Interfaces::open()?,
            monitor,
            classifiers,
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            settling: VecDeque::new(),
            refusal,
            refused: BTreeMap::new(),
            chosen,
            foreign,
            mirrors: HashSet::new(),
            stacking: Stacking::default(),
        };
        tracker.list(Attaching::WhenUp)?;
        if let Some(classifiers) = &mut tracker.classifiers {
            let known = &tracker.known;
            classifiers.clean(|ifindex| known.contains_key(&ifindex));
        }
        let started = Instant::now();
        let mut attached = 0;
        while !tracker.waiting.is_empty() && (attached < FIRST || started.elapsed() < PROMPT) {
            tracker.attach_next(programs);
            attached += 1;
        }
        Ok(tracker)
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
        let up = up.filter(|known| known.link.is_set_up && known.is_chosen);
        Attached {
            mode: classifiers.map(Classifiers::mode),
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
    /// The kernel reports no more.
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
    pub fn run(&mut self, programs: &mut Programs<'_>, task: Task) -> Vec<Event> {
        match task {
            Task::Change(change) => self.change(programs, change),
            Task::Attach => {
                self.attach_next(programs);
                Vec::new()
            }
            Task::Settle => {
                self.settle();
                Vec::new()
            }
            Task::Foreign(found) => {
                if let Some(foreign) = &mut self.foreign {
                    foreign.take(found);
                }
                self.stack();
                Vec::new()
            }
        }
    }

    fn change(&mut self, programs: &mut Programs<'_>, change: LinkChange) -> Vec<Event> {
        match change {
            LinkChange::Present(link) => {
                let ifindex = link.ifindex;
                let is_new = !self.known.contains_key(&ifindex);
                let is_due = self.present(link, Attaching::AtOnce);
                if is_new {
                    self.doubt_foreign();
                }
                self.stack();
                if is_due {
                    self.attach(programs, ifindex);
                }
                let known = self.known.get(&ifindex);
                let known = known.filter(|known| known.is_chosen);
                let event = known.map(|known| self.event(known));
                event.into_iter().collect()
            }
            LinkChange::Gone { ifindex, counters } => {
                let gone = self.gone(ifindex, counters);
                self.doubt_foreign();
                self.stack();
                gone
            }
            LinkChange::Filters => {
                self.find_mirrors();
                self.stack();
                Vec::new()
            }
            // What is new in it has just appeared: its message was lost, or is still to come.
            LinkChange::Relist => self.list(Attaching::AtOnce).unwrap_or_else(|error| {
                log::warn!("cannot list the interfaces: {error}");
                Vec::new()
            }),
        }
    }

    /// Lists the interfaces; those that want classifiers wait for them, those with the most traffic
    /// first. What it knew before and is no longer there is gone; `attaching` says when new ones
    /// want theirs.
    fn list(&mut self, attaching: Attaching) -> io::Result<Vec<Event>> {
        let mut links = self.interfaces.list()?;
        let missing = missing(self.known.keys().copied(), &links);
        let gone = missing.into_iter();
        let gone = gone.flat_map(|ifindex| self.gone(ifindex, None)).collect();
        links.sort_by_key(|link| {
            let moved = link.counters.rx_bytes + link.counters.tx_bytes;
            Reverse((self.is_chosen(&link.name), moved))
        });
        self.waiting.clear();
        for link in links {
            let ifindex = link.ifindex;
            if self.present(link, attaching) {
                self.waiting.push_back(ifindex);
            }
        }
        self.find_mirrors();
        self.stack();
        Ok(gone)
    }

    fn find_mirrors(&mut self) {
        match self.interfaces.mirrors() {
            Ok(mirrors) => self.mirrors = mirrors,
            // A kernel without actions has none.
            Err(error) => log::debug!("cannot list mirrors: {error}"),
        }
    }

    /// Gives the programs the order in which interfaces lie on top of one another, if that changed.
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

    /// Interfaces came or went: with them perhaps namespaces, whose numbers others get.
    fn doubt_foreign(&mut self) {
        if let Some(foreign) = &mut self.foreign {
            foreign.doubt();
        }
    }

    /// Whether an interface of this name is to be reported.
    fn is_chosen(&self, name: &str) -> bool {
        let chosen = self.chosen.as_ref();
        chosen.is_none_or(|names| names.iter().any(|chosen| chosen == name))
    }

    /// Attaches classifiers to the interface that waits longest.
    fn attach_next(&mut self, programs: &mut Programs<'_>) {
        if let Some(ifindex) = self.waiting.pop_front() {
            self.attach(programs, ifindex);
        }
    }

    /// Attaches classifiers to an interface that is still there and has none. Its ledger begins.
    fn attach(&mut self, programs: &mut Programs<'_>, ifindex: u32) {
        let Some(classifiers) = &mut self.classifiers else {
            return;
        };
        let Some(known) = self.known.get_mut(&ifindex) else {
            return;
        };
        if classifiers.is_attached(ifindex) {
            return;
        }
        match classifiers.attach(programs, known.described(&self.stacking)) {
            Ok(()) => {
                known.begin(classifiers, &mut self.interfaces);
                self.settling
                    .push_back((ifindex, Instant::now() + SETTLING));
                self.refused.remove(&ifindex);
            }
            Err(error) => {
                log::info!("interface {}: {error}", known.link.name.escape_debug());
                self.refusal = Some(error.to_string());
                if !matches!(error, AttachError::TooMany(_)) {
                    *self.refused.entry(ifindex).or_default() += 1;
                }
            }
        }
    }

    /// An interface is gone, and had counted so much: its last word comes first.
    fn gone(&mut self, ifindex: u32, counters: Option<Counters>) -> Vec<Event> {
        let Some(mut known) = self.known.remove(&ifindex) else {
            return Vec::new();
        };
        let mut is_classified = false;
        if let Some(classifiers) = &mut self.classifiers {
            is_classified = classifiers.is_attached(ifindex);
            if is_classified && let Ok(counts) = classifiers.counts(ifindex) {
                known.end(counters, &counts);
            }
            classifiers.forget(ifindex);
        }
        if !is_classified
            && let Some(counters) = counters
            && !known.own.falls(&counters)
        {
            known.own.take(counters, None);
        }
        self.waiting.retain(|waiting| *waiting != ifindex);
        self.refused.remove(&ifindex);
        self.settling.retain(|(settling, _)| *settling != ifindex);
        if !known.is_chosen {
            return Vec::new();
        }
        vec![
            known.event(is_classified, false),
            Event::InterfaceGone { ifindex },
        ]
    }

    /// What an interface is and has counted. Nothing yet while its ledger is about to begin: what
    /// is corrected then would fall.
    fn event(&self, known: &Known) -> Event {
        let ifindex = known.link.ifindex;
        let is_attached = |classifiers: &Classifiers| classifiers.is_attached(ifindex);
        let is_classified = self.classifiers.as_ref().is_some_and(is_attached);
        let is_beginning = self.waiting.contains(&ifindex)
            || self
                .settling
                .iter()
                .any(|(settling, _)| *settling == ifindex);
        known.event(is_classified, is_beginning)
    }

    /// Takes what an interface is; whether it is time for its classifiers, also if they were
    /// refused before.
    fn present(&mut self, link: Link, attaching: Attaching) -> bool {
        let is_chosen = self.is_chosen(&link.name);
        let ifindex = link.ifindex;
        let known = match self.known.entry(ifindex) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                known.link = link;
                known
            }
            Entry::Vacant(place) => place.insert(Known::new(link, attaching, is_chosen)),
        };
        let Some(classifiers) = &mut self.classifiers else {
            return false;
        };
        if !classifiers.is_attached(ifindex) {
            return known.link.is_set_up || known.attaching == Attaching::AtOnce;
        }
        if let Err(error) = classifiers.describe_link(known.described(&self.stacking)) {
            log::debug!("interface {}: {error}", known.link.name.escape_debug());
        }
        false
    }

    /// Those whose classifiers were refused wait for them once more: it may have been renamed
    /// meanwhile.
    fn try_again(&mut self) {
        for (ifindex, attempts) in &self.refused {
            if *attempts < ATTEMPTS && !self.waiting.contains(ifindex) {
                self.waiting.push_back(*ifindex);
            }
        }
    }

    /// The interfaces and their counters, now.
    pub fn read(&mut self) -> Vec<Event> {
        self.read_counters();
        let events = self.events();
        // They are attached before the next tick, as what waits is not reported.
        self.try_again();
        events
    }

    fn events(&self) -> Vec<Event> {
        let chosen = self.known.values().filter(|known| known.is_chosen);
        chosen.map(|known| self.event(known)).collect()
    }

    fn read_counters(&mut self) {
        self.settle();
        if let Some(foreign) = &mut self.foreign {
            foreign.look();
        }
        // What has passed an interface before is then with its socket, and what comes after is in
        // none of the two totals: see `Known::take`.
        let before: BTreeMap<u32, (Counts, Counts)> = self
            .classifiers
            .iter()
            .flat_map(|classifiers| {
                let attached = self.known.keys().copied();
                let attached = attached.filter(|ifindex| classifiers.is_attached(*ifindex));
                attached.filter_map(|ifindex| Some((ifindex, classifiers.counts(ifindex).ok()?)))
            })
            .collect();
        match self.interfaces.stats() {
            Ok(stats) => {
                for (ifindex, counters) in stats {
                    let Some(known) = self.known.get_mut(&ifindex) else {
                        continue;
                    };
                    match (&self.classifiers, before.get(&ifindex)) {
                        (Some(classifiers), Some(before)) => {
                            known.read(classifiers, &mut self.interfaces, before, counters);
                        }
                        _ => known.own.take(counters, None),
                    }
                }
            }
            Err(error) => log::warn!("cannot read the interfaces' counters: {error}"),
        }
    }

    /// The same for the last time: ledgers that have just begun do not wait any longer.
    pub fn read_last(&mut self) -> Vec<Event> {
        self.settle();
        self.settling.clear();
        self.waiting.clear();
        self.read_counters();
        self.known.values_mut().for_each(Known::conclude);
        let events = self.events();
        for event in &events {
            if let Event::Interface(fact) = event {
                let bytes = fact.ingress.taken_too_often();
                if bytes != Bytes(0) {
                    // The live tests look for these words.
                    log::debug!("{}: {} bytes were taken too often", fact.name, bytes.0);
                }
            }
        }
        events
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
