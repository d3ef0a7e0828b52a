//! Popups that are boxes over the table: one file each, with state, keys and drawing.

pub(super) mod columns;
pub(super) mod confirm;
pub(super) mod help;
mod list;
mod popup_layout;
pub(super) mod sort;
