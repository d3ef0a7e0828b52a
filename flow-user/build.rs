//! Builds the kernel side, flow-ebpf, and leaves its object at `$OUT_DIR/flow-ebpf.o` for the
//! loader to embed.
//!
//! Without a BPF toolchain a release build fails and says what to type; any other build continues
//! with an empty object, so that the pure parts can be built and tested anywhere. Such a `flow`
//! reports that it has no kernel side. Lints and fuzz targets set FLOW_WITHOUT_KERNEL_SIDE to skip
//! its build.

#[path = "build/toolchain.rs"]
mod toolchain;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use object::build::elf::{Builder, SectionData};
use toolchain::{Compiler, Missing, RUSTC_VARIABLE, Toolchain};

/// Skips the kernel side, for lints and fuzz targets.
const WITHOUT: &str = "FLOW_WITHOUT_KERNEL_SIDE";
const HOW_TO_INSTALL: &str = "install it with: cargo xtask setup";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // Printed here: a returned error would include a backtrace if RUST_BACKTRACE is set.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?)
        .parent()
        .context("flow-user is not inside a workspace")?
        .to_owned();
    let object = Path::new(&variable("OUT_DIR")?).join("flow-ebpf.o");
    watch_sources(&workspace);

    if env::var_os(WITHOUT).is_some() {
        if variable("PROFILE")? == "release" {
            bail!("{WITHOUT} is for lints and fuzz targets: a release has a kernel side");
        }
        return fs::write(&object, [])
            .with_context(|| format!("cannot write {}", object.display()));
    }
    let target = toolchain::target_of(&variable("CARGO_CFG_TARGET_ENDIAN")?);
    match Toolchain::find(target) {
        Ok(toolchain) => {
            watch(&toolchain.linker);
            if let Compiler::Prebuilt(rustc) = &toolchain.compiler {
                watch(rustc);
            }
            build(&toolchain, target, &workspace, &object)
                .with_context(|| format!("building with {}", toolchain.compiler))
        }
        Err(missing) if variable("PROFILE")? == "release" => {
            bail!("the kernel side cannot be built: {missing}\n{HOW_TO_INSTALL}")
        }
        Err(missing) => {
            watch_for_toolchain();
            write_empty(&object, &missing)
        }
    }
}

fn build(toolchain: &Toolchain, target: &str, workspace: &Path, object: &Path) -> Result<()> {
    // A target folder of its own, because the surrounding cargo holds the lock of the usual one;
    // the same for every profile.
    let logs = env::var_os("CARGO_FEATURE_KERNEL_LOG").is_some();
    let target_folder = surrounding_target_folder(object)
        .unwrap_or_else(|| object.with_extension("target"))
        .join(if logs { "flow-ebpf-log" } else { "flow-ebpf" });
    let mut cargo = toolchain.cargo("build", &variable("CARGO_CFG_TARGET_ARCH")?);
    cargo
        .current_dir(workspace)
        .arg("--target-dir")
        .arg(&target_folder);
    if logs {
        cargo.args(["--features", "log"]);
    }
    // The compiler's messages go to standard error, which cargo shows in full when a build script
    // fails.
    let status = cargo
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {cargo:?}"))?;
    if !status.success() {
        bail!("the kernel side did not build, its compiler's messages stand above ({status})");
    }
    let built = target_folder.join(target).join("release/flow-ebpf");
    let stripped = without_debug_sections(&built)
        .with_context(|| format!("cannot strip {}", built.display()))?;
    fs::write(object, stripped).with_context(|| format!("cannot write {}", object.display()))
}

/// Cargo's target folder, which has a CACHEDIR.TAG.
fn surrounding_target_folder(object: &Path) -> Option<PathBuf> {
    let mut folders = object.ancestors();
    folders
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .map(Path::to_owned)
}

/// The object without its DWARF, most of its size. The kernel and the loader read BTF, which stays.
fn without_debug_sections(built: &Path) -> Result<Vec<u8>> {
    let object = fs::read(built)?;
    let mut builder = Builder::read(&*object)?;
    for section in &mut builder.sections {
        let name = section.name.strip_prefix(b".rel").unwrap_or(&section.name);
        section.delete = name.starts_with(b".debug_");
    }
    builder.delete_orphans();
    // LLVM keeps the sections' names among the symbols'; the writer wants them by themselves.
    let names = builder.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}

fn write_empty(object: &Path, missing: &Missing) -> Result<()> {
    println!("cargo::warning=built without the kernel side: {missing}; {HOW_TO_INSTALL}");
    fs::write(object, []).with_context(|| format!("cannot write {}", object.display()))
}

fn watch_sources(workspace: &Path) {
    for name in [RUSTC_VARIABLE, WITHOUT] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    for path in [
        "Cargo.lock",
        "flow-common/Cargo.toml",
        "flow-common/src",
        "flow-ebpf/Cargo.toml",
        "flow-ebpf/src",
        "flow-user/build",
        "flow-user/build.rs",
    ] {
        watch(&workspace.join(path));
    }
}

/// Makes cargo run this again after something was installed. Only existing paths are named: cargo
/// would treat a missing one as changed each time.
fn watch_for_toolchain() {
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let rustup_home =
        env::var_os("RUSTUP_HOME").map_or_else(|| home.join(".rustup"), PathBuf::from);
    for path in [
        PathBuf::from("/usr/bin"),
        cargo_home.join("bin"),
        rustup_home.join("update-hashes"),
    ] {
        if path.exists() {
            watch(&path);
        }
    }
}

fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("cargo did not set {name}"))
}
