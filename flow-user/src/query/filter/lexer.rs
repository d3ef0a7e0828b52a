//! Filter text -> tokens: words, quoted strings, regular expressions, operators.

use super::error::FilterError;
use crate::query::hostile::is_hostile;

/// The kind of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bare word: a keyword, an address, a name.
    Word(String),
    /// A quoted string, its escapes resolved.
    Quoted(String),
    /// `/source/` or `/source/i`.
    Regex {
        source: String,
        ignore_case: bool,
    },
    And,
    Or,
    Not,
    Open,
    Close,
    End,
}

/// A token and where it begins and ends, as byte offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// All tokens of `text`, [`Kind::End`] last.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let done = token.kind == Kind::End;
        tokens.push(token);
        if done {
            return Ok(tokens);
        }
    }
}

/// Where the word begins that reaches to the end of `text`: it may lack a closing quote. At the
/// end, if there is none.
pub(super) fn last_word(text: &str) -> usize {
    let mut lexer = Lexer { text, at: 0 };
    loop {
        match lexer.next() {
            Err(_) => return lexer.at,
            Ok(Token { kind, start, end }) => {
                let is_sign = matches!(text.get(start..end), Some("&&" | "||" | "!" | "(" | ")"));
                if kind == Kind::End || (end == text.len() && !is_sign) {
                    return start;
                }
            }
        }
    }
}

/// Whether `word` reads back as one bare word in any context, so that it needs no quotes.
///
/// A slash at its start must find another within the word, or it could begin a regular expression
/// that a later word seems to end; a slash at its end could end one that an earlier word begins.
pub(super) fn is_bare(word: &str) -> bool {
    operator(word).is_none()
        && !word.contains('\\')
        && !word.contains(is_hostile)
        && word.strip_prefix('/').is_none_or(|rest| rest.contains('/'))
        && !word.ends_with('/')
        && !word.ends_with("/i")
        && matches!(
            tokens(word).as_deref(),
            Ok([Token { kind: Kind::Word(read), .. }, _]) if read == word
        )
}

/// `text` as a quoted string. No slash in it is one that could end a regular expression which an
/// earlier word seems to begin.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for (at, character) in text.char_indices() {
        let rest = &text[at..];
        let would_end = match rest {
            "/" => true,
            "i" => quoted.ends_with('/'),
            _ => ends_word(rest) && (quoted.ends_with('/') || quoted.ends_with("/i")),
        };
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            other if would_end || is_hostile(other) => {
                quoted.push_str(&format!("\\u{{{:x}}}", u32::from(other)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn next(&mut self) -> Result<Token, FilterError> {
        let blank = self.rest().len() - self.rest().trim_start().len();
        self.at += blank;
        let start = self.at;
        let rest = self.rest();
        let (kind, length) = if rest.is_empty() {
            (Kind::End, 0)
        } else if rest.starts_with("&&") {
            (Kind::And, 2)
        } else if rest.starts_with("||") {
            (Kind::Or, 2)
        } else if rest.starts_with('!') {
            (Kind::Not, 1)
        } else if rest.starts_with('(') {
            (Kind::Open, 1)
        } else if rest.starts_with(')') {
            (Kind::Close, 1)
        } else if rest.starts_with('"') {
            self.quoted()?
        } else if let Some(regex) = regex(rest) {
            regex
        } else {
            word(rest)
        };
        self.at += length;
        Ok(Token {
            kind,
            start,
            end: self.at,
        })
    }

    /// A quoted string at the start of the rest.
    fn quoted(&self) -> Result<(Kind, usize), FilterError> {
        let error = |at: usize, message: &str| FilterError::new(self.text, self.at + at, message);
        let mut value = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => return Ok((Kind::Quoted(value), at + 1)),
                '\\' => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, same @ ('"' | '\\'))) => value.push(same),
                    Some((_, 'u')) => {
                        let digits: String = characters
                            .by_ref()
                            .map(|(_, digit)| digit)
                            .take_while(|digit| *digit != '}')
                            .take(8)
                            .collect();
                        let code = digits
                            .strip_prefix('{')
                            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
                            .and_then(char::from_u32);
                        value.push(code.ok_or_else(|| {
                            error(at, "expected a character's number, such as \\u{e9}")
                        })?);
                    }
                    _ => {
                        return Err(error(
                            at,
                            "unknown escape; in quotes there are \\\" \\\\ \\n \\t \\u{…}",
                        ));
                    }
                },
                other => value.push(other),
            }
        }
        Err(error(0, "this quoted string has no closing \"").until(self.text.len()))
    }
}

/// A regular expression at the start of `rest`. The first `/` not escaped ends it, and must stand
/// at the end of a word: so `/system.slice/nginx.service` is a path.
fn regex(rest: &str) -> Option<(Kind, usize)> {
    let body = rest.strip_prefix('/')?;
    let mut escaped = false;
    let close = body.char_indices().find_map(|(at, character)| {
        let closes = character == '/' && !escaped;
        escaped = character == '\\' && !escaped;
        closes.then_some(at)
    })?;
    let source = body[..close].replace("\\/", "/");
    let after = &body[close + 1..];
    let ignore_case = after.starts_with('i') && ends_word(&after[1..]);
    if source.is_empty() || !(ignore_case || ends_word(after)) {
        return None;
    }
    let length = 1 + close + 1 + usize::from(ignore_case);
    Some((
        Kind::Regex {
            source,
            ignore_case,
        },
        length,
    ))
}

/// A bare word at the start of `rest`, or the word operator it is.
fn word(rest: &str) -> (Kind, usize) {
    let length = rest
        .char_indices()
        .find_map(|(at, _)| ends_word(&rest[at..]).then_some(at))
        .unwrap_or(rest.len());
    let word = &rest[..length];
    let kind = operator(word).unwrap_or_else(|| Kind::Word(word.to_owned()));
    (kind, length)
}

/// The operator that a word is.
pub(super) fn operator(word: &str) -> Option<Kind> {
    match word {
        "and" => Some(Kind::And),
        "or" => Some(Kind::Or),
        "not" => Some(Kind::Not),
        _ => None,
    }
}

/// Whether a bare word ends before `rest`.
pub(super) fn ends_word(rest: &str) -> bool {
    rest.starts_with("&&")
        || rest.starts_with("||")
        || rest
            .chars()
            .next()
            .is_none_or(|next| next.is_whitespace() || matches!(next, '(' | ')' | '"'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokens(text)
            .unwrap()
            .into_iter()
            .map(|token| token.kind)
            .collect()
    }

    fn word(text: &str) -> Kind {
        Kind::Word(text.to_owned())
    }

    #[test]
    fn operators_need_no_blanks() {
        assert_eq!(
            kinds("!(tcp&&udp)||ip6"),
            [
                Kind::Not,
                Kind::Open,
                word("tcp"),
                Kind::And,
                word("udp"),
                Kind::Close,
                Kind::Or,
                word("ip6"),
                Kind::End
            ]
        );
    }

    #[test]
    fn a_path_is_a_word_and_a_closed_one_a_regex() {
        assert_eq!(
            kinds("/system.slice/nginx.service")[0],
            word("/system.slice/nginx.service")
        );
        assert_eq!(
            kinds(r"/a b\/c/i and")[0],
            Kind::Regex {
                source: "a b/c".to_owned(),
                ignore_case: true
            }
        );
        assert_eq!(kinds("/")[0], word("/"));
    }

    #[test]
    fn escapes_in_quotes() {
        assert_eq!(
            kinds(r#""a \"b\" \\ \u{e9}\n""#)[0],
            Kind::Quoted("a \"b\" \\ é\n".to_owned())
        );
        assert_eq!(tokens("x \"abc").unwrap_err().column(), 3);
        assert_eq!(tokens(r#""ab\q""#).unwrap_err().column(), 4);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*|[/\"\\\\ui{}&|!() a\n\x1b]*") {
            let _outcome = tokens(&text);
        }

        #[test]
        fn quotes_round_trip(text in any::<String>()) {
            prop_assert_eq!(kinds(&quote(&text)), vec![Kind::Quoted(text), Kind::End]);
        }
    }
}
