//! `cargo xtask fuzz`: the parsers of Flow under libFuzzer.
//!
//! libFuzzer comes with the crate `libfuzzer-sys` and needs no nightly compiler: coverage comes
//! from SanitizerCoverage, a pass of LLVM that rustc runs on request. The fully instrumented build
//! has a target folder of its own, so that nothing else is rebuilt because of it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    rows::{Row, heading},
    setup,
    tally::{Failure, Tally},
    tools::{WITHOUT_KERNEL_SIDE, cargo, output, root, succeed, target},
    watch::{End, watch},
};

/// Time and number of inputs for each target in `cargo xtask test`.
const SHORT: Duration = Duration::from_secs(2);
const SHORT_RUNS: u64 = 500_000;
/// How much longer a run may take, for its start and its last input.
const GRACE: Duration = Duration::from_secs(60);
/// Limits of one input: time in seconds, memory in megabytes.
const INPUT_SECONDS: u64 = 10;
const MEMORY: u64 = 1024;

/// Arguments of rustc that instrument branches and comparisons.
const INSTRUMENTATION: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Prints the names of the targets.
///
/// # Errors
/// When their seeds cannot be read.
pub fn list() -> Result<()> {
    for name in targets()? {
        println!("{name}");
    }
    Ok(())
}

/// Fuzzes one target, or runs one input. Returns whether nothing broke. Interesting inputs are kept
/// for the next run.
///
/// # Errors
/// When there is no such target, or it cannot be built.
pub fn fuzz(name: &str, time: Duration, input: Option<&Path>) -> Result<bool> {
    let targets = targets()?;
    ensure!(
        targets.iter().any(|known| known == name),
        "there is no fuzz target {name}; there are {}",
        targets.join(", ")
    );
    let run = Run::new(name, build_whole()?)?;
    let mut command = run.command();
    if let Some(input) = input {
        command.arg(input);
    } else {
        let corpus = folder()?.join("corpus").join(name);
        make(&corpus)?;
        command
            .arg(format!("-max_total_time={}", time.as_secs()))
            .arg(corpus)
            .arg(&run.seeds);
    }
    let broke = match watch(&mut command, time + GRACE, |line| println!("{line}"))? {
        End::Exited(status) => !status.success(),
        End::TimedOut => bail!("{name} did not end in time"),
    };
    if broke {
        // The given input is not saved again.
        if input.is_none() {
            eprintln!("\n{}", run.how_to_repeat());
        }
    }
    Ok(!broke)
}

/// Fuzzes each target for a few seconds, from its seeds. Each counts as one test.
pub fn short() -> Row {
    heading("fuzz");
    let started = Instant::now();
    let mut tally = Tally::default();
    let problem = short_runs(&mut tally).err();
    Row::from_tally(
        "fuzz".to_owned(),
        started.elapsed(),
        tally,
        problem.map(|error| format!("{error:#}")),
    )
}

fn short_runs(tally: &mut Tally) -> Result<()> {
    let program = build_own()?;
    let mut problems = Vec::new();
    for name in targets()? {
        let started = Instant::now();
        let run = Run::new(&name, program.clone())?;
        let outcome = run.short();
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(inputs) => {
                println!("test {name} ... ok ({inputs} inputs, {seconds:.1} s)");
                tally.passed += 1;
            }
            Err(error) => {
                println!("test {name} ... FAILED ({seconds:.1} s)");
                tally.failed += 1;
                problems.push(format!("{error:#}"));
                tally.failures.push(Failure::of(name));
            }
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// One run of one target.
struct Run {
    name: String,
    program: PathBuf,
    seeds: PathBuf,
    /// Where a crashing input is written.
    crash: PathBuf,
}

impl Run {
    fn new(name: &str, program: PathBuf) -> Result<Self> {
        let crashes = folder()?.join("crashes");
        make(&crashes)?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            name: name.to_owned(),
            program,
            seeds: seeds().join(name),
            crash: crashes.join(format!("{name}-{}", now.as_secs())),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(root())
            .env("FLOW_FUZZ_TARGET", &self.name)
            .arg(format!("-exact_artifact_path={}", self.crash.display()))
            .arg(format!("-timeout={INPUT_SECONDS}"))
            .arg(format!("-rss_limit_mb={MEMORY}"))
            .arg("-print_final_stats=1");
        let dictionary = project().join(format!("{}.dict", self.name));
        if dictionary.exists() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        command
    }

    /// Returns how many inputs ran. The engine's output goes to a file.
    fn short(&self) -> Result<u64> {
        let (logs, found) = (
            folder()?.join("logs"),
            folder()?.join("found").join(&self.name),
        );
        make(&logs)?;
        make(&found)?;
        let log = logs.join(&self.name);
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = self.command();
        command
            .arg(format!("-max_total_time={}", SHORT.as_secs()))
            .arg(format!("-runs={SHORT_RUNS}"))
            // The engine writes new inputs to the first folder.
            .arg(&found)
            .arg(&self.seeds)
            .stderr(file);
        let end = watch(&mut command, SHORT + GRACE, |line| println!("{line}"))?;
        let output = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
        match end {
            End::Exited(status) if status.success() => inputs(&String::from_utf8_lossy(&output))
                .with_context(|| format!("{} tried nothing; see {}", self.name, log.display())),
            End::Exited(status) => {
                bail!("{status}; see {}\n{}", log.display(), self.how_to_repeat())
            }
            End::TimedOut => bail!("{} did not end in time; see {}", self.name, log.display()),
        }
    }

    fn how_to_repeat(&self) -> String {
        let Self { name, crash, .. } = self;
        format!(
            "to repeat it: cargo xtask fuzz {name} --input {0}\n\
            once mended, keep it: cp {0} {1}",
            crash.display(),
            self.seeds.display()
        )
    }
}

/// How many inputs ran, from the engine's last output.
fn inputs(output: &str) -> Option<u64> {
    let number = output
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    number.trim().parse().ok().filter(|number| *number > 0)
}

/// Builds the program with all targets, optimized and fully instrumented.
fn build_whole() -> Result<PathBuf> {
    let host = host()?;
    let folder = folder()?;
    // With an explicit target, cargo does not instrument build scripts and macros.
    let mut command = cargo(["build", "--package", "flow-fuzz", "--features", "libfuzzer"]);
    command
        .args(["--profile", "fuzz", "--target", &host, "--target-dir"])
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTATION.join("\x1f"));
    build(command)?;
    Ok(folder.join(host).join("fuzz").join("flow-fuzz"))
}

/// Builds it in a tenth of the time: with the libraries of the unit tests, and only Flow's own
/// crates instrumented.
fn build_own() -> Result<PathBuf> {
    let mut command = cargo(["build", "--workspace", "--exclude", "flow-ebpf"]);
    command
        .args(["--bin", "flow-fuzz", "--features", "flow-fuzz/libfuzzer"])
        .env(
            "RUSTC_WORKSPACE_WRAPPER",
            project().join("instrumented-rustc"),
        )
        .env("FLOW_INSTRUMENTATION", INSTRUMENTATION.join(" "));
    build(command)?;
    Ok(target()?.join("debug").join("flow-fuzz"))
}

fn build(mut command: Command) -> Result<()> {
    setup::fuzzing()?;
    succeed(command.envs([WITHOUT_KERNEL_SIDE]))
}

/// The host triple.
fn host() -> Result<String> {
    let text = output(Command::new("rustc").arg("-vV"))?;
    String::from_utf8_lossy(&text)
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .context("rustc -vV does not name its host")
}

/// Names of the targets: each has its folder of seeds.
fn targets() -> Result<Vec<String>> {
    let seeds = seeds();
    let mut names: Vec<_> = fs::read_dir(&seeds)
        .with_context(|| format!("cannot read {}", seeds.display()))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    Ok(names)
}

fn project() -> PathBuf {
    root().join("tests/fuzz")
}

fn seeds() -> PathBuf {
    project().join("seeds")
}

/// The folder of findings and of the fully instrumented build.
fn folder() -> Result<PathBuf> {
    Ok(target()?.join("fuzz"))
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_inputs_is_none() {
        let output = "Done 12 runs in 6 second(s)\nstat::number_of_executed_units: 12\n";
        assert_eq!(inputs(output), Some(12));
        assert_eq!(inputs("stat::number_of_executed_units: 0"), None);
        assert_eq!(inputs("ERROR: no interesting inputs were found"), None);
    }
}
