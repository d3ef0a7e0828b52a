//! Event -> state: processes, flows, interfaces, the ledger, rates. Pure and deterministic.

pub mod change;
pub mod snapshot;
