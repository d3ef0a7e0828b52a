//! Flow's user side: the loader, the model, every view and output. The binary `flow` is thin.
//!
//! Lowest floor first; a module imports only from the floors above it in this list.

pub mod app;
pub mod cli;
pub mod config;
pub mod enrich;
pub mod event;
pub(crate) mod faults;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod model;
pub mod query;
pub mod sink;
pub mod source;
pub mod tui;
pub mod wire;
