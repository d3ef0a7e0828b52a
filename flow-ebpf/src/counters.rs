//! Packets of an interface, by direction and class.

use flow_common::{
    InterfaceCounters, InterfaceKey,
    interface::{Class, Direction},
};

use crate::{atomic, maps::INTERFACES, packet::Packet};

/// Packets that the classifier has seen come in on this CPU.
#[inline(always)]
pub fn received(counters: *const InterfaceCounters) -> u64 {
    // SAFETY: a live map value.
    unsafe { (*counters).classes[Class::Total as usize].packets }
}

/// The counters of an interface, if the loader chose it.
#[inline(always)]
pub fn interface(ifindex: u32, direction: Direction) -> Option<*mut InterfaceCounters> {
    INTERFACES.get_ptr_mut(InterfaceKey {
        ifindex,
        direction: direction as u32,
    })
}

/// Adds a packet to an interface's counters of a class.
#[inline(always)]
pub fn add_frame(counters: *mut InterfaceCounters, class: Class, packet: &Packet) {
    // SAFETY: the counters are a live map value, a class is an index into the array. Atomic,
    // because a packet in a softirq may interrupt the count of one sent in process context.
    unsafe {
        let count = (&raw mut (*counters).classes)
            .cast::<flow_common::PacketCount>()
            .add(class as usize);
        atomic::add(&raw mut (*count).packets, packet.buffers);
        atomic::add(&raw mut (*count).bytes, packet.bytes);
        let more_frames = packet.frames - packet.buffers;
        if more_frames != 0 {
            atomic::add(&raw mut (*count).more_frames, more_frames);
            atomic::add(&raw mut (*count).header_bytes, packet.header_bytes);
        }
    }
}
