//! The classifiers of the interfaces: attached to each, their counters read.

use std::collections::{HashMap, HashSet};

use aya::{
    Ebpf,
    maps::{MapData, MapError, PerCpuHashMap, PerCpuValues},
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError},
    },
    util::nr_cpus,
};
use flow_common::{
    Class, Direction, InterfaceCounters, InterfaceKey, LinkLayout, PacketCount,
    limits::INTERFACE_ENTRIES,
};
use nix::{errno::Errno, net::if_::if_indextoname};

use super::{
    attach_error::{AttachError, with_program},
    backends::Backend,
    hooks::CLASSIFIERS,
    pins::{Pin, Pins},
    programs::{Programs, load},
    qdisc,
};
use crate::event::{Bytes, ClassCount};

/// Interfaces that there is room for, two entries each.
const MOST: usize = INTERFACE_ENTRIES as usize / 2;

/// Counters of one direction, by [`Class`].
pub type Counts = [ClassCount; Class::COUNT];

/// How the classifiers are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// A TCX link, which the kernel removes with its owner.
    Tcx,
    /// A filter of the clsact qdisc, which outlives its owner.
    Clsact,
}

impl From<AttachMode> for Backend {
    fn from(mode: AttachMode) -> Self {
        match mode {
            AttachMode::Tcx => Self::Tcx,
            AttachMode::Clsact => Self::Clsact,
        }
    }
}

/// The classifiers and the interfaces they are attached to.
pub struct Classifiers {
    counters: PerCpuHashMap<MapData, InterfaceKey, InterfaceCounters>,
    layouts: aya::maps::HashMap<MapData, u32, LinkLayout>,
    /// What the host has of interfaces on top of others.
    stacking: aya::maps::Array<MapData, u32>,
    attached: HashMap<u32, Attached>,
    mode: AttachMode,
    lock: Option<qdisc::Lock>,
    /// Interfaces where a killed Flow's filters were: the qdisc is ours now.
    left_behind: HashSet<u32>,
    /// Where TCX links are held, if the kernel lets us.
    pins: Option<Pins>,
}

/// The maps that classifiers share with user space.
pub struct ClassifierMaps {
    counters: PerCpuHashMap<MapData, InterfaceKey, InterfaceCounters>,
    layouts: aya::maps::HashMap<MapData, u32, LinkLayout>,
    stacking: aya::maps::Array<MapData, u32>,
}

impl ClassifierMaps {
    /// Takes them out of the loaded object.
    ///
    /// # Errors
    /// The object lacks one.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, AttachError> {
        Ok(Self {
            counters: PerCpuHashMap::try_from(super::loader::take(ebpf, "INTERFACES")?)?,
            layouts: aya::maps::HashMap::try_from(super::loader::take(ebpf, "LINKS")?)?,
            stacking: aya::maps::Array::try_from(super::loader::take(ebpf, "STACKING")?)?,
        })
    }
}

/// Programs that are loaded, and what else attaching them takes.
pub struct Loaded {
    mode: AttachMode,
    lock: Option<qdisc::Lock>,
    pins: Option<Pins>,
}

impl Loaded {
    /// Loads the programs.
    ///
    /// # Errors
    /// The kernel refuses a program, or the lock of the classifiers cannot be taken.
    pub fn new(programs: &mut Programs<'_>, mode: AttachMode) -> Result<Self, AttachError> {
        for name in CLASSIFIERS {
            load(programs, name)?;
        }
        let lock = match mode {
            AttachMode::Tcx => None,
            AttachMode::Clsact => Some(qdisc::Lock::take().map_err(AttachError::Lock)?),
        };
        let pins = (mode == AttachMode::Tcx).then(Pins::open).transpose();
        let pins = pins.unwrap_or_else(|error| {
            log::debug!("no BPF file system of its own: {error}");
            None
        });
        Ok(Self { mode, lock, pins })
    }
}

/// An interface with classifiers.
#[derive(Debug)]
struct Attached {
    links: Vec<Hold>,
    /// Bytes of the link header, as the classifiers see it.
    link_header: u32,
    /// Whether the clsact qdisc was a Flow's to make, and is ours to remove once nobody uses it.
    made_qdisc: bool,
}

/// What keeps a program attached until it is dropped.
#[derive(Debug)]
enum Hold {
    Link(#[expect(dead_code, reason = "dropped in time")] SchedClassifierLink),
    Pin(#[expect(dead_code, reason = "dropped in time")] Pin),
}

/// What an interface is, for the classifiers.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    pub ifindex: u32,
    pub name: &'a str,
    pub layout: LinkLayout,
    /// Bits of [`flow_common::interface::kinds`].
    pub kinds: u32,
}

impl Classifiers {
    /// Classifiers on no interface yet.
    pub fn new(loaded: Loaded, maps: ClassifierMaps) -> Self {
        let Loaded { mode, lock, pins } = loaded;
        let ClassifierMaps {
            counters,
            layouts,
            stacking,
        } = maps;
        Self {
            counters,
            layouts,
            stacking,
            attached: HashMap::new(),
            mode,
            lock,
            left_behind: HashSet::new(),
            pins,
        }
    }

    /// How they are attached.
    pub fn mode(&self) -> AttachMode {
        self.mode
    }

    /// Whether an interface has them.
    pub fn is_attached(&self, ifindex: u32) -> bool {
        self.attached.contains_key(&ifindex)
    }

    /// Removes what a killed Flow left on interfaces, and lets another Flow start; `is_wanted` says
    /// which are to have classifiers again. To be called before anything is attached.
    pub fn clean(&mut self, is_wanted: impl Fn(u32) -> bool) {
        let Some(lock) = self.lock.as_mut().filter(|lock| lock.alone) else {
            return;
        };
        match qdisc::interfaces() {
            Ok(present) => {
                let tidied = super::loader::host_netns().and_then(|netns| {
                    lock.forget_others(netns, |ifindex| present.contains(&ifindex))
                });
                if let Err(error) = tidied {
                    log::debug!("the notes of the classifiers: {error}");
                }
                for ifindex in present {
                    if !remove_filters(ifindex) {
                        continue;
                    }
                    if is_wanted(ifindex) {
                        self.left_behind.insert(ifindex);
                    } else {
                        remove_qdisc(ifindex);
                    }
                }
            }
            Err(error) => log::warn!("cannot look for what a killed Flow left behind: {error}"),
        }
        if let Err(error) = lock.share() {
            log::debug!("the lock of the classifiers: {error}");
        }
    }

    /// Attaches both programs to an interface. Its counters start at zero.
    ///
    /// # Errors
    /// The interface is gone or refuses the programs; then nothing is left on it.
    pub fn attach(
        &mut self,
        programs: &mut Programs<'_>,
        link: Link<'_>,
    ) -> Result<(), AttachError> {
        self.forget(link.ifindex);
        if self.attached.len() >= MOST {
            return Err(AttachError::TooMany(MOST));
        }
        let mut result = self.try_attach(programs, link);
        if let Err(AttachError::Pin(error)) = &result {
            log::debug!("links are held by descriptors: {error}");
            self.forget(link.ifindex);
            self.pins = None;
            result = self.try_attach(programs, link);
        }
        if result.is_err() {
            self.forget(link.ifindex);
        }
        result
    }

    fn try_attach(
        &mut self,
        programs: &mut Programs<'_>,
        link: Link<'_>,
    ) -> Result<(), AttachError> {
        // aya attaches by name, and what was reported may have been renamed since.
        let name = current_name(link.ifindex)?;
        let link = Link {
            name: &name,
            ..link
        };
        self.describe_link(link)?;
        for direction in [Direction::Ingress, Direction::Egress] {
            self.counters
                .insert(key(link.ifindex, direction), zeroes(link)?, 0)?;
        }
        let made_qdisc = self.mode == AttachMode::Clsact && self.prepare_qdisc(link)?;
        // Written down before anything is attached: whatever fails below, this is taken away again.
        let attached = self.attached.entry(link.ifindex).or_insert(Attached {
            links: Vec::with_capacity(CLASSIFIERS.len()),
            link_header: link.layout.header,
            made_qdisc,
        });
        let sides = [TcAttachType::Ingress, TcAttachType::Egress];
        let mut links = Vec::with_capacity(CLASSIFIERS.len());
        for (name, side) in CLASSIFIERS.iter().copied().zip(sides) {
            let program: &mut SchedClassifier = programs.get(name)?;
            let options = match self.mode {
                AttachMode::Tcx => TcAttachOptions::TcxOrder(LinkOrder::default()),
                AttachMode::Clsact => TcAttachOptions::Netlink(NlOptions::default()),
            };
            let id = with_program(name, program.attach_with_options(link.name, side, options))?;
            links.push(with_program(name, program.take_link(id))?);
        }
        if current_name(link.ifindex)? != name {
            // The programs may be on the one that has the name now.
            return Err(interface_error(Errno::EAGAIN));
        }
        // Only now: what a pin has held the kernel takes away later, and until then attaching again
        // is refused (EEXIST).
        for link in links {
            attached.links.push(match &mut self.pins {
                None => Hold::Link(link),
                Some(pins) => Hold::Pin(pins.hold(link.try_into()?)?),
            });
        }
        Ok(())
    }

    /// Gives the programs the facts about an interface, also when they changed.
    ///
    /// # Errors
    /// The map is full.
    pub fn describe_link(&mut self, link: Link<'_>) -> Result<(), MapError> {
        self.layouts.insert(link.ifindex, link.layout, 0)
    }

    /// Gives the programs the features of the host, by the bits of [`flow_common::interface::stacking`].
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn describe_host(&mut self, bits: u32) -> Result<(), MapError> {
        self.stacking.set(0, bits, 0)
    }

    /// Makes the qdisc if there is none. Whether it is a Flow's: also if another or a killed one
    /// made it.
    fn prepare_qdisc(&mut self, link: Link<'_>) -> Result<bool, AttachError> {
        let netns = super::loader::host_netns().map_err(AttachError::Qdisc)?;
        // A list of all, for each interface, would cost the square of their number.
        if qdisc::has_clsact(link.ifindex).map_err(AttachError::Qdisc)? {
            let is_noted = |lock: &qdisc::Lock| lock.is_noted(netns, link.ifindex);
            let left_behind = self.left_behind.remove(&link.ifindex);
            return Ok(left_behind || self.lock.as_ref().is_some_and(is_noted));
        }
        if let Some(lock) = &self.lock
            && let Err(error) = lock.note(netns, link.ifindex)
        {
            log::debug!("the notes of the classifiers: {error}");
        }
        match tc::qdisc_add_clsact(link.name) {
            Ok(()) => Ok(true),
            Err(TcError::AlreadyAttached) => Ok(false),
            Err(error) => with_program("clsact", Err(ProgramError::from(error))),
        }
    }

    /// Forgets an interface, which may be gone; what is left on it is taken away.
    pub fn forget(&mut self, ifindex: u32) {
        if let Some(attached) = self.attached.remove(&ifindex) {
            detach(ifindex, attached);
        }
        // They are there only if the interface was known.
        let _ = self.layouts.remove(&ifindex);
        for direction in [Direction::Ingress, Direction::Egress] {
            let _ = self.counters.remove(&key(ifindex, direction));
        }
    }

    /// The counters of an interface, ingress and egress, all with its link header.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn counts(&self, ifindex: u32) -> Result<(Counts, Counts), MapError> {
        let mut ingress = self.sum(ifindex, Direction::Ingress)?;
        let egress = self.sum(ifindex, Direction::Egress)?;
        let Some(attached) = self.attached.get(&ifindex) else {
            return Ok((ingress, egress));
        };
        let header = u64::from(attached.link_header);
        // These two are counted where packets have lost their link header.
        for class in [Class::Socket, Class::Forwarded] {
            add_header(&mut ingress[class as usize], header);
        }
        Ok((ingress, egress))
    }

    fn sum(&self, ifindex: u32, direction: Direction) -> Result<Counts, MapError> {
        let values = self.counters.get(&key(ifindex, direction), 0)?;
        let mut counts = Counts::default();
        for value in values.iter() {
            for (class, part) in value.classes.iter().enumerate() {
                add(&mut counts[class], part);
                if direction == Direction::Egress {
                    add(&mut counts[Class::Total as usize], part);
                }
            }
        }
        Ok(counts)
    }

    /// Takes the programs off every interface, and the qdiscs that were made for them.
    pub fn detach(&mut self) {
        for (ifindex, attached) in self.attached.drain() {
            detach(ifindex, attached);
        }
        for ifindex in self.left_behind.drain() {
            remove_qdisc(ifindex);
        }
    }
}

impl Drop for Classifiers {
    /// Filters and qdiscs would stay otherwise, when Flow gives up or does not come to start.
    fn drop(&mut self) {
        self.detach();
    }
}

/// Removes the filters that bear our programs' names; whether there were any.
fn remove_filters(ifindex: u32) -> bool {
    let Ok(interface) = current_name(ifindex) else {
        return false; // it is gone
    };
    let sides = [TcAttachType::Ingress, TcAttachType::Egress];
    let removed = CLASSIFIERS
        .iter()
        .zip(sides)
        .map(|(program, side)| tc::qdisc_detach_program(&interface, side, program).is_ok());
    removed.fold(false, |any, removed| any | removed)
}

/// Takes the programs off an interface, which may be gone.
fn detach(ifindex: u32, attached: Attached) {
    drop(attached.links);
    if attached.made_qdisc {
        remove_qdisc(ifindex);
    }
}

fn remove_qdisc(ifindex: u32) {
    if let Err(error) = qdisc::remove_if_empty(ifindex) {
        log::debug!("clsact of interface {ifindex}: {error}");
    }
}

/// The name that an interface has now.
fn current_name(ifindex: u32) -> Result<String, AttachError> {
    let name = if_indextoname(ifindex).map_err(interface_error)?;
    // aya takes names as text only.
    name.into_string()
        .map_err(|_| interface_error(Errno::EILSEQ))
}

fn interface_error(errno: Errno) -> AttachError {
    AttachError::Refused {
        name: CLASSIFIERS.join(", "),
        source: TcError::IoError(errno.into()).into(),
    }
}

fn add(sum: &mut ClassCount, part: &PacketCount) {
    sum.packets += part.packets;
    sum.bytes += Bytes(part.bytes);
    sum.frames += part.packets + part.more_frames;
    sum.header_bytes += Bytes(part.header_bytes);
}

/// Adds a link header to each buffer, and to each segment that repeats it.
fn add_header(count: &mut ClassCount, header: u64) {
    count.bytes += Bytes(header * count.packets);
    count.header_bytes += Bytes(header * count.frames.saturating_sub(count.packets));
}

fn key(ifindex: u32, direction: Direction) -> InterfaceKey {
    InterfaceKey {
        ifindex,
        direction: direction as u32,
    }
}

fn zeroes(link: Link<'_>) -> Result<PerCpuValues<InterfaceCounters>, AttachError> {
    let cpus = nr_cpus().map_err(|(_, error)| AttachError::Cpus(error))?;
    let zero = InterfaceCounters {
        header: link.layout.header,
        kinds: link.kinds,
        ..InterfaceCounters::default()
    };
    PerCpuValues::try_from(vec![zero; cpus]).map_err(AttachError::Cpus)
}
