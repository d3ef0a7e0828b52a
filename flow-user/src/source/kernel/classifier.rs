//! The classifiers of the interfaces: attached to each, their counters read.

use std::collections::HashMap;

use aya::{
    Ebpf,
    maps::{MapData, MapError, PerCpuHashMap, PerCpuValues},
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError},
    },
    util::nr_cpus,
};
use flow_common::{Class, Direction, InterfaceCounters, InterfaceKey, LinkLayout, PacketCount};
use nix::{errno::Errno, net::if_::if_indextoname};

use super::{
    pins::{Pin, Pins},
    programs::{AttachError, CLASSIFIERS, load, program, refused},
    qdisc,
};
use crate::event::{Bytes, ClassCount};

/// Counters of one direction, by [`Class`].
pub type Counts = [ClassCount; Class::COUNT];

/// How the classifiers are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A TCX link, which the kernel removes with its owner.
    Tcx,
    /// A filter of the clsact qdisc, which outlives its owner.
    Clsact,
}

/// The classifiers and the interfaces they are attached to.
pub struct Classifiers {
    counters: PerCpuHashMap<MapData, InterfaceKey, InterfaceCounters>,
    layouts: aya::maps::HashMap<MapData, u32, LinkLayout>,
    attached: HashMap<u32, Attached>,
    way: Way,
    lock: Option<qdisc::Lock>,
    /// Where TCX links are held, if the kernel lets us.
    pins: Option<Pins>,
}

/// An interface with classifiers.
#[derive(Debug)]
struct Attached {
    links: Vec<Hold>,
    /// Bytes of the link header, as the classifiers see it.
    link_header: u32,
    /// Whether the interface's own counters leave it out.
    counts_without_header: bool,
    /// Whether the clsact qdisc was ours to make, and is ours to remove.
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
    /// Whether its own counters leave the link header out.
    pub counts_without_header: bool,
}

impl Classifiers {
    /// Loads the programs and takes the maps.
    ///
    /// # Errors
    /// The kernel refuses a program, or the kernel side lacks a map.
    pub fn load(ebpf: &mut Ebpf, way: Way) -> Result<Self, AttachError> {
        for name in CLASSIFIERS {
            load(ebpf, name)?;
        }
        let lock = match way {
            Way::Tcx => None,
            Way::Clsact => Some(qdisc::Lock::take().map_err(AttachError::Lock)?),
        };
        let pins = (way == Way::Tcx).then(Pins::open).transpose();
        let pins = pins.unwrap_or_else(|error| {
            log::debug!("no BPF file system of its own: {error}");
            None
        });
        Ok(Self {
            counters: PerCpuHashMap::try_from(super::loader::take(ebpf, "INTERFACES")?)?,
            layouts: aya::maps::HashMap::try_from(super::loader::take(ebpf, "LINKS")?)?,
            attached: HashMap::new(),
            way,
            lock,
            pins,
        })
    }

    /// How they are attached.
    pub fn way(&self) -> Way {
        self.way
    }

    /// Whether an interface has them.
    pub fn is_attached(&self, ifindex: u32) -> bool {
        self.attached.contains_key(&ifindex)
    }

    /// Says that every interface there was at the start has its classifiers: what killed Flows left
    /// behind is gone now, and another Flow may start.
    pub fn settled(&mut self) {
        if let Some(lock) = &mut self.lock
            && lock.alone
            && let Err(error) = lock.share()
        {
            log::debug!("the lock of the classifiers: {error}");
        }
    }

    /// Attaches both programs to an interface. Its counters start at zero.
    ///
    /// # Errors
    /// The interface is gone or refuses the programs; then nothing is left on it.
    pub fn attach(&mut self, ebpf: &mut Ebpf, link: Link<'_>) -> Result<(), AttachError> {
        self.forget(link.ifindex);
        let mut result = self.try_attach(ebpf, link);
        if let Err(AttachError::Pin(error)) = &result {
            log::debug!("links are held by descriptors: {error}");
            self.forget(link.ifindex);
            self.pins = None;
            result = self.try_attach(ebpf, link);
        }
        if result.is_err() {
            self.forget(link.ifindex);
        }
        result
    }

    fn try_attach(&mut self, ebpf: &mut Ebpf, link: Link<'_>) -> Result<(), AttachError> {
        // aya attaches by name, and what was told may have been renamed since.
        let name = current_name(link.ifindex)?;
        let link = Link {
            name: &name,
            ..link
        };
        self.describe_link(link)?;
        for direction in [Direction::Ingress, Direction::Egress] {
            self.counters
                .insert(key(link.ifindex, direction), zeroes()?, 0)?;
        }
        let made_qdisc = self.way == Way::Clsact && self.prepare_qdisc(link)?;
        // Written down before anything is attached: whatever fails below, this is taken away again.
        let attached = self.attached.entry(link.ifindex).or_insert(Attached {
            links: Vec::with_capacity(CLASSIFIERS.len()),
            link_header: link.layout.header,
            counts_without_header: link.counts_without_header,
            made_qdisc,
        });
        let sides = [TcAttachType::Ingress, TcAttachType::Egress];
        for (name, side) in CLASSIFIERS.iter().copied().zip(sides) {
            let program: &mut SchedClassifier = program(ebpf, name)?;
            let options = match self.way {
                Way::Tcx => TcAttachOptions::TcxOrder(LinkOrder::default()),
                Way::Clsact => TcAttachOptions::Netlink(NlOptions::default()),
            };
            let id = refused(name, program.attach_with_options(link.name, side, options))?;
            let link = refused(name, program.take_link(id))?;
            attached.links.push(match &mut self.pins {
                None => Hold::Link(link),
                Some(pins) => Hold::Pin(pins.hold(link.try_into()?)?),
            });
        }
        if current_name(link.ifindex)? != name {
            // The programs may be on the one that has the name now.
            return Err(interface_error(Errno::EAGAIN));
        }
        Ok(())
    }

    /// Tells the programs what an interface is, also when that changed.
    ///
    /// # Errors
    /// The map is full.
    pub fn describe_link(&mut self, link: Link<'_>) -> Result<(), MapError> {
        self.layouts.insert(link.ifindex, link.layout, 0)
    }

    /// Makes the qdisc, and removes what a killed Flow left there. Whether the qdisc is ours.
    fn prepare_qdisc(&self, link: Link<'_>) -> Result<bool, AttachError> {
        if qdisc::exists(link.ifindex).map_err(AttachError::Qdisc)? {
            let alone = self.lock.as_ref().is_some_and(|lock| lock.alone);
            let mut left_behind = false;
            for (name, side) in CLASSIFIERS
                .iter()
                .zip([TcAttachType::Ingress, TcAttachType::Egress])
            {
                left_behind |= alone && tc::qdisc_detach_program(link.name, side, name).is_ok();
            }
            return Ok(left_behind);
        }
        match tc::qdisc_add_clsact(link.name) {
            Ok(()) => Ok(true),
            Err(TcError::AlreadyAttached) => Ok(false),
            Err(error) => refused("clsact", Err(ProgramError::from(error))),
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

    /// The counters of an interface, ingress and egress, counted as the interface itself counts.
    ///
    /// # Errors
    /// The kernel refuses the look-up.
    pub fn counts(&self, ifindex: u32) -> Result<(Counts, Counts), MapError> {
        let mut ingress = self.sum(ifindex, Direction::Ingress)?;
        let mut egress = self.sum(ifindex, Direction::Egress)?;
        let Some(attached) = self.attached.get(&ifindex) else {
            return Ok((ingress, egress));
        };
        let header = u64::from(attached.link_header);
        // These two are counted where packets have lost their link header.
        for class in [Class::Socket, Class::Forwarded] {
            add_header(&mut ingress[class as usize], header);
        }
        if attached.counts_without_header {
            for count in ingress.iter_mut().chain(&mut egress) {
                remove_header(count, header);
            }
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
    }
}

/// Takes the programs off an interface, which may be gone.
fn detach(ifindex: u32, attached: Attached) {
    drop(attached.links);
    if attached.made_qdisc
        && let Err(error) = qdisc::remove_if_empty(ifindex)
    {
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

/// The reverse of [`add_header`].
fn remove_header(count: &mut ClassCount, header: u64) {
    count.bytes = count.bytes.since(Bytes(header * count.packets));
    let repeated = header * count.frames.saturating_sub(count.packets);
    count.header_bytes = count.header_bytes.since(Bytes(repeated));
}

fn key(ifindex: u32, direction: Direction) -> InterfaceKey {
    InterfaceKey {
        ifindex,
        direction: direction as u32,
    }
}

fn zeroes() -> Result<PerCpuValues<InterfaceCounters>, AttachError> {
    let cpus = nr_cpus().map_err(|(_, error)| AttachError::Cpus(error))?;
    PerCpuValues::try_from(vec![InterfaceCounters::default(); cpus]).map_err(AttachError::Cpus)
}
