//! JSON that is safe to print: a terminal interprets no character in it.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{
    Serializer,
    ser::{CompactFormatter, Formatter, PrettyFormatter},
};

use crate::sink::text::is_hostile;

/// `value` as one line without a line feed. Characters that a terminal could interpret are `\u`
/// escapes, so that `flow events --json` may be read as well as parsed.
pub fn to_line(value: &impl Serialize) -> String {
    text(value, CompactFormatter)
}

/// Appends the same to a buffer.
pub fn write_line(buffer: &mut Vec<u8>, value: &impl Serialize) {
    write(buffer, value, CompactFormatter);
}

/// `value` over many indented lines, as safe.
pub fn to_pretty(value: &impl Serialize) -> String {
    text(value, PrettyFormatter::new())
}

fn text(value: &impl Serialize, inner: impl Formatter) -> String {
    let mut bytes = Vec::with_capacity(512);
    write(&mut bytes, value, inner);
    String::from_utf8(bytes).expect("the serializer writes text")
}

fn write(memory: impl Write, value: &impl Serialize, inner: impl Formatter) {
    value
        .serialize(&mut Serializer::with_formatter(memory, Visible { inner }))
        .expect("records have text for keys, and memory takes every byte");
}

/// Escapes hostile characters that JSON allows in strings; else as `inner`.
struct Visible<F> {
    inner: F,
}

impl<F: Formatter> Formatter for Visible<F> {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        // Nearly all text is plain, which this finds out a good deal faster.
        if fragment.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut written = 0;
        for (at, character) in fragment.char_indices() {
            if !is_hostile(character) {
                continue;
            }
            writer.write_all(&fragment.as_bytes()[written..at])?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            written = at + character.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[written..])
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.inner.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.inner.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.inner.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.inner.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.inner.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.inner.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.inner.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.inner.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.inner.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_characters_are_escaped_and_read_back() {
        assert_eq!(
            to_line(&"a\u{9b}2J\u{202e}é\u{e0041}\x1b\n\""),
            r#""a\u009b2J\u202eé\udb40\udc41\u001b\n\"""#
        );
        assert_eq!(to_pretty(&[1]), "[\n  1\n]");
    }

    proptest! {
        #[test]
        fn any_text_is_one_line_and_round_trips(text in any::<String>()) {
            let line = to_line(&[&text]);
            prop_assert!(!line.chars().any(is_hostile));
            let read: Vec<String> = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&read[0], &text);
        }
    }
}
