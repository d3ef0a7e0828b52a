//! The kernels of the matrix: Debian packages, unpacked in `target/kernels`, never installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{
    apt::Apt,
    tools::{find_program, succeed, target},
};

/// A kernel that tests run on in a virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    #[value(name = "6.1")]
    V6_1,
    #[value(name = "6.12")]
    V6_12,
}

impl Kernel {
    pub const ALL: [Self; 2] = [Self::V6_12, Self::V6_1];

    pub const fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    /// The package that depends on the newest build of this kernel.
    const fn package(self) -> &'static str {
        match self {
            Self::V6_1 => "linux-image-cloud-amd64",
            Self::V6_12 => "linux-image-6.12-cloud-amd64",
        }
    }
}

/// An unpacked kernel.
#[derive(Debug)]
pub struct Unpacked {
    /// The compressed image that QEMU boots.
    pub image: PathBuf,
    /// Its modules, with `modules.dep` and `modules.builtin`.
    pub modules: PathBuf,
}

/// Finds an unpacked kernel.
///
/// # Errors
/// When setup has not unpacked it.
pub fn find(kernel: Kernel) -> Result<Unpacked> {
    let folder = folder(kernel.name())?;
    look(&folder).with_context(|| {
        format!(
            "kernel {} is not in {}; get it with: cargo xtask setup",
            kernel.name(),
            folder.display()
        )
    })
}

/// Downloads and unpacks a kernel, unless it exists. Prints which.
///
/// # Errors
/// When the distribution does not have the kernel, or it cannot be fetched or unpacked.
pub fn fetch(kernel: Kernel, apt: &mut Apt) -> Result<()> {
    let name = kernel.name();
    if find(kernel).is_ok() {
        println!("kernel {name}: already there");
        return Ok(());
    }
    let prefix = format!("linux-image-{name}.");
    let Some(package) = apt
        .dependencies(kernel.package())?
        .into_iter()
        .find(|package| package.starts_with(&prefix))
    else {
        bail!(
            "kernel {name} is not what this distribution's package {} brings",
            kernel.package()
        );
    };
    println!("kernel {name}: downloading {package}");

    // Unpacked in another folder, then renamed: an interrupted run leaves nothing that looks
    // complete.
    let partial = folder(&format!("{name}.partial"))?;
    if partial.exists() {
        fs::remove_dir_all(&partial)
            .with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    let archive = apt.download(&package, &partial)?;
    succeed(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(&archive)
            .arg(&partial),
    )?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;

    let base = module_base(&partial);
    let version = only_entry(&base.join("lib/modules"))?;
    let depmod = find_program("depmod").context("depmod is missing; install the package kmod")?;
    succeed(Command::new(depmod).arg("-b").arg(&base).arg(version))?;
    look(&partial)?;
    let folder = folder(name)?;
    fs::rename(&partial, &folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn folder(name: &str) -> Result<PathBuf> {
    Ok(target()?.join("kernels").join(name))
}

fn look(folder: &Path) -> Result<Unpacked> {
    let boot = folder.join("boot");
    let image = fs::read_dir(&boot)
        .with_context(|| format!("cannot read {}", boot.display()))?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"))
        .with_context(|| format!("no image in {}", boot.display()))?
        .path();
    let all = module_base(folder).join("lib/modules");
    let modules = all.join(only_entry(&all)?);
    Ok(Unpacked { image, modules })
}

/// The folder that contains `lib/modules`: newer packages have it under `/usr`.
fn module_base(folder: &Path) -> PathBuf {
    if folder.join("lib/modules").exists() {
        folder.to_owned()
    } else {
        folder.join("usr")
    }
}

fn only_entry(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .flatten();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry.file_name().into()),
        _ => bail!("{} does not hold one kernel's modules", folder.display()),
    }
}
