//! The value of a cell, for people and for machines.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crate::{
    event::Bytes,
    query::{
        graph,
        human::{self, Units},
    },
};

/// The value of a cell. Text is not escaped yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Unknown, or not applicable.
    Absent,
    Text(String),
    /// A name; machines read nothing else.
    Name {
        name: String,
        /// What always follows it, such as ` ×3`.
        count: String,
        /// What follows where there is room, such as ` (exited)`.
        note: String,
    },
    Address {
        ip: IpAddr,
        /// The interface, if the address is ambiguous without it (link-local).
        zone: Option<Arc<str>>,
        port: Option<u16>,
    },
    List(Vec<String>),
    Flag(bool),
    /// A number that is not a quantity, such as a pid; sorted from the smallest.
    Id(u64),
    Count(u64),
    Bytes(Bytes),
    SignedBytes(i64),
    /// Bytes per second.
    Rate(f64),
    /// A part of a whole.
    Share {
        part: Bytes,
        whole: Bytes,
    },
    Microseconds(u64),
    Seconds(u64),
    /// A graph of rates in bytes per second, two for each character, and the highest of them.
    Graph {
        rates: Vec<f64>,
        peak: f64,
    },
    /// The named parts of a whole.
    Parts(Vec<(&'static str, u64)>),
}

impl Value {
    /// The cell for people.
    pub fn text(&self) -> String {
        self.text_in(Units::default())
    }

    /// The cell for people in a place that `fits` says what has room in: of a name as much as has,
    /// the note going first, then the end of the name.
    pub fn text_that(&self, units: Units, fits: &dyn Fn(&str) -> bool) -> String {
        let Self::Name { name, count, note } = self else {
            return self.text_in(units);
        };
        let whole = format!("{name}{count}{note}");
        if fits(&whole) {
            return whole;
        }
        let mut text = format!("{name}{count}");
        let mut kept = name.as_str();
        while !fits(&text) && !kept.is_empty() {
            kept = &kept[..kept.char_indices().next_back().map_or(0, |(at, _)| at)];
            text = format!("{kept}…{count}");
        }
        text
    }

    /// The cell for people, in other units.
    pub fn text_in(&self, units: Units) -> String {
        match self {
            Self::Absent => String::new(),
            Self::Text(text) => text.clone(),
            Self::Name { name, count, note } => format!("{name}{count}{note}"),
            Self::Graph { rates, peak } => graph::row(rates, *peak),
            Self::Address { ip, zone, port } => address(*ip, zone.as_deref(), *port),
            Self::List(parts) => parts.join(" "),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Self::Id(number) | Self::Count(number) => number.to_string(),
            Self::Bytes(Bytes(bytes)) => units.bytes(*bytes),
            Self::SignedBytes(bytes) => units.signed_bytes(*bytes),
            Self::Rate(rate) => units.rate(*rate),
            Self::Share { part, whole } => human::share(part.0, whole.0),
            Self::Parts(parts) => {
                let whole = parts
                    .iter()
                    .fold(0, |sum: u64, it| sum.saturating_add(it.1));
                let present = parts.iter().filter(|(_, part)| *part > 0);
                let texts: Vec<String> = present
                    .map(|(name, part)| format!("{name} {}", human::share(*part, whole)))
                    .collect();
                texts.join("  ")
            }
            Self::Microseconds(time) => human::milliseconds(Duration::from_micros(*time)),
            Self::Seconds(0) => "<1 s".to_owned(),
            Self::Seconds(time) => human::duration(Duration::from_secs(*time)),
        }
    }

    /// The cell for machines; `None` if it is absent. Rates are whole bytes per second.
    pub fn json(&self) -> Option<serde_json::Value> {
        Some(match self {
            Self::Absent | Self::Parts(_) | Self::Graph { .. } => return None,
            Self::Text(text) | Self::Name { name: text, .. } => text.as_str().into(),
            Self::Address { ip, zone, port } => address(*ip, zone.as_deref(), *port).into(),
            Self::List(parts) => parts.as_slice().into(),
            Self::Flag(flag) => (*flag).into(),
            Self::Id(number)
            | Self::Count(number)
            | Self::Microseconds(number)
            | Self::Seconds(number) => (*number).into(),
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

    /// Whether it is a quantity of zero.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Count(0) | Self::Bytes(Bytes(0)) | Self::SignedBytes(0) => true,
            Self::Rate(rate) => *rate < 0.5,
            Self::Share { part, .. } => part.0 == 0,
            _ => false,
        }
    }
}

impl From<SocketAddr> for Value {
    fn from(address: SocketAddr) -> Self {
        Self::Address {
            ip: address.ip(),
            zone: None,
            port: Some(address.port()),
        }
    }
}

impl Value {
    /// A name with nothing after it.
    pub fn name(name: impl Into<String>) -> Self {
        Self::Name {
            name: name.into(),
            count: String::new(),
            note: String::new(),
        }
    }
}

fn address(ip: IpAddr, zone: Option<&str>, port: Option<u16>) -> String {
    match (zone, port) {
        (None, Some(port)) => SocketAddr::new(ip, port).to_string(),
        (None, None) => ip.to_string(),
        (Some(zone), Some(port)) => format!("[{ip}%{zone}]:{port}"),
        (Some(zone), None) => format!("{ip}%{zone}"),
    }
}
