//! Processes under their parents.

use std::collections::{HashMap, HashSet};

use crate::{
    event::ProcessId,
    query::entry::{Entry, Id, Subject},
};

/// The parent relation of entries.
pub(in crate::tui) struct Trunk {
    /// The parent of each entry, if it has one.
    parents: Vec<Option<u32>>,
}

/// An entry's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tui) struct Placed {
    pub at: u32,
    pub parent: Option<u32>,
    pub depth: u16,
    pub has_children: bool,
    /// Its descendants are hidden.
    pub pruned: bool,
}

impl Placed {
    pub fn alone(at: u32) -> Self {
        Self {
            at,
            parent: None,
            depth: 0,
            has_children: false,
            pruned: false,
        }
    }
}

/// Adds the ancestors of processes that are not entries themselves, and finds all parents.
pub(super) fn grow(entries: &mut Vec<Entry>) -> Trunk {
    let mut places: HashMap<ProcessId, u32> = HashMap::new();
    for (entry, at) in entries.iter().zip(0..) {
        if let Subject::Process(process) = &entry.subject {
            places.insert(process.id, at);
        }
    }
    let mut parents: Vec<Option<u32>> = vec![None; entries.len()];
    for at in 0..entries.len() {
        let Subject::Process(process) = &entries[at].subject else {
            continue;
        };
        let process = process.clone();
        let mut child = at;
        for (id, name) in &process.lineage {
            let place = *places.entry(*id).or_insert_with(|| {
                entries.push(Entry::new(Subject::Ancestor(*id, name.clone())));
                parents.push(None);
                u32::try_from(entries.len() - 1).unwrap_or(u32::MAX)
            });
            if parents[child].is_some() {
                break;
            }
            parents[child] = Some(place);
            child = place as usize;
        }
    }
    Trunk { parents }
}

impl Trunk {
    /// Adds the numbers of descendants of `pruned` to the row that stands for them.
    pub fn collapse(&self, entries: &mut [Entry], pruned: &HashSet<Id>) {
        if pruned.is_empty() {
            return;
        }
        let is_pruned: Vec<bool> = entries
            .iter()
            .map(|entry| pruned.contains(&entry.subject.id()))
            .collect();
        let mut hidden = Vec::new();
        for (at, (entry, parent)) in entries.iter().zip(&self.parents).enumerate() {
            let ancestors = std::iter::successors(*parent, |at| self.parents[*at as usize]);
            // No more than there are: a family may be its own ancestor.
            let ancestors = ancestors.take(self.parents.len());
            // The one nearest to the root is on the screen.
            let stands = ancestors.filter(|it| is_pruned[*it as usize]).last();
            if let Some(stands) = stands.filter(|stands| *stands as usize != at) {
                hidden.push((stands as usize, entry.app, entry.rate, entry.flows));
            }
        }
        for (stands, app, rate, flows) in hidden {
            let entry = &mut entries[stands];
            entry.add(app, rate);
            entry.flows += flows;
            entry.collapsed += 1;
        }
    }

    /// The entries from the roots down. Siblings are in the order of the best of each family by
    /// `ranked`. Descendants of `pruned` are left out.
    pub fn walk(&self, entries: &[Entry], ranked: &[u32], pruned: &HashSet<Id>) -> Vec<Placed> {
        let count = self.parents.len();
        // The best rank in each family: from the best on, up to the first ancestor that has one.
        let mut families: Vec<Vec<u32>> = vec![Vec::new(); count];
        let mut roots = Vec::new();
        let mut placed = vec![false; count];
        for &best in ranked {
            let mut at = best;
            while !std::mem::replace(&mut placed[at as usize], true) {
                match self.parents[at as usize] {
                    Some(parent) => {
                        families[parent as usize].push(at);
                        at = parent;
                    }
                    None => {
                        roots.push(at);
                        break;
                    }
                }
            }
        }
        let mut lines = Vec::with_capacity(count);
        let mut rest: Vec<(u32, u16)> = roots.into_iter().rev().map(|at| (at, 0)).collect();
        while let Some((at, depth)) = rest.pop() {
            let family = &families[at as usize];
            let hidden = !family.is_empty() && pruned.contains(&entries[at as usize].subject.id());
            lines.push(Placed {
                at,
                parent: self.parents[at as usize],
                depth,
                has_children: !family.is_empty(),
                pruned: hidden,
            });
            if !hidden {
                let deeper = depth.saturating_add(1);
                rest.extend(family.iter().rev().map(|child| (*child, deeper)));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{event::Instant, model::snapshot::Process, query::fixture};

    fn id(pid: u32) -> ProcessId {
        ProcessId {
            pid,
            start: Instant(0),
        }
    }

    fn entry(pid: u32, lineage: &[u32]) -> Entry {
        let mut process = Process::clone(&fixture::process(pid, "/bin/a", &[]));
        process.id = id(pid);
        process.lineage = lineage.iter().map(|pid| (id(*pid), "x".into())).collect();
        Entry::new(Subject::Process(Arc::new(process)))
    }

    fn walked(entries: &mut Vec<Entry>, ranked: &[u32], pruned: &[u32]) -> Vec<(u32, u16)> {
        let trunk = grow(entries);
        let pruned = pruned.iter().map(|pid| Id::Process(id(*pid))).collect();
        let mut ranked = ranked.to_vec();
        ranked.extend(
            (0..entries.len() as u32)
                .filter(|at| !ranked.contains(at))
                .collect::<Vec<_>>(),
        );
        let placed = trunk.walk(entries, &ranked, &pruned);
        let pid = |at: u32| match entries[at as usize].subject.id() {
            Id::Process(id) => id.pid,
            other => panic!("{other:?}"),
        };
        placed.iter().map(|it| (pid(it.at), it.depth)).collect()
    }

    #[test]
    fn the_family_of_the_busiest_comes_first_and_missing_ancestors_are_there() {
        // 1 > 5 > 20 and 1 > 10 > 11; 1 and 5 moved nothing themselves.
        let entries = || vec![entry(10, &[1]), entry(11, &[10, 1]), entry(20, &[5, 1])];
        assert_eq!(
            walked(&mut entries(), &[2, 0, 1], &[]),
            [(1, 0), (5, 1), (20, 2), (10, 1), (11, 2)]
        );
        assert_eq!(
            walked(&mut entries(), &[1], &[]),
            [(1, 0), (10, 1), (11, 2), (5, 1), (20, 2)]
        );
        assert_eq!(
            walked(&mut entries(), &[0], &[10]),
            [(1, 0), (10, 1), (5, 1), (20, 2)]
        );
    }

    #[test]
    fn a_family_that_is_its_own_ancestor_ends() {
        let mut entries = vec![entry(1, &[2]), entry(2, &[1])];
        let trunk = grow(&mut entries);
        assert!(trunk.walk(&entries, &[0, 1], &HashSet::new()).len() <= 2);
    }
}
