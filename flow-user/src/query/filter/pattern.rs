//! Patterns for names and paths: exact, glob, prefix of a path, regular expression.

use std::fmt;

use regex::{Regex, RegexBuilder};

use super::lexer::{is_bare, quote};

/// Bytes that one compiled regular expression may take.
const REGEX_BYTES: usize = 256 << 10;

/// A pattern for text from other processes.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    /// The whole text, as it is.
    Exact(String),
    /// `*` is any text, `?` any one character.
    Glob(String),
    /// Found anywhere in the text.
    Regex {
        source: String,
        ignore_case: bool,
        compiled: Box<Regex>,
    },
}

impl Pattern {
    /// A bare word: a glob if it holds `*` or `?`.
    pub fn word(word: String) -> Self {
        if word.contains(['*', '?']) {
            Self::Glob(word)
        } else {
            Self::Exact(word)
        }
    }

    /// A regular expression; the error is what is wrong with it.
    pub fn regex(source: String, ignore_case: bool) -> Result<Self, String> {
        let compiled = RegexBuilder::new(&source)
            .case_insensitive(ignore_case)
            .size_limit(REGEX_BYTES)
            .dfa_size_limit(REGEX_BYTES)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => {
                    "this regular expression is too large".to_owned()
                }
                other => {
                    // The crate's message repeats the expression over several lines; its last
                    // line says what is wrong.
                    let text = other.to_string();
                    let last = text.lines().last().unwrap_or_default().trim();
                    let reason = last.strip_prefix("error: ").unwrap_or(last);
                    format!("bad regular expression: {reason}")
                }
            })?;
        Ok(Self::Regex {
            source,
            ignore_case,
            compiled: Box::new(compiled),
        })
    }

    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Glob(glob) => glob_matches(glob, text),
            Self::Regex { compiled, .. } => compiled.is_match(text),
        }
    }

    /// As [`Pattern::matches`], but exact text also matches every path below it.
    pub fn matches_path(&self, path: &str) -> bool {
        match self {
            Self::Exact(prefix) => {
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                path.strip_prefix(prefix)
                    .is_some_and(|below| below.is_empty() || below.starts_with('/'))
            }
            _ => self.matches(path),
        }
    }

    /// As [`Pattern::matches`], but exact text also matches what has further words behind it.
    pub fn matches_words(&self, text: &str) -> bool {
        match self {
            Self::Exact(first) => text
                .strip_prefix(&**first)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')),
            _ => self.matches(text),
        }
    }

    pub fn is_regex(&self) -> bool {
        matches!(self, Self::Regex { .. })
    }

    /// Whether it speaks of a path rather than of a name.
    pub fn has_slash(&self) -> bool {
        matches!(self, Self::Exact(text) | Self::Glob(text) if text.contains('/'))
    }
}

/// Equal as written.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Glob(a), Self::Glob(b)) => a == b,
            (
                Self::Regex {
                    source: a,
                    ignore_case: x,
                    ..
                },
                Self::Regex {
                    source: b,
                    ignore_case: y,
                    ..
                },
            ) => a == b && x == y,
            _ => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) if is_bare(text) && !text.contains(['*', '?']) => f.write_str(text),
            Self::Exact(text) => f.write_str(&quote(text)),
            Self::Glob(glob) => f.write_str(glob),
            Self::Regex {
                source,
                ignore_case,
                ..
            } => {
                let flag = if *ignore_case { "i" } else { "" };
                write!(f, "/{}/{flag}", source.replace('/', "\\/"))
            }
        }
    }
}

/// Linear in time times the number of stars: remembers only the last star.
pub(super) fn glob_matches(glob: &str, text: &str) -> bool {
    let (mut glob, mut text) = (glob.chars(), text.chars());
    let mut retry = None;
    loop {
        let mut next_glob = glob.clone();
        match next_glob.next() {
            Some('*') => {
                glob = next_glob;
                retry = Some((glob.clone(), text.clone()));
                continue;
            }
            None if text.as_str().is_empty() => return true,
            Some(wanted) => {
                let mut next_text = text.clone();
                if next_text
                    .next()
                    .is_some_and(|found| wanted == '?' || wanted == found)
                {
                    (glob, text) = (next_glob, next_text);
                    continue;
                }
            }
            None => {}
        }
        // No match here: let the last star take one character more.
        let Some((after_star, from)) = &mut retry else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        (glob, text) = (after_star.clone(), from.clone());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs() {
        assert!(glob_matches("*", ""));
        assert!(glob_matches("ng*x", "nginx"));
        assert!(glob_matches("*a*b*c", "xxaybzabc"));
        assert!(glob_matches("?é", "aé"));
        assert!(!glob_matches("ng*x", "nginy"));
        assert!(!glob_matches("?", ""));
    }

    #[test]
    fn a_path_matches_what_is_below_it() {
        let slice = Pattern::Exact("/system.slice/".to_owned());
        assert!(slice.matches_path("/system.slice/nginx.service"));
        assert!(slice.matches_path("/system.slice"));
        assert!(!slice.matches_path("/system.slice2"));
        assert!(Pattern::Exact("/".to_owned()).matches_path("/user.slice"));
    }

    #[test]
    fn words_match_what_begins_with_them() {
        let walsender = Pattern::Exact("postgres: walsender".to_owned());
        assert!(walsender.matches_words("postgres: walsender replicator streaming"));
        assert!(walsender.matches_words("postgres: walsender"));
        assert!(!walsender.matches_words("postgres: walsenders"));
        assert!(!walsender.matches_words("x postgres: walsender"));
        assert!(Pattern::Glob("*wal*".to_owned()).matches_words("postgres: walsender"));
    }

    #[test]
    fn regexes_are_bounded() {
        assert!(Pattern::regex(r"(\w{200}){200}".to_owned(), false).is_err());
        let error = Pattern::regex("a(b".to_owned(), false).unwrap_err();
        assert!(error.contains("unclosed group"), "{error}");
        assert!(
            Pattern::regex("CURL".to_owned(), true)
                .unwrap()
                .matches("/usr/bin/curl")
        );
    }

    proptest! {
        #[test]
        fn a_glob_is_the_regex_one_would_write(glob in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let pattern = glob.replace('*', ".*").replace('?', ".");
            let regex = Regex::new(&format!("^{pattern}$")).unwrap();
            prop_assert_eq!(glob_matches(&glob, &text), regex.is_match(&text));
        }
    }
}
