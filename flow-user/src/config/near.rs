//! Suggests the right name for a wrong one.

pub(super) use crate::query::near::nearest;
use crate::sink::text::{cut, escape};

/// Columns of a wrong name that are shown.
const SHOWN: usize = 40;
/// The most names that are listed.
const MOST_LISTED: usize = 24;

/// The message for an unknown name: with the nearest right one, or else with all of them or where
/// to find them.
pub fn unknown(what: &str, name: &str, names: &[&str]) -> String {
    let shown = shown(name);
    match nearest(name, names) {
        Some(near) => format!("there is no {what} `{shown}`; did you mean `{near}`?"),
        None => format!("there is no {what} `{shown}`; choose {}", listed(names)),
    }
}

/// Text of the user, escaped and cut.
pub(super) fn shown(text: &str) -> String {
    let start: String = text.chars().take(4 * SHOWN).collect();
    cut(&escape(&start), SHOWN).into_owned()
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [one] => (*one).to_owned(),
        many if many.len() > MOST_LISTED => "one that `flow config` prints".to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let names = ["interval", "history-ttl", "view", "theme", "units"];
        for (written, near) in [
            ("intervall", Some("interval")),
            ("histroy_ttl", Some("history-ttl")),
            ("VIEW", Some("view")),
            ("veiw", Some("view")),
            ("unit", Some("units")),
            ("colour", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(written, &names), near, "{written}");
        }
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn names_are_listed_unless_they_are_many() {
        let text = unknown("view", "colour", &["flows", "names"]);
        assert_eq!(text, "there is no view `colour`; choose flows or names");
        let text = unknown("action", "a", &["help"; MOST_LISTED + 1]);
        assert_eq!(
            text,
            "there is no action `a`; choose one that `flow config` prints"
        );
    }

    #[test]
    fn a_hostile_name_is_short_and_harmless() {
        let name = "\u{1b}[2J\u{202e}".repeat(10_000);
        let text = unknown("key", &name, &["view"]);
        assert!(text.len() < 200, "{text}");
        assert!(!text.contains(crate::sink::text::is_hostile), "{text}");
    }
}
