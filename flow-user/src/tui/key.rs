//! Keys and the mouse as the reducer receives them, and the notation of keys.

use std::{fmt, str::FromStr};

/// A key with its modifiers.
///
/// Written as `q`, `G`, `ctrl-c`, `PgUp`, `F1`, in the help and in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub code: Code,
    pub ctrl: bool,
    pub alt: bool,
}

/// A key without modifiers. The case of a letter includes Shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    Char(char),
    F(u8),
    Enter,
    Esc,
    Tab,
    BackTab,
    Backspace,
    Delete,
    Up,
    Down,
    ShiftUp,
    ShiftDown,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
}

/// Keys with a name, and that name.
const NAMES: [(Code, &str); 17] = [
    (Code::Char(' '), "Space"),
    (Code::Enter, "Enter"),
    (Code::Esc, "Esc"),
    (Code::Tab, "Tab"),
    (Code::BackTab, "shift-Tab"),
    (Code::Backspace, "Backspace"),
    (Code::Delete, "Del"),
    (Code::Up, "Up"),
    (Code::Down, "Down"),
    (Code::ShiftUp, "shift-Up"),
    (Code::ShiftDown, "shift-Down"),
    (Code::Left, "Left"),
    (Code::Right, "Right"),
    (Code::PageUp, "PgUp"),
    (Code::PageDown, "PgDn"),
    (Code::Home, "Home"),
    (Code::End, "End"),
];

/// A name that configurations may still have, and that of now.
const FORMER_NAME: (&str, &str) = ("BackTab", "shift-Tab");

/// Input of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Key(Key),
    Mouse(Mouse),
    /// Text that was pasted.
    Paste(String),
}

/// A mouse action and its position, from the upper left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mouse {
    pub action: MouseAction,
    pub column: u16,
    pub row: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MouseAction {
    /// The left button went down.
    Click,
    WheelUp,
    WheelDown,
}

impl Key {
    /// A key without modifiers.
    pub const fn plain(code: Code) -> Self {
        Self {
            code,
            ctrl: false,
            alt: false,
        }
    }

    /// A character with Ctrl.
    pub const fn ctrl(character: char) -> Self {
        Self {
            code: Code::Char(character),
            ctrl: true,
            alt: false,
        }
    }

    /// The character that it types, if it types one.
    pub const fn typed(self) -> Option<char> {
        match self.code {
            Code::Char(character) if !self.ctrl && !self.alt => Some(character),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ctrl {
            f.write_str("ctrl-")?;
        }
        if self.alt {
            f.write_str("alt-")?;
        }
        if let Some((_, name)) = NAMES.iter().find(|(code, _)| *code == self.code) {
            return f.write_str(name);
        }
        match self.code {
            Code::Char(character) => write!(f, "{character}"),
            Code::F(number) => write!(f, "F{number}"),
            _ => Ok(()),
        }
    }
}

/// A key there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no key `{0}`; write keys as q, G, ctrl-c, alt-x, F1, Space, Enter, Tab, PgUp, Home"
)]
pub struct UnknownKey(String);

impl FromStr for Key {
    type Err = UnknownKey;

    fn from_str(text: &str) -> Result<Self, UnknownKey> {
        let unknown = || UnknownKey(text.escape_debug().to_string());
        let (ctrl, rest) = after(text, "ctrl-");
        let (alt, rest) = after(rest, "alt-");
        let rest = match rest.eq_ignore_ascii_case(FORMER_NAME.0) {
            true => FORMER_NAME.1,
            false => rest,
        };
        let named = NAMES
            .iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(rest));
        let mut characters = rest.chars();
        let code = match (named, characters.next(), characters.as_str()) {
            (Some((code, _)), _, _) => *code,
            (None, Some(character), "") => Code::Char(character),
            (None, Some('F' | 'f'), number) => {
                let number = number.parse().map_err(|_| unknown())?;
                if !(1..=24).contains(&number) {
                    return Err(unknown());
                }
                Code::F(number)
            }
            _ => return Err(unknown()),
        };
        Ok(Self { code, ctrl, alt })
    }
}

/// `text` without `prefix`, and whether it had it.
fn after<'a>(text: &'a str, prefix: &str) -> (bool, &'a str) {
    match text.get(..prefix.len()) {
        Some(head) if head.eq_ignore_ascii_case(prefix) => (true, &text[prefix.len()..]),
        _ => (false, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        for text in [
            "q",
            "G",
            "?",
            "-",
            "ctrl-c",
            "alt-x",
            "F12",
            "Space",
            "PgUp",
            "shift-Tab",
            "shift-Up",
        ] {
            let key: Key = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
        }
        assert_eq!("CTRL-pgup".parse::<Key>().unwrap().to_string(), "ctrl-PgUp");
        assert_eq!("BackTab".parse(), Ok(Key::plain(Code::BackTab)));
        for bad in ["", "F0", "F99", "Hyper", "ctrl-", "é́"] {
            assert!(bad.parse::<Key>().is_err(), "{bad}");
        }
    }
}
