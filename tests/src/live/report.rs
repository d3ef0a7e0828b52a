//! Prints the results of tests in the format of Rust's own test harness.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use super::difference::Difference;

/// Collects results and prints them as they arrive.
#[derive(Debug)]
pub struct Report {
    started: Instant,
    passed: usize,
    failures: Vec<(String, String)>,
    filtered: usize,
}

impl Report {
    pub fn start(tests: usize, filtered: usize) -> Result<Self> {
        print(&format!("\nrunning {tests} tests\n"))?;
        Ok(Self {
            started: Instant::now(),
            passed: 0,
            failures: Vec::new(),
            filtered,
        })
    }

    /// Runs one test. A panic is a failure.
    pub fn run(&mut self, name: &str, test: impl FnOnce() -> Result<()>) -> Result<()> {
        let started = Instant::now();
        let result = catch(test);
        self.record(name, started.elapsed(), result)
    }

    /// Records the result of one test.
    pub fn record(&mut self, name: &str, took: Duration, result: Result<()>) -> Result<()> {
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        print(&format!(
            "test {name} ... {word} ({:.1} s)\n",
            took.as_secs_f64()
        ))?;
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => self.failures.push((name.to_owned(), format!("{error:#}"))),
        }
        Ok(())
    }

    /// Prints the failures and the sums; returns whether all passed.
    pub fn finish(self) -> Result<bool> {
        let mut text = String::new();
        if !self.failures.is_empty() {
            text.push_str("\nfailures:\n");
            for (name, error) in &self.failures {
                let _ = write!(text, "\n---- {name} ----\n{error}\n");
            }
            text.push_str("\nfailures:\n");
            for (name, _) in &self.failures {
                let _ = writeln!(text, "    {name}");
            }
        }
        let ok = self.failures.is_empty();
        let _ = writeln!(
            text,
            "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; \
             finished in {:.2}s",
            if ok { "ok" } else { "FAILED" },
            self.passed,
            self.failures.len(),
            self.filtered,
            self.started.elapsed().as_secs_f64(),
        );
        print(&text)?;
        Ok(ok)
    }
}

/// Prints the names of tests as `--list` of Rust's harness does.
pub fn list<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    names
        .map(|name| format!("{name}: test\n"))
        .try_for_each(|line| print(&line))
}

/// Runs `test`, and returns a panic as an error.
pub fn catch<T>(test: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(test)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(anyhow!(
            "panicked: {}",
            message.unwrap_or("without a message")
        ))
    })
}

/// An error with the differences as a table; `Ok` without any.
pub fn expect_none(differences: &[Difference]) -> Result<()> {
    if differences.is_empty() {
        return Ok(());
    }
    Err(anyhow!("{}", table(differences)))
}

/// Most lines of a table of differences; the rest is only counted.
const MOST_LINES: usize = 40;

fn table(differences: &[Difference]) -> String {
    let head = ["what", "", "expected", "seen"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(head)
        .chain(differences.iter().take(MOST_LINES).map(|difference| {
            [
                &difference.subject,
                &difference.what,
                &difference.expected,
                &difference.seen,
            ]
            .map(|text| text.escape_debug().collect())
        }))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths = [0, 1, 2].map(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for [subject, what, expected, seen] in &rows {
        let _ = writeln!(
            text,
            "  {subject:a$}  {what:b$}  {expected:c$}  {seen}",
            a = widths[0],
            b = widths[1],
            c = widths[2],
        );
    }
    if differences.len() > MOST_LINES {
        let _ = writeln!(text, "  and {} more", differences.len() - MOST_LINES);
    }
    text
}

/// Prints text as it is.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}
