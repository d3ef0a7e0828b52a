//! Counts tests from the output of libtest, or of a program that prints like it.

use std::collections::BTreeMap;

/// What the tests printed about the kernel they ran on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelFacts {
    /// Its release; empty if not printed.
    pub kernel: String,
    /// Instructions that its verifier processed, by program. Names are truncated, so several may
    /// share one.
    pub programs: BTreeMap<String, Vec<u64>>,
    /// Whether each kind of link exists and was tested.
    pub links: BTreeMap<String, String>,
}

/// Most lines of a failed test's output that are kept.
const WORDS_KEPT: usize = 30;

/// A test that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    pub test: String,
    /// The first lines of its output.
    pub words: Vec<String>,
}

/// Tests counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
    pub failures: Vec<Failure>,
    /// The test that printed the next lines.
    pub speaker: Option<String>,
    pub kernel_facts: KernelFacts,
}

impl Tally {
    /// Parses one line of output; most are not about tests.
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
        } else if let Some(kernel_facts) = line.strip_prefix("matrix ") {
            self.kernel_facts.line(kernel_facts);
        } else if let Some((name, _)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... FAILED"))
        {
            self.failures.push(Failure::of(name));
        }
        self.words(line);
    }

    /// Parses a line of the output of failed tests, which follows all tests.
    fn words(&mut self, line: &str) {
        // ---- tests::name stdout ----
        let heading = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" ----"));
        if let Some(heading) = heading {
            let name = heading.strip_suffix(" stdout").unwrap_or(heading);
            self.speaker = Some(name.to_owned());
            return;
        }
        if line == "failures:" || line.starts_with("test result: ") {
            self.speaker = None;
        }
        let Some(speaker) = &self.speaker else { return };
        let failure = self.failures.iter_mut().find(|it| it.test == *speaker);
        if let Some(Failure { words, .. }) = failure
            && words.len() < WORDS_KEPT
            && !line.is_empty()
        {
            words.push(line.to_owned());
        }
    }
}

impl Failure {
    pub fn of(test: impl Into<String>) -> Self {
        Self {
            test: test.into(),
            words: Vec::new(),
        }
    }
}

impl KernelFacts {
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
            "failures:",
            "---- two words stdout ----",
            "panicked at",
            "",
            "---- three ----",
            "seen 1, expected 2",
            "failures:",
            "    three",
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
            failures: [
                ("two words", "panicked at"),
                ("three", "seen 1, expected 2"),
            ]
            .map(|(test, words)| Failure {
                test: test.to_owned(),
                words: vec![words.to_owned()],
            })
            .into(),
            speaker: None,
            kernel_facts: KernelFacts {
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
