//! What a filter expression says, and how it is written.

use std::{fmt, net::IpAddr, ops::RangeInclusive, sync::Arc};

use super::{
    lexer::quote,
    pattern::Pattern,
    words::{WORDS, Word},
};
use crate::event::{Direction, Protocol, State};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// Two or more, all of them.
    And(Vec<Expr>),
    /// Two or more, any of them.
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Is(Primitive),
}

/// Which end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Either end.
    Any,
    /// Who opened the flow; the local end where that is not known.
    Source,
    /// The other end.
    Destination,
    Local,
    Remote,
}

/// A block of addresses. The bits past the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Net {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Net {
    /// The block of `prefix` bits that holds `address`; `None` if it has fewer bits.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if prefix <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) if prefix <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
            _ => return None,
        };
        Some(Self { address, prefix })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.prefix).as_ref() == Some(self)
    }
}

/// One thing that is true of a flow, process or interface, or not.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Primitive {
    Protocol(Protocol),
    Ip4,
    Ip6,
    /// With its zone, if that matters: name or index of an interface.
    Host(Side, IpAddr, Option<Arc<str>>),
    Net(Side, Net),
    Port(Side, RangeInclusive<u16>),
    Process(Pattern),
    Pid(u32),
    User {
        uid: u32,
        /// As it was written, if by name.
        name: Option<Arc<str>>,
    },
    Cgroup(Pattern),
    State(State),
    Interface(Pattern),
    Direction(Direction),
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, parts: &[Self], word: &str| {
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    write!(f, " {word} ")?;
                }
                part.operand(f)?;
            }
            Ok(())
        };
        match self {
            Self::And(parts) => list(f, parts, "and"),
            Self::Or(parts) => list(f, parts, "or"),
            Self::Not(inner) => {
                f.write_str("not ")?;
                inner.operand(f)
            }
            Self::Is(primitive) => primitive.fmt(f),
        }
    }
}

impl Expr {
    fn operand(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(_) | Self::Or(_) => write!(f, "({self})"),
            Self::Not(_) | Self::Is(_) => write!(f, "{self}"),
        }
    }
}

impl fmt::Display for Side {
    /// The word and a blank, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match WORDS.iter().find(|(_, word)| *word == Word::Side(*self)) {
            Some((word, _)) => write!(f, "{word} "),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(protocol) => f.write_str(protocol.name()),
            Self::Ip4 => f.write_str("ip"),
            Self::Ip6 => f.write_str("ip6"),
            Self::Host(side, address, None) => write!(f, "{side}host {address}"),
            Self::Host(side, address, Some(zone)) => {
                let host = format!("{address}%{zone}");
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
                match zone.chars().all(is_plain) {
                    true => write!(f, "{side}host {host}"),
                    false => write!(f, "{side}host {}", quote(&host)),
                }
            }
            Self::Net(side, net) => write!(f, "{side}net {}/{}", net.address, net.prefix),
            Self::Port(side, ports) if ports.start() == ports.end() => {
                write!(f, "{side}port {}", ports.start())
            }
            Self::Port(side, ports) => write!(f, "{side}port {}-{}", ports.start(), ports.end()),
            Self::Process(pattern) => write!(f, "process {pattern}"),
            Self::Pid(pid) => write!(f, "pid {pid}"),
            Self::User { uid, name: None } => write!(f, "user {uid}"),
            Self::User {
                name: Some(name), ..
            } => write!(f, "user {}", quote(name)),
            Self::Cgroup(pattern) => write!(f, "cgroup {pattern}"),
            Self::State(state) => write!(f, "state {}", state.name()),
            Self::Interface(pattern) => write!(f, "interface {pattern}"),
            Self::Direction(Direction::Inbound) => f.write_str("inbound"),
            Self::Direction(Direction::Outbound) => f.write_str("outbound"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(address: &str, prefix: u8) -> Net {
        Net::new(address.parse().unwrap(), prefix).unwrap()
    }

    #[test]
    fn a_net_holds_its_addresses_and_no_others() {
        assert!(net("10.1.2.3", 8).contains("10.255.0.1".parse().unwrap()));
        assert!(!net("10.0.0.0", 8).contains("11.0.0.1".parse().unwrap()));
        assert!(net("0.0.0.0", 0).contains("1.2.3.4".parse().unwrap()));
        assert!(!net("0.0.0.0", 0).contains("::1".parse().unwrap()));
        assert!(net("2001:db8::", 32).contains("2001:db8:1::1".parse().unwrap()));
        assert!(net("::1", 128).contains("::1".parse().unwrap()));
        assert_eq!(Net::new("10.0.0.0".parse().unwrap(), 33), None);
    }
}
