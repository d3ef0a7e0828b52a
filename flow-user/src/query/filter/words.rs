//! Which words does the language have, and what can come where?
//!
//! From the one table of words the parser reads, errors tell what was expected, and what is typed is completed.

use std::fmt;

use super::ast::Side;
use crate::event::{Direction, Protocol, State};

/// What a word begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Host,
    Net,
    Port,
    Side(Side),
    Protocol(Protocol),
    Ip4,
    Ip6,
    Process,
    Pid,
    User,
    Cgroup,
    State,
    Interface,
    Direction(Direction),
}

/// Every word that can begin a primitive, those of most use first.
pub(super) const WORDS: [(&str, Word); 27] = [
    ("process", Word::Process),
    ("port", Word::Port),
    ("host", Word::Host),
    ("net", Word::Net),
    ("user", Word::User),
    ("pid", Word::Pid),
    ("state", Word::State),
    ("interface", Word::Interface),
    ("cgroup", Word::Cgroup),
    protocol(Protocol::Tcp),
    protocol(Protocol::Udp),
    ("inbound", Word::Direction(Direction::Inbound)),
    ("outbound", Word::Direction(Direction::Outbound)),
    ("ip", Word::Ip4),
    ("ip6", Word::Ip6),
    ("local", Word::Side(Side::Local)),
    ("remote", Word::Side(Side::Remote)),
    ("src", Word::Side(Side::Source)),
    ("dst", Word::Side(Side::Destination)),
    ("portrange", Word::Port),
    protocol(Protocol::Mptcp),
    protocol(Protocol::Sctp),
    protocol(Protocol::Udplite),
    protocol(Protocol::Icmp),
    protocol(Protocol::Icmp6),
    protocol(Protocol::Raw),
    protocol(Protocol::Packet),
];

/// The states, as `state` takes them.
pub(super) const STATES: [State; 12] = [
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

/// What can come at a place. Displays as what an error says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Primitive,
    /// An end of a flow, right after a protocol.
    End,
    /// What may be asked of an end, right after the word that chooses it.
    OfEnd,
    Operator,
    Close,
    Address,
    Net,
    Ports,
    Process,
    Pid,
    User,
    Cgroup,
    State,
    Interface,
}

impl Word {
    /// What `text` begins, if it is a word of the language.
    pub fn of(text: &str) -> Option<Self> {
        let known = WORDS.iter().find(|(word, _)| *word == text);
        known.map(|(_, meaning)| *meaning)
    }

    /// Whether it can come right after a word that chooses an end.
    pub fn is_of_end(self) -> bool {
        matches!(self, Self::Host | Self::Net | Self::Port)
    }

    /// Whether it speaks of an end.
    pub fn is_end(self) -> bool {
        self.is_of_end() || matches!(self, Self::Side(_))
    }
}

impl Expected {
    /// The words of the language that can come here.
    pub fn words(self) -> Vec<&'static str> {
        let those = |suit: fn(Word) -> bool| {
            let words = WORDS.iter().filter(|(_, meaning)| suit(*meaning));
            words.map(|(word, _)| *word).collect::<Vec<_>>()
        };
        match self {
            Self::Primitive => [those(|_| true), vec!["not", "("]].concat(),
            Self::End => those(Word::is_end),
            Self::OfEnd => those(Word::is_of_end),
            Self::Operator => vec!["and", "or"],
            Self::Close => vec![")"],
            Self::State => STATES.map(State::name).into(),
            Self::Address
            | Self::Net
            | Self::Ports
            | Self::Process
            | Self::Pid
            | Self::User
            | Self::Cgroup
            | Self::Interface => Vec::new(),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primitive => {
                let named = |(_, meaning): &&(&str, Word)| !matches!(meaning, Word::Protocol(_));
                let words: Vec<&str> = WORDS.iter().filter(named).map(|(word, _)| *word).collect();
                return write!(f, "expected {}, a protocol, not or (", words.join(", "));
            }
            Self::State => {
                let names = STATES.map(State::name).join(", ");
                return write!(f, "expected a state: one of {names}");
            }
            Self::End | Self::OfEnd => "expected host, net, port or an IP address",
            Self::Operator => "expected `and`, `or` or the end",
            Self::Close => "expected `and`, `or` or )",
            Self::Address => "expected an IP address, such as 192.0.2.1 or 2001:db8::1",
            Self::Net => "expected a network, such as 10.0.0.0/8 or 2001:db8::/32",
            Self::Ports => "expected a port of 0 to 65535, or two such as 8000-8080",
            Self::Process => "expected a process's name, such as nginx, ng* or /nginx|httpd/",
            Self::Pid => "expected a process id",
            Self::User => "expected a user's name or number",
            Self::Cgroup => "expected a cgroup's path, such as /system.slice/nginx.service",
            Self::Interface => "expected an interface's name, such as eth0 or veth*",
        })
    }
}

const fn protocol(protocol: Protocol) -> (&'static str, Word) {
    (protocol.name(), Word::Protocol(protocol))
}
