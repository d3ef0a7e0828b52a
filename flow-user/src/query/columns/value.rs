//! What a cell holds, and how it reads: for people, for machines, and in order.

use std::cmp::Ordering;

use crate::{event::Bytes, query::human};

/// What a cell holds. Text is as it came: it may hold anything.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Not known, or makes no sense here.
    Absent,
    Text(String),
    /// Text, and how people are to see it.
    Labelled {
        text: String,
        label: String,
    },
    List(Vec<String>),
    Flag(bool),
    /// A number that is no quantity, such as a pid: sorts from the smallest.
    Id(u64),
    Count(u64),
    Bytes(Bytes),
    SignedBytes(i64),
    /// Bytes per second.
    Rate(f64),
    /// Of a whole.
    Share {
        part: Bytes,
        whole: Bytes,
    },
    Microseconds(u64),
}

impl Value {
    /// The cell as people read it.
    pub fn text(&self) -> String {
        match self {
            Self::Absent => String::new(),
            Self::Text(text) | Self::Labelled { label: text, .. } => text.clone(),
            Self::List(parts) => parts.join(" "),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Self::Id(number) | Self::Count(number) => number.to_string(),
            Self::Bytes(Bytes(bytes)) => human::bytes(*bytes),
            Self::SignedBytes(bytes) => human::signed_bytes(*bytes),
            Self::Rate(rate) => human::rate(*rate),
            Self::Share { part, whole } => human::share(part.0, whole.0),
            Self::Microseconds(time) => format!("{:.1} ms", *time as f64 / 1000.0),
        }
    }

    /// The cell as machines read it; `None` where it is absent. Rates are whole bytes per second.
    pub fn json(&self) -> Option<serde_json::Value> {
        Some(match self {
            Self::Absent => return None,
            Self::Text(text) | Self::Labelled { text, .. } => text.as_str().into(),
            Self::List(parts) => parts.as_slice().into(),
            Self::Flag(flag) => (*flag).into(),
            Self::Id(number) | Self::Count(number) | Self::Microseconds(number) => (*number).into(),
            Self::Bytes(Bytes(bytes)) => (*bytes).into(),
            Self::SignedBytes(bytes) => (*bytes).into(),
            // A cast from float saturates.
            Self::Rate(rate) => (rate.round() as u64).into(),
            Self::Share { part, whole } => {
                if whole.0 == 0 {
                    return None;
                }
                (part.0 as f64 / whole.0 as f64).into()
            }
        })
    }

    /// Whether it is a quantity of nothing.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Count(0) | Self::Bytes(Bytes(0)) | Self::SignedBytes(0) => true,
            Self::Rate(rate) => *rate < 0.5,
            Self::Share { part, .. } => part.0 == 0,
            _ => false,
        }
    }

    /// Quantities from the largest, everything else from the smallest; what is absent last.
    pub(in crate::query) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Absent, Self::Absent) => Ordering::Equal,
            (Self::Absent, _) => Ordering::Greater,
            (_, Self::Absent) => Ordering::Less,
            (Self::Id(a), Self::Id(b)) => a.cmp(b),
            (Self::SignedBytes(a), Self::SignedBytes(b)) => b.unsigned_abs().cmp(&a.unsigned_abs()),
            (Self::Count(a), Self::Count(b)) | (Self::Microseconds(a), Self::Microseconds(b)) => {
                b.cmp(a)
            }
            (Self::Bytes(a), Self::Bytes(b)) => b.cmp(a),
            (Self::Rate(a), Self::Rate(b)) => b.total_cmp(a),
            (Self::Share { part: a, whole: x }, Self::Share { part: b, whole: y }) => {
                let product =
                    |part: &Bytes, whole: &Bytes| u128::from(part.0) * u128::from(whole.0);
                product(b, x).cmp(&product(a, y))
            }
            (Self::Flag(a), Self::Flag(b)) => b.cmp(a),
            (a, b) => a.text().cmp(&b.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_values() {
        let share = |part, whole| Value::Share {
            part: Bytes(part),
            whole: Bytes(whole),
        };
        let ordered = [
            (Value::Bytes(Bytes(9)), Value::Bytes(Bytes(1))),
            (Value::Rate(9.0), Value::Rate(1.0)),
            (Value::Id(1), Value::Id(9)),
            (Value::Text("a".to_owned()), Value::Text("b".to_owned())),
            (share(u64::MAX, u64::MAX), share(1, 2)),
            (Value::SignedBytes(-9), Value::SignedBytes(1)),
            (Value::Count(0), Value::Absent),
        ];
        for (first, second) in ordered {
            assert_eq!(first.order(&second), Ordering::Less, "{first:?} {second:?}");
            assert_eq!(second.order(&first), Ordering::Greater);
        }
    }
}
