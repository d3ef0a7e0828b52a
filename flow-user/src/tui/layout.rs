//! The layout of the screen, computed from the state alone, so that mouse clicks can be mapped
//! without the drawn page.

use ratatui::layout::Rect;

use super::{prompt::Prompt, state::State, views::ViewId, widths::Widths};
use crate::{
    query::{
        columns::{Align, Column, Measure},
        groups::By,
        human,
    },
    sink::text::width,
};

/// The smallest screen that has room for a table.
pub(super) const LEAST: (u16, u16) = (60, 15);
/// The separator of columns.
const GAP: u16 = 1;
/// Columns at the left for the sign of each row.
pub(super) const GUTTER: u16 = 2;
/// The separator of tabs where there is room for it.
pub(super) const TAB_RULE: &str = " │ ";

/// The parts of the screen, from the top down. A part that has no room has no height.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts {
    pub title: Rect,
    pub graphs: Rect,
    pub facts: Rect,
    pub tabs: Rect,
    /// The filter, the pause and other modes.
    pub marks: Rect,
    pub header: Rect,
    pub body: Rect,
    pub total: Rect,
    /// Completions while a filter is typed.
    pub candidates: Rect,
    pub foot: Rect,
}

/// Whether the screen is large enough for a table.
pub(super) fn fits(size: (u16, u16)) -> bool {
    size.0 >= LEAST.0 && size.1 >= LEAST.1
}

/// The parts of the screen.
pub(super) fn parts(state: &State) -> Parts {
    let (columns, rows) = state.size;
    let mut top = 0;
    let mut take = |height: u16| {
        let height = height.min(rows.saturating_sub(top));
        let part = Rect::new(0, top, columns, height);
        top += height;
        part
    };
    let tall = has_facts(state);
    let graphs = match (state.compact, rows) {
        (true, _) => 0,
        (false, ..34) => 1,
        (false, _) => 2,
    };
    let marked = state.is_paused()
        || !state.filter.text.is_empty()
        || !state.filter.interfaces.is_empty()
        || hides_losses(state)
        || state.hides_ended
        || state.since.is_some()
        || state.here().grouping != 0
        || state.threshold.rate().is_some();
    let title = take(1);
    let graphs = take(graphs);
    let facts = take(u16::from(tall));
    let tabs = take(1);
    let marks = take(u16::from(marked));
    let header = take(1);
    let has_total = !state.compact && state.view.def().by.is_some();
    let filtering = state.prompt.as_ref().is_some_and(Prompt::is_filter);
    let below = 1 + u16::from(has_total) + u16::from(filtering);
    let body = take(rows.saturating_sub(header.bottom() + below));
    let total = take(u16::from(has_total));
    let candidates = take(u16::from(filtering));
    let foot = take(1);
    Parts {
        title,
        graphs,
        facts,
        tabs,
        marks,
        header,
        body,
        total,
        candidates,
        foot,
    }
}

/// Whether there is room for the line of facts.
fn has_facts(state: &State) -> bool {
    !state.compact && state.size.1 >= 20
}

/// Whether something was lost, and no line of facts says so.
pub(super) fn hides_losses(state: &State) -> bool {
    let mut losses = state.live.losses.iter();
    !has_facts(state) && losses.any(|(_, count)| *count > 0)
}

/// A tab.
#[derive(Clone, Debug)]
pub(super) struct Tab {
    pub view: ViewId,
    pub x: u16,
    pub text: String,
    /// The column after it and the room for its count.
    pub ends: u16,
}

/// The tabs. Their places depend on the width of the screen alone, so that they stay under the
/// mouse: counts have room for the largest there are.
pub(super) fn tabs(state: &State) -> Vec<Tab> {
    let room = usize::from(state.size.0);
    let wide = width(TAB_RULE);
    let forms = [
        (true, Counts::All, wide),
        (true, Counts::Ready, wide),
        (true, Counts::None, wide),
        (true, Counts::None, 2),
        (false, Counts::None, wide),
        (false, Counts::None, 1),
    ];
    for (at, (long, counted, gap)) in forms.into_iter().enumerate() {
        let name = |view: ViewId| {
            let def = view.def();
            let name = if long { def.title } else { def.short };
            format!("{} {name}", view.index() + 1)
        };
        let columns = |view: ViewId| match counted.has(view) {
            true => width(&name(view)) + 1 + COUNT,
            false => width(&name(view)),
        };
        let used: usize = ViewId::shown().map(|view| columns(view) + gap).sum();
        // A blank at the left, none at the right.
        if used + 1 - gap <= room || at + 1 == forms.len() {
            let mut x = 1;
            let place = |view: ViewId| {
                let text = match count(state, view) {
                    Some(count) if counted.has(view) => {
                        format!("{} {}", name(view), human::short_count(count))
                    }
                    _ => name(view),
                };
                let width = u16::try_from(columns(view)).unwrap_or(u16::MAX);
                let tab = Tab {
                    view,
                    x,
                    text,
                    ends: x.saturating_add(width),
                };
                x = tab.ends.saturating_add(u16::try_from(gap).unwrap_or(0));
                tab
            };
            return ViewId::shown().map(place).collect();
        }
    }
    Vec::new()
}

/// Columns of a count: of [`human::short_count`].
const COUNT: usize = 4;

/// Which tabs have a count.
#[derive(Clone, Copy)]
enum Counts {
    All,
    /// Those whose count is always known.
    Ready,
    None,
}

impl Counts {
    fn has(self, view: ViewId) -> bool {
        match self {
            Self::All => true,
            Self::Ready => matches!(
                view,
                ViewId::Group(By::Process | By::Flow | By::Interface) | ViewId::Events
            ),
            Self::None => false,
        }
    }
}

/// The number of rows of a view without a filter, where that is known without building it.
fn count(state: &State, view: ViewId) -> Option<usize> {
    let snapshot = &state.shown;
    match view {
        ViewId::Group(By::Process) => Some(snapshot.totals.processes),
        ViewId::Group(By::Flow) => Some(snapshot.totals.open_flows),
        ViewId::Group(By::Interface) => Some(snapshot.interfaces.len()),
        ViewId::Events => Some(state.shown_log().len()),
        view if view == state.view && state.filter.filter.is_all() => {
            Some(state.rows.top).filter(|count| *count > 0)
        }
        _ => None,
    }
}

/// A column on the screen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub column: &'static Column,
    pub x: u16,
    pub width: u16,
}

/// Which columns have room, and how much: as many as fit, those with the lowest priority number
/// first.
pub(super) fn slots(state: &State) -> Vec<Slot> {
    place(&state.columns(), &state.here().widths, state.size.0)
}

/// The area of boxes over the table: between the tabs and the last line.
pub(super) fn middle(state: &State) -> Rect {
    let parts = parts(state);
    Rect {
        y: parts.tabs.bottom(),
        height: parts.candidates.y.saturating_sub(parts.tabs.bottom()),
        ..parts.foot
    }
}

/// As [`slots`], of these columns in so much room.
pub(super) fn place(columns: &[&'static Column], widths: &Widths, room: u16) -> Vec<Slot> {
    let priority = |column: &Column| column.show.priority().unwrap_or(0);
    let room = room.saturating_sub(GUTTER);
    let all: Vec<(&'static Column, u16)> = columns
        .iter()
        .map(|column| (*column, widths.least(column).max(header_width(column))))
        .collect();
    let mut chosen = all.clone();
    let used = |chosen: &[(&'static Column, u16)]| -> u32 {
        let widths: u32 = chosen.iter().map(|it| u32::from(it.1 + GAP)).sum();
        widths.saturating_sub(GAP.into())
    };
    while used(&chosen) > room.into() && chosen.len() > 1 {
        let Some(last) = (0..chosen.len()).max_by_key(|&at| (priority(chosen[at].0), at)) else {
            break;
        };
        match chosen[last].0.measure {
            // Received goes with sent.
            Some(measure) if chosen.len() > 2 => {
                chosen.retain(|it| it.0.measure != Some(measure));
            }
            _ => {
                chosen.remove(last);
            }
        }
    }
    // Where a wide one had no room, narrower ones of less importance may have.
    let is_chosen = |chosen: &[(&'static Column, u16)], column: &Column| {
        chosen.iter().any(|it| it.0.name == column.name)
    };
    let mut left_out: Vec<&'static Column> = all.iter().map(|it| it.0).collect();
    left_out.retain(|column| !is_chosen(&chosen, column));
    left_out.sort_by_key(|column| priority(column));
    let has_rates = |chosen: &[(&'static Column, u16)]| {
        chosen.iter().any(|it| it.0.measure == Some(Measure::Rate))
    };
    // Nothing takes the room that the rates would need.
    if has_rates(&all) && !has_rates(&chosen) {
        left_out.clear();
    }
    for column in left_out {
        let goes_with = |other: &Column| match column.measure {
            Some(measure) => other.measure == Some(measure),
            None => other.name == column.name,
        };
        let mut more = all.clone();
        more.retain(|it| is_chosen(&chosen, it.0) || goes_with(it.0));
        if used(&more) <= room.into() {
            chosen = more;
        }
    }
    if let [(_, width)] = &mut chosen[..] {
        *width = (*width).min(room);
    }
    // First each column gets what its cells need, then those without a limit the rest, and without
    // such a column all of them; always the most important ones first.
    let mut left = u32::from(room).saturating_sub(used(&chosen));
    let mut order: Vec<usize> = (0..chosen.len()).collect();
    order.sort_by_key(|&at| priority(chosen[at].0));
    let unlimited = |column: &Column| match column.width.max {
        u16::MAX => u16::MAX,
        _ => 0,
    };
    let steps: [&dyn Fn(&Column) -> u16; 3] = [
        &|column| widths.wanted(column),
        &unlimited,
        &|it| match it.align {
            Align::Left => it.width.max,
            Align::Right => 0,
        },
    ];
    for most in steps {
        for &at in &order {
            let (column, width) = &mut chosen[at];
            let more = u32::from(most(column).saturating_sub(*width)).min(left);
            *width += u16::try_from(more).unwrap_or(0);
            left -= more;
        }
    }
    let mut x = GUTTER;
    let slot = |(column, width): (&'static Column, u16)| {
        let slot = Slot { column, x, width };
        x += width + GAP;
        slot
    };
    chosen.into_iter().map(slot).collect()
}

/// Columns of a header, with a cell for the mark of the order.
fn header_width(column: &Column) -> u16 {
    match width(column.header) {
        0 => 0,
        columns => u16::try_from(columns + 1).unwrap_or(u16::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address of IPv4 with its port is never cut where a column for it is shown.
    #[test]
    fn text_that_is_short_leaves_room_for_more_columns() {
        let columns: Vec<_> = ViewId::Group(By::Flow)
            .columns()
            .iter()
            .filter(|column| column.show.on_screen().is_some())
            .collect();
        let named = |slots: &[Slot], name: &str| {
            let mut slots = slots.iter();
            slots.find(|slot| slot.column.name == name).copied()
        };
        let unknown = place(&columns, &Widths::default(), 60);
        assert!(named(&unknown, "remote").is_some_and(|slot| slot.width >= 21));
        assert!(named(&unknown, "tx_rate").is_some());
    }

    #[test]
    fn columns_never_overlap_nor_leave_the_screen_and_the_first_stay() {
        for view in ViewId::ALL {
            let columns: Vec<_> = view
                .columns()
                .iter()
                .filter(|column| column.show.on_screen().is_some())
                .collect();
            for room in [0, 1, 20, 60, 80, 120, 200, 1000] {
                let slots = place(&columns, &Widths::default(), room);
                for pair in slots.windows(2) {
                    assert!(pair[0].x + pair[0].width < pair[1].x, "{view} {room}");
                }
                if let Some(last) = slots.last() {
                    assert!(
                        last.x + last.width <= room.max(GUTTER),
                        "{view} {room} {slots:?}"
                    );
                }
                let dropped = columns.len() - slots.len();
                assert!(room < 1000 || dropped == 0, "{view}");
            }
        }
    }
}
