//! The full-screen view: what the user sees and does.
//!
//! Input, ticks and snapshots arrive at one reducer, [`reduce`]: it changes the [`State`] and says what
//! is to be done outside ([`Effect`]). Drawing ([`draw`](mod@draw)) is a function of the state alone. Nothing here knows
//! where events come from; the loop around it is in `app/tui.rs`.
//!
//! - A new view is an entry in [`views`], a new column one in `query/columns`.
//! - A new panel of a detail is an entry in `detail/panel`.
//! - A new key is an entry in [`keymap`], and a line in [`reduce`].
//! - A key that does something to the host: also an [`Effect`], which `app/tui` does and answers.
//! - A new popup or prompt: a variant in [`state`] or `prompt`, with a file in `draw`; its place is in `boxes`.

mod boxes;
mod choice;
mod chooser;
mod detail;
mod draw;
mod effect;
mod event;
mod focus;
mod help;
mod key;
pub mod keymap;
mod layout;
mod preferences;
mod prompt;
mod reduce;
mod rows;
mod sheet;
mod state;
pub mod terminal;
#[cfg(test)]
mod tests;
mod theme;
mod threshold;
pub mod views;

pub use self::{
    draw::draw,
    effect::Effect,
    event::{Event, OwnUse},
    focus::{Connection, Target},
    key::{Code, Input, Key, Mouse, MouseAction, UnknownKey},
    preferences::{Preferences, Table},
    reduce::reduce,
    state::{Settings, State, World},
    theme::{Role, Theme, UnknownTheme},
};
