//! The layout of a detail, computed from the state alone, so that mouse clicks can be mapped
//! without the drawn page.

use ratatui::layout::Rect;

use super::{
    Detail, Of, facts,
    panel::{Content, Panel, Placement},
};
use crate::{
    query::{columns::Column, entry::Entry, human, verdict::shortened},
    sink::text::{escape, width, wrap},
    tui::{
        layout::{self, Slot, TAB_RULE},
        state::State,
        widths::Widths,
    },
};

/// The smallest area with panels side by side, and the least width of each.
const WIDE: u16 = 100;
const HIGH: u16 = 12;
/// Lines that the panels keep, their tabs among them.
const PANELS: u16 = 4;
/// The most rows of a panel whose cells are measured.
const MEASURED: usize = 500;
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

/// The parts above the panels.
struct Top {
    area: Rect,
    title: Rect,
    who: Rect,
    head: Head,
    graphs: Vec<Rect>,
    /// What is below.
    rest: Rect,
}

/// The identity of a subject.
#[derive(Default)]
struct Head {
    lines: Vec<(&'static str, String)>,
    /// The names of facts that are there to the end.
    whole: Vec<&'static str>,
}

/// Where everything is.
pub(in crate::tui) fn places(state: &State, detail: &Detail) -> Places {
    let Top {
        area,
        title,
        who,
        head,
        graphs,
        rest,
    } = top(state, detail);
    let tabs = Rect {
        height: rest.height.min(1),
        ..rest
    };
    let below = Rect {
        y: tabs.bottom(),
        height: rest.height - tabs.height,
        ..rest
    };
    Places {
        area,
        title,
        who,
        lines: head.lines,
        graphs,
        tabs,
        panels: panels(state, detail, below),
    }
}

fn top(state: &State, detail: &Detail) -> Top {
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
    let count = if detail.of.has_round_trips() { 4 } else { 2 };
    let tall = if area.height < 26 { 1 } else { 2 };
    let title = take(1);
    let room = area.height.saturating_sub(1 + count * tall + PANELS);
    let head = who(state, detail, area.width, room.into());
    let who = take(u16::try_from(head.lines.len()).unwrap_or(0));
    let graphs = (0..count).map(|_| take(tall)).collect();
    Top {
        area,
        title,
        who,
        head,
        graphs,
        rest,
    }
}

/// Panels with rows are beside and below each other; one without has one line at the end.
fn panels(state: &State, detail: &Detail, area: Rect) -> Vec<PanelPlace> {
    let table = detail.table();
    let placed = |at: usize| table.get(at).map_or(Placement::Alone, |panel| panel.place);
    let together: Vec<usize> = (0..table.len())
        .filter(|at| placed(*at) != Placement::Alone)
        .collect();
    let fits = area.width >= WIDE && area.height >= HIGH;
    if !fits || placed(detail.focus) == Placement::Alone || together.len() < 2 {
        return vec![place(table, detail.focus, area, false)];
    }
    let wanted = |at: usize| wanted(state, detail, at, area.width);
    let (filled, empty): (Vec<usize>, Vec<usize>) =
        together.into_iter().partition(|at| wanted(*at) > 0);
    let mut bands: Vec<Vec<usize>> = Vec::new();
    for at in filled {
        match bands.last_mut() {
            Some(band)
                if band.len() == 1
                    && placed(at) == Placement::Beside
                    && placed(band[0]) == Placement::Beside =>
            {
                band.push(at);
            }
            _ => bands.push(vec![at]),
        }
    }
    let room = area.height - u16::try_from(empty.len()).unwrap_or(0).min(area.height);
    let wants: Vec<u16> = bands
        .iter()
        .map(|band| band.iter().map(|at| wanted(*at)).max().unwrap_or(0))
        .collect();
    let across = bands
        .iter()
        .position(|it| placed(it[0]) == Placement::Across);
    let heights = share(&wants, across.unwrap_or(0), room);
    let mut places = Vec::new();
    let mut y = area.y;
    for (band, height) in bands.iter().zip(heights) {
        let half = (area.width - 1) / 2;
        for (column, at) in (0..).zip(band) {
            let cell = Rect {
                x: area.x + column * (half + 1),
                y,
                width: if band.len() > 1 { half } else { area.width },
                height,
            };
            places.push(place(table, *at, cell, true));
        }
        y += height;
    }
    for at in empty {
        let cell = Rect {
            y: y.min(area.bottom()),
            height: u16::from(y < area.bottom()),
            ..area
        };
        places.push(place(table, at, cell, true));
        y += 1;
    }
    places.sort_by_key(|place| place.at);
    places
}

/// Lines that a panel has use for, its title and header among them; none if it is empty.
fn wanted(state: &State, detail: &Detail, at: usize, columns: u16) -> u16 {
    let panel = detail.table().get(at).zip(detail.panels.get(at));
    let lines = match panel {
        Some((panel, rows)) => match panel.content {
            Content::Table { .. } if rows.entries.is_empty() => 0,
            Content::Table { .. } => rows.entries.len() + 2,
            Content::Text(facts) => 1 + text_lines(state, detail, facts, columns).len(),
        },
        None => 0,
    };
    u16::try_from(lines).unwrap_or(u16::MAX)
}

/// Shares out lines: an equal part to each at most, then the rest to those that want more, first to
/// `first`, which also gets what nobody wants.
fn share(wants: &[u16], first: usize, room: u16) -> Vec<u16> {
    let count = u16::try_from(wants.len()).unwrap_or(u16::MAX).max(1);
    let mut given: Vec<u16> = wants.iter().map(|want| (*want).min(room / count)).collect();
    let mut left = room - given.iter().sum::<u16>();
    let order = std::iter::once(first).chain((0..wants.len()).filter(|at| *at != first));
    for at in order {
        let Some(more) = given.get_mut(at) else {
            continue;
        };
        let missing = (wants[at] - *more).min(left);
        *more += missing;
        left -= missing;
    }
    if let Some(first) = given.get_mut(first) {
        *first += left;
    }
    given
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
                format!("{} {}", panel.title, human::short_count(rows.count()))
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
    entries: &[Entry],
    room: u16,
) -> Vec<Slot> {
    let shown: Vec<&'static Column> = columns
        .iter()
        .filter(|column| column.show.on_screen().is_some() && state.measures.shows(column))
        .filter(|column| !without.contains(&column.name))
        .collect();
    let mut widths = Widths::default();
    let measured = entries.iter().take(MEASURED);
    widths.take(&shown, measured, &state.context(), state.units);
    layout::place(&shown, &widths, room)
}

/// The identity of its subject, in at most so many lines: the first facts get what the others
/// leave.
fn who(state: &State, detail: &Detail, columns: u16, most: usize) -> Head {
    let facts = facts::head(state, detail, has_room_for_ends(state, detail, columns));
    let room = usize::from(columns.saturating_sub(NAMES + 2)).max(2);
    let count = facts.len();
    let mut lines = Vec::new();
    let mut whole = Vec::new();
    for (at, (name, text)) in facts.into_iter().enumerate() {
        // Each of the others has a line, and none takes more than a third.
        let later = count - at - 1;
        let left = most.saturating_sub(lines.len() + later);
        let allowed = left.min(most / 3).max(1);
        let mut wrapped = wrap(&escape(&text), room);
        if wrapped.len() > allowed && name == facts::SPEED {
            // Its parts are left out from the end.
            let rest = shortened(&text, room * allowed);
            wrapped = wrap(rest, room);
            wrapped.truncate(allowed);
        } else if wrapped.len() > allowed {
            // The last line has all the rest, and its middle is cut when it is drawn.
            let rest = wrapped.split_off(allowed - 1).concat();
            wrapped.push(rest);
        } else if lines.len() + wrapped.len() <= most {
            whole.push(name);
        }
        lines.extend(named(name, wrapped));
    }
    lines.truncate(most);
    Head { lines, whole }
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

/// The names of facts that are in the title and the lines below it.
fn said_above(state: &State, detail: &Detail) -> Vec<&'static str> {
    let Top { area, head, .. } = top(state, detail);
    let mut names = vec!["state"];
    let has_ends = has_room_for_ends(state, detail, area.width);
    if has_ends || head.whole.contains(&"endpoints") {
        names.extend(["protocol", "local", "remote"]);
    }
    if matches!(detail.of, Of::Flow(_)) && head.whole.contains(&"opened") {
        names.push("direction");
    }
    names.extend(head.whole);
    names
}

/// The facts of a text panel that are not above it, in lines.
pub(in crate::tui) fn text_lines(
    state: &State,
    detail: &Detail,
    facts: fn(&State, &Detail) -> Vec<facts::Fact>,
    columns: u16,
) -> Vec<(&'static str, String)> {
    let room = usize::from(columns.saturating_sub(NAMES + 2)).max(2);
    let above = said_above(state, detail);
    facts(state, detail)
        .into_iter()
        .filter(|(name, _)| !above.contains(name))
        .flat_map(|(name, text)| named(name, wrap(&escape(&text), room)))
        .collect()
}

/// The name is before the first line only.
fn named(name: &'static str, lines: Vec<String>) -> impl Iterator<Item = (&'static str, String)> {
    let names = std::iter::once(name).chain(std::iter::repeat(""));
    names.zip(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_where_they_are_wanted() {
        assert_eq!(share(&[300, 3, 3], 0, 20), [14, 3, 3]);
        assert_eq!(share(&[300, 300], 0, 20), [10, 10]);
        assert_eq!(share(&[3, 300], 0, 20), [3, 17]);
        assert_eq!(share(&[3, 4], 0, 20), [16, 4]);
        assert_eq!(share(&[4, 9], 1, 20), [4, 16]);
        assert!(share(&[], 0, 20).is_empty());
    }
}
