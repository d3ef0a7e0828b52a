//! Completion of the word at the cursor.
//!
//! The parser reports what can follow; names, numbers and addresses come from the rows that are
//! shown.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    lexer::{ends_word, last_word, quote},
    parser::can_follow,
    pattern::Pattern,
    services,
    short::written,
    words::{Candidates, Expected, PROCESS, Word},
};
use crate::model::snapshot::Snapshot;

/// Names, numbers or addresses to choose from at most.
const MOST: usize = 100;

/// Completions of the word before the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Where the word begins, in bytes.
    pub start: usize,
    /// As they are to be written, quoted where the language needs it.
    pub candidates: Vec<String>,
}

/// Completions at `cursor`, a place in bytes, that begin as the word there does, in any case.
/// Within a word there are none.
pub fn complete(text: &str, cursor: usize, snapshot: &Snapshot) -> Completion {
    let Some((start, word)) = word_at(text, cursor) else {
        return Completion::default();
    };
    let mut candidates: Vec<String> = Vec::new();
    for expected in following(&text[..start]) {
        for it in expected.words().into_iter().filter(|it| fits(word, it)) {
            // After a protocol an end is one, and begins what stands beside it.
            if !candidates.iter().any(|candidate| candidate == it) {
                candidates.push(it.to_owned());
            }
        }
        candidates.extend(match expected {
            Expected::Operand(of) => operands(of, word, snapshot),
            Expected::Primitive if !word.is_empty() => names(PROCESS, word, snapshot, written),
            _ => Vec::new(),
        });
    }
    Completion { start, candidates }
}

/// The word that ends at `cursor`, and where it begins; it may have no letter. `None` within a
/// word.
pub(super) fn word_at(text: &str, cursor: usize) -> Option<(usize, &str)> {
    let halves = text.split_at_checked(cursor);
    let (before, _) = halves.filter(|(_, after)| ends_word(after))?;
    let start = last_word(before);
    Some((start, &before[start..]))
}

/// Whether `word` is the beginning of a word of the language that can come after `before`, and
/// none itself.
pub(super) fn begins(before: &str, word: &str) -> bool {
    let longer = |it: &str| it.len() > word.len() && fits(word, it);
    let of_language = |expected: Expected| expected.words().into_iter().any(longer);
    !word.is_empty() && Word::of(word).is_none() && following(before).into_iter().any(of_language)
}

/// What can follow `before`; last what stands beside it without `and`.
fn following(before: &str) -> Vec<Expected> {
    let mut following = can_follow(before);
    following.sort_by_key(|it| *it == Expected::Primitive);
    following
}

/// What a word may take, of what is shown.
fn operands(of: &Word, word: &str, snapshot: &Snapshot) -> Vec<String> {
    match of.candidates {
        Candidates::Nothing => Vec::new(),
        Candidates::Names(_) => names(of, word, snapshot, exact),
        Candidates::Users => named(word, |add| users(snapshot, add)),
        Candidates::Numbers(of) => first_of(of(snapshot), word),
        Candidates::Ports(of) => ports(of(snapshot), word),
        Candidates::Addresses(of) => first_of(of(snapshot), word),
    }
}

fn names(of: &Word, word: &str, snapshot: &Snapshot, write: Write) -> Vec<String> {
    match of.candidates {
        Candidates::Names(each) => named(word, |add| each(snapshot, &mut |it| add(it, write))),
        _ => Vec::new(),
    }
}

/// The first of the ports that begin as `word` does; where that is no number, their services.
fn ports(shown: BTreeSet<u32>, word: &str) -> Vec<String> {
    if !word.starts_with(char::is_alphabetic) {
        return first_of(shown, word);
    }
    let fitting = services::all().filter(|(name, _)| fits(word, name));
    let seen = fitting.filter(|(_, port)| shown.contains(&u32::from(*port)));
    let names: BTreeSet<&str> = seen.map(|(name, _)| name).collect();
    names.into_iter().take(MOST).map(str::to_owned).collect()
}

/// How a name is written.
type Write = fn(&str) -> String;

/// The first of the names that `each` adds, those that begin as `word` does, as they are written.
fn named(word: &str, each: impl Fn(&mut dyn FnMut(&str, Write))) -> Vec<String> {
    let word = word.strip_prefix('"').unwrap_or(word);
    let mut found: BTreeMap<String, Write> = BTreeMap::new();
    each(&mut |name, write| {
        if !name.is_empty() && fits(word, name) && !found.contains_key(name) {
            found.insert(name.to_owned(), write);
        }
    });
    let first = found.into_iter().take(MOST);
    first.map(|(name, write)| write(&name)).collect()
}

/// Adds the users of what is shown; those without a name by number.
fn users(snapshot: &Snapshot, add: &mut dyn FnMut(&str, Write)) {
    let users = snapshot.processes.iter();
    let users: BTreeSet<_> = users.map(|it| (it.uid, it.user.as_deref())).collect();
    for (uid, name) in users {
        match (name, uid) {
            (Some(name), _) => add(name, user),
            (None, Some(uid)) => add(&uid.to_string(), str::to_owned),
            (None, None) => {}
        }
    }
}

/// The first of those that begin as `word` does.
fn first_of<T: ToString>(values: BTreeSet<T>, word: &str) -> Vec<String> {
    let texts = values.iter().map(T::to_string);
    texts.filter(|it| fits(word, it)).take(MOST).collect()
}

fn exact(name: &str) -> String {
    Pattern::Exact(name.to_owned()).to_string()
}

/// A user's name, which in quotes is no number.
fn user(name: &str) -> String {
    match name.parse::<u32>() {
        Ok(_) => quote(name),
        Err(_) => exact(name),
    }
}

/// Whether `name` begins as `word` does.
fn fits(word: &str, name: &str) -> bool {
    let mut characters = name.chars().flat_map(char::to_lowercase);
    let mut wanted = word.chars().flat_map(char::to_lowercase);
    wanted.all(|it| characters.next() == Some(it))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::snapshot::Process,
        query::{
            filter::{Filter, words::WORDS},
            fixture,
        },
    };

    const USERS: [(u32, Option<&str>); 3] =
        [(999, None), (1000, Some("deploy")), (1001, Some("33"))];

    fn snapshot(exes: &[&str]) -> Snapshot {
        let processes = exes.iter().zip(1..).zip(USERS.iter().cycle().skip(1)).map(
            |((exe, pid), (uid, user))| {
                let mut process = Process::clone(&fixture::process(pid, exe, &[]));
                process.uid = Some(*uid);
                process.user = user.map(Into::into);
                Arc::new(process)
            },
        );
        let interfaces = ["lo", "eth0"].map(|name| fixture::interface(name, 0, 0));
        let process = fixture::process(70, "/bin/nginx", &[]);
        let flows = [
            ("192.0.2.1:80", None),
            ("[::ffff:192.0.2.1]:443", Some("[2001:db8::7]:51000")),
            ("192.0.2.1:443", Some("198.51.100.9:443")),
            ("0.0.0.0:8080", None),
            ("0.0.0.0:0", Some("203.0.113.5:53")),
        ];
        let flows = (1..)
            .zip(flows)
            .map(|(cookie, (local, remote))| fixture::flow(cookie, &process, local, remote));
        fixture::snapshot(processes.collect(), flows.collect(), interfaces.into())
    }

    /// With the cursor at the `|`.
    fn at(text: &str) -> (usize, Vec<String>) {
        let shown = snapshot(&["/bin/curl", "/bin/Chronyd", "/x/a b", "/bin/curl"]);
        let cursor = text.find('|').unwrap();
        let text = text.replacen('|', "", 1);
        let Completion { start, candidates } = complete(&text, cursor, &shown);
        (start, candidates)
    }

    fn candidates(text: &str) -> String {
        at(text).1.join(" ")
    }

    #[test]
    fn words_of_the_language() {
        let every = at("|").1;
        assert!(
            WORDS
                .iter()
                .all(|word| every.iter().any(|it| it == word.name))
        );
        assert_eq!(
            at("tcp and p|"),
            (
                8,
                ["process", "port", "pid", "portrange", "packet"]
                    .map(str::to_owned)
                    .into()
            )
        );
        assert_eq!(candidates("not (UD|"), "udp udplite");
        assert_eq!(candidates("!in|"), "interface inbound");
        let begins = |text: &str, with: &str| candidates(text).starts_with(with);
        assert!(begins(
            "tcp |",
            "port host net local remote src dst portrange and or process user"
        ));
        assert_eq!(candidates("src |"), "port host net portrange");
        assert!(begins("process x |", "and or process port"));
        assert!(begins("(process x or inbound |", "and or ) process"));
        assert!(begins("curl |", "and or process port"));
        assert_eq!(candidates("curl po|"), "port portrange");
        assert_eq!(candidates("state fin|"), "fin-wait1 fin-wait2");
        assert_eq!(candidates("tcp a| port 80"), "and \"a b\"");
    }

    #[test]
    fn names_of_what_is_shown() {
        assert_eq!(candidates("process c|"), "Chronyd curl");
        assert_eq!(candidates("tcp c|"), "cgroup Chronyd curl");
        assert_eq!(at("tcp and process |").1, ["Chronyd", "\"a b\"", "curl"]);
        assert_eq!(at("process \"a |"), (8, vec!["\"a b\"".to_owned()]));
        assert_eq!(candidates("interface |"), "eth0 lo");
        assert_eq!(candidates("user |"), "\"33\" 999 deploy");
        assert_eq!(
            candidates("cgroup /user.slice/|"),
            "/user.slice/session-44.scope"
        );
    }

    #[test]
    fn numbers_and_addresses_of_what_is_shown() {
        assert_eq!(candidates("pid |"), "1 2 3 4");
        assert_eq!(candidates("port |"), "53 80 443 8080 51000");
        assert_eq!(candidates("tcp dst port 80|"), "80 8080");
        assert_eq!(candidates("port HTTPS|"), "https");
        assert_eq!(candidates("port ss|"), "");
        assert_eq!(
            candidates("host |"),
            "192.0.2.1 198.51.100.9 203.0.113.5 2001:db8::7"
        );
        assert_eq!(candidates("remote host 2001:DB8|"), "2001:db8::7");
        assert_eq!(candidates("src 198|"), "");
    }

    #[test]
    fn nothing_where_nothing_can_come() {
        for text in [
            "pr|ocess",
            "pid 5|",
            "port x|",
            "port 80-|",
            "host a|",
            "net |",
            "process \"a b\"|",
            "state \"es|",
            "\"pro|",
        ] {
            assert_eq!(at(text).1, [""; 0], "{text}");
        }
    }

    #[test]
    fn there_are_not_too_many() {
        let exes: Vec<String> = (0..500).map(|it| format!("/bin/p{it}")).collect();
        let exes: Vec<&str> = exes.iter().map(String::as_str).collect();
        let completion = complete("process ", 8, &snapshot(&exes));
        assert_eq!(completion.candidates.len(), MOST);
        let completion = complete("pid ", 4, &snapshot(&exes));
        assert_eq!(completion.candidates.len(), MOST);
    }

    proptest! {
        #[test]
        fn whatever_its_name_a_process_is_found(name in "[^/]+", before in "(tcp and |cgroup /a\\* and )") {
            prop_assume!(!matches!(&*name, "." | ".."));
            let shown = snapshot(&[&format!("/bin/{name}")]);
            let text = format!("{before}process ");
            let Completion { start, candidates } = complete(&text, text.len(), &shown);
            prop_assert_eq!((start, candidates.len()), (text.len(), 1));
            prop_assert!(!candidates[0].contains(crate::query::hostile::is_hostile));
            let text = format!("process {}", candidates[0]);
            let filter = Filter::parse(&text, &|_| None).unwrap();
            prop_assert_eq!(filter.process_verdict(&shown.processes[0]), Some(true));
        }

        #[test]
        fn what_is_offered_is_no_mistake(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "tcp", "port", "80", "src", "net", "10.0.0.0/8", "and", "or", "not", "(", ")", "i",
                    "process", "/a/", "/a", "\"a", "user", "state", "!", "c", "cgroup", "interface",
                ]),
                0..8,
            ),
            end in "[ /]?",
        ) {
            let text = words.join(" ") + &end;
            let shown = snapshot(&["/bin/curl", "/x/a b", "/x/and"]);
            let Completion { start, candidates } = complete(&text, text.len(), &shown);
            for candidate in candidates {
                let text = format!("{}{candidate}", &text[..start]);
                if let Err(error) = Filter::parse(&text, &|_| Some(0)) {
                    prop_assert_eq!(error.column(), text.chars().count() + 1, "{}", error);
                }
            }
        }

        #[test]
        fn any_text_never_panics(text in any::<String>(), cursor in 0..40_usize) {
            let Completion { start, candidates } = complete(&text, cursor, &snapshot(&[]));
            prop_assert!(candidates.is_empty() || text.is_char_boundary(start) && start <= cursor);
        }
    }
}
