//! Filter expressions, and how they are displayed.

use std::fmt;

use super::{
    operand::Operand,
    words::{Side, Word},
};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// Two or more, all of them.
    And(Vec<Expr>),
    /// Two or more, any of them.
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Is(Primitive),
}

/// One thing that is true of a flow, process or interface, or not.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Primitive {
    pub word: &'static Word,
    /// Of which end it asks, if of one.
    pub side: Side,
    pub operand: Operand,
}

impl Primitive {
    /// What a word asks that is not of an end.
    pub const fn new(word: &'static Word, operand: Operand) -> Self {
        Self {
            word,
            side: Side::Any,
            operand,
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, parts: &[Self], word: &str| {
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    write!(f, " {word} ")?;
                }
                part.operand(f)?;
            }
            Ok(())
        };
        match self {
            Self::And(parts) => list(f, parts, "and"),
            Self::Or(parts) => list(f, parts, "or"),
            Self::Not(inner) => {
                f.write_str("not ")?;
                inner.operand(f)
            }
            Self::Is(primitive) => primitive.fmt(f),
        }
    }
}

impl Expr {
    fn operand(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(_) | Self::Or(_) => write!(f, "({self})"),
            Self::Not(_) | Self::Is(_) => write!(f, "{self}"),
        }
    }
}

impl fmt::Display for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            word,
            side,
            operand,
        } = self;
        write!(f, "{side}{}{operand}", word.shown)
    }
}
