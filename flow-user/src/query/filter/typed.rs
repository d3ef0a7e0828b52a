//! Reads an expression while it is typed.
//!
//! A word that is not finished is no mistake yet. What applies meanwhile is the expression before
//! it.

use super::{
    Filter,
    complete::{begins, word_at},
    error::FilterError,
    lexer::last_word,
};

/// Words that may be unfinished at the end at most: `a and not (src net`.
const UNFINISHED: usize = 16;

/// What there is of an expression that is being typed.
#[derive(Clone, Debug, PartialEq)]
pub struct Typed {
    /// The filter that applies, and how many bytes of the text it is; `None` where there is none
    /// yet.
    pub read: Option<(Filter, usize)>,
    /// A mistake that cannot become right at the cursor.
    pub error: Option<FilterError>,
    /// What is wrong so far, if more has to come at the cursor.
    pub unfinished: Option<FilterError>,
}

/// Reads `text`, in which `cursor`, a place in bytes, is where it is typed.
pub fn while_typed(text: &str, cursor: usize, uid_of: &dyn Fn(&str) -> Option<u32>) -> Typed {
    let rest = text.get(cursor..).unwrap_or_default();
    let is_at_end = rest.trim().is_empty();
    if is_at_end
        && let Some((start, word)) = word_at(text, cursor)
        && begins(&text[..start], word)
    {
        return Typed {
            read: longest(text, start, uid_of),
            error: None,
            unfinished: None,
        };
    }
    match Filter::parse(text, uid_of) {
        Ok(filter) => Typed {
            read: Some((filter, text.len())),
            error: None,
            unfinished: None,
        },
        Err(error) if error.touches(cursor) => Typed {
            read: is_at_end
                .then(|| longest(text, text.len(), uid_of))
                .flatten(),
            error: None,
            unfinished: Some(error),
        },
        Err(error) => Typed {
            read: None,
            error: Some(error),
            unfinished: None,
        },
    }
}

/// The longest expression at the start of the first `end` bytes, without a few words at most.
fn longest(
    text: &str,
    mut end: usize,
    uid_of: &dyn Fn(&str) -> Option<u32>,
) -> Option<(Filter, usize)> {
    for _ in 0..=UNFINISHED {
        if let Ok(filter) = Filter::parse(&text[..end], uid_of) {
            return Some((filter, end));
        }
        let rest = text[..end].trim_end();
        let start = last_word(rest);
        // A sign is no word.
        let sign = rest.chars().next_back().map_or(0, char::len_utf8);
        end = start.min(rest.len() - sign);
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uid_of(name: &str) -> Option<u32> {
        (name == "www").then_some(33)
    }

    /// What applies with the cursor at the end, and the column of the error.
    fn typed(text: &str) -> (Option<&str>, Option<usize>) {
        let Typed { read, error, .. } = while_typed(text, text.len(), &uid_of);
        let read = read.map(|(_, length)| &text[..length]);
        (read, error.map(|error| error.column()))
    }

    #[test]
    fn a_word_that_is_begun_does_not_apply_yet() {
        for (text, applies) in [
            ("", ""),
            ("c", ""),
            ("cu", "cu"),
            ("curl", "curl"),
            ("curl p", "curl "),
            ("curl POR", "curl "),
            ("curl port", "curl "),
            ("curl port ", "curl "),
            ("curl port 4", "curl port 4"),
            ("curl port ht", "curl "),
            ("curl port http", "curl port http"),
            ("curl or not (src net", "curl "),
            ("(curl or wget", ""),
            ("tcp an", "tcp "),
            ("tcp", "tcp"),
            ("user ro", ""),
            ("user www", "user www"),
            ("state est", ""),
            ("net 10.0.", ""),
            ("curl \"a b", "curl "),
            ("tcp)", "tcp"),
        ] {
            assert_eq!(typed(text), (Some(applies), None), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_one_behind_a_blank() {
        for (text, column) in [
            ("user ro ", 6),
            ("state open ", 7),
            ("curl and or ", 10),
            ("port 9-2 ", 6),
            ("tcp) ", 4),
            ("net 10.0.0.0/33 ", 5),
        ] {
            assert_eq!(typed(text), (None, Some(column)), "{text}");
        }
        // The mistake is behind the cursor.
        let typed = while_typed("p and user ro", 1, &uid_of);
        assert!(typed.error.is_some());
        let typed = while_typed("port  and tcp", 5, &uid_of);
        assert!(typed.error.is_some(), "{typed:?}");
    }

    #[test]
    fn what_must_follow_is_said() {
        let typed = while_typed("port ", 5, &uid_of);
        let unfinished = typed.unfinished.unwrap();
        assert!(unfinished.message().contains("such as 443"), "{unfinished}");
    }

    proptest! {
        #[test]
        fn what_applies_is_what_it_reads_as(
            text in "((curl|port|443|\\(|\\)|and|not|src|\"a b|/x|user www|state|10.0.0.0/8|é) ?){0,6}",
            cursor in 0..40_usize,
        ) {
            let typed = while_typed(&text, cursor, &uid_of);
            if let Some((filter, length)) = typed.read {
                prop_assert_eq!(Filter::parse(&text[..length], &uid_of), Ok(filter));
            }
            if typed.error.is_some() {
                prop_assert!(Filter::parse(&text, &uid_of).is_err());
            }
        }
    }
}
