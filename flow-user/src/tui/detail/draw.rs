//! Draws a detail: the identity of its subject, the graphs and the panels.

mod graphs;
mod panel;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    widgets::{Clear, Widget as _},
};

use strum::IntoEnumIterator as _;

use super::{
    Detail, Of,
    detail_layout::{self, NAMES, Places, SPANS},
    facts,
};
use crate::{
    query::history::Span,
    sink::text::{escape, width},
    tui::{
        layout::TAB_RULE,
        line::{Line, split},
        state::State,
        theme::Role,
    },
};

pub(super) fn draw(state: &State, detail: &Detail, buffer: &mut Buffer) {
    let places = detail_layout::places(state, detail);
    Clear.render(places.area, buffer);
    title(state, detail, places.title, buffer);
    named_lines(state, &places.lines, places.who, buffer);
    graphs::draw(state, detail, &places.graphs, buffer);
    tabs(state, detail, places.tabs, buffer);
    panels(state, detail, &places, buffer);
}

/// Identity and state; at the right the span of the graphs.
fn title(state: &State, detail: &Detail, area: Rect, buffer: &mut Buffer) {
    let spans = Span::iter().map(|span| match span == state.span {
        true => (format!("[{}]", span.name()), Role::Accent),
        false => (format!(" {} ", span.name()), Role::Dim),
    });
    let (left, right) = split(area, area.width.saturating_sub(SPANS));
    let mut line = Line::new(left, state.theme);
    line.skip(1);
    let life = facts::life(state, detail);
    let over = detail.of.is_over() || !detail.listed;
    let name = match &detail.of {
        Of::Flow(flow) if detail_layout::has_room_for_ends(state, detail, area.width) => {
            facts::endpoints(flow)
        }
        _ => facts::title(detail),
    };
    // The state is visible however long the name is; where both have no room, in short.
    let needed = width(&escape(&name)) + 2 + width(&life);
    let life = match facts::short_life(detail) {
        Some(short) if needed > line.room() => short,
        _ => life,
    };
    let room = line.room().saturating_sub(width(&life) + 2);
    line.put_styled(&name, room, state.theme.style(Role::Strong));
    line.skip(2);
    line.put(&life, if over { Role::Alarm } else { Role::Plain });
    if let Of::Process(process) = &detail.of {
        let user = format!("  {}", facts::user(process));
        line.put_whole(&user, Role::Accent);
    }
    if state.since.is_some() {
        line.put_whole("  totals from the start", Role::Dim);
    }
    line.draw(buffer);
    let mut line = Line::new(right, state.theme);
    for (text, role) in spans {
        line.put(&text, role);
    }
    line.draw(buffer);
}

/// Names and texts, one a line.
fn named_lines(state: &State, lines: &[(&str, String)], area: Rect, buffer: &mut Buffer) {
    for (y, (name, text)) in (area.y..area.bottom()).zip(lines) {
        let mut line = Line::new(Rect { y, ..area }, state.theme);
        line.skip(1);
        line.put(name, Role::Accent);
        line.go_to(NAMES + 1);
        line.put(text, Role::Plain);
        line.draw(buffer);
    }
}

/// The panels there are, and which of them keys go to.
fn tabs(state: &State, detail: &Detail, area: Rect, buffer: &mut Buffer) {
    let mut line = Line::new(area, state.theme);
    let tabs = detail_layout::tabs(detail, area.width);
    for (at, tab) in tabs.iter().enumerate() {
        line.go_to(tab.x);
        let role = match at == detail.focus {
            true => Role::Tab,
            false => Role::Plain,
        };
        line.put(&tab.text, role);
        let end = usize::from(tab.x) + width(&tab.text);
        let gap = tabs.get(at + 1).map(|next| usize::from(next.x) - end);
        if gap == Some(width(TAB_RULE)) {
            line.put(TAB_RULE, Role::Rule);
        }
    }
    line.draw(buffer);
}

fn panels(state: &State, detail: &Detail, places: &Places, buffer: &mut Buffer) {
    for place in &places.panels {
        panel::draw(state, detail, place, buffer);
    }
}
