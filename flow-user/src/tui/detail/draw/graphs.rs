//! Graphs of a detail over the selected span: one for each direction, and for a connection one of
//! the round trip time and one of the segments that were sent again.

use std::time::Duration;

use ratatui::{buffer::Buffer, layout::Rect};

use crate::{
    event::{AppTotals, Bytes, InterfaceSide, TcpFacts, WireTotals},
    model::sums::SocketSums,
    query::{
        graph::{braille, spread},
        history::Sample,
        human,
    },
    sink::text::width,
    tui::{
        detail::{Detail, Of, Sums, facts},
        line::{Line, split},
        state::State,
        theme::Role,
    },
};

/// Columns of the label before a graph, if it is not longer.
const LABEL: u16 = 24;

/// A graph with its labels.
struct Graph {
    role: Role,
    labels: Labels,
    of: fn(&Sample) -> f32,
    /// Further facts, the most important first.
    more: Vec<String>,
}

/// The labels of a graph, given its highest value.
type Labels = Box<dyn Fn(f64) -> Label>;

struct Label {
    /// What is beside a graph of one line.
    alone: String,
    /// What is beside the first line of a higher one, and beside the second.
    above: String,
    below: String,
}

/// One after the other, each in its place.
pub(super) fn draw(state: &State, detail: &Detail, places: &[Rect], buffer: &mut Buffer) {
    let history = state.shown_history();
    let track = match &detail.of {
        Of::Process(process) => history.process(process.id),
        Of::Flow(flow) => history.flow(flow.key),
        Of::Interface(interface) => history.interface(interface.ifindex),
        Of::Group(members) => history.group(members),
    };
    let samples = track
        .map(|track| track.span(state.span))
        .unwrap_or_default();
    let graphs: Vec<Drawn> = graphs(state, detail)
        .into_iter()
        .map(|graph| Drawn::new(graph, &samples))
        .collect();
    // All begin in the same column, and no label is cut.
    let is_high = places.first().is_some_and(|place| place.height > 1);
    let widest = graphs.iter().map(|graph| graph.columns(is_high)).max();
    let widest = u16::try_from(widest.unwrap_or(0)).unwrap_or(u16::MAX);
    let column = LABEL.max(widest.saturating_add(1));
    for (place, graph) in places.iter().zip(&graphs) {
        graph.draw(state, column, *place, buffer);
    }
}

fn graphs(state: &State, detail: &Detail) -> Vec<Graph> {
    let Sums { app, rate, .. } = detail.sums;
    let [received_more, sent_more] = beside(state, detail);
    let received = Graph {
        role: Role::Rx,
        labels: moved(state, "▼", rate.rx, app.rx_bytes),
        of: |sample| sample.rx,
        more: received_more,
    };
    let mut sent = Graph {
        role: Role::Tx,
        labels: moved(state, "▲", rate.tx, app.tx_bytes),
        of: |sample| sample.tx,
        more: sent_more,
    };
    let retransmits = detail.sums.sockets.retransmits;
    let retransmits = retransmits.map(|packets| format!("retransmitted {packets}"));
    let tcp = match &detail.of {
        Of::Flow(flow) => flow.tcp.filter(|_| detail.of.has_round_trips()),
        _ => None,
    };
    let Some(tcp) = tcp else {
        // More important than the number of packets.
        let at = sent.more.len().min(1);
        sent.more.splice(at..at, retransmits);
        return vec![received, sent];
    };
    let again = again(state, detail, retransmits);
    vec![received, sent, round_trips(&tcp), again]
}

fn round_trips(tcp: &TcpFacts) -> Graph {
    let now = format!(" rtt {}", facts::round_trip(tcp.rtt));
    let least = tcp
        .min_rtt
        .map(|least| format!("min {}", facts::round_trip(Some(least))));
    Graph {
        role: Role::Accent,
        labels: Box::new(move |top| {
            let top = Duration::try_from_secs_f64(top).unwrap_or_default();
            let most = (!top.is_zero()).then(|| format!("max {}", human::milliseconds(top)));
            let range: Vec<_> = least.clone().into_iter().chain(most).collect();
            Label {
                alone: format!("{now} {}", least.as_deref().unwrap_or_default()),
                above: now.clone(),
                below: format!(" {}", range.join("  ")),
            }
        }),
        of: |sample| sample.rtt,
        more: Vec::new(),
    }
}

/// Segments that were sent again in each step, and how many of all.
fn again(state: &State, detail: &Detail, total: Option<String>) -> Graph {
    let step = state.span.step();
    let SocketSums {
        retransmits, wire, ..
    } = detail.sums.sockets;
    let again = retransmits.unwrap_or(0);
    let share = human::share(again, wire.tx_packets);
    let share = (wire.tx_packets > 0).then(|| format!("{share} of packets"));
    Graph {
        role: Role::Alarm,
        labels: Box::new(move |top| {
            let peak = format!("peak {} in {step}", human::short_count(top as usize));
            Label {
                alone: format!(" retrans {peak}"),
                above: " retransmits".to_owned(),
                below: format!(" {peak}"),
            }
        }),
        of: |sample| sample.again,
        more: total.into_iter().chain(share).collect(),
    }
}

/// Facts beside the graphs: of an interface packets, and how much of its speed is used; else what
/// the wire carried.
fn beside(state: &State, detail: &Detail) -> [Vec<String>; 2] {
    let Of::Interface(interface) = &detail.of else {
        return [
            wire(
                state,
                detail,
                |wire| (wire.rx_bytes, wire.rx_packets),
                |app| app.rx_bytes,
            ),
            wire(
                state,
                detail,
                |wire| (wire.tx_bytes, wire.tx_packets),
                |app| app.tx_bytes,
            ),
        ];
    };
    let speed = detail.link.as_ref().and_then(|link| link.speed);
    let rates = detail.packets;
    let facts = |rate: f64, packets: Option<f64>, side: &InterfaceSide| {
        let packets =
            packets.map(|each| format!("{} packets/s", human::short_count(each.round() as usize)));
        let used = speed.map(|speed| human::percent(rate * 8.0 / speed as f64) + " of its speed");
        let whole = human::short_count_of(side.packets, "packet", "packets");
        let whole = format!("{whole} since it was created");
        used.into_iter().chain(packets).chain([whole]).collect()
    };
    let rate = detail.sums.rate;
    [
        facts(rate.rx, rates.map(|it| it.rx), &interface.ingress),
        facts(rate.tx, rates.map(|it| it.tx), &interface.egress),
    ]
}

/// Wire bytes of the sockets, their overhead over app bytes, and the number of packets.
fn wire(
    state: &State,
    detail: &Detail,
    wire_of: fn(&WireTotals) -> (Bytes, u64),
    app_of: fn(&AppTotals) -> Bytes,
) -> Vec<String> {
    let sockets = &detail.sums.sockets;
    if sockets.counted == 0 {
        return Vec::new();
    }
    let what = match &detail.of {
        // A socket of datagrams may serve other remotes too.
        Of::Group(_) => "TCP wire",
        Of::Flow(_) if sockets.app != detail.sums.app => "socket's wire",
        _ => "wire",
    };
    let (Bytes(bytes), packets) = wire_of(&sockets.wire);
    let more = human::overhead(app_of(&sockets.app).0, bytes);
    let more = more.map_or_else(String::new, |more| format!(" ({more})"));
    vec![
        format!("{what} {}{more}", state.units.bytes(bytes)),
        human::short_count_of(packets, "packet", "packets"),
    ]
}

fn moved(state: &State, sign: &str, rate: f64, total: Bytes) -> Labels {
    let units = state.units;
    let now = format!(
        " {sign} {:>11} {:>8}",
        units.rate(rate),
        units.bytes(total.0)
    );
    Box::new(move |top| Label {
        alone: now.clone(),
        above: now.clone(),
        below: format!(" peak {:>8}", units.rate(top)),
    })
}

/// A graph with its numbers.
struct Drawn {
    graph: Graph,
    numbers: Vec<f64>,
    top: f64,
    label: Label,
}

impl Drawn {
    fn new(graph: Graph, samples: &[Sample]) -> Self {
        let numbers = samples.iter().map(|sample| (graph.of)(sample).into());
        let numbers: Vec<f64> = numbers.collect();
        let top = numbers.iter().fold(0.0, |most: f64, it| most.max(*it));
        Self {
            label: (graph.labels)(top),
            numbers,
            top,
            graph,
        }
    }

    /// Labels of the lines, from the top down.
    fn labels(&self, is_high: bool) -> [&str; 2] {
        match is_high {
            true => [&self.label.above, &self.label.below],
            false => [&self.label.alone, ""],
        }
    }

    /// Columns of its labels.
    fn columns(&self, is_high: bool) -> usize {
        let labels = self.labels(is_high);
        labels.into_iter().map(width).max().unwrap_or(0)
    }

    fn draw(&self, state: &State, column: u16, area: Rect, buffer: &mut Buffer) {
        if area.is_empty() {
            return;
        }
        let more = match area.width {
            ..80 => 22,
            80..110 => 34,
            _ => 52,
        };
        let (left, right) = split(area, area.width.saturating_sub(more));
        let room = usize::from(left.width.saturating_sub(column));
        let columns = spread(&self.numbers, state.span.steps(), room * 2);
        let lines = braille(&columns, room, area.height.into(), self.top);
        let labels = self.labels(area.height > 1);
        let roles = [self.graph.role, Role::Dim];
        for ((y, drawn), (text, role)) in (area.y..area.bottom())
            .zip(&lines)
            .zip(labels.into_iter().zip(roles))
        {
            let mut line = Line::new(Rect { y, ..left }, state.theme);
            line.put(text, role);
            line.go_to(column);
            line.put(drawn, self.graph.role);
            line.draw(buffer);
        }
        let mut facts = self.graph.more.iter().peekable();
        for y in right.y..right.bottom() {
            let mut line = Line::new(Rect { y, ..right }, state.theme);
            line.skip(1);
            while let Some(text) = facts.next_if(|text| width(text) < line.room()) {
                line.put(text, Role::Plain);
                line.skip(2);
            }
            line.draw(buffer);
        }
    }
}
