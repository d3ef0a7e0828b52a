//! Fuzz targets: the parsers that read what others wrote, under bytes that nobody would write.
//!
//! What must hold of each parser stands in `flow_user::fuzz`. Here are the inputs to begin with
//! (`seeds/TARGET/`, among them every input that once broke something) and the program that
//! `cargo xtask fuzz` builds with libFuzzer. The unit tests run each seed, and changed copies of it,
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
