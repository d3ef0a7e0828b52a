//! Finds a toolchain that can build the kernel side, and makes its command.
//!
//! Used by flow-user's build script, which builds with it, and by `cargo xtask setup`, which
//! installs what is missing. Two kinds of compiler work: one that has a prebuilt BPF core library
//! (Debian's `rustc-web` with `libstd-rust-web-dev-bpf`), and rustup's nightly with `rust-src`,
//! which builds core itself. Both need bpf-linker.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Names a compiler with a prebuilt BPF core library; when set, no other is tried.
pub const RUSTC_VARIABLE: &str = "FLOW_BPF_RUSTC";

/// The path of Debian's compiler; absolute, because the rustc that PATH finds first is usually
/// rustup's.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// A compiler and a linker for a BPF target.
#[derive(Debug)]
pub struct Toolchain {
    pub compiler: Compiler,
    pub linker: PathBuf,
    target: String,
}

/// Where the BPF core library comes from.
#[derive(Debug)]
pub enum Compiler {
    /// This rustc has it prebuilt.
    Prebuilt(PathBuf),
    /// `rustup run nightly`, built from rust-src.
    Nightly,
}

/// What has to be installed before the kernel side can be built: why no compiler, no linker was
/// found.
#[derive(Debug)]
pub struct Missing {
    pub compiler: Option<String>,
    pub linker: Option<String>,
}

impl Toolchain {
    /// Finds a compiler and a linker for `target`, such as `bpfel-unknown-none`.
    ///
    /// # Errors
    /// Names the part that was not found, and where it was searched for.
    pub fn find(target: &str) -> Result<Self, Missing> {
        match (find_compiler(target), find_linker()) {
            (Ok(compiler), Ok(linker)) => Ok(Self {
                compiler,
                linker,
                target: target.to_owned(),
            }),
            (compiler, linker) => Err(Missing {
                compiler: compiler.err(),
                linker: linker.err(),
            }),
        }
    }

    /// `cargo SUBCOMMAND` for the kernel side: release profile with full debug info, which
    /// bpf-linker turns into BTF.
    ///
    /// `target_arch` is the architecture whose kernel the programs are for, as Rust names it.
    /// Nothing of a surrounding cargo leaks in: its flags, wrappers and toolchain are for another
    /// target.
    pub fn cargo(&self, subcommand: &str, target_arch: &str) -> Command {
        let mut command = match &self.compiler {
            Compiler::Prebuilt(rustc) => {
                let mut command =
                    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                forget_outer_cargo(&mut command);
                // Stable compilers accept aya-ebpf's unstable features only with this.
                command
                    .env("RUSTC", rustc)
                    .env("RUSTC_BOOTSTRAP", "1")
                    .arg(subcommand);
                command
            }
            Compiler::Nightly => {
                let mut command = Command::new("rustup");
                forget_outer_cargo(&mut command);
                command.args([
                    "run",
                    "nightly",
                    "cargo",
                    subcommand,
                    "-Z",
                    "build-std=core",
                ]);
                command
            }
        };
        let mut linker = OsString::from("-Clinker=");
        linker.push(&self.linker);
        let bpf_target_arch = format!("--cfg=bpf_target_arch=\"{}\"", bpf_target_arch(target_arch));
        let flags = [
            linker.as_os_str(),
            OsStr::new("-Clink-arg=--btf"),
            OsStr::new("-Cdebuginfo=2"),
            OsStr::new(&bpf_target_arch),
        ];
        command
            .args([
                "--release",
                "--package",
                "flow-ebpf",
                "--target",
                &self.target,
            ])
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new("\x1f")))
            .env("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_DEBUG", "false")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort");
        command
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prebuilt(rustc) => write!(f, "{}", rustc.display()),
            Self::Nightly => f.write_str("rustup's nightly"),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<&str> = [&self.compiler, &self.linker]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        f.write_str(&parts.join("; "))
    }
}

/// The BPF target of the endianness that the host's kernel has: `little` or `big`, as in
/// `CARGO_CFG_TARGET_ENDIAN`.
pub fn target_of(endian: &str) -> &'static str {
    if endian == "big" {
        "bpfeb-unknown-none"
    } else {
        "bpfel-unknown-none"
    }
}

/// aya-ebpf's name of an architecture; it knows one RISC-V only.
fn bpf_target_arch(target_arch: &str) -> &str {
    if target_arch.starts_with("riscv64") {
        "riscv64"
    } else {
        target_arch
    }
}

fn find_compiler(target: &str) -> Result<Compiler, String> {
    if let Some(rustc) = env::var_os(RUSTC_VARIABLE) {
        let rustc = PathBuf::from(rustc);
        return if has_core(&rustc, target) {
            Ok(Compiler::Prebuilt(rustc))
        } else {
            Err(format!(
                "{RUSTC_VARIABLE} names {}, which has no core library for {target}",
                rustc.display()
            ))
        };
    }
    let system = Path::new(SYSTEM_RUSTC);
    if has_core(system, target) {
        Ok(Compiler::Prebuilt(system.to_owned()))
    } else if nightly_has_source() {
        Ok(Compiler::Nightly)
    } else {
        Err(format!(
            "no Rust compiler for {target}: {SYSTEM_RUSTC} has no core library for it, and rustup has no nightly toolchain with rust-src"
        ))
    }
}

fn has_core(rustc: &Path, target: &str) -> bool {
    sysroot(Command::new(rustc).env_remove("RUSTUP_TOOLCHAIN"))
        .and_then(|sysroot| {
            sysroot
                .join("lib/rustlib")
                .join(target)
                .join("lib")
                .read_dir()
                .ok()
        })
        .into_iter()
        .flatten()
        .flatten()
        .any(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libcore-") && name.ends_with(".rlib")
        })
}

fn nightly_has_source() -> bool {
    sysroot(Command::new("rustup").args(["run", "nightly", "rustc"])).is_some_and(|sysroot| {
        sysroot
            .join("lib/rustlib/src/rust/library/core/src/lib.rs")
            .exists()
    })
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc
        .args(["--print", "sysroot"])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !path.trim().is_empty()).then(|| PathBuf::from(path.trim()))
}

/// bpf-linker from PATH, or from where `cargo install` puts it.
fn find_linker() -> Result<PathBuf, String> {
    let cargo_bin = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .map(|home| home.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain(cargo_bin)
        .map(|folder| folder.join("bpf-linker"))
        .find(|file| file.is_file());
    let Some(linker) = found else {
        return Err("no bpf-linker on PATH".to_owned());
    };
    let version = match Command::new(&linker).arg("--version").output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => {
            return Err(format!(
                "{} does not start, is its LLVM gone?",
                linker.display()
            ));
        }
    };
    if is_recent(&version) {
        Ok(linker)
    } else {
        Err(format!(
            "{} is {version}, older than 0.13",
            linker.display()
        ))
    }
}

/// Whether `bpf-linker 0.13.0` or the like reads the bitcode of today's compilers.
fn is_recent(version: &str) -> bool {
    let mut numbers = version
        .rsplit(' ')
        .next()
        .unwrap_or_default()
        .split('.')
        .map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (0, 13)
}

/// Removes the settings of a surrounding cargo or rustup, which are for the host, from the
/// environment of a build for BPF.
fn forget_outer_cargo(command: &mut Command) {
    const NAMES: [&str; 10] = [
        "CARGO",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC",
        "RUSTC_LINKER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOC",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
    ];
    const PREFIXES: [&str; 8] = [
        "CARGO_BUILD_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CLIPPY_",
    ];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if NAMES.contains(&&*text) || PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}
