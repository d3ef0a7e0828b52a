//! Compares what Flow reported of each process with what the process itself counted.

use std::path::Path;

use serde_json::Value;

use super::{
    Backend,
    counters::{Counters, Readings},
    difference::{Difference, difference},
    expected::{Visible, by_pid, by_remote, visible},
    stream::{Identity, Process, Side, Stream, Wire, wires},
};
use crate::truth::{Moved, Truth};

/// Bytes of arguments that Flow keeps of a process; longer ones may be truncated.
const ARGUMENT_BYTES: usize = 4096;
/// Bytes of an Ethernet header, which interfaces count and sockets do not.
pub const LINK_HEADER: u64 = 14;

/// Checks the stream's own rules, and that nothing was lost; with `misses`, returns of calls must
/// have been missed.
pub fn stream(stream: &Stream, misses: bool) -> Vec<Difference> {
    let mut differences = stream.faults.clone();
    let missed = |record: &&Value| record["cause"] == "return_missed";
    if misses && !stream.lost.iter().any(|record| missed(&record)) {
        differences.push(difference("lost", "return_missed", "some", "none"));
    }
    // Merged updates on a busy machine lose nothing: counters are cumulative.
    let is_loss =
        |record: &&Value| record["cause"] != "reader_slow_coalesced" && !(misses && missed(record));
    let lost = stream.lost.iter().filter(is_loss).map(|record| {
        let shown = record.to_string();
        difference("lost", "records", "none", shown)
    });
    differences.extend(lost);
    differences
}

/// Checks each process: its bytes, remotes, names and exit.
pub fn processes(stream: &Stream, truths: &[Truth], backend: Backend) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (pid, truths) in by_pid(truths) {
        let known = stream.processes_of(pid);
        if let [truth] = &truths[..] {
            differences.extend(process(stream, truth, &known, backend));
            continue;
        }
        // Both are in the order in which they started.
        for (truth, known) in truths.iter().zip(&known) {
            differences.extend(process(stream, truth, &[known], backend));
        }
        if known.len() != truths.len() {
            let subject = format!("{} pid {pid}", truths[0].mode);
            let what = "processes with this id";
            differences.push(difference(subject, what, truths.len(), known.len()));
        }
    }
    differences
}

/// Checks one process, which must have one identity in the stream; `known` are the candidates.
fn process(
    stream: &Stream,
    truth: &Truth,
    known: &[&Process],
    backend: Backend,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    let subject = format!("{} pid {}", truth.mode, truth.pid);
    let mut expect = |what: &str, expected: String, seen: String| {
        if expected != seen {
            differences.push(difference(&subject, what, expected, seen));
        }
    };
    let Visible { least, most } = visible(truth, backend);
    let seen = stream.app_of(known);
    for (what, least, most, seen) in [
        ("app.tx_bytes", least.tx_bytes, most.tx_bytes, seen.tx_bytes),
        ("app.rx_bytes", least.rx_bytes, most.rx_bytes, seen.rx_bytes),
    ] {
        if least == most {
            expect(what, least.to_string(), seen.to_string());
        } else if !(least..=most).contains(&seen) {
            expect(what, format!("{least} to {most}"), seen.to_string());
        }
    }
    for (remote, Visible { least, most }) in by_remote(truth, backend) {
        let seen = of_remote(stream, known, &remote);
        let is_within = (least.tx_bytes..=most.tx_bytes).contains(&seen.tx_bytes)
            && (least.rx_bytes..=most.rx_bytes).contains(&seen.rx_bytes);
        if !is_within {
            let show = |moved: &Moved| format!("tx {} rx {}", moved.tx_bytes, moved.rx_bytes);
            let expected = format!("{} to {}", show(&least), show(&most));
            expect(&format!("bytes with {remote}"), expected, show(&seen));
        }
    }
    if most.tx_bytes == 0 && most.rx_bytes == 0 {
        return differences;
    }
    let what = "processes with this id";
    expect(what, "1".to_owned(), known.len().to_string());
    for process in known {
        let identity = &stream.processes[*process];
        differences.extend(named(&subject, identity, truth));
        differences.extend(exited(&subject, process, identity, stream));
    }
    differences
}

/// Checks each interface: the ledger adds up to what the interface itself counted.
///
/// `quiet` names interfaces that carry only the test's traffic: nothing there may be unexplained,
/// except what passed while Flow started or stopped. That is usually nothing; some of the kernel's
/// own packets (of IPv6 groups) come at any time.
pub fn ledgers(stream: &Stream, readings: &Readings, quiet: &[&str]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (name, ledger) in &stream.interfaces {
        let sides = [("ingress", &ledger.ingress), ("egress", &ledger.egress)];
        for (direction, side) in sides {
            let subject = format!("{name} {direction}");
            let sum = sum_of_causes(side);
            if side.frames != sum {
                differences.push(difference(&subject, "sum of causes", side.frames, sum));
            }
            let Some(window) = Window::of(readings, name, direction) else {
                continue;
            };
            if !(window.least..=window.most).contains(&side.frames) {
                let expected = format!("{} to {}", window.least, window.most);
                differences.push(difference(&subject, "frames", expected, side.frames));
            }
            let slack = window.most - window.least;
            if quiet.contains(&name.as_str()) && side.unexplained.abs() > slack {
                let expected = format!("at most {slack}");
                differences.push(difference(
                    &subject,
                    "unexplained",
                    expected,
                    side.unexplained,
                ));
            }
        }
    }
    for name in quiet {
        if !stream.interfaces.contains_key(*name) {
            differences.push(difference(name, "ledger", "a record", "none"));
        }
    }
    differences
}

/// Compares the ledger's `socket` part of `interface` with the sockets' own packets and a link
/// header for each.
///
/// `Exact` is for packets that nobody segments, merges or fragments. Otherwise a buffer of several
/// segments has one header: the bytes lie between those of the processes' calls and those of all
/// packets.
pub fn interface(stream: &Stream, interface: &str, precision: Precision) -> Vec<Difference> {
    let Some(ledger) = stream.interfaces.get(interface) else {
        return vec![difference(interface, "ledger", "a record", "none")];
    };
    let flows = stream.flows.values();
    let flows = flows.filter(|flow| flow.interface.as_deref() == Some(interface));
    let mut app = Moved::default();
    for flow in flows.clone() {
        app += flow.app;
    }
    let sockets = wires(flows);
    let frames = |bytes: fn(&Wire) -> u64, packets: fn(&Wire) -> u64| -> u64 {
        let wire = sockets.values();
        wire.map(|wire| bytes(wire) + LINK_HEADER * packets(wire))
            .sum()
    };
    let egress = frames(|wire| wire.tx_bytes, |wire| wire.tx_packets);
    let ingress = frames(|wire| wire.rx_bytes, |wire| wire.rx_packets);
    let sides = [
        ("egress socket", ledger.egress.socket, app.tx_bytes, egress),
        (
            "ingress socket",
            ledger.ingress.socket,
            app.rx_bytes,
            ingress,
        ),
    ];
    let mut differences = Vec::new();
    for (what, seen, app, frames) in sides {
        let (least, most) = match precision {
            Precision::Unchecked => continue,
            Precision::Bounds => (app, frames),
            Precision::Exact => (frames, frames),
        };
        if seen < least.into() || seen > most.into() {
            let expected = format!("{least} to {most}");
            differences.push(difference(interface, what, expected, seen));
        }
    }
    if app == Moved::default() && precision != Precision::Unchecked {
        differences.push(difference(interface, "flows", "some with bytes", "none"));
    }
    differences
}

/// How precisely an interface's bytes follow from those of the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    Unchecked,
    Bounds,
    Exact,
}

fn of_remote(stream: &Stream, known: &[&Process], remote: &str) -> Moved {
    let mut sum = Moved::default();
    for ((_, process), flow) in &stream.flows {
        let same_process = process.as_ref().is_some_and(|it| known.contains(&it));
        // A TCP connection may use the same port numbers.
        let other_protocol = flow.protocol.as_deref() == Some("tcp");
        if same_process && !other_protocol && flow.remote.as_deref() == Some(remote) {
            sum += flow.app;
        }
    }
    sum
}

fn named(subject: &str, identity: &Identity, truth: &Truth) -> Vec<Difference> {
    let mut differences = Vec::new();
    let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    if identity.exe.as_ref() != Some(&truth.exe) {
        differences.push(difference(subject, "exe", &truth.exe, shown(&identity.exe)));
    }
    let file_name = Path::new(&truth.exe)
        .file_name()
        .map(|name| name.to_string_lossy());
    let is_name =
        |name: &String| Some(name.as_str()) == file_name.as_deref() || *name == truth.comm;
    if !identity.name.as_ref().is_some_and(is_name) {
        differences.push(difference(
            subject,
            "name",
            &truth.comm,
            shown(&identity.name),
        ));
    }
    let expected = truth.argv.join("\0");
    let seen = identity
        .cmdline
        .as_ref()
        .map(|arguments| arguments.join("\0"));
    let same = match &seen {
        Some(seen) if truth.argv_bytes <= ARGUMENT_BYTES => *seen == expected,
        // Truncated, perhaps within a character, which was then replaced.
        Some(seen) => {
            seen.len() >= ARGUMENT_BYTES / 2
                && expected.starts_with(seen.trim_end_matches(['\u{fffd}', '…']))
        }
        None => false,
    };
    if !same {
        let short = |text: &str| text.chars().take(200).collect::<String>();
        let seen = seen.as_deref().map_or_else(|| "none".to_owned(), short);
        differences.push(difference(subject, "cmdline", short(&expected), seen));
    }
    differences
}

fn exited(
    subject: &str,
    process: &Process,
    identity: &Identity,
    stream: &Stream,
) -> Option<Difference> {
    let sum = stream.app_of(&[process]);
    let show = |moved: &Moved| format!("tx {} rx {}", moved.tx_bytes, moved.rx_bytes);
    let seen = identity
        .exit
        .as_ref()
        .map_or_else(|| "none".to_owned(), show);
    let expected = show(&sum);
    (seen != expected).then(|| difference(subject, "process.exit", expected, seen))
}

fn sum_of_causes(side: &Side) -> i128 {
    let Side {
        frames: _,
        socket,
        forwarded,
        kernel,
        packet_socket,
        not_ip,
        offload,
        unexplained,
    } = side;
    socket + forwarded + kernel + packet_socket + not_ip + offload + unexplained
}

/// What an interface counted while Flow ran: at least, and at most.
struct Window {
    least: i128,
    most: i128,
}

impl Window {
    fn of(readings: &Readings, name: &str, direction: &str) -> Option<Self> {
        let at = |counters: &Counters| {
            counters.get(name).map(|counter| match direction {
                "ingress" => counter.ingress,
                _ => counter.egress,
            })
        };
        Some(Self {
            least: at(&readings.before_stop)? - at(&readings.after_start)?,
            most: at(&readings.after_stop)? - at(&readings.before_start)?,
        })
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
