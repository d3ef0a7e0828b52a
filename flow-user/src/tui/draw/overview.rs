//! The lines on top: rates and totals, the backend, blind spots, and Flow's own cost.

use ratatui::{buffer::Buffer, layout::Rect};

use crate::{
    event::{AppTotals, Capability},
    model::snapshot::{LedgerSide, Rate},
    query::{graph::braille, history::Sample, human},
    sink::text::width,
    tui::{
        layout::Parts,
        line::{Line, split},
        state::State,
        theme::Role,
    },
};

pub(super) fn draw(state: &State, parts: &Parts, buffer: &mut Buffer) {
    title(state, parts.title, buffer);
    graphs(state, parts.graphs, buffer);
    facts(state, parts.facts, buffer);
}

fn title(state: &State, area: Rect, buffer: &mut Buffer) {
    let time = state.clock.time_of_day(state.live.time, &state.zone);
    let time = time.split('.').next().unwrap_or_default().to_owned();
    let Rate { tx, rx } = state.live.totals.rate;
    let memory = human::bytes(state.own.memory.0).replace(' ', "");
    let mut right = vec![
        (format!("cpu {:.1}%", state.own.cpu * 100.0), Role::Dim),
        (format!("mem {memory}"), Role::Dim),
        (time, Role::Plain),
    ];
    if state.compact {
        // Without graphs the rates are here.
        let rates = [
            (format!("▼ {}", state.units.rate(rx)), Role::Rx),
            (format!("▲ {}", state.units.rate(tx)), Role::Tx),
        ];
        right.splice(0..0, rates);
    }
    let needed: usize = right.iter().map(|(text, _)| width(text) + 2).sum();
    let start = usize::from(area.width).saturating_sub(needed);
    let (left, right_area) = split(area, u16::try_from(start).unwrap_or(0));
    let mut line = Line::new(left, state.theme);
    if line.put_whole(" flow ", Role::Strong) {
        line.put(&state.host.name, Role::Accent);
    }
    line.put_whole(&format!(" · {}", backend(state)), Role::Plain);
    line.put_whole(&format!(" · kernel {}", state.host.kernel), Role::Dim);
    line.draw(buffer);
    let mut line = Line::new(right_area, state.theme);
    for (text, role) in right {
        line.skip(1);
        line.put(&text, role);
        line.skip(1);
    }
    line.draw(buffer);
}

fn backend(state: &State) -> String {
    let mut coverage = state.live.coverage.iter();
    match coverage.find(|it| it.capability == Capability::AppBytes) {
        Some(app) => match &app.backend {
            Some(backend) if app.limits.is_empty() => format!("exact ({backend})"),
            Some(backend) => backend.clone(),
            None => "app bytes not counted".to_owned(),
        },
        None => "no source yet".to_owned(),
    }
}

/// Both rates: now, and of the last minutes, two seconds in each character. The most that is seen
/// reaches the upper edge.
fn graphs(state: &State, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let now = state.live.totals.rate;
    let (left, right) = split(area, area.width / 2);
    received_or_sent(
        state,
        left,
        ("▼", Role::Rx, now.rx, |sample| sample.rx),
        buffer,
    );
    received_or_sent(
        state,
        right,
        ("▲", Role::Tx, now.tx, |sample| sample.tx),
        buffer,
    );
}

/// One of the graphs: sign, role, current rate, and the rate to draw.
type Way = (&'static str, Role, f64, fn(&Sample) -> f32);

fn received_or_sent(state: &State, area: Rect, way: Way, buffer: &mut Buffer) {
    let (sign, role, now, of) = way;
    let room = usize::from(area.width).saturating_sub(LABEL + 1);
    let samples = state.history.total().until(state.live.time, room * 2);
    let numbers: Vec<f64> = samples.iter().map(|sample| of(sample).into()).collect();
    let most = numbers.iter().fold(0.0, |most: f64, it| most.max(*it));
    let labels = [
        (format!(" {sign} {:>11} ", state.units.rate(now)), role),
        (format!(" of {:>10} ", state.units.rate(most)), Role::Dim),
    ];
    let graph = braille(&numbers, room, usize::from(area.height), most);
    for ((y, text), (label, label_role)) in (area.y..).zip(&graph).zip(labels) {
        let mut line = Line::new(Rect { y, ..area }, state.theme);
        line.put(&label, label_role);
        line.put(text, role);
        line.draw(buffer);
    }
}

/// Columns of the label before a graph.
const LABEL: usize = 15;

/// Further facts, the most important first, as far as there is room.
fn facts(state: &State, area: Rect, buffer: &mut Buffer) {
    let mut line = Line::new(area, state.theme);
    line.skip(1);
    let mut first = true;
    for (text, role) in notices(state) {
        let before = if first { "" } else { "  ·  " };
        if line.room() < width(before) + 8 {
            break;
        }
        line.put(before, Role::Rule);
        line.put_start(&text, role);
        first = false;
    }
    line.draw(buffer);
}

fn notices(state: &State) -> Vec<(String, Role)> {
    let snapshot = &state.live;
    let mut notices = Vec::new();
    if let Some(lost) = lost(state) {
        notices.push((lost, Role::Alarm));
    }
    let total = |app: AppTotals| {
        let bytes = |it| state.units.bytes(it);
        format!("▼ {} ▲ {}", bytes(app.rx_bytes.0), bytes(app.tx_bytes.0))
    };
    notices.push((
        format!(
            "{} in {}",
            total(snapshot.totals.app),
            human::duration(snapshot.running)
        ),
        Role::Plain,
    ));
    if let Some(since) = &state.since {
        let text = format!("since reset {}", total(since.total(snapshot)));
        notices.push((text, Role::Accent));
    }
    notices.push((
        format!(
            "{}, {}",
            human::count(snapshot.totals.processes, "process", "processes"),
            human::count(snapshot.totals.open_flows, "flow", "flows"),
        ),
        Role::Plain,
    ));
    notices.extend(owned(state));
    let missing = snapshot.coverage.iter().filter(|it| it.backend.is_none());
    let mut unseen: Vec<&str> = missing.map(|it| it.capability.name()).collect();
    let limited = snapshot.coverage.iter().filter(|it| {
        it.backend.is_some() && !it.limits.is_empty() && it.capability == Capability::AppBytes
    });
    unseen.extend(limited.map(|it| it.limits.as_str()));
    if !unseen.is_empty() {
        notices.push((format!("not seen: {}", unseen.join(", ")), Role::Dim));
    }
    notices
}

/// The losses, if any.
pub(super) fn lost(state: &State) -> Option<String> {
    let lost = state.live.losses.iter().filter(|(_, count)| *count > 0);
    let lost: Vec<String> = lost
        .map(|(cause, count)| format!("{count} {}", human::loss(*cause)))
        .collect();
    (!lost.is_empty()).then(|| format!("LOST {}", lost.join(", ")))
}

/// The share of all frame bytes that has an owner.
fn owned(state: &State) -> Option<(String, Role)> {
    let sides = |of: fn(&LedgerSide) -> u64| -> u64 {
        let interfaces = state.live.interfaces.iter();
        interfaces.fold(0, |sum, interface| {
            let both = of(&interface.ingress_ledger).saturating_add(of(&interface.egress_ledger));
            sum.saturating_add(both)
        })
    };
    let frames = sides(|side| side.frames.0);
    let socket = sides(|side| side.socket.0);
    (frames > 0).then(|| {
        let share = human::share(socket, frames);
        (format!("{share} owned by a socket"), Role::Plain)
    })
}
