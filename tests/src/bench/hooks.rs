//! Nanoseconds of each of Flow's programs, less those of an empty program at the same hook type in
//! the same run.
//!
//! The kernel's statistics time every run of a program, and the timing itself is part of the
//! result. The empty program is timed in the same way, so the difference is Flow's own time.

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    Bench, Output, Section, Verdict,
    figures::{Table, median, number},
    sink::Sink,
};
use crate::{
    bpf::{self, Empty, Place, Program, Statistics, kind},
    live::peer::Peer,
};

/// A program that ran less often in a round is left out.
const FEWEST_RUNS: u64 = 1_000;

/// The cost of a packet or call in one round, by program.
type Round = BTreeMap<String, Cost>;

#[derive(Clone, Copy, Debug)]
struct Cost {
    runs: u64,
    /// Mean of a run, in nanoseconds.
    gross: f64,
    empty: f64,
    hook: Hook,
}

impl Cost {
    fn net(self) -> f64 {
        self.gross - self.empty
    }
}

/// The sum to which a program's nanoseconds belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hook {
    Send,
    Receive,
    CgroupEgress,
    CgroupIngress,
    TcEgress,
    TcIngress,
    Other,
}

impl Hook {
    const MEASURED: [(Self, &str); 6] = [
        (Self::Send, "a send call"),
        (Self::Receive, "a receive call"),
        (Self::CgroupEgress, "cgroup_skb out"),
        (Self::CgroupIngress, "cgroup_skb in"),
        (Self::TcEgress, "TC out"),
        (Self::TcIngress, "TC in"),
    ];

    fn of(program: &Program) -> Self {
        let name = &program.name;
        let either = |marks: &[&str], yes, no| {
            if marks.iter().any(|mark| name.contains(mark)) {
                yes
            } else {
                no
            }
        };
        match program.kind {
            kind::CGROUP_SKB => either(&["egress"], Self::CgroupEgress, Self::CgroupIngress),
            kind::CLASSIFIER => either(&["egress"], Self::TcEgress, Self::TcIngress),
            kind::RAW_TRACEPOINT | kind::TRACING | kind::KPROBE | kind::CGROUP_SOCK_ADDR => {
                let or = either(&["recv", "rcv", "splice_read"], Self::Receive, Self::Other);
                either(&["send"], Self::Send, or)
            }
            _ => Self::Other,
        }
    }
}

/// Whether a program runs once for each call: others at the same hook only assist it.
fn is_main(name: &str) -> bool {
    ["sock_", "fexit_", "kretprobe_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

pub fn measure(bench: &Bench) -> Result<Section> {
    // What is sent, and how it is received.
    let traffic: [(&str, &[&str], &[&str]); 5] = [
        ("TCP, calls of 128 KiB", &["tcp"], &[]),
        ("TCP, calls of 64 B", &["tcp", "--size", "64"], &[]),
        ("UDP, 64 B, connected", &["udp"], &["--connect"]),
        ("UDP, 64 B, addressed", &["udp", "--to"], &["--ask"]),
        ("UDP, 64 B, senders not asked for", &["udp", "--to"], &[]),
    ];
    let rounds = bench.count(7, 3);
    let time = bench.seconds(1.0, 0.5);
    let peer = bench.peer()?;
    let _statistics = Statistics::enable()?;
    let flow = bench.flow_attached(Output::File)?;
    let programs = bpf::programs_of(flow.pid())?;
    let empties = Empties::attach(&peer)?;

    let mut section = Section::default();
    let mut columns = vec!["net nanoseconds, median"];
    columns.extend(Hook::MEASURED.map(|(_, title)| title));
    let mut sums = Table::new(&columns);
    let mut each = Table::new(&["program", "runs a second", "ns a run", "empty", "net"]);
    let mut worst = BTreeMap::new();
    for (title, send, receive) in traffic {
        eprintln!("    {title}");
        let mut costs = Vec::new();
        for _ in 0..rounds {
            let sink = Sink::start(bench, &peer, &[], receive)?;
            costs.push(round(bench, sink, send, time, &programs, &empties)?);
        }
        let mut row = vec![title.to_owned()];
        for (hook, _) in Hook::MEASURED {
            let of_rounds: Vec<f64> = costs.iter().filter_map(|cost| added(cost, hook)).collect();
            if of_rounds.is_empty() {
                row.push("-".to_owned());
                continue;
            }
            let net = median(&of_rounds);
            row.push(number(net));
            let most = worst.entry(hook).or_insert(net);
            *most = net.max(*most);
        }
        sums.row(row);
        list(&mut each, title, &costs, time);
    }
    section.verdicts = verdicts(&worst);
    section.tables = vec![sums, each];
    section.notes = notes(rounds, time, &empties);
    flow.interrupt()?;
    Ok(section)
}

fn verdicts(worst: &BTreeMap<Hook, f64>) -> Vec<Verdict> {
    let of = |what, hooks: [Hook; 2], budget| {
        let most = hooks.iter().filter_map(|hook| worst.get(hook)).copied();
        let most = most.reduce(f64::max)?;
        Some(Verdict::at_most(what, most, budget, "ns"))
    };
    [
        of(
            "added to a send or receive call, the worst traffic",
            [Hook::Send, Hook::Receive],
            120.0,
        ),
        of(
            "added to a packet at cgroup_skb, the worst traffic",
            [Hook::CgroupEgress, Hook::CgroupIngress],
            120.0,
        ),
        of(
            "added to a packet at TC, the worst traffic",
            [Hook::TcEgress, Hook::TcIngress],
            60.0,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn notes(rounds: usize, time: Duration, empties: &Empties) -> Vec<String> {
    let mut notes = vec![format!(
        "Medians of {rounds} rounds of {:.1} s each, over a veth pair; a packet of TCP is a buffer of many segments. A call's \
         figure holds what the cgroup hooks of datagrams and the program on receive queues take besides. The traffic stands in brackets where a program ran \
         in several kinds of it.",
        time.as_secs_f64()
    )];
    notes.extend(
        empties.missing.iter().map(|reason| {
            format!("Without an empty program: {reason}; its place takes 0 ns here.")
        }),
    );
    notes
}

/// Runs the traffic for a while. Returns what each program took meanwhile.
fn round(
    bench: &Bench,
    sink: Sink,
    load: &[&str],
    time: Duration,
    programs: &[OwnedFd],
    empties: &Empties,
) -> Result<Round> {
    let before = programs.iter().map(bpf::info).collect::<Result<Vec<_>>>()?;
    let empty_before = empties.counted()?;
    sink.send(bench, load, time)?;
    let empty = empties.since(&empty_before)?;
    let mut round = Round::new();
    for (fd, before) in programs.iter().zip(before) {
        let after = bpf::info(fd)?;
        let runs = after.runs - before.runs;
        if runs < FEWEST_RUNS {
            continue;
        }
        let hook = Hook::of(&after);
        let cost = Cost {
            runs,
            gross: (after.time_ns - before.time_ns) as f64 / runs as f64,
            empty: empties.of(&after, hook, &empty),
            hook,
        };
        round.insert(after.name, cost);
    }
    Ok(round)
}

/// The cost of all programs of a hook for one call or packet; absent without any.
fn added(round: &Round, hook: Hook) -> Option<f64> {
    let at_hook = || round.iter().filter(|(_, cost)| cost.hook == hook);
    let is_call = matches!(hook, Hook::Send | Hook::Receive);
    let calls: u64 = at_hook()
        .filter(|(name, _)| !is_call || is_main(name))
        .map(|(_, cost)| cost.runs)
        .sum();
    let net: f64 = at_hook()
        .map(|(_, cost)| cost.net() * cost.runs as f64)
        .sum();
    (calls > 0).then(|| net / calls as f64)
}

/// A line for each program of this traffic.
fn list(table: &mut Table, title: &str, rounds: &[Round], time: Duration) {
    let names: std::collections::BTreeSet<&String> =
        rounds.iter().flat_map(|round| round.keys()).collect();
    for name in names {
        let of = |what: fn(Cost) -> f64| {
            let values: Vec<f64> = rounds
                .iter()
                .filter_map(|round| round.get(name).copied().map(what))
                .collect();
            median(&values)
        };
        table.row(vec![
            format!("{name} ({title})"),
            number(of(|cost| cost.runs as f64) / time.as_secs_f64()),
            number(of(|cost| cost.gross)),
            number(of(|cost| cost.empty)),
            number(of(Cost::net)),
        ]);
    }
}

/// Empty programs, one for each kind of hook.
#[derive(Debug)]
struct Empties {
    attached: Vec<(Kind, Empty)>,
    /// Why some are missing.
    missing: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Send,
    Receive,
    DatagramSend,
    DatagramReceive,
    Packet(Hook),
}

impl Empties {
    fn attach(peer: &Peer) -> Result<Self> {
        let root = File::open(bpf::cgroup_root()?).context("opening the cgroup root")?;
        let cgroup = |kind, attach| Place::Cgroup {
            kind,
            attach,
            cgroup: root.as_fd(),
        };
        let index = nix::net::if_::if_nametoindex(peer.link.as_str())?;
        let interface = |attach| Place::Interface { index, attach };
        let places = [
            (Kind::Send, Place::RawTracepoint(c"sock_send_length")),
            (Kind::Receive, Place::RawTracepoint(c"sock_recv_length")),
            (
                Kind::DatagramSend,
                cgroup(kind::CGROUP_SOCK_ADDR, bpf::UDP4_SENDMSG),
            ),
            (
                Kind::DatagramReceive,
                cgroup(kind::CGROUP_SOCK_ADDR, bpf::UDP4_RECVMSG),
            ),
            (
                Kind::Packet(Hook::CgroupEgress),
                cgroup(kind::CGROUP_SKB, bpf::CGROUP_EGRESS),
            ),
            (
                Kind::Packet(Hook::CgroupIngress),
                cgroup(kind::CGROUP_SKB, bpf::CGROUP_INGRESS),
            ),
            (Kind::Packet(Hook::TcEgress), interface(bpf::TCX_EGRESS)),
            (Kind::Packet(Hook::TcIngress), interface(bpf::TCX_INGRESS)),
        ];
        let (mut attached, mut missing) = (Vec::new(), Vec::new());
        for (kind, place) in places {
            match Empty::attach(place) {
                Ok(empty) => attached.push((kind, empty)),
                Err(error) => missing.push(format!("{kind:?}, {error:#}")),
            }
        }
        Ok(Self { attached, missing })
    }

    fn counted(&self) -> Result<Vec<Program>> {
        self.attached
            .iter()
            .map(|(_, empty)| empty.counted())
            .collect()
    }

    /// Mean run time of each since then, in nanoseconds; only of those that ran.
    fn since(&self, before: &[Program]) -> Result<Vec<(Kind, f64)>> {
        let after = self.counted()?;
        Ok(self
            .attached
            .iter()
            .zip(before.iter().zip(after))
            .filter_map(|((kind, _), (before, after))| {
                let runs = after.runs - before.runs;
                let time = after.time_ns - before.time_ns;
                (runs >= FEWEST_RUNS).then(|| (*kind, time as f64 / runs as f64))
            })
            .collect())
    }

    /// Run time of the empty program that corresponds to this one.
    fn of(&self, program: &Program, hook: Hook, means: &[(Kind, f64)]) -> f64 {
        let wanted = match (program.kind, hook) {
            (kind::CGROUP_SOCK_ADDR, Hook::Send) => Kind::DatagramSend,
            (kind::CGROUP_SOCK_ADDR, _) => Kind::DatagramReceive,
            (kind::CGROUP_SKB | kind::CLASSIFIER, hook) => Kind::Packet(hook),
            (_, Hook::Receive) => Kind::Receive,
            _ => Kind::Send,
        };
        means
            .iter()
            .find(|(kind, _)| *kind == wanted)
            .map_or(0.0, |(_, mean)| *mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_of_a_call_are_added_to_it() {
        let cost = |runs, gross, hook| Cost {
            runs,
            gross,
            empty: 50.0,
            hook,
        };
        let round = Round::from([
            ("sock_send_lengt".to_owned(), cost(100, 150.0, Hook::Send)),
            ("sendmsg4".to_owned(), cost(50, 90.0, Hook::Send)),
            ("flow_tc_egress".to_owned(), cost(10, 80.0, Hook::TcEgress)),
        ]);
        assert_eq!(added(&round, Hook::Send), Some(120.0));
        assert_eq!(added(&round, Hook::TcEgress), Some(30.0));
        assert_eq!(added(&round, Hook::Receive), None);
    }

    #[test]
    fn programs_are_distinguished_by_kind_and_name() {
        let hook = |kind, name: &str| {
            Hook::of(&Program {
                kind,
                name: name.to_owned(),
                ..Program::default()
            })
        };
        assert_eq!(hook(kind::RAW_TRACEPOINT, "sock_recv_lengt"), Hook::Receive);
        assert_eq!(hook(kind::CGROUP_SOCK_ADDR, "sendmsg4"), Hook::Send);
        assert_eq!(hook(kind::RAW_TRACEPOINT, "sched_process_e"), Hook::Other);
        assert_eq!(
            hook(kind::CGROUP_SKB, "cgroup_ingress"),
            Hook::CgroupIngress
        );
    }
}
