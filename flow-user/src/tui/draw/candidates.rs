//! What could stand at the cursor while a filter is typed: as much as one line has room for.

use std::ops::Range;

use ratatui::{buffer::Buffer, layout::Rect};

use super::text::Line;
use crate::{
    sink::text::{escape, width},
    tui::{prompt::Prompt, state::State, theme::Role},
};

/// Before each candidate: two columns, in which the one that was taken has its sign.
const GAP: usize = 2;
/// There are more.
const MORE: &str = " …";

pub(super) fn draw(state: &State, prompt: &Prompt, area: Rect, buffer: &mut Buffer) {
    let candidates = &prompt.completion.candidates;
    let mut line = Line::new(area);
    line.skip(1);
    if candidates.is_empty() {
        if prompt.error.is_none() {
            line.put_keys(state, &[("Enter", "keeps it")]);
        }
        line.put_keys(state, &[("Esc", "leaves it as it was")]);
        return line.draw(buffer);
    }
    line.put(state, "Tab", Role::Accent);
    let room = line.room().saturating_sub(width(MORE));
    let widths = candidates.iter().map(|it| GAP + width(&escape(it)));
    let seen = page(widths, prompt.taken.unwrap_or(0), room);
    let more = seen.end < candidates.len();
    for at in seen {
        let (gap, role) = match prompt.taken == Some(at) {
            true => (" ›", Role::Chosen),
            false => ("  ", Role::Dim),
        };
        line.put(state, gap, Role::Accent);
        line.put_styled(
            &candidates[at],
            room.saturating_sub(GAP),
            state.theme.style(role),
        );
    }
    if more {
        line.put(state, MORE, Role::Dim);
    }
    line.draw(buffer);
}

/// As many as have room, of the page on which `chosen` is: nothing moves before the next page. At least one.
fn page(widths: impl Iterator<Item = usize>, chosen: usize, room: usize) -> Range<usize> {
    let (mut start, mut used, mut end) = (0, 0, 0);
    for (at, width) in widths.enumerate() {
        if at > start && used + width > room {
            if chosen < at {
                break;
            }
            (start, used) = (at, 0);
        }
        used += width;
        end = at + 1;
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let widths = [4, 4, 9, 30, 2];
        let page = |chosen| page(widths.into_iter(), chosen, 10);
        let pages = [0, 1, 2, 3, 4].map(page);
        assert_eq!(pages, [0..2, 0..2, 2..3, 3..4, 4..5]);
        assert_eq!(super::page([].into_iter(), 0, 10), 0..0);
    }
}
