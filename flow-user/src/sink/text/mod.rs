//! Text for a terminal or a pipe.
//!
//! Text from another process or from the network goes through [`escape`] before it is part of a
//! line.

mod cell;
mod doctor;
mod escape;
mod events;
mod ledger;
mod style;
mod symbols;
mod top;

pub use self::{
    cell::{cut, cut_end, width, wrap},
    doctor::{doctor_json, render_doctor},
    escape::escape,
    events::{EventText, coalesced_line, event_header, event_line},
    symbols::Symbols,
    top::{Screen, render_top, rows_that_fit},
};
pub use crate::query::{hostile::is_hostile, human};
