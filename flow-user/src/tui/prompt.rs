//! The prompt: a line being typed, its keys, and its drawing with completions.

use std::{collections::VecDeque, ops::Range};

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
    widgets::{Clear, Widget as _},
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

/// Earlier lines that are kept.
const EARLIER: usize = 100;
/// Lines that an error may take.
const ERROR_LINES: u16 = 4;

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
    /// What has to come at the cursor, if more has to come.
    pub expected: Option<String>,
    /// Candidates for the word at the cursor, and the one that was inserted.
    pub completion: Completion,
    pub taken: Option<usize>,
    /// Which of the earlier lines is recalled, and what was typed before.
    recalled: Option<(usize, String)>,
}

/// Lines that were entered earlier, each once, the latest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Earlier(VecDeque<String>);

impl Earlier {
    pub fn remember(&mut self, line: &str) {
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        self.0.retain(|it| it != line);
        self.0.push_front(line.to_owned());
        self.0.truncate(EARLIER);
    }
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
            expected: None,
            completion: Completion::default(),
            taken: None,
            recalled: None,
        }
    }

    /// Replaces the text by the next earlier line, or by a later one; the latest is what was typed.
    pub fn recall(&mut self, earlier: &Earlier, further: bool) -> Typed {
        let Earlier(lines) = earlier;
        let at = self.recalled.as_ref().map(|(at, _)| *at);
        let text = if further {
            let from = at.map_or(0, |at| at + 1);
            let mut older = lines.iter().enumerate().skip(from);
            // Usually the latest one stands there already.
            let Some((at, line)) = older.find(|(_, line)| **line != self.text.trim()) else {
                return Typed::Moved;
            };
            let typed = match self.recalled.take() {
                Some((_, typed)) => typed,
                None => std::mem::take(&mut self.text),
            };
            self.recalled = Some((at, typed));
            line.clone()
        } else {
            let Some((at, typed)) = self.recalled.take() else {
                return Typed::Moved;
            };
            let newer = at.checked_sub(1).and_then(|at| Some((at, lines.get(at)?)));
            match newer.filter(|(_, line)| **line != typed.trim()) {
                Some((at, line)) => {
                    self.recalled = Some((at, typed));
                    line.clone()
                }
                None => typed,
            }
        };
        self.cursor = text.len();
        self.text = text;
        Typed::Changed
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

    /// Draws the line; returns the cursor of the terminal. Beside the text is `note`, and the text
    /// keeps half of the line.
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
        let note = note.unwrap_or_default();
        let note_width = width(&escape(note)).min(usize::from(area.width / 2));
        let needed = u16::try_from(note_width + 2).unwrap_or(0);
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
        line.put(note, Role::Dim);
        line.draw(buffer);
        let cursor = at(self.before_cursor()).min(area.right().saturating_sub(1));
        Position::new(cursor, area.y)
    }

    /// Draws the candidates: as many as fit into one line; or the error, in as many lines upwards
    /// as it needs.
    pub fn draw_candidates(&self, theme: Theme, area: Rect, buffer: &mut Buffer) {
        if let Some((column, message)) = &self.error {
            let error = format!("column {column}: {message}");
            return draw_error(&error, theme, area, buffer);
        }
        let candidates = &self.completion.candidates;
        let mut line = Line::new(area, theme);
        line.skip(1);
        if candidates.is_empty() {
            match &self.expected {
                Some(expected) => line.put_start(expected, Role::Dim),
                None => line.put_keys(&[("Enter", "apply"), ("Esc", "cancel")]),
            }
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

/// Draws an error in the line of the candidates and, where it is longer, above it.
fn draw_error(error: &str, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let lines = wrapped(&escape(error), usize::from(area.width).saturating_sub(2));
    let most = ERROR_LINES.min(area.y - buffer.area.y + area.height);
    let count = u16::try_from(lines.len()).unwrap_or(most).min(most);
    let first = area.bottom().saturating_sub(count);
    for (y, text) in (first..area.bottom()).zip(&lines) {
        let row = Rect {
            y,
            height: 1,
            ..area
        };
        Clear.render(row, buffer);
        let mut line = Line::new(row, theme);
        line.skip(1);
        line.put_start(text, Role::Alarm);
        line.draw(buffer);
    }
}

/// The text in lines of so many columns, broken at blanks; a longer word has a line of its own.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
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
    fn earlier_lines_are_recalled_and_what_was_typed_comes_back() {
        let mut earlier = Earlier::default();
        for line in ["tcp", "udp ", " ", "curl", "tcp"] {
            earlier.remember(line);
        }
        let mut prompt = Prompt::new(Purpose::Search, "tcp".to_owned());
        prompt.insert("x");
        let text = |prompt: &mut Prompt, further| {
            let typed = prompt.recall(&earlier, further);
            assert_eq!(prompt.cursor, prompt.text.len());
            (typed == Typed::Changed).then(|| prompt.text.clone())
        };
        let texts = [true, true, true, true, false, false, false, false];
        let recalled = texts.map(|further| text(&mut prompt, further));
        let expected = ["tcp", "curl", "udp", "", "curl", "tcp", "tcpx", ""];
        let expected = expected.map(|it| (!it.is_empty()).then(|| it.to_owned()));
        assert_eq!(recalled, expected);
        // The line that stands there is not recalled.
        let mut prompt = Prompt::new(Purpose::Search, "tcp".to_owned());
        assert_eq!(text(&mut prompt, true).as_deref(), Some("curl"));
        assert_eq!(text(&mut prompt, false).as_deref(), Some("tcp"));
        for line in 0..2 * EARLIER {
            earlier.remember(&line.to_string());
        }
        assert_eq!(earlier.0.len(), EARLIER);
    }

    #[test]
    fn a_long_error_is_broken_between_its_words() {
        let lines = wrapped("expected a port, such as 443", 12);
        assert_eq!(lines, ["expected a", "port, such", "as 443"]);
        assert_eq!(wrapped("expected", 3), ["expected"]);
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
