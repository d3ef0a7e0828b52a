//! Tests of `flow` under overload: with buffers and maps that are too small, and a Flow that was
//! stopped. No byte may be missing without a reported cause.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use flow_user::source::kernel::blind_spots::BlindSpot as Blind;
use nix::sys::signal::Signal;

use super::{
    Backend, World, check,
    difference::{Difference, difference},
    expected::{by_pid, sees},
    flow::Flow,
    generator::Generator,
    peer::Peer,
    report, session,
    stream::{Stream, Wire, wires},
    tools, waiting,
    watched::Watched,
};
use crate::{
    guest,
    truth::{Moved, Truth},
};

/// Parallel storms of short connections; more would make more calls wait than a small machine has
/// return probes for.
const STORMS: usize = 3;
/// How long Flow is stopped.
const STOPPED: Duration = Duration::from_secs(5);
/// Bytes of the IP and UDP headers of a datagram.
const HEADERS: u64 = 28;
/// Bytes of a datagram of the mode `crowd`.
const DATAGRAM: u64 = 500;
/// Most bytes of a call: streams request different amounts, so that they differ.
const CALL: u64 = 600;
/// The programs that assign cookies to sockets.
const COOKIE_GIVERS: &str = "sock_create,sock_release,post_bind4,post_bind6,connect4,connect6,connection_made,\
    cgroup_ingress,cgroup_egress,sendmsg4,sendmsg6,recvmsg4,recvmsg6";

/// The smallest ring buffer, with many processes and connections: Flow finds by other means what
/// had no room.
pub fn ring(world: &World) -> Result<()> {
    let connections = world.scaled(10_000);
    let peer = session::new_peer(world)?;
    let mut watched = Watched::start(world, "ring", &["--ring-size", "16K"])?;
    let flow = &mut watched.flow;
    let (far, address) = server(world, "ring", &peer)?;
    if world.is_slow() {
        // Flow keeps up with such a slow machine.
        flow.signal(Signal::SIGSTOP)?;
    }
    let start = |mode: &str, count: u64| {
        let count = count.to_string();
        near(
            world,
            "ring",
            mode,
            address,
            &["--bytes", "2000", "--count", &count],
        )
    };
    let mut short = start("short-processes", world.scaled(200))?;
    let mut many = start("tcp-connections", connections)?;
    let mut truths = many.join()?;
    let client = truths.first().context("no truth of the connections")?.pid;
    truths.extend(short.join()?);
    // The process that starts the others moves nothing itself.
    truths.retain(|truth| truth.moved != Moved::default());
    truths.extend(far.finish()?);
    if world.is_slow() {
        flow.signal(Signal::SIGCONT)?;
    }
    // Flow recovers losses while it runs, not only at its end.
    let made_up = waiting::until(world.patience(), "flow to report what was lost", || {
        let stream = Stream::parse(&flow.output()?);
        let mut counts = connections_of(&stream, client).into_iter();
        let is_whole = counts.all(|(_, count)| count as u64 == connections);
        Ok((is_whole && exits(&stream, &truths).is_empty()).then_some(()))
    });
    let (stream, readings) = watched.end()?;
    let mut differences = stream.faults.clone();
    differences.extend(check::ledgers(&stream, &readings, &[&peer.link]));
    differences.extend(exits(&stream, &truths));
    for (what, count) in connections_of(&stream, client) {
        if count as u64 != connections {
            differences.push(difference("connections", what, connections, count));
        }
    }
    differences.extend(causes(&stream, &["ring_traffic", "ring_process"]));
    eprintln!("ring: lost {}", lost_in_words(&stream));
    report::expect_none(&differences)?;
    made_up
}

/// The maps of sockets and flows are too small.
pub fn sockets(world: &World) -> Result<()> {
    let Crowd {
        stream,
        truths,
        peer,
        mut differences,
    } = crowd(world, "sockets", 150, &["--max-sockets", "64"])?;
    differences.extend(exits_or_sums(world, &stream, &truths));
    differences.extend(causes(&stream, &["app_full", "socket_full"]));
    let packets = |moved: &Moved| Wire {
        tx_bytes: moved.tx_bytes + HEADERS * moved.tx_calls,
        rx_bytes: moved.rx_bytes + HEADERS * moved.rx_calls,
        tx_packets: moved.tx_calls,
        rx_packets: moved.rx_calls,
    };
    let truth = packets(&sum(truths.iter().map(|truth| truth.moved)));
    let reported = wire_of(&stream, &truths, peer.far4);
    differences.extend(accounted(
        "wire tx",
        truth.tx_bytes,
        reported.tx_bytes,
        lost(&stream, "socket_full_tx"),
    ));
    differences.extend(accounted(
        "wire rx",
        truth.rx_bytes,
        reported.rx_bytes,
        lost(&stream, "socket_full_rx"),
    ));
    // Traffic of the interface belongs to sockets of this side, known or not; each packet has a
    // link header.
    let near = truths.iter().filter(|truth| truth.mode == "crowd");
    let near = packets(&sum(near.map(|truth| truth.moved)));
    let ledger = stream.interfaces.get(&peer.link);
    for (what, bytes, packets, seen) in [
        (
            "egress socket",
            near.tx_bytes,
            near.tx_packets,
            ledger.map(|ledger| ledger.egress.socket),
        ),
        (
            "ingress socket",
            near.rx_bytes,
            near.rx_packets,
            ledger.map(|ledger| ledger.ingress.socket),
        ),
    ] {
        let frames = i128::from(bytes + check::LINK_HEADER * packets);
        if seen != Some(frames) {
            differences.push(difference(&peer.link, what, frames, format!("{seen:?}")));
        }
    }
    eprintln!("sockets: lost {}", lost_in_words(&stream));
    report::expect_none(&differences)
}

/// The map of flows is too small, and so is `OVERFLOW`.
pub fn processes(world: &World) -> Result<()> {
    let small = ["--max-sockets", "16", "--max-processes", "16"];
    let Crowd {
        stream,
        truths,
        mut differences,
        ..
    } = crowd(world, "processes", 60, &small)?;
    differences.extend(summed(&stream, &truths, unreturned(world, &stream)));
    differences.extend(causes(
        &stream,
        &["app_full", "overflow_full_tx", "overflow_full_rx"],
    ));
    eprintln!("processes: lost {}", lost_in_words(&stream));
    report::expect_none(&differences)
}

/// The maps `CALLS`, `SLOT_THREADS`, `INTERFACES` and `LINKS` are too small.
pub fn small_maps(world: &World) -> Result<()> {
    let peer = session::new_peer(world)?;
    let flow = Flow::events_changed(world, "notes", |command| {
        command.env(
            "FLOW_MAP_ENTRIES",
            "CALLS=16,SLOT_THREADS=1,INTERFACES=2,LINKS=1",
        );
    })?;
    let truths = talk(world, "notes", &peer, "addressing-crowd", 100)?;
    let stream = ended(flow)?;
    let mut differences = stream.faults.clone();
    let backend = session::used(&stream, world);
    let missed = lost(&stream, "call_full");
    if backend == Backend::Kprobe {
        // Without its note, a call is not counted at all.
        let total = |moved: Moved| moved.tx_bytes + moved.rx_bytes;
        let truth = total(sum(truths.iter().map(|truth| truth.moved)));
        let reported = truths
            .iter()
            .filter_map(|truth| exit_of(&stream, truth.pid));
        let reported = total(sum(reported));
        let lost = missed * DATAGRAM;
        let unreturned = unreturned(world, &stream).min(truth.saturating_sub(reported + lost));
        differences.extend(accounted("app", truth, reported, lost + unreturned));
    } else {
        // Without its note, only the peer of a datagram is missing.
        differences.extend(exits(&stream, &truths));
    }
    if backend != Backend::Fexit {
        differences.extend(causes(&stream, &["call_full"]));
    }
    let classified = stream
        .interfaces
        .values()
        .filter(|ledger| ledger.classified);
    if classified.count() != 1 || stream.interfaces.len() < 2 {
        let seen = format!("{:?}", stream.interfaces);
        differences.push(difference("interfaces", "classified", "one of them", seen));
    }
    eprintln!("small_maps: lost {}", lost_in_words(&stream));
    report::expect_none(&differences)?;

    // Without the programs that assign cookies each socket has an alias, and new ones replace old
    // ones.
    let flow = Flow::events_changed(world, "aliases", |command| {
        command.env("FLOW_REFUSE", COOKIE_GIVERS);
        command.env("FLOW_MAP_ENTRIES", "ALIASES=16");
    })?;
    let truths = talk(world, "aliases", &peer, "tcp-threads", 64)?;
    let stream = ended(flow)?;
    let mut differences = stream.faults.clone();
    differences.extend(exits_or_sums(world, &stream, &truths));
    report::expect_none(&differences)
}

/// What a mode and its far end moved.
fn talk(world: &World, name: &str, peer: &Peer, mode: &str, count: u64) -> Result<Vec<Truth>> {
    let (far, address) = server(world, name, peer)?;
    let (bytes, count) = (DATAGRAM.to_string(), count.to_string());
    let arguments = ["--bytes", &bytes, "--count", &count];
    let mut truths = near(world, name, mode, address, &arguments)?.join()?;
    truths.extend(far.finish()?);
    Ok(truths)
}

/// Flow does not get to run for a while, with as many short connections as this machine can make.
pub fn stopped(world: &World) -> Result<()> {
    let mut watched = Watched::start(world, "stopped", &[])?;
    let flow = &mut watched.flow;
    let started = Instant::now();
    let storm = Generator::start(world, "stopped.near", "storm", &[], None)?;
    flow.signal(Signal::SIGSTOP)?;
    thread::sleep(STOPPED);
    flow.signal(Signal::SIGCONT)?;
    let truths = storm.finish()?;
    let took = started.elapsed();
    let (stream, readings) = watched.end()?;
    let mut differences = stream.faults.clone();
    // Other programs use this interface, too.
    let quiet: &[&str] = if guest::is_here() { &["lo"] } else { &[] };
    differences.extend(check::ledgers(&stream, &readings, quiet));
    differences.extend(exits(&stream, &truths));
    // Each connection is one call each way.
    let connections = truths
        .iter()
        .map(|truth| truth.moved.tx_calls)
        .max()
        .unwrap_or(0);
    eprintln!(
        "stopped: {connections} connections, {:.0} a second; lost {}",
        connections as f64 / took.as_secs_f64(),
        lost_in_words(&stream)
    );
    if connections > 10_000 {
        differences.extend(causes(&stream, &["ring_traffic"]));
    }
    report::expect_none(&differences)
}

/// Connections that change their states in interrupts, while the program that reports state changes
/// runs: a qdisc with a timer passes on the packets. The kernel does not run that program again
/// meanwhile; no byte and no connection may be missing. (Their ends may be: see
/// docs/architecture.md, "Socket lifecycle".)
pub fn interrupts(world: &World) -> Result<()> {
    /// How often the kernel skipped the program.
    const LEFT_OUT: u64 = 10;
    /// The least number of flows that a slow machine reports.
    const CONNECTIONS: usize = 200;
    let peer = session::new_peer(world)?;
    let namespace = &peer.namespace;
    let timer = "tc qdisc add dev lo root tbf rate 10mbit burst 1600 limit 1000000";
    tools::run(Some(namespace), timer)?;
    let flow = Flow::events(world, "interrupts")?;
    let storms = (0..STORMS).map(|number| {
        let name = format!("interrupts.{number}");
        Generator::start(world, &name, "storm", &[], Some(&peer))
    });
    let storms = storms.collect::<Result<Vec<_>>>()?;
    // An emulated processor hardly ever takes an interrupt inside of a program.
    let waited = if world.is_slow() {
        waiting::until(world.patience(), "flow to report connections", || {
            let stream = Stream::parse(&flow.output()?);
            Ok((stream.flows.len() >= CONNECTIONS).then_some(()))
        })
    } else {
        waiting::until(world.patience(), "a program to be left out", || {
            Ok((left_out(flow.pid())? >= LEFT_OUT).then_some(()))
        })
    };
    let truths = storms.into_iter().map(Generator::finish);
    let truths = truths.collect::<Result<Vec<_>>>()?.concat();
    waited?;
    let stream = ended(flow)?;
    let mut differences = check::stream(&stream, false);
    differences.extend(exits(&stream, &truths));
    for truth in &truths {
        // Each connection is one call each way. Before it is accepted it may be reported for the
        // listener's owner.
        let own = stream.flows.iter().filter(|((_, process), flow)| {
            process.as_ref().is_some_and(|(id, _)| *id == truth.pid) && flow.app != Moved::default()
        });
        let (expected, reported) = (truth.moved.tx_calls, own.count());
        if reported as u64 != expected {
            differences.push(difference("connections", "reported", expected, reported));
        }
    }
    report::expect_none(&differences)
}

/// How often the kernel skipped raw tracepoint programs of a process because they were running.
fn left_out(pid: u32) -> Result<u64> {
    const RAW_TRACEPOINT: &str = "17";
    let mut sum = 0;
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed meanwhile.
        let Ok(text) = fs::read_to_string(file?.path()) else {
            continue;
        };
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find_map(|(key, value)| (key == name).then(|| value.trim()))
        };
        if field("prog_type") == Some(RAW_TRACEPOINT)
            && let Some(misses) = field("recursion_misses")
        {
            sum += misses.parse::<u64>()?;
        }
    }
    Ok(sum)
}

/// Flow's reports of processes, what these and the far end moved, and the far end's address.
struct Crowd {
    stream: Stream,
    truths: Vec<Truth>,
    peer: Peer,
    /// Differences that no loss excuses.
    differences: Vec<Difference>,
}

/// Runs processes that all have a socket at once, with a Flow with these arguments.
fn crowd(world: &World, name: &str, count: u64, arguments: &[&str]) -> Result<Crowd> {
    let peer = session::new_peer(world)?;
    let watched = Watched::start(world, name, arguments)?;
    let truths = talk(world, name, &peer, "crowd", count)?;
    let (stream, readings) = watched.end()?;
    let mut differences = stream.faults.clone();
    differences.extend(check::ledgers(&stream, &readings, &[&peer.link]));
    Ok(Crowd {
        stream,
        truths,
        peer,
        differences,
    })
}

/// Starts a far end that serves.
pub fn server(world: &World, name: &str, peer: &Peer) -> Result<(Generator, SocketAddr)> {
    let at = [
        "--listen".to_owned(),
        SocketAddr::new(peer.far4, 0).to_string(),
    ];
    let mut far = Generator::start(world, &format!("{name}.far"), "serve", &at, Some(peer))?;
    let address = far.listening()?;
    Ok((far, address))
}

/// Starts a near end.
pub fn near(
    world: &World,
    name: &str,
    mode: &str,
    peer: SocketAddr,
    more: &[&str],
) -> Result<Generator> {
    let peer = ["--peer".to_owned(), peer.to_string()];
    let more = more.iter().map(|argument| (*argument).to_owned());
    let arguments: Vec<_> = peer.into_iter().chain(more).collect();
    Generator::start(world, &format!("{name}.{mode}"), mode, &arguments, None)
}

/// Ends Flow and returns its reports.
pub fn ended(flow: Flow) -> Result<Stream> {
    let ended = flow.stop(Signal::SIGINT)?;
    ended.expect_code(130)?;
    Ok(Stream::parse(&ended.stdout))
}

/// Checks that each process ended with all its bytes, whether or not their flows are known.
pub fn exits(stream: &Stream, truths: &[Truth]) -> Vec<Difference> {
    let shown = |moved: &Moved| format!("tx {} rx {}", moved.tx_bytes, moved.rx_bytes);
    let mut differences = Vec::new();
    for (pid, truths) in by_pid(truths) {
        let known = stream.processes_of(pid);
        for (index, truth) in truths.iter().enumerate() {
            let exit = known
                .get(index)
                .and_then(|process| stream.processes[*process].exit);
            let seen = exit.map_or("none".to_owned(), |exit| shown(&exit));
            let expected = shown(&truth.moved);
            if seen != expected {
                let subject = format!("{} pid {pid}", truth.mode);
                differences.push(difference(subject, "process.exit", expected, seen));
            }
        }
    }
    differences
}

/// As [`exits`]; if returns were missed, the sums are right except for these.
fn exits_or_sums(world: &World, stream: &Stream, truths: &[Truth]) -> Vec<Difference> {
    match unreturned(world, stream) {
        0 => exits(stream, truths),
        missed => summed(stream, truths, missed),
    }
}

/// Bytes in the `process.exit` record of a process.
fn exit_of(stream: &Stream, pid: u32) -> Option<Moved> {
    let known = stream.processes_of(pid);
    known
        .iter()
        .find_map(|process| stream.processes[*process].exit)
}

/// TCP flows of a process: all, and those reported from beginning to end.
fn connections_of(stream: &Stream, pid: u32) -> [(&'static str, usize); 2] {
    let own = stream.flows.iter().filter(|((_, process), flow)| {
        process.as_ref().is_some_and(|(id, _)| *id == pid)
            && flow.protocol.as_deref() == Some("tcp")
    });
    let whole = own.clone().filter(|(_, flow)| flow.opened && flow.closed);
    [
        ("reported", own.count()),
        ("opened and closed", whole.count()),
    ]
}

/// Packets of the sockets of these processes, and of sockets that use an address.
fn wire_of(stream: &Stream, truths: &[Truth], ip: IpAddr) -> Wire {
    let pids: HashSet<u32> = truths.iter().map(|truth| truth.pid).collect();
    let has = |endpoint: &Option<String>| {
        let endpoint = endpoint
            .as_ref()
            .and_then(|text| text.parse::<SocketAddr>().ok());
        endpoint.is_some_and(|endpoint| endpoint.ip() == ip)
    };
    let flows = stream.flows.iter().filter_map(|((_, process), flow)| {
        // If the calls of a socket had no room, its peer is not known, and its owner may not be
        // either.
        let is_theirs = process.as_ref().is_some_and(|(pid, _)| pids.contains(pid));
        (is_theirs || has(&flow.local) || has(&flow.remote)).then_some(flow)
    });
    let mut sum = Wire::default();
    for wire in wires(flows).values() {
        sum.tx_bytes += wire.tx_bytes;
        sum.rx_bytes += wire.rx_bytes;
        sum.tx_packets += wire.tx_packets;
        sum.rx_packets += wire.rx_packets;
    }
    sum
}

/// Checks that reported bytes and those without room are all bytes that processes moved, except for
/// these received bytes at most.
fn summed(stream: &Stream, truths: &[Truth], unreturned: u64) -> Vec<Difference> {
    let truth = sum(truths.iter().map(|truth| truth.moved));
    let reported = sum(truths.iter().filter_map(|truth| exit_of(stream, truth.pid)));
    let received = reported.rx_bytes + lost(stream, "overflow_full_rx");
    let differences = [
        accounted(
            "app tx",
            truth.tx_bytes,
            reported.tx_bytes,
            lost(stream, "overflow_full_tx"),
        ),
        accounted(
            "app rx",
            truth.rx_bytes,
            reported.rx_bytes,
            lost(stream, "overflow_full_rx")
                + unreturned.min(truth.rx_bytes.saturating_sub(received)),
        ),
    ];
    differences.into_iter().flatten().collect()
}

/// Most bytes of receives whose return was missed, if the backend misses some while many wait.
fn unreturned(world: &World, stream: &Stream) -> u64 {
    if sees(session::used(stream, world), Blind::ReturnProbesExhausted) {
        return 0;
    }
    lost(stream, "return_missed") * CALL
}

/// The number lost by a cause.
fn lost(stream: &Stream, cause: &str) -> u64 {
    let records = stream.lost.iter().filter(|record| record["cause"] == cause);
    let counts = records.filter_map(|record| record["count"].as_u64());
    counts.max().unwrap_or(0)
}

fn lost_in_words(stream: &Stream) -> String {
    let mut latest = HashMap::new();
    for record in &stream.lost {
        latest.insert(record["cause"].to_string(), record["count"].to_string());
    }
    let mut words: Vec<_> = latest
        .iter()
        .map(|(cause, count)| format!("{cause} {count}"))
        .collect();
    words.sort_unstable();
    words.join(", ")
}

/// Checks that these causes were reported: otherwise nothing was too small.
fn causes(stream: &Stream, expected: &[&str]) -> Vec<Difference> {
    let missing = expected.iter().filter(|cause| lost(stream, cause) == 0);
    missing
        .map(|cause| difference("lost", cause, "some", "none"))
        .collect()
}

/// Checks that reported and lost bytes add up. On a machine with other traffic some of the lost
/// ones belong to that.
fn accounted(what: &str, truth: u64, reported: u64, lost: u64) -> Option<Difference> {
    let all = reported + lost;
    let holds = reported <= truth
        && if guest::is_here() {
            all == truth
        } else {
            all >= truth
        };
    let seen = format!("{reported} reported and {lost} lost");
    (!holds).then(|| difference("all", what, truth, seen))
}

fn sum(moved: impl Iterator<Item = Moved>) -> Moved {
    moved.fold(Moved::default(), |mut sum, moved| {
        sum += moved;
        sum
    })
}
