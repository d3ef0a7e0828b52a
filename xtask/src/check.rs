//! `cargo xtask check`: formatting, layers, lints and unit tests of both sides.

use std::{process::Command, time::Duration};

use crate::{
    kernel_side::{self, bpf_target},
    layers,
    rows::{Row, counted, step},
    toolchain::Toolchain,
    tools::{WITHOUT_KERNEL_SIDE, cargo, succeed},
};

/// For a unit test that hangs: tests take seconds, building them minutes.
const TIME_LIMIT: Duration = Duration::from_secs(1800);

/// All checks that need neither root nor another kernel. Each part runs, even if an earlier one
/// failed.
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
            succeed(&mut kernel_side::clippy(&toolchain)?)
        }),
        counted("unit tests", &mut unit_tests(), TIME_LIMIT),
    ]
}

/// All unit tests. Without root, tests that need it are ignored, and cargo prints how many.
fn unit_tests() -> Command {
    let scope = ["test", "--workspace", "--exclude", "flow-ebpf"];
    let mut command = cargo(scope);
    command.arg("--no-fail-fast");
    if nix::unistd::geteuid().is_root() {
        command.args(["--", "--include-ignored"]);
    }
    command
}
