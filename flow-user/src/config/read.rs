//! Reads a configuration from TOML, with a warning for each invalid part.

use std::{collections::HashMap, ops::Range};

use toml_edit::{Document, Item, TableLike, TomlError, Value};

use super::{
    Loaded, Origin, Unusable, Warning,
    near::{shown, unknown},
    setting::{Kind, SETTINGS},
};
use crate::{
    query::columns::Column,
    tui::{
        Key, Table,
        keymap::{ALWAYS_QUIT, Action, KeyMap},
        views::ViewId,
    },
};

/// Names of tables: columns, order and grouping by view, keys by action.
pub(super) const COLUMNS: &str = "columns";
pub(super) const SORT: &str = "sort";
pub(super) const GROUP: &str = "group";
pub(super) const KEYS: &str = "keys";
/// The suffix of a column that reverses the order.
pub(super) const REVERSE: &str = ":reverse";
/// The column of the default order.
pub(super) const BUSIEST: &str = "rate";

/// The most warnings that are reported; a file with more is not a configuration.
const MOST: usize = 20;
/// The most characters of a TOML error.
const LONGEST: usize = 160;

/// Reads a configuration. Invalid parts are ignored with a warning.
///
/// # Errors
/// It is not TOML.
pub(super) fn read(text: &str) -> Result<Loaded, Unusable> {
    let document = Document::parse(text).map_err(|error| not_toml(text, &error))?;
    let mut reader = Reader {
        text,
        loaded: Loaded::default(),
        more: 0,
    };
    reader.take(document.as_table());
    Ok(reader.finish())
}

fn not_toml(text: &str, error: &TomlError) -> Unusable {
    let problem: String = error.message().chars().take(LONGEST).collect();
    Unusable::NotToml {
        line: line_at(text, error.span().map_or(0, |span| span.start)),
        problem: crate::sink::text::escape(&problem.replace('\n', ", ")).into_owned(),
    }
}

fn line_at(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

struct Reader<'a> {
    text: &'a str,
    loaded: Loaded,
    /// Warnings beyond those.
    more: usize,
}

/// A name in a table, its value, and the line of it.
struct Entry<'a> {
    name: &'a str,
    item: &'a Item,
    line: usize,
}

impl Reader<'_> {
    fn take(&mut self, table: &dyn TableLike) {
        let mut names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.extend([COLUMNS, SORT, GROUP, KEYS]);
        for entry in self.entries(table) {
            match entry.name {
                COLUMNS => self.by_view(&entry, Self::columns),
                SORT => self.by_view(&entry, Self::sort),
                GROUP => self.by_view(&entry, Self::group),
                KEYS => self.keys(&entry),
                _ => self.setting(&entry, &names),
            }
        }
    }

    fn finish(mut self) -> Loaded {
        if self.more > 0 {
            let text = format!("and {} more invalid settings", self.more);
            let line = self.loaded.warnings.last().map_or(1, |last| last.line);
            self.loaded.warnings.push(Warning { line, text });
        }
        self.loaded
    }

    fn warn(&mut self, line: usize, text: String) {
        if self.loaded.warnings.len() < MOST {
            self.loaded.warnings.push(Warning { line, text });
        } else {
            self.more += 1;
        }
    }

    fn line(&self, span: Option<Range<usize>>) -> usize {
        line_at(self.text, span.map_or(0, |span| span.start))
    }

    /// The entries of a table, in the order of the file as far as it is known.
    fn entries<'t>(&self, table: &'t dyn TableLike) -> Vec<Entry<'t>> {
        let entry = |(name, item): (&'t str, &'t Item)| {
            let key = table.get_key_value(name).and_then(|(key, _)| key.span());
            Entry {
                name,
                item,
                line: self.line(key.or_else(|| item.span())),
            }
        };
        table.iter().map(entry).collect()
    }

    fn came_from(&mut self, name: String, line: usize) {
        self.loaded.origins.insert(name, Origin::File(line));
    }

    fn setting(&mut self, entry: &Entry<'_>, names: &[&str]) {
        let Entry { name, item, line } = *entry;
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            return self.warn(line, unknown("setting", name, names));
        };
        let config = &mut self.loaded.config;
        let taken = match &setting.value {
            Kind::Flag(flag) => match item.as_bool() {
                Some(value) => {
                    *flag(config) = value;
                    Ok(())
                }
                None => Err(expected("true or false", item)),
            },
            Kind::Text { take, .. } => match text_of(item) {
                Some(text) => take(config, &text),
                None => Err(expected("a quoted string", item)),
            },
        };
        match taken {
            Ok(()) => self.came_from(name.to_owned(), line),
            Err(problem) => self.warn(line, format!("`{name}`: {problem}")),
        }
    }

    fn by_view(&mut self, entry: &Entry<'_>, take: fn(&mut Self, ViewId, &Entry<'_>)) {
        let Some(table) = entry.item.as_table_like() else {
            let problem = expected("a table with a line for each view", entry.item);
            return self.warn(entry.line, format!("`{}`: {problem}", entry.name));
        };
        let names = ViewId::ALL.map(ViewId::name);
        for under in self.entries(table) {
            match ViewId::ALL
                .into_iter()
                .find(|view| view.name() == under.name)
            {
                Some(view) => take(self, view, &under),
                None => self.warn(under.line, unknown("view", under.name, &names)),
            }
        }
    }

    fn columns(&mut self, view: ViewId, entry: &Entry<'_>) {
        let Some(array) = entry.item.as_array() else {
            let problem = expected("names of columns in brackets", entry.item);
            return self.warn(entry.line, format!("columns of {view}: {problem}"));
        };
        let choices = Table::choices(view);
        if choices.is_empty() {
            return self.warn(entry.line, format!("columns of {view}: this view has none"));
        }
        let names: Vec<&str> = choices.iter().map(|column| column.name).collect();
        let mut columns: Vec<&'static Column> = Vec::new();
        for value in array {
            let line = self.line(value.span());
            let Some(name) = value.as_str() else {
                self.warn(line, format!("columns of {view}: expected names in quotes"));
                continue;
            };
            match choices.iter().find(|column| column.name == name) {
                None => {
                    let problem = unknown("column", name, &names);
                    self.warn(line, format!("columns of {view}: {problem}"));
                }
                Some(column) if columns.iter().any(|it| it.name == column.name) => {
                    self.warn(line, format!("columns of {view}: `{name}` is listed twice"));
                }
                Some(column) => columns.push(column),
            }
        }
        if columns.is_empty() {
            let text =
                format!("columns of {view}: no valid column is left, so the default applies");
            return self.warn(entry.line, text);
        }
        self.loaded.config.screen.tables[view.index()].columns = columns;
        self.came_from(format!("{COLUMNS}.{view}"), entry.line);
    }

    fn sort(&mut self, view: ViewId, entry: &Entry<'_>) {
        let Some(text) = entry.item.as_str() else {
            let problem = expected("the name of a column in quotes", entry.item);
            return self.warn(entry.line, format!("sort of {view}: {problem}"));
        };
        let (name, reverse) = match text.strip_suffix(REVERSE) {
            Some(name) => (name, true),
            None => (text, false),
        };
        let Some(column) = view.columns().iter().find(|column| column.name == name) else {
            let names: Vec<&str> = view.columns().iter().map(|column| column.name).collect();
            let problem = unknown("column", name, &names);
            return self.warn(entry.line, format!("sort of {view}: {problem}"));
        };
        let usual = column.name == BUSIEST && !reverse;
        self.loaded.config.screen.tables[view.index()].sort = (!usual).then_some((column, reverse));
        self.came_from(format!("{SORT}.{view}"), entry.line);
    }

    fn group(&mut self, view: ViewId, entry: &Entry<'_>) {
        let Some(text) = entry.item.as_str() else {
            let problem = expected("the name of a grouping in quotes", entry.item);
            return self.warn(entry.line, format!("group of {view}: {problem}"));
        };
        let groupings = view.def().groupings;
        let Some(at) = groupings.iter().position(|it| it.name == text) else {
            let names: Vec<&str> = groupings.iter().map(|it| it.name).collect();
            let problem = unknown("grouping", text, &names);
            return self.warn(entry.line, format!("group of {view}: {problem}"));
        };
        self.loaded.config.screen.tables[view.index()].grouping = at;
        self.came_from(format!("{GROUP}.{view}"), entry.line);
    }

    fn keys(&mut self, entry: &Entry<'_>) {
        let Some(table) = entry.item.as_table_like() else {
            let problem = expected("a table with a line for each action", entry.item);
            return self.warn(entry.line, format!("`{KEYS}`: {problem}"));
        };
        let usual = KeyMap::default();
        let names: Vec<&str> = usual.bindings().iter().map(|it| it.name).collect();
        // The action of each key: the first in the file that has it.
        let mut owners: HashMap<Key, &'static str> = HashMap::new();
        for under in self.entries(table) {
            let Some(binding) = usual.bindings().iter().find(|it| it.name == under.name) else {
                self.warn(under.line, unknown("action", under.name, &names));
                continue;
            };
            let quits = binding.action == Action::Quit;
            let Some(written) = self.keys_of(&under) else {
                continue;
            };
            let wants_none = written.is_empty();
            let mut keys = Vec::new();
            for (key, line) in written {
                let owner = *owners.entry(key).or_insert(binding.name);
                let typed = shown(&key.to_string());
                if ALWAYS_QUIT.contains(&key) && !quits {
                    let text = format!(
                        "`{typed}` always quits and cannot be bound to `{}`",
                        under.name
                    );
                    self.warn(line, text);
                } else if owner != binding.name {
                    let text = format!(
                        "`{typed}` is already bound to `{owner}`, not to `{}`",
                        under.name
                    );
                    self.warn(line, text);
                } else {
                    keys.push(key);
                }
            }
            // All were refused: the entry is ignored.
            if keys.is_empty() && !wants_none {
                continue;
            }
            self.loaded.config.screen.keys.bind(binding.name, &keys);
            self.came_from(format!("{KEYS}.{}", binding.name), under.line);
        }
        self.warn_lost(&usual, &owners, entry.line);
    }

    /// The keys of an action, each with its line: one in quotes, or several in brackets.
    fn keys_of(&mut self, entry: &Entry<'_>) -> Option<Vec<(Key, usize)>> {
        let values: Vec<&Value> = match entry.item {
            Item::Value(Value::Array(array)) => array.iter().collect(),
            Item::Value(value) => vec![value],
            item => {
                let problem = expected("keys in quotes", item);
                self.warn(entry.line, format!("keys of `{}`: {problem}", entry.name));
                return None;
            }
        };
        let mut keys = Vec::new();
        for value in &values {
            let line = self.line(value.span());
            let problem = match value.as_str().map(str::parse::<Key>) {
                Some(Ok(key)) => {
                    keys.push((key, line));
                    continue;
                }
                Some(Err(_)) => no_key(value.as_str().unwrap_or_default()),
                None => "expected keys in quotes, such as [\"x\", \"ctrl-x\"]".to_owned(),
            };
            self.warn(line, format!("keys of `{}`: {problem}", entry.name));
        }
        // An entry with only invalid keys does not unbind the action.
        (values.is_empty() || !keys.is_empty()).then_some(keys)
    }

    /// Warns of actions without an entry whose last key went to others.
    fn warn_lost(&mut self, usual: &KeyMap, owners: &HashMap<Key, &'static str>, line: usize) {
        let now = self.loaded.config.screen.keys.clone();
        for (before, after) in usual.bindings().iter().zip(now.bindings()) {
            let origin = format!("{KEYS}.{}", before.name);
            if !after.keys.is_empty() || self.loaded.origins.contains_key(&origin) {
                continue;
            }
            let taken: Vec<String> = before
                .keys
                .iter()
                .filter_map(|key| Some(format!("`{key}` is now bound to `{}`", owners.get(key)?)))
                .collect();
            let text = format!("`{}` has no keys left: {}", before.name, taken.join(", "));
            self.warn(line, text);
        }
    }
}

/// A text, or a number or flag as it would be typed.
fn text_of(item: &Item) -> Option<String> {
    match item.as_value()? {
        Value::String(text) => Some(text.value().clone()),
        Value::Integer(number) => Some(number.value().to_string()),
        Value::Float(number) => Some(number.value().to_string()),
        _ => None,
    }
}

fn expected(what: &str, item: &Item) -> String {
    format!("expected {what}, not {}", kind(item))
}

fn kind(item: &Item) -> &'static str {
    match item {
        Item::Value(Value::String(_)) => "a string",
        Item::Value(Value::Integer(_) | Value::Float(_)) => "a number",
        Item::Value(Value::Boolean(_)) => "true or false",
        Item::Value(Value::Datetime(_)) => "a date",
        Item::Value(Value::Array(_)) => "a list",
        Item::None | Item::Value(Value::InlineTable(_)) | Item::Table(_) => "a table",
        Item::ArrayOfTables(_) => "several tables",
    }
}

fn no_key(text: &str) -> String {
    format!(
        "there is no key `{}`; write keys as q, G, ctrl-c, alt-x, F1, Space, Enter, Tab, PgUp, Home",
        shown(text)
    )
}
