//! Tokens -> expression.
//!
//! ```text
//! or        = and { ("or" | "||") and }
//! and       = not { ("and" | "&&") not }
//! not       = { "not" | "!" } ( "(" or ")" | primitive )
//! primitive = protocol [ endpoint ] | endpoint | ...
//! endpoint  = [ "src" | "dst" | "local" | "remote" ] ( [ "host" ] ADDRESS | "net" CIDR | "port" PORTS )
//! ```

use std::{fmt, net::IpAddr, sync::Arc};

use super::{
    ast::{Expr, Primitive},
    error::FilterError,
    lexer::{Kind, Token, tokens},
    operand::{Net, Operand},
    pattern::Pattern,
    words::{Expected, HOST, Side, Takes, Test, Word},
};
use crate::event::State;

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
            Kind::Close => Err(self.error("this ) closes nothing")),
            _ => Err(self.error(Expected::Operator)),
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

    fn eat(&mut self, kind: &Kind) -> bool {
        let found = self.peek() == kind;
        if found {
            self.advance();
        }
        found
    }

    /// The error: what was expected, and what is there.
    fn error(&self, expected: impl fmt::Display) -> FilterError {
        let token = self.token();
        let found = match self.text.get(token.start..token.end) {
            None | Some("") => "the end".to_owned(),
            Some(text) => format!("`{}`", text.chars().take(40).collect::<String>()),
        };
        self.error_at(token, format!("{expected}; found {found}"))
    }

    fn error_at(&self, token: &Token, message: impl Into<String>) -> FilterError {
        FilterError::new(self.text, token.start, message)
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
        Ok(one_or(parts, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr, FilterError> {
        let mut parts = vec![self.not()?];
        while self.eat(&Kind::And) {
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
            return Err(self.error(Expected::Primitive));
        };
        self.advance();
        Ok(match word.test {
            Test::Side(side) => Expr::Is(self.of_side(side)?),
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

    /// What follows the word that chooses an end; `host` may be left out.
    fn of_side(&mut self, side: Side) -> Result<Primitive, FilterError> {
        let word = self.word(Expected::OfEnd).filter(|word| word.is_of_end());
        if word.is_some() {
            self.advance();
        }
        match (word, self.peek()) {
            (Some(word), _) => self.asked(word, side),
            (None, Kind::Word(text)) if address(text).is_some() => self.asked(HOST, side),
            (None, _) => Err(self.error(Expected::OfEnd)),
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
        let (address, zone) = address(text).ok_or_else(|| self.error(expected))?;
        self.advance();
        Ok(Operand::Address(address, zone))
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
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
            return Err(self.error(expected));
        };
        if first > last {
            return Err(self.error("expected the lower port first"));
        }
        self.advance();
        Ok(Operand::Ports(first..=last))
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
        let state = match self.peek() {
            Kind::Word(word) => word.parse().ok(),
            _ => None,
        };
        let state = state.ok_or_else(|| self.error(expected))?;
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
                return Err(
                    self.error(format_args!("{expected} (in quotes if it is and, or, not)"))
                );
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

/// An address, and the zone behind it. Only IPv6 has zones.
fn address(text: &str) -> Option<(IpAddr, Option<Arc<str>>)> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let address = address.parse::<IpAddr>().ok()?.to_canonical();
    let fits = zone.is_none_or(|zone| address.is_ipv6() && !zone.is_empty());
    fits.then(|| (address, zone.map(Arc::from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Expr>, FilterError> {
        super::parse(text, &|name| (name == "www").then_some(33))
    }

    fn read(text: &str) -> String {
        parse(text).unwrap().unwrap().to_string()
    }

    fn error(text: &str) -> (usize, String) {
        let error = parse(text).unwrap_err();
        (error.column(), error.message().to_owned())
    }

    #[test]
    fn and_binds_tighter_than_or_and_not_tightest() {
        assert_eq!(
            read("tcp or udp and not inbound"),
            "tcp or (udp and not inbound)"
        );
        assert_eq!(read("(tcp || udp) && !ip6"), "(tcp or udp) and not ip6");
    }

    #[test]
    fn pcap_habits() {
        assert_eq!(read("tcp port 80"), "tcp and port 80");
        assert_eq!(
            read("ip6 src net 2001:db8::1/32"),
            "ip6 and src net 2001:db8::/32"
        );
        assert_eq!(read("dst 10.0.0.1"), "dst host 10.0.0.1");
        assert_eq!(read("portrange 8000-8080"), "port 8000-8080");
        assert_eq!(read("host ::ffff:10.0.0.1"), "host 10.0.0.1");
    }

    #[test]
    fn names_and_patterns() {
        assert_eq!(read("process host"), "process host");
        assert_eq!(read(r#"process "a b""#), r#"process "a b""#);
        assert_eq!(read("cgroup /system.slice"), "cgroup \"/system.slice\"");
        assert_eq!(read("cgroup /a.slice/b"), "cgroup /a.slice/b");
        assert_eq!(read("user www or user 0"), "user \"www\" or user 0");
        assert_eq!(read("process /ngi.x/i"), "process /ngi.x/i");
        assert_eq!(parse(" "), Ok(None));
    }

    #[test]
    fn slashes_of_two_names_are_shown_as_no_regex() {
        for text in [
            r#"cgroup "/a" and cgroup "/""#,
            r#"cgroup "/a" and process *x/"#,
            r#"cgroup /a* and cgroup "\u{2f}" or process "x/\u{69}""#,
            r#"cgroup /a* and cgroup "x/\u{20}" and process *x/"#,
            r#"cgroup /a* and cgroup "x\\/y" and process *x/"#,
            r#"cgroup /a* and process "\u{2f}i (""#,
        ] {
            let filter = parse(text).unwrap();
            let shown = read(text);
            assert_eq!(parse(&shown).unwrap(), filter, "{text} shown as {shown}");
        }
    }

    #[test]
    fn a_mistake_has_a_column_and_an_expectation() {
        let cases = [
            (
                "tcp porrt 80",
                5,
                "expected `and`, `or` or the end; found `porrt`",
            ),
            ("tcp and", 8, "expected process"),
            ("port http", 6, "expected a port"),
            ("port 9-2", 6, "lower port first"),
            ("net 10.0.0.0/33", 5, "0 to 32 bits"),
            ("host example.org", 6, "expected an IP address"),
            ("src tcp", 5, "expected host, net, port or an IP address"),
            ("(tcp", 5, "expected `and`, `or` or ); found the end"),
            ("tcp)", 4, "closes nothing"),
            ("process /a(b/", 9, "unclosed group"),
            ("process and", 9, "in quotes"),
            ("user nobody-here", 6, "no user"),
            ("state open", 7, "established"),
            ("pid x", 5, "process id"),
            ("frob", 1, "expected process, port, host"),
            ("src frob", 5, "expected host, net"),
        ];
        for (text, column, expected) in cases {
            let (found, message) = error(text);
            assert_eq!(found, column, "{text}: {message}");
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn size_and_depth_are_bounded() {
        assert!(error(&"(".repeat(3000)).1.contains("64 levels"));
        assert!(error(&"!".repeat(3000)).1.contains("64 levels"));
        assert!(error(&" ".repeat(5000)).1.contains("4096 bytes"));
        let regexes = vec!["process /x/"; 33].join(" or ");
        assert!(error(&regexes).1.contains("32 regular expressions"));
        assert!(parse(&format!("{}tcp{}", "(".repeat(64), ")".repeat(64))).is_ok());
    }
}
