//! Throughput of the same senders with and without Flow, alternately.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, bail};

use super::{
    Bench, Output, Process, Section, Verdict,
    figures::{Table, median, quantile, si},
    load::Done,
};
use crate::{live::peer::Peer, truth::Line};

/// A far end that receives everything, in the peer's namespace.
#[derive(Debug)]
pub struct Sink {
    process: Process,
    address: String,
}

impl Sink {
    /// `ask`: whether it requests the sender of each datagram.
    pub fn start(bench: &Bench, peer: &Peer, ask: bool) -> Result<Self> {
        let listen = SocketAddr::new(peer.far4, 0).to_string();
        let mut arguments = vec!["sink", "--listen", listen.as_str()];
        arguments.extend(ask.then_some("--ask"));
        let mut process = bench.load(&arguments, Some(peer))?;
        let address = listening(bench, &mut process)?.to_string();
        Ok(Self { process, address })
    }

    /// Sends to it for so long. Returns what was sent, and what it had received in the end.
    pub fn send(self, bench: &Bench, load: &[&str], time: Duration) -> Result<(Done, Done)> {
        let seconds = time.as_secs_f64().to_string();
        let mut arguments = load.to_vec();
        arguments.extend(["--peer", &self.address, "--seconds", &seconds]);
        let sent: Done = bench.load(&arguments, None)?.json(bench)?;
        let received = self.process.finish(bench)?;
        Ok((sent, received))
    }
}

/// The address at which a process reports to listen.
pub fn listening(bench: &Bench, process: &mut Process) -> Result<SocketAddr> {
    match process.json(bench)? {
        Line::Listening { address } => Ok(address),
        other => bail!("an address was expected, not {other:?}"),
    }
}

/// Any port of an address.
pub fn any_port(ip: IpAddr) -> String {
    SocketAddr::new(ip, 0).to_string()
}

struct Kind {
    title: &'static str,
    load: &'static [&'static str],
    unit: &'static str,
    /// Computes the figure in `unit`, before division by time, from what was sent and received.
    figure: fn(&Done, &Done) -> u64,
    budget: Option<f64>,
}

const KINDS: [Kind; 3] = [
    Kind {
        title: "TCP, 1 stream",
        load: &["tcp"],
        unit: "B/s",
        figure: |sent, _| sent.bytes,
        budget: Some(0.98),
    },
    Kind {
        title: "TCP, 64 streams",
        load: &["tcp", "--streams", "64"],
        unit: "B/s",
        figure: |sent, _| sent.bytes,
        budget: Some(0.98),
    },
    Kind {
        title: "UDP, 64 B, received",
        load: &["udp"],
        unit: "packets/s",
        figure: |_, received| received.calls,
        budget: None,
    },
];

pub fn measure(bench: &Bench) -> Result<Section> {
    let pairs = bench.count(11, 3);
    let time = bench.seconds(1.5, 1.0);
    let peer = bench.peer()?;
    let mut table = Table::new(&["", "off", "on", "on / off", "middle half", "all"]);
    let mut section = Section::default();
    for kind in &KINDS {
        eprintln!("    {}", kind.title);
        let (mut off, mut on) = (Vec::new(), Vec::new());
        // The very first run is slower: the machine wakes up.
        once(bench, &peer, kind, time.min(Duration::from_millis(500)))?;
        for pair in 0..pairs {
            // The order alternates from pair to pair, so that a drift favours neither side.
            for with_flow in [pair % 2 == 0, pair % 2 != 0] {
                if with_flow {
                    let flow = bench.flow_attached(Output::File)?;
                    on.push(once(bench, &peer, kind, time)?);
                    flow.interrupt()?;
                } else {
                    off.push(once(bench, &peer, kind, time)?);
                }
            }
        }
        let ratios: Vec<f64> = on.iter().zip(&off).map(|(on, off)| on / off).collect();
        let ratio = median(&ratios);
        let span = |from, to| {
            let (low, high) = (quantile(&ratios, from), quantile(&ratios, to));
            format!("{low:.3} to {high:.3}")
        };
        table.row(vec![
            kind.title.to_owned(),
            format!("{}{}", si(median(&off)), kind.unit),
            format!("{}{}", si(median(&on)), kind.unit),
            format!("{ratio:.3}"),
            span(0.25, 0.75),
            span(0.0, 1.0),
        ]);
        if let Some(budget) = kind.budget {
            let what = format!("throughput with Flow / without, {}", kind.title);
            section
                .verdicts
                .push(Verdict::at_least(&what, ratio, budget));
        }
    }
    section.tables.push(table);
    section.notes.push(format!(
        "{pairs} pairs of {:.1} s each, turn by turn, over a veth pair to another network namespace; the ratio is the median \
         of the pairs' ratios. Sender, receiver and Flow share the machine's cores.",
        time.as_secs_f64()
    ));
    Ok(section)
}

/// Throughput for each second.
fn once(bench: &Bench, peer: &Peer, kind: &Kind, time: Duration) -> Result<f64> {
    let sink = Sink::start(bench, peer, false)?;
    let (sent, received) = sink.send(bench, kind.load, time)?;
    Ok((kind.figure)(&sent, &received) as f64 / sent.seconds)
}
