//! A view's rows, in order: what the table shows and what the cursor stands on.
//!
//! Built once for each snapshot, and again when order, filter or folding change. Drawing and moving only
//! look into it.

mod tree;

use std::collections::{HashMap, HashSet};

use crate::{
    model::snapshot::Snapshot,
    query::{
        columns::{Column, Context},
        entry::{Entry, Id, Subject},
        group,
        groups::{Grouping, RowsOf},
        log::Log,
        nested,
        order::order,
        view::View,
    },
};

/// What rows are made of.
pub(super) struct Ask<'a> {
    pub snapshot: &'a Snapshot,
    pub view: &'a View,
    pub log: &'a Log,
}

/// How they are arranged.
pub(super) struct Arrangement<'a> {
    pub grouping: &'static Grouping,
    pub sort: Option<(&'static Column, bool)>,
    pub folding: &'a Folding,
}

/// Which rows are unfolded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Folding {
    /// The other way round than usual, all of them.
    pub all: bool,
    /// Rows that are the other way round than the others.
    pub turned: HashSet<Id>,
    /// Of a tree: rows whose descendants are hidden.
    pub pruned: HashSet<Id>,
}

/// A row's identity, and that of the row it stands under: the same flow may stand under several.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowKey {
    pub id: Id,
    pub under: Option<Id>,
}

/// The rows.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(super) entries: Vec<Entry>,
    pub(super) lines: Vec<Line>,
    pub(super) total: Entry,
    /// Rows that stand under no other.
    pub top: usize,
    /// Whether what stands under a row fills the columns.
    pub(super) in_columns: bool,
}

/// A row's place: on the screen it is one line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Which entry.
    pub at: u32,
    /// The entry it stands under.
    pub parent: Option<u32>,
    /// How far it is indented.
    pub depth: u16,
    pub fold: Fold,
    pub nested: bool,
}

/// Whether something can stand under a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Nothing,
    Folded,
    Open,
}

impl Rows {
    /// No rows.
    pub fn none() -> Self {
        Self {
            entries: Vec::new(),
            lines: Vec::new(),
            total: Entry::new(Subject::Total),
            top: 0,
            in_columns: false,
        }
    }

    /// The rows that answer `ask`.
    pub(super) fn build(
        ask: &Ask<'_>,
        arrangement: &Arrangement<'_>,
        context: &Context<'_>,
    ) -> Self {
        let Arrangement {
            grouping,
            sort,
            folding,
        } = *arrangement;
        let mut entries = match grouping.rows {
            RowsOf::Log => group::events(ask.log, &ask.view.filter),
            of => group::rows(ask.snapshot, ask.view, of),
        };
        let total = group::total(ask.snapshot, ask.view, &entries);
        let top = entries.len();
        let trunk = grouping.tree.then(|| tree::grow(&mut entries));
        let ranked = order(&entries, sort, context);
        let mut under: HashMap<Id, Vec<u32>> = HashMap::new();
        let is_open =
            |id: &Id| folding.turned.contains(id) != (usually_open(grouping) != folding.all);
        if grouping.nested.is_some() {
            let (parents, rows): (Vec<Id>, Vec<Entry>) =
                nested::rows(ask.snapshot, ask.view, grouping, &is_open)
                    .into_iter()
                    .unzip();
            let first = entries.len();
            for at in order(&rows, sort, context) {
                let place = u32::try_from(first).unwrap_or(u32::MAX).saturating_add(at);
                under
                    .entry(parents[at as usize].clone())
                    .or_default()
                    .push(place);
            }
            entries.extend(rows);
        }
        let placed: Vec<tree::Placed> = match trunk {
            Some(trunk) => trunk.walk(&entries, &ranked, &folding.pruned),
            None => ranked.into_iter().map(tree::Placed::alone).collect(),
        };
        let mut lines = Vec::with_capacity(entries.len());
        for placed in placed {
            let subject = &entries[placed.at as usize].subject;
            let foldable = grouping.nested.is_some() && can_unfold(subject);
            let id = foldable.then(|| subject.id());
            let open = id.as_ref().is_some_and(is_open);
            let fold = match (placed.pruned, foldable, open) {
                (true, _, _) => Fold::Folded,
                (false, true, true) => Fold::Open,
                (false, true, false) if placed.has_children => Fold::Open,
                (false, true, false) => Fold::Folded,
                (false, false, _) if placed.has_children => Fold::Open,
                (false, false, _) => Fold::Nothing,
            };
            lines.push(Line {
                at: placed.at,
                parent: placed.parent,
                depth: placed.depth,
                fold,
                nested: false,
            });
            let rows = id.filter(|_| open && !placed.pruned);
            let rows = rows.and_then(|id| under.get(&id));
            for at in rows.into_iter().flatten() {
                lines.push(Line {
                    at: *at,
                    parent: Some(placed.at),
                    depth: placed.depth + 1,
                    fold: Fold::Nothing,
                    nested: true,
                });
            }
        }
        Self {
            entries,
            lines,
            total,
            top,
            in_columns: grouping.nested.is_some_and(|it| it.in_columns),
        }
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The identity of a line.
    pub fn key(&self, line: usize) -> Option<RowKey> {
        let line = self.lines.get(line)?;
        let id = |at: u32| self.entries[at as usize].subject.id();
        Some(RowKey {
            id: id(line.at),
            under: line.parent.filter(|_| line.nested).map(id),
        })
    }

    /// The line of a row, if it is there.
    pub fn find(&self, key: &RowKey) -> Option<usize> {
        self.lines.iter().enumerate().position(|(at, line)| {
            line.nested == key.under.is_some()
                && self.entries[line.at as usize].subject.id() == key.id
                && (!line.nested || self.key(at).is_some_and(|found| found.under == key.under))
        })
    }

    /// The line of a row that may stand elsewhere by now: under another, or no longer under one. Else that of the row
    /// it stood under.
    pub(super) fn find_elsewhere(&self, key: &RowKey) -> Option<usize> {
        let is = |line: &Line, id: &Id| self.entries[line.at as usize].subject.id() == *id;
        let mut lines = self.lines.iter();
        lines.position(|line| is(line, &key.id)).or_else(|| {
            let under = key.under.as_ref()?;
            let mut lines = self.lines.iter();
            lines.position(|line| !line.nested && is(line, under))
        })
    }

    /// The line of the row above it in the tree, or that it stands under.
    pub(super) fn above(&self, line: usize) -> Option<usize> {
        let parent = self.lines.get(line)?.parent?;
        self.lines[..line]
            .iter()
            .rposition(|it| it.at == parent && !it.nested)
    }

    pub(super) fn entry(&self, line: usize) -> Option<&Entry> {
        let line = self.lines.get(line)?;
        self.entries.get(line.at as usize)
    }
}

/// Whether rows of a grouping are unfolded unless somebody folds them.
fn usually_open(grouping: &Grouping) -> bool {
    grouping.nested.is_some_and(|nested| nested.open)
}

/// What can have something under it.
fn can_unfold(subject: &Subject) -> bool {
    match subject {
        Subject::Process(_) | Subject::Label(..) | Subject::Listener(_) => true,
        Subject::Ancestor(..)
        | Subject::Flow(_)
        | Subject::Protocol(_)
        | Subject::Overflow(_)
        | Subject::Interface(_)
        | Subject::Cause(_)
        | Subject::Event(_)
        | Subject::Total => false,
    }
}
