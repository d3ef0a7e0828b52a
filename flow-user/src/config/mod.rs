//! The configuration: the user's preferences, from a file.
//!
//! It is a TOML file at the XDG path. Each invalid part gets a [`Warning`] and is ignored; a file
//! that cannot be used at all is reported by [`Loaded::unusable`], and Flow uses the defaults. The
//! command line overrides the file. A new setting is an entry in `setting.rs`.

mod file;
pub(crate) mod near;
mod place;
mod rate;
mod read;
mod render;
mod save;
mod setting;
#[cfg(test)]
mod tests;
pub mod time;

use std::{collections::HashMap, fmt, time::Duration};

pub use self::{
    file::Unusable, place::Place, render::render, save::SaveError, save::save_columns,
    save::save_settings,
};
use crate::{
    model::UDP_IDLE,
    sink::text::Symbols,
    tui::{Preferences, Theme, views::ViewId},
};

/// Defaults of the sampling interval, and of how long ended rows stay visible.
pub const INTERVAL: Duration = Duration::from_secs(1);
pub const HISTORY_TTL: Duration = Duration::from_secs(60);

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    pub screen: Preferences,
    pub interval: Duration,
    pub history_ttl: Duration,
    /// How long a datagram flow may move nothing before it is over.
    pub udp_idle: Duration,
    /// Whether Flow handles the mouse; otherwise the terminal does, to select text.
    pub mouse: bool,
    /// Symbols that the terminal has; `None` is what suits it.
    pub symbols: Option<Symbols>,
    /// The filter at first, as typed.
    pub filter: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            screen: Preferences::default(),
            interval: INTERVAL,
            history_ttl: HISTORY_TTL,
            udp_idle: UDP_IDLE,
            mouse: true,
            symbols: None,
            filter: String::new(),
        }
    }
}

/// Settings of the command line.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub view: Option<ViewId>,
    /// Within, `None` is `auto`.
    pub theme: Option<Option<Theme>>,
    pub symbols: Option<Option<Symbols>>,
    pub interval: Option<Duration>,
    pub history_ttl: Option<Duration>,
    pub udp_idle: Option<Duration>,
    pub filter: Option<String>,
}

/// The origin of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Default,
    /// The file, in this line.
    File(usize),
    CommandLine,
}

/// An invalid part of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub line: usize,
    pub text: String,
}

/// The configuration in effect, and its origins.
#[derive(Debug, Default)]
pub struct Loaded {
    pub config: Config,
    /// By the name of the setting, with its table: `view`, `columns.flows`. Others have their
    /// defaults.
    origins: HashMap<String, Origin>,
    /// Where the file is or would be; `None` without a home.
    pub place: Option<Place>,
    /// Whether there is a file.
    pub found: bool,
    pub unusable: Option<Unusable>,
    pub warnings: Vec<Warning>,
}

impl Loaded {
    /// Reads the file at this path, as far as it can be used.
    pub fn from(place: Option<Place>) -> Self {
        let Some(place) = place else {
            return Self::default();
        };
        let (mut loaded, found) = match file::read(&place) {
            Ok(None) => (Self::default(), false),
            Ok(Some(text)) => match read::read(&text) {
                Ok(loaded) => (loaded, true),
                Err(error) => (Self::without(error), true),
            },
            Err(error) => (Self::without(error), true),
        };
        loaded.found = found;
        loaded.place = Some(place);
        loaded
    }

    /// The command line overrides the file.
    pub fn override_with(&mut self, overrides: Overrides) {
        let Overrides {
            view,
            theme,
            symbols,
            interval,
            history_ttl,
            udp_idle,
            filter,
        } = overrides;
        let Config { screen, .. } = &mut self.config;
        let mut said = Vec::new();
        if let Some(view) = view {
            screen.view = view;
            said.push(setting::VIEW);
        }
        if let Some(theme) = theme {
            screen.theme = theme;
            said.push(setting::THEME);
        }
        if let Some(symbols) = symbols {
            self.config.symbols = symbols;
            said.push(setting::SYMBOLS);
        }
        if let Some(interval) = interval {
            self.config.interval = interval;
            said.push(setting::INTERVAL);
        }
        if let Some(history_ttl) = history_ttl {
            self.config.history_ttl = history_ttl;
            said.push(setting::HISTORY_TTL);
        }
        if let Some(udp_idle) = udp_idle {
            self.config.udp_idle = udp_idle;
            said.push(setting::UDP_IDLE);
        }
        if let Some(filter) = filter {
            self.config.filter = filter;
            said.push(setting::FILTER);
        }
        let origin = |name: &str| (name.to_owned(), Origin::CommandLine);
        self.origins.extend(said.into_iter().map(origin));
    }

    /// Messages for the start: why the file is ignored, or its invalid parts.
    pub fn messages(&self) -> Vec<String> {
        let Some(place) = &self.place else {
            return Vec::new();
        };
        let unusable = self.unusable.iter().map(|it| format!("{place}: {it}"));
        let warnings = self.warnings.iter().map(|it| format!("{place}: {it}"));
        unusable.chain(warnings).collect()
    }

    fn origin(&self, name: &str) -> Origin {
        self.origins.get(name).copied().unwrap_or_default()
    }

    fn without(error: Unusable) -> Self {
        Self {
            unusable: Some(error),
            ..Self::default()
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(line) => write!(f, "line {line} of the file"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}
