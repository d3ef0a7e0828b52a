//! Replaces the symbols that Flow draws where a terminal has no glyphs for them.
//!
//! Everything is written in Unicode first; [`Symbols`] is the one place that knows what takes the
//! place of a character on a lesser terminal. Each replacement is one column wide.

use std::{borrow::Cow, ffi::OsStr};

use unicode_width::UnicodeWidthChar as _;

/// The characters that a terminal can show.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    strum::EnumIter,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Symbols {
    #[default]
    Unicode,
    /// Those of the Linux console, whose fonts have blocks, frames and arrows, but no braille.
    Blocks,
    Ascii,
}

/// Stands for a character that has no replacement.
const UNKNOWN: char = '?';

impl Symbols {
    /// Its name on the command line and in the configuration.
    pub const fn name(self) -> &'static str {
        self.into_str()
    }

    /// What suits a terminal of this name, for a locale with or without UTF-8.
    pub fn suitable(is_utf8: bool, term: Option<&OsStr>) -> Self {
        match term {
            _ if !is_utf8 => Self::Ascii,
            Some(term) if term == "linux" => Self::Blocks,
            _ => Self::Unicode,
        }
    }

    /// The character to show for this one.
    pub fn character(self, character: char) -> char {
        match self {
            _ if character.is_ascii() => character,
            Self::Unicode => character,
            Self::Blocks if is_on_console(character) => character,
            Self::Blocks => match height(character) {
                Some(height) => ['_', '▄', '▄', '█'][height - 1],
                None => plain(character).unwrap_or(character),
            },
            Self::Ascii => match height(character) {
                Some(height) => ['.', ':', '+', '#'][height - 1],
                None => plain(character).unwrap_or(UNKNOWN),
            },
        }
    }

    /// The text to show for this one, as many columns wide.
    pub fn text(self, text: &str) -> Cow<'_, str> {
        if text.chars().all(|it| self.character(it) == it) {
            return Cow::Borrowed(text);
        }
        let shown = |character: char| {
            let new = self.character(character);
            let columns = match new == character {
                true => 1,
                false => character.width().unwrap_or(0),
            };
            std::iter::repeat_n(new, columns)
        };
        Cow::Owned(text.chars().flat_map(shown).collect())
    }
}

/// How high a character of a graph reaches, from 1 to 4, if it is one.
fn height(character: char) -> Option<usize> {
    match u32::from(character) {
        // The dots of the left half and of the right half.
        code @ 0x2801..=0x28ff => {
            let dots = |mask: u32| (code & 0xff & mask).count_ones();
            usize::try_from(dots(0x47).max(dots(0xb8))).ok()
        }
        // Lower eighths of a block.
        code @ 0x2581..=0x2588 => usize::try_from((code - 0x2580).div_ceil(2)).ok(),
        _ => None,
    }
}

/// Whether the usual fonts of the Linux console have this symbol: they descend from code page 437.
fn is_on_console(character: char) -> bool {
    matches!(
        character,
        '─' | '│'
            | '┌'
            | '┐'
            | '└'
            | '┘'
            | '├'
            | '┤'
            | '█'
            | '▄'
            | '▀'
            | '▌'
            | '▐'
            | '░'
            | '▒'
            | '▓'
            | '▲'
            | '▼'
            | '←'
            | '→'
            | '↑'
            | '↓'
            | '↔'
            | '·'
            | '∙'
    )
}

/// The ASCII form of a symbol that Flow draws.
fn plain(character: char) -> Option<char> {
    Some(match character {
        '─' | '━' | '╌' | '–' | '—' | '−' => '-',
        '│' | '┃' | '▌' | '▐' | '▏' | '▎' | '▍' | '▋' | '▊' | '▉' => '|',
        '┌' | '┐' | '└' | '┘' | '├' | '┤' | '┬' | '┴' | '┼' | '╭' | '╮' | '╰' | '╯' | '†' => {
            '+'
        }
        '→' | '›' | '»' | '▸' | '▶' | '►' | '↳' => '>',
        '←' | '‹' | '«' | '◂' | '◀' | '◄' => '<',
        '↔' | '▓' => '=',
        '↑' | '▲' | '▴' => '^',
        '↓' | '▼' | '▾' => 'v',
        '█' | '▀' => '#',
        '▒' => ':',
        '░' | '·' | '∙' | '•' => '.',
        '…' => '~',
        '×' => 'x',
        '●' | '◆' | '■' | '✓' => '*',
        '○' | '◇' | '□' => 'o',
        'µ' | 'μ' => 'u',
        '\u{a0}' => ' ',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::width, *};

    #[test]
    fn the_terminal_and_the_locale_decide() {
        let suitable = |is_utf8, term: &str| Symbols::suitable(is_utf8, Some(OsStr::new(term)));
        assert_eq!(suitable(true, "xterm-256color"), Symbols::Unicode);
        assert_eq!(suitable(true, "linux"), Symbols::Blocks);
        assert_eq!(suitable(false, "linux"), Symbols::Ascii);
        assert_eq!(Symbols::suitable(true, None), Symbols::Unicode);
    }

    #[test]
    fn symbols_have_a_form_on_every_terminal() {
        let text = "▼ 1.2 MB/s ▲ 3 µs ▸ curl ×3 → 10.0.0.1 · a…b";
        assert_eq!(Symbols::Unicode.text(text), text);
        assert_eq!(
            Symbols::Blocks.text(text),
            "▼ 1.2 MB/s ▲ 3 us > curl x3 → 10.0.0.1 · a~b"
        );
        assert_eq!(
            Symbols::Ascii.text(text),
            "v 1.2 MB/s ^ 3 us > curl x3 > 10.0.0.1 . a~b"
        );
        assert_eq!(Symbols::Ascii.text("日本 é"), "???? ?");
        assert_eq!(Symbols::Blocks.text("日本 é"), "日本 é");
    }

    #[test]
    fn graphs_keep_their_heights() {
        let graph = "⡀⣀⣤⣶⣿⢸";
        assert_eq!(Symbols::Ascii.text(graph), "..:+##");
        assert_eq!(Symbols::Blocks.text(graph), "__▄▄██");
        assert_eq!(Symbols::Ascii.text("▁▂▃▄▅▆▇█"), "..::++##");
    }

    proptest! {
        #[test]
        fn the_width_stays_and_ascii_is_ascii(text in "\\PC{0,40}") {
            let ascii = Symbols::Ascii.text(&text);
            prop_assert!(ascii.is_ascii());
            prop_assert_eq!(width(&ascii), width(&text));
            prop_assert_eq!(width(&Symbols::Blocks.text(&text)), width(&text));
        }
    }
}
