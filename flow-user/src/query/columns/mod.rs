//! The columns of all views: one entry each, from which text, JSON and sorting are derived.

mod cell;
mod column;
mod key;
mod tables;
mod value;

use self::cell::{flow_of, process_of};
pub(super) use self::key::{Key, falling_rate};
pub(crate) use self::{
    column::Context,
    tables::{EVENT, PROTOCOL},
};
pub use self::{
    column::{Align, Column, Loses, Measure, Show, Width},
    tables::of,
    value::Value,
};
use super::{
    entry::{Entry, Subject},
    groups::By,
    human::Units,
};

/// In a label: the port of the local address alone, by which flows to the same remote differ.
const PORT: &str = ":";
/// In a label: the name of a process with nothing after it.
const NAME: &str = "name";

impl Entry {
    /// The columns of entries of its type.
    pub fn columns(&self) -> &'static [Column] {
        match &self.subject {
            Subject::Process(_) | Subject::Ancestor(..) => of(By::Process),
            Subject::Flow(_) | Subject::Overflow(_) => of(By::Flow),
            Subject::Label(by, _) => of(*by),
            Subject::Protocol(_) => PROTOCOL,
            Subject::Listener(_) => of(By::Listener),
            Subject::Program(_) => of(By::Process),
            Subject::Interface(_) => of(By::Interface),
            Subject::Event(_) => EVENT,
            Subject::Cause(_) | Subject::Total => of(By::Process),
        }
    }

    /// The value in one of the columns that have room. Where an event's local address has none, a
    /// socket without a remote has it in the place of that.
    pub fn value(&self, column: &Column, context: &Context<'_>, shows_local: bool) -> Value {
        let stands_in = if shows_local {
            None
        } else {
            cell::stand_in(self, column.name)
        };
        stands_in.unwrap_or_else(|| (column.value)(self, context))
    }

    /// The text of an event that concerns neither a process nor a flow: it may take the place of
    /// their columns.
    pub fn statement(&self) -> Option<String> {
        let event = cell::event_of(self)?;
        let concerns_one = event.flow().is_some() || event.process().is_some();
        if concerns_one {
            return None;
        }
        let text = cell::what_happened(&event.what);
        (!text.is_empty()).then_some(text)
    }

    /// The label of a row that is nested under another: the longest form that `fits`, else the
    /// shortest.
    pub fn label(&self, context: &Context<'_>, fits: &dyn Fn(&str) -> bool) -> String {
        let text = |name: &&str| {
            match *name {
                PORT => return Some(format!(":{}", flow_of(self)?.bound()?.port())),
                NAME => return Some(process_of(self)?.name().to_owned()),
                _ => {}
            }
            let mut columns = self.columns().iter();
            let column = columns.find(|column| column.name == *name)?;
            let text = (column.value)(self, context).text();
            (!text.is_empty()).then(|| match *name {
                "rtt_us" => format!("rtt {text}"),
                _ => text,
            })
        };
        let forms: &[&[&str]] = match self.is_flow() {
            true => &[
                &["protocol", "local", "arrow", "remote", "state", "rtt_us"],
                &["protocol", "local", "arrow", "remote", "state"],
                &["protocol", PORT, "arrow", "remote", "state"],
                &["protocol", PORT, "arrow", "remote"],
                &[PORT, "arrow", "remote"],
            ],
            false => &[
                &["pid", "process", "user"],
                &["pid", "process"],
                &["pid", NAME],
            ],
        };
        let mut label = String::new();
        for form in forms {
            let mut texts: Vec<String> = form.iter().filter_map(text).collect();
            if self.has_no_remote() {
                // Without a remote, show the local address instead.
                texts = ["protocol", "local", "state"]
                    .iter()
                    .filter_map(text)
                    .collect();
            }
            label = texts.join(" ");
            if fits(&label) {
                return label;
            }
        }
        if self.is_flow() {
            return label;
        }
        // A name loses its end.
        Value::name(label).text_that(Units::default(), fits)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_the_narrowest_view_keeps_a_column() {
        for by in By::ALL {
            let columns = of(by);
            let names: HashSet<_> = columns.iter().map(|column| column.name).collect();
            assert_eq!(names.len(), columns.len(), "{by}");
            assert!(
                columns
                    .iter()
                    .any(|column| column.show.in_text() == Some(0)),
                "{by}"
            );
            assert!(names.contains("rate") && names.contains("total"), "{by}");
        }
    }
}
