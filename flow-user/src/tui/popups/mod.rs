//! The popups that are boxes over the table: one file each, with its state, its keys and its
//! drawing.

pub(super) mod columns;
pub(super) mod confirm;
pub(super) mod help;
mod popup_layout;
