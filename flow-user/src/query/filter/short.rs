//! What a bare word is that is none of the language: an address, a network or a number; else text.

use std::net::IpAddr;

use super::{
    lexer::{is_bare, operator, quote},
    operand::{address, endpoint, port_range},
    words::{HOST, NET, PID, PORT, Word},
};

/// What a bare word that is none of the language is short for: the first row that reads it.
pub(super) static SHORT: [Short; 7] = [
    Short {
        form: "ADDRESS",
        words: &[HOST],
        reads: |text| address(text).is_some(),
    },
    Short {
        form: "ADDRESS:PORT",
        words: &[HOST],
        reads: |text| endpoint(text).is_some(),
    },
    Short {
        form: "CIDR",
        words: &[NET],
        reads: |text| {
            let parts = text.split_once('/');
            parts.is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok())
        },
    },
    Short {
        form: "N",
        words: &[PORT, PID],
        reads: |text| is_number(text) && text.parse::<u16>().is_ok(),
    },
    // Too large for a port.
    Short {
        form: "N",
        words: &[PID],
        reads: |text| is_number(text) && text.parse::<u32>().is_ok(),
    },
    Short {
        form: ":N",
        words: &[PORT],
        reads: |text| text.starts_with(':') && port_range(text).is_some(),
    },
    Short {
        form: "A-B",
        words: &[PORT],
        reads: |text| {
            let parts = text.split_once('-');
            parts.is_some_and(|(first, last)| is_number(first) && is_number(last))
                && port_range(text).is_some()
        },
    },
];

/// What a bare word is short for.
#[derive(Debug)]
pub(super) struct Short {
    /// What it looks like, for the help.
    pub form: &'static str,
    /// It is the operand of any of these.
    pub words: &'static [&'static Word],
    reads: fn(&str) -> bool,
}

impl Short {
    /// What `text` is short for, if it is no text.
    pub fn of(text: &str) -> Option<&'static Self> {
        SHORT.iter().find(|short| (short.reads)(text))
    }
}

/// Which of `words` was meant by a word that differs from it in one letter, or in the order of two.
pub(super) fn slip(written: &str, words: &[&'static Word]) -> Option<&'static Word> {
    // A shorter one could be anything.
    if written.len() < 4 {
        return None;
    }
    let written = written.to_lowercase();
    let differs_little = |word: &&&Word| strsim::osa_distance(&written, word.name) == 1;
    words.iter().find(differs_little).copied()
}

/// How `text` is written to be searched for: quoted where it would be something else.
pub(super) fn written(text: &str) -> String {
    let is_text = is_bare(text)
        && !text.contains(['*', '?'])
        && Word::of(text).is_none()
        && Short::of(text).is_none()
        && operator(&text.to_ascii_lowercase()).is_none();
    match is_text {
        true => text.to_owned(),
        false => quote(text),
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|it| it.is_ascii_digit())
}
