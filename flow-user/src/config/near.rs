//! Suggests the right name for a wrong one.

use crate::sink::text::{cut, escape};

/// Characters of a wrong name that are compared.
const LONGEST: usize = 40;
/// Columns of a wrong name that are shown.
const SHOWN: usize = 40;
/// The most names that are listed.
const MOST_LISTED: usize = 24;

/// The message for an unknown name: with the nearest right one, or else with all of them or where
/// to find them.
pub(super) fn unknown(what: &str, name: &str, names: &[&str]) -> String {
    let shown = shown(name);
    match nearest(name, names) {
        Some(near) => format!("there is no {what} `{shown}`; did you mean `{near}`?"),
        None => format!("there is no {what} `{shown}`; choose {}", listed(names)),
    }
}

/// The nearest name, if one is near enough: a third of its letters may differ, at least two.
pub(super) fn nearest<'a>(written: &str, names: &[&'a str]) -> Option<&'a str> {
    let written: String = written.chars().take(LONGEST).collect();
    let written = written.to_lowercase();
    let distance = |name: &&str| strsim::osa_distance(&written, name);
    let near = names.iter().min_by_key(|name| distance(name))?;
    let most = (near.chars().count() / 3).max(2);
    // Of a short name that would be all letters.
    let differs = distance(near);
    (differs <= most && differs < near.chars().count()).then_some(near)
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
