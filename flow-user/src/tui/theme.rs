//! Roles of text, and the colours of each.
//!
//! A colour only repeats what a word, a sign or a position says. The first sixteen colours are the
//! terminal's own, so they suit its background and exist in every terminal.

use std::fmt;

use ratatui::style::{Color, Modifier, Style};
use strum::IntoEnumIterator as _;

/// The role of a piece of text, independent of its style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Plain,
    /// Names of things, totals.
    Strong,
    /// Zero, ghosts, explanations.
    Dim,
    /// The one accent: headers, keys, the selected tab.
    Accent,
    /// Lost, unexplained, refused.
    Alarm,
    /// Received and sent, in graphs.
    Rx,
    Tx,
    /// The header of a column, and of the one that is sorted by.
    Header,
    Sorted,
    /// The selected row.
    Chosen,
    /// The tab of the view that is shown.
    Tab,
    /// Rules and frames.
    Rule,
    /// Modes of the screen: paused, filtered.
    Mark,
}

/// A set of colours.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    strum::EnumIter,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[strum(serialize_all = "kebab-case", const_into_str)]
#[strum(parse_err_ty = UnknownTheme, parse_err_fn = UnknownTheme::of)]
pub enum Theme {
    #[default]
    Dark,
    Light,
    Contrast,
    ColourBlind,
    Mono,
}

impl Theme {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        self.into_str()
    }

    /// The next one; cyclic.
    pub fn next(self) -> Self {
        let mut rest = Self::iter().skip_while(|theme| *theme != self);
        rest.nth(1).unwrap_or_default()
    }

    /// The style of a role.
    pub fn style(self, role: Role) -> Style {
        let plain = Style::new();
        // Common to all themes.
        match role {
            Role::Plain => return plain,
            Role::Strong => return plain.add_modifier(Modifier::BOLD),
            _ => {}
        }
        let (accent, alarm, rx, tx) = match self {
            Self::Dark => (Color::Cyan, Color::LightRed, Color::Green, Color::Magenta),
            Self::Light => (Color::Blue, Color::Red, Color::Green, Color::Magenta),
            Self::Contrast => (
                Color::LightYellow,
                Color::LightRed,
                Color::LightGreen,
                Color::LightMagenta,
            ),
            // Blue and yellow differ for most colour-blind people.
            Self::ColourBlind => (
                Color::LightBlue,
                Color::LightYellow,
                Color::LightBlue,
                Color::Yellow,
            ),
            Self::Mono => return mono(role),
        };
        match role {
            Role::Plain | Role::Strong => plain,
            Role::Dim | Role::Rule if self == Self::Contrast => plain,
            Role::Dim | Role::Rule => plain.fg(Color::DarkGray),
            Role::Accent => plain.fg(accent),
            Role::Alarm => plain.fg(alarm).add_modifier(Modifier::BOLD),
            Role::Rx => plain.fg(rx),
            Role::Tx => plain.fg(tx),
            Role::Header => plain.fg(accent),
            Role::Sorted => plain.fg(accent).add_modifier(Modifier::BOLD),
            Role::Chosen => plain.add_modifier(Modifier::REVERSED),
            Role::Tab => plain
                .fg(accent)
                .add_modifier(Modifier::BOLD | Modifier::REVERSED),
            Role::Mark => plain
                .fg(alarm)
                .add_modifier(Modifier::BOLD | Modifier::REVERSED),
        }
    }
}

/// Without colours: bold, dim, underlined, reversed.
fn mono(role: Role) -> Style {
    let plain = Style::new();
    match role {
        Role::Plain | Role::Accent | Role::Rx | Role::Tx => plain,
        Role::Strong | Role::Alarm | Role::Header => plain.add_modifier(Modifier::BOLD),
        Role::Sorted => plain.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
        Role::Dim | Role::Rule => plain.add_modifier(Modifier::DIM),
        Role::Chosen => plain.add_modifier(Modifier::REVERSED),
        Role::Tab | Role::Mark => plain.add_modifier(Modifier::BOLD | Modifier::REVERSED),
    }
}

impl fmt::Display for Theme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A theme there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no theme `{0}`; choose dark, light, contrast, colour-blind or mono")]
pub struct UnknownTheme(String);

impl UnknownTheme {
    fn of(name: &str) -> Self {
        Self(name.escape_debug().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_theme_is_found_by_its_name_and_by_going_round() {
        let mut theme = Theme::default();
        for _ in Theme::iter() {
            assert_eq!(theme.name().parse(), Ok(theme));
            theme = theme.next();
        }
        assert_eq!(theme, Theme::default());
        assert!("pink".parse::<Theme>().is_err());
    }

    #[test]
    fn without_colours_there_are_none() {
        for role in [Role::Alarm, Role::Rx, Role::Tab, Role::Chosen, Role::Dim] {
            let style = Theme::Mono.style(role);
            assert_eq!((style.fg, style.bg), (None, None), "{role:?}");
        }
    }
}
