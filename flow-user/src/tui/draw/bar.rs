//! A bar of the parts of a whole: each part has its pattern, and is named beside it.

use ratatui::{buffer::Buffer, layout::Rect};

use crate::{
    query::human,
    tui::{layout::GUTTER, line::Line, state::State, theme::Role},
};

/// The pattern and the role of each part, in the order of the parts; further ones look like the
/// last. None is as high as the line, so that bars of rows do not melt into one shape.
const PATTERNS: [(&str, Role); 7] = [
    ("▄", Role::Rx),
    ("■", Role::Accent),
    ("=", Role::Tx),
    (":", Role::Plain),
    ("∙", Role::Plain),
    ("-", Role::Plain),
    ("!", Role::Alarm),
];
/// Columns of the bar.
const LEAST: usize = 6;
const MOST: usize = 30;
/// Columns between the bar and the words, and between words.
const GAP: u16 = 2;

/// The pattern of a part.
pub(in crate::tui) fn pattern(at: usize) -> &'static str {
    PATTERNS[at.min(PATTERNS.len() - 1)].0
}

/// Draws the bar, and behind it the names and shares of the parts, the largest first, as many as
/// have room. All bars of a column are of the same length.
pub(super) fn draw(
    state: &State,
    parts: &[(&'static str, u64)],
    dim: bool,
    area: Rect,
    buffer: &mut Buffer,
) {
    let whole: u128 = parts.iter().map(|it| u128::from(it.1)).sum();
    if whole == 0 {
        return;
    }
    let looks = |role| if dim { Role::Dim } else { role };
    let mut present: Vec<&(&str, u64)> = parts.iter().filter(|it| it.1 > 0).collect();
    present.sort_by_key(|it| std::cmp::Reverse(it.1));
    let sum = u64::try_from(whole).unwrap_or(u64::MAX);
    let mut line = Line::new(area, state.theme);
    let room = line.room();
    let columns = (room / 3).clamp(LEAST, MOST).min(room);
    for (at, cells) in cells(parts, whole, columns).into_iter().enumerate() {
        let (_, role) = PATTERNS[at.min(PATTERNS.len() - 1)];
        line.put(&pattern(at).repeat(cells), looks(role));
    }
    for (name, part) in present {
        line.skip(GAP);
        let text = format!("{name} {}", human::share(*part, sum));
        if !line.put_whole(&text, looks(Role::Plain)) {
            break;
        }
    }
    line.draw(buffer);
}

/// Draws the pattern of each part that there is.
pub(super) fn legend(
    state: &State,
    parts: &[(&'static str, u64)],
    area: Rect,
    buffer: &mut Buffer,
) {
    let mut line = Line::new(area, state.theme);
    line.skip(GUTTER);
    line.put("frames by cause", Role::Dim);
    for (at, (name, _)) in parts.iter().enumerate().filter(|(_, it)| it.1 > 0) {
        line.skip(GAP);
        let (_, role) = PATTERNS[at.min(PATTERNS.len() - 1)];
        line.put(pattern(at), role);
        line.put(&format!(" {name}"), Role::Dim);
    }
    line.draw(buffer);
}

/// Columns of each part: at least one for each that is not zero while there is room, taken from the
/// largest.
fn cells(parts: &[(&'static str, u64)], whole: u128, columns: usize) -> Vec<usize> {
    let mut cells: Vec<usize> = parts
        .iter()
        .map(|(_, part)| {
            let share = u128::from(*part) * columns as u128 / whole;
            usize::try_from(share)
                .unwrap_or(columns)
                .max(usize::from(*part > 0))
        })
        .collect();
    let Some(largest) = (0..parts.len()).max_by_key(|at| parts[*at].1) else {
        return cells;
    };
    let others: usize = cells.iter().sum::<usize>() - cells[largest];
    cells[largest] = columns.saturating_sub(others);
    let mut left = columns;
    for cell in &mut cells {
        *cell = (*cell).min(left);
        left -= *cell;
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_seen_and_all_of_them_fill_the_bar() {
        let parts = |numbers: [u64; 3]| numbers.map(|number| ("x", number));
        assert_eq!(cells(&parts([990, 9, 1]), 1000, 10), [8, 1, 1]);
        assert_eq!(cells(&parts([1, 0, 1]), 2, 5), [2, 0, 3]);
        assert_eq!(cells(&parts([1, 1, u64::MAX]), u128::MAX, 2), [1, 1, 0]);
        assert_eq!(cells(&parts([5, 5, 5]), 15, 0), [0, 0, 0]);
    }
}
