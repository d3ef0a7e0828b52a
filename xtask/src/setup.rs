//! `cargo xtask setup`: finds or installs what the build and the tests need.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::Apt,
    kernel_side::{self, bpf_target},
    kernels::{self, Kernel},
    toolchain::{Missing, Toolchain},
    tools::{cargo, find_program, succeed},
};

/// Debian's compiler, and its core library for BPF.
const COMPILER_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

/// The LLVM that bpf-linker is built against, and its path on Debian.
const LINKER_PACKAGES: [&str; 5] = [
    "gcc",
    "llvm-22-dev",
    "libpolly-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
];
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const LINKER_VERSION: &str = "0.13.0";

/// The compiler of the fuzzing engine.
const CXX: (&str, &str) = ("c++", "g++");

/// Programs that only the tests need, and the packages they are in.
const TEST_PROGRAMS: [(&str, &str); 12] = [
    ("busybox", "busybox-static"),
    CXX,
    ("depmod", "kmod"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("ldd", "libc-bin"),
    ("nft", "nftables"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("tc", "iproute2"),
    ("tmux", "tmux"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
];

/// Finds or installs what a build needs.
///
/// # Errors
/// As [`setup`].
pub fn if_needed() -> Result<()> {
    if Toolchain::find(bpf_target()).is_err() {
        setup(true)?;
    }
    Ok(())
}

/// Finds or installs everything, or with `build_only` only what `cargo build --release` needs.
///
/// # Errors
/// When something is missing and cannot be installed here.
pub fn setup(build_only: bool) -> Result<()> {
    let mut apt = Apt::find();
    kernel_side_toolchain(apt.as_mut())?;
    if build_only {
        return Ok(());
    }
    components()?;
    programs(&TEST_PROGRAMS, apt.as_mut())?;
    println!("programs for the tests: ok");
    kernel_side_lints(apt.as_mut())?;
    for kernel in Kernel::ALL {
        match &mut apt {
            Some(apt) => kernels::fetch(kernel, apt)?,
            None => kernels::find(kernel).map(|_| ()).context(
                "the kernels come as Debian packages, which only a system with apt can fetch",
            )?,
        }
    }
    Ok(())
}

/// Finds or installs what the fuzz targets need besides Rust.
///
/// # Errors
/// When it is missing and cannot be installed here.
pub fn fuzzing() -> Result<()> {
    programs(&[CXX], Apt::find().as_mut())
}

fn kernel_side_toolchain(apt: Option<&mut Apt>) -> Result<()> {
    let missing = match Toolchain::find(bpf_target()) {
        Ok(toolchain) => {
            println!("kernel side: {}", describe(&toolchain));
            return Ok(());
        }
        Err(missing) => missing,
    };
    let Some(apt) = apt else {
        bail!(
            "the kernel side cannot be built: {missing}\n\
            This system has no apt, so these are for you to install:\n\
            - a compiler: rustup toolchain install nightly --component rust-src\n\
            - a linker, with your distribution's LLVM development files: \
            cargo install bpf-linker --locked --version {LINKER_VERSION}"
        );
    };
    install_toolchain(&missing, apt)?;
    match Toolchain::find(bpf_target()) {
        Ok(toolchain) => println!("kernel side: {}", describe(&toolchain)),
        Err(missing) => bail!("the kernel side still cannot be built: {missing}"),
    }
    Ok(())
}

fn install_toolchain(missing: &Missing, apt: &mut Apt) -> Result<()> {
    let Missing { compiler, linker } = missing;
    let mut packages = Vec::new();
    if compiler.is_some() {
        packages.extend(COMPILER_PACKAGES);
    }
    if linker.is_some() {
        packages.extend(LINKER_PACKAGES);
    }
    apt.install(&packages).context(
        "this distribution does not have the toolchain as packages; \
        a nightly one does as well: rustup toolchain install nightly --component rust-src",
    )?;
    if linker.is_some() {
        println!("building bpf-linker {LINKER_VERSION}");
        let arguments = [
            "install",
            "bpf-linker",
            "--locked",
            "--force",
            "--version",
            LINKER_VERSION,
        ];
        let mut command = cargo(arguments);
        command
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_PREFIX", LLVM_PREFIX);
        succeed(&mut command)?;
    }
    Ok(())
}

fn describe(toolchain: &Toolchain) -> String {
    let Toolchain {
        compiler, linker, ..
    } = toolchain;
    format!("{compiler} with {}", linker.display())
}

/// Finds or installs clippy and rustfmt for the toolchain of the user side.
fn components() -> Result<()> {
    for (subcommand, component) in [("clippy", "clippy"), ("fmt", "rustfmt")] {
        if !starts(cargo([subcommand, "--version"])) {
            succeed(Command::new("rustup").args(["component", "add", component])).with_context(
                || {
                    format!(
                        "cargo {subcommand} is missing; install {component} for your Rust toolchain"
                    )
                },
            )?;
        }
        println!("cargo {subcommand}: ok");
    }
    Ok(())
}

fn programs(wanted: &[(&str, &str)], apt: Option<&mut Apt>) -> Result<()> {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .collect();
    if !missing.is_empty() {
        let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
        let Some(apt) = apt else {
            bail!(
                "the tests need programs that are not here: {}",
                programs.join(", ")
            );
        };
        let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
        packages.sort_unstable();
        packages.dedup();
        apt.install(&packages)?;
    }
    Ok(())
}

fn kernel_side_lints(apt: Option<&mut Apt>) -> Result<()> {
    let toolchain =
        Toolchain::find(bpf_target()).map_err(|missing| anyhow::anyhow!("{missing}"))?;
    if let Err(reason) = kernel_side::clippy(&toolchain) {
        let Some(apt) = apt else { return Err(reason) };
        apt.install(&["rust-web-clippy"])?;
        kernel_side::clippy(&toolchain)?;
    }
    println!("clippy for the kernel side: ok");
    Ok(())
}

fn starts(mut command: Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
