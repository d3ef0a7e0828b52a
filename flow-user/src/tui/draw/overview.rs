//! The lines on top: rates and totals, the backend, blind spots, and Flow's own cost.

use ratatui::{buffer::Buffer, layout::Rect};

use crate::{
    event::{AppTotals, Capability},
    model::snapshot::{LedgerSide, Rate},
    query::{graph::braille, history::Sample, human},
    sink::text::width,
    tui::{
        keymap::Action,
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
    let memory = human::bytes(state.own.memory.0);
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

/// Both rates: now, and of the last minutes, two seconds in each character. Both have the same
/// scale: the highest rate of both reaches the upper edge.
fn graphs(state: &State, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let now = state.live.totals.rate;
    let (left, right) = split(area, area.width / 2);
    let ways: [Way; 2] = [
        ("▼", Role::Rx, now.rx, |sample| sample.rx),
        ("▲", Role::Tx, now.tx, |sample| sample.tx),
    ];
    let rates = ways.map(|(.., of)| {
        let room = usize::from(left.width).saturating_sub(LABEL + 1);
        let samples = state.history.total().until(state.live.time, room * 2);
        let rates = samples.iter().map(|sample| f64::from(of(sample)));
        rates.collect::<Vec<f64>>()
    });
    let peaks = rates.each_ref().map(|rates| highest(rates));
    let top = highest(&peaks);
    for (at, (area, (sign, role, now, _))) in [left, right].into_iter().zip(ways).enumerate() {
        let room = usize::from(area.width).saturating_sub(LABEL + 1);
        let labels = [
            (format!(" {sign} {:>13} ", state.units.rate(now)), role),
            (
                format!(" peak {:>10} ", state.units.rate(peaks[at])),
                Role::Dim,
            ),
        ];
        let graph = braille(&rates[at], room, usize::from(area.height), top);
        for ((y, text), (label, label_role)) in (area.y..).zip(&graph).zip(labels) {
            let mut line = Line::new(Rect { y, ..area }, state.theme);
            line.put(&label, label_role);
            line.put(text, role);
            line.draw(buffer);
        }
    }
}

/// One of the graphs: sign, role, current rate, and the rate to draw.
type Way = (&'static str, Role, f64, fn(&Sample) -> f32);

fn highest(rates: &[f64]) -> f64 {
    rates.iter().fold(0.0, |most: f64, it| most.max(*it))
}

/// Columns of the label before a graph.
const LABEL: usize = 17;

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
    if !unseen(state).is_empty() {
        let key = state.hints(&[(Action::Help, "")]);
        let key = key.first().map_or("flow doctor", |(key, _)| key);
        notices.push((format!("partial, {key} says what"), Role::Dim));
    }
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
    notices
}

/// What Flow cannot see here.
pub(in crate::tui) fn unseen(state: &State) -> Vec<String> {
    let coverage = &state.live.coverage;
    let missing = coverage.iter().filter(|it| it.backend.is_none());
    let missing = missing.map(|it| it.capability.name().to_owned());
    let limited = coverage.iter().filter(|it| {
        it.backend.is_some() && !it.limits.is_empty() && it.capability == Capability::AppBytes
    });
    missing.chain(limited.map(|it| it.limits.clone())).collect()
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
        (format!("{share} attributed"), Role::Plain)
    })
}
