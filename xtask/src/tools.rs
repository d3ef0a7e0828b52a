//! The project's folders, and helpers that run other programs.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// Makes `flow-user/build.rs` skip the kernel side, whose build takes a minute.
pub const WITHOUT_KERNEL_SIDE: (&str, &str) = ("FLOW_WITHOUT_KERNEL_SIDE", "1");

/// The workspace's root.
pub fn root() -> PathBuf {
    let xtask =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&xtask)
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// Cargo's target folder: this program is in a profile's folder inside it.
///
/// # Errors
/// When the path of this program is not known.
pub fn target() -> Result<PathBuf> {
    let program = env::current_exe().context("cannot find the path of this program")?;
    program
        .ancestors()
        .nth(2)
        .map(Path::to_owned)
        .with_context(|| format!("{} is not in a target folder", program.display()))
}

/// Cargo, in the workspace's root.
pub fn cargo<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    command
}

/// A command that runs as root: directly, or through sudo.
pub fn as_root(program: impl AsRef<OsStr>) -> Command {
    if nix::unistd::geteuid().is_root() {
        Command::new(program)
    } else {
        let mut command = Command::new("sudo");
        command.arg("--").arg(program);
        command
    }
}

/// Finds a program on PATH, or in a system folder that PATH often lacks for users other than root.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Runs a command and waits for it.
///
/// # Errors
/// When it cannot be started, or fails.
pub fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", words(command));
    }
    Ok(())
}

/// Runs a command and returns its output.
///
/// # Errors
/// When it cannot be started, or fails.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", name(command)))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}): {}",
            words(command),
            output.status,
            reason.trim()
        );
    }
    Ok(output.stdout)
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn words(command: &Command) -> String {
    let arguments = command
        .get_args()
        .map(|word| word.to_string_lossy().into_owned());
    [name(command)]
        .into_iter()
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}
