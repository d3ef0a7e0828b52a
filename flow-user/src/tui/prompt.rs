//! The prompt: a line being typed, its keys, and its drawing with completions.

use std::ops::Range;

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
};

use super::{
    key::{Code, Key},
    line::{Line, split},
    theme::{Role, Theme},
};
use crate::{
    query::filter::Completion,
    sink::text::{escape, width},
};

/// The most characters of a line.
const LONGEST: usize = 4096;
/// The start of the line of candidates, after a blank.
const OFFERS: &str = "Tab";
/// Columns before each candidate, for the sign of the selected one.
const OFFER_SIGN: usize = 2;
/// There are more.
const MORE: &str = " …";

/// The line and its purpose.
#[derive(Clone, Debug)]
pub(super) struct Prompt {
    pub purpose: Purpose,
    pub text: String,
    /// Where the next character goes, in bytes.
    pub cursor: usize,
    /// Its error: the column in characters, from 1, and the reason.
    pub error: Option<(usize, String)>,
    /// Candidates for the word at the cursor, and the one that was inserted.
    pub completion: Completion,
    pub taken: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Purpose {
    /// A filter, with the previous one.
    Filter { before: String },
    /// A text to find.
    Search,
}

/// The effect of a key on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Its text changed.
    Changed,
    /// At most the cursor moved.
    Moved,
    /// The key is not for the line.
    Other,
}

/// A candidate for the word at the cursor, with its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offer {
    /// Its index.
    at: usize,
    x: u16,
    width: u16,
}

impl Prompt {
    pub fn new(purpose: Purpose, text: String) -> Self {
        Self {
            purpose,
            cursor: text.len(),
            text,
            error: None,
            completion: Completion::default(),
            taken: None,
        }
    }

    pub fn is_filter(&self) -> bool {
        matches!(self.purpose, Purpose::Filter { .. })
    }

    /// Characters before the cursor.
    pub fn before_cursor(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or(&self.text)
    }

    /// Inserts text at the cursor; line ends become blanks.
    pub fn insert(&mut self, text: &str) {
        for character in text.chars() {
            if self.text.chars().count() >= LONGEST {
                return;
            }
            let character = if character == '\n' { ' ' } else { character };
            if !character.is_control() {
                self.text.insert(self.cursor, character);
                self.cursor += character.len_utf8();
            }
        }
    }

    /// Handles a key common to all lines.
    pub fn key(&mut self, key: Key) -> Typed {
        if let Some(character) = key.typed() {
            self.insert(character.encode_utf8(&mut [0; 4]));
            return Typed::Changed;
        }
        match (key.code, key.ctrl) {
            (Code::Left, false) | (Code::Char('b'), true) => self.cursor = self.previous(),
            (Code::Right, false) | (Code::Char('f'), true) => self.cursor = self.next(),
            (Code::Home, _) | (Code::Char('a'), true) => self.cursor = 0,
            (Code::End, _) | (Code::Char('e'), true) => self.cursor = self.text.len(),
            (Code::Backspace, false) => return self.remove(self.previous()),
            (Code::Delete, false) => {
                let end = self.next();
                let start = std::mem::replace(&mut self.cursor, end);
                return self.remove(start);
            }
            (Code::Char('u'), true) => return self.remove(0),
            (Code::Char('w'), true) | (Code::Backspace, true) => {
                let words = self.before_cursor().trim_end();
                let start = words.rfind(' ').map_or(0, |blank| blank + 1);
                return self.remove(start);
            }
            _ => return Typed::Other,
        }
        Typed::Moved
    }

    /// Inserts the next candidate, or the previous; cyclic.
    pub fn complete(&mut self, forward: bool) -> Typed {
        let count = self.completion.candidates.len();
        self.take(match (self.taken, forward) {
            (None, true) => 0,
            (Some(at), true) => (at + 1) % count.max(1),
            (None | Some(0), false) => count.saturating_sub(1),
            (Some(at), false) => at - 1,
        })
    }

    /// Replaces the word at the cursor by a candidate, if it exists. If it is the only one, a blank
    /// follows, and the next word begins.
    pub fn take(&mut self, at: usize) -> Typed {
        let Completion { start, candidates } = &self.completion;
        let (start, count) = (*start, candidates.len());
        let Some(candidate) = candidates.get(at) else {
            return Typed::Moved;
        };
        let is_last = self.cursor == self.text.len();
        let end = if count == 1 && is_last { " " } else { "" };
        let text = [
            &self.text[..start],
            candidate,
            end,
            &self.text[self.cursor..],
        ];
        let text = text.concat();
        if text.chars().count() > LONGEST {
            return Typed::Moved;
        }
        self.cursor = start + candidate.len() + end.len();
        self.text = text;
        self.taken = (count > 1).then_some(at);
        Typed::Changed
    }

    /// The candidate in this column of a line so wide, if any.
    pub fn offer_at(&self, column: u16, columns: u16) -> Option<usize> {
        let (offers, _) = self.offers(columns);
        let hit = offers
            .iter()
            .find(|offer| offer.x <= column && column < offer.x + offer.width);
        hit.map(|offer| offer.at)
    }

    /// Draws the line; returns the cursor of the terminal. The error is beside the text, else
    /// `note`, and the text keeps half of the line.
    pub fn draw(
        &self,
        theme: Theme,
        note: Option<&str>,
        area: Rect,
        buffer: &mut Buffer,
    ) -> Position {
        let label = match self.purpose {
            Purpose::Filter { .. } => " filter / ",
            Purpose::Search => " find ",
        };
        let wrong = match &self.error {
            Some((column, message)) => format!("column {column}: {message}"),
            None => note.unwrap_or_default().to_owned(),
        };
        let wrong_width = width(&escape(&wrong)).min(usize::from(area.width / 2));
        let needed = u16::try_from(wrong_width + 2).unwrap_or(0);
        let (left, right) = split(area, area.width.saturating_sub(needed));
        let mut line = Line::new(left, theme);
        line.put(label, Role::Accent);
        let room = line.room().saturating_sub(1);
        let (text, skipped) = self.around_cursor(room);
        let start = area.x + u16::try_from(width(label)).unwrap_or(0);
        let at = |characters: &str| {
            let columns = width(&escape(characters)).saturating_sub(skipped);
            start.saturating_add(u16::try_from(columns).unwrap_or(u16::MAX))
        };
        line.put(&text, Role::Plain);
        line.draw(buffer);
        if let Some((column, _)) = self.error {
            // The character at which the filter becomes invalid.
            let good: String = self.text.chars().take(column.saturating_sub(1)).collect();
            let x = at(&good);
            if let Some(cell) = buffer.cell_mut((x, left.y)).filter(|_| x < left.right()) {
                cell.set_style(theme.style(Role::Mark));
            }
        }
        let mut line = Line::new(right, theme);
        line.skip(1);
        let role = if self.error.is_some() {
            Role::Alarm
        } else {
            Role::Dim
        };
        line.put(&wrong, role);
        line.draw(buffer);
        let cursor = at(self.before_cursor()).min(area.right().saturating_sub(1));
        Position::new(cursor, area.y)
    }

    /// Draws the candidates: as many as fit into one line.
    pub fn draw_candidates(&self, theme: Theme, area: Rect, buffer: &mut Buffer) {
        let candidates = &self.completion.candidates;
        let mut line = Line::new(area, theme);
        line.skip(1);
        if candidates.is_empty() {
            if self.error.is_none() {
                line.put_keys(&[("Enter", "keeps it")]);
            }
            line.put_keys(&[("Esc", "restores it")]);
            return line.draw(buffer);
        }
        line.put(OFFERS, Role::Accent);
        let (offers, more) = self.offers(area.width);
        for offer in offers {
            let (sign, role) = match self.taken == Some(offer.at) {
                true => (" ›", Role::Chosen),
                false => ("  ", Role::Dim),
            };
            line.go_to(offer.x);
            line.put(sign, Role::Accent);
            let room = usize::from(offer.width).saturating_sub(OFFER_SIGN);
            line.put_styled(&candidates[offer.at], room, theme.style(role));
        }
        if more {
            line.put(MORE, Role::Dim);
        }
        line.draw(buffer);
    }

    /// The candidates that have room in so many columns, and whether there are more to come.
    fn offers(&self, columns: u16) -> (Vec<Offer>, bool) {
        let candidates = &self.completion.candidates;
        let start = 1 + width(OFFERS);
        let room = usize::from(columns).saturating_sub(start + width(MORE));
        let widths = candidates.iter().map(|it| OFFER_SIGN + width(&escape(it)));
        let seen = page(widths.clone(), self.taken.unwrap_or(0), room);
        let more = seen.end < candidates.len();
        let mut x = start;
        let place = |(at, width): (usize, usize)| {
            let width = width.min(room);
            let offer = Offer {
                at,
                x: u16::try_from(x).unwrap_or(u16::MAX),
                width: u16::try_from(width).unwrap_or(u16::MAX),
            };
            x += width;
            offer
        };
        let widths = widths.enumerate().skip(seen.start).take(seen.len());
        (widths.map(place).collect(), more)
    }

    /// The part of the text that has room, with the cursor in it, and the columns before it.
    fn around_cursor(&self, room: usize) -> (String, usize) {
        let shown = escape(&self.text).into_owned();
        let before = width(&escape(self.before_cursor()));
        let from = before.saturating_sub(room);
        let mut skipped = 0;
        let mut text = String::new();
        let mut used = 0;
        for character in shown.chars() {
            let columns = width(character.encode_utf8(&mut [0; 4]));
            if skipped < from {
                skipped += columns;
            } else if used + columns <= room {
                used += columns;
                text.push(character);
            } else {
                break;
            }
        }
        (text, skipped)
    }

    /// Removes the text between `start` and the cursor.
    fn remove(&mut self, start: usize) -> Typed {
        if start >= self.cursor {
            return Typed::Moved;
        }
        self.text.drain(start..self.cursor);
        self.cursor = start;
        Typed::Changed
    }

    fn previous(&self) -> usize {
        let character = self.before_cursor().chars().next_back();
        self.cursor - character.map_or(0, char::len_utf8)
    }

    fn next(&self) -> usize {
        let character = self
            .text
            .get(self.cursor..)
            .and_then(|it| it.chars().next());
        self.cursor + character.map_or(0, char::len_utf8)
    }
}

/// As many as have room, of the page on which `chosen` is: nothing moves before the next page. At
/// least one.
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

    #[test]
    fn typing_moving_and_taking_out() {
        let mut prompt = Prompt::new(Purpose::Search, String::new());
        prompt.insert("täg\nport 80\x1b");
        assert_eq!(prompt.text, "täg port 80");
        assert_eq!(prompt.key(Key::ctrl('w')), Typed::Changed);
        assert_eq!(prompt.text, "täg port ");
        prompt.key(Key::plain(Code::Home));
        prompt.key(Key::plain(Code::Right));
        assert_eq!(prompt.key(Key::plain(Code::Delete)), Typed::Changed);
        assert_eq!(prompt.text, "tg port ");
        assert_eq!(prompt.key(Key::plain(Code::Backspace)), Typed::Changed);
        assert_eq!(prompt.key(Key::plain(Code::Backspace)), Typed::Moved);
        assert_eq!(prompt.key(Key::plain(Code::Char('x'))), Typed::Changed);
        assert_eq!(prompt.text, "xg port ");
        prompt.key(Key::plain(Code::End));
        assert_eq!(prompt.key(Key::plain(Code::Delete)), Typed::Moved);
        assert_eq!(prompt.key(Key::ctrl('u')), Typed::Changed);
        assert_eq!(prompt.text, "");
        assert_eq!(prompt.key(Key::plain(Code::Enter)), Typed::Other);
    }

    fn completing(text: &str, candidates: &[&str]) -> Prompt {
        let mut prompt = Prompt::new(Purpose::Search, text.to_owned());
        prompt.completion = Completion {
            start: text.rfind(' ').map_or(0, |blank| blank + 1),
            candidates: candidates.iter().map(|&it| it.to_owned()).collect(),
        };
        prompt
    }

    #[test]
    fn candidates_stand_in_for_the_word_at_the_cursor_one_after_the_other() {
        let mut prompt = completing("tcp p", &["port", "\"é p\""]);
        for (forward, expected) in [
            (true, "tcp port"),
            (true, "tcp \"é p\""),
            (true, "tcp port"),
            (false, "tcp \"é p\""),
            (false, "tcp port"),
        ] {
            assert_eq!(prompt.complete(forward), Typed::Changed);
            assert_eq!(prompt.text, expected);
            assert_eq!(prompt.cursor, prompt.text.len());
        }
        let mut prompt = completing("tcp p", &["port", "pid"]);
        prompt.complete(false);
        assert_eq!(prompt.text, "tcp pid");
    }

    #[test]
    fn the_only_candidate_is_done_with() {
        let mut prompt = completing("tcp p", &["port"]);
        assert_eq!(prompt.complete(true), Typed::Changed);
        assert_eq!((prompt.text.as_str(), prompt.taken), ("tcp port ", None));
        // What follows has its blank.
        let mut prompt = completing("p", &["port"]);
        prompt.text = "p 80".to_owned();
        prompt.complete(true);
        assert_eq!((prompt.text.as_str(), prompt.cursor), ("port 80", 4));
        assert_eq!(completing("x", &[]).complete(true), Typed::Moved);
        assert_eq!(completing("x", &[]).complete(false), Typed::Moved);
    }

    #[test]
    fn a_line_has_an_end() {
        let mut prompt = Prompt::new(Purpose::Search, String::new());
        prompt.insert(&"x".repeat(LONGEST + 10));
        assert_eq!(prompt.text.len(), LONGEST);
        let long = "x".repeat(LONGEST);
        let mut prompt = completing(&long, &["xx", &format!("{long}x")]);
        assert_eq!(prompt.complete(false), Typed::Moved);
        assert_eq!(prompt.text, long);
    }
}
