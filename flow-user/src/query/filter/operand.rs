//! Operands of words, and their notation.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::Arc,
};

use super::{lexer::quote, pattern::Pattern, text::Text};
use crate::event::State;

/// The operand of a word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    Nothing,
    /// With its zone, if that matters: name or index of an interface.
    Address(IpAddr, Option<Arc<str>>),
    /// An address and a port, without a zone.
    Endpoint(SocketAddr),
    Net(Net),
    Ports(RangeInclusive<u16>),
    Pattern(Pattern),
    Number(u32),
    User {
        uid: u32,
        /// As it was written, if by name.
        name: Option<Arc<str>>,
    },
    State(State),
    /// What is no operand of a word: it stands alone.
    Text(Text),
}

/// A block of addresses. The bits past the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Net {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Operand {
    /// Whether it is a pattern of which this is true.
    pub fn pattern(&self, is: impl Fn(&Pattern) -> bool) -> bool {
        matches!(self, Self::Pattern(pattern) if is(pattern))
    }
}

impl fmt::Display for Operand {
    /// Behind a blank, if there is any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Address(address, None) => write!(f, " {address}"),
            Self::Address(address, Some(zone)) => {
                let host = format!("{address}%{zone}");
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
                match zone.chars().all(is_plain) {
                    true => write!(f, " {host}"),
                    false => write!(f, " {}", quote(&host)),
                }
            }
            Self::Endpoint(endpoint) => write!(f, " {endpoint}"),
            Self::Net(net) => write!(f, " {}/{}", net.address, net.prefix),
            Self::Ports(ports) if ports.start() == ports.end() => write!(f, " {}", ports.start()),
            Self::Ports(ports) => write!(f, " {}-{}", ports.start(), ports.end()),
            Self::Pattern(pattern) => write!(f, " {pattern}"),
            Self::Number(number) => write!(f, " {number}"),
            Self::User { uid, name: None } => write!(f, " {uid}"),
            Self::User {
                name: Some(name), ..
            } => write!(f, " {}", quote(name)),
            Self::State(state) => write!(f, " {}", state.name()),
            Self::Text(text) => text.fmt(f),
        }
    }
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

/// An address, and the zone behind it. Only IPv6 has zones.
pub(super) fn address(text: &str) -> Option<(IpAddr, Option<Arc<str>>)> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let address = address.parse::<IpAddr>().ok()?.to_canonical();
    let fits = zone.is_none_or(|zone| address.is_ipv6() && !zone.is_empty());
    fits.then(|| (address, zone.map(Arc::from)))
}

/// An address and a port, such as `10.0.0.1:80` or `[::1]:80`.
pub(super) fn endpoint(text: &str) -> Option<SocketAddr> {
    let endpoint: SocketAddr = text.parse().ok()?;
    let has_scope = matches!(endpoint, SocketAddr::V6(v6) if v6.scope_id() != 0);
    let canonical = SocketAddr::new(endpoint.ip().to_canonical(), endpoint.port());
    (!has_scope).then_some(canonical)
}

/// A port, also as `:80`, or two such as `8000-8080`, the lower one first.
pub(super) fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().ok()?;
        return Some(port..=port);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..=last)
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
