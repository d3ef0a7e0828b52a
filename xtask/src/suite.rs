//! `cargo xtask test` and `cargo xtask vm`: what runs, in which order, and the table at the end.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cells::{self, Cell, MATRIX, Machine},
    check, guest, kernels,
    kernels::Kernel,
    run::release,
    setup,
    tally::Tally,
    tools::{as_root, cargo, succeed, target},
    vm::{self, Verdict},
    watch::{End, watch},
};

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub passed: u64,
    pub failed: u64,
    pub duration: Duration,
    /// What went wrong, apart from tests that failed, and the names of those.
    pub problems: Vec<String>,
}

/// Setup, check, the live tests on this host and in the guests. Whether all passed; prints the table.
///
/// # Errors
/// When setup fails, and nothing can be tested.
pub fn test(host_only: bool) -> Result<bool> {
    heading("setup");
    setup::setup(false)?;
    let mut rows = check::check();
    let build = step("release build", build_release);
    let built = build.failed == 0;
    rows.push(build);
    for cell in MATRIX {
        if host_only && cell.machine != Machine::Host {
            continue;
        }
        rows.push(if built {
            run_cell(cell, cells::TIME_LIMIT, &[])
        } else {
            Row::from_error(
                cell.to_string(),
                Duration::ZERO,
                "not run: there is no release build".to_owned(),
            )
        });
    }
    Ok(conclude(&rows))
}

/// The guest cells that match, one after the other. Whether all passed; prints the table.
///
/// # Errors
/// When there is no such cell, or flow does not build.
pub fn vm(
    kernel: Option<Kernel>,
    backend: Option<&str>,
    keep_going: bool,
    limit: Duration,
    tests: &[String],
) -> Result<bool> {
    let cells = cells::guests(kernel, backend);
    ensure!(
        !cells.is_empty(),
        "no cell of the matrix has this backend; to try it anyway, name a kernel too"
    );
    build_release()?;
    let mut rows = Vec::new();
    for cell in cells {
        let row = run_cell(cell, limit, tests);
        let failed = row.failed > 0;
        rows.push(row);
        if failed && !keep_going {
            break;
        }
    }
    Ok(conclude(&rows))
}

/// Runs something that passes or fails as a whole.
pub fn step(name: &str, action: impl FnOnce() -> Result<()>) -> Row {
    heading(name);
    let started = Instant::now();
    match action() {
        Ok(()) => Row {
            name: name.to_owned(),
            passed: 1,
            failed: 0,
            duration: started.elapsed(),
            problems: Vec::new(),
        },
        Err(error) => Row::from_error(name.to_owned(), started.elapsed(), format!("{error:#}")),
    }
}

/// Runs a program that prints like libtest, and counts its tests.
pub fn counted(name: &str, command: &mut Command, limit: Duration) -> Row {
    heading(name);
    let started = Instant::now();
    let mut tally = Tally::default();
    let end = watch(command, limit, |line| {
        println!("{line}");
        tally.line(line);
    });
    let problem = match end {
        Ok(End::Exited(status)) if status.success() => None,
        Ok(End::Exited(status)) => Some(status.to_string()),
        Ok(End::TimedOut) => Some(format!("stopped after {} s", limit.as_secs())),
        Err(error) => Some(format!("{error:#}")),
    };
    Row::from_tally(name.to_owned(), started.elapsed(), tally, problem)
}

/// Prints the table, then the sum alone on a line. Whether there was no failure.
pub fn conclude(rows: &[Row]) -> bool {
    println!("\n{:<22}{:>8}{:>8}{:>10}", "", "passed", "failed", "time");
    for Row {
        name,
        passed,
        failed,
        duration,
        problems,
    } in rows
    {
        println!(
            "{name:<22}{passed:>8}{failed:>8}{:>8.1} s",
            duration.as_secs_f64()
        );
        for problem in problems {
            println!("    {}", problem.replace('\n', "\n    "));
        }
    }
    let passed: u64 = rows.iter().map(|row| row.passed).sum();
    let failed: u64 = rows.iter().map(|row| row.failed).sum();
    println!("\n{passed} passed, {failed} failed");
    failed == 0
}

impl Row {
    fn from_error(name: String, duration: Duration, problem: String) -> Self {
        Self {
            name,
            passed: 0,
            failed: 1,
            duration,
            problems: vec![problem],
        }
    }

    /// A test that was ignored, no test at all, or a program that failed otherwise: each counts as a failure.
    fn from_tally(name: String, duration: Duration, tally: Tally, problem: Option<String>) -> Self {
        let Tally {
            passed,
            mut failed,
            ignored,
            failures,
        } = tally;
        let mut problems: Vec<String> = failures
            .into_iter()
            .map(|test| format!("failed: {test}"))
            .collect();
        if ignored > 0 {
            failed += ignored;
            problems.push(format!("{ignored} ignored"));
        }
        if let Some(problem) = problem {
            failed = failed.max(1);
            problems.push(problem);
        } else if passed + failed == 0 {
            failed = 1;
            problems.push("no test ran".to_owned());
        }
        Self {
            name,
            passed,
            failed,
            duration,
            problems,
        }
    }
}

fn build_release() -> Result<()> {
    succeed(&mut cargo([
        "build",
        "--release",
        "--package",
        "flow-user",
        "--package",
        "flow-tests",
        "--bins",
    ]))
}

fn run_cell(cell: Cell<'_>, limit: Duration, tests: &[String]) -> Row {
    let name = cell.to_string();
    match cell.machine {
        Machine::Host => match (release("flow-live"), release("flow")) {
            (Ok(program), Ok(flow)) => {
                let mut command = as_root(program);
                command.args(live_arguments(
                    cell.backend,
                    &flow.to_string_lossy(),
                    &[],
                    tests,
                ));
                counted(&name, &mut command, limit)
            }
            (Err(error), _) | (_, Err(error)) => {
                Row::from_error(name, Duration::ZERO, format!("{error:#}"))
            }
        },
        Machine::Guest(kernel) => {
            heading(&name);
            let started = Instant::now();
            run_guest(kernel, cell, limit, tests).map_or_else(
                |error| Row::from_error(name.clone(), started.elapsed(), format!("{error:#}")),
                |(tally, problem)| Row::from_tally(name.clone(), started.elapsed(), tally, problem),
            )
        }
    }
}

/// Counts the tests of a guest, and says what else went wrong.
fn run_guest(
    kernel: Kernel,
    cell: Cell<'_>,
    limit: Duration,
    tests: &[String],
) -> Result<(Tally, Option<String>)> {
    let unpacked = kernels::find(kernel)?;
    let folder = target()?.join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = |kind: &str| folder.join(format!("{}-{}.{kind}", kernel.name(), cell.backend));
    let (initramfs, log) = (file("cpio"), file("log"));

    let mut command = vec!["/bin/flow-live".to_owned()];
    command.extend(live_arguments(
        cell.backend,
        "/bin/flow",
        &IN_A_GUEST,
        tests,
    ));
    guest::write_initramfs(&initramfs, &unpacked, &command)?;

    let mut tally = Tally::default();
    let verdict = vm::boot(&unpacked.image, &initramfs, &log, limit, |line| {
        println!("{line}");
        tally.line(line);
    })?;
    let problem = match verdict {
        Verdict::Exited(0) => None,
        Verdict::Exited(code) => Some(format!("exit code {code}")),
        Verdict::Broken => Some(format!("the guest broke down; {}", vm::last_words(&log))),
        Verdict::TimedOut => {
            let words = vm::last_words(&log);
            Some(format!("stopped after {} s; {words}", limit.as_secs()))
        }
    };
    Ok((tally, problem))
}

/// What a guest's tests are told besides: the emulated machine is some twenty times slower, and a start of Flow takes seconds.
const IN_A_GUEST: [&str; 4] = ["--scale", "20", "--sessions", "shared"];

fn live_arguments<'a>(
    backend: &'a str,
    flow: &'a str,
    more: &[&'a str],
    tests: &'a [String],
) -> Vec<String> {
    ["run", "--backend", backend, "--flow", flow]
        .iter()
        .chain(more)
        .copied()
        .chain(tests.iter().map(String::as_str))
        .map(str::to_owned)
        .collect()
}

fn heading(name: &str) {
    println!("\n=== {name}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tally: Tally, problem: Option<&str>) -> (u64, u64, Vec<String>) {
        let row = Row::from_tally(
            "cell".to_owned(),
            Duration::ZERO,
            tally,
            problem.map(str::to_owned),
        );
        (row.passed, row.failed, row.problems)
    }

    #[test]
    fn whatever_did_not_run_is_a_failure() {
        let tally = |passed, failed, ignored| Tally {
            passed,
            failed,
            ignored,
            failures: Vec::new(),
        };
        assert_eq!(row(tally(3, 0, 0), None), (3, 0, vec![]));
        assert_eq!(
            row(tally(0, 0, 0), None),
            (0, 1, vec!["no test ran".to_owned()])
        );
        assert_eq!(
            row(tally(3, 0, 2), None),
            (3, 2, vec!["2 ignored".to_owned()])
        );
        assert_eq!(
            row(tally(3, 0, 0), Some("exit code 9")),
            (3, 1, vec!["exit code 9".to_owned()])
        );
        assert_eq!(
            row(tally(3, 2, 0), Some("exit code 9")),
            (3, 2, vec!["exit code 9".to_owned()])
        );
    }
}
