//! A run of `flow events`, with readings of the interfaces' own counters before and after it.

use anyhow::Result;
use nix::sys::signal::Signal;

use super::{
    World,
    counters::{self, Readings},
    flow::Flow,
    stream::Stream,
};

/// A running Flow, and the interfaces' counters before and after its start.
pub struct Watched {
    pub flow: Flow,
    readings: Readings,
}

impl Watched {
    /// Starts `flow events` with these arguments.
    pub fn start(world: &World, name: &str, arguments: &[&str]) -> Result<Self> {
        let mut readings = Readings {
            before_start: counters::read()?,
            ..Readings::default()
        };
        let flow = Flow::events_with(world, name, arguments)?;
        readings.after_start = counters::read()?;
        Ok(Self { flow, readings })
    }

    /// Ends Flow; returns its output and all four readings.
    pub fn end(self) -> Result<(Stream, Readings)> {
        let Self { flow, mut readings } = self;
        readings.before_stop = counters::read()?;
        let ended = flow.stop(Signal::SIGINT)?;
        ended.expect_code(130)?;
        readings.after_stop = counters::read()?;
        Ok((Stream::parse(&ended.stdout), readings))
    }
}
