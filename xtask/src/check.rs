//! `cargo xtask check`: formatting, layers, lints and unit tests of both sides.

use std::{process::Command, time::Duration};

use crate::{
    kernel_side::{self, bpf_target},
    layers,
    rows::{Row, counted, step},
    toolchain::Toolchain,
    tools::{WITHOUT_KERNEL_SIDE, cargo, succeed},
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
            succeed(&mut kernel_side::clippy(&toolchain)?)
        }),
        counted("unit tests", &mut unit_tests(), TIME_LIMIT),
    ]
}

/// All unit tests; without root those are left out that need it, and cargo says how many.
fn unit_tests() -> Command {
    let scope = ["test", "--workspace", "--exclude", "flow-ebpf"];
    let mut command = cargo(scope);
    command.arg("--no-fail-fast");
    if nix::unistd::geteuid().is_root() {
        command.args(["--", "--include-ignored"]);
    }
    command
}
