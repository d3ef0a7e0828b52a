//! Text from elsewhere, for a terminal and for JSON.

use crate::sink::{
    json::to_line,
    text::{cut, escape, is_hostile, width},
};

/// A terminal only shows it, in the room it has; JSON gives it back as it was.
pub fn run(bytes: &[u8]) {
    let (room, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let room = usize::from(*room);
    let text = String::from_utf8_lossy(bytes);
    let shown = escape(&text);
    assert!(!shown.chars().any(is_hostile));
    assert_eq!(escape(&shown), shown, "escaped twice is escaped once");
    let short = cut(&shown, room);
    assert!(width(&short) <= room && !short.chars().any(is_hostile));
    let line = to_line(&[&text]);
    assert!(!line.chars().any(is_hostile), "{line}");
    let read: [String; 1] = serde_json::from_str(&line).expect("a line is JSON");
    assert_eq!(read[0], text);
}
