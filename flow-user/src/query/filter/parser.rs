//! Tokens -> expression.
//!
//! ```text
//! or        = and { ("or" | "||") and }
//! and       = not { [ "and" | "&&" ] not }
//! not       = { "not" | "!" } ( "(" or ")" | primitive )
//! primitive = protocol [ endpoint ] | endpoint | ... | short | TEXT
//! endpoint  = [ "src" | "dst" | "local" | "remote" ]
//!             ( "host" ADDRESS | "net" CIDR | "port" PORTS | short )
//! short     = ADDRESS | CIDR | PORTS
//! ```

use std::{fmt, net::IpAddr};

use super::{
    ast::{Expr, Primitive},
    error::FilterError,
    lexer::{Kind, Token, operator, tokens},
    operand::{Net, Operand, address, endpoint, port_range},
    pattern::Pattern,
    services,
    short::{Short, slip},
    text::Text,
    words::{Expected, Side, TEXT, Takes, Test, Word},
};
use crate::{event::State, query::near::nearest};

/// The most bytes of an expression.
const LENGTH: usize = 4096;
/// The deepest nesting of parentheses and negations.
const DEPTH: usize = 64;
/// The most regular expressions; with the bound on each, a bound on memory.
const REGEXES: usize = 32;

/// The expression in `text`; `None` if that is blank.
pub(super) fn parse(
    text: &str,
    uid_of: &dyn Fn(&str) -> Option<u32>,
) -> Result<Option<Expr>, FilterError> {
    if text.len() > LENGTH {
        let message = format!("an expression may have at most {LENGTH} bytes");
        return Err(FilterError::new(text, 0, message));
    }
    let tokens = tokens(text)?;
    Parser::new(text, &tokens, uid_of).whole()
}

/// What can come right after `text`; nothing if there is a mistake in it. All that can be read at
/// all counts as a user's name.
pub(super) fn can_follow(text: &str) -> Vec<Expected> {
    let Ok(tokens) = tokens(text) else {
        return Vec::new();
    };
    let mut parser = Parser::new(text, &tokens, &|_| Some(0));
    // Usually the text ends too early, which is no mistake while it is typed.
    let _outcome = parser.whole();
    parser.next
}

struct Parser<'a> {
    text: &'a str,
    /// The remaining tokens; never empty, the end stays.
    tokens: &'a [Token],
    uid_of: &'a dyn Fn(&str) -> Option<u32>,
    depth: usize,
    regexes: usize,
    /// The tokens expected where the text ends.
    next: Vec<Expected>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, tokens: &'a [Token], uid_of: &'a dyn Fn(&str) -> Option<u32>) -> Self {
        Self {
            text,
            tokens,
            uid_of,
            depth: 0,
            regexes: 0,
            next: Vec::new(),
        }
    }

    fn whole(&mut self) -> Result<Option<Expr>, FilterError> {
        if self.peek() == &Kind::End {
            self.looks_for(Expected::Primitive);
            return Ok(None);
        }
        let expr = self.or()?;
        match self.peek() {
            Kind::End => Ok(Some(expr)),
            _ => Err(self.error("this ) closes nothing")),
        }
    }

    /// Notes that this may come here, for completion, if the text ends here.
    fn looks_for(&mut self, expected: Expected) {
        if self.peek() == &Kind::End && !self.next.contains(&expected) {
            self.next.push(expected);
        }
    }

    /// The word of the language at hand, if it is one; notes what was looked for.
    fn word(&mut self, expected: Expected) -> Option<&'static Word> {
        self.looks_for(expected);
        match self.peek() {
            Kind::Word(word) => Word::of(word),
            _ => None,
        }
    }

    fn token(&self) -> &'a Token {
        &self.tokens[0]
    }

    fn peek(&self) -> &'a Kind {
        &self.token().kind
    }

    fn advance(&mut self) {
        if self.tokens.len() > 1 {
            self.tokens = &self.tokens[1..];
        }
    }

    /// Whether this is at hand; an operator in any case.
    fn is_at(&self, kind: &Kind) -> bool {
        match self.peek() {
            Kind::Word(word) => operator(&word.to_ascii_lowercase()).as_ref() == Some(kind),
            other => other == kind,
        }
    }

    fn eat(&mut self, kind: &Kind) -> bool {
        let found = self.is_at(kind);
        if found {
            self.advance();
        }
        found
    }

    /// The error: what was expected, and what is there.
    fn error(&self, expected: impl fmt::Display) -> FilterError {
        let token = self.token();
        self.error_at(token, format!("{expected}; found {}", self.found()))
    }

    /// The error: a word that was probably meant instead of the one at hand.
    fn did_you_mean(&self, near: &str) -> FilterError {
        let message = format!("found {}; did you mean `{near}`?", self.found());
        self.error_at(self.token(), message)
    }

    /// The error: what was expected; or the one of its words that was probably meant.
    fn unknown(&self, expected: Expected) -> FilterError {
        let near = match self.peek() {
            Kind::Word(word) => nearest(word, &expected.words()),
            _ => None,
        };
        near.map_or_else(|| self.error(expected), |near| self.did_you_mean(near))
    }

    /// What is at hand.
    fn found(&self) -> String {
        let token = self.token();
        match self.text.get(token.start..token.end) {
            None | Some("") => "the end".to_owned(),
            Some(text) => format!("`{}`", text.chars().take(40).collect::<String>()),
        }
    }

    fn error_at(&self, token: &Token, message: impl Into<String>) -> FilterError {
        FilterError::new(self.text, token.start, message).until(token.end)
    }

    /// Whether something stands beside what was read, without `and` between them.
    fn goes_on(&self) -> bool {
        ![Kind::Or, Kind::Close, Kind::End]
            .iter()
            .any(|it| self.is_at(it))
    }

    fn deeper(&mut self) -> Result<(), FilterError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error(format_args!("at most {DEPTH} levels of ( ) and not")));
        }
        Ok(())
    }

    fn or(&mut self) -> Result<Expr, FilterError> {
        let mut parts = vec![self.and()?];
        while self.eat(&Kind::Or) {
            parts.push(self.and()?);
        }
        self.looks_for(Expected::Operator);
        self.looks_for(Expected::Primitive);
        Ok(one_or(parts, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr, FilterError> {
        let mut parts = vec![self.not()?];
        while self.eat(&Kind::And) || self.goes_on() {
            parts.push(self.not()?);
        }
        Ok(one_or(parts, Expr::And))
    }

    fn not(&mut self) -> Result<Expr, FilterError> {
        if self.eat(&Kind::Not) {
            self.deeper()?;
            let inner = self.not()?;
            self.depth -= 1;
            return Ok(Expr::Not(Box::new(inner)));
        }
        if self.peek() == &Kind::Open {
            self.advance();
            self.deeper()?;
            let inner = self.or()?;
            self.depth -= 1;
            self.looks_for(Expected::Close);
            if !self.eat(&Kind::Close) {
                return Err(self.error(Expected::Close));
            }
            return Ok(inner);
        }
        self.primitive()
    }

    fn primitive(&mut self) -> Result<Expr, FilterError> {
        let Some(word) = self.word(Expected::Primitive) else {
            return self.bare();
        };
        self.advance();
        Ok(match word.test {
            Test::Side(side) => self.of_side(side)?,
            _ if word.qualifies() => self.qualified(Primitive::new(word, Operand::Nothing))?,
            _ => Expr::Is(self.asked(word, Side::Any)?),
        })
    }

    /// A qualifier and the end after it, if there is one: as in pcap, `tcp port 80` is both.
    fn qualified(&mut self, qualifier: Primitive) -> Result<Expr, FilterError> {
        let qualifier = Expr::Is(qualifier);
        Ok(match self.word(Expected::End) {
            Some(word) if word.is_end() => Expr::And(vec![qualifier, self.primitive()?]),
            _ => qualifier,
        })
    }

    /// What follows the word that chooses an end.
    fn of_side(&mut self, side: Side) -> Result<Expr, FilterError> {
        if let Some(word) = self.word(Expected::OfEnd).filter(|word| word.is_of_end()) {
            self.advance();
            return Ok(Expr::Is(self.asked(word, side)?));
        }
        let is_of_end = |short: &&Short| short.words.iter().any(|word| word.is_of_end());
        match self.short().filter(is_of_end) {
            Some(short) => self.asked_short(short, side),
            None => Err(self.unknown(Expected::OfEnd)),
        }
    }

    /// What is none of the language: an address, a network or a number, else text.
    fn bare(&mut self) -> Result<Expr, FilterError> {
        if let Some(short) = self.short() {
            return self.asked_short(short, Side::Any);
        }
        if !self.goes_on() || self.is_at(&Kind::And) {
            return Err(self.error(Expected::Primitive));
        }
        self.is_meant()?;
        let text = Text::new(self.pattern(Expected::Primitive)?);
        Ok(Expr::Is(Primitive::new(TEXT, Operand::Text(text))))
    }

    /// What the word at hand is short for.
    fn short(&self) -> Option<&'static Short> {
        match self.peek() {
            Kind::Word(text) => Short::of(text),
            _ => None,
        }
    }

    fn asked_short(&mut self, short: &Short, side: Side) -> Result<Expr, FilterError> {
        let begin = self.tokens;
        let mut asked = Vec::new();
        for word in short.words {
            if side == Side::Any || word.is_of_end() {
                self.tokens = begin;
                asked.push(Expr::Is(self.asked(word, side)?));
            }
        }
        Ok(one_or(asked, Expr::Or))
    }

    /// Whether the word at hand is not a slip of the pen for one that takes what is behind it, as
    /// in `prot 443`.
    fn is_meant(&self) -> Result<(), FilterError> {
        let behind = self.tokens.get(1).map(|token| &token.kind);
        let (Kind::Word(word), Some(Kind::Word(behind))) = (self.peek(), behind) else {
            return Ok(());
        };
        let meant = Short::of(behind).and_then(|short| slip(word, short.words));
        match meant {
            Some(meant) => {
                let found = self.found();
                let message = format!(
                    "found {found}; did you mean `{}`? As text it needs quotes",
                    meant.name
                );
                Err(self.error_at(self.token(), message))
            }
            None => Ok(()),
        }
    }

    /// What a word asks, with what it takes.
    fn asked(&mut self, word: &'static Word, side: Side) -> Result<Primitive, FilterError> {
        let expected = Expected::Operand(word);
        let operand = match word.takes {
            Takes::Nothing => Operand::Nothing,
            Takes::Address(_) => self.host(expected)?,
            Takes::Net(_) => self.net(expected)?,
            Takes::Ports(_) => self.ports(expected)?,
            Takes::Pattern(_) => Operand::Pattern(self.pattern(expected)?),
            Takes::Number(_) => Operand::Number(self.number(expected)?),
            Takes::User(_) => self.user(expected)?,
            Takes::State => Operand::State(self.state(expected)?),
        };
        Ok(Primitive {
            word,
            side,
            operand,
        })
    }

    /// The value at hand as text, for what is neither name nor path.
    fn plain(&mut self, expected: Expected) -> Result<&'a str, FilterError> {
        self.looks_for(expected);
        match self.peek() {
            Kind::Word(text) | Kind::Quoted(text) => Ok(text),
            _ => Err(self.error(expected)),
        }
    }

    fn number(&mut self, expected: Expected) -> Result<u32, FilterError> {
        match self.plain(expected)?.parse() {
            Ok(number) => {
                self.advance();
                Ok(number)
            }
            Err(_) => Err(self.error(expected)),
        }
    }

    fn host(&mut self, expected: Expected) -> Result<Operand, FilterError> {
        let text = self.plain(expected)?;
        let operand = match (address(text), endpoint(text)) {
            (Some((address, zone)), _) => Operand::Address(address, zone),
            (None, Some(endpoint)) => Operand::Endpoint(endpoint),
            (None, None) => return Err(self.error(expected)),
        };
        self.advance();
        Ok(operand)
    }

    fn net(&mut self, expected: Expected) -> Result<Operand, FilterError> {
        let text = self.plain(expected)?;
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| self.error(expected))?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|prefix| *prefix <= bits)
                .ok_or_else(|| self.error(format_args!("expected a prefix of 0 to {bits} bits")))?,
            None => bits,
        };
        let net = Net::new(address, prefix).ok_or_else(|| self.error(expected))?;
        self.advance();
        Ok(Operand::Net(net))
    }

    fn ports(&mut self, expected: Expected) -> Result<Operand, FilterError> {
        let text = self.plain(expected)?;
        let service = || services::port(text).map(|port| port..=port);
        let Some(ports) = port_range(text).or_else(service) else {
            return Err(match services::near(text) {
                _ if is_turned_round(text) => self.error("expected the lower port first"),
                Some(near) => self.did_you_mean(near),
                None => self.error(expected),
            });
        };
        self.advance();
        Ok(Operand::Ports(ports))
    }

    fn user(&mut self, expected: Expected) -> Result<Operand, FilterError> {
        let name = self.plain(expected)?;
        let number = matches!(self.peek(), Kind::Word(_))
            .then(|| name.parse().ok())
            .flatten();
        let user = match number {
            Some(uid) => Operand::User { uid, name: None },
            None => Operand::User {
                uid: (self.uid_of)(name)
                    .ok_or_else(|| self.error("there is no user of this name"))?,
                name: Some(name.into()),
            },
        };
        self.advance();
        Ok(user)
    }

    fn state(&mut self, expected: Expected) -> Result<State, FilterError> {
        self.looks_for(expected);
        let word = match self.peek() {
            Kind::Word(word) => word.to_ascii_lowercase(),
            _ => return Err(self.error(expected)),
        };
        let Ok(state) = word.parse() else {
            return Err(self.unknown(expected));
        };
        self.advance();
        Ok(state)
    }

    fn pattern(&mut self, expected: Expected) -> Result<Pattern, FilterError> {
        self.looks_for(expected);
        let token = self.token();
        let pattern = match &token.kind {
            Kind::Word(word) => Pattern::word(word.clone()),
            Kind::Quoted(text) => Pattern::Exact(text.clone()),
            Kind::Regex {
                source,
                ignore_case,
            } => {
                self.regexes += 1;
                if self.regexes > REGEXES {
                    return Err(self.error(format_args!("at most {REGEXES} regular expressions")));
                }
                Pattern::regex(source.clone(), *ignore_case)
                    .map_err(|reason| self.error_at(token, reason))?
            }
            Kind::And | Kind::Or | Kind::Not => {
                return Err(self.error(format_args!("{expected}; in quotes if it is and, or, not")));
            }
            Kind::Open | Kind::Close | Kind::End => return Err(self.error(expected)),
        };
        self.advance();
        Ok(pattern)
    }
}

fn one_or(mut parts: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            many(parts)
        }
    }
}

/// Whether `text` is two ports, the higher one first.
fn is_turned_round(text: &str) -> bool {
    let turned = text
        .split_once('-')
        .map(|(first, last)| format!("{last}-{first}"));
    turned.is_some_and(|it| port_range(&it).is_some())
}

#[cfg(test)]
mod tests;
