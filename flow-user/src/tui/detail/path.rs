//! What TCP says of a connection, as facts of a detail.

use crate::{
    event::{RoundTrip, TcpInfo},
    model::snapshot::Flow,
    query::{human, verdict::verdict},
    tui::state::State,
};

/// A name and its text.
pub(in crate::tui) type Fact = (&'static str, String);

/// The name of the verdict on what limits a connection.
pub(in crate::tui) const SPEED: &str = "speed";

/// What limits it, how it was connected, its round trips, windows, queues and rates.
pub(super) fn of(state: &State, flow: &Flow) -> Vec<Fact> {
    let mut facts = Vec::new();
    facts.extend(verdict(flow).map(|verdict| (SPEED, verdict)));
    if let Some(tcp) = flow.tcp {
        let text = format!(
            "{}, at least {}",
            round_trip(tcp.rtt),
            round_trip(tcp.min_rtt)
        );
        facts.push(("round trip", text));
    }
    if flow.connect.is_some() {
        facts.push(("connected in", round_trip(flow.connect)));
    }
    if let Some(path) = &flow.path {
        facts.extend(of_info(state, &path.info));
    }
    facts
}

fn of_info(state: &State, info: &TcpInfo) -> Vec<Fact> {
    let TcpInfo {
        congestion,
        mss,
        unacknowledged,
        lost,
        slow_start_threshold,
        congestion_window,
        send_queue,
        receive_queue,
        pacing_rate,
        delivery_rate,
        send_window,
        busy: _,
        receiver_limited: _,
        buffer_limited: _,
    } = info;
    let bytes = |bytes: u32| state.units.bytes(bytes.into());
    let rate = |rate: u64| state.units.rate(rate as f64);
    let threshold =
        slow_start_threshold.map_or_else(String::new, |it| format!(", slow start up to {it}"));
    let name = congestion.as_deref();
    let name = name.map_or_else(String::new, |name| format!(" ({name})"));
    let mut facts = vec![
        (
            "cwnd",
            format!("{congestion_window} segments of {mss} bytes{threshold}{name}"),
        ),
        (
            "in flight",
            format!(
                "{}, {lost} lost",
                human::count(*unacknowledged as usize, "segment", "segments")
            ),
        ),
        (
            "queues",
            format!(
                "{} to be acknowledged, {} to be received",
                bytes(*send_queue),
                bytes(*receive_queue)
            ),
        ),
    ];
    if let Some(window) = send_window {
        facts.push(("peer window", bytes(*window)));
    }
    let rates = [
        delivery_rate.map(|it| format!("delivered {}", rate(it))),
        pacing_rate.map(|it| format!("paced at {}", rate(it))),
    ];
    let rates: Vec<String> = rates.into_iter().flatten().collect();
    if !rates.is_empty() {
        facts.push(("rates", rates.join(", ")));
    }
    facts
}

/// The text of a round trip time.
pub(in crate::tui) fn round_trip(time: Option<RoundTrip>) -> String {
    match time {
        Some(time) => human::milliseconds(time.duration()),
        None => "unknown".to_owned(),
    }
}
