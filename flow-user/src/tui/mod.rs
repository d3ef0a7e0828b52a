//! The full-screen view: state, input and drawing.
//!
//! Input, ticks and snapshots arrive at one reducer, [`reduce`]: it changes the [`State`] and
//! returns the effects to perform outside ([`Effect`]). Drawing ([`draw`](fn@draw)) is a function
//! of the state alone. The event loop is in `app/tui.rs`.
//!
//! A popup over the table is a `state::Popup`: one file with its state, its keys and its drawing.
//! The state has a stack of them. The reducer passes a key, a click or the wheel to the one on top
//! and applies its reply (`state::Reply`): it stays, closes, opens another over it, or asks for an
//! effect. Neither the reducer nor `draw` depends on its type. Boxes are in `popups`; the detail of
//! a row, which hides the table, is in `detail`. The line being typed (`prompt`) is
//! beside the table, not over it: the reducer filters while it is typed.
//!
//! Modules import in one direction, the lowest first: `key`, `theme`, `line` and `prompt`; `views`,
//! `rows` and `keymap`; the state; `layout`; `draw` and `popups`; `acting`; `detail`; `reduce`,
//! `symbols` and `terminal`.
//!
//! - A new view is an entry in [`views`], a new column one in `query/columns`.
//! - A new panel of a detail is an entry in `detail/panel`.
//! - A new key is an entry in [`keymap`], and a line in [`reduce`].
//! - A key that does something to the host: also an [`Effect`], which `app/tui` does and answers.
//! - A new popup is a file in `popups`, with a type that is a `Popup`. The key that opens it
//!   replies `Reply::Open`. A box takes its place and its frame from `popup_layout`.

mod acting;
mod actions;
mod clicks;
mod detail;
mod draw;
mod effect;
mod event;
mod export_view;
mod key;
pub mod keymap;
mod layout;
mod line;
mod popups;
mod preferences;
mod prompt;
mod reduce;
mod rows;
mod state;
mod symbols;
mod target;
pub mod terminal;
#[cfg(test)]
mod tests;
mod theme;
mod threshold;
pub mod views;
mod wanted;
mod widths;

pub use self::{
    draw::draw,
    effect::Effect,
    event::{Event, OwnUse},
    key::{Code, Input, Key, Mouse, MouseAction, UnknownKey},
    preferences::{Chosen, Preferences, Table},
    reduce::reduce,
    state::{Settings, State, World},
    target::{Connection, Target},
    theme::{Depth, Role, Theme, UnknownTheme},
};
