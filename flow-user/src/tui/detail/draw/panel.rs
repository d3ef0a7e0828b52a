//! Draws a panel of a detail: a table whose rows have a cursor, or a text.

use ratatui::{buffer::Buffer, layout::Rect};

use super::named_lines;
use crate::{
    query::{columns::Align, entry::Entry},
    tui::{
        detail::{
            Detail, Rows,
            detail_layout::{self, PanelPlace},
            panel::{Content, Panel},
        },
        draw::table::{Table, header},
        layout::Slot,
        line::Line,
        rows::{self, Fold},
        state::State,
        theme::Role,
    },
};

pub(super) fn draw(state: &State, detail: &Detail, place: &PanelPlace, buffer: &mut Buffer) {
    let panel = detail
        .table()
        .get(place.at)
        .zip(detail.panels.get(place.at));
    let Some((panel, rows)) = panel else { return };
    let focused = place.at == detail.focus;
    // A panel without rows may have its title only.
    let empty = match panel.content {
        Content::Table { .. } if rows.entries.is_empty() && place.body.is_empty() => panel.empty,
        _ => "",
    };
    title(state, (panel, rows), focused, empty, place.title, buffer);
    match panel.content {
        Content::Text(facts) => {
            let lines = detail_layout::text_lines(state, detail, facts, place.body.width);
            let seen = lines
                .get(rows.offset.min(lines.len())..)
                .unwrap_or_default();
            named_lines(state, seen, place.body, buffer);
        }
        Content::Table {
            columns, without, ..
        } => {
            let slots =
                detail_layout::slots(state, columns(), without, &rows.entries, place.body.width);
            header(state, &slots, None, &[], place.header, buffer);
            body(state, panel, rows, focused, &slots, place.body, buffer);
        }
    }
}

/// The title of a panel, as a rule, where panels are side by side.
fn title(
    state: &State,
    (panel, rows): (&Panel, &Rows),
    focused: bool,
    empty: &str,
    area: Rect,
    buffer: &mut Buffer,
) {
    let text = match panel.content {
        Content::Table { .. } => format!(" {} {} ", panel.title, rows.count()),
        Content::Text(_) => format!(" {} ", panel.title),
    };
    let mut line = Line::new(area, state.theme);
    line.put("─", Role::Rule);
    let role = if focused { Role::Sorted } else { Role::Header };
    line.put(&text, role);
    if !empty.is_empty() {
        line.put(&format!("{empty} "), Role::Dim);
    }
    let rule = "─".repeat(line.room());
    line.put(&rule, Role::Rule);
    line.draw(buffer);
}

fn body(
    state: &State,
    panel: &Panel,
    rows: &Rows,
    focused: bool,
    slots: &[Slot],
    area: Rect,
    buffer: &mut Buffer,
) {
    if rows.entries.is_empty() {
        let mut line = Line::new(area, state.theme);
        line.skip(2);
        line.put(panel.empty, Role::Dim);
        line.draw(buffer);
        return;
    }
    let seen = rows.entries.iter().enumerate().skip(rows.offset);
    let seen = seen.take(area.height.into());
    let table = Table::new(state, slots, seen.clone().map(|(_, entry)| entry));
    for (y, (at, entry)) in (area.y..area.bottom()).zip(seen) {
        let place = Rect {
            y,
            height: 1,
            ..area
        };
        let line = rows::Line {
            at: 0,
            parent: None,
            depth: 0,
            fold: Fold::Nothing,
            nested: false,
            labelled: false,
        };
        let labelled = !identifies(state, slots, entry);
        table.row(entry, &line, labelled, place, buffer);
        if focused && rows.chosen.is_some() && at == rows.line {
            state.theme.select(place, buffer);
        }
    }
}

/// Whether some column says who a row is: flows that ended have none, nor a listener where there is
/// no room for its address.
fn identifies(state: &State, slots: &[Slot], entry: &Entry) -> bool {
    let context = state.context();
    let says_little = ["protocol", "arrow", "state"];
    let mut who = slots.iter().map(|slot| slot.column).filter(|column| {
        column.align == Align::Left && (!says_little.contains(&column.name) || !entry.is_flow())
    });
    who.any(|column| !(column.value)(entry, &context).text().is_empty())
}
