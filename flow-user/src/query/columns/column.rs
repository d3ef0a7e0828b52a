//! A column, and the context in which its cells are computed.

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
    /// Its header; empty if it is not shown as text.
    pub header: &'static str,
    pub align: Align,
    pub show: Show,
    pub width: Width,
    /// What of a cell that is too long is left out.
    pub loses: Loses,
    /// Whether it says what a row is: the full-screen view has it in bold.
    pub names: bool,
    /// Its quantity, if rows of every type have it.
    pub measure: Option<Measure>,
    pub(crate) value: fn(&Entry, &Context<'_>) -> Value,
}

/// The alignment of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text; truncated if necessary.
    Left,
    /// Numbers; never truncated.
    Right,
}

/// Its width in the full-screen view, besides that of its header: as wide as the widest of its
/// cells, within these limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width {
    /// The column is left out where it cannot have so much. Text that needs less gets less; numbers
    /// always have it, so that columns do not move when numbers change.
    pub min: u16,
    /// If there is room.
    pub max: u16,
}

/// The part of a text that is left out where it is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loses {
    /// Of names: their start says most.
    End,
    /// Of paths, addresses and command lines.
    Middle,
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
    /// Text and JSON. If room is short, the column with the highest number is omitted first, one
    /// with 0 never.
    Both(u8),
    /// Text only: JSON has it in another form.
    Text(u8),
    /// Text and JSON; the full-screen view has it in another form.
    Lines(u8),
    /// The full-screen view only, which draws the cell or has the history for it.
    Screen(u8),
    /// The full-screen view only, where it is chosen.
    Choice(u8),
    Json,
    /// `flow events` as text only.
    Stream,
    /// `--sort` only.
    Sort,
}

impl Show {
    /// Its priority in text outputs, if it is shown there.
    pub const fn in_text(self) -> Option<u8> {
        match self {
            Self::Both(priority) | Self::Text(priority) | Self::Lines(priority) => Some(priority),
            Self::Screen(_) | Self::Choice(_) | Self::Json | Self::Stream | Self::Sort => None,
        }
    }

    /// Its priority in the full-screen view, if it is shown there by default.
    pub const fn on_screen(self) -> Option<u8> {
        match self {
            Self::Both(priority) | Self::Text(priority) | Self::Screen(priority) => Some(priority),
            Self::Lines(_) | Self::Choice(_) | Self::Json | Self::Stream | Self::Sort => None,
        }
    }

    /// Its priority in the full-screen view, if it can be selected there.
    pub const fn priority(self) -> Option<u8> {
        match self {
            Self::Choice(priority) => Some(priority),
            _ => match self.on_screen() {
                Some(priority) => Some(priority),
                None => self.in_text(),
            },
        }
    }

    pub const fn in_json(self) -> bool {
        matches!(self, Self::Both(_) | Self::Lines(_) | Self::Json)
    }
}

/// What cells are computed from besides the row.
#[derive(Default)]
pub(crate) struct Context<'a> {
    /// Past rates, if they are recorded, and the time up to which they are shown.
    pub history: Option<(&'a History, Instant)>,
}
