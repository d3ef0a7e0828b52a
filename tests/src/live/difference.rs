//! What a check found.

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub subject: String,
    pub what: String,
    pub expected: String,
    pub seen: String,
}

/// A difference of anything that can be shown.
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
