//! Tokens -> expression.
//!
//! ```text
//! or        = and { ("or" | "||") and }
//! and       = not { ("and" | "&&") not }
//! not       = { "not" | "!" } ( "(" or ")" | primitive )
//! primitive = protocol [ endpoint ] | endpoint | ...
//! endpoint  = [ "src" | "dst" | "local" | "remote" ] ( [ "host" ] ADDRESS | "net" CIDR | "port" PORTS )
//! ```

use std::{net::IpAddr, ops::RangeInclusive};

use super::{
    ast::{Expr, Net, Primitive, Side},
    error::FilterError,
    lexer::{Kind, Token, tokens},
    pattern::Pattern,
};
use crate::event::{Direction, Protocol, State};

/// Bytes an expression may have.
const LENGTH: usize = 4096;
/// Parentheses and negations an expression may nest.
const DEPTH: usize = 64;
/// Regular expressions an expression may hold; with the bound on each, a bound on memory.
const REGEXES: usize = 32;

const STATES: [State; 12] = [
    State::Established,
    State::SynSent,
    State::SynReceived,
    State::FinWait1,
    State::FinWait2,
    State::TimeWait,
    State::Closed,
    State::CloseWait,
    State::LastAck,
    State::Listen,
    State::Closing,
    State::Unconnected,
];

const PROTOCOLS: [Protocol; 9] = [
    Protocol::Tcp,
    Protocol::Udp,
    Protocol::Mptcp,
    Protocol::Sctp,
    Protocol::Udplite,
    Protocol::Icmp,
    Protocol::Icmp6,
    Protocol::Raw,
    Protocol::Packet,
];

const PRIMITIVE: &str = "expected host, net, port, src, dst, local, remote, a protocol, ip, ip6, process, pid, \
                         user, cgroup, state, interface, inbound, outbound, not or (";

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
    let mut parser = Parser {
        text,
        tokens: &tokens,
        uid_of,
        depth: 0,
        regexes: 0,
    };
    if parser.peek() == &Kind::End {
        return Ok(None);
    }
    let expr = parser.or()?;
    match parser.peek() {
        Kind::End => Ok(Some(expr)),
        Kind::Close => Err(parser.error("this ) closes nothing")),
        _ => Err(parser.error("expected `and`, `or` or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    /// What is left; never empty, the end stays.
    tokens: &'a [Token],
    uid_of: &'a dyn Fn(&str) -> Option<u32>,
    depth: usize,
    regexes: usize,
}

impl<'a> Parser<'a> {
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

    /// What was expected, and what stands there.
    fn error(&self, expected: &str) -> FilterError {
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
            return Err(self.error(&format!("at most {DEPTH} levels of ( ) and not")));
        }
        Ok(())
    }

    fn or(&mut self) -> Result<Expr, FilterError> {
        let mut parts = vec![self.and()?];
        while self.eat(&Kind::Or) {
            parts.push(self.and()?);
        }
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
            if !self.eat(&Kind::Close) {
                return Err(self.error("expected `and`, `or` or )"));
            }
            return Ok(inner);
        }
        self.primitive()
    }

    fn primitive(&mut self) -> Result<Expr, FilterError> {
        let Kind::Word(word) = self.peek() else {
            return Err(self.error(PRIMITIVE));
        };
        let protocol = PROTOCOLS.into_iter().find(|known| known.name() == word);
        let qualifier = match (protocol, word.as_str()) {
            (Some(protocol), _) => Some(Primitive::Protocol(protocol)),
            (None, "ip") => Some(Primitive::Ip4),
            (None, "ip6") => Some(Primitive::Ip6),
            _ => None,
        };
        if let Some(qualifier) = qualifier {
            self.advance();
            let qualifier = Expr::Is(qualifier);
            // As in pcap, `tcp port 80` is both.
            return Ok(if self.at_endpoint() {
                Expr::And(vec![qualifier, self.endpoint()?])
            } else {
                qualifier
            });
        }
        if self.at_endpoint() {
            return self.endpoint();
        }
        let primitive = match word.as_str() {
            "process" => {
                self.advance();
                Primitive::Process(
                    self.pattern("expected a process's name, such as nginx, ng* or /nginx|httpd/")?,
                )
            }
            "pid" => {
                self.advance();
                Primitive::Pid(self.number("expected a process id")?)
            }
            "user" => {
                self.advance();
                self.user()?
            }
            "cgroup" => {
                self.advance();
                Primitive::Cgroup(
                    self.pattern("expected a cgroup's path, such as /system.slice/nginx.service")?,
                )
            }
            "state" => {
                self.advance();
                self.state()?
            }
            "interface" => {
                self.advance();
                Primitive::Interface(
                    self.pattern("expected an interface's name, such as eth0 or veth*")?,
                )
            }
            "inbound" => {
                self.advance();
                Primitive::Direction(Direction::Inbound)
            }
            "outbound" => {
                self.advance();
                Primitive::Direction(Direction::Outbound)
            }
            _ => return Err(self.error(PRIMITIVE)),
        };
        Ok(Expr::Is(primitive))
    }

    fn at_endpoint(&self) -> bool {
        matches!(self.peek(), Kind::Word(word) if side(word).is_some()
            || matches!(word.as_str(), "host" | "net" | "port" | "portrange"))
    }

    fn endpoint(&mut self) -> Result<Expr, FilterError> {
        let mut side_of = Side::Any;
        if let Kind::Word(word) = self.peek()
            && let Some(chosen) = side(word)
        {
            side_of = chosen;
            self.advance();
        }
        let primitive = match self.peek() {
            Kind::Word(word) if word == "host" => {
                self.advance();
                Primitive::Host(side_of, self.address()?)
            }
            Kind::Word(word) if word == "net" => {
                self.advance();
                Primitive::Net(side_of, self.net()?)
            }
            Kind::Word(word) if word == "port" || word == "portrange" => {
                self.advance();
                Primitive::Port(side_of, self.ports()?)
            }
            Kind::Word(word) if word.parse::<IpAddr>().is_ok() => {
                Primitive::Host(side_of, self.address()?)
            }
            _ => return Err(self.error("expected host, net, port or an IP address")),
        };
        Ok(Expr::Is(primitive))
    }

    /// The value at hand as text, for what is neither name nor path.
    fn plain(&self, expected: &str) -> Result<&'a str, FilterError> {
        match self.peek() {
            Kind::Word(text) | Kind::Quoted(text) => Ok(text),
            _ => Err(self.error(expected)),
        }
    }

    fn number(&mut self, expected: &str) -> Result<u32, FilterError> {
        match self.plain(expected)?.parse() {
            Ok(number) => {
                self.advance();
                Ok(number)
            }
            Err(_) => Err(self.error(expected)),
        }
    }

    fn address(&mut self) -> Result<IpAddr, FilterError> {
        let expected = "expected an IP address, such as 192.0.2.1 or 2001:db8::1";
        let address: IpAddr = self
            .plain(expected)?
            .parse()
            .map_err(|_| self.error(expected))?;
        self.advance();
        Ok(address.to_canonical())
    }

    fn net(&mut self) -> Result<Net, FilterError> {
        let expected = "expected a network, such as 10.0.0.0/8 or 2001:db8::/32";
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
                .ok_or_else(|| self.error(&format!("expected a prefix of 0 to {bits} bits")))?,
            None => bits,
        };
        let net = Net::new(address, prefix).ok_or_else(|| self.error(expected))?;
        self.advance();
        Ok(net)
    }

    fn ports(&mut self) -> Result<RangeInclusive<u16>, FilterError> {
        let expected = "expected a port of 0 to 65535, or two such as 8000-8080";
        let text = self.plain(expected)?;
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
            return Err(self.error(expected));
        };
        if first > last {
            return Err(self.error("expected the lower port first"));
        }
        self.advance();
        Ok(first..=last)
    }

    fn user(&mut self) -> Result<Primitive, FilterError> {
        let expected = "expected a user's name or number";
        let name = self.plain(expected)?;
        let number = matches!(self.peek(), Kind::Word(_))
            .then(|| name.parse().ok())
            .flatten();
        let user = match number {
            Some(uid) => Primitive::User { uid, name: None },
            None => Primitive::User {
                uid: (self.uid_of)(name)
                    .ok_or_else(|| self.error("there is no user of this name"))?,
                name: Some(name.into()),
            },
        };
        self.advance();
        Ok(user)
    }

    fn state(&mut self) -> Result<Primitive, FilterError> {
        let known = || STATES.map(State::name).join(", ");
        let state = match self.peek() {
            Kind::Word(word) => STATES.into_iter().find(|state| state.name() == word),
            _ => None,
        };
        let state =
            state.ok_or_else(|| self.error(&format!("expected a state: one of {}", known())))?;
        self.advance();
        Ok(Primitive::State(state))
    }

    fn pattern(&mut self, expected: &str) -> Result<Pattern, FilterError> {
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
                    return Err(self.error(&format!("at most {REGEXES} regular expressions")));
                }
                Pattern::regex(source.clone(), *ignore_case)
                    .map_err(|reason| self.error_at(token, reason))?
            }
            Kind::And | Kind::Or | Kind::Not => {
                return Err(self.error(&format!("{expected} (in quotes if it is and, or, not)")));
            }
            Kind::Open | Kind::Close | Kind::End => return Err(self.error(expected)),
        };
        self.advance();
        Ok(pattern)
    }
}

fn side(word: &str) -> Option<Side> {
    Side::WORDS
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, side)| *side)
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
        assert_eq!(read("cgroup /system.slice"), "cgroup /system.slice");
        assert_eq!(read("user www or user 0"), "user \"www\" or user 0");
        assert_eq!(read("process /ngi.x/i"), "process /ngi.x/i");
        assert_eq!(parse(" "), Ok(None));
    }

    #[test]
    fn a_mistake_has_a_column_and_an_expectation() {
        let cases = [
            (
                "tcp porrt 80",
                5,
                "expected `and`, `or` or the end; found `porrt`",
            ),
            ("tcp and", 8, "expected host"),
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
            ("frob", 1, "expected host"),
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
