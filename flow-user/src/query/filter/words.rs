//! The words of the language: one row each.
//!
//! From the row of a word the parser knows its operand, errors what was expected, the evaluation
//! its test, the completion its candidates, and the help what it says. What is no word of the
//! language is short for one (`short`), or [`TEXT`].

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
};

use strum::IntoEnumIterator as _;

use super::{
    operand::Operand,
    told::{Subject, canonical, ends, has_text, is_in_zone, is_named},
};
use crate::{
    event::{Direction, Protocol, State},
    model::snapshot::{Flow, Process, Snapshot},
};

/// Every word that can begin a primitive, those of most use first.
pub(super) static WORDS: [&Word; 29] = [
    PROCESS,
    PORT,
    HOST,
    NET,
    &word(
        "user",
        "NAME|UID",
        "of a process of this user",
        Takes::User("a user's name or number"),
        Test::Process(|it, operand| match operand {
            Operand::User { uid, .. } => it.uid == Some(*uid),
            _ => false,
        }),
    )
    .offers(Candidates::Users),
    PID,
    &word(
        "state",
        "NAME",
        "in this state",
        Takes::State,
        Test::Flow(|it, operand| {
            let listens = it.listens() && *operand == Operand::State(State::Listen);
            listens || *operand == Operand::State(it.state)
        }),
    ),
    INTERFACE,
    &word(
        "cgroup",
        "PATH",
        "of a process in this cgroup or one below it",
        Takes::Pattern("a cgroup's path, such as /system.slice/nginx.service"),
        Test::Process(|it, operand| {
            let path = it.cgroup_path.as_deref();
            path.is_some_and(|path| operand.pattern(|pattern| pattern.matches_path(path)))
        }),
    )
    .offers(Candidates::Names(|shown, add| {
        let paths = shown.processes.iter();
        paths
            .filter_map(|it| it.cgroup_path.as_deref())
            .for_each(add);
    })),
    &protocol(Protocol::Tcp),
    &protocol(Protocol::Udp),
    &bare(
        "inbound",
        "opened by the remote",
        Test::Flow(|it, _| it.direction == Some(Direction::Inbound)),
    ),
    &bare(
        "outbound",
        "opened here",
        Test::Flow(|it, _| it.direction == Some(Direction::Outbound)),
    ),
    EXITED,
    &bare("ip", "over IPv4", Test::Version(IpAddr::is_ipv4)),
    &bare("ip6", "over IPv6", Test::Version(IpAddr::is_ipv6)),
    &side("local", Side::Local),
    &side("remote", Side::Remote),
    &side("src", Side::Source),
    &side("dst", Side::Destination),
    &PORT.also("portrange"),
    &EXITED.also("ended"),
    &protocol(Protocol::Mptcp),
    &protocol(Protocol::Sctp),
    &protocol(Protocol::Udplite),
    &protocol(Protocol::Icmp),
    &protocol(Protocol::Icmp6),
    &protocol(Protocol::Raw),
    &protocol(Protocol::Packet),
];

pub(super) const PROCESS: &Word = &word(
    "process",
    "NAME",
    "of a process with this name",
    Takes::Pattern("a process's name, such as nginx, ng* or /nginx|httpd/"),
    Test::Process(|it, operand| operand.pattern(|pattern| is_named(it, pattern))),
)
.offers(Candidates::Names(|shown, add| {
    shown.processes.iter().for_each(|it| add(it.name()));
}));

/// The qualifier where only an address follows a side.
pub(super) const HOST: &Word = &word(
    "host",
    "ADDRESS",
    "with this IPv4 or IPv6 address at either end",
    Takes::Address("an IP address, such as 192.0.2.1 or 2001:db8::1"),
    Test::End(|flow, end, operand| match operand {
        Operand::Address(address, zone) => {
            let is_there = |zone| is_in_zone(flow, end, zone);
            end.ip().to_canonical() == *address && zone.as_deref().is_none_or(is_there)
        }
        Operand::Endpoint(endpoint) => canonical(end) == *endpoint,
        _ => false,
    }),
)
.offers(Candidates::Addresses(|shown| {
    let addresses = ends(shown).map(|end| end.ip().to_canonical());
    addresses.filter(|it| !it.is_unspecified()).collect()
}));

pub(super) const NET: &Word = &word(
    "net",
    "CIDR",
    "with an address of this network at either end",
    Takes::Net("a network, such as 10.0.0.0/8 or 2001:db8::/32"),
    Test::End(|_, end, operand| match operand {
        Operand::Net(net) => net.contains(end.ip().to_canonical()),
        _ => false,
    }),
);

pub(super) const PORT: &Word = &word(
    "port",
    "N|A-B",
    "with this port, or one from A to B, at either end",
    Takes::Ports("a port, such as 443, 8000-8080 or https"),
    Test::End(|_, end, operand| match operand {
        Operand::Ports(ports) => ports.contains(&end.port()),
        _ => false,
    }),
)
.offers(Candidates::Ports(|shown| {
    let ports = ends(shown).map(|end| end.port().into());
    ports.filter(|port| *port > 0).collect()
}));

pub(super) const PID: &Word = &word(
    "pid",
    "N",
    "of this process",
    Takes::Number("a process id"),
    Test::Process(|it, operand| *operand == Operand::Number(it.id.pid)),
)
.offers(Candidates::Numbers(|shown| {
    shown.processes.iter().map(|it| it.id.pid).collect()
}));

/// What has ended: an exited process, a closed flow, an interface that is gone.
const EXITED: &Word = &bare(
    "exited",
    "that has ended; a process that has exited",
    Test::Any(|it, _| {
        Some(match it {
            Subject::Flow(flow) => flow.closed.is_some(),
            Subject::Process(process) => process.exited.is_some(),
            Subject::Interface(interface) => interface.gone.is_some(),
        })
    }),
);

/// A bare word or a quoted string that is none of the language. It has no name of its own.
pub(super) const TEXT: &Word = &bare(
    "",
    "with this text, in any case, in the name, command line, user or cgroup of the process, or in \
     an address and port",
    Test::Any(|it, operand| match operand {
        Operand::Text(text) => has_text(it, text),
        _ => Some(false),
    }),
);

/// The word behind `--interface`.
pub(super) const INTERFACE: &Word = &word(
    "interface",
    "NAME",
    "whose last packet passed this interface",
    Takes::Pattern("an interface's name, such as eth0 or veth*"),
    Test::Interface(|name, operand| operand.pattern(|pattern| pattern.matches(name))),
)
.offers(Candidates::Names(|shown, add| {
    shown.interfaces.iter().for_each(|it| add(&it.name));
}));

/// The names of the states, as `state` takes them.
pub(super) fn states() -> impl Iterator<Item = &'static str> {
    State::iter().map(State::name)
}

/// A word that can begin a primitive.
#[derive(Debug)]
pub(super) struct Word {
    pub name: &'static str,
    /// Its name in an expression that is shown: of two that mean the same, the first one's.
    pub shown: &'static str,
    /// What follows it, for the help; nothing if it stands alone.
    pub operand: &'static str,
    /// What it matches, for the help: a flow ...
    pub says: &'static str,
    pub takes: Takes,
    pub test: Test,
    pub candidates: Candidates,
}

/// What follows a word; most with what an error says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Address(&'static str),
    Net(&'static str),
    Ports(&'static str),
    Pattern(&'static str),
    Number(&'static str),
    User(&'static str),
    State,
}

/// The test of a word. Flows answer for their process and interface too.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    /// Nothing: it chooses the end that the next word asks of.
    Side(Side),
    End(fn(&Flow, SocketAddr, &Operand) -> bool),
    Protocol(Protocol),
    /// Of the local address.
    Version(fn(&IpAddr) -> bool),
    Flow(fn(&Flow, &Operand) -> bool),
    Process(fn(&Process, &Operand) -> bool),
    /// Of an interface's name.
    Interface(fn(&str, &Operand) -> bool),
    /// Of whatever it is; `None` where its flows decide.
    Any(fn(Subject<'_>, &Operand) -> Option<bool>),
}

/// Candidates for the operand of a word, from what is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Candidates {
    Nothing,
    Names(EachName),
    Users,
    Numbers(fn(&Snapshot) -> BTreeSet<u32>),
    /// By number, and by the name of the service.
    Ports(fn(&Snapshot) -> BTreeSet<u32>),
    Addresses(fn(&Snapshot) -> BTreeSet<IpAddr>),
}

/// Hands over each name of what is shown.
type EachName = fn(&Snapshot, &mut dyn FnMut(&str));

/// An end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Either end.
    Any,
    /// The side that opened the flow; the local end where that is unknown.
    Source,
    /// The other end.
    Destination,
    Local,
    Remote,
}

impl Side {
    const fn says(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Source => "before host, net or port: at the end that opened the flow",
            Self::Destination => "before host, net or port: at the end that did not open it",
            Self::Local => "before host, net or port: at this host's end",
            Self::Remote => "before host, net or port: at the other end",
        }
    }
}

impl fmt::Display for Side {
    /// The word and a blank, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_side = |word: &&&Word| matches!(word.test, Test::Side(side) if side == *self);
        match WORDS.iter().find(is_side) {
            Some(word) => write!(f, "{} ", word.name),
            None => Ok(()),
        }
    }
}

/// What can come at a place. Displays as what an error says of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Expected {
    Primitive,
    /// An end of a flow, right after a protocol.
    End,
    /// What may be asked of an end, right after the word that chooses it.
    OfEnd,
    Operator,
    Close,
    /// What the word takes.
    Operand(&'static Word),
}

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        self.shown == other.shown
    }
}

impl Word {
    /// What `text` begins, if it is a word of the language, in any case.
    pub fn of(text: &str) -> Option<&'static Self> {
        let mut words = WORDS.into_iter();
        words.find(|word| word.name.eq_ignore_ascii_case(text))
    }

    /// Another name of it.
    const fn also(&self, name: &'static str) -> Self {
        Self { name, ..*self }
    }

    const fn offers(self, candidates: Candidates) -> Self {
        Self { candidates, ..self }
    }

    /// Whether it can come right after a word that chooses an end.
    pub fn is_of_end(&self) -> bool {
        matches!(self.test, Test::End(_))
    }

    /// Whether it speaks of an end.
    pub fn is_end(&self) -> bool {
        matches!(self.test, Test::End(_) | Test::Side(_))
    }

    /// Whether it may stand before a word that speaks of an end, as in `tcp port 80`.
    pub fn qualifies(&self) -> bool {
        matches!(self.test, Test::Protocol(_) | Test::Version(_))
    }
}

impl Expected {
    /// The words of the language that can come here.
    pub fn words(self) -> Vec<&'static str> {
        let those = |suit: fn(&Word) -> bool| {
            let words = WORDS.iter().filter(|word| suit(word));
            words.map(|word| word.name).collect::<Vec<_>>()
        };
        match self {
            Self::Primitive => [those(|_| true), vec!["not", "("]].concat(),
            Self::End => those(Word::is_end),
            Self::OfEnd => those(Word::is_of_end),
            Self::Operator => vec!["and", "or"],
            Self::Close => vec![")"],
            Self::Operand(word) if word.takes == Takes::State => states().collect(),
            Self::Operand(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected ")?;
        match self {
            Self::Primitive => f.write_str("text, or a word such as process or port"),
            Self::End | Self::OfEnd => f.write_str("an address, a network or a port"),
            Self::Operator => f.write_str("`and`, `or` or the end"),
            Self::Close => f.write_str("`and`, `or` or )"),
            Self::Operand(word) => match word.takes {
                Takes::Nothing => f.write_str("nothing"),
                Takes::State => {
                    let names = states().collect::<Vec<_>>().join(", ");
                    write!(f, "a state: one of {names}")
                }
                Takes::Address(what)
                | Takes::Net(what)
                | Takes::Ports(what)
                | Takes::Pattern(what)
                | Takes::Number(what)
                | Takes::User(what) => f.write_str(what),
            },
        }
    }
}

const fn word(
    name: &'static str,
    operand: &'static str,
    says: &'static str,
    takes: Takes,
    test: Test,
) -> Word {
    Word {
        name,
        shown: name,
        operand,
        says,
        takes,
        test,
        candidates: Candidates::Nothing,
    }
}

const fn bare(name: &'static str, says: &'static str, test: Test) -> Word {
    word(name, "", says, Takes::Nothing, test)
}

const fn protocol(protocol: Protocol) -> Word {
    bare(
        protocol.name(),
        "of this protocol",
        Test::Protocol(protocol),
    )
}

const fn side(name: &'static str, side: Side) -> Word {
    word(name, "...", side.says(), Takes::Nothing, Test::Side(side))
}
