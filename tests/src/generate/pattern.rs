//! The traffic that every kind of link must carry: large buffers that the kernel segments, and
//! small packets.

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt};

use super::{
    Options,
    tcp::{self, ZEROS},
    udp,
};
use crate::truth::Tally;

/// Bytes of a small datagram.
const SMALL: usize = 100;
/// Datagrams of one call, and bytes of each.
const SEGMENTS: usize = 10;
const SEGMENT: usize = 500;

pub fn bulk_and_small(options: &Options, tally: &Tally) -> Result<()> {
    tcp::both(options, tally)?;
    udp::many(options, tally)
}

pub fn bulk_and_bursts(options: &Options, tally: &Tally) -> Result<()> {
    tcp::both(options, tally)?;
    udp::bursts(options, tally)
}

pub fn away(options: &Options, tally: &Tally) -> Result<()> {
    let peer = options.peer()?;
    let small = udp::connect(peer)?;
    let large = udp::connect(peer)?;
    setsockopt(&large, sockopt::UdpGsoSegment, &(SEGMENT as i32)).context("UDP_SEGMENT")?;
    for _ in 0..options.count {
        tally.sent(small.send(&ZEROS[..SMALL])?);
        tally.sent(large.send(&ZEROS[..SEGMENTS * SEGMENT])?);
    }
    Ok(())
}
