//! Packages of Debian and its descendants.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::tools::{as_root, find_program, output, succeed};

/// apt-get and apt-cache. Package lists are updated once, before the first use.
#[derive(Debug)]
pub struct Apt {
    updated: bool,
}

impl Apt {
    /// `None` if the system has no apt.
    pub fn find() -> Option<Self> {
        let all = ["apt-get", "apt-cache", "dpkg-deb"]
            .iter()
            .all(|program| find_program(program).is_some());
        all.then_some(Self { updated: false })
    }

    /// # Errors
    /// When apt cannot install one of them.
    pub fn install(&mut self, packages: &[&str]) -> Result<()> {
        self.update()?;
        println!("installing {}", packages.join(" "));
        let mut command = as_root("env");
        command
            .args([
                "DEBIAN_FRONTEND=noninteractive",
                "apt-get",
                "install",
                "--yes",
                "--no-install-recommends",
                "-qq",
            ])
            .args(packages)
            // Standard output has a line for each of hundreds of packages; errors are on standard
            // error.
            .stdout(Stdio::null());
        succeed(&mut command)
    }

    /// The packages that `package` depends on directly.
    ///
    /// # Errors
    /// When the distribution does not have it.
    pub fn dependencies(&mut self, package: &str) -> Result<Vec<String>> {
        self.update()?;
        let text = output(Command::new("apt-cache").args(["depends", package]))?;
        Ok(parse_dependencies(&String::from_utf8_lossy(&text)))
    }

    /// Downloads a package's file into an empty folder, and returns its path. Needs no root.
    ///
    /// # Errors
    /// When the distribution does not have the package, or it cannot be fetched.
    pub fn download(&mut self, package: &str, folder: &Path) -> Result<PathBuf> {
        self.update()?;
        // As root, apt would write as its own user `_apt`, who may not write here.
        let mut command = Command::new("apt-get");
        command
            .args(["-qq", "-o", "APT::Sandbox::User=root", "download", package])
            .current_dir(folder);
        succeed(&mut command)?;
        fs::read_dir(folder)
            .with_context(|| format!("cannot read {}", folder.display()))?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension() == Some(OsStr::new("deb")))
            .with_context(|| format!("apt-get left no package in {}", folder.display()))
    }

    fn update(&mut self) -> Result<()> {
        if !self.updated {
            println!("updating the package lists");
            succeed(as_root("apt-get").args(["update", "-qq"]))?;
            self.updated = true;
        }
        Ok(())
    }
}

/// Reads `  Depends: NAME` lines; recommended and suggested packages are left out.
fn parse_dependencies(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_and_recommendations_are_not() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n  Recommends: firmware\n";
        assert_eq!(
            parse_dependencies(text),
            ["linux-image-6.1.0-56-cloud-amd64"]
        );
    }
}
