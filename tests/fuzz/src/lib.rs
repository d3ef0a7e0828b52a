//! Fuzz targets: the parsers of untrusted input.
//!
//! `flow_user::fuzz` has the invariants of each parser. Here are the seeds (`seeds/TARGET/`,
//! including every input that once broke something) and the program that `cargo xtask fuzz` builds
//! with libFuzzer. The unit tests run each seed, and changed copies of it,
//! without the engine.

mod guarded;

pub use flow_user::fuzz::{TARGETS, Target};

pub use self::guarded::Guarded;

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests;
