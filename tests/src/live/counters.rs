//! The interfaces' own counters, read independently of Flow: the amount that a ledger must explain.

use std::{collections::HashMap, fs};

use anyhow::{Context as _, Result};

use super::tools::{self, Netns};

/// Bytes of an interface, cumulative.
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

/// Reads those of a network namespace.
pub fn read_in(netns: Netns<'_>) -> Result<Counters> {
    Ok(parse(&tools::read(netns, "dev")?))
}

/// Four readings around a session, which bound the time in which Flow counted.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    pub before_start: Counters,
    pub after_start: Counters,
    pub before_stop: Counters,
    pub after_stop: Counters,
}

fn parse(text: &str) -> Counters {
    text.lines()
        .filter_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            let mut numbers = numbers.split_ascii_whitespace().map(str::parse);
            let ingress = numbers.next()?.ok()?;
            // Skip seven more columns of the receiving side.
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
