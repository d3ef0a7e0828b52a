//! Text of a given width in columns of the terminal.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar as _;

const ELLIPSIS: char = '…';

/// Columns that escaped text takes.
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// `text` in at most `room` columns: too long a text loses its middle, because the ends of paths
/// and addresses say most.
pub fn cut(text: &str, room: usize) -> Cow<'_, str> {
    if width(text) <= room {
        return Cow::Borrowed(text);
    }
    if room == 0 {
        return Cow::Borrowed("");
    }
    let kept = room - 1;
    let head = prefix(text.chars(), kept.div_ceil(2));
    let tail_room = kept - width(&head);
    let tail: String = {
        let reversed = prefix(text.chars().rev(), tail_room);
        let tail: String = reversed.chars().rev().collect();
        // A mark that would combine with the ellipsis is dropped too.
        tail.trim_start_matches(|mark| columns(mark) == 0)
            .to_owned()
    };
    Cow::Owned(format!("{head}{ELLIPSIS}{tail}"))
}

/// `text` in at most `room` columns: too long a text loses its end.
pub fn cut_end(text: &str, room: usize) -> Cow<'_, str> {
    if width(text) <= room {
        return Cow::Borrowed(text);
    }
    if room == 0 {
        return Cow::Borrowed("");
    }
    let kept = prefix(text.chars(), room - 1);
    Cow::Owned(format!("{kept}{ELLIPSIS}"))
}

/// `text` in lines of at most `room` columns, which must be at least three, as wide as a character
/// can be: broken at blanks, and within words that are longer than a line.
pub fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        let needed = width(word.trim_end_matches(' '));
        if used > 0 && used + needed > room && needed <= room {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        for character in word.chars() {
            let wide = columns(character);
            // A blank that has no room is where the line breaks.
            if used + wide > room && character == ' ' {
                continue;
            }
            if used + wide > room {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(character);
            used += wide;
        }
    }
    lines.push(line);
    lines
}

/// `text` with blanks after it up to `room` columns.
pub(super) fn pad_right(text: &str, room: usize) -> String {
    let blanks = room.saturating_sub(width(text));
    format!("{text}{:blanks$}", "")
}

/// `text` with blanks before it up to `room` columns.
pub(super) fn pad_left(text: &str, room: usize) -> String {
    let blanks = room.saturating_sub(width(text));
    format!("{:blanks$}{text}", "")
}

fn columns(character: char) -> usize {
    character.width().unwrap_or(0)
}

/// As many characters as have room, in their order.
fn prefix(characters: impl Iterator<Item = char>, room: usize) -> String {
    let mut used = 0;
    characters
        .take_while(|character| {
            used += columns(*character);
            used <= room
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::escape, *};

    #[test]
    fn the_middle_goes() {
        assert_eq!(
            cut("/usr/lib/postgresql/16/bin/postgres", 13),
            "/usr/l…stgres"
        );
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("日本語日本語", 6), "日…語");
        assert_eq!(cut("abc", 1), "…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut_end("日本語", 4), "日…");
        assert_eq!(pad_left("é", 3), "  é");
        assert_eq!(pad_right("日", 3), "日 ");
    }

    #[test]
    fn lines_break_at_blanks_or_where_they_must() {
        assert_eq!(
            wrap("curl -O https://a.b/c", 8),
            ["curl -O ", "https://", "a.b/c"]
        );
        assert_eq!(wrap("one two", 7), ["one two"]);
        assert_eq!(wrap("one two", 3), ["one", "two"]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
        assert_eq!(wrap("", 4), [""]);
    }

    proptest! {
        #[test]
        fn lines_have_room_and_lose_nothing_but_blanks(text in any::<String>(), room in 3..40_usize) {
            let text = escape(&text).into_owned();
            let lines = wrap(&text, room);
            prop_assert!(lines.iter().all(|line| width(line) <= room));
            let dense = |text: &str| text.replace(' ', "");
            prop_assert_eq!(dense(&lines.concat()), dense(&text));
        }

        #[test]
        fn never_wider_than_its_room(text in any::<String>(), room in 0..40_usize) {
            prop_assert!(width(&cut(&escape(&text), room)) <= room);
        }
    }
}
