//! `cargo xtask check`: formatting, layers, lints and unit tests of both sides.

use std::{env::consts::ARCH, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{
    layers,
    setup::bpf_target,
    suite::{Row, counted, step},
    toolchain::{Compiler, Toolchain},
    tools::{WITHOUT_KERNEL_SIDE, cargo, root, succeed, target},
};

/// Unit tests take seconds, and to build them minutes; this is for one that hangs.
const TIME_LIMIT: Duration = Duration::from_secs(1800);

/// Everything that needs no root and no other kernel. Each part runs, whether or not the one before passed.
pub fn check() -> Vec<Row> {
    vec![
        step("format", || {
            succeed(&mut cargo(["fmt", "--all", "--check"]))
        }),
        step("layers", layers::check),
        step("lints", || {
            let scope = [
                "clippy",
                "--workspace",
                "--exclude",
                "flow-ebpf",
                "--all-targets",
                "--all-features",
            ];
            let mut clippy = cargo(scope);
            clippy.envs([WITHOUT_KERNEL_SIDE]);
            succeed(clippy.args(["--", "--deny", "warnings"]))
        }),
        step("lints, kernel side", || {
            let toolchain =
                Toolchain::find(bpf_target()).map_err(|missing| anyhow::anyhow!("{missing}"))?;
            succeed(&mut kernel_side_clippy(&toolchain)?)
        }),
        counted(
            "unit tests",
            &mut cargo([
                "test",
                "--workspace",
                "--exclude",
                "flow-ebpf",
                "--no-fail-fast",
            ]),
            TIME_LIMIT,
        ),
    ]
}

/// Clippy of the compiler that builds the kernel side; another's cannot read its core library.
///
/// # Errors
/// When that compiler came without clippy.
pub fn kernel_side_clippy(toolchain: &Toolchain) -> Result<Command> {
    let mut command = match &toolchain.compiler {
        Compiler::Prebuilt(rustc) => {
            let driver = rustc.with_file_name("clippy-driver");
            ensure!(
                driver.exists(),
                "{} is missing; install it with: cargo xtask setup",
                driver.display()
            );
            let mut command = toolchain.cargo("check", ARCH);
            // What `cargo clippy` does, which would take the clippy beside itself.
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
