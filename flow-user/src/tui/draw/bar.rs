//! A bar of the parts of a whole: each part has its pattern, and is named beside it.

use ratatui::{buffer::Buffer, layout::Rect};

use crate::{
    query::human,
    sink::text::width,
    tui::{line::Line, state::State, theme::Role},
};

/// The pattern and the role of each part, in the order of the parts; further ones look like the
/// last.
const PATTERNS: [(&str, Role); 7] = [
    ("█", Role::Rx),
    ("▓", Role::Accent),
    ("▒", Role::Tx),
    ("░", Role::Plain),
    ("∙", Role::Plain),
    ("-", Role::Plain),
    ("!", Role::Alarm),
];
/// Columns of the bar.
const LEAST: usize = 6;
const MOST: usize = 40;

/// Draws the bar, and behind it the names of the parts, the largest first.
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
    let looks = |at: usize| {
        let (pattern, role) = PATTERNS[at.min(PATTERNS.len() - 1)];
        (pattern, if dim { Role::Dim } else { role })
    };
    let mut present: Vec<usize> = (0..parts.len()).filter(|at| parts[*at].1 > 0).collect();
    present.sort_by_key(|at| std::cmp::Reverse(parts[*at].1));
    let sum = u64::try_from(whole).unwrap_or(u64::MAX);
    let words: Vec<(usize, String)> = present
        .into_iter()
        .map(|at| {
            (
                at,
                format!("{} {}", parts[at].0, human::share(parts[at].1, sum)),
            )
        })
        .collect();
    let mut line = Line::new(area, state.theme);
    // Without room for all, names come without shares.
    let needed = |gap: usize, words: &[(usize, String)]| -> usize {
        words.iter().map(|(_, text)| gap + 2 + width(text)).sum()
    };
    let whole_words = needed(2, &words) + LEAST <= line.room();
    let (gap, words) = match whole_words {
        true => (2, words),
        false => {
            let names = words.iter().map(|(at, _)| (*at, parts[*at].0.to_owned()));
            (1, names.collect())
        }
    };
    let worded = needed(gap, &words);
    let columns = line.room().saturating_sub(worded).clamp(LEAST, MOST);
    for (at, cells) in cells(parts, whole, columns.min(line.room()))
        .into_iter()
        .enumerate()
    {
        let (pattern, role) = looks(at);
        line.put(&pattern.repeat(cells), role);
    }
    for (at, text) in words {
        let (pattern, role) = looks(at);
        if gap + 2 + width(&text) > line.room() {
            continue;
        }
        line.skip(u16::try_from(gap).unwrap_or(u16::MAX));
        line.put(pattern, role);
        line.put(
            &format!(" {text}"),
            if dim { Role::Dim } else { Role::Plain },
        );
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
