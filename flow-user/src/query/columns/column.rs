//! A column, and the context of its cells besides the row.

use super::value::Value;
use crate::{
    event::Instant,
    query::{entry::Entry, history::History},
};

/// A column.
#[derive(Debug)]
pub struct Column {
    /// Its name in JSON and for `--sort`.
    pub name: &'static str,
    /// Its header; empty where it is not shown as text.
    pub header: &'static str,
    pub align: Align,
    pub show: Show,
    pub width: Width,
    /// Its quantity, if it is one of those that rows of every kind have.
    pub measure: Option<Measure>,
    pub(crate) value: fn(&Entry, &Context<'_>) -> Value,
}

/// The alignment of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text; may be cut when room is short.
    Left,
    /// Numbers; never cut.
    Right,
}

/// Its width in the full-screen view, whatever its cells contain: nothing moves when numbers
/// change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width {
    pub least: u16,
    /// Where there is room.
    pub most: u16,
}

/// A quantity of app bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    Rate,
    Total,
}

/// Which outputs have the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Text and JSON. Where room is short the column with the highest number goes first; one with 0
    /// stays.
    Both(u8),
    /// Only text: JSON has it in another form.
    Text(u8),
    /// Text and JSON; the full-screen view has it in another form.
    Lines(u8),
    /// Only the full-screen view: it draws the cell, or has more than one snapshot for it.
    Screen(u8),
    Json,
    /// Only `flow events` as text.
    Stream,
    /// Only `--sort` knows it.
    Sort,
}

impl Show {
    /// Its number in text outputs, if it is in them.
    pub const fn in_text(self) -> Option<u8> {
        match self {
            Self::Both(priority) | Self::Text(priority) | Self::Lines(priority) => Some(priority),
            Self::Screen(_) | Self::Json | Self::Stream | Self::Sort => None,
        }
    }

    /// Its number in the full-screen view, if it is there.
    pub const fn on_screen(self) -> Option<u8> {
        match self {
            Self::Both(priority) | Self::Text(priority) | Self::Screen(priority) => Some(priority),
            Self::Lines(_) | Self::Json | Self::Stream | Self::Sort => None,
        }
    }

    /// Its number in the full-screen view if it can be selected there.
    pub const fn priority(self) -> Option<u8> {
        match self.on_screen() {
            Some(priority) => Some(priority),
            None => self.in_text(),
        }
    }

    pub const fn in_json(self) -> bool {
        matches!(self, Self::Both(_) | Self::Lines(_) | Self::Json)
    }
}

/// The context of cells besides the row.
#[derive(Default)]
pub(crate) struct Context<'a> {
    /// Rates of the past, if they are remembered, and up to when they are of interest.
    pub history: Option<(&'a History, Instant)>,
}
