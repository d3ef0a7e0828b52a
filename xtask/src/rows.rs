//! The table at the end of `cargo xtask check`, `test` and `vm`: a row for each thing that ran.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    tally::{Failure, KernelFacts, Tally},
    watch::{End, watch},
};

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub passed: u64,
    pub failed: u64,
    pub duration: Duration,
    /// What went wrong, and the names of failed tests.
    pub problems: Vec<String>,
    /// Of the kernel, if this was a cell of the matrix.
    pub kernel_facts: KernelFacts,
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
            kernel_facts: KernelFacts::default(),
        },
        Err(error) => Row::from_error(name.to_owned(), started.elapsed(), format!("{error:#}")),
    }
}

/// Runs a program that prints like libtest, and counts its tests.
pub fn counted(name: &str, command: &mut Command, limit: Duration) -> Row {
    counted_beside(name, "", command, limit)
}

/// The same for one of several at a time: each of its lines begins with `mark`.
pub fn counted_beside(name: &str, mark: &str, command: &mut Command, limit: Duration) -> Row {
    heading(name);
    let started = Instant::now();
    let mut tally = Tally::default();
    let end = watch(command, limit, |line| {
        println!("{mark}{line}");
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

/// Prints the table, then the sum on a line. Returns whether nothing failed.
pub fn conclude(rows: &[Row]) -> bool {
    println!("\n{:<22}{:>8}{:>8}{:>10}", "", "passed", "failed", "time");
    for Row {
        name,
        passed,
        failed,
        duration,
        problems,
        kernel_facts: _,
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
    /// Something that could not run.
    pub fn from_error(name: String, duration: Duration, problem: String) -> Self {
        Self {
            name,
            passed: 0,
            failed: 1,
            duration,
            problems: vec![problem],
            kernel_facts: KernelFacts::default(),
        }
    }

    /// A test that was ignored, no test at all, or a program that failed otherwise: each counts as
    /// a failure.
    pub fn from_tally(
        name: String,
        duration: Duration,
        tally: Tally,
        problem: Option<String>,
    ) -> Self {
        let Tally {
            passed,
            mut failed,
            ignored,
            failures,
            speaker: _,
            kernel_facts,
        } = tally;
        let mut problems: Vec<String> = failures
            .into_iter()
            .map(|Failure { test, words }| {
                let lines: Vec<_> = [format!("failed: {test}")]
                    .into_iter()
                    .chain(words.into_iter().map(|line| format!("    {line}")))
                    .collect();
                lines.join("\n")
            })
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
            kernel_facts,
        }
    }
}

/// Prints what runs next.
pub fn heading(name: &str) {
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
            ..Tally::default()
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
