//! The table: header, visible rows, and the sum of all rows.

use std::ops::Range;

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{bar, filter_bar::ALERT};
use crate::{
    query::{
        columns::{Align, Column, Loses, Measure, Show, Value},
        entry::Entry,
        graph,
    },
    sink::text::{cut, cut_end, escape, width},
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

/// The columns of a table, with what their cells are drawn by.
#[derive(Clone, Copy)]
pub(in crate::tui) struct Table<'a> {
    state: &'a State,
    slots: &'a [Slot],
    /// The top of the graphs of rows, one for all of them so that they can be compared.
    peak: f64,
}

pub(super) fn draw(state: &State, parts: &Parts, buffer: &mut Buffer) {
    let slots = layout::slots(state);
    let here = state.here();
    let rows = &state.rows;
    let height = usize::from(parts.body.height);
    let seen = rows.lines.iter().skip(here.offset).take(height);
    let seen = seen.map(|line| &rows.entries[line.at as usize]);
    let table = Table::new(state, &slots, seen);
    header(
        state,
        &slots,
        here.sort,
        &rows.entries,
        parts.header,
        buffer,
    );
    table.body(parts.body, buffer);
    table.total(parts.total, buffer);
}

/// The headers. Those of the columns that rows are sorted by are underlined and have a mark: down from
/// the largest, up from the smallest. Without an order rows are by both rates together.
pub(in crate::tui) fn header(
    state: &State,
    slots: &[Slot],
    sort: Option<(&'static Column, bool)>,
    entries: &[Entry],
    area: Rect,
    buffer: &mut Buffer,
) {
    let is_both = sort.is_none_or(|(by, _)| by.name == "rate");
    let is_sorted = |column: &Column| match sort {
        Some((by, _)) if !is_both => by.name == column.name,
        _ => column.measure == Some(Measure::Rate),
    };
    let reverse = sort.is_some_and(|(_, reverse)| reverse);
    for slot in slots {
        let column = slot.column;
        if !is_sorted(column) || column.header.is_empty() {
            let style = state.theme.style(Role::Header);
            cell(column.header, style, slot, area, buffer);
            continue;
        }
        let context = state.context();
        let mut values = entries.iter().map(|entry| (column.value)(entry, &context));
        let falls = is_both || values.find_map(|it| it.falls()).unwrap_or_default();
        let mark = if falls == reverse { "▴" } else { "▾" };
        let text = match column.align {
            Align::Right => format!("{mark}{}", column.header),
            Align::Left => format!("{}{mark}", column.header),
        };
        cell(&text, state.theme.style(Role::Sorted), slot, area, buffer);
    }
}

/// Why there are no rows.
fn nothing(state: &State) -> &'static str {
    if state.live.generation == 0 {
        return "Waiting for the first counters.";
    }
    let filters = !state.filter.filter.is_all();
    match (filters, state.hides_ended) {
        (true, true) => return "No row matches; ended rows are hidden (H).",
        (false, true) if state.view.has_content() => {
            return "No rows; ended ones are hidden (H).";
        }
        _ => {}
    }
    if !filters || state.view.columns().is_empty() {
        return state.view.def().empty;
    }
    match state.filter.text.as_str() {
        "" => "No traffic on the selected interfaces yet.",
        text if text == state.filter.given => {
            "Nothing matches the filter of the command line; / changes it."
        }
        _ => "Nothing matches the filter; Esc clears it.",
    }
}

impl<'a> Table<'a> {
    /// The table of the rows that are seen.
    pub fn new<'e>(
        state: &'a State,
        slots: &'a [Slot],
        seen: impl Iterator<Item = &'e Entry>,
    ) -> Self {
        let context = state.context();
        let drawn = slots
            .iter()
            .find(|slot| matches!(slot.column.show, Show::Screen(_)));
        let peak = |entry: &Entry| match (drawn?.column.value)(entry, &context) {
            Value::Graph { peak, .. } => Some(peak),
            _ => None,
        };
        Self {
            state,
            slots,
            peak: seen.filter_map(peak).fold(0.0, f64::max),
        }
    }

    fn body(&self, area: Rect, buffer: &mut Buffer) {
        let state = self.state;
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
            self.row(entry, line, line.labelled, place, buffer);
            if here.chosen.is_some() && at == here.line {
                state.theme.select(place, buffer);
            }
        }
        self.legend(area, buffer);
    }

    /// The patterns of bars, once, in the last line of the body if that is free.
    fn legend(&self, area: Rect, buffer: &mut Buffer) {
        let has_room = self.state.rows.len() < usize::from(area.height);
        let context = self.state.context();
        let parts = self.slots.iter().find_map(|slot| {
            let value = (slot.column.value)(&self.state.rows.total, &context);
            match value {
                Value::Parts(parts) => Some(parts),
                _ => None,
            }
        });
        let Some(parts) = parts.filter(|_| has_room) else {
            return;
        };
        let last = Rect {
            y: area.bottom() - 1,
            height: 1,
            ..area
        };
        bar::legend(self.state, &parts, last, buffer);
    }

    /// A row; with a label in place of the columns that identify it.
    pub fn row(
        &self,
        entry: &Entry,
        line: &rows::Line,
        labelled: bool,
        area: Rect,
        buffer: &mut Buffer,
    ) {
        let Self { state, slots, .. } = *self;
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
        let first_text = slots
            .iter()
            .position(|slot| can_name(slot.column))
            .unwrap_or(0);
        let label_slots = around(slots, first_text);
        let context = state.context();
        let statement = entry.statement();
        let shows_local = slots.iter().any(|slot| slot.column.name == "local");
        let stated_from = stated_from(slots);
        for (at, slot) in slots.iter().enumerate() {
            let is_its_own = |name| entry.columns().iter().any(|column| column.name == name);
            if labelled && (label_slots.contains(&at) || !is_its_own(slot.column.name)) {
                continue;
            }
            if statement.is_some() && at >= stated_from {
                continue;
            }
            let value = entry.value(slot.column, &context, shows_local);
            if let Value::Parts(parts) = &value {
                bar::draw(state, parts, over, place_of(slot, area), buffer);
                continue;
            }
            let role = match &value {
                _ if over => Role::Dim,
                Value::SignedBytes(bytes) if *bytes != 0 => Role::Alarm,
                Value::Graph { .. } => Role::Dim,
                value if value.is_zero() => Role::Faint,
                _ if slot.column.names && line.depth == 0 && !alert => Role::Strong,
                _ => plain,
            };
            let slot = match at == first_text && can_name(slot.column) {
                true => indented(slot, line.depth),
                false => *slot,
            };
            cell(&self.text(&value, &slot), style(role), &slot, area, buffer);
        }
        let (from, text_slots, text) = match (statement, labelled) {
            (Some(text), _) => (first_text, stated_from..slots.len(), text),
            (None, true) => {
                let whole = spanned(slots, &label_slots, area);
                let slot = whole.map(|slot| indented(&slot, line.depth));
                let fits = |label: &str| {
                    slot.is_some_and(|slot| width(&escape(label)) <= slot.width.into())
                };
                (first_text, label_slots, entry.label(&context, &fits))
            }
            (None, false) => return,
        };
        let Some(whole) = spanned(slots, &text_slots, area) else {
            return;
        };
        // The text is aligned and cut as that of the column that says what a row is.
        let whole = Slot {
            column: slots[from].column,
            ..whole
        };
        let slot = indented(&whole, line.depth);
        cell(&text, style(plain), &slot, area, buffer);
    }

    /// The text of a value in a column: a name without what is appended to it if both do not fit.
    fn text(&self, value: &Value, slot: &Slot) -> String {
        match value {
            Value::Graph { rates, .. } => graph::row(rates, self.peak),
            value => {
                let fits = |text: &str| width(&escape(text)) <= slot.width.into();
                value.text_that(self.state.units, &fits)
            }
        }
    }

    fn total(&self, area: Rect, buffer: &mut Buffer) {
        if area.is_empty() {
            return;
        }
        let Self { state, slots, .. } = *self;
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
}

/// The first of the columns that a statement takes: after those that say when and what kind of
/// event it is.
fn stated_from(slots: &[Slot]) -> usize {
    let says_when = |slot: &Slot| ["time", "event"].contains(&slot.column.name);
    slots.iter().rposition(says_when).map_or(0, |at| at + 1)
}

/// The place of several columns together.
fn spanned(slots: &[Slot], range: &Range<usize>, area: Rect) -> Option<Slot> {
    let first = slots.get(range.start)?;
    let end = match slots.get(range.end) {
        Some(slot) => slot.x.saturating_sub(1),
        None => area.width,
    };
    Some(Slot {
        width: end.saturating_sub(first.x),
        ..*first
    })
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

/// A column's place in a line.
fn place_of(slot: &Slot, area: Rect) -> Rect {
    let x = slot.x.min(area.width);
    Rect {
        x: area.x + x,
        width: slot.width.min(area.width - x),
        ..area
    }
}

/// Text in its column, cut where it has no room.
fn cell(text: &str, style: Style, slot: &Slot, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() || slot.x >= area.width {
        return;
    }
    let room = usize::from(slot.width.min(area.width - slot.x));
    let escaped = escape(text);
    let shown = match slot.column.loses {
        Loses::End => cut_end(&escaped, room),
        Loses::Middle => cut(&escaped, room),
    };
    let blank = match slot.column.align {
        Align::Left => 0,
        Align::Right => u16::try_from(room - width(&shown)).unwrap_or(0),
    };
    buffer.set_stringn(area.x + slot.x + blank, area.y, &shown, room, style);
    debug_assert!(slot.x >= GUTTER, "the signs of rows stand there");
}
