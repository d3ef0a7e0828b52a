//! Throughput with nothing attached, with empty programs at Flow's hooks, with each family of
//! Flow's programs alone, and with all of Flow.
//!
//! The arms take turns, forwards in one round and backwards in the next, so that a drift of the
//! machine favours none; a ratio is of two turns of the same round. Sender and receiver have a core
//! each.

use std::{
    fs::{self, File},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nameindex;

use super::{
    Bench, Output, Process, Section, Verdict,
    figures::{Table, median, quantile, si},
    sink::{self, Sink},
};
use crate::{
    bpf::{self, Attached, Empty, Place},
    live::{peer::Peer, waiting, wire},
};

/// Where datagrams go that are dropped on arrival: the port `discard`.
const DISCARD: u16 = 9;

/// What is attached during a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    Nothing,
    /// Programs that do nothing, at the same hooks as Flow's.
    Empty,
    /// Flow with the programs of only these capabilities.
    Family(&'static str, &'static str),
    Flow,
}

const ARMS: [Arm; 7] = [
    Arm::Nothing,
    Arm::Empty,
    Arm::Family("app bytes alone", "app bytes by process"),
    Arm::Family("cgroup_skb alone", "wire bytes by socket"),
    Arm::Family("TC alone", "interface totals"),
    Arm::Family(
        "lives of sockets and processes alone",
        "socket identity and life,process life",
    ),
    Arm::Flow,
];

impl Arm {
    fn title(self) -> &'static str {
        match self {
            Self::Nothing => "nothing attached",
            Self::Empty => "empty programs",
            Self::Family(title, _) => title,
            Self::Flow => "all of Flow",
        }
    }
}

/// Whose packets the programs of cgroups see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// They are attached to the root.
    Both,
    /// They are attached to the sender's cgroup.
    One,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

struct Traffic {
    title: &'static str,
    protocol: Protocol,
    ends: Ends,
    /// The least ratio of all of Flow to another arm.
    budget: Option<(Arm, f64)>,
}

/// Traffic with the same ends stands together: it runs in one turn of an arm.
const TRAFFIC: [Traffic; 4] = [
    Traffic {
        title: "TCP in calls of 128 KiB, both ends counted",
        protocol: Protocol::Tcp,
        ends: Ends::Both,
        budget: None,
    },
    Traffic {
        title: "UDP, 64 B, both ends counted",
        protocol: Protocol::Udp,
        ends: Ends::Both,
        budget: Some((Arm::Empty, 0.95)),
    },
    Traffic {
        title: "TCP in calls of 128 KiB, one end counted",
        protocol: Protocol::Tcp,
        ends: Ends::One,
        budget: Some((Arm::Nothing, 0.98)),
    },
    Traffic {
        title: "UDP, 64 B, one end counted",
        protocol: Protocol::Udp,
        ends: Ends::One,
        budget: Some((Arm::Empty, 0.95)),
    },
];

/// The results of a traffic, by arm and round.
#[derive(Debug, Default)]
struct Rates {
    /// What the sender's calls took: bytes a second, or datagrams a second of its CPU time.
    sent: [Vec<f64>; ARMS.len()],
    /// The share of the datagrams that reached the far end: its calls, or its interface.
    arrived: [Vec<f64>; ARMS.len()],
}

pub fn measure(bench: &Bench) -> Result<Section> {
    let rounds = bench.count(9, 3);
    let time = bench.seconds(0.6, 0.4);
    let setting = Setting::new(bench)?;
    // The first traffic is slower: the machine wakes up.
    for traffic in &TRAFFIC {
        setting.send(bench, traffic, time)?;
    }
    let mut rates: [Rates; TRAFFIC.len()] = Default::default();
    for round in 0..rounds {
        eprintln!("    round {} of {rounds}", round + 1);
        for ends in [Ends::Both, Ends::One] {
            let mut order: Vec<usize> = (0..ARMS.len()).collect();
            if round % 2 != 0 {
                order.reverse();
            }
            for arm in order {
                let attached = setting.attach(bench, ARMS[arm], ends)?;
                let of_ends = TRAFFIC.iter().zip(&mut rates);
                for (traffic, rates) in of_ends.filter(|(traffic, _)| traffic.ends == ends) {
                    let (sent, arrived) = setting.send(bench, traffic, time)?;
                    rates.sent[arm].push(sent);
                    rates.arrived[arm].extend(arrived);
                }
                attached.detach()?;
            }
        }
    }
    let mut section = Section::default();
    for (traffic, rates) in TRAFFIC.iter().zip(&rates) {
        section.tables.push(table(traffic, rates));
        if let Some((base, budget)) = traffic.budget {
            let ratio = median(&ratios(rates, Arm::Flow, base));
            let what = format!("all of Flow / {}, {}", base.title(), traffic.title);
            let verdict = Verdict::at_least(&what, ratio, budget);
            section.verdicts.push(verdict);
        }
    }
    section.notes = setting.notes(rounds, time);
    Ok(section)
}

/// What stays through all turns.
struct Setting {
    peer: Peer,
    /// Drops datagrams to [`DISCARD`] at the far end of the veth pair.
    discard: wire::Table,
    cgroup: Cgroup,
    cgroup_root: PathBuf,
    cores: [String; 2],
    /// Where empty programs go; of the interfaces, all.
    places: Vec<Attached>,
    /// Hooks of Flow that are left empty.
    missing: Vec<String>,
}

impl Setting {
    fn new(bench: &Bench) -> Result<Self> {
        let peer = bench.peer()?;
        let drop = format!(
            "chain ingress {{
                type filter hook ingress device {} priority 0;
                udp dport {DISCARD} counter drop
            }}",
            wire::FAR
        );
        let discard = wire::Table::install(Some(&peer.namespace), "netdev", &drop)?;
        let flow = bench.flow_attached(Output::File)?;
        let mut missing = Vec::new();
        let mut places = bpf::attached_of(flow.pid())?;
        places.retain(|place| match place {
            Attached::Other(kind) => {
                missing.push(format!("a link of kind {kind}"));
                false
            }
            Attached::RawTracepoint(_) | Attached::Cgroup { .. } => true,
        });
        flow.interrupt()?;
        let cgroup_root = bpf::cgroup_root()?;
        let mut setting = Self {
            peer,
            discard,
            cgroup: Cgroup::new(&cgroup_root)?,
            cgroup_root,
            cores: sink::cores()?,
            places,
            missing,
        };
        let (_, missing) = setting.empties(Ends::Both)?;
        setting.missing.extend(missing);
        setting.check_families(bench)?;
        Ok(setting)
    }

    /// Fails if this Flow attaches more than it is asked to, as one without fault injection does.
    fn check_families(&self, bench: &Bench) -> Result<()> {
        let lives = Arm::Family("", "process life");
        let Holding::Flow(flow) = self.attach(bench, lives, Ends::One)? else {
            return Ok(());
        };
        let attached = bpf::attached_of(flow.pid())?;
        flow.interrupt()?;
        ensure!(
            !attached.is_empty() && attached.len() < self.places.len(),
            "{} attaches all of its programs; build it with --features flow-user/fault-injection",
            bench.options.flow.display()
        );
        Ok(())
    }

    fn attach(&self, bench: &Bench, arm: Arm, ends: Ends) -> Result<Holding> {
        let only = match arm {
            Arm::Nothing => return Ok(Holding::Nothing),
            Arm::Empty => return Ok(Holding::Empties(self.empties(ends)?.0)),
            Arm::Family(_, capabilities) => Some(capabilities),
            Arm::Flow => None,
        };
        let flow = bench.flow_attached_with(Output::File, |command| {
            if let Some(capabilities) = only {
                command.env("FLOW_ONLY", capabilities);
            }
            if ends == Ends::One {
                command.env("FLOW_CGROUP", &self.cgroup.0);
            }
        })?;
        Ok(Holding::Flow(flow))
    }

    /// Empty programs at Flow's hooks; and which could not be attached.
    fn empties(&self, ends: Ends) -> Result<(Vec<Empty>, Vec<String>)> {
        let cgroup = match ends {
            Ends::Both => &self.cgroup_root,
            Ends::One => &self.cgroup.0,
        };
        let cgroup = File::open(cgroup).context("opening a cgroup")?;
        let interfaces = if_nameindex().context("listing the interfaces")?;
        let of_interfaces = interfaces.iter().flat_map(|interface| {
            let index = interface.index();
            [bpf::TCX_INGRESS, bpf::TCX_EGRESS].map(|attach| Place::Interface { index, attach })
        });
        let elsewhere = self.places.iter().filter_map(|place| match place {
            Attached::RawTracepoint(name) => Some(Place::RawTracepoint(name)),
            Attached::Cgroup { kind, attach } => Some(Place::Cgroup {
                kind: *kind,
                attach: *attach,
                cgroup: cgroup.as_fd(),
            }),
            Attached::Other(_) => None,
        });
        let (mut attached, mut missing) = (Vec::new(), Vec::new());
        for place in elsewhere.chain(of_interfaces) {
            match Empty::attach(place) {
                Ok(empty) => attached.push(empty),
                Err(error) => missing.push(format!("{place:?}, {error:#}")),
            }
        }
        Ok((attached, missing))
    }

    /// Sends for so long. What was sent each second, and of datagrams the share that arrived.
    fn send(&self, bench: &Bench, traffic: &Traffic, time: Duration) -> Result<(f64, Option<f64>)> {
        let [core, far_core] = &self.cores;
        let cgroup = self.cgroup.0.to_str().context("the path of a cgroup")?;
        let send = |load| ["--core", core, "--cgroup", cgroup, load];
        let sink = || Sink::start(bench, &self.peer, &["--core", far_core], &["--connect"]);
        let (sent, arrived) = match (traffic.protocol, traffic.ends) {
            (Protocol::Tcp, _) => {
                let (sent, _) = sink()?.send(bench, &send("tcp"), time)?;
                return Ok((sent.bytes as f64 / sent.seconds, None));
            }
            (Protocol::Udp, Ends::Both) => {
                let (sent, received) = sink()?.send(bench, &send("udp"), time)?;
                (sent, received.calls)
            }
            (Protocol::Udp, Ends::One) => {
                let address = format!("{}:{DISCARD}", self.peer.far4);
                let before = self.discard.counter("ingress")?.packets;
                let sent = sink::send(bench, &send("udp"), &address, time)?;
                (sent, self.discard.counter("ingress")?.packets - before)
            }
        };
        let calls = sent.calls as f64;
        Ok((calls / sent.cpu_seconds, Some(arrived as f64 / calls)))
    }

    fn notes(&self, rounds: usize, time: Duration) -> Vec<String> {
        let [near, far] = &self.cores;
        let mut notes = vec![
            format!(
                "Medians of {rounds} rounds, {:.1} s a turn, over a veth pair to another network namespace; the sender is on core \
                 {near}, the receiver on core {far}, Flow on any. Ratios are of two turns of the same round; the middle half and \
                 all belong to the ratio before them. Of datagrams the rate is what the sender's calls took in a second of its \
                 CPU time: the whole way of a packet to the receiver's socket is the sender's own work here.",
                time.as_secs_f64()
            ),
            "With one end counted, programs of cgroups are attached to the sender's cgroup only, and no interface of the far end \
             is Flow's. Of TCP the far end's calls and states still pass the tracepoints, which are the whole system's, and their \
             programs count them. The datagrams are dropped where they enter the far end, which has no socket for them and counts \
             nothing."
                .to_owned(),
            "Flow alone with a family starts as always and lists sockets and processes; programs that look up what those of \
             another family record find nothing."
                .to_owned(),
        ];
        if near == far {
            notes.push("This machine has one core; sender and receiver share it.".to_owned());
        }
        if !self.missing.is_empty() {
            let missing = self.missing.join("; ");
            notes.push(format!("Without an empty program: {missing}."));
        }
        notes
    }
}

/// What is attached until [`Holding::detach`], or until it is dropped.
enum Holding {
    Nothing,
    Empties(Vec<Empty>),
    Flow(Process),
}

impl Holding {
    fn detach(self) -> Result<()> {
        match self {
            Self::Nothing => {}
            Self::Empties(empties) => drop(empties),
            Self::Flow(flow) => drop(flow.interrupt()?),
        }
        Ok(())
    }
}

/// A cgroup for the sender. Removed on drop, once it is empty.
struct Cgroup(PathBuf);

const CGROUP_PREFIX: &str = "flow-bench-";

impl Cgroup {
    /// Makes one, and removes those of killed benchmarks.
    fn new(root: &Path) -> Result<Self> {
        for entry in fs::read_dir(root).context("listing the cgroups")?.flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|it| it.strip_prefix(CGROUP_PREFIX));
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                // One that still has processes stays.
                let _ = fs::remove_dir(entry.path());
            }
        }
        let path = root.join(format!("{CGROUP_PREFIX}{}", process::id()));
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let gone = waiting::until(Duration::from_secs(5), "a cgroup to be empty", || {
            Ok(fs::remove_dir(&self.0).is_ok().then_some(()))
        });
        if let Err(error) = gone {
            eprintln!("{}: {error:#}", self.0.display());
        }
    }
}

/// The ratios of one arm to another, round by round.
fn ratios(rates: &Rates, arm: Arm, base: Arm) -> Vec<f64> {
    let of = |wanted: Arm| {
        let place = ARMS.iter().position(|arm| *arm == wanted);
        place.map_or(&[] as &[f64], |place| &rates.sent[place])
    };
    let pairs = of(arm).iter().zip(of(base));
    pairs.map(|(rate, base)| rate / base).collect()
}

fn table(traffic: &Traffic, rates: &Rates) -> Table {
    let unit = match traffic.protocol {
        Protocol::Tcp => "B/s",
        Protocol::Udp => "packets/s of CPU",
    };
    let mut columns = vec![traffic.title, "rate"];
    let is_lossy = traffic.protocol == Protocol::Udp;
    columns.extend(is_lossy.then_some("arrived"));
    columns.extend(["/ nothing", "middle half", "all"]);
    columns.extend(["/ empty", "middle half", "all"]);
    let mut table = Table::new(&columns);
    for (place, arm) in ARMS.iter().enumerate() {
        let rate = format!("{}{unit}", si(median(&rates.sent[place])));
        let mut row = vec![arm.title().to_owned(), rate];
        let arrived = || format!("{:.1} %", 100.0 * median(&rates.arrived[place]));
        row.extend(is_lossy.then(arrived));
        row.extend(spread(rates, *arm, Arm::Nothing));
        row.extend(spread(rates, *arm, Arm::Empty));
        table.row(row);
    }
    table
}

/// The median of the ratios, their middle half, and all.
fn spread(rates: &Rates, arm: Arm, base: Arm) -> [String; 3] {
    if arm == base {
        return ["1", "-", "-"].map(str::to_owned);
    }
    let ratios = ratios(rates, arm, base);
    let span = |from, to| {
        let (low, high) = (quantile(&ratios, from), quantile(&ratios, to));
        format!("{low:.3} to {high:.3}")
    };
    [
        format!("{:.3}", median(&ratios)),
        span(0.25, 0.75),
        span(0.0, 1.0),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use flow_user::source::kernel::backends::BACKENDS;

    use super::*;

    #[test]
    fn families_are_all_that_flow_attaches() {
        let families = ARMS.iter().filter_map(|arm| match arm {
            Arm::Family(_, capabilities) => Some(capabilities.split(',')),
            _ => None,
        });
        let named: BTreeSet<_> = families.flatten().collect();
        let attaching = BACKENDS.iter().filter(|def| !def.hooks.is_empty());
        let attached: BTreeSet<_> = attaching.map(|def| def.capability.name()).collect();
        assert_eq!(named, attached);
    }

    #[test]
    fn a_ratio_is_of_the_same_round() {
        let mut rates = Rates::default();
        rates.sent[0] = vec![10.0, 20.0, 40.0];
        rates.sent[6] = vec![9.0, 19.0, 20.0];
        assert_eq!(ratios(&rates, Arm::Flow, Arm::Nothing), [0.9, 0.95, 0.5]);
        let [ratio, _, all] = spread(&rates, Arm::Flow, Arm::Nothing);
        assert_eq!((&*ratio, &*all), ("0.900", "0.500 to 0.950"));
    }
}
