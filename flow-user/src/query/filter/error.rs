//! Errors of a filter expression, with their place.

use std::fmt;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::query::hostile::is_hostile;

/// Columns of the expression shown on either side of the mistake.
const CONTEXT: usize = 60;

/// An invalid filter expression. Displays as a message of three lines: what was expected, the
/// expression, and a caret under the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    expression: String,
    /// Byte offset into `expression`.
    offset: usize,
    /// The end of what is wrong, likewise.
    end: usize,
    message: String,
}

impl FilterError {
    pub(super) fn new(expression: &str, offset: usize, message: impl Into<String>) -> Self {
        Self {
            expression: expression.to_owned(),
            offset,
            end: offset,
            message: message.into(),
        }
    }

    /// The same, where what is wrong reaches as far as this.
    pub(super) fn until(self, end: usize) -> Self {
        Self { end, ..self }
    }

    /// Whether it is about what is being typed at `cursor`, a place in bytes.
    pub(super) fn touches(&self, cursor: usize) -> bool {
        (self.offset..=self.end).contains(&cursor)
    }

    /// Column of the mistake, in characters, the first being 1.
    pub fn column(&self) -> usize {
        self.before().chars().count() + 1
    }

    /// What was expected and what was found.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Its message without what was found: what has to come, where the expression is unfinished.
    pub fn expected(&self) -> &str {
        let end = self.message.find("; found ");
        end.map_or(&self.message, |end| &self.message[..end])
    }

    fn before(&self) -> &str {
        self.expression.get(..self.offset).unwrap_or_default()
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = printable(self.before());
        let after = printable(self.expression.get(self.offset..).unwrap_or_default());
        let head = last_columns(&before, CONTEXT);
        let tail = first_columns(&after, CONTEXT);
        let cut_head = if head.len() < before.len() { "…" } else { "" };
        let cut_tail = if tail.len() < after.len() { "…" } else { "" };
        writeln!(
            f,
            "filter, column {}: {}",
            self.column(),
            printable(&self.message)
        )?;
        writeln!(f, "  {cut_head}{head}{tail}{cut_tail}")?;
        write!(f, "  {:1$}^", "", cut_head.width() + head.width())
    }
}

impl std::error::Error for FilterError {}

/// `text` with every character replaced that a terminal might interpret, or that has no width.
fn printable(text: &str) -> String {
    let shown = |character: char| match character.width() {
        Some(1..) if !is_hostile(character) => character,
        _ => char::REPLACEMENT_CHARACTER,
    };
    text.chars().map(shown).collect()
}

fn first_columns(text: &str, columns: usize) -> &str {
    match text.char_indices().nth(columns) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

fn last_columns(text: &str, columns: usize) -> &str {
    match text.char_indices().rev().nth(columns.saturating_sub(1)) {
        Some((start, _)) => &text[start..],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_stands_under_the_mistake() {
        let error = FilterError::new("tcp porrt 80", 4, "unknown word `porrt`");
        assert_eq!(
            error.to_string(),
            "filter, column 5: unknown word `porrt`\n  tcp porrt 80\n      ^"
        );
    }

    #[test]
    fn a_long_expression_is_shown_around_the_mistake() {
        let expression = format!("{} oops {}", "a".repeat(500), "b".repeat(500));
        let error = FilterError::new(&expression, 501, "no");
        let text = error.to_string();
        assert!(text.lines().all(|line| line.width() < 140), "{text}");
        assert_eq!(error.column(), 502);
    }

    #[test]
    fn control_characters_and_wide_ones_keep_the_caret_in_place() {
        let error = FilterError::new("日\x1b[2J\u{fff9}x", 7, "no");
        let text = error.to_string();
        assert!(!text.contains(['\x1b', '\u{fff9}']));
        let caret = text.lines().nth(2).map(|line| line.width());
        assert_eq!(caret, Some(2 + 2 + 1 + 3 + 1));
    }
}
