//! Renders the configuration in effect as a file.

use std::fmt::Write as _;

use super::{
    Loaded, Origin,
    read::{BUSIEST, COLUMNS, GROUP, KEYS, REVERSE, SORT},
    setting::{Kind, SETTINGS},
};
use crate::{
    query::hostile::is_hostile,
    tui::{
        keymap::{Binding, KeyMap},
        views::ViewId,
    },
};

/// The configuration as TOML: each setting with its description and origin.
pub fn render(loaded: &Loaded) -> String {
    let mut text = String::new();
    head(loaded, &mut text);
    let mut config = loaded.config.clone();
    for setting in SETTINGS {
        let value = match &setting.value {
            Kind::Flag(flag) => flag(&mut config).to_string(),
            Kind::Text { show, .. } => quoted(&show(&config)),
        };
        line(&mut text, &format!("\n# {}", setting.meaning));
        let origin = loaded.origin(setting.name);
        line(
            &mut text,
            &format!("{} = {value}  # {origin}", setting.name),
        );
    }
    let views = || {
        ViewId::ALL
            .into_iter()
            .filter(|view| !view.columns().is_empty())
    };
    let origin = |table: &str, name: &str| loaded.origin(&format!("{table}.{name}"));
    line(
        &mut text,
        "\n# The columns of each view, in order; the least important ones are hidden if there is no room. `o` selects them too.",
    );
    line(&mut text, &format!("[{COLUMNS}]"));
    for view in views() {
        let columns = &config.screen.tables[view.index()].columns;
        let names = list(columns.iter().map(|column| column.name.to_owned()));
        let origin = origin(COLUMNS, view.name());
        line(&mut text, &format!("{view} = {names}  # {origin}"));
    }
    line(
        &mut text,
        "\n# The column that each view is sorted by at first; COLUMN:reverse reverses the order. `rate` and `total`: both directions together.",
    );
    line(&mut text, &format!("[{SORT}]"));
    for view in views() {
        let sort = config.screen.tables[view.index()].sort;
        let (name, reverse) =
            sort.map_or((BUSIEST, false), |(column, reverse)| (column.name, reverse));
        let reverse = if reverse { REVERSE } else { "" };
        let order = quoted(&format!("{name}{reverse}"));
        let origin = origin(SORT, view.name());
        line(&mut text, &format!("{view} = {order}  # {origin}"));
    }
    line(
        &mut text,
        "\n# How the rows of each view are grouped at first; `a` selects another grouping.",
    );
    line(&mut text, &format!("[{GROUP}]"));
    for view in ViewId::ALL {
        let groupings = view.def().groupings;
        if groupings.len() > 1 {
            let grouping = &groupings[config.screen.tables[view.index()].grouping];
            let names = groupings.iter().map(|it| it.name);
            let names = names.collect::<Vec<_>>().join(", ");
            let origin = origin(GROUP, view.name());
            let name = quoted(grouping.name);
            line(
                &mut text,
                &format!("{view} = {name}  # of {names}; {origin}"),
            );
        }
    }
    line(
        &mut text,
        "\n# The keys of each action, such as q, G, ctrl-c, alt-x, F1, Space, Enter, Tab, PgUp, Home; [] for none. q and ctrl-c always quit.",
    );
    line(&mut text, &format!("[{KEYS}]"));
    let usual = KeyMap::default();
    for (usual, binding) in usual.bindings().iter().zip(config.screen.keys.bindings()) {
        let keys = list(binding.keys.iter().map(ToString::to_string));
        let origin = match origin(KEYS, binding.name) {
            Origin::Default => without(usual, binding),
            origin => origin.to_string(),
        };
        let Binding { name, help, .. } = binding;
        line(&mut text, &format!("{name} = {keys}  # {help}; {origin}"));
    }
    text
}

fn head(loaded: &Loaded, text: &mut String) {
    line(
        text,
        "# The configuration in effect for Flow's full-screen view.",
    );
    line(
        text,
        "# The command line overrides the file, and the file the defaults.",
    );
    let Some(place) = &loaded.place else {
        return line(text, "# No file: neither HOME nor XDG_CONFIG_HOME is set.");
    };
    line(text, &format!("# File: {place}"));
    if !loaded.found {
        line(
            text,
            "# The file does not exist. Save any part of this under that name to create it.",
        );
    } else if loaded.unusable.is_some() {
        line(
            text,
            "# The file cannot be used, so all settings have their defaults.",
        );
    }
}

/// The origin of the keys of an action without an entry in the file.
fn without(usual: &Binding, now: &Binding) -> String {
    let lost = usual.keys.iter().filter(|key| !now.keys.contains(key));
    let lost: Vec<String> = lost.map(|key| quoted(&key.to_string())).collect();
    match lost.is_empty() {
        true => Origin::Default.to_string(),
        false => format!("default, without {}", lost.join(", ")),
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn list(texts: impl Iterator<Item = String>) -> String {
    let quoted: Vec<String> = texts.map(|text| quoted(&text)).collect();
    format!("[{}]", quoted.join(", "))
}

/// A TOML string on one line, with control characters escaped.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            hostile if is_hostile(hostile) => {
                // Writing to a string never fails.
                let _ = write!(quoted, "\\U{:08x}", u32::from(hostile));
            }
            harmless => quoted.push(harmless),
        }
    }
    quoted.push('"');
    quoted
}
