//! Counts tests by what libtest, or a program that prints like it, says of them.

use std::collections::BTreeMap;

/// What the tests told of the kernel they ran on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Its release; empty if they did not tell.
    pub kernel: String,
    /// Instructions that its verifier went through, by program. Names are cut, so several may share one.
    pub programs: BTreeMap<String, Vec<u64>>,
    /// Whether it has a kind of link, and this was tested, by kind.
    pub links: BTreeMap<String, String>,
}

/// Tests counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
    /// Names of those that failed.
    pub failures: Vec<String>,
    pub told: Told,
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
        } else if let Some(told) = line.strip_prefix("matrix ") {
            self.told.line(told);
        } else if let Some((name, _)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
    }
}

impl Told {
    fn line(&mut self, line: &str) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["kernel", release] => release.clone_into(&mut self.kernel),
            ["program", name, count] => {
                let counts = self.programs.entry(name.to_owned()).or_default();
                counts.extend(count.parse::<u64>());
                counts.sort_unstable();
            }
            ["link", kind, state] => {
                self.links.insert(kind.to_owned(), state.to_owned());
            }
            _ => {}
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
            "matrix kernel 6.1.0-1",
            "matrix program one 70",
            "matrix program one 60",
            "matrix link veth tested",
            "matrix link team absent",
        ] {
            tally.line(line);
        }
        let expected = Tally {
            passed: 9,
            failed: 2,
            ignored: 1,
            failures: vec!["two words".to_owned(), "three".to_owned()],
            told: Told {
                kernel: "6.1.0-1".to_owned(),
                programs: [("one".to_owned(), vec![60, 70])].into(),
                links: [("veth", "tested"), ("team", "absent")]
                    .map(|(kind, state)| (kind.to_owned(), state.to_owned()))
                    .into(),
            },
        };
        assert_eq!(tally, expected);
    }
}
