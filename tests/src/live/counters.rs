//! The interfaces' own counters, read apart from Flow: how much a ledger has to explain.

use std::{collections::HashMap, fs};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::{World, flow::Flow, stream::Stream};

/// Bytes of an interface since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub ingress: i128,
    pub egress: i128,
}

/// All interfaces of this network namespace, by name.
pub type Counters = HashMap<String, Counter>;

/// Reads them.
pub fn read() -> Result<Counters> {
    let text = fs::read_to_string("/proc/net/dev").context("reading /proc/net/dev")?;
    Ok(parse(&text))
}

/// Four readings around a session, and so the time in which Flow looked.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    pub before_start: Counters,
    pub after_start: Counters,
    pub before_stop: Counters,
    pub after_stop: Counters,
}

/// A Flow, and what the interfaces had counted before and after its start.
pub struct Watched {
    pub flow: Flow,
    readings: Readings,
}

impl Watched {
    /// Starts `flow events` with these arguments.
    pub fn start(world: &World, name: &str, arguments: &[&str]) -> Result<Self> {
        let mut readings = Readings {
            before_start: read()?,
            ..Readings::default()
        };
        let flow = Flow::events_with(world, name, arguments)?;
        readings.after_start = read()?;
        Ok(Self { flow, readings })
    }

    /// Ends Flow; what it told, and all four readings.
    pub fn end(self) -> Result<(Stream, Readings)> {
        let Self { flow, mut readings } = self;
        readings.before_stop = read()?;
        let ended = flow.stop(Signal::SIGINT)?;
        ended.expect_code(130)?;
        readings.after_stop = read()?;
        Ok((Stream::parse(&ended.stdout), readings))
    }
}

fn parse(text: &str) -> Counters {
    text.lines()
        .filter_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            let mut numbers = numbers.split_ascii_whitespace().map(str::parse);
            let ingress = numbers.next()?.ok()?;
            // Seven more columns of the receiving side.
            let egress = numbers.nth(7)?.ok()?;
            Some((name.trim().to_owned(), Counter { ingress, egress }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ninth_column_is_egress() {
        let text = "Inter-|   Receive\n face |bytes\n    lo:    3193      29    0    0    0     0 \
                    0         0     77      29    0    0    0     0       0          0\n";
        assert_eq!(
            parse(text)["lo"],
            Counter {
                ingress: 3193,
                egress: 77
            }
        );
    }
}
