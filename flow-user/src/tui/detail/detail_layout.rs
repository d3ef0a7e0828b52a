//! The layout of a detail, computed from the state alone, so that mouse clicks can be mapped
//! without the drawn page.

use ratatui::layout::Rect;

use super::{
    Detail, Of, facts,
    panel::{Content, Panel},
};
use crate::{
    event::Direction,
    query::{columns::Column, human},
    sink::text::{escape, width, wrap},
    tui::{
        layout::{self, Slot, TAB_RULE},
        state::State,
    },
};

/// The smallest area with panels side by side, and the least width of each.
const WIDE: u16 = 100;
const HIGH: u16 = 12;
/// Lines that the panels keep, their tabs among them.
const PANELS: u16 = 4;
/// Columns of the spans that graphs can have.
pub(in crate::tui) const SPANS: u16 = 24;
/// Columns of the names of facts.
pub(in crate::tui) const NAMES: u16 = 16;

/// The parts of a detail, from the top down.
#[derive(Clone, Debug)]
pub(in crate::tui) struct Places {
    pub area: Rect,
    pub title: Rect,
    /// The identity of its subject, in lines of names and texts.
    pub who: Rect,
    pub lines: Vec<(&'static str, String)>,
    /// Graphs, all of the same height.
    pub graphs: Vec<Rect>,
    pub tabs: Rect,
    /// The panels that are seen: which, and where.
    pub panels: Vec<PanelPlace>,
}

/// The place of a panel.
#[derive(Clone, Copy, Debug)]
pub(in crate::tui) struct PanelPlace {
    pub at: usize,
    /// Its title; without height where tabs show the titles.
    pub title: Rect,
    /// The header of a table.
    pub header: Rect,
    pub body: Rect,
}

/// A panel among the tabs.
#[derive(Clone, Debug)]
pub(in crate::tui) struct Tab {
    pub x: u16,
    pub text: String,
}

/// Where everything is.
pub(in crate::tui) fn places(state: &State, detail: &Detail) -> Places {
    let parts = layout::parts(state);
    let area = Rect {
        y: parts.marks.bottom(),
        height: parts.candidates.y.saturating_sub(parts.marks.bottom()),
        ..parts.foot
    };
    let mut rest = area;
    let mut take = |height: u16| {
        let height = height.min(rest.height);
        let part = Rect { height, ..rest };
        rest.y += height;
        rest.height -= height;
        part
    };
    let count = match &detail.of {
        Of::Process(_) => 2,
        Of::Flow(flow) if flow.tcp.is_some() => 3,
        Of::Flow(_) => 2,
    };
    let tall = if area.height < 26 { 1 } else { 2 };
    let title = take(1);
    let room = area.height.saturating_sub(1 + count * tall + PANELS);
    let lines = who(state, detail, area.width, room.into());
    let who = take(u16::try_from(lines.len()).unwrap_or(0));
    let graphs = (0..count).map(|_| take(tall)).collect();
    let tabs = take(1);
    let panels = panels(detail, rest);
    Places {
        area,
        title,
        who,
        lines,
        graphs,
        tabs,
        panels,
    }
}

fn panels(detail: &Detail, area: Rect) -> Vec<PanelPlace> {
    let table = detail.table();
    let stands_beside = |at: usize| table.get(at).is_some_and(|panel| panel.beside);
    let together: Vec<usize> = (0..table.len()).filter(|at| stands_beside(*at)).collect();
    let fits = area.width >= WIDE && area.height >= HIGH;
    if !fits || !stands_beside(detail.focus) || together.len() < 2 {
        return vec![place(table, detail.focus, area, false)];
    }
    let lines = u16::try_from(together.len().div_ceil(2)).unwrap_or(1);
    let cell = |(number, at): (u16, usize)| {
        let (column, line) = (number % 2, number / 2);
        let half = (area.width - 1) / 2;
        let has_neighbour = column == 1 || usize::from(number) + 1 < together.len();
        let top = area.height * line / lines;
        let bottom = area.height * (line + 1) / lines;
        let cell = Rect {
            x: area.x + column * (half + 1),
            y: area.y + top,
            width: if has_neighbour { half } else { area.width },
            height: bottom - top,
        };
        place(table, at, cell, true)
    };
    (0..).zip(together.iter().copied()).map(cell).collect()
}

fn place(table: &[Panel], at: usize, area: Rect, titled: bool) -> PanelPlace {
    let is_table = table
        .get(at)
        .is_some_and(|panel| matches!(panel.content, Content::Table { .. }));
    let mut rest = area;
    let mut take = |has: bool| {
        let height = u16::from(has).min(rest.height);
        let part = Rect { height, ..rest };
        rest.y += height;
        rest.height -= height;
        part
    };
    let title = take(titled);
    let header = take(is_table);
    PanelPlace {
        at,
        title,
        header,
        body: rest,
    }
}

/// The tabs, one for each panel; with rules between them where there is room.
pub(in crate::tui) fn tabs(detail: &Detail, columns: u16) -> Vec<Tab> {
    let panels = detail.table().iter().zip(&detail.panels);
    let texts: Vec<String> = panels
        .map(|(panel, rows)| match panel.content {
            Content::Table { .. } => {
                format!("{} {}", panel.title, human::short_count(rows.entries.len()))
            }
            Content::Text(_) => panel.title.to_owned(),
        })
        .collect();
    let rule = width(TAB_RULE);
    let ruled: usize = texts.iter().map(|text| width(text) + rule).sum();
    let gap = if ruled <= columns.into() { rule } else { 1 };
    let mut x = 1;
    let tab = |text: String| {
        let tab = Tab { x, text };
        x += u16::try_from(width(&tab.text) + gap).unwrap_or(u16::MAX);
        tab
    };
    texts.into_iter().map(tab).collect()
}

/// The columns of a panel that have room.
pub(in crate::tui) fn slots(
    state: &State,
    columns: &'static [Column],
    without: &[&str],
    room: u16,
) -> Vec<Slot> {
    let shown: Vec<&'static Column> = columns
        .iter()
        .filter(|column| column.show.on_screen().is_some() && state.measures.shows(column))
        .filter(|column| !without.contains(&column.name))
        .collect();
    layout::place(&shown, room)
}

/// The identity of its subject, in at most so many lines: the first facts get what the others
/// leave.
fn who(state: &State, detail: &Detail, columns: u16, most: usize) -> Vec<(&'static str, String)> {
    let facts = match &detail.of {
        Of::Process(process) => {
            let cgroup = process.cgroup_path.as_deref().unwrap_or("unknown");
            let exe = process.program.exe.as_deref();
            vec![
                (
                    "command",
                    facts::command(process).unwrap_or_else(facts::unknown),
                ),
                ("lineage", facts::lineage(process)),
                ("cgroup", cgroup.to_owned()),
                (
                    "executable",
                    exe.map_or_else(facts::unknown, |exe| exe.to_string_lossy().into_owned()),
                ),
            ]
        }
        Of::Flow(flow) => {
            let user = flow.process.as_ref().map(|process| facts::user(process));
            let user = user.map_or_else(String::new, |user| format!(" · {user}"));
            let opened = match flow.direction {
                Some(Direction::Outbound) => ", from here",
                Some(Direction::Inbound) => ", by the remote",
                None => "",
            };
            let moment = facts::moment(state, flow.opened);
            let mut facts = Vec::new();
            if !has_room_for_ends(state, detail, columns) {
                facts.push(("ends", facts::endpoints(flow)));
            }
            facts.push(("owner", format!("{}{user}", facts::owner(flow))));
            facts.push(("opened", format!("{moment}{opened}")));
            if !detail.states.is_empty() {
                facts.push(("seen", facts::passed(state, detail)));
            }
            facts.push(("where", facts::place(flow)));
            facts
        }
    };
    let room = usize::from(columns.saturating_sub(NAMES + 2)).max(2);
    let count = facts.len();
    let mut lines = Vec::new();
    for (at, (name, text)) in facts.into_iter().enumerate() {
        // Each of the others has a line, and none takes more than a third.
        let later = count - at - 1;
        let left = most.saturating_sub(lines.len() + later);
        let allowed = left.min(most / 3).max(1);
        let mut wrapped = wrap(&escape(&text), room);
        if wrapped.len() > allowed {
            // The last line has all the rest, and its middle is cut when it is drawn.
            let rest = wrapped.split_off(allowed - 1).concat();
            wrapped.push(rest);
        }
        lines.extend(named(name, wrapped));
    }
    lines.truncate(most);
    lines
}

/// Whether both ends of a flow are in the title, with its state and the spans.
pub(in crate::tui) fn has_room_for_ends(state: &State, detail: &Detail, columns: u16) -> bool {
    let Of::Flow(flow) = &detail.of else {
        return false;
    };
    let text = |text: &str| width(&escape(text));
    let ends = text(&facts::endpoints(flow));
    ends + text(&facts::life(state, detail)) + usize::from(SPANS) + 4 <= columns.into()
}

/// All facts of a text panel, in lines.
pub(in crate::tui) fn text_lines(
    state: &State,
    detail: &Detail,
    facts: fn(&State, &Detail) -> Vec<facts::Fact>,
    columns: u16,
) -> Vec<(&'static str, String)> {
    let room = usize::from(columns.saturating_sub(NAMES + 2)).max(2);
    facts(state, detail)
        .into_iter()
        .flat_map(|(name, text)| named(name, wrap(&escape(&text), room)))
        .collect()
}

/// The name is before the first line only.
fn named(name: &'static str, lines: Vec<String>) -> impl Iterator<Item = (&'static str, String)> {
    let names = std::iter::once(name).chain(std::iter::repeat(""));
    names.zip(lines)
}
