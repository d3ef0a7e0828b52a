//! Roles of text, and the colours of each.
//!
//! A colour only repeats what a word, a sign or a position says. The first eight colours are the
//! terminal's own, so they suit its background and exist in every terminal. Popular palettes have
//! greys in the place of the bright ones (8 to 15), one of which is the background. So greys and
//! bright colours come from the 256 colours, which palettes leave alone. Where there are none, grey
//! text has the attribute dim, and bright colours are the terminal's.

use std::fmt;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
};
use strum::IntoEnumIterator as _;

/// The role of a piece of text, independent of its style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Plain,
    /// Names of things, totals.
    Strong,
    /// What ended, explanations, graphs in rows.
    Dim,
    /// Zeros, and the signs of rows.
    Faint,
    /// The one accent: headers, keys, the selected tab.
    Accent,
    /// Lost, unexplained, refused.
    Alarm,
    /// Received and sent, in graphs.
    Rx,
    Tx,
    /// The header of a column, and of those that are sorted by.
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

/// How many colours the terminal has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    Sixteen,
    #[default]
    Full,
}

impl Depth {
    /// Parts of `TERM` of terminals with 256 colours or more.
    const TERMS: [&str; 7] = [
        "256color",
        "direct",
        "kitty",
        "alacritty",
        "foot",
        "ghostty",
        "wezterm",
    ];

    /// The depth that the environment declares, by `COLORTERM` and `TERM`.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let term = variable("TERM").unwrap_or_default();
        let has_more = variable("COLORTERM").is_some_and(|it| !it.is_empty())
            || Self::TERMS.iter().any(|part| term.contains(part));
        if has_more { Self::Full } else { Self::Sixteen }
    }

    /// Replaces the greys and the bright colours of a page if the terminal does not have them.
    pub(super) fn reduce(self, buffer: &mut Buffer) {
        if self == Self::Full {
            return;
        }
        for cell in &mut buffer.content {
            let Color::Indexed(index) = cell.fg else {
                continue;
            };
            match BRIGHT.iter().find(|(bright, _)| *bright == index) {
                Some(&(_, own)) => cell.fg = own,
                None => {
                    cell.fg = Color::Reset;
                    cell.modifier.insert(Modifier::DIM);
                }
            }
        }
    }
}

/// Bright colours among the 256, and the terminal's own in their place.
const BRIGHT: [(u8, Color); 6] = [
    (YELLOW, Color::LightYellow),
    (RED, Color::LightRed),
    (GREEN, Color::LightGreen),
    (MAGENTA, Color::LightMagenta),
    (BLUE, Color::LightBlue),
    (ORANGE, Color::Yellow),
];
const YELLOW: u8 = 226;
const RED: u8 = 210;
const GREEN: u8 = 46;
const MAGENTA: u8 = 213;
const BLUE: u8 = 75;
const ORANGE: u8 = 214;

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
                Color::Indexed(YELLOW),
                Color::Indexed(RED),
                Color::Indexed(GREEN),
                Color::Indexed(MAGENTA),
            ),
            // Blue and yellow differ for most colour-blind people.
            Self::ColourBlind => (
                Color::Indexed(BLUE),
                Color::Indexed(YELLOW),
                Color::Indexed(BLUE),
                Color::Indexed(ORANGE),
            ),
            Self::Mono => return mono(role),
        };
        match role {
            Role::Plain | Role::Strong => plain,
            Role::Dim | Role::Faint | Role::Rule if self == Self::Contrast => plain,
            Role::Dim => plain.fg(Color::Indexed(self.greys().0)),
            Role::Faint | Role::Rule => plain.fg(Color::Indexed(self.greys().1)),
            Role::Accent => plain.fg(accent),
            Role::Alarm => plain.fg(alarm).add_modifier(Modifier::BOLD),
            Role::Rx => plain.fg(rx),
            Role::Tx => plain.fg(tx),
            Role::Header => plain.fg(accent),
            Role::Sorted => plain
                .fg(accent)
                .add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            Role::Chosen => plain.add_modifier(Modifier::REVERSED),
            Role::Tab => plain
                .fg(accent)
                .add_modifier(Modifier::BOLD | Modifier::REVERSED),
            Role::Mark => plain
                .fg(alarm)
                .add_modifier(Modifier::BOLD | Modifier::REVERSED),
        }
    }

    /// Its two greys: of text that is to be read, and a fainter one.
    const fn greys(self) -> (u8, u8) {
        match self {
            Self::Light => (242, 245),
            _ => (245, 243),
        }
    }

    /// Marks an area as selected. Reversed, a grey text is a dark hole: it gets the colour of plain
    /// text, and so do graphs; only an alarm keeps its own.
    pub(super) fn select(self, area: Rect, buffer: &mut Buffer) {
        let alarm = self.style(Role::Alarm).fg;
        for position in area.intersection(buffer.area).positions() {
            let cell = &mut buffer[position];
            if Some(cell.fg) != alarm {
                cell.fg = Color::Reset;
            }
            cell.modifier.remove(Modifier::DIM);
            cell.set_style(self.style(Role::Chosen));
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
        Role::Dim | Role::Faint | Role::Rule => plain.add_modifier(Modifier::DIM),
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

    /// Backgrounds of popular palettes: Solarized, VS Code, xterm, GNOME (of now, and Tango).
    const DARK: [u32; 5] = [0x00_2b36, 0x1e_1e1e, 0x00_0000, 0x17_1421, 0x2e_3436];
    const LIGHT: [u32; 4] = [0xfd_f6e3, 0xff_ffff, 0xff_ffff, 0xee_eeec];

    /// The luminance of a colour by WCAG 2.
    fn luminance(colour: u32) -> f64 {
        let channel = |shift: u32| {
            let part = f64::from(colour >> shift & 0xff) / 255.0;
            match part <= 0.040_45 {
                true => part / 12.92,
                false => ((part + 0.055) / 1.055).powf(2.4),
            }
        };
        0.2126 * channel(16) + 0.7152 * channel(8) + 0.0722 * channel(0)
    }

    fn contrast(one: u32, other: u32) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    /// One of the 256 colours, as every terminal has it: of the cube, or of the ramp of greys.
    fn rgb(index: u8) -> u32 {
        let index = u32::from(index);
        if index >= 232 {
            return (8 + 10 * (index - 232)) * 0x01_0101;
        }
        assert!(index >= 16, "a colour of the palette");
        let level = |step: u32| [0, 95, 135, 175, 215, 255][(step % 6) as usize];
        let cube = index - 16;
        level(cube / 36) << 16 | level(cube / 6) << 8 | level(cube)
    }

    #[test]
    fn greys_can_be_read_on_popular_palettes() {
        for theme in Theme::iter() {
            let backgrounds = match theme {
                Theme::Light => &LIGHT[..],
                _ => &DARK[..],
            };
            for (role, least) in [(Role::Dim, 3.5), (Role::Faint, 2.7), (Role::Rule, 2.7)] {
                let Some(colour) = theme.style(role).fg else {
                    continue;
                };
                let Color::Indexed(index) = colour else {
                    panic!("{theme} {role:?}: a colour of the palette: {colour:?}");
                };
                for background in backgrounds {
                    let found = contrast(rgb(index), *background);
                    assert!(
                        found >= least,
                        "{theme} {role:?} {background:x}: {found:.2}"
                    );
                }
            }
        }
        // Black on white has the most there can be.
        assert!((contrast(0, 0xff_ffff) - 21.0).abs() < 0.01);
    }

    #[test]
    fn bright_colours_can_be_read_on_popular_palettes() {
        for theme in [Theme::Contrast, Theme::ColourBlind] {
            for role in [Role::Accent, Role::Alarm, Role::Rx, Role::Tx] {
                let Some(Color::Indexed(index)) = theme.style(role).fg else {
                    panic!("{theme} {role:?}: a colour of the palette");
                };
                for background in DARK {
                    let found = contrast(rgb(index), background);
                    assert!(found >= 4.5, "{theme} {role:?} {background:x}: {found:.2}");
                }
                let in_place = BRIGHT.iter().any(|(bright, _)| *bright == index);
                assert!(in_place, "{theme} {role:?}: no colour for sixteen");
            }
        }
    }

    #[test]
    fn without_256_colours_grey_is_dim() {
        let of = |term: &str, colorterm: Option<&str>| {
            Depth::of(|name| match name {
                "TERM" => Some(term.to_owned()),
                "COLORTERM" => colorterm.map(str::to_owned),
                _ => None,
            })
        };
        assert_eq!(of("xterm-256color", None), Depth::Full);
        assert_eq!(of("xterm", Some("truecolor")), Depth::Full);
        assert_eq!(of("xterm", Some("")), Depth::Sixteen);
        assert_eq!(of("linux", None), Depth::Sixteen);
        let area = Rect::new(0, 0, 3, 1);
        let mut buffer = Buffer::empty(area);
        buffer.set_string(0, 0, "a", Theme::Dark.style(Role::Dim));
        buffer.set_string(1, 0, "b", Theme::Dark.style(Role::Rx));
        buffer.set_string(2, 0, "c", Theme::Contrast.style(Role::Rx));
        let full = buffer.clone();
        Depth::Full.reduce(&mut buffer);
        assert_eq!(buffer, full);
        Depth::Sixteen.reduce(&mut buffer);
        let looks = |x: u16| (buffer[(x, 0)].fg, buffer[(x, 0)].modifier);
        assert_eq!(looks(0), (Color::Reset, Modifier::DIM));
        assert_eq!(looks(1), (Color::Green, Modifier::empty()));
        assert_eq!(looks(2), (Color::LightGreen, Modifier::empty()));
    }

    #[test]
    fn a_selected_row_has_no_grey() {
        for theme in Theme::iter() {
            let area = Rect::new(0, 0, 3, 1);
            let mut buffer = Buffer::empty(area);
            buffer.set_string(0, 0, "a", theme.style(Role::Dim));
            buffer.set_string(1, 0, "b", theme.style(Role::Alarm));
            buffer.set_string(2, 0, "c", theme.style(Role::Strong));
            theme.select(area, &mut buffer);
            let reversed = |x: u16| buffer[(x, 0)].modifier.contains(Modifier::REVERSED);
            assert!((0..3).all(reversed), "{theme}");
            assert_eq!(buffer[(0, 0)].fg, Color::Reset, "{theme}");
            assert!(!buffer[(0, 0)].modifier.contains(Modifier::DIM), "{theme}");
            let alarm = theme.style(Role::Alarm).fg.unwrap_or(Color::Reset);
            assert_eq!(buffer[(1, 0)].fg, alarm, "{theme}");
            assert!(buffer[(2, 0)].modifier.contains(Modifier::BOLD), "{theme}");
        }
    }

    #[test]
    fn without_colours_there_are_none() {
        for role in [Role::Alarm, Role::Rx, Role::Tab, Role::Chosen, Role::Dim] {
            let style = Theme::Mono.style(role);
            assert_eq!((style.fg, style.bg), (None, None), "{role:?}");
        }
    }
}
