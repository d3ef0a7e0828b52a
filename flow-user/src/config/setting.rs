//! The table of settings: one entry each. Settings by view and by action are in `read.rs`.

use strum::IntoEnumIterator as _;

use super::{
    Config,
    near::{shown, unknown},
    rate, time,
};
use crate::{
    query::{filter::Filter, human::Units},
    sink::text::Symbols,
    tui::{Theme, views::ViewId},
};

pub(super) const VIEW: &str = "view";
pub(super) const THEME: &str = "theme";
pub(super) const SYMBOLS: &str = "symbols";
pub(super) const FILTER: &str = "filter";
pub(super) const INTERVAL: &str = "interval";
pub(super) const HISTORY_TTL: &str = "history-ttl";
pub(super) const UDP_IDLE: &str = "udp-idle";

/// The value that depends on what the terminal can do.
const AUTO: &str = "auto";

/// A setting with one value.
pub(super) struct Setting {
    pub name: &'static str,
    /// Its description, in the output of `flow config`.
    pub meaning: &'static str,
    /// Whether a key of the screen changes it, so that it can be saved from there.
    pub has_key: bool,
    pub value: Kind,
}

/// The kind of its values: how they are read and shown.
pub(super) enum Kind {
    Flag(fn(&mut Config) -> &mut bool),
    Text {
        take: fn(&mut Config, &str) -> Result<(), String>,
        show: fn(&Config) -> String,
    },
}

/// All of them, in the order of output.
pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: VIEW,
        meaning: "First view: processes, flows, remotes, listeners, interfaces, users, cgroups, names or events",
        has_key: true,
        value: Kind::Text {
            take: |config, text| {
                config.screen.view = text
                    .parse()
                    .map_err(|_| unknown("view", text, &ViewId::ALL.map(ViewId::name)))?;
                Ok(())
            },
            show: |config| config.screen.view.name().to_owned(),
        },
    },
    Setting {
        name: THEME,
        meaning: "Colours: dark, light, contrast, colour-blind, mono; auto suits the terminal's background, and is mono where there is no colour",
        has_key: true,
        value: Kind::Text {
            take: |config, text| {
                let names: Vec<&str> = [AUTO]
                    .into_iter()
                    .chain(Theme::iter().map(Theme::name))
                    .collect();
                config.screen.theme = match text {
                    AUTO => None,
                    name => Some(name.parse().map_err(|_| unknown("theme", name, &names))?),
                };
                Ok(())
            },
            show: |config| config.screen.theme.map_or(AUTO, Theme::name).to_owned(),
        },
    },
    Setting {
        name: SYMBOLS,
        meaning: "Symbols that the terminal has: unicode, blocks (no braille), ascii; auto goes by the locale and TERM",
        has_key: false,
        value: Kind::Text {
            take: |config, text| {
                let names: Vec<&str> = [AUTO]
                    .into_iter()
                    .chain(Symbols::iter().map(Symbols::name))
                    .collect();
                config.symbols = match text {
                    AUTO => None,
                    name => Some(name.parse().map_err(|_| unknown("set", name, &names))?),
                };
                Ok(())
            },
            show: |config| config.symbols.map_or(AUTO, Symbols::name).to_owned(),
        },
    },
    Setting {
        name: "units",
        meaning: "Units: bytes, binary, bits or binary-bits",
        has_key: true,
        value: Kind::Text {
            take: |config, text| {
                let names = Units::ALL.map(|(name, _)| name);
                let found = Units::ALL.into_iter().find(|(name, _)| *name == text);
                config.screen.units = found.ok_or_else(|| unknown("unit", text, &names))?.1;
                Ok(())
            },
            show: |config| {
                let found = Units::ALL
                    .into_iter()
                    .find(|it| it.1 == config.screen.units);
                found.map_or("bytes", |(name, _)| name).to_owned()
            },
        },
    },
    Setting {
        name: FILTER,
        meaning: "Show only what matches, such as \"not port 22\"; empty for everything",
        has_key: false,
        value: Kind::Text {
            take: |config, text| {
                // Users are looked up at the start; here any name will do.
                if let Err(error) = Filter::parse(text, &|_| Some(0)) {
                    let error = error.to_string();
                    let reason = error.lines().next().unwrap_or_default();
                    return Err(format!("{reason}, in `{}`", shown(text)));
                }
                config.filter = text.to_owned();
                Ok(())
            },
            show: |config| config.filter.clone(),
        },
    },
    Setting {
        name: INTERVAL,
        meaning: "Sampling interval, from 50ms to 1h",
        has_key: false,
        value: Kind::Text {
            take: |config, text| {
                config.interval = time::milliseconds(text).map_err(|it| not(text, &it))?;
                Ok(())
            },
            show: |config| time::written(config.interval),
        },
    },
    Setting {
        name: HISTORY_TTL,
        meaning: "How long closed flows and exited processes stay visible",
        has_key: false,
        value: Kind::Text {
            take: |config, text| {
                config.history_ttl = time::duration(text).map_err(|it| not(text, &it))?;
                Ok(())
            },
            show: |config| time::written(config.history_ttl),
        },
    },
    Setting {
        name: UDP_IDLE,
        meaning: "How long a datagram flow may move nothing before it is over",
        has_key: false,
        value: Kind::Text {
            take: |config, text| {
                config.udp_idle = time::duration(text).map_err(|it| not(text, &it))?;
                Ok(())
            },
            show: |config| time::written(config.udp_idle),
        },
    },
    Setting {
        name: "compact",
        meaning: "Compact layout",
        has_key: true,
        value: Kind::Flag(|config| &mut config.screen.compact),
    },
    Setting {
        name: "mouse",
        meaning: "Whether Flow handles clicks and the wheel; if not, the terminal does, to select text",
        has_key: false,
        value: Kind::Flag(|config| &mut config.mouse),
    },
    Setting {
        name: "threshold",
        meaning: "Mark rows whose receive and send rates together reach this: off, or such as \"10 MB/s\"",
        has_key: true,
        value: Kind::Text {
            take: |config, text| {
                config.screen.threshold = rate::rate(text).map_err(|it| not(text, &it))?;
                Ok(())
            },
            show: |config| rate::written(config.screen.threshold),
        },
    },
];

/// What was expected instead.
fn not(text: &str, expected: &str) -> String {
    format!("{expected}, not `{}`", shown(text))
}
