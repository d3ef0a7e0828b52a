//! Graphs of a detail over the selected span: one for each direction, and one of the round trip
//! time.

use std::time::Duration;

use ratatui::{buffer::Buffer, layout::Rect};

use crate::{
    event::{AppTotals, Bytes, WireTotals},
    model::snapshot::Rate,
    query::{
        graph::{braille, spread},
        history::{Sample, Track},
        human,
    },
    sink::text::width,
    tui::{
        detail::{Detail, Of, facts},
        line::{Line, split},
        state::State,
        theme::Role,
    },
};

/// Columns of the label before a graph.
const LABEL: u16 = 24;

type Labels = Box<dyn Fn(f64) -> [String; 2]>;

/// A graph with its labels.
struct Graph {
    role: Role,
    /// What is beside a graph of one line.
    label: String,
    /// What is beside a higher one, given the highest value of the graph.
    labels: Labels,
    of: fn(&Sample) -> f32,
    /// Further facts, the most important first.
    more: Vec<String>,
}

/// One after the other, each in its place.
pub(super) fn draw(state: &State, detail: &Detail, places: &[Rect], buffer: &mut Buffer) {
    let history = state.shown_history();
    let track = match &detail.of {
        Of::Process(process) => history.process(process.id),
        Of::Flow(flow) => history.flow(flow.key),
    };
    for (place, graph) in places.iter().zip(graphs(state, detail)) {
        one(state, &graph, track, *place, buffer);
    }
}

fn graphs(state: &State, detail: &Detail) -> Vec<Graph> {
    let (rate, app, tcp) = match &detail.of {
        Of::Process(process) => (process.rate, process.totals, None),
        Of::Flow(flow) => (flow.rate, flow.app, flow.tcp),
    };
    // A row that is no longer listed moves nothing, whatever its last rate was.
    let rate = if detail.listed { rate } else { Rate::default() };
    let units = state.units;
    let labelled = |label: String| {
        let first = label.clone();
        let labels: Labels =
            Box::new(move |top| [first.clone(), format!(" peak {:>8}", units.rate(top))]);
        (label, labels)
    };
    let (label, labels) = labelled(moved(state, "▼", rate.rx, app.rx_bytes));
    let received = Graph {
        role: Role::Rx,
        label,
        labels,
        of: |sample| sample.rx,
        more: wire(
            state,
            detail,
            |wire| (wire.rx_bytes, wire.rx_packets),
            |app| app.rx_bytes,
        ),
    };
    let (label, labels) = labelled(moved(state, "▲", rate.tx, app.tx_bytes));
    let mut sent = Graph {
        role: Role::Tx,
        label,
        labels,
        of: |sample| sample.tx,
        more: wire(
            state,
            detail,
            |wire| (wire.tx_bytes, wire.tx_packets),
            |app| app.tx_bytes,
        ),
    };
    let retransmits = detail.sockets.retransmits;
    let retransmits = retransmits.map(|packets| format!("retransmitted {packets}"));
    let Some(tcp) = tcp.filter(|_| detail.of.has_round_trips()) else {
        // More important than the number of packets.
        let at = sent.more.len().min(1);
        sent.more.splice(at..at, retransmits);
        return vec![received, sent];
    };
    let [now, least] = [tcp.rtt, tcp.min_rtt].map(facts::round_trip);
    let (now, least) = (format!(" rtt {now}"), format!("min {least}"));
    let round_trip = Graph {
        role: Role::Accent,
        label: format!("{now} {least}"),
        labels: Box::new(move |top| {
            let top = Duration::try_from_secs_f64(top).unwrap_or_default();
            let peak = format!(" {least}  max {}", human::milliseconds(top));
            [now.clone(), peak]
        }),
        of: |sample| sample.rtt,
        more: retransmits.into_iter().collect(),
    };
    vec![received, sent, round_trip]
}

/// Wire bytes of the sockets, their overhead over app bytes, and the number of packets.
fn wire(
    state: &State,
    detail: &Detail,
    wire_of: fn(&WireTotals) -> (Bytes, u64),
    app_of: fn(&AppTotals) -> Bytes,
) -> Vec<String> {
    let sockets = &detail.sockets;
    if sockets.counted == 0 {
        return Vec::new();
    }
    let (Bytes(bytes), packets) = wire_of(&sockets.wire);
    let more = human::overhead(app_of(&sockets.app).0, bytes);
    let more = more.map_or_else(String::new, |more| format!(" ({more})"));
    vec![
        format!("wire {}{more}", state.units.bytes(bytes)),
        human::short_count_of(packets, "packet", "packets"),
    ]
}

fn moved(state: &State, sign: &str, rate: f64, total: Bytes) -> String {
    let (rate, total) = (state.units.rate(rate), state.units.bytes(total.0));
    format!(" {sign} {rate:>11} {total:>8}")
}

fn one(state: &State, graph: &Graph, track: Option<&Track>, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let more = match area.width {
        ..80 => 22,
        80..110 => 34,
        _ => 52,
    };
    let (left, right) = split(area, area.width.saturating_sub(more));
    let samples = track
        .map(|track| track.span(state.span))
        .unwrap_or_default();
    let numbers: Vec<f64> = samples
        .iter()
        .map(|sample| (graph.of)(sample).into())
        .collect();
    let top = numbers.iter().fold(0.0, |most: f64, it| most.max(*it));
    let room = usize::from(left.width.saturating_sub(LABEL));
    let columns = spread(&numbers, state.span.steps(), room * 2);
    let lines = braille(&columns, room, area.height.into(), top);
    let labels = match area.height {
        1 => [graph.label.clone(), String::new()],
        _ => (graph.labels)(top),
    };
    let roles = [graph.role, Role::Dim];
    for ((y, drawn), (text, role)) in (area.y..area.bottom())
        .zip(&lines)
        .zip(labels.iter().zip(roles))
    {
        let mut line = Line::new(Rect { y, ..left }, state.theme);
        line.put_styled(text, LABEL.into(), state.theme.style(role));
        line.go_to(LABEL);
        line.put(drawn, graph.role);
        line.draw(buffer);
    }
    let mut facts = graph.more.iter().peekable();
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
