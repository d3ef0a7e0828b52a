//! Sort keys of cells: numbers that are computed once per row.

use std::net::IpAddr;

use super::value::Value;
use crate::event::Bytes;

/// Bytes of a text in one number, followed by their count.
const BYTES: usize = 7;
/// The count if more bytes follow.
const MORE: u8 = 8;

/// Orders the cells of a column: quantities from the largest, everything else from the smallest.
#[derive(Clone, Debug)]
pub(in crate::query) enum Key {
    Absent,
    /// Smaller numbers sort first.
    Number(u64),
    Text(Vec<u8>),
}

impl Key {
    /// The number at position `at`; the first in which two keys differ decides. `None` past the
    /// last number; an absent cell has none.
    pub fn number(&self, at: usize) -> Option<u64> {
        match self {
            Self::Number(number) if at == 0 => Some(*number),
            Self::Text(text) => {
                let from = at * BYTES;
                // An empty text has a number too.
                if at > 0 && from >= text.len() {
                    return None;
                }
                let mut number = [0; BYTES + 1];
                let piece = &text[from..text.len().min(from + BYTES)];
                number[..piece.len()].copy_from_slice(piece);
                number[BYTES] = if from + BYTES < text.len() {
                    MORE
                } else {
                    // At most BYTES.
                    piece.len() as u8
                };
                Some(u64::from_be_bytes(number))
            }
            Self::Absent | Self::Number(_) => None,
        }
    }
}

impl Value {
    /// Whether cells like it are ordered from the largest; `None` if it is absent.
    pub fn falls(&self) -> Option<bool> {
        Some(match self {
            Self::Absent => return None,
            Self::Text(_)
            | Self::Name { .. }
            | Self::Address { .. }
            | Self::List(_)
            | Self::Id(_) => false,
            Self::Flag(_)
            | Self::Count(_)
            | Self::Bytes(_)
            | Self::SignedBytes(_)
            | Self::Rate(_)
            | Self::Share { .. }
            | Self::Microseconds(_)
            | Self::Seconds(_)
            | Self::Graph { .. }
            | Self::Parts(_) => true,
        })
    }
}

impl From<Value> for Key {
    fn from(value: Value) -> Self {
        let falling = |number: u64| Self::Number(!number);
        let text = |text: String| Self::Text(text.into_bytes());
        match value {
            Value::Absent => Self::Absent,
            Value::Text(label) => text(label),
            Value::Name { name, count, note } => text(name + &count + &note),
            Value::Address { ip, zone, port } => {
                let mut bytes = address(ip, port.unwrap_or(0));
                bytes.extend(zone.as_deref().unwrap_or_default().as_bytes());
                Self::Text(bytes)
            }
            Value::List(parts) => text(parts.join(" ")),
            Value::Flag(flag) => falling(flag.into()),
            Value::Id(number) => Self::Number(number),
            Value::Count(number)
            | Value::Microseconds(number)
            | Value::Seconds(number)
            | Value::Bytes(Bytes(number)) => falling(number),
            Value::SignedBytes(bytes) => falling(bytes.unsigned_abs()),
            Value::Rate(rate) | Value::Graph { peak: rate, .. } => Self::Number(falling_rate(rate)),
            Value::Share { part, whole } if whole.0 > 0 => {
                Self::Number(falling_rate(part.0 as f64 / whole.0 as f64))
            }
            Value::Share { .. } => Self::Absent,
            // By the part that sockets own.
            Value::Parts(parts) => parts.first().map_or(Self::Absent, |it| falling(it.1)),
        }
    }
}

/// A number that is smaller for a higher rate.
pub(in crate::query) fn falling_rate(rate: f64) -> u64 {
    // The bits of non-negative floats sort like the numbers; no rate is negative.
    !rate.abs().to_bits()
}

/// Sorts before all printable text, IPv4 first, each in numerical order.
fn address(ip: IpAddr, port: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 16 + 2);
    match ip {
        IpAddr::V4(ip) => {
            bytes.push(4);
            bytes.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(6);
            bytes.extend(ip.octets());
        }
    }
    bytes.extend(port.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(value: &Value) -> Vec<u64> {
        let key = Key::from(value.clone());
        (0..).map_while(|at| key.number(at)).collect()
    }

    /// Of two values of a kind, the second is larger.
    #[test]
    fn the_direction_of_an_order_is_that_of_its_keys() {
        let pairs = [
            (Value::Id(1), Value::Id(9)),
            (Value::Count(1), Value::Count(9)),
            (Value::Text("a".to_owned()), Value::Text("b".to_owned())),
            (Value::Rate(1.0), Value::Rate(9.0)),
            (Value::Bytes(Bytes(1)), Value::Bytes(Bytes(9))),
            (Value::Microseconds(1), Value::Microseconds(9)),
            (Value::Flag(false), Value::Flag(true)),
        ];
        for (small, large) in pairs {
            let falls = numbers(&large) < numbers(&small);
            assert_eq!(small.falls(), Some(falls), "{small:?}");
        }
        assert_eq!(Value::Absent.falls(), None);
    }

    #[test]
    fn quantities_fall_and_everything_else_rises() {
        let share = |part, whole| Value::Share {
            part: Bytes(part),
            whole: Bytes(whole),
        };
        let text = |text: &str| Value::Text(text.to_owned());
        let address = |ip: &str, port| Value::Address {
            ip: ip.parse().unwrap(),
            zone: None,
            port,
        };
        let ordered = [
            (Value::Bytes(Bytes(9)), Value::Bytes(Bytes(1))),
            (Value::Rate(9.0), Value::Rate(1.0)),
            (Value::Rate(0.5), Value::Rate(0.0)),
            (Value::Id(1), Value::Id(9)),
            (Value::Flag(true), Value::Flag(false)),
            (share(u64::MAX, u64::MAX), share(1, 2)),
            (Value::SignedBytes(-9), Value::SignedBytes(1)),
            (text("a"), text("b")),
            (text(""), text("\0")),
            (text("a"), text("a\0")),
            (text("server"), text("server-")),
            (text("server-"), text("server-1")),
            (text("server-number-1"), text("server-number-2")),
            (text("server-number-10"), text("server-number-2")),
            (text("zzzzzzzzzz"), text("é")),
            (address("10.0.0.9", None), address("10.0.0.10", None)),
            (
                address("10.0.0.9", Some(80)),
                address("10.0.0.9", Some(443)),
            ),
            (address("10.0.0.9", Some(80)), address("::1", Some(80))),
            (address("fe80::9", None), address("fe80::10", None)),
            (address("fe80::10", None), text("host")),
        ];
        for (first, second) in ordered {
            assert!(numbers(&first) < numbers(&second), "{first:?} {second:?}");
        }
        for nothing in [Value::Absent, share(0, 0), Value::Parts(Vec::new())] {
            assert!(numbers(&nothing).is_empty(), "{nothing:?}");
        }
    }
}
