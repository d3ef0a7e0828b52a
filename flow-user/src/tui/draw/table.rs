//! The table: header, visible rows, and the sum of all rows.

use std::ops::Range;

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{bar, filter_bar::ALERT};
use crate::{
    query::{
        columns::{Align, Column, Measure, Show, Value},
        entry::Entry,
    },
    sink::text::{cut, escape, width},
    tui::{
        layout::{self, GUTTER, Parts, Slot},
        line::Line,
        rows::{self, Fold},
        state::State,
        theme::Role,
    },
};

/// Columns that each level of a tree is indented.
const INDENT: usize = 2;

pub(super) fn draw(state: &State, parts: &Parts, buffer: &mut Buffer) {
    let slots = layout::slots(state);
    header(state, &slots, state.here().sort, parts.header, buffer);
    body(state, &slots, parts.body, buffer);
    total(state, &slots, parts.total, buffer);
}

/// The headers, with a mark at the column that rows are sorted by; without one they are by rate.
pub(in crate::tui) fn header(
    state: &State,
    slots: &[Slot],
    sort: Option<(&'static Column, bool)>,
    area: Rect,
    buffer: &mut Buffer,
) {
    for slot in slots {
        let column = slot.column;
        let sorted = match sort {
            Some((by, reverse)) if by.name == column.name => Some(reverse),
            // Both rates together.
            Some((by, reverse)) if by.name == "rate" && column.measure == Some(Measure::Rate) => {
                Some(reverse)
            }
            None if column.measure == Some(Measure::Rate) => Some(false),
            _ => None,
        };
        let (text, role) = match sorted {
            None => (column.header.to_owned(), Role::Header),
            Some(reverse) => {
                let mark = if reverse { "↑" } else { "↓" };
                // The mark is to be seen however narrow the column.
                let room = usize::from(slot.width).saturating_sub(1);
                let name: String = column.header.chars().take(room).collect();
                let text = match column.align {
                    Align::Right => format!("{mark}{name}"),
                    Align::Left => format!("{name}{mark}"),
                };
                (text, Role::Sorted)
            }
        };
        cell(&text, state.theme.style(role), slot, area, buffer);
    }
}

fn body(state: &State, slots: &[Slot], area: Rect, buffer: &mut Buffer) {
    let rows = &state.rows;
    if rows.is_empty() && !area.is_empty() {
        let y = area.y + (area.height - 1) / 2;
        let mut line = Line::new(Rect { y, ..area }, state.theme);
        line.skip(2);
        line.put(nothing(state), Role::Dim);
        line.draw(buffer);
        return;
    }
    let here = state.here();
    let seen = rows.lines.iter().enumerate().skip(here.offset);
    for (y, (at, line)) in (area.y..area.bottom()).zip(seen) {
        let place = Rect {
            y,
            height: 1,
            ..area
        };
        let entry = &rows.entries[line.at as usize];
        row(state, slots, entry, line, line.labelled, place, buffer);
        if here.chosen.is_some() && at == here.line {
            buffer.set_style(place, state.theme.style(Role::Chosen));
        }
    }
}

/// Why there are no rows.
fn nothing(state: &State) -> &'static str {
    if state.live.generation == 0 {
        return "Waiting for the first counters.";
    }
    if state.filter.filter.is_all() || state.view.columns().is_empty() {
        return state.view.def().empty;
    }
    match state.filter.text.is_empty() {
        true => "No traffic on the selected interfaces yet.",
        false => "Nothing matches the filter; Esc clears it.",
    }
}

/// A row; with a label in place of the columns that identify it.
pub(in crate::tui) fn row(
    state: &State,
    slots: &[Slot],
    entry: &Entry,
    line: &rows::Line,
    labelled: bool,
    area: Rect,
    buffer: &mut Buffer,
) {
    let over = entry.is_over();
    let style = |role| state.theme.style(role);
    let alert = state.threshold.is_reached(entry.rate);
    let plain = match (over, alert) {
        (true, _) => Role::Dim,
        (false, true) => Role::Alarm,
        (false, false) => Role::Plain,
    };
    let sign = match line.fold {
        Fold::Open => "▾",
        _ if over => "∙",
        Fold::Folded => "▸",
        Fold::Nothing => " ",
    };
    buffer.set_stringn(area.x, area.y, sign, area.width.into(), style(Role::Dim));
    if alert && area.width > 1 {
        buffer.set_stringn(area.x + 1, area.y, ALERT, 1, style(Role::Alarm));
    }
    let named = slots
        .iter()
        .position(|slot| can_name(slot.column))
        .unwrap_or(0);
    let label_slots = around(slots, named);
    let context = state.context();
    for (at, slot) in slots.iter().enumerate() {
        let is_its_own = |name| entry.columns().iter().any(|column| column.name == name);
        if labelled && (label_slots.contains(&at) || !is_its_own(slot.column.name)) {
            continue;
        }
        let value = (slot.column.value)(entry, &context);
        if let Value::Parts(parts) = &value {
            bar::draw(state, parts, over, place_of(slot, area), buffer);
            continue;
        }
        let role = match &value {
            _ if over => Role::Dim,
            Value::SignedBytes(bytes) if *bytes != 0 => Role::Alarm,
            value if value.is_zero() => Role::Dim,
            _ if at == named && line.depth == 0 && !alert => Role::Strong,
            _ => plain,
        };
        let slot = match at == named && can_name(slot.column) {
            true => indented(slot, line.depth),
            false => *slot,
        };
        let fits = |text: &str| width(&escape(text)) <= slot.width.into();
        let text = value.text_that(state.units, &fits);
        cell(&text, style(role), &slot, area, buffer);
    }
    if labelled {
        let Some(first) = slots.get(label_slots.start) else {
            return;
        };
        let end = match slots.get(label_slots.end) {
            Some(slot) => slot.x.saturating_sub(1),
            None => area.width,
        };
        let whole = Slot {
            width: end.saturating_sub(first.x),
            x: first.x,
            ..slots[named]
        };
        let slot = indented(&whole, line.depth);
        let fits = |label: &str| width(&escape(label)) <= slot.width.into();
        let label = entry.label(&context, &fits);
        cell(&label, style(plain), &slot, area, buffer);
    }
}

/// Whether a column can identify a row: by a text, which may be indented and cut, and
/// not by a picture.
fn can_name(column: &Column) -> bool {
    column.align == Align::Left && !matches!(column.show, Show::Screen(_))
}

/// The columns around one up to the next quantities: the place of a label.
fn around(slots: &[Slot], named: usize) -> Range<usize> {
    let is_quantity = |slot: &Slot| slot.column.measure.is_some();
    let before = slots.iter().take(named).rposition(is_quantity);
    let after = slots.iter().skip(named).position(is_quantity);
    before.map_or(0, |at| at + 1)..after.map_or(slots.len(), |at| named + at)
}

/// A column's place, with what a row is indented taken off; half of the column stays.
fn indented(slot: &Slot, depth: u16) -> Slot {
    let indent = (usize::from(depth) * INDENT).min(usize::from(slot.width / 2));
    let indent = u16::try_from(indent).unwrap_or(0);
    Slot {
        x: slot.x + indent,
        width: slot.width - indent,
        ..*slot
    }
}

fn total(state: &State, slots: &[Slot], area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let context = state.context();
    let style = state.theme.style(Role::Strong);
    for slot in slots {
        let value = (slot.column.value)(&state.rows.total, &context);
        if let Value::Parts(parts) = &value {
            bar::draw(state, parts, false, place_of(slot, area), buffer);
            continue;
        }
        cell(&value.text_in(state.units), style, slot, area, buffer);
    }
}

/// A column's place in a line.
fn place_of(slot: &Slot, area: Rect) -> Rect {
    let x = slot.x.min(area.width);
    Rect {
        x: area.x + x,
        width: slot.width.min(area.width - x),
        ..area
    }
}

/// Text in its column, cut at the end of it.
fn cell(text: &str, style: Style, slot: &Slot, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() || slot.x >= area.width {
        return;
    }
    let room = usize::from(slot.width.min(area.width - slot.x));
    let escaped = escape(text);
    let shown = cut(&escaped, room);
    let blank = match slot.column.align {
        Align::Left => 0,
        Align::Right => u16::try_from(room - width(&shown)).unwrap_or(0),
    };
    buffer.set_stringn(area.x + slot.x + blank, area.y, &shown, room, style);
    debug_assert!(slot.x >= GUTTER, "the signs of rows stand there");
}
