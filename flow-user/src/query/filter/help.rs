//! The help of the language, for `flow help filter`: made from the tables of its words.

use super::{
    short::SHORT,
    words::{TEXT, WORDS, Word, states},
};

/// Columns of a line.
const COLUMNS: usize = 80;
/// Columns of the words, before what they match.
const WIDEST: usize = 22;

/// What binds the words together.
const OPERATORS: [(&str, &str); 4] = [
    ("not A, !A", "what A does not match; binds tightest"),
    ("A B, A and B, A && B", "what both match"),
    ("A or B, A || B", "what either matches; binds least"),
    ("( )", "group"),
];

/// What stands for a name after `process`, `cgroup` and `interface`.
const NAMES: [(&str, &str); 4] = [
    ("nginx", "the whole name"),
    ("ng*, ngin?", "`*` is any text, `?` one character"),
    ("\"a b\"", "the whole name, literally"),
    (
        "/ng.*/, /ng.*/i",
        "a regular expression; with i in any case",
    ),
];

/// Expressions, and what each shows.
const EXAMPLES: [(&str, &str); 6] = [
    ("curl port https", "web traffic of whatever is called curl"),
    (
        "process nginx and not port 22",
        "what nginx does, without ssh",
    ),
    (
        "outbound and dst net 10.0.0.0/8",
        "what was opened to this network",
    ),
    (
        "state listen and local net 0.0.0.0/0",
        "who listens on IPv4",
    ),
    ("tcp port 80 or tcp port 443", "web traffic"),
    (
        "user www-data or cgroup /system.slice",
        "a user's and services' flows",
    ),
];

/// The help of the language: plain text of lines that end in a line break.
pub fn help() -> String {
    let mut help = Help::default();
    help.title("A filter shows only what matches it. It is text, words of the language, or both:");
    help.row("TEXT", TEXT.says, WIDEST);
    help.row(
        "\"TEXT\"",
        "the same for what would be a word, number or address",
        WIDEST,
    );
    for (form, long) in short_forms() {
        help.row(form, &long, WIDEST);
    }
    help.title("Words, and the flows they match:");
    for (names, says) in words() {
        help.row(&names, says, WIDEST);
    }
    help.title("States:");
    help.paragraph("", states());
    help.title("Names, after process, cgroup and interface:");
    for (form, says) in NAMES {
        help.row(form, says, WIDEST);
    }
    help.title("Operators:");
    for (form, says) in OPERATORS {
        help.row(form, says, WIDEST);
    }
    help.title("Examples, in single quotes for the shell:");
    let widest = EXAMPLES.iter().map(|(it, _)| it.len()).max();
    for (example, says) in EXAMPLES {
        help.row(example, says, widest.unwrap_or(0));
    }
    help.text
}

/// The short forms, with what they are short for.
fn short_forms() -> Vec<(&'static str, String)> {
    let mut forms: Vec<(&str, String)> = Vec::new();
    for short in &SHORT {
        if forms.iter().all(|(form, _)| *form != short.form) {
            let long = |word: &&Word| format!("{} {}", word.name, short.form);
            let long: Vec<String> = short.words.iter().map(long).collect();
            forms.push((short.form, long.join(" or ")));
        }
    }
    forms
}

/// The words with what follows them, and what they match; those that say the same in one row.
fn words() -> Vec<(String, &'static str)> {
    let mut rows: Vec<(String, &Word)> = Vec::new();
    for word in WORDS {
        match rows.iter_mut().find(|(_, it)| it.says == word.says) {
            Some((names, it)) if it.operand.is_empty() => *names += &format!(" {}", word.name),
            Some(_) => {}
            None if word.operand.is_empty() => rows.push((word.name.to_owned(), word)),
            None => rows.push((format!("{} {}", word.name, word.operand), word)),
        }
    }
    rows.into_iter()
        .map(|(names, it)| (names, it.says))
        .collect()
}

#[derive(Default)]
struct Help {
    text: String,
}

impl Help {
    fn title(&mut self, title: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(title);
    }

    /// A form, and what it means behind it; below it where the form is too wide.
    fn row(&mut self, form: &str, says: &str, widest: usize) {
        let mut form = form;
        if form.len() > widest {
            self.paragraph("", form.split(' '));
            form = "";
        }
        self.paragraph(&format!("{form:widest$}  "), says.split(' '));
    }

    /// Words behind a beginning, in as many lines as they need.
    fn paragraph<'a>(&mut self, beginning: &str, words: impl Iterator<Item = &'a str>) {
        let mut line = format!("  {beginning}");
        let indent = line.len();
        for word in words {
            if line.len() + 1 + word.len() > COLUMNS {
                self.line(line.trim_end());
                line = " ".repeat(indent);
            }
            if line.len() > indent {
                line.push(' ');
            }
            line += word;
        }
        self.line(&line);
    }

    fn line(&mut self, line: &str) {
        self.text += line;
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::filter::Filter;

    #[test]
    fn every_word_and_state_is_in_it_and_no_line_is_too_long() {
        let help = help();
        let words: Vec<&str> = help.split_whitespace().collect();
        for word in WORDS {
            // Of two words that mean the same, one is enough.
            assert!(words.contains(&word.shown), "{}", word.name);
        }
        for state in states() {
            assert!(words.contains(&state), "{state}");
        }
        for line in help.lines() {
            assert!(line.len() <= COLUMNS, "{line}");
        }
        assert!(help.ends_with('\n') && !help.contains("\n\n\n"), "{help}");
    }

    #[test]
    fn examples_are_expressions() {
        for (example, _) in EXAMPLES {
            let read = Filter::parse(example, &|_| Some(33));
            assert!(read.is_ok(), "{example}: {read:?}");
        }
        for (names, _) in NAMES {
            for name in names.split(", ") {
                let read = Filter::parse(&format!("process {name}"), &|_| None);
                assert!(read.is_ok(), "{name}: {read:?}");
            }
        }
    }
}
