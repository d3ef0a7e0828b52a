//! Differences that checks find.

/// Something that differs from what is required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub subject: String,
    pub what: String,
    pub expected: String,
    pub seen: String,
}

/// A difference of values that can be shown.
pub fn difference(
    subject: impl ToString,
    what: impl ToString,
    expected: impl ToString,
    seen: impl ToString,
) -> Difference {
    Difference {
        subject: subject.to_string(),
        what: what.to_string(),
        expected: expected.to_string(),
        seen: seen.to_string(),
    }
}
