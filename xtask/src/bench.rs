//! `cargo xtask bench`: builds, measures as root, prints the figures and writes them into
//! docs/benchmarks.md.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    apt::Apt,
    run::{build_release, release},
    setup,
    tools::{as_root, cargo, find_program, root, succeed, target},
    watch::{End, watch},
};

/// The lines around the figures in the document.
const BEGIN: &str = "<!-- figures: begin; written by cargo xtask bench -->";
const END: &str = "<!-- figures: end -->";

/// For a benchmark that hangs: it normally ends earlier.
const TIME_LIMIT: Duration = Duration::from_secs(1230);
/// The same where the part `soak` is among what is measured.
const TIME_LIMIT_OF_SOAK: Duration = Duration::from_secs(2600);

/// A tool that Flow is compared with.
struct Tool {
    program: &'static str,
    /// Packages of Debian: the tool itself, or what it needs to build.
    packages: &'static [&'static str],
    /// The package of crates.io and its version, built once into the target folder.
    built: Option<(&'static str, &'static str)>,
}

const TOOLS: [Tool; 4] = [
    Tool {
        program: "nethogs",
        packages: &["nethogs"],
        built: None,
    },
    Tool {
        program: "iftop",
        packages: &["iftop"],
        built: None,
    },
    Tool {
        program: "bandwhich",
        packages: &[],
        built: Some(("bandwhich", "0.23.1")),
    },
    Tool {
        program: "rustnet",
        // libpcap, and for its BPF programs clang and what libbpf is built with.
        packages: &[
            "libpcap-dev",
            "clang",
            "libelf-dev",
            "zlib1g-dev",
            "make",
            "pkg-config",
        ],
        built: Some(("rustnet-monitor", "1.7.0")),
    },
];

/// Measures. A run of only some parts prints the figures and leaves the document as it is. Returns
/// whether everything could be measured, whether or not budgets were met.
///
/// # Errors
/// When Flow does not build, or the benchmark cannot be started.
pub fn bench(quick: bool, parts: &[String]) -> Result<bool> {
    setup::if_needed()?;
    build_release()?;
    let mut command = as_root(release("flow-live")?);
    command.arg("bench").arg("--flow").arg(release("flow")?);
    if quick {
        command.arg("--quick");
    }
    if parts.is_empty() || parts.iter().any(|part| part == "beside") {
        for tool in TOOLS {
            match tool.find() {
                Ok(program) => {
                    command.arg(format!("--{}", tool.program)).arg(program);
                }
                Err(error) => eprintln!("without {}: {error:#}", tool.program),
            }
        }
    }
    command.args(parts);

    let mut figures = String::new();
    let limit = if parts.iter().any(|part| part == "soak") {
        TIME_LIMIT_OF_SOAK
    } else {
        TIME_LIMIT
    };
    let end = watch(&mut command, limit, |line| {
        println!("{line}");
        figures.push_str(line);
        figures.push('\n');
    })?;
    let complete = match end {
        End::Exited(status) => status.success(),
        End::TimedOut => bail!("stopped after {} s", limit.as_secs()),
    };
    ensure!(!figures.is_empty(), "nothing was measured");
    if parts.is_empty() {
        let document = root().join("docs/benchmarks.md");
        write(&document, &figures)?;
        println!("\nwritten to {}", document.display());
    }
    Ok(complete)
}

impl Tool {
    /// Finds it, or installs it.
    fn find(&self) -> Result<PathBuf> {
        if let Some(program) = find_program(self.program) {
            return Ok(program);
        }
        let folder = target()?.join("bench-tools");
        let program = folder.join("bin").join(self.program);
        if program.is_file() {
            return Ok(program);
        }
        if !self.packages.is_empty() {
            Apt::find()
                .context("this system has no apt to install packages with")?
                .install(self.packages)?;
        }
        let Some((package, version)) = self.built else {
            return find_program(self.program).context("it is not where programs are");
        };
        let mut install = cargo(["install", package, "--locked", "--version", version]);
        succeed(install.arg("--root").arg(&folder))?;
        Ok(program)
    }
}

fn write(document: &Path, figures: &str) -> Result<()> {
    let name = document.display();
    let text = fs::read_to_string(document).with_context(|| format!("cannot read {name}"))?;
    let text = with_figures(&text, figures)
        .with_context(|| format!("{name} has lost the lines {BEGIN} and {END}"))?;
    fs::write(document, text).with_context(|| format!("cannot write {name}"))
}

/// Replaces the figures in the document.
fn with_figures(text: &str, figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!(
        "{before}{BEGIN}\n\n{}\n\n{END}{after}",
        figures.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = with_figures(&text, "new\n").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(with_figures(&once, "new\n").unwrap(), once);
        assert_eq!(with_figures("no marks", "new"), None);
    }

    #[test]
    fn the_document_has_the_marks() {
        let text = fs::read_to_string(root().join("docs/benchmarks.md")).unwrap();
        assert!(with_figures(&text, "").is_some());
    }
}
