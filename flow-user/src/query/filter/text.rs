//! Text to find anywhere, in any case: a bare word or a quoted string.

use std::fmt;

use super::{
    lexer::quote,
    pattern::{Pattern, glob_matches},
};

/// Text to find.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pattern: Pattern,
    /// As it is found in small letters; for a glob with any text around it.
    small: String,
}

impl Text {
    pub fn new(pattern: Pattern) -> Self {
        let small = match &pattern {
            Pattern::Exact(text) => text.to_lowercase(),
            Pattern::Glob(glob) => format!("*{}*", glob.to_lowercase()),
            Pattern::Regex { .. } => String::new(),
        };
        Self { pattern, small }
    }

    /// Whether it is in `text`.
    pub fn is_in(&self, text: &str) -> bool {
        match &self.pattern {
            Pattern::Exact(_) => is_in(&self.small, text),
            Pattern::Glob(_) => glob_matches(&self.small, &text.to_lowercase()),
            Pattern::Regex { compiled, .. } => compiled.is_match(text),
        }
    }

    /// Whether it is in these words with blanks between them.
    pub fn is_in_words(&self, words: &[String]) -> bool {
        match &self.pattern {
            // Usually, and then nothing need be put together.
            Pattern::Exact(text) if !text.contains(' ') => words.iter().any(|it| self.is_in(it)),
            _ => self.is_in(&words.join(" ")),
        }
    }

    /// Whether it could be in an address and a port.
    pub fn may_be_in_address(&self) -> bool {
        let may_be = |it: char| it.is_ascii_hexdigit() || ".:[]".contains(it);
        match &self.pattern {
            Pattern::Exact(text) => text.chars().all(may_be),
            Pattern::Glob(glob) => glob.chars().all(|it| may_be(it) || "*?".contains(it)),
            Pattern::Regex { .. } => true,
        }
    }

    /// Whether it may speak of a path rather than of a name.
    pub fn has_slash(&self) -> bool {
        self.pattern.is_regex() || self.pattern.has_slash()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl fmt::Display for Text {
    /// In quotes, in which no text is a word of the language.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            Pattern::Exact(text) => f.write_str(&quote(text)),
            pattern => pattern.fmt(f),
        }
    }
}

/// Whether `small`, which is in small letters, is in `text` in any case.
fn is_in(small: &str, text: &str) -> bool {
    if !text.is_ascii() {
        return text.to_lowercase().contains(small);
    }
    let Some(first) = small.bytes().next() else {
        return true;
    };
    let mut places = text.as_bytes().windows(small.len());
    places.any(|it| {
        it.first().map(u8::to_ascii_lowercase) == Some(first)
            && it.eq_ignore_ascii_case(small.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(word: &str) -> Text {
        Text::new(Pattern::word(word.to_owned()))
    }

    #[test]
    fn it_is_found_anywhere_in_any_case() {
        for word in ["curl", "CUR", "url", "", "c*l", "?ur", "*"] {
            assert!(text(word).is_in("/bin/Curl-7"), "{word}");
        }
        for word in ["curll", "c?l", "kurl", "n\u{e9}"] {
            assert!(!text(word).is_in("/bin/Curl-7"), "{word}");
        }
        assert!(text("CAF\u{c9}").is_in("le caf\u{e9}"));
        let regex = Text::new(Pattern::regex("^c.r".to_owned(), false).unwrap());
        assert!(regex.is_in("curl") && !regex.is_in("Curl"));
    }

    #[test]
    fn words_are_one_text() {
        let words = ["curl", "-O", "https://x"].map(str::to_owned);
        assert!(text("L -o H").is_in_words(&words));
        assert!(text("HTTPS:").is_in_words(&words));
        assert!(text("curl*x").is_in_words(&words));
        assert!(!text("curl-O").is_in_words(&words));
    }

    #[test]
    fn some_text_is_in_no_address() {
        for may_be in ["10.2", "::1", "[fe80", "cafe", "10.*.1"] {
            assert!(text(may_be).may_be_in_address(), "{may_be}");
        }
        for is_in_none in ["curl", "10.0.0.0/8", "a b", "x*"] {
            assert!(!text(is_in_none).may_be_in_address(), "{is_in_none}");
        }
    }

    proptest! {
        #[test]
        fn what_is_in_small_letters_is_found(word in "[aBc\u{c9}\u{130}k]{0,3}", text in "[AbC\u{e9}iK]{0,9}") {
            let expected = text.to_lowercase().contains(&word.to_lowercase());
            prop_assert_eq!(tests::text(&word).is_in(&text), expected);
        }
    }
}
