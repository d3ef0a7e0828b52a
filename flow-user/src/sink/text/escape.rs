//! Escapes hostile text for a terminal.

use std::borrow::Cow;

use crate::query::hostile::is_hostile;

/// `text` with every character that a terminal could interpret, that changes the reading direction,
/// or that is invisible, written as an escape such as `\n`, `\x1b` or `\u{202e}`.
///
/// One line stays one line. A backslash stays as it is: the result is for reading, not for parsing.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            ascii if ascii.is_ascii_control() => {
                escaped.push_str(&format!("\\x{:02x}", u32::from(ascii)));
            }
            hostile if is_hostile(hostile) => {
                escaped.push_str(&format!("\\u{{{:x}}}", u32::from(hostile)));
            }
            harmless => escaped.push(harmless),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        for (text, shown) in [
            ("postgres: walsender", "postgres: walsender"),
            ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
            ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("日本 é", "日本 é"),
            ("\x7f", "\\x7f"),
        ] {
            assert_eq!(escape(text), shown);
        }
    }

    proptest! {
        #[test]
        fn nothing_hostile_is_left(text in any::<String>()) {
            prop_assert!(!escape(&text).chars().any(is_hostile));
        }
    }
}
