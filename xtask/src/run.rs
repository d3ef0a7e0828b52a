//! `cargo xtask run`: builds flow and runs it as root.

use std::{ffi::OsString, os::unix::process::CommandExt as _, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    setup,
    tools::{as_root, cargo, succeed, target},
};

/// Builds flow in release and replaces this process with it. Returns only on failure.
///
/// # Errors
/// When setup or the build fails, or flow cannot be started.
pub fn run(arguments: &[OsString]) -> Result<bool> {
    setup::if_needed()?;
    succeed(&mut cargo([
        "build",
        "--release",
        "--package",
        "flow-user",
        "--bin",
        "flow",
    ]))?;
    let flow = release("flow")?;
    let error = as_root(&flow).args(arguments).exec();
    Err(error).with_context(|| {
        format!(
            "cannot start {}; without sudo, run this as root",
            flow.display()
        )
    })
}

/// Builds flow and its tests in release, with fault injection.
///
/// # Errors
/// When they do not build.
pub fn build_release() -> Result<()> {
    succeed(&mut cargo([
        "build",
        "--release",
        "--package",
        "flow-user",
        "--package",
        "flow-tests",
        "--bins",
        "--features",
        "flow-user/fault-injection",
    ]))
}

/// A program of the release build.
///
/// # Errors
/// When the target folder is not known.
pub fn release(program: &str) -> Result<PathBuf> {
    Ok(target()?.join("release").join(program))
}
