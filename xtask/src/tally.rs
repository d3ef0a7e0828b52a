//! Counts tests by what libtest, or a program that prints like it, says of them.

/// Tests counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
    /// Names of those that failed.
    pub failures: Vec<String>,
}

impl Tally {
    /// Takes in one line of output; most say nothing of tests.
    pub fn line(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            // ok. 2 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s
            for count in counts.split([';', '.']) {
                match count.trim().split_once(' ') {
                    Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                    Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                    Some((number, "ignored")) => self.ignored += number.parse().unwrap_or(0),
                    _ => {}
                }
            }
        } else if let Some((name, _)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up_what_several_programs_printed() {
        let mut tally = Tally::default();
        for line in [
            "running 4 tests",
            "test one ... ok",
            "test two words ... FAILED",
            "test three ... FAILED (1.3 s)",
            "test result: FAILED. 2 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.01s",
            "test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 12.50s",
            "the test result: 99 passed",
        ] {
            tally.line(line);
        }
        let expected = Tally {
            passed: 9,
            failed: 2,
            ignored: 1,
            failures: vec!["two words".to_owned(), "three".to_owned()],
        };
        assert_eq!(tally, expected);
    }
}
