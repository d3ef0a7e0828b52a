//! The rows of a view in order. They are built once for each snapshot, and again when order, filter
//! or folding change; drawing and moving only read them.

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

/// The input of the rows.
pub(super) struct Ask<'a> {
    pub snapshot: &'a Snapshot,
    pub view: &'a View,
    pub log: &'a Log,
}

/// Their arrangement.
pub(super) struct Arrangement<'a> {
    pub grouping: &'static Grouping,
    pub sort: Option<(&'static Column, bool)>,
    pub folding: &'a Folding,
    /// Whether rows that have ended are left out.
    pub hides_ended: bool,
}

/// Which rows are unfolded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Folding {
    /// The default is inverted for all rows.
    pub all: bool,
    /// Rows that differ from that.
    pub turned: HashSet<Id>,
    /// Of a tree: rows whose descendants are hidden.
    pub pruned: HashSet<Id>,
}

/// A row's identity and its parent's: the same flow may be under several parents.
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
    /// Rows without a parent.
    pub top: usize,
}

/// A row's place: on the screen it is one line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Which entry.
    pub at: u32,
    /// The entry of its parent.
    pub parent: Option<u32>,
    /// Its indentation.
    pub depth: u16,
    pub fold: Fold,
    pub nested: bool,
    /// A label takes the place of the columns that identify a row.
    pub labelled: bool,
}

/// Whether a row can be unfolded.
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
            hides_ended,
        } = *arrangement;
        let stays = |entry: &Entry| !(hides_ended && entry.is_over());
        let mut entries = match grouping.rows {
            RowsOf::Log => group::events(ask.log, &ask.view.filter),
            of => group::rows(ask.snapshot, ask.view, of),
        };
        // Of all rows, so that it does not fall when some end.
        let total = group::total(ask.snapshot, ask.view, &entries);
        entries.retain(stays);
        let top = entries.len();
        let trunk = grouping.tree.then(|| tree::grow(&mut entries));
        let ranked = order(&entries, sort, context);
        let mut placing = Placing {
            entries,
            lines: Vec::new(),
            folding,
            under: HashMap::new(),
            below: HashMap::new(),
        };
        let is_open =
            |id: &Id| folding.turned.contains(id) != (usually_open(grouping) != folding.all);
        let sorted = |rows: Vec<(Id, Entry)>| {
            let staying = rows.into_iter().filter(|(_, entry)| stays(entry));
            let (parents, rows): (Vec<Id>, Vec<Entry>) = staying.unzip();
            let ranks = order(&rows, sort, context);
            (parents, rows, ranks)
        };
        if grouping.nested.is_some() {
            let rows = sorted(nested::rows(
                ask.snapshot,
                ask.view,
                grouping,
                &placing.entries,
                &is_open,
            ));
            placing.under = placing.take(rows);
            let is_open = |id: &Id| folding.turned.contains(id);
            let rows = sorted(nested::below(
                ask.snapshot,
                ask.view,
                grouping,
                &placing.entries,
                &is_open,
            ));
            placing.below = placing.take(rows);
        }
        let placed: Vec<tree::Placed> = match trunk {
            Some(trunk) => {
                trunk.collapse(&mut placing.entries, &folding.pruned);
                trunk.walk(&placing.entries, &ranked, &folding.pruned)
            }
            None => ranked.into_iter().map(tree::Placed::alone).collect(),
        };
        for placed in placed {
            placing.put(placed, grouping, &is_open);
        }
        Self {
            entries: placing.entries,
            lines: placing.lines,
            total,
            top,
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

    /// The line of a row that may have moved: to another parent, or out of one. If it is gone, that
    /// of its former parent.
    pub(super) fn find_elsewhere(&self, key: &RowKey) -> Option<usize> {
        let is = |line: &Line, id: &Id| self.entries[line.at as usize].subject.id() == *id;
        let mut lines = self.lines.iter();
        lines.position(|line| is(line, &key.id)).or_else(|| {
            let under = key.under.as_ref()?;
            let mut lines = self.lines.iter();
            lines.position(|line| is(line, under))
        })
    }

    /// The line of its parent.
    pub(super) fn above(&self, line: usize) -> Option<usize> {
        let parent = self.lines.get(line)?.parent?;
        self.lines[..line].iter().rposition(|it| it.at == parent)
    }

    pub(super) fn entry(&self, line: usize) -> Option<&Entry> {
        let line = self.lines.get(line)?;
        self.entries.get(line.at as usize)
    }
}

/// Rows on their way to their lines.
struct Placing<'a> {
    entries: Vec<Entry>,
    lines: Vec<Line>,
    folding: &'a Folding,
    /// Rows under rows, in order, and those under these.
    under: HashMap<Id, Vec<u32>>,
    below: HashMap<Id, Vec<u32>>,
}

impl Placing<'_> {
    /// Takes rows that stand under others, with their order.
    fn take(
        &mut self,
        (parents, rows, ranks): (Vec<Id>, Vec<Entry>, Vec<u32>),
    ) -> HashMap<Id, Vec<u32>> {
        let mut under: HashMap<Id, Vec<u32>> = HashMap::new();
        let first = self.entries.len();
        for at in ranks {
            let place = u32::try_from(first).unwrap_or(u32::MAX).saturating_add(at);
            let parent = parents[at as usize].clone();
            under.entry(parent).or_default().push(place);
        }
        self.entries.extend(rows);
        under
    }

    /// Adds the line of a row, and of the rows under it if it is open.
    fn put(&mut self, placed: tree::Placed, grouping: &Grouping, is_open: &dyn Fn(&Id) -> bool) {
        let subject = &self.entries[placed.at as usize].subject;
        let nested = grouping.nested.filter(|_| can_unfold(subject));
        let id = nested.is_some().then(|| subject.id());
        let open = id.as_ref().is_some_and(is_open);
        let fold = match (placed.pruned, nested.is_some(), open) {
            (true, _, _) => Fold::Folded,
            (false, true, true) => Fold::Open,
            (false, true, false) if placed.has_children => Fold::Open,
            (false, true, false) => Fold::Folded,
            (false, false, _) if placed.has_children => Fold::Open,
            (false, false, _) => Fold::Nothing,
        };
        self.lines.push(Line {
            at: placed.at,
            parent: placed.parent,
            depth: placed.depth,
            fold,
            nested: false,
            labelled: false,
        });
        let Some((id, nested)) = id.zip(nested).filter(|_| open && !placed.pruned) else {
            return;
        };
        for at in self.under.get(&id).into_iter().flatten() {
            let subject = &self.entries[*at as usize].subject;
            let unfolds = nested.below.is_some() && can_unfold(subject);
            let id = unfolds.then(|| subject.id());
            let open = id.filter(|id| self.folding.turned.contains(id));
            self.lines.push(Line {
                at: *at,
                parent: Some(placed.at),
                depth: placed.depth + 1,
                fold: match (unfolds, &open) {
                    (false, _) => Fold::Nothing,
                    (true, None) => Fold::Folded,
                    (true, Some(_)) => Fold::Open,
                },
                nested: true,
                labelled: !nested.in_columns,
            });
            let below = open.and_then(|id| self.below.get(&id));
            self.lines
                .extend(below.into_iter().flatten().map(|below| Line {
                    at: *below,
                    parent: Some(*at),
                    depth: placed.depth + 2,
                    fold: Fold::Nothing,
                    nested: true,
                    labelled: true,
                }));
        }
    }
}

/// Whether rows of a grouping are unfolded by default.
fn usually_open(grouping: &Grouping) -> bool {
    grouping.nested.is_some_and(|nested| nested.open)
}

/// Rows that can have nested rows.
fn can_unfold(subject: &Subject) -> bool {
    match subject {
        Subject::Process(_) | Subject::Label(..) | Subject::Listener(_) | Subject::Program(_) => {
            true
        }
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
