//! Wiring: what each subcommand does.

pub mod doctor;
