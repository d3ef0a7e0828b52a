//! A view of the screen as a file: JSON for programs, CSV for spreadsheets.
//!
//! Numbers are whole, in bytes and bytes per second, whatever units the screen has.

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{json::to_pretty, text::escape};
use crate::query::{
    columns::{Column, Context, Value},
    entry::Entry,
};

/// Version of the JSON. Facts may be added within a version.
const VERSION: u32 = 1;

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Csv,
}

/// All rows of a view, those beyond the screen among them.
#[derive(Clone, Debug)]
pub(crate) struct Sheet {
    pub host: String,
    /// RFC 3339, UTC.
    pub time: String,
    pub view: &'static str,
    pub grouping: &'static str,
    /// As typed; empty for none.
    pub filter: String,
    /// Only traffic of these, in addition to the filter; all where there are none.
    pub interfaces: Vec<String>,
    /// As `--sort` has it.
    pub sort: String,
    /// When totals begin, where that is not the start.
    pub since: Option<String>,
    pub columns: Vec<&'static Column>,
    pub rows: Vec<SheetRow>,
    /// The sum of all rows, where there is one.
    pub total: Option<Entry>,
}

/// A row and its place.
#[derive(Clone, Debug)]
pub(crate) struct SheetRow {
    pub entry: Entry,
    /// Rows above it that it belongs to.
    pub level: u16,
    /// Another kind of thing than the view's columns are about; it has its own.
    pub is_other: bool,
}

impl Format {
    /// The extension of such a file.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }
}

impl Sheet {
    /// The file's text.
    pub fn text(&self, format: Format) -> String {
        match format {
            Format::Json => self.to_json(),
            Format::Csv => self.to_csv(),
        }
    }

    /// One object: the parameters of the view, `rows` (objects by column name, in order) and
    /// `total`. Absent cells are left out. A row under another has a `level`, and its own columns
    /// if it is of another kind.
    fn to_json(&self) -> String {
        let context = Context::default();
        let object = |entry, level, is_other| Object {
            columns: if is_other { None } else { Some(&*self.columns) },
            entry,
            level,
            context: &context,
        };
        let mut text = to_pretty(&Document {
            v: VERSION,
            flow_version: env!("CARGO_PKG_VERSION"),
            host: &self.host,
            time: &self.time,
            view: self.view,
            grouping: self.grouping,
            filter: &self.filter,
            interfaces: &self.interfaces,
            sort: &self.sort,
            since: self.since.as_deref(),
            rows: self
                .rows
                .iter()
                .map(|row| object(&row.entry, row.level, row.is_other))
                .collect(),
            total: self.total.as_ref().map(|total| object(total, 0, false)),
        });
        text.push('\n');
        text
    }

    /// A line with the names of the columns, then one for each row. Where rows are nested, their
    /// level and kind come first.
    fn to_csv(&self) -> String {
        let context = Context::default();
        let is_deep = self.rows.iter().any(|row| row.level > 0);
        let mut text = String::new();
        if is_deep {
            text.push_str("level,what,");
        }
        let header: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
        text.push_str(&header.join(","));
        text.push('\n');
        for row in &self.rows {
            let mut cells = Vec::with_capacity(self.columns.len() + 2);
            if is_deep {
                cells.push(row.level.to_string());
                cells.push(match row.is_other {
                    true => quoted(&row.entry.label(&context, &|_| true)),
                    false => String::new(),
                });
            }
            let own = row.entry.columns();
            cells.extend(self.columns.iter().map(|column| {
                let has = !row.is_other || own.iter().any(|it| it.name == column.name);
                match has {
                    true => cell(&(column.value)(&row.entry, &context)),
                    false => String::new(),
                }
            }));
            text.push_str(&cells.join(","));
            text.push('\n');
        }
        text
    }
}

#[derive(Serialize)]
struct Document<'a> {
    v: u32,
    flow_version: &'a str,
    host: &'a str,
    time: &'a str,
    view: &'a str,
    grouping: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    filter: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    interfaces: &'a [String],
    sort: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<&'a str>,
    rows: Vec<Object<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<Object<'a>>,
}

/// A row by column name.
struct Object<'a> {
    /// `None` for its own.
    columns: Option<&'a [&'static Column]>,
    entry: &'a Entry,
    level: u16,
    context: &'a Context<'a>,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if self.level > 0 {
            map.serialize_entry("level", &self.level)?;
        }
        let own = self.entry.columns().iter();
        let own = own.filter(|column| column.show.in_json() && column.show.on_screen().is_some());
        let columns: Vec<&Column> = match self.columns {
            Some(columns) => columns.to_vec(),
            None => own.collect(),
        };
        for column in columns {
            if let Some(value) = (column.value)(self.entry, self.context).json() {
                map.serialize_entry(column.name, &value)?;
            }
        }
        map.end()
    }
}

/// A cell of CSV: numbers as they are, text so that no spreadsheet takes it for a formula.
fn cell(value: &Value) -> String {
    use serde_json::Value as Json;
    match value.json() {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(text)) => quoted(&text),
        Some(Json::Array(_) | Json::Object(_)) => quoted(&value.text()),
        Some(number @ (Json::Number(_) | Json::Bool(_))) => number.to_string(),
    }
}

/// Text as a cell: one line, escaped, and not a formula.
fn quoted(text: &str) -> String {
    let text = escape(text);
    let formula = text.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    let guard = if formula { "'" } else { "" };
    if text.contains([',', '"']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{guard}{text}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::query::{columns, entry::Subject, fixture, view::By};

    fn sheet() -> Sheet {
        let process = fixture::process(7, "/usr/bin/curl", &["=cmd|' /C calc'!A0", "a,b\n\"c\""]);
        let flow = fixture::flow(3, &process, "10.0.0.2:5000", Some("192.0.2.1:443"));
        let row = |subject, level, is_other| SheetRow {
            entry: Entry::new(subject),
            level,
            is_other,
        };
        let wanted = ["pid", "process", "rx_bytes", "command"];
        let of = columns::of(By::Process).iter();
        Sheet {
            host: "web-3".to_owned(),
            time: "2026-05-01T14:01:00Z".to_owned(),
            view: "processes",
            grouping: "flat",
            filter: String::new(),
            interfaces: Vec::new(),
            sort: "rate".to_owned(),
            since: None,
            columns: of.filter(|column| wanted.contains(&column.name)).collect(),
            rows: vec![
                row(Subject::Process(process), 0, false),
                row(Subject::Flow(flow.into()), 1, true),
            ],
            total: Some(Entry::new(Subject::Total)),
        }
    }

    #[test]
    fn csv_has_a_line_for_each_row_and_no_formulas() {
        let mut sheet = sheet();
        assert_eq!(
            sheet.text(Format::Csv),
            "level,what,pid,process,rx_bytes,command\n\
             0,,7,curl,0,\"'=cmd|' /C calc'!A0 a,b\\n\"\"c\"\"\"\n\
             1,tcp 10.0.0.2:5000 ↔ 192.0.2.1:443 established,7,curl,0,\n"
        );
        sheet.rows.pop();
        let flat = sheet.text(Format::Csv);
        assert!(
            flat.starts_with("pid,process,rx_bytes,command\n7,curl,0,"),
            "{flat}"
        );
    }

    #[test]
    fn json_has_what_was_shown_and_how() {
        let text = sheet().text(Format::Json);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["view"], "processes");
        assert_eq!(read["sort"], "rate");
        assert_eq!(read.get("filter"), None);
        assert_eq!(read["rows"][0]["command"], "=cmd|' /C calc'!A0 a,b\n\"c\"");
        assert_eq!(read["rows"][0].get("level"), None);
        assert_eq!(read["rows"][1]["level"], 1);
        assert_eq!(read["rows"][1]["remote"], "192.0.2.1:443");
        assert_eq!(read["rows"][1]["state"], "established");
        assert_eq!(read["total"]["process"], "TOTAL");
    }

    proptest! {
        #[test]
        fn any_text_stays_one_cell(text in any::<String>()) {
            let cell = quoted(&text);
            prop_assert!(!cell.starts_with(['=', '+', '-', '@']));
            prop_assert!(!cell.contains(['\n', '\r']));
            let inside = cell.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
            match inside {
                Some(inside) => {
                    prop_assert!(!inside.replace("\"\"", "").contains('"'));
                    prop_assert!(!inside.starts_with(['=', '+', '-', '@']));
                }
                None => prop_assert!(!cell.contains(['"', ','])),
            }
        }
    }
}
