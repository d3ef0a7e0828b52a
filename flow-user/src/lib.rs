//! Flow's user side: the loader, the model, every view and output. The binary `flow` is thin.
//!
//! Layers, the lowest first: a module imports only from those before it, see `xtask/src/layers.rs`.
//! Blank lines keep rustfmt from sorting them.

pub mod event;

pub(crate) mod room;

pub mod wire;

pub mod model;

pub mod query;

pub mod sink;

pub(crate) mod faults;

pub mod source;

pub mod enrich;

pub mod tui;

pub mod config;

pub mod cli;

pub mod app;

#[cfg(feature = "fuzz")]
pub mod fuzz;
