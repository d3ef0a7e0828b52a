//! The language of `--filter`: which flows, processes and interfaces to show.
//!
//! pcap's words where pcap has them, and `and` binds tighter than `or`. For users it is described
//! in `docs/filter.md`. A word is a row in `words`.

mod ast;
mod complete;
mod error;
mod eval;
mod help;
mod lexer;
mod operand;
mod parser;
mod pattern;
mod services;
mod short;
mod text;
mod told;
mod typed;
mod words;

use std::fmt;

use self::{
    ast::{Expr, Primitive},
    eval::holds,
    operand::Operand,
    pattern::Pattern,
    told::Subject,
    words::INTERFACE,
};
pub use self::{
    complete::{Completion, complete},
    error::FilterError,
    help::help,
    typed::{Typed, while_typed},
};
use crate::model::snapshot::{Flow, Interface, Process};

/// A filter. Displays as an expression that parses to the same filter, unless that is longer or
/// deeper than an expression may be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// `None` lets everything pass.
    expr: Option<Expr>,
}

impl Filter {
    /// The filter that lets everything pass.
    pub const fn all() -> Self {
        Self { expr: None }
    }

    /// Reads an expression; a blank one lets everything pass. `uid_of` returns the id of a user's
    /// name.
    pub fn parse(text: &str, uid_of: &dyn Fn(&str) -> Option<u32>) -> Result<Self, FilterError> {
        let expr = parser::parse(text, uid_of)?;
        Ok(Self { expr })
    }

    /// This filter, narrowed to what passed one of the interfaces, or was seen at one. Their names
    /// are literal, without globs; without any the filter stays as it is.
    pub fn on_interfaces(self, names: impl IntoIterator<Item = String>) -> Self {
        let mut interfaces: Vec<Expr> = names
            .into_iter()
            .map(|name| Operand::Pattern(Pattern::Exact(name)))
            .map(|name| Expr::Is(Primitive::new(INTERFACE, name)))
            .collect();
        let interfaces = match interfaces.pop() {
            None => return self,
            Some(only) if interfaces.is_empty() => only,
            Some(last) => {
                interfaces.push(last);
                Expr::Or(interfaces)
            }
        };
        let expr = match self.expr {
            None => interfaces,
            Some(asked) => Expr::And(vec![asked, interfaces]),
        };
        Self { expr: Some(expr) }
    }

    /// Whether it lets everything pass.
    pub const fn is_all(&self) -> bool {
        self.expr.is_none()
    }

    /// Whether a flow passes.
    pub fn matches_flow(&self, flow: &Flow) -> bool {
        self.verdict(Subject::Flow(flow)).unwrap_or(false)
    }

    /// Whether a process passes, whatever its flows are; `None` where that depends on the flows.
    pub fn process_verdict(&self, process: &Process) -> Option<bool> {
        self.verdict(Subject::Process(process))
    }

    /// Whether a process passes: by itself, or because one of `flows`, which are its own, does.
    pub fn matches_process<'a>(
        &self,
        process: &Process,
        mut flows: impl Iterator<Item = &'a Flow>,
    ) -> bool {
        self.process_verdict(process)
            .unwrap_or_else(|| flows.any(|flow| self.matches_flow(flow)))
    }

    /// Whether an interface passes: unless `interface` excludes it. Frames have no other attribute
    /// to filter by.
    pub fn matches_interface(&self, interface: &Interface) -> bool {
        self.verdict(Subject::Interface(interface)).unwrap_or(true)
    }

    fn verdict(&self, subject: Subject<'_>) -> Option<bool> {
        match &self.expr {
            None => Some(true),
            Some(expr) => holds(expr, subject),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.expr {
            None => Ok(()),
            Some(expr) => expr.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
