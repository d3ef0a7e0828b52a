//! The compiler of the kernel side: its target, and its clippy.

use std::{env::consts::ARCH, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{
    toolchain::{Compiler, Toolchain},
    tools::{root, target},
};

/// The BPF target of this host.
pub fn bpf_target() -> &'static str {
    crate::toolchain::target_of(if cfg!(target_endian = "big") {
        "big"
    } else {
        "little"
    })
}

/// Clippy of the compiler that builds the kernel side; no other can read its core library.
///
/// # Errors
/// When that compiler came without clippy.
pub fn clippy(toolchain: &Toolchain) -> Result<Command> {
    let mut command = match &toolchain.compiler {
        Compiler::Prebuilt(rustc) => {
            let driver = rustc.with_file_name("clippy-driver");
            ensure!(
                driver.exists(),
                "{} is missing; install it with: cargo xtask setup",
                driver.display()
            );
            let mut command = toolchain.cargo("check", ARCH);
            // Does what `cargo clippy` does, which would run the clippy of its own toolchain.
            command
                .env("RUSTC_WORKSPACE_WRAPPER", driver)
                .env("CLIPPY_ARGS", "--deny__CLIPPY_HACKERY__warnings");
            command
        }
        Compiler::Nightly => {
            let mut command = toolchain.cargo("clippy", ARCH);
            command.env("CLIPPY_ARGS", "--deny__CLIPPY_HACKERY__warnings");
            command
        }
    };
    let folder = target()
        .context("no folder to build in")?
        .join("flow-ebpf-lints");
    command.current_dir(root()).arg("--target-dir").arg(folder);
    Ok(command)
}
